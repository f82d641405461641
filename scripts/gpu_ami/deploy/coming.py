"""Which AMIs a plan moves an environment to: what has to be verified, or benched, before."""

from __future__ import annotations

from gpu_ami.errors import SafetyError
from gpu_ami.terraform.plan_changes import EnvironmentChange

_STAYS_OR_GOES = ("no-op", "delete", "forget")


def is_moved(change: EnvironmentChange) -> bool:
    """Return whether the environment moves to another AMI, known or not."""
    moves = change.moves_conflict or any(slot.moves for slot in change.ours)
    return change.action not in _STAYS_OR_GOES and moves


def amis(change: EnvironmentChange, setting: str, done: str, *, must_be_known: bool = True) -> list[str]:
    """Return the AMIs that the environment moves to; none where Batch is to choose, which nobody can check before.

    Args:
        change: What the plan does to the environment.
        setting: What in pipeline.yaml wants to know.
        done: What is done to an AMI before: ``verified``, ``benched``.
        must_be_known: Whether an AMI that only the apply makes known is refused.

    Raises:
        SafetyError: The plan does not say one.
    """
    if change.action in _STAYS_OR_GOES:
        return []
    moving = [slot for slot in change.ours if slot.moves]
    if must_be_known and not all(slot.is_known for slot in moving):
        msg = (
            f"{change.address} moves to an AMI that is known only after the apply, and pipeline.yaml has {setting}: "
            f"what is not known is not {done}. Nothing was applied. Name the AMI itself."
        )
        raise SafetyError(msg)
    # Of several for one instance AWS's documents disagree on which counts.
    several = [ami_id for _, ami_id in change.conflict] if moving or change.moves_conflict else []
    return [*(slot.new for slot in moving if slot.new is not None), *several]
