"""After an apply: what is said of environments and of the instances that run."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.aws import batch
from gpu_ami.deploy.live_environments import Live
from gpu_ami.records.batch_images import Images
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


CPU, GPU = "ECS_AL2023", "ECS_AL2023_NVIDIA"
CONFLICT = f"a launch template override says {B}, image_id_override of {GPU} says {A}"


@pytest.mark.parametrize(
    ("given", "there", "problems"),
    [
        (Images(overrides={CPU: B, GPU: A}), Images(overrides={CPU: B, GPU: A}), []),
        (Images(overrides={CPU: A, GPU: A}), Images(overrides={CPU: A, GPU: B}), [f"gpu has {B} for {GPU}, not {A}"]),
        (
            Images(overrides={GPU: A}),
            Images(overrides={GPU: A}, image_id=B),
            [f"gpu has several AMIs for one instance: image_id says {B}, image_id_override of {GPU} says {A}"],
        ),
        # Of its template's overrides Terraform's record says nothing: no apply could ever end well.
        (Images(overrides={GPU: A}), Images(overrides={GPU: A}, template_overrides=(B,)), []),
    ],
)
def test_each_image_type_is_read_back(given: Images, there: Images, problems: list[str]) -> None:
    """An update of the second block that did not stick was called applied."""
    assert _live(recorded=given, environment=environment(ami_id=there.main(), images=there)).problems() == problems


@pytest.mark.parametrize(
    ("images", "ami", "has"),
    [
        (Images(overrides={CPU: B, GPU: A}), A, True),
        (Images(overrides={CPU: B, GPU: A}), B, True),
        (Images(overrides={GPU: A}), B, False),
        (Images(overrides={GPU: None}), None, True),
        (Images(overrides={GPU: A}), None, False),
        (Images(image_id=B, overrides={GPU: A}), A, False),
        (Images(overrides={GPU: A}, template_overrides=(B,)), A, True),
        (Images(overrides={GPU: A}, template_overrides=(B,)), B, False),
        (Images(image_id=B, overrides={GPU: A}, template_overrides=(A,)), A, False),
    ],
)
def test_a_receipt_is_confirmed_by_what_is_live(images: Images, ami: str | None, has: bool) -> None:
    """Where several AMIs are named for one instance, nothing is confirmed."""
    assert _live(environment=environment(ami_id=images.main(), images=images)).has(ami) is has


def test_a_template_override_is_remarked_upon() -> None:
    """It is live for some instance types, and nothing that Terraform did."""
    images = Images(overrides={GPU: A}, template_overrides=(B,))

    (remark,) = _live(environment=environment(ami_id=None, images=images)).remarks()

    assert remark == f"gpu: some instance types get another AMI ({CONFLICT})"


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
