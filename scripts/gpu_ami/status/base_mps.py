"""Warns of live AMIs that were baked from a base AMI whose NVIDIA MPS has its pipe under /tmp; pure.

NVIDIA's container runtime gives that folder to every container with a GPU, and CUDA becomes a client of MPS there
whether the job asked for it or not (amazon-ecs-ami #771).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gpu_ami.aws.images import Image
from gpu_ami.records.base_release import has_mps_under_tmp, release_of
from gpu_ami.records.tags import FINGERPRINT_PREFIX, MPS_PIPE_TAG, SOURCE_AMI_NAME_TAG, SOURCE_AMI_TAG

_BASE_TAG = f"{FINGERPRINT_PREFIX}base"
Code = Literal["mps-under-tmp"]


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something about what is live that is no difference: the exit code does not show it.

    Attributes:
        code: What.
        subject: The AMI.
        detail: What it is.
        advice: What to do.
    """

    code: Code
    subject: str
    detail: str
    advice: str

    def document(self) -> dict[str, Any]:
        """Return the notice as `invoke status` prints it in JSON."""
        return dict(vars(self))


def ancestors(images: Iterable[Image | None]) -> set[str]:
    """Return the AMIs that *images* say they were baked from: the base beneath, and where the bake itself started."""
    tags = [image.tags for image in images if image is not None]
    return {found for tag in (_BASE_TAG, SOURCE_AMI_TAG) for row in tags if (found := row.get(tag))}


def base_name(image: Image, shown: Mapping[str, Image]) -> str | None:
    """Return the name of the base AMI beneath *image*: of its tags, else of the AMIs that it goes back to.

    An incremental bake started from an AMI of ours, whose own tags lead on. Where no ECS GPU AMI of Amazon's is found
    so, it is the name of what the tags call its base; None when nothing tells that.

    Args:
        image: The AMI.
        shown: The AMIs that EC2 shows, by id.
    """
    current: Image | None = image
    passed: set[str] = set()
    while current is not None and current.image_id not in passed:
        passed.add(current.image_id)
        for ami in (_base(current), current.tags.get(SOURCE_AMI_TAG, "")):
            if release_of(name := _name(current, ami, shown)):
                return name
        current = shown.get(current.tags.get(SOURCE_AMI_TAG, ""))
    return _name(image, _base(image), shown) or None


def _base(image: Image) -> str:
    return image.tags.get(_BASE_TAG) or image.tags.get(SOURCE_AMI_TAG, "")


def _name(image: Image, ami: str, shown: Mapping[str, Image]) -> str:
    """Return the name of *ami*, which *image* was baked from; empty when nothing tells it."""
    noted = image.tags.get(SOURCE_AMI_NAME_TAG, "") if ami == image.tags.get(SOURCE_AMI_TAG) else ""
    return noted or (shown[ami].name if ami in shown else "")


def notices(live: Iterable[Image], shown: Mapping[str, Image]) -> tuple[Notice, ...]:
    """Return the warnings about the *live* AMIs; of a base that is not known there is none."""
    return tuple(
        Notice(
            code="mps-under-tmp",
            subject=image.image_id,
            detail=f"its base AMI {name} starts NVIDIA MPS with its pipe under /tmp: every GPU job becomes a client of "
            "MPS (CUDA error 805), and nothing says that its bake has moved the pipe",
            advice="Run `invoke build apply`: a bake moves the pipe (mps_pipe).",
        )
        for image in live
        if has_mps_under_tmp(name := base_name(image, shown) or "") and not _is_checked(image)
    )


def unknown(live: Iterable[Image], shown: Mapping[str, Image]) -> tuple[str, ...]:
    """Return a sentence for each live AMI of which that cannot be said, with what is known of its base."""
    return tuple(
        f"{image.image_id} was baked from {_known(image, shown)}: whether that starts NVIDIA MPS with its pipe "
        "under /tmp is not known."
        for image in live
        if has_mps_under_tmp(base_name(image, shown) or "") is None and not _is_checked(image)
    )


def _known(image: Image, shown: Mapping[str, Image]) -> str:
    known = filter(None, (_base(image), base_name(image, shown)))
    return ", ".join(known) or "an AMI that its tags do not name"


def _is_checked(image: Image) -> bool:
    return bool(image.tags.get(MPS_PIPE_TAG))
