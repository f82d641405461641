"""What a bench may cost: the upper bound, if nobody ever takes anything away, and what it likely is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from gpu_ami.cost.figure import product, total
from gpu_ami.cost.model import GP3_FREE_IOPS, GP3_FREE_MIB_S
from gpu_ami.cost.price_table import load
from gpu_ami.measure.bench_plan import POWER_OFF_MIN, ArmPlan, HostPlan, Root
from gpu_ami.measure.price import Disk, Price, usd

# From the instance's start to the user data that counts the minutes, and what the shutdown takes.
_BESIDES_MIN = 5
# EC2 bills a minute at least; so long a host usually is there, its end by the teardown included.
_LIKELY_STOCK_MIN, _LIKELY_BAKED_MIN = 25, 12
# Batch may start one instance more than there is room for.
_EXTRA_HOSTS = 2
_GB = Decimal(10**9)


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What a host that pulls transfers: the image's bytes, None where ECR does not say, by which way."""

    image_bytes: int | None
    network: str


def price_of(region: str, instance_type: str, hosts: Sequence[HostPlan], root: Root, transfer: Transfer) -> Price:
    """Return what *hosts* may cost together; Batch and ECS are free, a few lines of log are not counted."""
    worst = [
        # A baked arm's may pull, too: that is one of the faults which are looked for.
        total(
            _host(region, instance_type, host.arm, root, transfer, POWER_OFF_MIN + _BESIDES_MIN),
            _pull(region, transfer) if host.arm.is_baked else Decimal(0),
        )
        for host in hosts
    ]
    likely = [
        _host(
            region,
            instance_type,
            host.arm,
            root,
            transfer,
            _LIKELY_BAKED_MIN if host.arm.is_baked else _LIKELY_STOCK_MIN,
        )
        for host in hosts
    ]
    return Price(worst_usd=product(total(*worst), Decimal(_EXTRA_HOSTS)), likely_usd=total(*likely))


def cost_of(
    region: str, instance_type: str, arm: ArmPlan, root: Root, transfer: Transfer, minutes: float
) -> Decimal | None:
    """Return what one host has cost that was there for *minutes*; None when a price is unknown."""
    return _host(region, instance_type, arm, root, transfer, max(1.0, minutes))


def _host(
    region: str, instance_type: str, arm: ArmPlan, root: Root, transfer: Transfer, minutes: float
) -> Decimal | None:
    if root.more.get("VolumeType", "gp3") != "gp3":
        return None  # only gp3's prices are in the table
    disk = Disk(
        size_gib=root.size_gib,
        data_gib=arm.data_gib,
        rate_mib_s=arm.rate_mib_s,
        iops=int(root.more.get("Iops") or GP3_FREE_IOPS),
        throughput_mib_s=int(root.more.get("Throughput") or GP3_FREE_MIB_S),
    )
    machine = usd(region, (instance_type,), disk, minutes)
    return machine if arm.is_baked else total(machine, _pull(region, transfer))


def _pull(region: str, transfer: Transfer) -> Decimal | None:
    """Return what it costs that a host pulls the image; None when the price, or the size, is unknown."""
    size = None if transfer.image_bytes is None else Decimal(transfer.image_bytes) / _GB
    return product(size, load().rate(region, f"{transfer.network}_usd_per_gb").value)
