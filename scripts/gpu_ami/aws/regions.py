"""Which regions there are, and which services each of them has."""

from __future__ import annotations

from gpu_ami.aws.calls import Caller, UnansweredError

_SERVICES = "/aws/service/global-infrastructure/services"


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


def has_service(caller: Caller, service: str) -> bool:
    """Return whether AWS's public list says that the caller's region has *service*.

    The list is the only proof: a name that does not resolve or a refused connection may be this machine's fault.

    Raises:
        AwsError: The list could not be read, or is empty.
    """
    path = f"{_SERVICES}/{service}/regions"
    rows = caller.pages("ssm", "get_parameters_by_path", "Parameters", Path=path, MaxResults=10)
    regions = {str(row.get("Value")) for row in rows}
    if not regions:
        msg = f"The public list {path} is empty: it does not say where {service} is."
        raise UnansweredError(msg)
    return caller.region in regions
