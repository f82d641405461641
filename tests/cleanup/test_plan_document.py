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
from gpu_ami.cleanup import plan_tables
from gpu_ami.cleanup.decide import Decision, Reason, SourceReport, Verdict
from gpu_ami.cleanup.plan_document import Bin, Orphan, Plan
from gpu_ami.cleanup.planner import clock_reports
from gpu_ami.cleanup.policy import Policy
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


def _text(*tables: Table) -> str:
    return "\n".join("\n".join([*(" | ".join(row) for row in table.rows), *table.footer]) for table in tables)


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
    assert "unknown a month" in _text(plan_tables.plan_table(plan))


def test_only_deletions_save_anything() -> None:
    """A disabled AMI costs as before."""
    verdict = Verdict(AMI, "f", "disable", (Reason("old", "old"),))
    plan = _plan(decision=Decision((verdict,)), policy=Policy(older_than=timedelta(days=30), keep=1, mode="disable"))

    assert (plan.gib, plan.irrecoverable()) == (0.0, [])
    assert "1 AMI to disable" in _text(plan_tables.plan_table(plan))


def _orphan(**more: Any) -> Orphan:
    snapshot = dataclasses.replace(SNAP, snapshot_id="snap-9", started=NOW, volume_gib=8, **more)
    return Orphan(snapshot, "ami-9", "delete", (Reason("orphan", "its AMI is gone"),))


def test_orphans_count_too() -> None:
    """In GiB, in what cannot come back, and in a table of their own."""
    plan = _plan(orphans=(_orphan(full_gib=None),), bins={"r": Bin((_rule(IMAGE, 14),))})

    assert plan.gib == 28.0
    assert plan.irrecoverable() == ["ami-1", "snap-9"]
    assert "snap-9 | r | ami-9 | 2026-11-23 (0 d) | 8.0 | delete" in _text(*plan_tables.orphan_tables(plan))
    assert "1 orphan snapshot to delete" in _text(plan_tables.plan_table(plan))
    assert plan_tables.orphan_tables(_plan()) == []


def test_the_table_says_until_when_and_what_to_do_otherwise() -> None:
    """Before --yes the reader must know whether there is a way back."""
    assert "Recoverable from the Recycle Bin until 2026-11-30." in _text(plan_tables.plan_table(_plan()))
    lost = _text(plan_tables.plan_table(_plan(bins={"r": Bin(error="rbin:ListRules: denied")})))
    assert "1 of them cannot be brought back" in lost
    assert "rbin:ListRules: denied" in lost
    assert "--permanent" in lost
    only_orphans = _plan(decision=Decision(()), orphans=(_orphan(),), bins={"r": BOTH})
    assert "Recoverable from the Recycle Bin." in _text(plan_tables.plan_table(only_orphans))


def test_the_table_shows_three_reasons_and_how_many_more() -> None:
    """The JSON has them all."""
    reasons = tuple(Reason(str(n), f"reason {n}") for n in range(5))
    kept = Verdict(AMI, "f", "keep", reasons)
    text = _text(plan_tables.plan_table(_plan(decision=Decision((kept,), ("batch failed",), outside=3))))

    assert "reason 0; reason 1; reason 2; and 2 more" in text
    assert "0 AMIs to delete, 1 to keep, 3 outside the scope" in text
    assert "Nothing may be changed: batch failed" in text


def test_regions_have_a_column_when_there_are_several() -> None:
    """With one region it would say the same in each line."""
    undated = msgspec.structs.replace(AMI, created=None, last_launched=NOW)

    assert "region" not in plan_tables.plan_table(_plan()).columns
    table = plan_tables.plan_table(_plan(undated, regions=("r", "s")))
    assert "region" in table.columns
    assert "ami-1 | r | f | unknown | 2026-11-23 (0 d)" in _text(table)


def test_sources_are_shown_once_with_their_worst_status() -> None:
    """Five regions make five reports of one source; one that failed must not hide behind four that did not."""
    reports = [
        SourceReport("batch", "a", "ok", calls=1, references=2, notes=("a note",)),
        SourceReport("batch", "b", "failed", calls=3, error="denied"),
        SourceReport("receipts", None, "skipped", error="none"),
        *(SourceReport("parameters", r, "ok", notes=(f"note {r}",)) for r in "abcde"),
    ]
    rows = plan_tables.source_table(_plan(reports=reports)).rows

    assert rows[0] == ("batch", "failed", "4", "2", "denied; a note")
    assert rows[1][:2] == ("receipts", "skipped")
    assert rows[2][4] == "note a; note b; note c; and 2 more"


@pytest.mark.parametrize(("minutes", "failed"), [(0, False), (4, False), (-4, False), (6, True), (-6, True)])
def test_a_clock_that_is_minutes_off_fails(minutes: int, failed: bool) -> None:
    """Five minutes is what AWS itself allows; every age depends on it."""
    assert bool(clock_reports(NOW, NOW + timedelta(minutes=minutes))) is failed
    assert clock_reports(None, NOW) == []
