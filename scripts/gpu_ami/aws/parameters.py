"""Reads and writes one SSM parameter, and reads it back until it shows what was written."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gpu_ami.aws.caller import Caller, RefusedError, making_sense
from gpu_ami.errors import AwsError

# Parameter Store checks that such a value is an AMI that the caller may see.
IMAGE = "aws:ec2:image"
_STACK_TAG = "aws:cloudformation:stack-name"
_ABSENT = frozenset({"ParameterNotFound", "ParameterVersionNotFound"})
WITHIN_S = 60.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 4.0


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter as SSM shows it; the value of a SecureString is its ciphertext."""

    name: str
    value: str
    type: str
    data_type: str
    version: int


def read(caller: Caller, name: str) -> Parameter | None:
    """Return the parameter *name*; None when there is none.

    Raises:
        AwsError: SSM refused or gave no usable answer.
    """
    try:
        answer = caller.call("ssm", "get_parameter", Name=name)
    except RefusedError as exc:
        if exc.code in _ABSENT:
            return None
        raise
    with making_sense(f"ssm:GetParameter in {caller.region}"):
        row = answer["Parameter"]
        return Parameter(
            name=row["Name"],
            value=row["Value"],
            type=row["Type"],
            data_type=row.get("DataType") or "text",
            version=int(row["Version"]),
        )


def owning_stack(caller: Caller, name: str) -> str | None:
    """Return the CloudFormation stack in the parameter's tags; None without one, or where tags may not be read.

    Raises:
        AwsError: SSM gave no usable answer.
    """
    try:
        answer = caller.call("ssm", "list_tags_for_resource", ResourceType="Parameter", ResourceId=name)
    except RefusedError as exc:
        if exc.is_denied:
            return None
        raise
    with making_sense(f"ssm:ListTagsForResource in {caller.region}"):
        return next((tag["Value"] for tag in answer["TagList"] if tag["Key"] == _STACK_TAG), None)


def put_image(caller: Caller, name: str, ami: str, *, exists: bool, tags: Mapping[str, str]) -> int:
    """Request that SSM set the parameter *name* to *ami* and return the version that this will be.

    SSM answers before it has validated the AMI, and drops the value in silence when it cannot find it: see `wait_for`.

    Args:
        caller: The region.
        name: The parameter.
        ami: The AMI id.
        exists: Whether it is overwritten.
        tags: For a new one.

    Raises:
        AwsError: SSM refused or gave no usable answer.
    """
    more = {"Overwrite": True} if exists else {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
    try:
        answer = caller.call("ssm", "put_parameter", Name=name, Value=ami, Type="String", DataType=IMAGE, **more)
    except RefusedError as exc:
        # Ours after an answer that was lost, or somebody else's: reading it back tells.
        if exc.code == "ParameterAlreadyExists":
            return 1
        raise
    with making_sense(f"ssm:PutParameter in {caller.region}"):
        return int(answer["Version"])


def wait_for(
    caller: Caller,
    name: str,
    ami: str,
    version: int,
    *,
    within_s: float = WITHIN_S,
    sleep: Callable[[float], None] = time.sleep,
) -> Parameter:
    """Return the parameter once it shows *ami*, as *version* or a later one.

    Raises:
        AwsError: It does not, or shows what somebody else has put; the error says what it shows.
    """
    waited_s, pause_s = 0.0, _FIRST_PAUSE_S
    while True:
        found = read(caller, name)
        if found is not None and found.version >= version:
            if found.value == ami:
                return found
            shown = f"{found.value[:60]} meanwhile, as version {found.version}"
            msg = f"Somebody else set {name} in {caller.region} to {shown}: ask them, then publish again."
            raise AwsError(msg)
        if waited_s >= within_s:
            shown = "is not there" if found is None else f"still shows {found.value[:60]}"
            msg = (
                f"SSM took {ami} for {name} in {caller.region}, but after {within_s:.0f} s the parameter {shown}: "
                f"it drops in silence what it cannot check as {IMAGE}. Allow ec2:DescribeImages and ssm:GetParameters."
            )
            raise AwsError(msg)
        sleep(pause_s)
        waited_s += pause_s
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


def value_of(caller: Caller, name: str) -> str | None:
    """Return the value of the SSM parameter *name*; None when there is none.

    Raises:
        AwsError: SSM refused.
    """
    try:
        answer = caller.call("ssm", "get_parameter", doing=f"read the parameter {name}", Name=name)
    except RefusedError as exc:
        if exc.code in _ABSENT:
            return None
        raise
    return str(answer["Parameter"]["Value"])
