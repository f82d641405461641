"""What a bench makes: its arms, its rounds, and how many of them there is room for at once; pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, get_args

from gpu_ami.errors import AwsError, UsageError
from gpu_ami.measure.timeline import Arm, Expected
from gpu_ami.records.tags import (
    BEGAN_TAG,
    BENCH_NAME,
    FAMILY_TAG,
    MAY_TAKE_TAG,
    PIPELINE,
    PIPELINE_TAG,
    RUN_TAG,
)
from gpu_ami.units import show_count

ARMS: tuple[Arm, ...] = get_args(Arm)
# Rated volumes at a time: production's launches need the Region's 5,000 MiB/s, too.
MOST_RATED = 8
REGION_MIB_S = 5000
# What `rated` takes where the live template has no rate: EC2's fastest.
FASTEST_MIB_S = 300
# How long each thing may last, each as a dead man's switch: the job, the wait for its capacity, the host.
JOB_S = 45 * 60
STUCK_S = 20 * 60
POWER_OFF_MIN = 75
# Of the live template, what makes its hosts start as they do; the rest is the environment's, or the bench's own.
KEPT = ("CpuOptions", "EbsOptimized", "MetadataOptions", "Monitoring", "NetworkInterfaces")
KEPT_OF_ROOT = ("Encrypted", "Iops", "KmsKeyId", "Throughput", "VolumeType")
# What the bench itself waits for hosts, and for what it takes away afterwards.
HOSTS_WITHIN_MIN = 60
TEARDOWN_MIN = 25
# Until the environments of a wave are VALID, and then its queues.
MAKING_MIN = 10


@dataclass(frozen=True, kw_only=True)
class ArmPlan:
    """What the hosts of one arm are.

    Attributes:
        arm: The arm.
        ami_id: Their AMI.
        is_baked: Whether it holds the container image.
        image: The container image, by digest.
        rate_mib_s: The rate of their launch template.
        data_gib: Data in the AMI's snapshots: what EBS bills at a rate.
        template: The name of their launch template.
        definition: The name of their job definition: one for each image.
    """

    arm: Arm
    ami_id: str
    is_baked: bool
    image: str
    rate_mib_s: int | None
    data_gib: float
    template: str
    definition: str

    @property
    def digest(self) -> str:
        """The image's digest."""
        return self.image.partition("@")[2]


@dataclass(frozen=True, kw_only=True)
class Place:
    """A subnet: all hosts of a round are in one.

    Attributes:
        subnet_id: Its id.
        zone: Its zone.
        addresses: How many hosts it has room for.
    """

    subnet_id: str
    zone: str
    addresses: int


@dataclass(frozen=True, kw_only=True)
class Room:
    """How much is free of what a bench needs.

    Attributes:
        environments: Of the Region's 50 compute environments.
        queues: Of its 50 job queues.
        vcpus: Of the quota of the type's class; None where EC2 has none for it.
    """

    environments: int
    queues: int
    vcpus: int | None


@dataclass(frozen=True, kw_only=True)
class HostPlan:
    """One host that is to be.

    Attributes:
        name: Of its environment, its queue and its job.
        arm: Its arm.
        round: Its round, from 1 on.
        place: Where.
        expected: What it has to be.
    """

    name: str
    arm: ArmPlan
    round: int
    place: Place
    expected: Expected


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The type of all hosts.

    Attributes:
        name: Its name.
        vcpus: Its vCPUs, by which EC2's quota and Batch's environments count.
        gpus: Its GPUs.
        memory_mib: Its memory in MiB.
        job_vcpus: What the live template's CpuOptions leave of the vCPUs for a job; None leaves all.
    """

    name: str
    vcpus: int
    gpus: int
    memory_mib: int
    job_vcpus: int | None = None


@dataclass(frozen=True, kw_only=True)
class Root:
    """The root volume of all hosts: its device by AMI, its size in GiB, and what else the live template says of it."""

    devices: Mapping[str, str]
    size_gib: int
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One bench that is decided on.

    Attributes:
        run_id: Its run.
        region: Where.
        account: Whose.
        family: Of which AMIs.
        ami_id: The AMI that it is about.
        machine: The type of all hosts.
        root: Their root volume.
        live_rate_mib_s: The rate of the live template.
        live_ami: The AMI that is live; None where the environment names none.
        arms: The arms.
        waves: Hosts that are there at one time, in whole rounds and in the order of submission.
        limit: Why a wave has no more rounds.
        began: When it began, by AWS's clock.
        may_take_min: When everything of it is over, whatever happens, minutes after that.
        profile: The instance profile.
        security_group_ids: The security groups.
        image_type: Batch's kind of AMI.
        template: The live template's data, without what the bench sets itself.
        container: What the definition says of the container, but for its image.
    """

    run_id: str
    region: str
    account: str
    family: str
    ami_id: str
    machine: Machine
    root: Root
    live_rate_mib_s: int | None
    live_ami: str | None
    arms: tuple[ArmPlan, ...]
    waves: tuple[tuple[HostPlan, ...], ...]
    limit: str
    began: datetime
    may_take_min: int
    profile: str
    security_group_ids: tuple[str, ...]
    image_type: str
    template: Mapping[str, Any] = field(default_factory=dict)
    container: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hosts(self) -> tuple[HostPlan, ...]:
        """All hosts."""
        return tuple(host for wave in self.waves for host in wave)

    @property
    def tags(self) -> dict[str, str]:
        """The tags of all that is made."""
        return tags_of(self.run_id, self.family, self.began, self.may_take_min)

    @property
    def log_group(self) -> str:
        """Where the jobs' lines go; empty for Batch's own."""
        options = (self.container.get("logConfiguration") or {}).get("options") or {}
        return str(options.get("awslogs-group") or "")


def tags_of(run_id: str, family: str, began: datetime, may_take_min: int) -> dict[str, str]:
    """Return the tags of all that a bench makes."""
    return {
        PIPELINE_TAG: PIPELINE,
        FAMILY_TAG: family,
        RUN_TAG: run_id,
        BEGAN_TAG: began.strftime("%Y-%m-%dT%H:%M:%SZ"),
        MAY_TAKE_TAG: str(may_take_min),
    }


def prefix_of(run_id: str) -> str:
    """Return what the names of all that a bench makes begin with."""
    return f"{BENCH_NAME}{run_id.rpartition('-')[2]}"


def check_arms(wanted: Sequence[str]) -> None:
    """Refuse arms that no bench has, and arms without the baked AMI; none at all are all that there can be.

    Raises:
        UsageError: One is not known, or none is of the baked AMI.
    """
    unknown = [name for name in wanted if name not in ARMS]
    if unknown:
        msg = f"--arms {unknown[0]!r} is no arm of a bench: give some of {', '.join(ARMS)}."
        raise UsageError(msg)
    if wanted and not {"plain", "rated"} & {*wanted}:
        msg = f"--arms {','.join(wanted)} has no hosts of the baked AMI: add plain or rated."
        raise UsageError(msg)


def chosen_arms(wanted: Sequence[str], *, ami_id: str, live_ami: str | None) -> tuple[Arm, ...]:
    """Return the arms in their fixed order; without any wanted all that there can be.

    Raises:
        UsageError: One is not known, or cannot be.
    """
    check_arms(wanted)
    has_other = live_ami is not None and live_ami != ami_id
    if "live" in wanted and not has_other:
        why = f"{ami_id} itself is live" if live_ami else "no AMI is live"
        msg = f"There can be no arm live: {why}. Leave it out of --arms."
        raise UsageError(msg)
    return tuple(arm for arm in ARMS if (arm in wanted if wanted else arm != "live" or has_other))


def rounds_at_once(arms: Sequence[ArmPlan], places: Sequence[Place], machine: Machine, room: Room) -> tuple[int, str]:
    """Return how many rounds may be under way at one time, and what the limit is, in words.

    Raises:
        AwsError: There is not even room for one.
    """
    hosts, rated = len(arms), [arm.rate_mib_s for arm in arms if arm.rate_mib_s]
    limits = [
        (room.environments // hosts, f"{room.environments} of 50 compute environments are free"),
        (room.queues // hosts, f"{room.queues} of 50 job queues are free"),
        (
            min(place.addresses for place in places) // hosts,
            f"a subnet has {min(place.addresses for place in places)} addresses left",
        ),
    ]
    if room.vcpus is not None:
        vcpus = machine.vcpus * hosts
        limits.append((room.vcpus // vcpus, f"{room.vcpus} vCPUs of the quota are free, and a round needs {vcpus}"))
    if rated:
        limits.append((MOST_RATED // len(rated), f"at most {MOST_RATED} hosts with a rate at a time"))
        limits.append((REGION_MIB_S // sum(rated), f"EBS fills volumes at {REGION_MIB_S} MiB/s in all of a Region"))
    count, why = min(limits, key=lambda limit: limit[0])
    if count < 1:
        msg = f"There is no room for a round of {show_count(hosts, 'host')}: {why}. Free some, or give fewer --arms."
        raise AwsError(msg)
    return count, why


def waves(
    run_id: str, arms: Sequence[ArmPlan], places: Sequence[Place], machine: Machine, *, rounds: int, at_once: int
) -> tuple[tuple[HostPlan, ...], ...]:
    """Return the hosts in waves of whole rounds; each round is in one subnet, and another arm is submitted first."""
    every = [
        tuple(_round(run_id, arms, places[(number - 1) % len(places)], machine, number))
        for number in range(1, rounds + 1)
    ]
    count = math.ceil(rounds / at_once)
    size = math.ceil(rounds / count)
    return tuple(tuple(host for hosts in every[at : at + size] for host in hosts) for at in range(0, len(every), size))


def _round(run_id: str, arms: Sequence[ArmPlan], place: Place, machine: Machine, number: int) -> Iterator[HostPlan]:
    first = (number - 1) % len(arms)
    for arm in (*arms[first:], *arms[:first]):
        yield HostPlan(
            name=f"{prefix_of(run_id)}-{number}-{arm.arm}",
            arm=arm,
            round=number,
            place=place,
            expected=Expected(
                ami_id=arm.ami_id,
                is_baked=arm.is_baked,
                digest=arm.digest,
                rate_mib_s=arm.rate_mib_s,
                instance_type=machine.name,
            ),
        )


def longest_min(wave_count: int) -> int:
    """Return how many minutes a bench of so many waves takes at most, its teardown included."""
    return wave_count * (MAKING_MIN + HOSTS_WITHIN_MIN + TEARDOWN_MIN)


def may_take_min(wave_count: int) -> int:
    """Return after how many minutes everything of a bench is over, whatever happens."""
    return longest_min(wave_count) + POWER_OFF_MIN


def template_data(plan: Plan, arm: ArmPlan, user_data: str) -> dict[str, Any]:
    """Return the launch template of an arm: the live one's, with the bench's disk, rate, tags and end."""
    volume = {
        "VolumeType": "gp3",
        **plan.root.more,
        "VolumeSize": plan.root.size_gib,
        "VolumeInitializationRate": arm.rate_mib_s,
        "DeleteOnTermination": True,
    }
    tags = [{"Key": key, "Value": value} for key, value in {**plan.tags, "Name": plan.run_id}.items()]
    return {
        **plan.template,
        "BlockDeviceMappings": [
            {
                # Under another name than the AMI's root it would be a second, empty disk.
                "DeviceName": plan.root.devices[arm.ami_id],
                "Ebs": {key: value for key, value in volume.items() if value is not None},
            }
        ],
        "UserData": user_data,
        "InstanceInitiatedShutdownBehavior": "terminate",
        # Those of instances are the environment's, which reach EC2 by themselves.
        "TagSpecifications": [{"ResourceType": "volume", "Tags": tags}],
    }


def container(plan: Plan, arm: ArmPlan, command: Sequence[str], models: Sequence[str]) -> dict[str, Any]:
    """Return the container of an arm's definition: production's, with the probe, on all of the host."""
    given = dict(plan.container)
    points = list(given.get("mountPoints") or [])
    mounted = {point.get("containerPath") for point in points}
    new = [path for path in models if path not in mounted]
    names = [f"{BENCH_NAME}{number}" for number in range(len(new))]
    given["volumes"] = [
        *(given.get("volumes") or []),
        *({"name": name, "host": {"sourcePath": path}} for name, path in zip(names, new, strict=True)),
    ]
    given["mountPoints"] = [
        *points,
        *(
            {"sourceVolume": name, "containerPath": path, "readOnly": True}
            for name, path in zip(names, new, strict=True)
        ),
    ]
    vcpus = plan.machine.job_vcpus or plan.machine.vcpus
    needs = {"VCPU": vcpus, "MEMORY": _memory_mib(plan.machine), "GPU": plan.machine.gpus}
    given["resourceRequirements"] = [{"type": kind, "value": str(value)} for kind, value in needs.items() if value]
    return {key: value for key, value in given.items() if value} | {"image": arm.image, "command": list(command)}


def _memory_mib(machine: Machine) -> int:
    """Return what a job may have beside the agent and the kernel: all vCPUs are taken, so it is alone anyway."""
    return max(1024, int(machine.memory_mib * 0.8))
