"""What a verification may cost: the instance, its root volume, and the rate at which EBS fills that."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from gpu_ami.aws.images import Image
from gpu_ami.aws.instances import RootVolume
from gpu_ami.cost.figure import product, total
from gpu_ami.cost.line import build_line
from gpu_ami.cost.model import GP3_FREE_IOPS, GP3_FREE_MIB_S
from gpu_ami.cost.price_table import load
from gpu_ami.records.tags import SNAPSHOT_GIB_TAG
from gpu_ami.units import show_usd

# What a verification usually takes, for the likely price.
_LIKELY_MIN = 8
# The instance's last minutes are counted from cloud-init's first run, where its user data runs; EC2 bills what was
# before, too, and what the shutdown takes: a reboot just before the end goes on for its boot.
_BESIDES_MIN = 5
# Of an AMI that is still to be made nothing is known: its volume, and EC2's fastest rate.
_USUAL_GIB, _FASTEST_MIB_S = 100, 300


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A root volume, by what it is billed by.

    Attributes:
        size_gib: Its size.
        data_gib: Data in its snapshot, all of which EBS bills at a rate, even if the volume is deleted early.
        rate_mib_s: The rate; None without one.
        iops: Of gp3.
        throughput_mib_s: Of gp3.
    """

    size_gib: int = _USUAL_GIB
    data_gib: float = float(_USUAL_GIB)
    rate_mib_s: int | None = _FASTEST_MIB_S
    iops: int = int(GP3_FREE_IOPS)
    throughput_mib_s: int = int(GP3_FREE_MIB_S)


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a verification may cost.

    Attributes:
        worst_usd: If it runs until the instance switches itself off; None when a price is unknown.
        likely_usd: Usually; None when a price is unknown.
    """

    worst_usd: Decimal | None
    likely_usd: Decimal | None

    def __str__(self) -> str:
        """Return it for people."""
        if self.worst_usd is None or self.likely_usd is None:
            return "its price is not known"
        return f"about {show_usd(self.likely_usd)}, at most {show_usd(self.worst_usd)}"


def disk_of(image: Image, root: RootVolume) -> Disk:
    """Return the disk that *image* is booted with; where its tags do not say how much data it holds, it is full."""
    try:
        data_gib = min(float(image.tags.get(SNAPSHOT_GIB_TAG, "")), float(image.root_gib))
    except ValueError:
        data_gib = float(image.root_gib)
    return Disk(
        size_gib=root.size_gib or image.root_gib,
        data_gib=data_gib if data_gib > 0 else float(image.root_gib),
        rate_mib_s=root.rate_mib_s,
        iops=root.iops or int(GP3_FREE_IOPS),
        throughput_mib_s=root.throughput_mib_s or int(GP3_FREE_MIB_S),
    )


def disk_to_be(volume_gib: float, root: RootVolume | None) -> Disk:
    """Return the disk that an AMI which is still to be made will be booted with, taken to be full.

    Args:
        volume_gib: The root volume of the build, GiB.
        root: What Batch's launch template makes of it; None where there is none: then EC2's fastest rate.
    """
    gib = math.ceil(volume_gib)
    if root is None:
        return Disk(size_gib=gib, data_gib=float(gib))
    return Disk(
        size_gib=max(root.size_gib or 0, gib),
        data_gib=float(gib),
        rate_mib_s=root.rate_mib_s,
        iops=root.iops or int(GP3_FREE_IOPS),
        throughput_mib_s=root.throughput_mib_s or int(GP3_FREE_MIB_S),
    )


def price_of(region: str, types: Iterable[str], disk: Disk, *, longest_min: float) -> Price:
    """Return what booting on one of *types* may cost, if it ends itself after *longest_min* minutes, or usually."""
    names = tuple(types)
    bounds = longest_min + _BESIDES_MIN, min(_LIKELY_MIN, longest_min)
    worst, likely = (usd(region, names, disk, minutes) for minutes in bounds)
    return Price(worst_usd=worst, likely_usd=likely)


def usd(region: str, types: Iterable[str], disk: Disk, minutes: float) -> Decimal | None:
    """Return the dearest of *types*' price of *minutes*, the volume included; None when one is unknown."""
    prices = [
        build_line(
            duration_s=minutes * 60,
            region=region,
            instance_type=name,
            volume_gib=disk.size_gib,
            snapshot_gib=None,
            volume_iops=disk.iops,
            volume_mib_s=disk.throughput_mib_s,
        ).build_cost_usd
        for name in set(types)
    ]
    known = [price for price in prices if price is not None]
    return total(max(known) if len(known) == len(prices) else None, _filling_usd(region, disk))


def _filling_usd(region: str, disk: Disk) -> Decimal | None:
    """Return the price of the rate: due in full once the volume is active (EBS user guide)."""
    if not disk.rate_mib_s:
        return Decimal(0)
    each = load().rate(region, "initialization_usd_per_gib_mib_s").value
    found = product(Decimal(str(disk.data_gib)), Decimal(disk.rate_mib_s), each)
    return None if found is None else round(found, 4)
