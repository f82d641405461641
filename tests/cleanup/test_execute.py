"""Carrying a plan out: everything that is unused goes, with its snapshots, and the journal knows."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.cleanup.carry_out import callers_of
from gpu_ami.cleanup.execute import Apply, Result, blocked
from gpu_ami.cleanup.journal import Entry, Journal, read, unfinished
from gpu_ami.cleanup.journal_events import DELETED, Begin, End, Event, ImageRecord, SnapshotOutcome, Will
from gpu_ami.cleanup.plan_document import Plan
from gpu_ami.cleanup.planner import make_plan
from gpu_ami.cleanup.policy import Mode, Policy
from gpu_ami.cleanup.recheck import Guard
from gpu_ami.cleanup.snapshots import OrphanedSnapshots
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.aws.ec2.recycle_bin import SNAPSHOT, recycle_bin
from gpu_ami_sandbox.aws.gate import Call, Fault
from gpu_ami_sandbox.demo.uses import USES
from tests.support.account import EVERYTHING, OTHER_REGION, REGION, SNAPSHOT_CLAIMS, World, other_region, selected


@dataclasses.dataclass
class Done:
    """What a run left."""

    plan: Plan
    results: dict[str, Result]
    journal: Path


def _run(
    here: World,
    folder: Path,
    policy: Policy = EVERYTHING,
    *,
    between: Callable[[], object] = lambda: None,
    must_recover: bool = False,
    **more: Any,
) -> Done:
    survey = here.survey(policy, locations=more.pop("locations", None))
    plan = make_plan(survey, here.account, here.now, **more)
    between()
    path = folder / f"cleanup-{len(list(folder.iterdir()))}.jsonl"
    journal = Journal(path)
    journal.write(Begin(account=here.account))
    apply = Apply(plan, survey, journal, callers_of(survey), now=lambda: here.now, must_recover=must_recover)
    results = [*apply.images(plan.decision.selected), *apply.orphans(plan.selected_orphans)]
    journal.write(End())
    journal.close()
    return Done(plan, {result.image_id: result for result in results}, path)


def test_unused_amis_go_with_their_snapshots_and_nothing_else(here: World, tmp_path: Path) -> None:
    """The whole account before and after."""
    stay = {here.newest(), here.in_use()}
    go = [here.image(100 + n) for n in range(3)]

    done = _run(here, tmp_path)

    assert here.there() == {image.id for image in stay}
    assert here.snapshots_there() == {snapshot_id for image in stay for snapshot_id in image.snapshot_ids}
    assert {key: result.status for key, result in done.results.items()} == {image.id: "deleted" for image in go}
    assert all(result.snapshots == {i.snapshot_ids[0]: DELETED} for i in go for result in [done.results[i.id]])


def test_one_call_per_ami_deletes_it_with_its_snapshots(here: World, tmp_path: Path) -> None:
    """Speed: one query of its sharing and one deregistration each; all are read again in one call."""
    here.newest()
    here.in_use()
    for n in range(5):
        here.image(100 + n)

    _run(here, tmp_path)

    calls = here.calls()
    assert calls.count("DeregisterImage") == calls.count("DescribeImageAttribute") == 5
    assert "DeleteSnapshot" not in calls
    # Besides what lists the copies that are under way.
    listings = [call.parameters for call in here.aws.gate.calls if call.action == "DescribeImages"]
    assert len([parameters for parameters in listings if "pending" not in parameters.values()]) == 2


def test_the_intention_is_on_the_disk_before_the_act(here: World, tmp_path: Path) -> None:
    """A run that is killed right after the act must leave a way back."""
    here.newest()
    here.in_use()
    image = here.image()
    found: list[str] = []

    def read_journal(_call: Call, _environ: Any) -> None:
        (path,) = tmp_path.iterdir()
        found.append(read(path).entries[image.id].status)

    here.aws.gate.add(Fault(read_journal, action="DeregisterImage"))

    _run(here, tmp_path)

    assert found == ["intended"]


def test_a_snapshot_that_a_kept_ami_uses_stays(here: World, tmp_path: Path) -> None:
    """Two AMIs of one snapshot: the one in use needs it."""
    here.newest()
    kept = here.in_use()
    image = here.image(100, snapshot_ids=list(kept.snapshot_ids))

    result = _run(here, tmp_path).results[image.id]

    assert (result.status, result.is_failed) == ("deleted", False)
    assert result.snapshots == {kept.snapshot_ids[0]: SnapshotOutcome("kept", f"used by {kept.id}")}
    assert set(kept.snapshot_ids) <= here.snapshots_there()
    assert "DeleteSnapshot" not in here.calls()


def test_a_snapshot_of_two_amis_goes_when_both_go(here: World, tmp_path: Path) -> None:
    """The first deregistration leaves it for the second."""
    here.newest()
    here.in_use()
    first = here.image(100)
    here.image(110, snapshot_ids=list(first.snapshot_ids))

    done = _run(here, tmp_path)

    assert first.snapshot_ids[0] not in here.snapshots_there()
    assert not any(result.is_failed for result in done.results.values())


def _not_deleted(snapshot_id: str) -> bytes:
    """Return EC2's answer to a deregistration that could not delete the snapshot."""
    return (
        b'<DeregisterImageResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><return>true</return>'
        b"<deleteSnapshotResultSet><item><snapshotId>" + snapshot_id.encode() + b"</snapshotId>"
        b"<returnCode>internal-error</returnCode></item></deleteSnapshotResultSet></DeregisterImageResponse>"
    )


def test_a_snapshot_that_ec2_left_behind_is_deleted_after(here: World, tmp_path: Path) -> None:
    """EC2 deregisters the AMI even when a snapshot delete fails; tools that do not read the answer leave orphans."""
    here.newest()
    here.in_use()
    image = here.image()
    snapshot = image.snapshot_ids[0]
    here.aws.gate.reply(_not_deleted(snapshot), action="DeregisterImage")
    here.aws.gate.add(Fault(lambda *_: here.maker.ec2.deregister_image(image.id), action="DeleteSnapshot"))

    result = _run(here, tmp_path).results[image.id]

    assert result.snapshots == {snapshot: DELETED}
    assert snapshot not in here.snapshots_there()


def test_a_snapshot_that_cannot_be_deleted_is_said(here: World, tmp_path: Path) -> None:
    """The AMI is gone, the cost is not: that is a failure to report, not to hide."""
    here.newest()
    here.in_use()
    image = here.image()
    here.maker.ec2.snapshots[image.snapshot_ids[0]].lock = {"LockState": "compliance"}
    here.aws.gate.fail("OptInRequired", action="DescribeLockedSnapshots")

    done = _run(here, tmp_path, dataclasses.replace(EVERYTHING, skip_sources=frozenset({"snapshot-locks"})))

    result = done.results[image.id]
    assert result.is_failed
    assert "SnapshotLocked" in str(result.error)
    assert result.status == "deleted"


def test_one_failure_does_not_stop_the_others(here: World, tmp_path: Path) -> None:
    """An AMI that EC2 will not let go is listed at the end; the rest is done."""
    here.newest()
    here.in_use()
    images = [here.image(100 + n) for n in range(4)]
    here.aws.gate.fail("AuthFailure", "This image is managed by somebody else.", action="DeregisterImage", at=2)

    done = _run(here, tmp_path)

    statuses = sorted(done.results[image.id].status for image in images)
    assert statuses == ["deleted", "deleted", "deleted", "failed"]
    (failed,) = [result for result in done.results.values() if result.status == "failed"]
    assert failed.image_id in here.there()
    assert read(done.journal).entries[failed.image_id].status == "failed"


USED_MEANWHILE = ["running_instance", "parameter_ami_id", "batch_image_id", "template_default_version", "spot_fleet"]


@pytest.mark.parametrize("reason", USED_MEANWHILE)
def test_an_ami_that_is_used_since_the_plan_stays(here: World, tmp_path: Path, reason: str) -> None:
    """Between the plan and the act somebody launches, points, pins: everything that moves is read again."""
    here.newest()
    here.in_use()
    image = here.image()

    done = _run(here, tmp_path, between=lambda: USES[reason](here.maker, image))

    assert selected(done.plan) == {image.id}
    assert done.results[image.id].status == "kept"
    assert "needed since the plan" in str(done.results[image.id].error)
    assert image.id in here.there()
    assert read(done.journal).entries == {}


CHANGED_MEANWHILE: dict[str, tuple[Callable[[World, SandboxAmi], object], str]] = {
    "keep tag": (lambda _, image: image.add_tags({"gpu-ami:keep": "true"}), "tagged gpu-ami:keep"),
    "hand-over": (lambda _, image: image.add_tags({"gpu-ami:handover": "pending"}), "waits for its hand-over"),
    "launched": (
        lambda here, image: setattr(image, "last_launched_time", f"{here.now:%Y-%m-%dT%H:%M:%S}Z"),
        "launched",
    ),
    "public": (lambda _, image: image.launch_permissions.append({"Group": "all"}), "public"),
    "protected": (lambda _, image: setattr(image, "deregistration_protection", "enabled-with-cooldown"), "protection"),
    "family": (lambda _, image: image.add_tags({"gpu-ami:family": "another"}), "not in the scope any more"),
}


@pytest.mark.parametrize("name", CHANGED_MEANWHILE)
def test_an_ami_that_was_changed_since_the_plan_stays(here: World, tmp_path: Path, name: str) -> None:
    """A reviewer of the plan tags what must stay, while it is about to be carried out."""
    here.newest()
    here.in_use()
    image = here.image()
    change, why = CHANGED_MEANWHILE[name]

    done = _run(here, tmp_path, between=lambda: change(here, image))

    assert selected(done.plan) == {image.id}
    assert done.results[image.id].status == "kept"
    assert why in str(done.results[image.id].error)
    assert image.id in here.there()


@pytest.mark.parametrize("gone", [1, 2], ids=["the newest", "the two newest"])
def test_the_last_of_a_family_stays_when_newer_ones_went_meanwhile(here: World, tmp_path: Path, gone: int) -> None:
    """Somebody deregisters the newest, by hand or in a second run: of --keep 1 none would be left."""
    here.in_use().add_tags({"gpu-ami:family": "another"})
    newer = [here.newest(), here.image(20)]
    image, older = here.image(), here.image(220)

    def delete() -> None:
        for young in newer[:gone]:
            here.maker.ec2.deregister_image(young.id)

    done = _run(here, tmp_path, between=delete)

    assert selected(done.plan) == {image.id, older.id}
    assert older.id not in here.there()
    assert (image.id in here.there()) is (gone == 2)


def test_amis_that_cannot_be_read_again_stay(here: World, tmp_path: Path) -> None:
    """What they are by now is not known."""
    here.newest()
    here.in_use()
    image = here.image()

    done = _run(here, tmp_path, between=lambda: here.aws.gate.deny("ec2:DescribeImages"))

    assert done.results[image.id].status == "kept"
    assert "DescribeImages" in str(done.results[image.id].error)
    assert image.id in here.there()


def test_a_source_that_fails_the_second_time_keeps_everything(here: World, tmp_path: Path) -> None:
    """The check right before is worth nothing if it cannot see."""
    here.newest()
    here.in_use()
    image = here.image()

    done = _run(here, tmp_path, between=lambda: here.aws.gate.deny("batch:*"))

    result = done.results[image.id]
    assert result.status == "kept"
    assert "AccessDenied" in str(result.error)
    # A job must not look well then; one AMI that came into use meanwhile is no such thing.
    error = blocked([result])
    assert error is not None
    assert error.exit_code == 8
    assert str(error).startswith("Everything is kept: the check right before found: batch")
    assert "What was left, 1 of 2, is kept" in str(blocked([Result("ami-1", "r", "deleted"), result]))
    assert blocked([Result("ami-1", "r", "kept", error="needed since the plan")]) is None


def test_the_second_look_reads_only_what_can_have_moved(here: World, tmp_path: Path) -> None:
    """Fifty templates were read a second ago, and versions never change."""
    here.newest()
    here.in_use()
    here.image()
    for n in range(10):
        here.maker.template(f"t{n}", here.maker.filler())

    _run(here, tmp_path)

    calls = here.calls()
    assert calls.count("DescribeLaunchTemplateVersions") == 10
    assert calls.count("DescribeLaunchTemplates") == 2
    assert calls.count("GetParameters") == 1


def test_a_long_run_checks_again_every_minute(here: World, tmp_path: Path) -> None:
    """A thousand deletions take minutes on AWS; what becomes used meanwhile stays, sharing included."""
    here.newest()
    here.in_use()
    images = [here.image(100 + n) for n in range(3)]
    now_s = 0.0
    survey = here.survey(clock=lambda: now_s)
    plan = make_plan(survey, here.account, here.now)
    guard = Guard(survey, plan, now=lambda: here.now)
    first, second, third = (next(v.image for v in plan.decision.selected if v.image.image_id == i.id) for i in images)
    assert guard.keeps(first) is None
    images[1].launch_permissions.append({"UserId": "210987654321"})
    USES["batch_image_id"](here.maker, images[2])
    assert guard.keeps(second) is None

    now_s = 61.0

    assert "shared with 210987654321" in str(guard.keeps(second))
    assert "compute environment" in str(guard.keeps(third))
    assert guard.keeps(first) is None


def test_disabling_is_an_act_of_its_own(here: World, tmp_path: Path) -> None:
    """Disabled AMIs cannot be launched but come back with one call; shared ones are refused."""
    here.newest()
    here.in_use()
    image, shared = here.image(100), here.image(101)
    shared.launch_permissions.append({"UserId": "210987654321"})
    policy = dataclasses.replace(EVERYTHING, mode="disable", include_shared=True)

    done = _run(here, tmp_path, policy)

    assert {key: result.status for key, result in done.results.items()} == {image.id: "disabled"}
    assert (image.state, shared.state) == ("disabled", "available")
    assert shared.launch_permissions


def test_deprecating_is_an_act_of_its_own(here: World, tmp_path: Path) -> None:
    """EC2 wants the date in the future."""
    here.newest()
    here.in_use()
    image = here.image()

    done = _run(here, tmp_path, dataclasses.replace(EVERYTHING, mode="deprecate"))

    assert done.results[image.id].status == "deprecated"
    assert image.deprecation_time is not None


@pytest.mark.parametrize(
    ("mode", "action"), [("disable", "ec2:DisableImage"), ("deprecate", "ec2:EnableImageDeprecation")]
)
def test_a_mode_that_is_denied_changes_nothing_and_says_so(
    here: World, tmp_path: Path, mode: Mode, action: str
) -> None:
    """The permission to deregister may be there and this one not."""
    here.newest()
    here.in_use()
    image = here.image(100)
    here.aws.gate.deny(action)

    done = _run(here, tmp_path, dataclasses.replace(EVERYTHING, mode=mode))

    assert done.results[image.id].status == "failed"
    assert action.partition(":")[2] in str(done.results[image.id].error)
    (found,) = here.access.client("ec2").describe_images(ImageIds=[image.id])["Images"]
    assert (found["State"], found.get("DeprecationTime")) == ("available", None)


def _rules_begin_late(here: World) -> None:
    """Let the bin keep nothing, whatever its rules said when the plan was made."""
    recycle_bin(here.maker.ec2).rules.clear()


@pytest.mark.usefixtures("no_long_waits")
def test_a_bin_that_keeps_nothing_yet_costs_one_ami_a_region(here: World, tmp_path: Path) -> None:
    """Its rules say that they are available up to half an hour before they are; other regions' bins may work."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    many = [here.image(100 + n) for n in range(4)]
    there = other_region(here)
    there.image(1)
    abroad = [there.image(200 + n) for n in range(2)]
    here.keep_deleted(maker=there)
    locations = [here.location(), here.location(OTHER_REGION)]

    done = _run(here, tmp_path, locations=locations, between=lambda: _rules_begin_late(here), must_recover=True)

    status = {image.id: done.results[image.id].status for image in (*many, *abroad)}
    assert sorted(status[image.id] for image in many) == ["deleted", "failed", "failed", "failed"]
    assert all(done.results[image.id].is_failed for image in many)
    assert all("30 minutes" in str(done.results[image.id].error) for image in many)
    assert {status[image.id] for image in abroad} == {"deleted"}
    assert len({image.id for image in many} & here.there()) == 3


def test_a_bin_that_works_is_looked_into_once(here: World, tmp_path: Path) -> None:
    """The first AMI proves it; a first one that fails proves nothing."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    images = sorted((here.image(100 + n) for n in range(4)), key=lambda image: str(image.creation_date))
    here.aws.gate.fail("AuthFailure", action="DeregisterImage", at=1)

    done = _run(here, tmp_path, must_recover=True)

    assert [done.results[image.id].status for image in images] == ["failed", "deleted", "deleted", "deleted"]
    assert here.calls().count("ListImagesInRecycleBin") == 1


@pytest.mark.usefixtures("no_long_waits")
def test_a_bin_that_keeps_nothing_yet_costs_one_orphan(here: World, tmp_path: Path) -> None:
    """Snapshots have rules of their own."""
    here.newest()
    here.in_use()
    left = [here.image(100 + n) for n in range(3)]
    for image in left:
        here.maker.ec2.deregister_image(image.id)
    here.keep_deleted()

    done = _run(here, tmp_path, orphans=True, between=lambda: _rules_begin_late(here), must_recover=True)

    assert sorted(result.status for result in done.results.values()) == ["deleted", "failed", "failed"]
    assert all(result.is_failed for result in done.results.values())
    assert len({image.snapshot_ids[0] for image in left} & here.snapshots_there()) == 2


@pytest.mark.usefixtures("no_long_waits")
def test_a_snapshot_that_ec2_left_behind_has_its_own_proof(here: World, tmp_path: Path) -> None:
    """AMIs in the bin do not come back without their snapshots, whose rule may not work yet."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    images = [here.image(100 + n) for n in range(3)]
    ec2, kept = here.maker.ec2, recycle_bin(here.maker.ec2)

    def leave_the_snapshot(call: Call, _environ: Any) -> Any:
        image = ec2.amis[call.parameters["ImageId"]]
        kept.keep_image(ec2, image)
        ec2.deregister_image(image.id)
        return 200, {"Content-Type": "text/xml"}, _not_deleted(image.snapshot_ids[0])

    def only_amis() -> None:
        for name in [name for name, rule in kept.rules.items() if rule["ResourceType"] == SNAPSHOT]:
            kept.rules.pop(name)

    here.aws.gate.add(Fault(leave_the_snapshot, action="DeregisterImage"))
    done = _run(here, tmp_path, between=only_amis, must_recover=True)

    assert {result.status for result in done.results.values()} == {"deleted"}
    assert [result.is_failed for result in done.results.values()].count(True) == 1
    left = {image.snapshot_ids[0] for image in images} & here.snapshots_there()
    assert len(left) == 2
    entries = read(done.journal).entries.values()
    outcomes = {key: outcome for entry in entries for key, outcome in entry.snapshot_status.items()}
    assert {key for key, outcome in outcomes.items() if "30 minutes" in str(outcome)} == left


def test_orphans_go_when_asked_for(here: World, tmp_path: Path) -> None:
    """What other tools left; snapshots of AMIs in the Recycle Bin stay."""
    here.newest()
    here.in_use()
    left, binned = here.image(100), here.image(101)
    here.maker.ec2.deregister_image(left.id)
    here.keep_deleted()
    here.access.client("ec2").deregister_image(ImageId=binned.id)

    done = _run(here, tmp_path, orphans=True)

    assert done.results[left.id].snapshots == {left.snapshot_ids[0]: DELETED}
    assert left.snapshot_ids[0] not in here.snapshots_there()
    assert binned.snapshot_ids[0] in here.snapshots_there()
    assert read(done.journal).orphans[left.snapshot_ids[0]][1] == DELETED


def test_an_orphan_that_is_used_since_the_plan_stays(here: World, tmp_path: Path) -> None:
    """A new launch template may attach it."""
    here.newest()
    here.in_use()
    left = here.image(100)
    here.maker.ec2.deregister_image(left.id)
    mapping = {"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": left.snapshot_ids[0]}}

    def use() -> None:
        here.access.client("ec2").create_launch_template(
            LaunchTemplateName="data", LaunchTemplateData={"BlockDeviceMappings": [mapping]}
        )

    result = _run(here, tmp_path, orphans=True, between=use).results[left.id]

    assert result.status == "kept"
    assert left.snapshot_ids[0] in here.snapshots_there()


ORPHAN_CHANGES = SNAPSHOT_CLAIMS | {
    "unread": (lambda here, _: here.aws.gate.deny("ec2:DescribeSnapshots"), "DescribeSnapshots"),
}


@pytest.mark.parametrize("name", ORPHAN_CHANGES)
def test_an_orphan_that_was_changed_since_the_plan_stays(here: World, tmp_path: Path, name: str) -> None:
    """A reviewer of the plan tags the snapshot that must stay, or another account is given it."""
    here.newest()
    here.in_use()
    left = here.image(100)
    here.maker.ec2.deregister_image(left.id)
    (snapshot,) = left.snapshot_ids
    change, why = ORPHAN_CHANGES[name]

    done = _run(here, tmp_path, orphans=True, between=lambda: change(here, snapshot))

    assert done.results[left.id].status == "kept"
    assert why in str(done.results[left.id].error)
    assert snapshot in here.snapshots_there()
    assert read(done.journal).orphans == {}


def test_a_killed_run_is_finished_by_the_next(here: World, tmp_path: Path) -> None:
    """Kill -9 after the deregistration: the snapshot is an orphan that only the journal knows."""
    here.newest()
    here.in_use()
    image = here.image()
    plan = here.plan()
    journal = Journal(tmp_path / "cleanup-0.jsonl")
    journal.write(Begin(account=here.account))
    record = ImageRecord.of(plan.decision.selected[0].image)
    journal.write(Will(mode="delete", image=record, permissions=(), snapshots=()))
    journal.close()
    here.maker.ec2.deregister_image(image.id)
    assert image.snapshot_ids[0] in here.snapshots_there()

    survey = here.survey()
    make_plan(survey, here.account, here.now)
    (replay,) = unfinished(tmp_path, here.account)
    again = Journal(tmp_path / "cleanup-1.jsonl")
    location = here.location()
    finished = OrphanedSnapshots(survey, again).resume({location.region: location.caller}, replay.entries.values())
    again.close()

    assert finished == {image.id: {image.snapshot_ids[0]: DELETED}}
    assert image.snapshot_ids[0] not in here.snapshots_there()


def test_no_more_than_the_limit_is_done(here: World) -> None:
    """The oldest first, however many more AMIs could go."""
    here.newest()
    here.in_use()
    first = here.image(200)
    here.image(100)
    plan = here.plan(dataclasses.replace(EVERYTHING, max_deletions=1, older_than=timedelta(days=1)))

    assert [verdict.image.image_id for verdict in plan.decision.selected] == [first.id]


def test_an_interrupt_starts_no_other_act(here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C: what is under way ends, nothing new begins, and the journal has no end for the next run to find."""
    monkeypatch.setattr("gpu_ami.cleanup.execute._WORKERS_PER_REGION", 1)
    here.newest()
    here.in_use()
    images = [here.image(100 + n) for n in range(6)]

    def interrupt(_done: int) -> None:
        raise KeyboardInterrupt

    survey = here.survey()
    plan = make_plan(survey, here.account, here.now)
    journal = Journal(tmp_path / "cleanup-0.jsonl")
    journal.write(Begin(account=here.account))
    apply = Apply(plan, survey, journal, callers_of(survey), now=lambda: here.now, told=interrupt)
    note, begun = journal.note, itertools.count()

    def slowly(event: Event) -> str | None:
        # The second act is under way when the interrupt is heard: on a busy machine all of them would be over by then.
        assert not isinstance(event, Will) or next(begun) == 0 or apply._stop.wait(60)
        return note(event)

    monkeypatch.setattr(journal, "note", slowly)

    with pytest.raises(KeyboardInterrupt):
        apply.images(plan.decision.selected)

    journal.close()
    left = {image.id for image in images} & here.there()
    assert len(left) == 4
    assert len(unfinished(tmp_path, here.account)) == 1


@pytest.mark.parametrize(("mode", "status"), [("delete", "deleted"), ("disable", "kept")])
def test_sharing_that_was_left_out_on_purpose_is_given_up(here: World, tmp_path: Path, mode: Any, status: str) -> None:
    """--skip-source launch-permissions; disabling would lose the permissions for good, so there it is refused."""
    here.newest()
    here.in_use()
    image = here.image()
    policy = dataclasses.replace(EVERYTHING, mode=mode, skip_sources=frozenset({"launch-permissions"}))

    done = _run(here, tmp_path, policy)

    assert done.results[image.id].status == status
    assert (image.id in here.there()) is (status == "kept")


@pytest.mark.parametrize("who", [{"UserId": "210987654321"}, {"Group": "all"}], ids=["an account", "everybody"])
def test_a_shared_ami_goes_when_that_is_said(here: World, tmp_path: Path, who: dict[str, str]) -> None:
    """`--include-shared` is for both; who could launch it is in the journal, for the way back."""
    here.newest()
    here.in_use()
    image = here.image()
    image.launch_permissions.append(who)

    done = _run(here, tmp_path, dataclasses.replace(EVERYTHING, include_shared=True))

    assert done.results[image.id].status == "deleted"
    assert image.id not in here.there()
    assert read(done.journal).entries[image.id].permissions == (who,)


def test_an_ami_whose_sharing_was_not_read_stays(here: World, tmp_path: Path) -> None:
    """Whatever went wrong, without its permissions it could not be brought back as it was."""
    here.newest()
    here.in_use()
    image = here.image()
    survey = here.survey(without={"launch-permissions"})
    plan = make_plan(survey, here.account, here.now)
    journal = Journal(tmp_path / "j")

    (result,) = Apply(plan, survey, journal, callers_of(survey), now=lambda: here.now).images(plan.decision.selected)

    journal.close()
    assert (result.status, image.id in here.there()) == ("kept", True)


@pytest.mark.parametrize(
    ("code", "status"), [("InvalidSnapshot.InUse", "kept"), ("SnapshotLocked", "failed"), (None, "failed")]
)
def test_a_snapshots_last_word_says_why(here: World, code: str | None, status: str) -> None:
    """In use is an explanation; anything else is a failure to report."""
    if code is None:
        here.aws.gate.cut(action="DeleteSnapshot")
    else:
        here.aws.gate.fail(code, action="DeleteSnapshot")

    outcome = OrphanedSnapshots.delete(here.location().caller, "snap-1")

    assert (outcome.status, "DeleteSnapshot" in str(outcome.reason)) == (status, True)


def test_resuming_leaves_alone_what_is_there_or_needed(here: World, tmp_path: Path) -> None:
    """An AMI that is still there is the plan's to judge; a snapshot that a template names by now stays."""
    here.newest()
    alive = here.in_use()
    gone = here.image()
    mapping = {"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": gone.snapshot_ids[0]}}
    here.access.client("ec2").create_launch_template(
        LaunchTemplateName="data", LaunchTemplateData={"BlockDeviceMappings": [mapping]}
    )
    survey = here.survey()
    survey.query()
    entries = [
        Entry(image=image, mode=mode, status=status)
        for image in survey.images
        if image.image_id in {alive.id, gone.id}
        for mode, status in (("delete", "done"),)
    ]
    here.maker.ec2.deregister_image(gone.id)
    again = here.survey()
    again.query()
    journal = Journal(tmp_path / "j")
    location = here.location()

    finished = OrphanedSnapshots(again, journal).resume({location.region: location.caller}, entries)

    journal.close()
    assert set(finished) == {gone.id}
    outcome = finished[gone.id][gone.snapshot_ids[0]]
    assert outcome.status == "kept"
    assert str(outcome.reason).startswith("launch template data")
    assert gone.snapshot_ids[0] in here.snapshots_there()
    failed = [dataclasses.replace(entry, status="failed") for entry in entries]
    assert OrphanedSnapshots(again, journal).resume({location.region: location.caller}, failed) == {}


@pytest.mark.parametrize("action", ["ec2:ListImagesInRecycleBin", "ec2:DescribeSnapshotAttribute"])
def test_an_orphan_of_which_something_is_not_known_stays(here: World, action: str) -> None:
    """Whether its AMI is in the bin, whether it is shared: without an answer it stays."""
    here.newest()
    here.in_use()
    left = here.image(100)
    here.maker.ec2.deregister_image(left.id)
    assert [orphan.action for orphan in here.plan(orphans=True).orphans] == ["delete"]
    here.aws.gate.deny(action)

    assert [orphan.action for orphan in here.plan(orphans=True).orphans] == ["keep"]


@pytest.mark.parametrize("deny", [None, "ec2:DescribeRegions"], ids=["read", "not read"])
def test_a_copy_whose_ami_lives_in_another_region_stays(here: World, deny: str | None) -> None:
    """It names an AMI that is not gone at all: that region was only not queried."""
    here.newest()
    used = here.in_use()
    there = other_region(here)
    there.parameter("/in/use", there.image(1).id)
    copy = there.image(200)
    there.ec2.deregister_image(copy.id)
    (orphan,) = here.plan(locations=[here.location(OTHER_REGION)], orphans=True).orphans
    assert orphan.action == "delete"
    there.ec2.snapshots[copy.snapshot_ids[0]].description = f"Created by CreateImage(i-0123456789abcdef0) for {used.id}"
    if deny:
        here.aws.gate.deny(deny)

    (orphan,) = here.plan(locations=[here.location(OTHER_REGION)], orphans=True).orphans

    assert (orphan.action, orphan.reasons[0].code) == ("keep", "alive-elsewhere")
    assert (REGION in orphan.reasons[0].detail) is (deny is None)


def test_a_shared_orphan_is_seen(here: World) -> None:
    """Through EC2's own attribute of who may make volumes of it."""
    here.newest()
    here.in_use()
    left = here.image(100)
    here.maker.ec2.deregister_image(left.id)
    here.access.client("ec2").modify_snapshot_attribute(
        SnapshotId=left.snapshot_ids[0],
        Attribute="createVolumePermission",
        OperationType="add",
        UserIds=["210987654321"],
    )

    assert [orphan.reasons[0].code for orphan in here.plan(orphans=True).orphans] == ["shared"]
