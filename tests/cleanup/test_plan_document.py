"""The plan: what could come back, what it saves, and how it reads."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from gpu_ami.aws.images import Image, Snapshot
from gpu_ami.aws.recycle_bin import IMAGE, SNAPSHOT, Rule
from gpu_ami.cleanup.decide import Decision, Reason, SourceReport, Verdict
from gpu_ami.cleanup.execute import Result
from gpu_ami.cleanup.journal_events import DELETED
from gpu_ami.cleanup.plan_document import Bin, Orphan, Plan, SavedPlan
from gpu_ami.cleanup.plan_tables import View, plan_tables, what_goes
from gpu_ami.cleanup.planner import clock_reports
from gpu_ami.cleanup.policy import Policy
from gpu_ami.cleanup.restore import Restored
from gpu_ami.cleanup.result_tables import restored_table, result_tables
from gpu_ami.console import Table

NOW = datetime(2026, 11, 23, tzinfo=timezone.utc)
AMI = Image(
    image_id="ami-1",
    region="r",
    created=NOW - timedelta(days=100),
    tags={"a": "1"},
    snapshot_ids=("snap-1",),
    volume_gib=80,
)
SNAP = Snapshot(snapshot_id="snap-1", region="r", full_gib=20.0, tags={"b": "1"})


def _rule(kind: Any, days: int, **more: Any) -> Rule:
    return Rule(identifier=str(days), kind=kind, retention=timedelta(days=days), **more)


BOTH = Bin((_rule(IMAGE, 14), _rule(SNAPSHOT, 7)))


def _plan(image: Image = AMI, **more: Any) -> Plan:
    verdict = Verdict(image, "f", "delete", (Reason("unneeded", "nothing needs it"),))
    values: dict[str, Any] = {
        "account": "1",
        "regions": ("r",),
        "policy": Policy(older_than=timedelta(days=30), keep=1),
        "decision": Decision((verdict,)),
        "reports": [],
        "made_at": NOW,
        "snapshots": {"snap-1": SNAP},
        "bins": {"r": BOTH},
        "usd_per_gib_month": {"r": Decimal("0.05")},
    }
    return Plan(**values | more)


def _text(plan: Plan, **view: Any) -> str:
    return _joined(plan_tables(plan, View(**view)))


def test_a_reason_is_told_once() -> None:
    """Of a fleet's AMI with a public snapshot two sources say the same, and both words stay in the plan's file."""
    twice = [Reason("grantees", "snap-1 is public"), Reason("public-snapshots", "snap-1 is public")]
    others = [Reason("batch", f"environment {number}") for number in range(9)]

    assert View().details(twice) == View(wide=True).details(twice) == "snap-1 is public"
    assert View().details([*twice, *others]) == View().details([twice[0], *others])
    assert " more" in View().details([*twice, *others])


def _joined(tables: list[Table]) -> str:
    rows = [
        [table.title, " | ".join(table.columns), *(" | ".join(row) for row in table.rows), *table.footer]
        for table in tables
    ]
    return "\n".join(line for some in rows for line in some if line)


def test_an_ami_can_come_back_as_long_as_all_of_it_can() -> None:
    """The snapshot leaves the bin first: then the AMI is lost too."""
    assert _plan().kept_for(AMI) == timedelta(days=7)
    assert _plan().irrecoverable() == []


@pytest.mark.parametrize(
    "bin_",
    [
        Bin(),
        Bin((_rule(IMAGE, 14),)),
        Bin((_rule(SNAPSHOT, 14),)),
        Bin((_rule(IMAGE, 14, is_active=False), _rule(SNAPSHOT, 14))),
        Bin((_rule(IMAGE, 14, tags=(("a", "2"),)), _rule(SNAPSHOT, 14))),
        Bin((_rule(IMAGE, 14), _rule(SNAPSHOT, 14, tags=(("a", "1"),)))),
        Bin(error="denied"),
    ],
)
def test_recoverable_is_said_only_when_it_is_sure(bin_: Bin) -> None:
    """Rules for both types, active, and for exactly these tags."""
    plan = _plan(bins={"r": bin_})

    assert plan.kept_for(AMI) is None
    assert plan.irrecoverable() == ["ami-1"]
    assert plan.document()["verdicts"][0]["recoverable_until"] is None


def test_of_several_rules_the_shortest_is_promised() -> None:
    """AWS decides which rule wins; at least so long is true in any case."""
    assert _plan(bins={"r": Bin((*BOTH.rules, _rule(SNAPSHOT, 3)))}).kept_for(AMI) == timedelta(days=3)


def test_a_snapshot_that_was_not_read_promises_nothing() -> None:
    """Its tags decide, and they are not known."""
    assert _plan(snapshots={}).kept_for(AMI) is None


@pytest.mark.parametrize("root_device", ["instance-store", ""])
def test_an_instance_store_ami_cannot_come_back(root_device: str) -> None:
    """The bin takes AMIs on EBS alone, whatever its rules say."""
    bare = msgspec.structs.replace(AMI, snapshot_ids=(), root_device=root_device)

    assert _plan(bare).irrecoverable() == ["ami-1"]


@pytest.mark.parametrize(
    ("snapshots", "gib"),
    [({"snap-1": SNAP}, 20.0), ({}, 80.0), ({"snap-1": dataclasses.replace(SNAP, full_gib=None)}, 80.0)],
)
def test_sizes_are_an_upper_bound(snapshots: dict[str, Snapshot], gib: float) -> None:
    """EC2's full size where it says it, the volume's otherwise: never less than what is stored."""
    plan = _plan(snapshots=snapshots)

    assert (plan.gib, plan.usd_per_month) == (gib, (Decimal(str(gib)) * Decimal("0.05")).quantize(Decimal("0.01")))


def test_an_unknown_price_makes_unknown_savings() -> None:
    """Null, never 0."""
    plan = _plan(usd_per_gib_month={"r": None})

    assert plan.usd_per_month is None
    assert plan.document()["totals"]["usd_per_month"] is None
    assert "unknown a month" in _text(plan)


def test_only_deletions_save_anything() -> None:
    """A disabled AMI costs as before."""
    verdict = Verdict(AMI, "f", "disable", (Reason("old", "old"),))
    plan = _plan(decision=Decision((verdict,)), policy=Policy(older_than=timedelta(days=30), keep=1, mode="disable"))

    assert (plan.gib, plan.irrecoverable()) == (0.0, [])
    assert _text(plan).startswith("1 AMI to disable, 0 to keep.\n")


def _orphan(**more: Any) -> Orphan:
    snapshot = dataclasses.replace(SNAP, snapshot_id="snap-9", started=NOW, volume_gib=8, **more)
    return Orphan(snapshot, "ami-9", "delete", (Reason("orphan", "its AMI is gone"),))


def test_orphans_count_too() -> None:
    """In GiB, in what cannot come back, and in a table of their own."""
    plan = _plan(orphans=(_orphan(full_gib=None),), bins={"r": Bin((_rule(IMAGE, 14),))})

    assert plan.gib == 28.0
    assert plan.irrecoverable() == ["ami-1", "snap-9"]
    assert "snapshot | was for | made | GiB\nsnap-9 | ami-9 | 2026-11-23 | 8.0" in _text(plan)
    assert "1 orphan snapshot to delete." in _text(plan)
    assert "rphan" not in _text(_plan())


def test_the_last_line_says_what_would_be_done() -> None:
    """A terminal of 24 lines shows the end of a plan, not its first line."""
    disable = Policy(older_than=timedelta(days=30), keep=1, mode="disable")

    assert what_goes(_plan()) == "delete 1 AMI"
    assert what_goes(_plan(orphans=(_orphan(), _orphan()))) == "delete 1 AMI and 2 orphan snapshots"
    assert what_goes(_plan(orphans=(_orphan(),), policy=disable)) == "disable 1 AMI and delete 1 orphan snapshot"
    assert what_goes(_plan(orphans=(_orphan(),), decision=Decision(()))) == "delete 1 orphan snapshot"


def test_orphans_that_stay_are_counted_by_reason() -> None:
    """As the AMIs are; `--all` lists each."""
    kept = dataclasses.replace(_orphan(), action="keep", reasons=(Reason("too-young", "made 3 days ago"),))
    plan = _plan(orphans=(kept, dataclasses.replace(kept, image_id="ami-8")))

    assert "snapshots | reason | such as\n2 | too-young | made 3 days ago\n" in _text(plan)
    assert "snap-9 | ami-8 | 2026-11-23 | made 3 days ago" in _text(plan, all=True)
    assert "snap-9 | ami-8 | 2026-11-23 | 20.0 | keep | made 3 days ago" in _text(plan, all=True, wide=True)


def test_the_table_says_until_when_and_what_to_do_otherwise() -> None:
    """Before --yes the reader must know whether there is a way back."""
    assert "Recoverable from the Recycle Bin until 2026-11-30." in _text(_plan())
    lost = _text(_plan(bins={"r": Bin(error="rbin:ListRules: denied")}))
    assert "1 of them cannot be brought back" in lost
    assert "rbin:ListRules: denied" in lost
    assert "Deleting them needs --permanent." in lost
    only_orphans = _plan(decision=Decision(()), orphans=(_orphan(),), bins={"r": BOTH})
    assert "Recoverable from the Recycle Bin." in _text(only_orphans)


def test_the_table_shows_three_reasons_and_how_many_more() -> None:
    """The JSON and `--wide` have them all."""
    reasons = tuple(Reason(str(n), f"reason {n}") for n in range(5))
    kept = Verdict(AMI, "f", "keep", reasons)
    plan = _plan(decision=Decision((kept,), ("batch failed",), outside=3))

    assert "reason 0; reason 1; reason 2; and 2 more" in _text(plan, all=True)
    assert "reason 0; reason 1; reason 2; reason 3; reason 4" in _text(plan, all=True, wide=True)
    assert "1 | 0 | reason 0\n" in _text(plan)
    assert "0 AMIs to delete, 1 to keep, 3 outside the scope.\nNothing may be changed: batch failed\n" in _text(plan)


def test_what_blocks_everything_is_said_once() -> None:
    """It may be a line long, and would stand beside each AMI."""
    kept = Verdict(AMI, "f", "keep", (Reason("blocked", "batch failed"), Reason("old", "it is old")))
    plan = _plan(decision=Decision((kept, kept), ("batch failed",)))

    for view in ({}, {"all": True}):
        assert _text(plan, **view).count("batch failed") == 1
        assert "would go, were not everything kept" in _text(plan, **view)


def _old(image_id: str, days: int, family: str = "f", **more: Any) -> Verdict:
    image = msgspec.structs.replace(AMI, image_id=image_id, created=NOW - timedelta(days=days), **more)
    why = (
        Reason("unneeded", "no source that was queried needs it"),
        Reason("old", f"not made or launched for {days} days"),
        Reason("not-among-newest", f"not among the 1 newest of {family}"),
    )
    return Verdict(image, family, "delete", why)


def test_what_is_the_same_for_all_that_go_is_said_once() -> None:
    """Beside each AMI it would push what differs, its age and size, off the line."""
    one = _text(_plan(decision=Decision((_old("ami-1", 100), _old("ami-2", 90)))))
    two = _text(_plan(decision=Decision((_old("ami-1", 100), _old("ami-2", 90, "g")))))

    why = "no source that was queried needs it; not made or launched for 30 days or more; not among the 1 newest of"
    assert f"Each of them: {why} f.\n" in one
    assert f"Each of them: {why} their family.\n" in two
    assert "AMI | made | launched | unused for | GiB\nami-1 | 2026-08-15 | never | 100 d | 20.0\n" in one
    assert "AMI | family | made | launched | unused for | GiB\nami-1 | f | 2026-08-15 | never | 100 d | 20.0\n" in two


def test_amis_that_stay_are_counted_by_their_first_reason() -> None:
    """Hundreds of lines hide the answer; `--all` lists each, group by group."""

    def kept(image_id: str, *reasons: tuple[str, str]) -> Verdict:
        image = msgspec.structs.replace(AMI, image_id=image_id)
        return Verdict(image, "f", "keep", tuple(Reason(*reason) for reason in reasons))

    plan = _plan(
        decision=Decision(
            (
                kept("ami-1", ("keep-newest", "among the 1 newest of f")),
                kept("ami-2", ("batch", "environment a"), ("instances", "i-1")),
                kept("ami-3", ("instances", "i-2")),
                kept("ami-4", ("batch", "environment b")),
            )
        )
    )

    text = _text(plan)
    assert text.startswith("0 AMIs to delete, 4 to keep.\nTo keep, by the first reason\nAMIs | reason | such as\n")
    assert "2 | batch | environment a …\n1 | keep-newest | among the 1 newest of f\n1 | instances | i-2\n" in text
    assert "--all" in text
    assert "ami-1" not in text
    listed = [line for line in _text(plan, all=True).splitlines() if line.startswith("ami-")]
    assert [line.split(" | ")[0] for line in listed] == ["ami-2", "ami-4", "ami-1", "ami-3"]
    assert listed[0].endswith("environment a; i-1")


def test_a_wide_plan_is_the_whole_record() -> None:
    """For a report: the verdict on each, those that go first, with every reason, of those that go as well."""
    kept = Verdict(msgspec.structs.replace(AMI, image_id="ami-0"), "f", "keep", (Reason("batch", "environment a"),))
    text = _text(_plan(decision=Decision((kept, _old("ami-1", 100)))), all=True, wide=True)

    assert "AMIs\nAMI | made | launched | unused for | GiB | verdict | reason\nami-1 | " in text
    assert "not made or launched for 100 days; not among the 1 newest of f\nami-0 | " in text
    assert "| 20.0 | keep | environment a\n" in text


def _saved(*images: str) -> SavedPlan:
    policy = Policy(older_than=timedelta(days=30), keep=1)
    return SavedPlan("1", ("r",), policy, frozenset(("r", image) for image in images), frozenset(), ())


def test_a_plan_that_is_carried_out_is_about_what_it_names() -> None:
    """Not the eight AMIs that may go by now, but the one that was approved, what became of the others, and no more."""
    used = Verdict(msgspec.structs.replace(AMI, image_id="ami-3"), "f", "keep", (Reason("batch", "environment a"),))
    saved = _saved("ami-1", "ami-3", "ami-9")
    plan = saved.cut(_plan(decision=Decision((_old("ami-1", 100), _old("ami-2", 90), used), outside=5)))

    text = _text(plan, saved=saved, file="plan.json")

    said = "1 AMI to delete, of 3 in plan.json, 1 to keep by now, 1 gone already or out of the scope. "
    assert text.startswith(f"{said}1 other to keep, 5 outside the scope.\n")
    assert "Saves at most 20.0 GiB" in text
    assert "ami-3 | 2026-08-15 | environment a" in text
    assert "ami-2" not in text
    totals = plan.document()["totals"]
    assert (totals["delete"], totals["keep"], totals["gib"]) == (1, 2, 20.0)
    (left,) = [verdict for verdict in plan.document()["verdicts"] if verdict["image_id"] == "ami-2"]
    assert (left["action"], left["reasons"][0]["code"]) == ("keep", "not-in-plan")


def test_what_a_plan_does_not_name_needs_no_way_back() -> None:
    """An AMI that nobody approved must not hold up the one that was approved."""
    lost = _old("ami-2", 90, root_device="instance-store")
    plan = _plan(decision=Decision((_old("ami-1", 100), lost)), orphans=(_orphan(tags={}),), bins={"r": BOTH})
    assert plan.irrecoverable() == ["ami-2"]

    cut = _saved("ami-1").cut(plan)

    assert (cut.irrecoverable(), cut.selected_orphans) == ([], ())
    assert cut.document()["orphans"][0]["reasons"][0]["code"] == "not-in-plan"


def test_a_result_counts_what_was_done() -> None:
    """One of three went: 60 GiB are not saved, and the plan's own table would say that three go."""
    plan = _plan(decision=Decision((_old("ami-1", 100), _old("ami-2", 90), _old("ami-3", 80))))
    results = [
        Result("ami-1", "r", "failed", error="denied"),
        Result("ami-2", "r", "deleted", {"snap-1": DELETED}),
        Result("ami-3", "r", "kept", error="needed since the plan"),
    ]

    text = _joined(result_tables(plan, results, "logs/j.jsonl", View()))

    assert text.startswith("1 AMI deleted, 1 failed, 1 kept.\nSaves at most 20.0 GiB of snapshots, $1.00 a month")
    undo = "Undo: `invoke cleanup --restore logs/j.jsonl`"
    assert f"{undo}\nResults\nwhat | outcome | snapshots | error\nami-2 | deleted" in text
    assert "ami-1 | failed | none | denied" in text.splitlines()[-1]
    lost = [Result("ami-2", "r", "deleted", {"snap-1": DELETED}, "not in the bin", is_lost=True)]
    assert "Recoverable" not in _joined(result_tables(plan, lost, None, View()))
    nothing = _joined(result_tables(_plan(decision=Decision(())), [], None, View()))
    assert nothing == "0 AMIs to delete, 0 to keep."


def test_orphans_that_went_are_counted_apart() -> None:
    """They are snapshots, not AMIs."""
    plan = _plan(decision=Decision(()), orphans=(_orphan(),), bins={"r": BOTH})
    result = Result("ami-9", "r", "deleted", {"snap-9": DELETED})

    text = _joined(result_tables(plan, [result], None, View()))

    assert text.startswith("1 of 1 orphan snapshot deleted.\nSaves at most 20.0 GiB")


def test_regions_have_a_column_when_there_are_several() -> None:
    """With one region it would say the same in each line."""
    undated = msgspec.structs.replace(AMI, created=None, last_launched=NOW)

    assert "region" not in _text(_plan())
    text = _text(_plan(undated, regions=("r", "s")))
    assert (
        "AMI | region | made | launched | unused for | GiB\nami-1 | r | unknown | 2026-11-23 | unknown | 20.0" in text
    )


def test_sources_are_shown_once_with_their_worst_status() -> None:
    """Five regions make five reports of one source; one that failed must not hide behind four that did not."""
    reports = [
        SourceReport("batch", "a", "ok", calls=1, references=2, notes=("a note",)),
        SourceReport("batch", "b", "failed", calls=3, error="denied"),
        SourceReport("receipts", None, "skipped", error="none"),
        SourceReport("workflows", None, "skipped", error="none"),
        *(SourceReport("parameters", r, "ok", notes=(f"note {r}",)) for r in "abcde"),
    ]
    plan = _plan(reports=[*reports, SourceReport("instances", "a", "ok", calls=1)])

    text = _text(plan)
    assert "failed | batch | denied; a note\nskipped | receipts, workflows | none\nok | parameters | note a;" in text
    assert "note a; note b; note c; and 2 more\n" in text
    assert text.endswith("5 sources: 1 failed, 2 skipped, 2 ok.")
    assert "instances" not in text
    every = _text(plan, all=True)
    assert "batch | failed | 4 | 2 | denied; a note\nreceipts | skipped | 0 | 0 | none\n" in every
    assert "instances | ok | 1 | 0 | \n" in every
    assert "note c; note d; note e\n" in _text(plan, wide=True)


def test_denials_are_told_once_for_all_sources() -> None:
    """A dozen sources with the same words each hide what else is to be seen."""
    reports = [
        SourceReport("pcs-x", "r", "failed", error="long words of AWS's", denied="pcs:ListClusters"),
        SourceReport("emr-x", "r", "failed", error="other words", denied="elasticmapreduce:ListClusters"),
        SourceReport("batch", "r", "failed", error="cut off"),
    ]
    plan = _plan(reports=reports)

    assert "failed | pcs-x, emr-x | not allowed, as said above\nfailed | batch | cut off" in _text(plan)
    assert "pcs-x | failed | 0 | 0 | not allowed: pcs:ListClusters" in _text(plan, all=True)
    assert "long words of AWS's" in _text(plan, wide=True)
    assert "failed | pcs-x | long words of AWS's" in _text(_plan(reports=reports[:1]))


@pytest.mark.parametrize(("minutes", "failed"), [(0, False), (4, False), (-4, False), (6, True), (-6, True)])
def test_a_clock_that_is_minutes_off_fails(minutes: int, failed: bool) -> None:
    """Five minutes is what AWS itself allows; every age depends on it."""
    assert bool(clock_reports(NOW, NOW + timedelta(minutes=minutes))) is failed
    assert clock_reports(None, NOW) == []


def test_what_was_brought_back_keeps_to_the_edge_too() -> None:
    """Its errors are a sentence or two."""
    assert restored_table([Restored("ami-1", "r", "failed", "it is gone " * 20)]).edge == 100
