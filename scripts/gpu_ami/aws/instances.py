"""Starts one instance that ends by itself, looks at its root volume, and ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError, making_sense
from gpu_ami.errors import AwsError

# Where another zone or type may have what this one has not; quotas hold for the whole region.
NO_ROOM = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientFreeAddressesInSubnet",
        "Unsupported",
        "UnfulfillableCapacity",
    }
)
_TOO_NEW = "InvalidInstanceID.NotFound"
_GONE = ("terminated",)
_ENDED_WITHIN_S = 300.0
_QUERY_EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class RootVolume:
    """The root volume that an instance is to have.

    Attributes:
        device: The AMI's root device: under another name it would be a second, empty disk.
        size_gib: Its size; None leaves the AMI's.
        iops: Of gp3; None leaves EC2's default.
        throughput_mib_s: Of gp3; None leaves EC2's default.
        rate_mib_s: The rate at which EBS fills it from the snapshot; None leaves each block to its first touch.
    """

    device: str
    size_gib: int | None = None
    iops: int | None = None
    throughput_mib_s: int | None = None
    rate_mib_s: int | None = None

    @property
    def mapping(self) -> dict[str, Any]:
        """EC2's block device mapping."""
        ebs = {
            "VolumeSize": self.size_gib,
            "Iops": self.iops,
            "Throughput": self.throughput_mib_s,
            "VolumeInitializationRate": self.rate_mib_s,
        }
        given = {name: value for name, value in ebs.items() if value is not None}
        is_gp3 = self.iops is not None or self.throughput_mib_s is not None
        kind = {"VolumeType": "gp3"} if is_gp3 else {}
        return {"DeviceName": self.device, "Ebs": given | kind | {"DeleteOnTermination": True}}


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One instance to start.

    Attributes:
        image_id: Its AMI.
        instance_type: Its type.
        subnet_id: Its subnet, and so its zone.
        security_group_ids: Its security groups; empty leaves the VPC's default one.
        profile: The name of its instance profile.
        root: Its root volume.
        tags: Of the instance and of its volume.
        user_data: What cloud-init runs at its start.
        token: Makes EC2 take the same request, sent twice, for one.
    """

    image_id: str
    instance_type: str
    subnet_id: str
    security_group_ids: tuple[str, ...] = ()
    profile: str
    root: RootVolume
    tags: Mapping[str, str]
    user_data: str
    token: str


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A root volume as EC2 describes it.

    Attributes:
        volume_id: Its id.
        snapshot_id: What it is filled from; empty for one that was made empty.
        size_gib: Its size.
        rate_mib_s: The rate that EC2 took; None without one.
        is_restored: Whether a fast snapshot restore filled it at once.
    """

    volume_id: str
    snapshot_id: str
    size_gib: int
    rate_mib_s: int | None
    is_restored: bool


@dataclass(frozen=True, kw_only=True)
class Initialization:
    """How far EBS is with filling a volume; what it says is up to five minutes old.

    Attributes:
        kind: ``default``, ``provisioned-rate`` or ``volume-copy``; empty while EBS says nothing.
        state: ``initializing`` or ``completed``; empty while EBS says nothing.
        progress: Per cent; None while EBS says nothing.
        left_s: EBS's estimate; None without a rate.
    """

    kind: str = ""
    state: str = ""
    progress: int | None = None
    left_s: int | None = None


def launch(caller: Caller, wanted: Launch) -> str:
    """Start an instance that is terminated when it switches itself off; return its id.

    Raises:
        RefusedError: EC2 refused; `NO_ROOM` has the codes of where another place may do.
        UnansweredError: Nobody knows whether it was started: the request's token tells when it is sent again.
    """
    tags = [{"Key": key, "Value": value} for key, value in wanted.tags.items()]
    groups: dict[str, Any] = {"SecurityGroupIds": list(wanted.security_group_ids)} if wanted.security_group_ids else {}
    answer = caller.patient().call(
        "ec2",
        "run_instances",
        doing=f"start a {wanted.instance_type} from {wanted.image_id} in {wanted.subnet_id}",
        ImageId=wanted.image_id,
        InstanceType=wanted.instance_type,
        SubnetId=wanted.subnet_id,
        MinCount=1,
        MaxCount=1,
        ClientToken=wanted.token,
        IamInstanceProfile={"Name": wanted.profile},
        # EC2's own default is "stop": the volume would stay, and be billed.
        InstanceInitiatedShutdownBehavior="terminate",
        BlockDeviceMappings=[wanted.root.mapping],
        MetadataOptions={"HttpTokens": "required", "HttpEndpoint": "enabled"},
        TagSpecifications=[{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
        UserData=wanted.user_data,
        **groups,
    )
    with making_sense(f"ec2:RunInstances in {caller.region}"):
        return str(answer["Instances"][0]["InstanceId"])


def state_of(caller: Caller, instance_id: str) -> tuple[str, str]:
    """Return EC2's name of the instance's state, and why it is in it; ``terminated`` when EC2 has forgotten it.

    Raises:
        AwsError: EC2 refused or gave no usable answer.
    """
    row = _row(caller, instance_id)
    if row is None:
        return "terminated", ""
    reason = (row.get("StateReason") or {}).get("Message") or row.get("StateTransitionReason") or ""
    with making_sense(f"ec2:DescribeInstances in {caller.region}"):
        return str(row["State"]["Name"]), str(reason)


def root_volume(caller: Caller, instance_id: str) -> Volume:
    """Return the root volume of a running instance.

    Raises:
        AwsError: EC2 refused, or names no root volume.
    """
    row = _row(caller, instance_id) or {}
    with making_sense(f"ec2:DescribeInstances in {caller.region}"):
        roots = [
            mapping["Ebs"]["VolumeId"]
            for mapping in row.get("BlockDeviceMappings") or []
            if mapping["DeviceName"] == row["RootDeviceName"] and "Ebs" in mapping
        ]
    if not roots:
        msg = f"ec2:DescribeInstances in {caller.region} names no root volume of {instance_id}."
        raise UnansweredError(msg)
    answer = caller.call("ec2", "describe_volumes", VolumeIds=roots)
    with making_sense(f"ec2:DescribeVolumes in {caller.region}"):
        (volume,) = answer["Volumes"]
        return Volume(
            volume_id=str(volume["VolumeId"]),
            snapshot_id=str(volume.get("SnapshotId") or ""),
            size_gib=int(volume["Size"]),
            rate_mib_s=int(volume["VolumeInitializationRate"]) if volume.get("VolumeInitializationRate") else None,
            is_restored=bool(volume.get("FastRestored")),
        )


def initialization(caller: Caller, volume_id: str) -> Initialization:
    """Return how far EBS says it is with filling a volume.

    Raises:
        AwsError: EC2 refused or gave no usable answer.
    """
    answer = caller.call("ec2", "describe_volume_status", VolumeIds=[volume_id])
    with making_sense(f"ec2:DescribeVolumeStatus in {caller.region}"):
        (row,) = answer["VolumeStatuses"]
        details = row.get("InitializationStatusDetails") or {}
        states = {detail["Name"]: detail["Status"] for detail in row["VolumeStatus"].get("Details") or []}
        return Initialization(
            kind=str(details.get("InitializationType") or ""),
            state=str(states.get("initialization-state") or ""),
            progress=int(details["Progress"]) if "Progress" in details else None,
            left_s=int(details["EstimatedTimeToCompleteInSeconds"])
            if "EstimatedTimeToCompleteInSeconds" in details
            else None,
        )


def terminate(
    caller: Caller,
    instance_id: str,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Terminate an instance and wait until it is gone; one that is gone already is a success.

    Raises:
        AwsError: EC2 refused to the end, or it is still there after five minutes.
    """
    deadline = clock() + _ENDED_WITHIN_S
    problem: AwsError | None = None
    while clock() < deadline:
        try:
            caller.patient().call("ec2", "terminate_instances", InstanceIds=[instance_id])
            if state_of(caller, instance_id)[0] in _GONE:
                return
        except RefusedError as exc:
            if exc.code == _TOO_NEW:
                return
            problem = exc
            if exc.is_denied:
                raise
        sleep(_QUERY_EVERY_S)
    msg = f"{instance_id} is still not terminated" + (f": {problem}" if problem else ".")
    raise AwsError(msg)


def volume_is_gone(caller: Caller, volume_id: str) -> bool:
    """Return whether a volume is gone, as one that ends with its instance should be.

    Raises:
        AwsError: EC2 refused or gave no usable answer.
    """
    try:
        caller.call("ec2", "describe_volumes", VolumeIds=[volume_id])
    except RefusedError as exc:
        if exc.code == "InvalidVolume.NotFound":
            return True
        raise
    return False


def _row(caller: Caller, instance_id: str) -> Mapping[str, Any] | None:
    """Return EC2's row of an instance; None when EC2 knows none of that id."""
    try:
        answer = caller.call("ec2", "describe_instances", InstanceIds=[instance_id])
    except RefusedError as exc:
        if exc.code == _TOO_NEW:
            return None
        raise
    with making_sense(f"ec2:DescribeInstances in {caller.region}"):
        rows = [row for reservation in answer["Reservations"] for row in reservation["Instances"]]
        return next((row for row in rows if row["InstanceId"] == instance_id), None)
