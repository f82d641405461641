"""The resources of incomplete builds: found by run tag, removed when the build must be over."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from gpu_ami.aws.build_resources import KINDS, BuildResource
from gpu_ami.aws.images import Image
from gpu_ami.aws.references.source import Reference
from gpu_ami.cleanup.dead_benches import BENCHES_ALONE
from gpu_ami.cleanup.decide import SourceReport
from gpu_ami.cleanup.incomplete_builds import SweepVerdict, decide_sweep, started_at, sweep_blocks, without_unseen
from gpu_ami.cleanup.policy import Policy

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
LONGEST = timedelta(hours=5)
RUN = "20261122T120000Z-abc123"
ALIVE = "20261123T090000Z-abc123"
OF_BUILDS = [kind for kind in KINDS if kind not in BENCHES_ALONE]


def _left(kind: str = "instance", run: str = RUN, **more: Any) -> BuildResource:
    values: dict[str, Any] = {
        "kind": kind,
        "identifier": f"{kind}-1",
        "region": "r",
        "run": run,
        "created": None,
        "state": "available",
        "tags": {},
    }
    return BuildResource(**values | more)


def _decide(*resources: BuildResource, images: Any = (), needed: Any = None) -> list[SweepVerdict]:
    return decide_sweep(resources, images, needed or {}, LONGEST, NOW)


def _codes(resource: BuildResource, **more: Any) -> list[str]:
    (verdict,) = _decide(resource, **more)
    return [reason.code for reason in verdict.reasons]


@pytest.mark.parametrize("kind", OF_BUILDS)
def test_what_a_build_that_is_over_left_goes(kind: str) -> None:
    """A running instance too: the dead-man switch should have ended it long ago."""
    assert _codes(_left(kind)) == ["leftover"]


@pytest.mark.parametrize("kind", OF_BUILDS)
def test_nothing_of_a_build_that_may_be_alive_goes(kind: str) -> None:
    """Removing a living build's instance costs an hour and a confused engineer."""
    assert _codes(_left(kind, run=ALIVE)) == ["may-be-alive"]


@pytest.mark.parametrize(
    ("hours", "codes"), [(5.0, ["leftover"]), (4.99, ["may-be-alive"])], ids=["exactly", "a little less"]
)
def test_the_limit_is_what_a_build_can_take(hours: float, codes: list[str]) -> None:
    """Dead-man time plus the wait for the AMI."""
    assert _codes(_left(run="by hand", created=NOW - timedelta(hours=hours))) == codes


@pytest.mark.parametrize(
    ("run", "started"),
    [
        ("20261122T120000Z-abc123", datetime(2026, 11, 22, 12, tzinfo=timezone.utc)),
        ("20261122120000", datetime(2026, 11, 22, 12, tzinfo=timezone.utc)),
        ("20261199T120000Z-abc123", None),
        ("nightly", None),
    ],
)
def test_a_run_id_tells_when_its_build_began(run: str, started: datetime | None) -> None:
    """Security groups have no date of their own."""
    assert started_at(run, []) == started


def test_without_a_time_in_its_id_the_youngest_resource_tells() -> None:
    """If one resource is an hour old, the build may be alive, and all the others with it."""
    old = _left("volume", run="by hand", created=NOW - timedelta(days=9))
    young = _left("instance", run="by hand", created=NOW - timedelta(hours=1))
    undated = _left("security-group", run="by hand")

    assert [v.reasons[0].code for v in _decide(old, young, undated)] == ["may-be-alive"] * 3


@pytest.mark.parametrize(
    ("minutes", "codes"),
    [
        ("60", ["leftover"]),
        ("1439", ["leftover"]),
        ("1441", ["may-be-alive"]),
        ("long", ["may-be-alive"]),
        ("", ["may-be-alive"]),
        ("9" * 40, ["may-be-alive"]),
    ],
)
def test_a_builds_own_tag_can_allow_it_more_time(minutes: str, codes: list[str]) -> None:
    """It may have been started where builds are allowed a day; this checkout's variables know nothing of that."""
    told = _left(tags={"gpu-ami:may-take": minutes})
    group = _left("security-group")

    assert _codes(told) == codes
    assert [[r.code for r in v.reasons] for v in _decide(told, group)] == [codes, codes]


@pytest.mark.parametrize("kind", OF_BUILDS)
def test_the_youngest_resource_tells_even_if_the_run_id_is_old(kind: str) -> None:
    """A second attempt under the same run id: its instance is in a security group that has no date of its own."""
    left = _left(kind, created=None if kind == "security-group" else NOW - timedelta(days=1))
    young = _left("instance", identifier="i-2", created=NOW - timedelta(hours=1))

    verdicts = {verdict.resource.identifier: verdict for verdict in _decide(left, young)}

    assert [reason.code for reason in verdicts[left.identifier].reasons] == ["may-be-alive"]


def test_a_resource_younger_than_its_run_id_says_counts() -> None:
    """A run id can be reused by hand; the younger of the two times is the safe one."""
    assert _codes(_left(created=NOW - timedelta(hours=1))) == ["may-be-alive"]


@pytest.mark.parametrize(
    ("more", "codes"),
    [
        ({"run": "by hand"}, ["no-date"]),
        ({"created": NOW + timedelta(hours=1)}, ["future-date"]),
        ({"tags": {"gpu-ami:keep": ""}}, ["keep-tag"]),
    ],
)
def test_doubt_keeps(more: dict[str, Any], codes: list[str]) -> None:
    """No date, a date in the future, a tag that says keep."""
    assert _codes(_left(**more)) == codes


def test_a_finished_ami_is_none_of_sweeps_business() -> None:
    """The hand-over tag is what Packer puts on last: with it the AMI is `cleanup`'s."""
    assert _decide(_left("image", tags={"gpu-ami:handover": "pending"})) == []


@pytest.mark.parametrize(
    ("state", "codes"), [("pending", ["leftover"]), ("available", ["leftover"]), ("disabled", ["state"])]
)
def test_an_ami_without_hand_over_is_a_leftover(state: str, codes: list[str]) -> None:
    """Packer died between making and tagging it; somebody's disabled AMI is another matter."""
    assert _codes(_left("image", state=state)) == codes


@pytest.mark.parametrize("target", ["image-1", "snap-1"])
def test_an_ami_that_something_needs_is_no_leftover(target: str) -> None:
    """Somebody found it good enough to use."""
    image = Image(image_id="image-1", region="r", snapshot_ids=("snap-1",))
    needed = {target: [Reference(target, "batch", "an environment")]}

    assert _codes(_left("image"), images=[image], needed=needed) == ["batch"]


def test_things_go_in_the_order_in_which_they_can() -> None:
    """A group cannot go before its instance."""
    kinds = [v.resource.kind for v in _decide(*(_left(kind) for kind in reversed(OF_BUILDS)))]

    assert kinds == OF_BUILDS


def test_a_list_that_failed_blocks_and_quiet_accounts_only_matter_for_amis() -> None:
    """Removing a key pair needs no proof that AMIs are in use; an AMI does."""
    policy = Policy(older_than=LONGEST, keep=1)
    quiet = [SourceReport("instances", "r", "ok")]
    verdicts = _decide(_left("key-pair"), _left("image"))

    assert sweep_blocks(quiet, policy) == ()
    assert [verdict.action for verdict in without_unseen(verdicts, quiet, policy)] == ["delete", "keep"]
    believed = dataclasses.replace(policy, allow_no_references=True)
    assert [verdict.action for verdict in without_unseen(verdicts, quiet, believed)] == ["delete", "delete"]
    seen = [SourceReport("instances", "r", "ok", references=1)]
    assert without_unseen(verdicts, seen, policy) == verdicts
    for name in ("leftover-instances", "clock", "x"):
        assert "denied" in sweep_blocks([SourceReport(name, "r", "failed", error="denied")], policy)[0]


@pytest.mark.parametrize("name", ["batch", "hyperpod", "image-references", "terraform-state", "account"])
def test_what_says_who_needs_an_ami_keeps_amis_alone(name: str) -> None:
    """A builder costs money by the hour, whatever SageMaker says that night."""
    policy = Policy(older_than=LONGEST, keep=1)
    reports = [SourceReport("instances", "r", "ok", references=1), SourceReport(name, "r", "failed", error="denied")]
    verdicts = _decide(_left("instance"), _left("image"))

    assert sweep_blocks(reports, policy) == ()
    kept = without_unseen(verdicts, reports, policy)
    assert [(verdict.resource.kind, verdict.action) for verdict in kept] == [("instance", "delete"), ("image", "keep")]
    assert "denied" in kept[1].reasons[0].detail


def test_the_document_is_the_contract() -> None:
    """Scripts read these keys."""
    (verdict,) = _decide(_left())

    assert verdict.document() == {
        "kind": "instance",
        "id": "instance-1",
        "region": "r",
        "run": RUN,
        "started": "2026-11-22T12:00:00Z",
        "state": "available",
        "action": "delete",
        "reasons": [{"code": "leftover", "detail": f"build {RUN} is over"}],
    }
