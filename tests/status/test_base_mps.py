"""Which live AMIs go back to a base AMI whose MPS has its pipe under /tmp, and what is said where nobody knows."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from gpu_ami.aws.images import Image
from gpu_ami.records.base_release import has_mps_under_tmp, release_of
from gpu_ami.status.base_mps import ancestors, base_name, notices, unknown

LIVE, PARENT, GRANDPARENT, BASE, NEWER = (f"ami-{number:017x}" for number in range(1, 6))
NAME = "al2023-ami-ecs-gpu-hvm-2023.0.{}-kernel-6.1-x86_64-ebs"
BAD, GOOD = NAME.format("20260813"), NAME.format("20260901")
SOURCE, SOURCE_NAME, FINGERPRINT = "gpu-ami:source-ami", "gpu-ami:source-ami-name", "gpu-ami:fingerprint-base"


def _image(ami: str, name: str = "", **tags: str) -> Image:
    return Image(image_id=ami, region="r", name=name, tags=tags)


def _shown(*images: Image) -> dict[str, Image]:
    return {image.image_id: image for image in images}


@pytest.mark.parametrize(
    ("name", "release", "is_bad"),
    [
        (NAME.format("20260714"), "20260714", False),
        (NAME.format("20260721"), "20260721", True),
        (NAME.format("20260805"), "20260805", True),
        (NAME.format("20260820"), "20260820", True),
        (NAME.format("20260821"), "20260821", False),
        (NAME.format("20261124"), "20261124", False),
        ("al2023-ami-ecs-gpu-hvm-2023.0.20260813-kernel-6.12-x86_64-ebs", "20260813", True),
        # Not a GPU AMI, not Amazon's, not a release: nothing is known.
        ("al2023-ami-ecs-hvm-2023.0.20260813-kernel-6.1-x86_64", None, None),
        ("my-al2023-ami-ecs-gpu-hvm-2023.0.20260813-kernel-6.1-x86_64-ebs", None, None),
        ("amzn2-ami-ecs-gpu-hvm-2.0.20260813-x86_64-ebs", None, None),
        ("al2023-ami-ecs-gpu-hvm-2023.0.2026081-kernel", None, None),
        ("al2023-ami-ecs-gpu-hvm-2023.0.20260813-", None, None),
        ("al2023-ami-ecs-gpu-hvm-2023.0.20260813-x\n", None, None),
        ("al2023-ami-ecs-gpu-hvm-2023.0.2026081\uff13-x", None, None),
        ("", None, None),
    ],
)
def test_a_name_says_the_release_or_nothing(name: str, release: str | None, is_bad: bool | None) -> None:
    """The first and the last that are affected by a day, and names that only look like one."""
    assert (release_of(name), has_mps_under_tmp(name)) == (release, is_bad)


@pytest.mark.parametrize(
    ("tags", "shown", "name"),
    [
        ({SOURCE: BASE, SOURCE_NAME: BAD}, {}, BAD),
        ({SOURCE: BASE}, _shown(_image(BASE, BAD)), BAD),
        ({FINGERPRINT: BASE, SOURCE: BASE, SOURCE_NAME: BAD}, {}, BAD),
        # Incremental: the fingerprint has the base, or the AMI that it started from leads on.
        ({FINGERPRINT: BASE, SOURCE: PARENT, SOURCE_NAME: "gpu-1"}, _shown(_image(BASE, BAD)), BAD),
        (
            {SOURCE: PARENT, SOURCE_NAME: "gpu-1"},
            _shown(_image(PARENT, "gpu-1", **{SOURCE: BASE, SOURCE_NAME: BAD})),
            BAD,
        ),
        (
            {FINGERPRINT: BASE, SOURCE: PARENT},
            _shown(
                _image(PARENT, "gpu-2", **{SOURCE: GRANDPARENT}),
                _image(GRANDPARENT, "gpu-1", **{SOURCE_NAME: BAD, SOURCE: BASE}),
            ),
            BAD,
        ),
        # What the build has looked up goes before what the bake started from.
        ({FINGERPRINT: NEWER, SOURCE: BASE, SOURCE_NAME: BAD}, _shown(_image(NEWER, GOOD)), GOOD),
        # A name of one's own is told, though it says nothing; so is a circle's.
        ({SOURCE: BASE, SOURCE_NAME: "our-base"}, {}, "our-base"),
        ({SOURCE: LIVE, SOURCE_NAME: "round"}, _shown(_image(LIVE, "x", **{SOURCE: LIVE})), "round"),
        ({FINGERPRINT: BASE, SOURCE: PARENT, SOURCE_NAME: "gpu-1"}, {}, None),
        ({SOURCE: BASE}, {}, None),
        ({SOURCE_NAME: BAD}, {}, None),
        ({}, {}, None),
    ],
)
def test_the_base_is_found_by_tags_and_lineage(
    tags: dict[str, str], shown: Mapping[str, Image], name: str | None
) -> None:
    """By hand, by `invoke build`, incremental or copied: each has other tags."""
    assert base_name(_image(LIVE, **tags), shown) == name


def test_ancestors_are_what_has_to_be_looked_up() -> None:
    """One call for all; an AMI that is gone has none."""
    tags = {FINGERPRINT: BASE, SOURCE: PARENT}

    assert ancestors([_image(LIVE, **tags), None, _image(NEWER)]) == {BASE, PARENT}


@pytest.mark.parametrize(
    ("tags", "warned", "said"),
    [
        ({SOURCE: BASE, SOURCE_NAME: BAD}, True, ""),
        ({SOURCE: BASE, SOURCE_NAME: GOOD}, False, ""),
        ({SOURCE: BASE, SOURCE_NAME: BAD, "gpu-ami:mps-pipe": "repair"}, False, ""),
        ({SOURCE: BASE, SOURCE_NAME: "our-base"}, False, f"{BASE}, our-base"),
        ({SOURCE: BASE, SOURCE_NAME: "our-base", "gpu-ami:mps-pipe": "fail"}, False, ""),
        ({SOURCE: BASE}, False, BASE),
        ({}, False, "an AMI that its tags do not name"),
    ],
)
def test_what_is_warned_of_and_what_is_said(tags: dict[str, str], warned: bool, said: str) -> None:
    """A base that is not known is no warning, a bake that has looked for it neither."""
    live = [_image(LIVE, **tags)]

    found = notices(live, {})

    assert [(notice.code, notice.subject) for notice in found] == ([("mps-under-tmp", LIVE)] if warned else [])
    assert all(BAD in notice.detail and "805" in notice.detail for notice in found)
    expected = f"{LIVE} was baked from {said}: whether that starts NVIDIA MPS with its pipe under /tmp is not known."
    assert unknown(live, {}) == ((expected,) if said else ())
