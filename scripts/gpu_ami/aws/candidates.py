"""An AMI that somebody wants to hand over, whoever owns it and whatever became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from gpu_ami.aws.calls import Caller, RefusedError, making_sense
from gpu_ami.aws.images import parse_time


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An AMI as EC2 describes it.

    Attributes:
        image_id: The AMI.
        region: Where it is.
        state: ``available``, ``pending``, ``failed``, ``disabled``, …
        reason: EC2's reason for the state; empty when it gives none.
        owner: The account that owns it.
        architecture: ``x86_64``, ``arm64``, …
        deprecated_at: From when on it is deprecated.
        tags: Its tags; EC2 shows only the owner's own.
    """

    image_id: str
    region: str
    state: str = "available"
    reason: str = ""
    owner: str = ""
    architecture: str = ""
    deprecated_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def look_up(caller: Caller, image_id: str) -> Candidate | None:
    """Return the AMI *image_id* of the caller's region; None when EC2 does not show one.

    Raises:
        AwsError: EC2 refused or gave no usable answer.
    """
    try:
        answer = caller.call(
            "ec2", "describe_images", ImageIds=[image_id], IncludeDeprecated=True, IncludeDisabled=True
        )
    except RefusedError as exc:
        if exc.code in ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"):
            return None
        raise
    with making_sense(f"ec2:DescribeImages in {caller.region}"):
        rows = [row for row in answer["Images"] if row["ImageId"] == image_id]
        if not rows:
            return None
        row = rows[0]
        return Candidate(
            image_id=image_id,
            region=caller.region,
            state=row["State"],
            reason=(row.get("StateReason") or {}).get("Message", ""),
            owner=row["OwnerId"],
            architecture=row["Architecture"],
            deprecated_at=parse_time(row.get("DeprecationTime")),
            tags={tag["Key"]: tag.get("Value", "") for tag in row.get("Tags") or []},
        )


def architectures(caller: Caller, instance_type: str) -> tuple[str, ...]:
    """Return the architectures that *instance_type* runs, such as ``x86_64``.

    Raises:
        AwsError: EC2 refused, does not know the type, or gave no usable answer.
    """
    answer = caller.call("ec2", "describe_instance_types", InstanceTypes=[instance_type])
    with making_sense(f"ec2:DescribeInstanceTypes in {caller.region}"):
        (row,) = answer["InstanceTypes"]
        return tuple(row["ProcessorInfo"]["SupportedArchitectures"])
