"""The AMI that a build is making or has made, and its snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpu_ami.aws.access import Access, aws_errors
from gpu_ami.errors import AwsError

_GIB = 1024**3


@dataclass(frozen=True)
class Artifact:
    """A finished AMI as EC2 describes it.

    Attributes:
        ami_id: The AMI.
        name: Its name.
        state: ``available`` when it can be launched.
        source_ami_id: The AMI it was baked from; empty when EC2 does not say.
        snapshot_ids: Its snapshots, in the order of its devices.
        snapshot_gib: Data written in its snapshots (FullSnapshotSizeInBytes); None when EC2 does not say.
        volume_gib: The size of its volumes.
        tags: Its tags.
    """

    ami_id: str
    name: str
    state: str
    source_ami_id: str
    snapshot_ids: tuple[str, ...]
    snapshot_gib: float | None
    volume_gib: int
    tags: Mapping[str, str]


def describe(access: Access, ami_id: str) -> Artifact:
    """Return the AMI *ami_id* of the access's region.

    Raises:
        AwsError: EC2 refused, or there is no such AMI.
    """
    client = access.client("ec2")
    with aws_errors(f"describe the AMI {ami_id}"):
        images = client.describe_images(ImageIds=[ami_id])["Images"]
        if not images:
            msg = f"The AMI {ami_id} does not exist in {access.region}: was it deregistered?"
            raise AwsError(msg)
        image = images[0]
        volumes = [mapping["Ebs"] for mapping in image.get("BlockDeviceMappings", []) if "Ebs" in mapping]
        snapshot_ids = tuple(volume["SnapshotId"] for volume in volumes if "SnapshotId" in volume)
        snapshots = client.describe_snapshots(SnapshotIds=list(snapshot_ids))["Snapshots"] if snapshot_ids else []
    return Artifact(
        ami_id=ami_id,
        name=image.get("Name", ""),
        state=image.get("State", ""),
        source_ami_id=image.get("SourceImageId", ""),
        snapshot_ids=snapshot_ids,
        snapshot_gib=_written_gib(snapshots),
        volume_gib=sum(int(volume.get("VolumeSize", 0)) for volume in volumes),
        tags={tag["Key"]: tag["Value"] for tag in image.get("Tags", [])},
    )


def instance_type(access: Access, instance_id: str) -> str | None:
    """Return the type of the instance *instance_id*, which EC2 remembers for an hour after its end; else None.

    A look that fails says nothing: a price is not worth a build.
    """
    if not instance_id:
        return None
    try:
        with aws_errors(f"look at {instance_id}"):
            rows = access.client("ec2").describe_instances(InstanceIds=[instance_id])["Reservations"]
    except AwsError:
        return None
    return next((str(each["InstanceType"]) for row in rows for each in row["Instances"]), None)


def snapshot_percent(access: Access, ami_id: str) -> int | None:
    """Return how far the snapshots of the pending AMI *ami_id* are, in per cent; None while unknown.

    A look that fails says nothing: the wait it decorates must not end because of it.
    """
    client = access.client("ec2")
    try:
        with aws_errors("watch the snapshot"):
            rows = client.describe_snapshots(
                OwnerIds=["self"], Filters=[{"Name": "description", "Values": [f"*{ami_id}*"]}]
            )["Snapshots"]
    except AwsError:
        return None
    return _percent(rows)


def _percent(snapshots: list[dict[str, Any]]) -> int | None:
    texts = [str(row.get("Progress", "")).rstrip("%") for row in snapshots]
    numbers = [int(text) for text in texts if text.isdigit()]
    return min(numbers) if numbers else None


def _written_gib(snapshots: list[dict[str, Any]]) -> float | None:
    sizes = [row.get("FullSnapshotSizeInBytes") for row in snapshots]
    if not sizes or any(size is None for size in sizes):
        return None
    return round(sum(int(size or 0) for size in sizes) / _GIB, 2)
