"""Spot prices that look like a market: a fraction of on-demand, different per zone, moving over days."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from moto.core.responses import ActionResult

from gpu_ami_sandbox.aws.ec2.part import EC2Part, matches
from gpu_ami_sandbox.aws.pricing import on_demand_usd

# A price holds for this long; EC2 keeps 90 days of history.
_STEP = timedelta(hours=12)
_KEPT = timedelta(days=90)
_LINUX = "Linux/UNIX"


class SpotPrices(EC2Part):
    """DescribeSpotPriceHistory; moto's is a constant of 2006."""

    def describe_spot_price_history(self) -> ActionResult:
        """List price changes, newest first, with the one that was in force at StartTime, in pages."""
        self.error_on_dryrun()
        now = datetime.now(timezone.utc)
        end = min(_aware(self._get_param("EndTime")) or now, now)
        start = max(_aware(self._get_param("StartTime")) or end, now - _KEPT)
        filters = {f["Name"]: f.get("Values", []) for f in self._get_param("Filters", [])}
        types = self._get_param("InstanceTypes") or filters.get("instance-type") or []
        zone = self._get_param("AvailabilityZone")
        products = self._get_param("ProductDescriptions") or filters.get("product-description") or [_LINUX]
        zones = [z for z in self.ec2_backend.describe_availability_zones() if zone in (None, z.name)]
        zones = [z for z in zones if matches([z.name], filters.get("availability-zone", ["*"]))]
        rows = [
            row
            for instance_type in types
            for z in zones
            for row in price_changes(self.region, instance_type, z.name, start, end)
            if matches([_LINUX], [p.removesuffix(" (Amazon VPC)") for p in products])
        ]
        ids = {z.name: z.zone_id for z in zones}
        shown = [row | {"AvailabilityZoneId": ids[row["AvailabilityZone"]]} for row in rows]
        shown.sort(key=lambda row: row["Timestamp"], reverse=True)
        return self._answer_page("SpotPriceHistory", shown)


def price_changes(
    region: str, instance_type: str, zone: str, start: datetime, end: datetime
) -> Iterator[dict[str, Any]]:
    """Yield the spot prices of one type in one zone that were in force between *start* and *end*.

    The same at each call: a price is a hash of type, zone and day, between 30 % and 50 % of on-demand. A type
    without a known on-demand price has no spot price either.
    """
    base = on_demand_usd(region, instance_type)
    if base is None:
        return
    step = int(start.timestamp() // _STEP.total_seconds())
    last = int(end.timestamp() // _STEP.total_seconds())
    for number in range(step, last + 1):
        share = Decimal(30 + _dice(instance_type, zone) % 15 + _dice(instance_type, zone, str(number)) % 6) / 100
        yield {
            "AvailabilityZone": zone,
            "InstanceType": instance_type,
            "ProductDescription": _LINUX,
            "SpotPrice": f"{(base * share).quantize(Decimal('0.0001')):.6f}",
            "Timestamp": datetime.fromtimestamp(number * _STEP.total_seconds(), timezone.utc),
        }


def _aware(moment: datetime | None) -> datetime | None:
    """Return *moment*, which moto parses as naive UTC, with its time zone."""
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _dice(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256(" ".join(parts).encode()).digest()[:4], "big")
