"""Tests the permissions of the credentials and the builder's role: by IAM's simulator, or by EC2 dry runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gpu_ami.aws.caller import Caller, RefusedError
from gpu_ami.aws.sts import Identity

Answer = Literal["allowed", "denied", "unknown"]

_ROLE = re.compile(r"arn:(?P<partition>[a-z-]+):sts::(?P<account>\d+):assumed-role/(?P<name>[^/]+)/.+")
# Who may not call IAM at all, and principals that it cannot simulate (root, federated users).
_NOT_SIMULATED = ("AccessDenied", "AccessDeniedException", "NoSuchEntity", "InvalidInput", "UnsupportedOperation")
_DENIED = "UnauthorizedOperation"
# What the amazon plugin launches, as a dry run, to see a temporary profile through EC2's eyes.
PROFILE_TRIAL_TYPE = "t3.nano"
# Well formed, and nobody's: a dry run changes nothing, and with these there is nothing to change either.
_NOBODYS = "00000000000000000"


@dataclass(frozen=True)
class Launch:
    """The parameters of a launch, for a dry run.

    Attributes:
        image_id: The base AMI.
        subnet_id: The builder's subnet.
        vpc_id: Its VPC.
        instance_type: The builder's type.
        profile: Its instance profile; empty for none.
        volume_gib: Its root volume, GiB.
        tags: What the builder will be tagged with: policies may insist.
    """

    image_id: str
    subnet_id: str
    vpc_id: str
    instance_type: str
    profile: str
    volume_gib: int
    tags: Mapping[str, str]


def principal(caller: Caller, who: Identity) -> str | None:
    """Return the user or role that IAM can simulate for *who*; None for root, which may everything, and others.

    A session's ARN has no path of its role: IAM is queried for the role's, and where it may not be, the bare name is
    taken, which is right for roles without a path.
    """
    match = _ROLE.fullmatch(who.arn)
    if match is None:
        return who.arn if ":user/" in who.arn else None
    name = match["name"]
    try:
        return str(caller.call("iam", "get_role", doing=f"look up the role {name}", RoleName=name)["Role"]["Arn"])
    except RefusedError as exc:
        if exc.code not in _NOT_SIMULATED:
            raise
    return f"arn:{match['partition']}:iam::{match['account']}:role/{match['name']}"


def simulate(
    caller: Caller, arn: str, actions: Iterable[str], resource: str, context: Mapping[str, Sequence[str]]
) -> dict[str, Answer] | None:
    """Return IAM's answer for each action on *resource*; None where IAM may not be called or does not know *arn*.

    A simulation sees the principal's policies, its boundary and the organization's. What no statement allows is
    "unknown" where a condition requires more than *context* has.

    Args:
        caller: Calls IAM.
        arn: A user or role.
        actions: Such as ``ec2:RunInstances``.
        resource: ARN, or ``*``.
        context: What the request would have for the condition keys of a policy.

    Raises:
        AwsError: IAM refused for another reason.
    """
    request: dict[str, Any] = {
        "PolicySourceArn": arn,
        "ActionNames": sorted(actions),
        "ResourceArns": [resource],
        "ContextEntries": [
            {
                "ContextKeyName": key,
                "ContextKeyType": "string" if len(values) == 1 else "stringList",
                "ContextKeyValues": list(values),
            }
            for key, values in context.items()
        ],
    }
    doing = f"simulate the permissions of {arn}"
    listing = ("iam", "simulate_principal_policy", "EvaluationResults")
    try:
        rows = list(caller.pages(*listing, page_key="Marker", doing=doing, **request))
    except RefusedError as exc:
        if exc.code in _NOT_SIMULATED:
            return None
        raise
    return {row["EvalActionName"]: _simulated(row) for row in rows}


def _simulated(row: Mapping[str, Any]) -> Answer:
    if row["EvalDecision"] == "allowed":
        return "allowed"
    return "unknown" if row["EvalDecision"] == "implicitDeny" and row.get("MissingContextValues") else "denied"


def dry_run(caller: Caller, action: str, launch: Launch, about: str = "") -> Answer:
    """Return what a dry run says of the EC2 *action*; "unknown" for what cannot be tried without a real object.

    EC2 answers ``DryRunOperation`` or ``UnauthorizedOperation``. It may also say that an object is not there before
    it checks permissions, which decides nothing; nor does a refusal about nobody's object, which has no tags, unless
    something denies the action outright.

    Args:
        caller: Calls EC2.
        action: Such as ``ec2:RunInstances``.
        launch: The parameters of a launch.
        about: Id of what would be tagged, nobody's; empty for an instance's.

    Raises:
        AwsError: EC2 could not be reached.
    """
    service, _, operation = action.partition(":")
    request = _REQUESTS.get(operation)
    if service != "ec2" or (request is None and not operation.startswith("Describe")):
        return "unknown"
    method = re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
    tagged = {"Resources": [about]} if about and operation == "CreateTags" else {}
    parameters = (request(launch) if request else {}) | tagged
    try:
        caller.call("ec2", method, doing=f"try {action}", **parameters, DryRun=True)
    except RefusedError as exc:
        if exc.code == "DryRunOperation":
            return "allowed"
        is_proof = operation not in _ABOUT_NOTHING or exc.is_explicit
        return "denied" if exc.code == _DENIED and is_proof else "unknown"
    return "unknown"


def try_profile(caller: Caller, image_id: str) -> RefusedError | None:
    """Make the dry run by which Packer finds out whether EC2 knows its temporary instance profile.

    A t3.nano of the base AMI in no subnet and without tags, whatever the builder will be (``StepIamInstanceProfile`` of
    the amazon plugin 1.8.1 and 1.8.2); here without a profile, which is not made yet.

    Args:
        caller: Calls EC2.
        image_id: The base AMI.

    Returns:
        What EC2 says against it; None where it would launch.

    Raises:
        AwsError: EC2 could not be reached.
    """
    launch: dict[str, Any] = {"ImageId": image_id, "InstanceType": PROFILE_TRIAL_TYPE, "MinCount": 1, "MaxCount": 1}
    try:
        caller.call("ec2", "run_instances", doing=f"try a launch of {image_id}", **launch, DryRun=True)
    except RefusedError as exc:
        return None if exc.code == "DryRunOperation" else exc
    return None


def role_of_profile(caller: Caller, name: str) -> str | None:
    """Return the ARN of the role in the instance profile *name*; empty when it holds none, None when there is no such.

    Raises:
        AwsError: IAM refused for another reason.
    """
    doing = f"look up the instance profile {name}"
    try:
        answer = caller.call("iam", "get_instance_profile", doing=doing, InstanceProfileName=name)
    except RefusedError as exc:
        if exc.code == "NoSuchEntity":
            return None
        raise
    roles: Sequence[Mapping[str, Any]] = answer["InstanceProfile"]["Roles"]
    return str(roles[0]["Arn"]) if roles else ""


def _tags(launch: Launch) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in launch.tags.items()]


def _tagged(launch: Launch, *kinds: str) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": _tags(launch)} for kind in kinds]


def _run_instances(launch: Launch) -> dict[str, Any]:
    profile = {"IamInstanceProfile": {"Name": launch.profile}} if launch.profile else {}
    disk = {"VolumeType": "gp3", "VolumeSize": launch.volume_gib, "Encrypted": True, "DeleteOnTermination": True}
    return {
        "ImageId": launch.image_id,
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": disk}],
        "InstanceType": launch.instance_type,
        "SubnetId": launch.subnet_id,
        "MinCount": 1,
        "MaxCount": 1,
        "MetadataOptions": {"HttpTokens": "required"},
        "TagSpecifications": _tagged(launch, "instance", "network-interface", "volume"),
        **profile,
    }


def _instance(_launch: Launch) -> dict[str, Any]:
    return {"InstanceIds": [f"i-{_NOBODYS}"]}


_REQUESTS: dict[str, Callable[[Launch], dict[str, Any]]] = {
    "RunInstances": _run_instances,
    "StopInstances": _instance,
    "TerminateInstances": _instance,
    "CreateTags": lambda launch: {"Resources": [f"i-{_NOBODYS}"], "Tags": _tags(launch)},
    "CreateKeyPair": lambda launch: {
        "KeyName": "gpu-ami-doctor",
        "KeyType": "ed25519",
        "TagSpecifications": _tagged(launch, "key-pair"),
    },
    "DeleteKeyPair": lambda _launch: {"KeyName": "gpu-ami-doctor"},
    "CreateSecurityGroup": lambda launch: {
        "GroupName": "gpu-ami-doctor",
        "Description": "dry run",
        "VpcId": launch.vpc_id,
        "TagSpecifications": _tagged(launch, "security-group"),
    },
    "CreateImage": lambda launch: {
        "InstanceId": f"i-{_NOBODYS}",
        "Name": "gpu-ami-doctor",
        "TagSpecifications": _tagged(launch, "image", "snapshot"),
    },
    "ModifyImageAttribute": lambda _launch: {
        "ImageId": f"ami-{_NOBODYS}",
        "Description": {"Value": "dry run"},
    },
    "DeregisterImage": lambda _launch: {"ImageId": f"ami-{_NOBODYS}"},
    "DeleteSnapshot": lambda _launch: {"SnapshotId": f"snap-{_NOBODYS}"},
}
# Those that are tried on something that is not there.
_ABOUT_NOTHING = frozenset(_REQUESTS) - {"RunInstances", "CreateKeyPair", "CreateSecurityGroup"}
