"""Lists the regions that the account can use, and the services that AWS offers in each."""

from __future__ import annotations

from collections.abc import Sequence

from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError, making_sense
from gpu_ami.errors import UsageError
from gpu_ami.records.tags import REGION

# What stands for every region that an account has.
ALL = "all"

_SERVICES = "/aws/service/global-infrastructure/services"
# The list can be read in some regions only; where not, this one answers for all of the partition "aws".
_LISTED_IN = "us-east-1"
_OTHER_PARTITIONS = ("cn-", "us-gov-", "us-iso", "eu-isoe-", "eusc-")


def requested_regions(arguments: Sequence[str]) -> list[str]:
    """Return the regions of *arguments*, each once, or ``all`` alone; this much needs no credentials.

    Raises:
        UsageError: An argument is not a region.
    """
    requested = [region for argument in arguments for region in argument.split(",") if region]
    wrong = [region for region in requested if REGION.fullmatch(region) is None]
    if wrong and requested != [ALL]:
        msg = f"--regions {wrong[0]!r} is not an AWS region: give some such as ap-northeast-2,us-east-1, or all."
        raise UsageError(msg)
    return list(dict.fromkeys(requested))


def enabled_regions(caller: Caller) -> list[str]:
    """Return the regions that the account can use.

    Raises:
        AwsError: EC2 refused or gave no usable answer.
    """
    names = [str(row["RegionName"]) for row in caller.pages("ec2", "describe_regions", "Regions")]
    if not names:
        msg = "ec2:DescribeRegions names no region: the answer is cut off."
        raise UnansweredError(msg)
    return sorted(names)


# How EC2 says that an account may not use a region; whatever else it says, being switched on or off included, is on.
_OFF = "not-opted-in"


def regions_by_state(caller: Caller) -> tuple[list[str], list[str]]:
    """Return the regions that the account can use, and those that are switched off for it.

    Off is not empty: to switch a region off takes away access alone; what was launched there goes on.

    Raises:
        AwsError: EC2 refused or gave no usable answer.
    """
    with making_sense("ec2:DescribeRegions"):
        rows = list(caller.pages("ec2", "describe_regions", "Regions", AllRegions=True))
        states = {str(row["RegionName"]): str(row["OptInStatus"]) for row in rows}
    on = sorted(name for name, state in states.items() if state != _OFF)
    if not on:
        msg = "ec2:DescribeRegions names no region that is on: the answer is cut off."
        raise UnansweredError(msg)
    return on, sorted(set(states) - set(on))


def has_service(caller: Caller, service: str) -> bool:
    """Return whether AWS's public list says that the caller's region has *service*.

    The list is the only proof: a name that does not resolve or a refused connection may be this machine's fault.

    Raises:
        AwsError: The list could not be read, or is empty.
    """
    path = f"{_SERVICES}/{service}/regions"
    try:
        regions = _listed(caller, path)
    except RefusedError as exc:
        if exc.is_denied:
            raise
        regions = set()
    if not regions and not caller.region.startswith(_OTHER_PARTITIONS):
        regions = _listed(caller.elsewhere(_LISTED_IN), path)
    if not regions:
        msg = f"The public list {path} is empty: it does not say where {service} is."
        raise UnansweredError(msg)
    return caller.region in regions


def _listed(caller: Caller, path: str) -> set[str]:
    rows = caller.pages("ssm", "get_parameters_by_path", "Parameters", Path=path, MaxResults=10)
    return {str(row.get("Value")) for row in rows}
