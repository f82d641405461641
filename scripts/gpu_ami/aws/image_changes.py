"""Changes AMIs and snapshots; a change counts as done only once EC2 confirms it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError, making_sense
from gpu_ami.aws.images import Image, is_gone
from gpu_ami.records.tags import FINISHED_TAG, HANDOVER_TAG

# EC2 may not know an AMI everywhere yet that it has just said is available; see `Caller.expecting`.
NOT_YET = ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidSnapshot.NotFound")


def deregister(caller: Caller, image_id: str) -> dict[str, str]:
    """Deregister an AMI with its snapshots; return EC2's result for each snapshot, such as ``success`` or ``skipped``.

    An AMI that is gone already (an answer may have been lost) is a success about whose snapshots nothing is known.

    Raises:
        RefusedError: EC2 refused; the AMI is still there.
        UnansweredError: Nobody knows whether the AMI is still there.
    """
    try:
        answer = caller.call("ec2", "deregister_image", ImageId=image_id, DeleteAssociatedSnapshots=True)
    except RefusedError as exc:
        if is_gone(caller, image_id, exc):
            return {}
        raise
    _check_done(answer, f"ec2:DeregisterImage {image_id}")
    with making_sense(f"ec2:DeregisterImage {image_id}"):
        return {row["SnapshotId"]: row["ReturnCode"] for row in answer.get("DeleteSnapshotResults") or []}


def delete_snapshot(caller: Caller, snapshot_id: str) -> None:
    """Delete a snapshot; one that is gone already is a success.

    Raises:
        RefusedError: EC2 refused; the snapshot is still there.
        UnansweredError: Nobody knows whether the snapshot is still there.
    """
    try:
        caller.call("ec2", "delete_snapshot", SnapshotId=snapshot_id)
    except RefusedError as exc:
        if exc.code != "InvalidSnapshot.NotFound":
            raise


def disable(caller: Caller, image_id: str) -> None:
    """Disable an AMI, which takes its launch permissions away.

    Raises:
        AwsError: EC2 refused, or nobody knows.
    """
    _check_done(caller.call("ec2", "disable_image", ImageId=image_id), f"ec2:DisableImage {image_id}")


def enable(caller: Caller, image_id: str) -> None:
    """Make a disabled AMI available again.

    Raises:
        AwsError: EC2 refused, or nobody knows.
    """
    _check_done(caller.call("ec2", "enable_image", ImageId=image_id), f"ec2:EnableImage {image_id}")


def deprecate(caller: Caller, image_id: str, at: datetime | None) -> None:
    """Deprecate an AMI from the moment *at* on, which has to be in the future; None takes the deprecation back.

    Raises:
        AwsError: EC2 refused, or nobody knows.
    """
    if at is None:
        answer = caller.call("ec2", "disable_image_deprecation", ImageId=image_id)
    else:
        answer = caller.call("ec2", "enable_image_deprecation", ImageId=image_id, DeprecateAt=at)
    _check_done(answer, f"ec2:EnableImageDeprecation {image_id}")


def add_tags(caller: Caller, resource_id: str, tags: Mapping[str, str]) -> None:
    """Tag an AMI or snapshot; tags that only AWS may set are left out.

    Raises:
        AwsError: EC2 refused, or nobody knows.
    """
    ours = [{"Key": key, "Value": value} for key, value in sorted(tags.items()) if not key.startswith("aws:")]
    if ours:
        caller.call("ec2", "create_tags", Resources=[resource_id], Tags=ours)


def mark_handed_over(caller: Caller, image_id: str) -> None:
    """Tag an AMI as applied: Terraform has taken it, and clean-up need not wait for that any more.

    Raises:
        AwsError: EC2 refused, or nobody knows.
    """
    add_tags(caller, image_id, {HANDOVER_TAG: "applied"})


def mark_finished(caller: Caller, image: Image) -> None:
    """Tag an AMI and its snapshots as finished: the build that made it has come to its end.

    Raises:
        AwsError: EC2 refused, or nobody knows.
    """
    tags = [{"Key": FINISHED_TAG, "Value": "true"}]
    caller.call("ec2", "create_tags", Resources=[image.image_id, *image.snapshot_ids], Tags=tags)


def share(caller: Caller, image_id: str, permissions: Sequence[Mapping[str, str]]) -> None:
    """Give launch permissions, in the form that `launch_permissions` returns.

    Raises:
        AwsError: EC2 refused, or nobody knows.
    """
    if permissions:
        added = {"Add": [dict(entry) for entry in permissions]}
        caller.call("ec2", "modify_image_attribute", ImageId=image_id, LaunchPermission=added)


def _check_done(answer: Mapping[str, Any], what: str) -> None:
    if answer.get("Return") is not True:
        msg = f"{what}: EC2 did not say that it is done: the answer is cut off or malformed."
        raise UnansweredError(msg)
