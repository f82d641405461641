"""EC2's capacity for a builder: instance types, the zones that offer them, and vCPU quotas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any, Literal

from gpu_ami.aws.caller import Caller, RefusedError, making_sense
from gpu_ami.errors import AwsError

Market = Literal["on-demand", "spot"]

# By the letters of a type's name: g4dn, g5, gr6, p4d, p5, …; vt1 transcodes video and has none.
_GPU_FAMILIES = ("g", "gr", "p")
# Quotas count vCPUs per class of instance types, on-demand and Spot apart. The letters are in the quotas' own names
# ("Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances"); im4gn and is4gen are storage types of I.
_CLASSES = {
    "standard": ("a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"),
    "g": ("g", "gr", "vt"),
    "p": ("p",),
}
# aws service-quotas list-service-quotas --service-code ec2
_CODES: dict[tuple[str, Market], str] = {
    ("standard", "on-demand"): "L-1216C47A",
    ("standard", "spot"): "L-34B43A08",
    ("g", "on-demand"): "L-DB2E81BA",
    ("g", "spot"): "L-3819A6DF",
    ("p", "on-demand"): "L-417A185B",
    ("p", "spot"): "L-7212CCBC",
}


@dataclass(frozen=True)
class InstanceType:
    """An instance type.

    Attributes:
        name: Such as ``c7i.4xlarge``.
        vcpus: Its vCPUs.
        architectures: Such as ``x86_64``.
        gpus: NVIDIA or other GPUs.
        memory_mib: Its memory; 0 where EC2 does not say.
    """

    name: str
    vcpus: int
    architectures: tuple[str, ...]
    gpus: int
    memory_mib: int = 0


@dataclass(frozen=True)
class Quota:
    """A quota of Service Quotas: its code, name and the value that applies."""

    code: str
    name: str
    value: float


def quota_class(instance_type: str) -> str | None:
    """Return the class by which EC2 counts the vCPUs of a type; None for classes that no builder needs."""
    family = _letters(instance_type)
    return next((name for name, families in _CLASSES.items() if family in families), None)


def has_gpu(instance_type: str) -> bool:
    """Return whether an instance type, by its name, has GPUs."""
    return _letters(instance_type) in _GPU_FAMILIES


def _letters(instance_type: str) -> str:
    return instance_type[: len(instance_type) - len(instance_type.lstrip(ascii_lowercase))]


def quota_code(kind: str, market: Market) -> str:
    """Return the code of the vCPU quota of a class that `quota_class` gave."""
    return _CODES[kind, market]


def instance_types(caller: Caller, names: Iterable[str]) -> dict[str, InstanceType]:
    """Return those of the instance types *names* that the region has, by name.

    Raises:
        AwsError: EC2 refused.
    """
    requested = sorted(set(names))
    # A filter leaves unknown names out, where the list of types would be refused as a whole.
    filters = [{"Name": "instance-type", "Values": requested}]
    doing = f"look up the instance types {', '.join(requested)}"
    rows = caller.pages("ec2", "describe_instance_types", "InstanceTypes", doing=doing, Filters=filters)
    return {row["InstanceType"]: _instance_type(row) for row in rows}


def _instance_type(entry: Mapping[str, Any]) -> InstanceType:
    gpus = entry.get("GpuInfo", {}).get("Gpus", [])
    return InstanceType(
        name=entry["InstanceType"],
        vcpus=int(entry["VCpuInfo"]["DefaultVCpus"]),
        architectures=tuple(entry["ProcessorInfo"]["SupportedArchitectures"]),
        gpus=sum(int(gpu.get("Count", 0)) for gpu in gpus),
        memory_mib=int((entry.get("MemoryInfo") or {}).get("SizeInMiB", 0)),
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


def type_of_instance(caller: Caller, instance_id: str) -> str | None:
    """Return the type of the instance *instance_id*, which EC2 remembers for an hour after its end; else None.

    A query that fails says nothing: a price is not worth a build.
    """
    if not instance_id:
        return None
    try:
        rows = caller.call("ec2", "describe_instances", InstanceIds=[instance_id])
        with making_sense(f"ec2:DescribeInstances in {caller.region}"):
            return next((str(one["InstanceType"]) for row in rows["Reservations"] for one in row["Instances"]), None)
    except AwsError:
        return None


def offered(caller: Caller, zone: str, names: Iterable[str]) -> frozenset[str]:
    """Return those of the instance types *names* that EC2 has in the availability zone *zone*.

    Raises:
        AwsError: EC2 refused.
    """
    filters = [
        {"Name": "location", "Values": [zone]},
        {"Name": "instance-type", "Values": sorted(set(names))},
    ]
    rows = caller.pages(
        "ec2",
        "describe_instance_type_offerings",
        "InstanceTypeOfferings",
        doing=f"look up which instance types {zone} has",
        LocationType="availability-zone",
        Filters=filters,
    )
    return frozenset(row["InstanceType"] for row in rows)


def quota(caller: Caller, code: str) -> Quota | None:
    """Return the EC2 quota *code*; None when the region has none of that code.

    Raises:
        AwsError: Service Quotas refused for another reason.
    """
    request = {"ServiceCode": "ec2", "QuotaCode": code}
    try:
        answer = caller.call("service-quotas", "get_service_quota", doing=f"look up the quota {code}", **request)
    except RefusedError as exc:
        if exc.code == "NoSuchResourceException":
            return None
        raise
    found = answer["Quota"]
    return Quota(code=code, name=found["QuotaName"], value=float(found["Value"]))


def vcpus_in_use(caller: Caller, kind: str, market: Market) -> int:
    """Return how many vCPUs the account's running instances of a quota class use.

    Raises:
        AwsError: EC2 refused.
    """
    types: Counter[str] = Counter()
    total = 0
    for instance in _running(caller):
        is_spot = instance.get("InstanceLifecycle") == "spot"
        if quota_class(instance["InstanceType"]) != kind or is_spot != (market == "spot"):
            continue
        cores = instance.get("CpuOptions", {})
        if "CoreCount" in cores and "ThreadsPerCore" in cores:
            total += int(cores["CoreCount"]) * int(cores["ThreadsPerCore"])
        else:
            types[instance["InstanceType"]] += 1
    known = instance_types(caller, types) if types else {}
    return total + sum(known[name].vcpus * count for name, count in types.items() if name in known)


def _running(caller: Caller) -> Iterator[dict[str, Any]]:
    """Yield EC2's row of each instance that runs or is about to, those that AWS services manage too."""
    reservations = caller.pages(
        "ec2",
        "describe_instances",
        "Reservations",
        doing="count the vCPUs of running instances",
        Filters=[{"Name": "instance-state-name", "Values": ["pending", "running"]}],
        IncludeManagedResources=True,
    )
    return (instance for reservation in reservations for instance in reservation["Instances"])
