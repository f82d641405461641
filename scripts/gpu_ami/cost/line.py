"""The line about money that `invoke build` prints, and what keeping a snapshot costs."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from gpu_ami.cost.figure import Number, product
from gpu_ami.cost.model import GP3_FREE_IOPS, GP3_FREE_MIB_S, Build
from gpu_ami.cost.price_table import Market, PriceTable, load
from gpu_ami.units import show_duration, show_usd


@dataclass(frozen=True)
class BuildPrice:
    """What one build cost.

    Attributes:
        build_cost_usd: Instance, volume and public address; None when a price is unknown.
        storage_usd_per_month: What the snapshots cost from now on, at most; None when unknown.
        line: Both, for people.
    """

    build_cost_usd: Decimal | None
    storage_usd_per_month: Decimal | None
    line: str


def build_line(
    *,
    duration_s: float,
    region: str,
    instance_type: str,
    volume_gib: float | None,
    snapshot_gib: float | None,
    market: Market = "on-demand",
    volume_iops: float = float(GP3_FREE_IOPS),
    volume_mib_s: float = float(GP3_FREE_MIB_S),
    prices: PriceTable | None = None,
) -> BuildPrice:
    """Return what a build cost, and what its snapshots cost a month.

    A price that is not known is no error: the build is done, its price is then unknown.

    Args:
        duration_s: How long the builder ran.
        region: Where.
        instance_type: The builder.
        volume_gib: The size of its gp3 volume.
        snapshot_gib: Data in the AMI's snapshots: an upper bound of what is billed for them.
        market: How the builder was bought.
        volume_iops: The volume's IOPS.
        volume_mib_s: The volume's throughput.
        prices: Another table than the bundled one.
    """
    table = load() if prices is None else prices
    hourly = table.hourly(region, instance_type, market).mid
    build = Build(
        build_min=_decimal(duration_s / 60),
        builder_usd_per_hour=hourly.value,
        builder_gib=_decimal(volume_gib),
        builder_iops=_decimal(volume_iops),
        builder_mib_s=_decimal(volume_mib_s),
        gp3_usd_per_gib_month=table.rate(region, "gp3_usd_per_gib_month").value,
        gp3_usd_per_iops_month=table.rate(region, "gp3_usd_per_iops_month").value,
        gp3_usd_per_mib_s_month=table.rate(region, "gp3_usd_per_mib_s_month").value,
        ipv4_usd_per_hour=table.rate(region, "ipv4_usd_per_hour").value,
        builder_gb=Decimal(0),
        path_usd_per_gb=None,
        failed_share=Decimal(0),
        ci_min=Decimal(0),
        ci_usd_per_min=None,
    )
    storage = storage_usd_per_month(region, snapshot_gib, prices=table)
    basis = f"{instance_type} {show_duration(duration_s)}, {market} price, table of {table.compiled}"
    return BuildPrice(_rounded(build.usd), storage, _line(build.usd, storage, basis))


def storage_usd_per_month(region: str, gib: float | None, *, prices: PriceTable | None = None) -> Decimal | None:
    """Return what *gib* of data in standard snapshots cost a month in *region*; None when a part is unknown.

    Snapshots that share blocks are billed for them once: of several snapshots this is an upper bound.
    """
    table = load() if prices is None else prices
    return _rounded(product(_decimal(gib), table.rate(region, "snapshot_usd_per_gib_month").value))


def _decimal(number: float | None) -> Number:
    return None if number is None else Decimal(str(number))


def _rounded(usd: Number) -> Number:
    return None if usd is None else usd.quantize(Decimal("0.0001"))


def _line(cost: Number, storage: Number, basis: str) -> str:
    shown = "" if cost is None else show_usd(cost)
    about = "" if shown.startswith("<") else "about "
    spent = "this build: price unknown" if cost is None else f"this build {about}{shown} ({basis})"
    kept = "storage: price unknown" if storage is None else f"storage up to {show_usd(storage)} a month"
    return f"{spent}, {kept}"
