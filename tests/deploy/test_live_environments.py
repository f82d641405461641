"""After an apply: what is said of environments and of the instances that run."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.aws import batch
from gpu_ami.deploy.live_environments import Live
from tests.support.environments import A, environment

B = "ami-0123456789abcdef1"


def _live(**more: Any) -> Live:
    values: dict[str, Any] = {
        "address": "ce.gpu",
        "name": "gpu",
        "recorded_ami": A,
        "environment": environment(),
        "rate_mib_s": 300,
        "recorded_rate": 300,
    }
    return Live(**(values | more))


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({}, None),
        ({"environment": None}, "is not there"),
        ({"environment": environment(ami_id=B)}, f"has {B}, not {A}"),
        ({"environment": environment(ami_id=None)}, "has no AMI of its own"),
        ({"environment": environment(ami_id=None), "recorded_ami": None}, None),
        ({"environment": environment("INVALID", reason="no role")}, r"is INVALID \(no role\)"),
        ({"rate_mib_s": None}, "hydrates at None, not 300"),
        ({"rate_mib_s": None, "recorded_rate": None}, None),
    ],
)
def test_what_differs_is_named(more: dict[str, Any], problem: str | None) -> None:
    """What AWS shows counts."""
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
    assert "1 instance still on the AMI before, until its jobs end" in old
    assert live.problems() == []
    assert live.document()["instances"][0] == {"instance_id": "i-1", "ami_id": A, "hydration_mib_per_s": None}
