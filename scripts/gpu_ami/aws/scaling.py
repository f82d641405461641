"""Reads from Auto Scaling when it began to launch an instance, and why it could not."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_ami.aws.caller import Caller, making_sense


@dataclass(frozen=True, kw_only=True)
class Activity:
    """One activity of an Auto Scaling group.

    Attributes:
        started: When it began, seconds since 1970.
        status: Such as ``Successful`` or ``Failed``.
        message: Why, in words; empty where there is nothing to say.
        description: Such as ``Launching a new EC2 instance: i-…``.
    """

    started: float
    status: str
    message: str
    description: str


def activities(caller: Caller, group: str) -> list[Activity]:
    """Return the activities of the group, those of one that was deleted too.

    Raises:
        AwsError: Auto Scaling refused, or the list could not be read to its end.
    """
    rows = caller.pages(
        "autoscaling",
        "describe_scaling_activities",
        "Activities",
        AutoScalingGroupName=group,
        IncludeDeletedGroups=True,
    )
    with making_sense(f"autoscaling:DescribeScalingActivities in {caller.region}"):
        return [
            Activity(
                started=row["StartTime"].timestamp(),
                status=str(row["StatusCode"]),
                message=str(row.get("StatusMessage") or ""),
                description=str(row.get("Description") or ""),
            )
            for row in rows
        ]


def launch_of(found: list[Activity], instance_id: str) -> Activity | None:
    """Return the activity that launched an instance; None when there is none of it."""
    return next(
        (one for one in found if instance_id in one.description and one.description.startswith("Launching")), None
    )
