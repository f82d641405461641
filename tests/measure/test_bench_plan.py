"""What a bench makes: arms, rounds, and no more at a time than there is room for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import pytest

from gpu_ami.errors import AwsError, UsageError
from gpu_ami.measure import bench_plan, probe
from gpu_ami.measure.bench_plan import ArmPlan, Machine, Place, Plan, Room, Root
from gpu_ami.measure.bench_price import Transfer, price_of
from gpu_ami.measure.timeline import Arm

RUN = "bench-20261130T120000Z-abc123"
MACHINE = Machine(name="g5.xlarge", vcpus=4, gpus=1, memory_mib=16384)
PLACES = (
    Place(subnet_id="subnet-1", zone="r-1a", addresses=100),
    Place(subnet_id="subnet-2", zone="r-1b", addresses=90),
)
ROOM = Room(environments=50, queues=50, vcpus=400)
IMAGE = "1.dkr.ecr.r.amazonaws.com/app@sha256:" + "a" * 64


def arm(name: Arm, rate: int | None = None, **more: Any) -> ArmPlan:
    """Return an arm."""
    given: dict[str, Any] = {
        "arm": name,
        "ami_id": f"ami-{name}",
        "is_baked": name != "stock",
        "image": IMAGE,
        "rate_mib_s": rate,
        "data_gib": 30.0,
        "template": f"gpu-ami-bench-abc123-{name}",
        "definition": "gpu-ami-bench-abc123",
    } | more
    return ArmPlan(**given)


ARMS = (arm("stock"), arm("plain"), arm("rated", 300))


def plan(arms: Sequence[ArmPlan] = ARMS, **more: Any) -> Plan:
    """Return a plan of three rounds."""
    given: dict[str, Any] = {
        "run_id": RUN,
        "region": "ap-northeast-2",
        "account": "123456789012",
        "family": "gpu-batch",
        "ami_id": "ami-plain",
        "machine": MACHINE,
        "root": Root(devices={one.ami_id: "/dev/xvda" for one in arms}, size_gib=60),
        "live_rate_mib_s": 300,
        "live_ami": None,
        "arms": tuple(arms),
        "waves": bench_plan.waves(RUN, arms, PLACES, MACHINE, rounds=3, at_once=3),
        "limit": "",
        "began": datetime(2026, 11, 30, 12, tzinfo=timezone.utc),
        "may_take_min": 160,
        "profile": "worker",
        "security_group_ids": ("sg-1",),
        "image_type": "ECS_AL2023_NVIDIA",
    } | more
    return Plan(**given)


def test_without_wanted_arms_there_are_all_that_can_be() -> None:
    """`live` says nothing where the baked AMI itself is live, or none is."""
    assert bench_plan.chosen_arms((), ami_id="ami-1", live_ami="ami-2") == ("stock", "plain", "rated", "live")
    assert bench_plan.chosen_arms((), ami_id="ami-1", live_ami="ami-1") == ("stock", "plain", "rated")
    assert bench_plan.chosen_arms(("rated", "stock"), ami_id="ami-1", live_ami=None) == ("stock", "rated")


@pytest.mark.parametrize(
    ("wanted", "live", "said"),
    [
        (("stok",), "ami-2", "'stok' is no arm"),
        (("stock", "plain", ""), "ami-2", "'' is no arm"),
        (("stock", "live"), "ami-2", "no hosts of the baked AMI"),
        (("plain", "live"), "ami-1", "ami-1 itself is live"),
        (("plain", "live"), None, "no AMI is live"),
    ],
)
def test_arms_that_cannot_be_are_refused(wanted: tuple[str, ...], live: str | None, said: str) -> None:
    """Each with the value, before anything is made."""
    with pytest.raises(UsageError, match=said):
        bench_plan.chosen_arms(wanted, ami_id="ami-1", live_ami=live)


def test_rounds_are_whole_in_one_zone_and_begin_with_another_arm_each() -> None:
    """What is compared shares zone and minute, and no arm is always the first to ask for capacity."""
    (wave,) = plan().waves

    assert [(host.round, host.arm.arm) for host in wave] == [
        (1, "stock"),
        (1, "plain"),
        (1, "rated"),
        (2, "plain"),
        (2, "rated"),
        (2, "stock"),
        (3, "rated"),
        (3, "stock"),
        (3, "plain"),
    ]
    assert {host.round: host.place.zone for host in wave} == {1: "r-1a", 2: "r-1b", 3: "r-1a"}
    assert wave[2].name == "gpu-ami-bench-abc123-1-rated"
    assert len({host.name for host in wave}) == 9
    assert max(len(host.name) for host in wave) <= 60


@pytest.mark.parametrize(
    ("room", "addresses", "arms", "expected"),
    [
        (ROOM, 100, ARMS, (8, "hosts with a rate")),
        (ROOM, 100, (*ARMS, arm("live", 300)), (4, "hosts with a rate")),
        (Room(environments=7, queues=50, vcpus=400), 100, ARMS, (2, "7 of 50 compute environments")),
        (Room(environments=50, queues=3, vcpus=400), 100, ARMS, (1, "3 of 50 job queues")),
        (Room(environments=50, queues=50, vcpus=24), 100, ARMS, (2, "24 vCPUs of the quota")),
        (ROOM, 8, ARMS, (2, "8 addresses")),
        (Room(environments=50, queues=50, vcpus=None), 100, ARMS[:2], (25, "compute environments")),
    ],
)
def test_no_more_is_under_way_than_there_is_room_for(
    room: Room, addresses: int, arms: tuple[ArmPlan, ...], expected: tuple[int, str]
) -> None:
    """Production lives in the same quotas: the tightest one counts, and is named."""
    places = (Place(subnet_id="s", zone="z", addresses=addresses), PLACES[0])

    count, why = bench_plan.rounds_at_once(arms, places, MACHINE, room)

    assert count == expected[0]
    assert expected[1] in why


def test_where_no_round_has_room_nothing_is_begun() -> None:
    """Half a round compares nothing."""
    with pytest.raises(AwsError, match="no room for a round of 3 hosts: 2 of 50 job queues are free"):
        bench_plan.rounds_at_once(ARMS, PLACES, MACHINE, Room(environments=50, queues=2, vcpus=None))


def test_waves_are_of_whole_rounds_and_of_one_size() -> None:
    """A last wave with one round alone would take as long as a full one."""
    waves = bench_plan.waves(RUN, ARMS, PLACES, MACHINE, rounds=4, at_once=3)

    assert [sorted({host.round for host in wave}) for wave in waves] == [[1, 2], [3, 4]]
    assert [len(wave) for wave in waves] == [6, 6]


def test_the_template_is_the_live_one_with_the_benchs_own_disk() -> None:
    """All arms have one disk; only the rate differs. Tags of the volume are the template's, or a sweep misses it."""
    live = {"MetadataOptions": {"HttpTokens": "required"}}
    root = Root(devices={"ami-stock": "/dev/sda1", "ami-rated": "/dev/xvda"}, size_gib=60, more={"Iops": 6000})
    here = plan((ARMS[0], ARMS[2]), template=live, root=root)

    stock = bench_plan.template_data(here, ARMS[0], "dGV4dA==")
    rated = bench_plan.template_data(here, ARMS[2], "dGV4dA==")

    disk = {"VolumeType": "gp3", "Iops": 6000, "VolumeSize": 60, "DeleteOnTermination": True}
    assert stock["BlockDeviceMappings"] == [{"DeviceName": "/dev/sda1", "Ebs": disk}]
    assert rated["BlockDeviceMappings"] == [
        {"DeviceName": "/dev/xvda", "Ebs": disk | {"VolumeInitializationRate": 300}}
    ]
    assert stock["MetadataOptions"] == {"HttpTokens": "required"}
    assert (stock["UserData"], stock["InstanceInitiatedShutdownBehavior"]) == ("dGV4dA==", "terminate")
    (tags,) = rated["TagSpecifications"]
    assert tags["ResourceType"] == "volume"
    found = {one["Key"]: one["Value"] for one in tags["Tags"]}
    assert found["gpu-ami:run"] == RUN
    assert (found["gpu-ami:began"], found["gpu-ami:may-take"]) == ("2026-11-30T12:00:00Z", "160")


def test_its_time_covers_all_that_it_waits_for() -> None:
    """A sweep that comes sooner takes the things of a bench that is alive."""
    assert bench_plan.longest_min(2) == 2 * (10 + 60 + 25)
    assert bench_plan.may_take_min(2) == bench_plan.longest_min(2) + 75


def test_a_job_takes_what_the_template_leaves_of_the_host() -> None:
    """With CpuOptions ECS has fewer vCPUs to give, and a job that asks for all of the type's waits for ever."""
    here = plan(machine=Machine(name="g5.xlarge", vcpus=4, gpus=1, memory_mib=16384, job_vcpus=2))

    made = bench_plan.container(here, ARMS[0], ["python3"], [])

    assert {"type": "VCPU", "value": "2"} in made["resourceRequirements"]


def test_the_job_is_productions_with_the_probe_and_all_of_the_host() -> None:
    """A role, an environment and a log group that production's image needs, it needs here, too."""
    production = {
        "executionRoleArn": "arn:exec",
        "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/gpu-ami/gpu-batch"}},
        "volumes": [{"name": "data", "host": {"sourcePath": "/data"}}],
        "mountPoints": [{"sourceVolume": "data", "containerPath": "/data"}],
    }
    here = plan(container=production)
    command = probe.command("python3", ["torch"], ["/opt/ml/models", "/data"])

    made = bench_plan.container(here, ARMS[0], command, ["/opt/ml/models", "/data"])

    assert (made["image"], made["command"]) == (IMAGE, command)
    assert made["executionRoleArn"] == "arn:exec"
    assert here.log_group == "/gpu-ami/gpu-batch"
    assert made["resourceRequirements"] == [
        {"type": "VCPU", "value": "4"},
        {"type": "MEMORY", "value": "13107"},
        {"type": "GPU", "value": "1"},
    ]
    assert made["mountPoints"] == [
        {"sourceVolume": "data", "containerPath": "/data"},
        {"sourceVolume": "gpu-ami-bench-0", "containerPath": "/opt/ml/models", "readOnly": True},
    ]
    assert [one["name"] for one in made["volumes"]] == ["data", "gpu-ami-bench-0"]


def test_the_bound_counts_every_hosts_whole_life_and_a_second_one() -> None:
    """Nobody may be surprised: Batch may start one more, and all may run until they switch themselves off."""
    here = plan()
    gateway, nat = Transfer(image_bytes=17 * 10**9, network="gateway"), Transfer(image_bytes=17 * 10**9, network="nat")

    cheap = price_of(here.region, "g5.xlarge", here.hosts, here.root, gateway)
    dear = price_of(here.region, "g5.xlarge", here.hosts, here.root, nat)

    assert cheap.worst_usd is not None and cheap.likely_usd is not None  # noqa: PT018
    assert dear.likely_usd is not None
    # Nine hosts for 80 minutes at 1.237 USD/h, twice: 29.69; disks and rate beside it.
    assert 29 < cheap.worst_usd < 35
    assert 1 < cheap.likely_usd < 5
    # Three stock hosts, 17 GB each at 0.059.
    assert float(dear.likely_usd - cheap.likely_usd) == pytest.approx(3 * 17 * 0.059, rel=0.01)
    # All nine may pull, and so may a second host of each.
    assert dear.worst_usd is not None
    assert float(dear.worst_usd - cheap.worst_usd) == pytest.approx(2 * 9 * 17 * 0.059, rel=0.01)
    other = Root(devices={}, size_gib=60, more={"VolumeType": "io2", "Iops": 64_000})
    assert price_of(here.region, "g5.xlarge", here.hosts, other, gateway).worst_usd is None
    unknown = price_of(here.region, "g5.xlarge", here.hosts, here.root, Transfer(image_bytes=None, network="nat"))
    assert unknown.worst_usd is None
