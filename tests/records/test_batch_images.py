"""The AMIs of a compute environment: by image type, in the order of Batch's documents, from every side alike."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.records.batch_images import Images, in_batch, in_terraform, kind_of

A, B, C, D = (f"ami-{number:017x}" for number in range(1, 5))
CPU, GPU = "ECS_AL2023", "ECS_AL2023_NVIDIA"


@pytest.mark.parametrize("gives", [in_terraform, in_batch])
def test_terraform_and_batch_are_read_alike(gives: Any) -> None:
    """They are compared with each other: what one reads otherwise would be a difference that is none."""
    names = ("ec2_configuration", "image_type", "image_id_override", "image_id")
    if gives is in_batch:
        names = ("ec2Configuration", "imageType", "imageIdOverride", "imageId")
    rows, image_type, override, old = names

    found = gives({rows: [{image_type: CPU, override: ""}, {image_type: GPU, override: A}], old: ""})

    assert found == Images(overrides={CPU: None, GPU: A})
    assert gives({}) == Images()
    assert gives({rows: None, old: B}) == Images(image_id=B)


def test_a_gpus_ami_is_the_environments() -> None:
    """The pipeline bakes for GPUs; a CPU type that comes first hides nothing."""
    images = Images(overrides={CPU: C, GPU: A})

    assert images.main() == A
    assert images.main(prefer={C}) == C
    assert images.named == {A, C}
    assert (images.of(CPU), images.of(GPU)) == (C, A)


@pytest.mark.parametrize(
    ("images", "ami"),
    [
        (Images(), None),
        (Images(overrides={GPU: None}), None),
        (Images(overrides={GPU: A}), A),
        (Images(image_id=B), B),
        # The guide's order: imageId goes before imageIdOverride, and the template comes last.
        (Images(image_id=B, overrides={GPU: A}), B),
        (Images(overrides={GPU: A}, template=D), A),
        (Images(overrides={GPU: None}, template=D), D),
        (Images(template=D), D),
    ],
)
def test_the_order_is_batchs(images: Images, ami: str | None) -> None:
    """Which AMI a job starts on."""
    assert images.of(GPU) == ami
    assert images.main() == ami


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (Images(overrides={GPU: A}), []),
        (Images(overrides={CPU: C, GPU: A}), []),
        (Images(image_id=A, overrides={GPU: A}), []),
        (Images(image_id=B, overrides={GPU: A}), [("image_id", B), (f"image_id_override of {GPU}", A)]),
        (Images(overrides={GPU: A}, template=D), []),
        (Images(overrides={GPU: A}, template_overrides=(A,)), []),
        (
            Images(overrides={GPU: A}, template_overrides=(D,)),
            [("a launch template override", D), (f"image_id_override of {GPU}", A)],
        ),
        (
            Images(overrides={GPU: None}, template=A, template_overrides=(D,)),
            [("a launch template override", D), ("the launch template", A)],
        ),
        (Images(template_overrides=(D,)), []),
    ],
)
def test_several_amis_for_one_instance_are_a_conflict(images: Images, says: list[tuple[str, str]]) -> None:
    """The user guide and the API's model disagree on imageId; an override of the template is for some types only."""
    assert list(images.conflict) == says


@pytest.mark.parametrize(
    ("given", "there", "found"),
    [
        (Images(overrides={CPU: C, GPU: A}), Images(overrides={GPU: A, CPU: C}), []),
        (Images(overrides={CPU: C, GPU: A}), Images(overrides={CPU: C, GPU: B}), [(GPU, A, B)]),
        (Images(overrides={CPU: C, GPU: A}), Images(overrides={CPU: D, GPU: A}), [(CPU, C, D)]),
        (Images(overrides={GPU: None}), Images(overrides={GPU: B}), []),
        (Images(overrides={GPU: A}), Images(), [(GPU, A, None)]),
        (Images(overrides={GPU: A}), Images(overrides={"": A}), []),
        (Images(overrides={GPU: A}), Images(overrides={"": B}), [(GPU, A, B)]),
        (Images(overrides={GPU: A}), Images(image_id=A), []),
        (Images(image_id=A), Images(image_id=B), [("", A, B)]),
        (Images(image_id=A), Images(overrides={GPU: A}), []),
    ],
)
def test_differences_are_found_by_image_type(given: Images, there: Images, found: list[Any]) -> None:
    """A change of the second block went unseen, and a CPU AMI in the first one was taken for ours."""
    assert list(given.differences(there)) == found


@pytest.mark.parametrize(
    ("management", "on", "has_eks", "kind"),
    [
        ("MANAGED", "EC2", False, "EC2"),
        ("MANAGED", "SPOT", False, "EC2"),
        (None, None, False, "EC2"),
        ("MANAGED", "FARGATE", False, "FARGATE"),
        ("MANAGED", "FARGATE_SPOT", False, "FARGATE"),
        ("MANAGED", "EC2", True, "EKS"),
        ("UNMANAGED", None, False, "UNMANAGED"),
        ("unmanaged", None, False, "UNMANAGED"),
    ],
)
def test_what_takes_no_ami_of_ours_is_told(management: Any, on: Any, has_eks: bool, kind: str) -> None:
    """The provider takes the type in any case."""
    assert kind_of(management, on, has_eks=has_eks) == kind
