"""Looks at the instances of a bench in EC2, and at their root volumes, many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, making_sense
from gpu_ami.records.tags import RUN_TAG

GROUP_TAG = "aws:autoscaling:groupName"
_COPY_TAG, _VERSION_TAG = "aws:ec2launchtemplate:id", "aws:ec2launchtemplate:version"
# An account may hide from EC2's listings what AWS services manage.
_HIDDEN_TOO: dict[str, Any] = {"IncludeManagedResources": True}


@dataclass(frozen=True, kw_only=True)
class Instance:
    """An instance that Batch started.

    Attributes:
        instance_id: Its id.
        name: Its tag ``Name``: the environment's name.
        state: EC2's.
        why: Why it ended; empty where EC2 does not say.
        launched: LaunchTime, seconds since 1970.
        instance_type: Its type.
        zone: Its zone.
        ami_id: Its AMI.
        group: Its Auto Scaling group.
        template_id: The launch template it was started from: Batch's own copy; empty where EC2 does not say.
        template_version: Which version of that.
        volume_id: Its root volume.
    """

    instance_id: str
    name: str
    state: str
    why: str = ""
    launched: float | None = None
    instance_type: str = ""
    zone: str = ""
    ami_id: str = ""
    group: str = ""
    template_id: str = ""
    template_version: str = ""
    volume_id: str = ""


def instances(caller: Caller, run_id: str) -> dict[str, Instance]:
    """Return all instances with the run tag *run_id* that EC2 shows, ended ones too, by id.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    filters = [{"Name": f"tag:{RUN_TAG}", "Values": [run_id]}]
    reservations = caller.pages("ec2", "describe_instances", "Reservations", Filters=filters, **_HIDDEN_TOO)
    with making_sense(f"ec2:DescribeInstances in {caller.region}"):
        rows = [row for reservation in reservations for row in reservation["Instances"]]
        return {str(row["InstanceId"]): _instance(row) for row in rows}


@dataclass(frozen=True, kw_only=True)
class RootDisk:
    """A root volume: its rate, MiB/s or None without one, and whether Fast Snapshot Restore filled it at once."""

    rate_mib_s: int | None
    is_fast_restored: bool


def disks(caller: Caller, volume_ids: Sequence[str]) -> dict[str, RootDisk]:
    """Return those of the volumes that EC2 still shows, by id.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    # A filter leaves out what is gone, where the list of ids would be refused as a whole.
    filters = [{"Name": "volume-id", "Values": list(volume_ids)}]
    rows = caller.pages("ec2", "describe_volumes", "Volumes", Filters=filters, **_HIDDEN_TOO)
    with making_sense(f"ec2:DescribeVolumes in {caller.region}"):
        return {
            str(row["VolumeId"]): RootDisk(
                rate_mib_s=int(row["VolumeInitializationRate"]) if row.get("VolumeInitializationRate") else None,
                is_fast_restored=bool(row.get("FastRestored")),
            )
            for row in rows
        }


def kinds(caller: Caller, volume_ids: Sequence[str]) -> dict[str, str]:
    """Return how EBS fills those volumes of which it says so: ``default``, ``provisioned-rate`` or ``volume-copy``.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    which: dict[str, Any] = {"VolumeIds": list(volume_ids)}
    try:
        rows = list(caller.pages("ec2", "describe_volume_status", "VolumeStatuses", **which, **_HIDDEN_TOO))
    except RefusedError as exc:
        if exc.code != "InvalidVolume.NotFound":
            raise
        # One of them went with its host, and the list is refused as a whole; there is no filter for ids.
        each = [kinds(caller, [one]) for one in volume_ids] if len(volume_ids) > 1 else []
        return {volume: kind for found in each for volume, kind in found.items()}
    with making_sense(f"ec2:DescribeVolumeStatus in {caller.region}"):
        return {
            str(row["VolumeId"]): str(kind)
            for row in rows
            if (kind := (row.get("InitializationStatusDetails") or {}).get("InitializationType"))
        }


def _instance(row: Mapping[str, Any]) -> Instance:
    tags = {one["Key"]: one["Value"] for one in row.get("Tags") or []}
    launched = row.get("LaunchTime")
    roots = [
        str(mapping["Ebs"]["VolumeId"])
        for mapping in row.get("BlockDeviceMappings") or []
        if mapping.get("DeviceName") == row.get("RootDeviceName") and "Ebs" in mapping
    ]
    return Instance(
        instance_id=row["InstanceId"],
        name=tags.get("Name", ""),
        state=row["State"]["Name"],
        why=str((row.get("StateReason") or {}).get("Message") or ""),
        launched=None if launched is None else launched.timestamp(),
        instance_type=str(row.get("InstanceType") or ""),
        zone=str((row.get("Placement") or {}).get("AvailabilityZone") or ""),
        ami_id=str(row.get("ImageId") or ""),
        group=tags.get(GROUP_TAG, ""),
        template_id=tags.get(_COPY_TAG, ""),
        template_version=tags.get(_VERSION_TAG, ""),
        volume_id=next(iter(roots), ""),
    )
