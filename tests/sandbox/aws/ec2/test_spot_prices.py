"""Spot prices look like a market: enough for code that weights them by time and groups them by zone."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from gpu_ami_sandbox.aws.ec2.spot_prices import price_changes
from tests.support.resources import REGION

NOW = datetime(2026, 11, 1, 15, tzinfo=timezone.utc)


def test_prices_are_the_same_each_time_and_move() -> None:
    """Tests can rely on them, and an average over rows would be wrong."""

    def prices() -> list[dict[str, Any]]:
        return list(price_changes(REGION, "g5.xlarge", f"{REGION}a", NOW - timedelta(days=10), NOW))

    rows = prices()

    assert rows == prices()
    assert len(rows) == 21
    assert len({row["SpotPrice"] for row in rows}) > 1
    for row in rows:
        assert Decimal("1.237") * Decimal("0.3") <= Decimal(row["SpotPrice"]) <= Decimal("1.237") * Decimal("0.5")


def test_the_first_row_is_the_price_in_force_at_the_start() -> None:
    """EC2 returns the last change before StartTime too."""
    rows = list(price_changes(REGION, "g5.xlarge", f"{REGION}a", NOW, NOW))

    assert [row["Timestamp"] for row in rows] == [datetime(2026, 11, 1, 12, tzinfo=timezone.utc)]


def test_an_unknown_type_has_no_price() -> None:
    """Not zero."""
    assert list(price_changes(REGION, "x9.huge", f"{REGION}a", NOW, NOW)) == []


def test_history_by_zone_product_and_time(ec2: Any) -> None:
    """Each parameter narrows the answer."""
    now = datetime.now(timezone.utc)
    arguments = {"InstanceTypes": ["g5.xlarge"], "ProductDescriptions": ["Linux/UNIX"]}

    def rows(**more: Any) -> list[Any]:
        return list(ec2.describe_spot_price_history(**(arguments | more))["SpotPriceHistory"])

    assert {row["AvailabilityZone"][-1] for row in rows()} == set("abcd")
    assert all(row["AvailabilityZoneId"].startswith("apne2-az") for row in rows())
    assert {row["InstanceType"] for row in rows()} == {"g5.xlarge"}
    assert {row["AvailabilityZone"] for row in rows(AvailabilityZone=f"{REGION}b")} == {f"{REGION}b"}
    by_filter = rows(Filters=[{"Name": "availability-zone", "Values": [f"{REGION}c"]}])
    assert {row["AvailabilityZone"] for row in by_filter} == {f"{REGION}c"}
    assert rows(ProductDescriptions=["Windows"]) == []
    assert rows(ProductDescriptions=["Linux/UNIX (Amazon VPC)"], EndTime=now) == rows(EndTime=now)
    week = rows(StartTime=now - timedelta(days=7), EndTime=now, AvailabilityZone=f"{REGION}a")
    assert len(week) == 15
    assert week == sorted(week, key=lambda row: row["Timestamp"], reverse=True)


def test_history_comes_in_pages(ec2: Any) -> None:
    """Three months of four zones are more than a page of 100."""
    now = datetime.now(timezone.utc)
    pages = ec2.get_paginator("describe_spot_price_history").paginate(
        InstanceTypes=["g5.xlarge"], StartTime=now - timedelta(days=89), EndTime=now, MaxResults=100
    )

    sizes = [len(page["SpotPriceHistory"]) for page in pages]

    assert sum(sizes) == 4 * 179
    assert max(sizes) == 100
