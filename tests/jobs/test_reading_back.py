"""After an apply: waiting for Batch, and what is said of the instances that run."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.aws import batch
from gpu_ami.aws.access import Access
from gpu_ami.aws.calls import Caller
from gpu_ami.errors import TerraformError
from gpu_ami.jobs import reading_back
from gpu_ami.jobs.reading_back import Live, UnsettledError

A, B = "ami-0123456789abcdef0", "ami-0123456789abcdef1"


def _environment(status: str = "VALID", **more: Any) -> batch.Environment:
    values: dict[str, Any] = {
        "name": "gpu",
        "arn": "arn",
        "state": "ENABLED",
        "status": status,
        "reason": "",
        "ami_id": A,
        "template": "lt-1",
        "version": "1",
        "cluster_arn": None,
        "tags": {},
    }
    return batch.Environment(**(values | more))


def _live(**more: Any) -> Live:
    values: dict[str, Any] = {
        "address": "ce.gpu",
        "name": "gpu",
        "recorded_ami": A,
        "environment": _environment(),
        "rate_mib_s": 300,
        "recorded_rate": 300,
    }
    return Live(**(values | more))


class _Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def _wait(monkeypatch: pytest.MonkeyPatch, *statuses: str, limit_s: float = 30 * 60) -> tuple[list[str], _Clock]:
    left, clock = list(statuses), _Clock()
    notes: list[str] = []

    def environments(_caller: Caller, _names: Any) -> list[batch.Environment]:
        return [_environment(left.pop(0) if len(left) > 1 else left[0])]

    monkeypatch.setattr(batch, "environments", environments)
    reading_back.wait_until_settled(
        Caller(Access(region="r"), "r"),
        ["gpu"],
        note=notes.append,
        poll_s=10,
        limit_s=limit_s,
        clock=lambda: clock.now,
        sleep=clock.sleep,
    )
    return notes, clock


@pytest.mark.parametrize("end", ["VALID", "INVALID"])
def test_it_waits_until_batch_has_decided(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """An update takes minutes; each look is noted."""
    notes, clock = _wait(monkeypatch, "UPDATING", "UPDATING", end)

    assert notes == ["gpu is UPDATING", "gpu is UPDATING"]
    assert clock.now == 20


def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch goes on by itself; the line says where to look."""
    with pytest.raises(TerraformError, match=r"still UPDATING after 30 m 00 s.*invoke status"):
        _wait(monkeypatch, "UPDATING")


def test_without_time_it_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has ended by then is seen."""
    notes, _ = _wait(monkeypatch, "VALID", limit_s=0)
    assert notes == []

    with pytest.raises(UnsettledError, match="still UPDATING"):
        _wait(monkeypatch, "UPDATING", limit_s=0)


@pytest.mark.parametrize(
    ("more", "minutes"),
    [({}, 60), ({"timeout_minutes": 360}, 390), ({"timeout_minutes": 360, "terminates_jobs": True}, 30)],
)
def test_it_waits_as_long_as_the_environment_lets_jobs_run(more: dict[str, Any], minutes: int) -> None:
    """And half an hour for Batch's own work; an update that ends jobs at once waits for none."""
    assert reading_back.allowed_s(_environment("UPDATING", **more)) == minutes * 60


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({}, None),
        ({"environment": None}, "is not there"),
        ({"environment": _environment(ami_id=B)}, f"has {B}, not {A}"),
        ({"environment": _environment(ami_id=None)}, "has no AMI of its own"),
        ({"environment": _environment(ami_id=None), "recorded_ami": None}, None),
        ({"environment": _environment("INVALID", reason="no role")}, r"is INVALID \(no role\)"),
        ({"rate_mib_s": None}, "hydrates at None, not 300"),
        ({"rate_mib_s": None, "recorded_rate": None}, None),
    ],
)
def test_what_differs_is_named(more: dict[str, Any], problem: str | None) -> None:
    """AWS's own word counts."""
    import re

    found = _live(**more).problems()

    assert bool(found) is (problem is not None)
    if problem is not None:
        assert re.search(problem, found[0])


def test_instances_are_remarked_upon() -> None:
    """Batch may not have copied the rate, and keeps old instances until their jobs end: neither is a failure."""
    volumes = (
        batch.Volume(instance_id="i-1", ami_id=A, volume_id="vol-1", rate_mib_s=None),
        batch.Volume(instance_id="i-2", ami_id=B, volume_id="vol-2", rate_mib_s=300),
        batch.Volume(instance_id="i-3", ami_id=A, volume_id="vol-3", rate_mib_s=300),
    )
    live = _live(volumes=volumes)

    cold, old = live.remarks()

    assert "i-1" in cold
    assert "1 instances still on the AMI before" in old
    assert live.problems() == []
    assert live.document()["instances"][0] == {"instance_id": "i-1", "ami_id": A, "hydration_mib_per_s": None}
