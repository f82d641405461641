"""Judges whether the account's Allowed AMIs settings let the base AMI be started."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gpu_ami.aws import allowed_images
from gpu_ami.aws.allowed_images import AUDIT, DISABLED, ENABLED, Settings
from gpu_ami.bake.checks.check import Check

NAME = "Allowed AMIs"


def judge(
    found: Settings, image_id: str, row: Mapping[str, Any] | None, *, account: str, is_there: bool, now: datetime
) -> Check:
    """Judge whether EC2 would start the builder of the base AMI.

    Args:
        found: The settings in the build's region.
        image_id: The base AMI.
        row: What DescribeImages says of it; None when EC2 shows no such AMI.
        account: The caller's account, whose own AMIs are always allowed.
        is_there: Whether the AMI exists for certain, because a parameter of AWS's own names it.
        now: What time it is.

    Raises:
        AwsError: A criterion or the row makes no sense.
    """
    if found.state == DISABLED:
        return Check(NAME, "ok", "the setting is off: any AMI may be started")
    if found.state not in (ENABLED, AUDIT):
        return Check(NAME, "skip", f"the setting is {found.state}, which this version does not know")
    if row is None:
        return _hidden(found, image_id, is_there=is_there)
    if row.get("OwnerId") == account:
        return Check(NAME, "ok", f"{found.state}; {image_id} is this account's own, which is always allowed")
    verdict = allowed_images.evaluate(found, row, now=now)
    said = f"{found.state}; {image_id} ({row.get('Name') or 'without a name'})"
    if verdict.allowed:
        return Check(NAME, "ok", f"{said} is allowed{f' {verdict.reason}' if verdict.reason else ''}")
    if verdict.allowed is None:
        text = f"{said}: whether it is allowed cannot be told here: {verdict.reason}"
        return Check(NAME, "skip", text, "See `ImageAllowed` in `aws ec2 describe-images`.")
    if found.state == AUDIT:
        return Check(NAME, "warn", f"{said} would be refused if it were enabled: {verdict.reason}", _fix(found))
    return Check(NAME, "fail", f"{said} is refused: {verdict.reason}", _fix(found))


def _hidden(found: Settings, image_id: str, *, is_there: bool) -> Check:
    """Return the verdict on an AMI that EC2 does not show: while the setting is on, it hides what it refuses."""
    if found.state == AUDIT:
        return Check(NAME, "skip", "not checked: fix base AMI first")
    if is_there:
        text = f"{found.state}; {image_id} is refused: EC2 hides it, so it fits no criterion of {len(found.criteria)}"
        return Check(NAME, "fail", text, _fix(found))
    text = f"{found.state}; EC2 does not show {image_id}: it is gone, or none of the criteria fits"
    return Check(NAME, "skip", text, _fix(found))


def _fix(found: Settings) -> str:
    who = (
        "the organization's declarative policy (ask who has it)"
        if found.managed_by == "declarative-policy"
        else "`aws ec2 replace-image-criteria-in-allowed-images-settings`"
    )
    return (
        f"Let a criterion allow it, such as ImageProviders amazon for the ECS GPU AMIs, by {who}; or name an AMI that "
        "is allowed in source_ami: the account's own always are."
    )
