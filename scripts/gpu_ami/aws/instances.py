"""Starts one instance that ends by itself, looks at its root volume, and ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError, making_sense
from gpu_ami.errors import AwsError
from gpu_ami.records.tags import RUN_TAG

# Why EC2 ended an instance that it had started (its StateReason), where another place may do.
_ENDED_FOR_ROOM = "Server.InsufficientInstanceCapacity"
_UNKNOWN = "InvalidInstanceID.NotFound"
# So long EC2 may not know the id that its own RunInstances gave: its API is eventually consistent (EC2's API reference,
# "Eventual consistency": retry with waits that grow to some minutes; AWS's own waiters retry this very code).
KNOWN_WITHIN_S = 60.0
_GONE = ("terminated",)
_ENDED_WITHIN_S = 300.0
# Each look is two calls.
_QUERY_EVERY_S = 5.0


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
        public_address: Whether to ask for a public address; without it the subnet's own rule holds.
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
    public_address: bool = False
    profile: str
    root: RootVolume
    tags: Mapping[str, str]
    user_data: str
    token: str

    @property
    def network(self) -> dict[str, Any]:
        """Where EC2 is to put it; a public address is asked for at a network interface only."""
        groups = list(self.security_group_ids)
        if not self.public_address:
            return {"SubnetId": self.subnet_id} | ({"SecurityGroupIds": groups} if groups else {})
        interface = {
            "DeviceIndex": 0,
            "SubnetId": self.subnet_id,
            "AssociatePublicIpAddress": True,
            "DeleteOnTermination": True,
        }
        return {"NetworkInterfaces": [interface | ({"Groups": groups} if groups else {})]}


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


@dataclass(frozen=True, kw_only=True)
class State:
    """The state that an instance is in, as EC2 has it.

    Attributes:
        name: EC2's name of it, such as ``running``.
        why: Why it is in it, in words; empty where EC2 does not say.
        has_no_room: Whether EC2 ended it because there was no capacity for it after all.
    """

    name: str
    why: str = ""
    has_no_room: bool = False


def launch(caller: Caller, wanted: Launch) -> str:
    """Start an instance that is terminated when it switches itself off; return its id.

    Raises:
        RefusedError: EC2 refused; `caller.NO_ROOM` has the codes of where another place may do.
        UnansweredError: Nobody knows whether it was started: the request's token tells when it is sent again.
    """
    tags = [{"Key": key, "Value": value} for key, value in wanted.tags.items()]
    answer = caller.patient().call(
        "ec2",
        "run_instances",
        doing=f"start a {wanted.instance_type} from {wanted.image_id} in {wanted.subnet_id}",
        ImageId=wanted.image_id,
        InstanceType=wanted.instance_type,
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
        **wanted.network,
    )
    with making_sense(f"ec2:RunInstances in {caller.region}"):
        return str(answer["Instances"][0]["InstanceId"])


def of_run(caller: Caller, run: str) -> list[str]:
    """Return the ids of the instances with the run tag *run* that are not terminated.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    filters = [{"Name": f"tag:{RUN_TAG}", "Values": [run]}]
    reservations = caller.pages("ec2", "describe_instances", "Reservations", Filters=filters)
    with making_sense(f"ec2:DescribeInstances in {caller.region}"):
        rows = [row for reservation in reservations for row in reservation["Instances"]]
        return [str(row["InstanceId"]) for row in rows if row["State"]["Name"] not in _GONE]


def state_of(caller: Caller, instance_id: str) -> State | None:
    """Return the instance's state; None when EC2 knows none of that id: not yet, or no longer.

    Raises:
        AwsError: EC2 refused or gave no usable answer.
    """
    row = _row(caller, instance_id)
    if row is None:
        return None
    with making_sense(f"ec2:DescribeInstances in {caller.region}"):
        reason = row.get("StateReason") or {}
        return State(
            name=str(row["State"]["Name"]),
            why=str(reason.get("Message") or row.get("StateTransitionReason") or ""),
            has_no_room=reason.get("Code") == _ENDED_FOR_ROOM,
        )


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

    An id that EC2 does not know is gone only when EC2 knew it before, or after `KNOWN_WITHIN_S`: an instance that has
    just been started may be unknown. Whatever else goes wrong, the network too, is tried again to the end.

    Raises:
        AwsError: EC2 denies it, the credentials are over, or it is still there after five minutes.
    """
    began = clock()
    problem: AwsError | None = None
    was_known = False
    while (waited := clock() - began) < _ENDED_WITHIN_S:
        try:
            caller.patient().call("ec2", "terminate_instances", InstanceIds=[instance_id])
            was_known = True
            state = state_of(caller, instance_id)
            if state is None or state.name in _GONE:
                return
        except AwsError as exc:
            if _code(exc) == _UNKNOWN and (was_known or waited > KNOWN_WITHIN_S):
                return
            if _is_hopeless(exc):
                exc.args = (f"{instance_id} could not be ended: {exc}",)
                raise
            problem = exc
        sleep(_QUERY_EVERY_S)
    msg = f"{instance_id} is still not terminated" + (f": {problem}" if problem else ".")
    raise AwsError(msg)


def _code(exc: AwsError) -> str:
    return exc.code if isinstance(exc, RefusedError) else ""


def _is_hopeless(exc: AwsError) -> bool:
    return isinstance(exc, RefusedError) and exc.is_hopeless


def volumes_of_run(caller: Caller, run: str) -> list[str]:
    """Return the ids of the volumes with the run tag *run*: none once they went with their instance.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    filters = [{"Name": f"tag:{RUN_TAG}", "Values": [run]}]
    rows = caller.pages("ec2", "describe_volumes", "Volumes", Filters=filters)
    with making_sense(f"ec2:DescribeVolumes in {caller.region}"):
        return [str(row["VolumeId"]) for row in rows]


def _row(caller: Caller, instance_id: str) -> Mapping[str, Any] | None:
    """Return EC2's row of an instance; None when EC2 knows none of that id."""
    try:
        answer = caller.call("ec2", "describe_instances", InstanceIds=[instance_id])
    except RefusedError as exc:
        if exc.code == _UNKNOWN:
            return None
        raise
    with making_sense(f"ec2:DescribeInstances in {caller.region}"):
        rows = [row for reservation in answer["Reservations"] for row in reservation["Instances"]]
        return next((row for row in rows if row["InstanceId"] == instance_id), None)
