"""The line of `invoke build`, and what keeping snapshots costs."""

from __future__ import annotations

from decimal import Decimal

from gpu_ami.cost import build_line, storage_usd_per_month
from tests.cost.builders import SEOUL


def test_the_line_says_what_it_rests_on() -> None:
    """Instance, time, market and the table's date: without them a price is a rumour."""
    price = build_line(
        duration_s=480, region=SEOUL, instance_type="c7i.4xlarge", volume_gib=80, snapshot_gib=22.5, market="spot"
    )

    assert price.line == (
        "this build about $0.03 (c7i.4xlarge 8 m 00 s, spot price, table of 2026-11-23), storage up to $1.12 a month"
    )
    # 8 minutes of 0.23075 + 0.005 + 80 x 0.0912 / 730.
    assert price.build_cost_usd == Decimal("0.0328")
    assert price.storage_usd_per_month == Decimal("1.1250")


def test_a_faster_volume_costs_more() -> None:
    """The template's 6,000 IOPS and 1,000 MiB/s are part of the bill: 57 dollars a month for 25 minutes."""
    slow, fast = (
        build_line(
            duration_s=1500,
            region=SEOUL,
            instance_type="c7i.4xlarge",
            volume_gib=80,
            snapshot_gib=None,
            volume_iops=iops,
            volume_mib_s=mib_s,
        )
        for iops, mib_s in ((3000, 125), (6000, 1000))
    )

    assert slow.build_cost_usd is not None
    assert fast.build_cost_usd is not None
    assert fast.build_cost_usd - slow.build_cost_usd == Decimal("0.0326")


def test_an_unknown_price_is_said_and_never_raised() -> None:
    """The build is done; that nobody knows its price must not turn it into a failure, nor into $0.00."""
    price = build_line(
        duration_s=480, region="xx-nowhere-1", instance_type="c99.huge", volume_gib=None, snapshot_gib=None
    )

    assert price.build_cost_usd is None
    assert price.storage_usd_per_month is None
    assert price.line == "this build: price unknown, storage: price unknown"


def test_clean_up_can_price_what_it_would_free() -> None:
    """30 GiB in Seoul are the original's $1.50 a month."""
    assert storage_usd_per_month(SEOUL, 30) == Decimal("1.5000")
    assert storage_usd_per_month(SEOUL, None) is None
    assert storage_usd_per_month("eu-west-1", 30) is None


def test_next_to_nothing_is_not_about_less_than_a_cent() -> None:
    """A build in the sandbox takes seconds."""
    price = build_line(duration_s=16, region=SEOUL, instance_type="c7i.4xlarge", volume_gib=80, snapshot_gib=None)

    assert price.line.startswith("this build < $0.01 (c7i.4xlarge 16 s")
