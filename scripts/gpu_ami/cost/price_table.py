"""The price table: what AWS charges, with a source and a date for each price."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec

from gpu_ami.cost.figure import Figure, Range
from gpu_ami.errors import UsageError
from gpu_ami.files import read_text
from gpu_ami.foreign_text import limited, reason

BUNDLED = Path(__file__).with_name("prices.yaml")
Market = Literal["on-demand", "spot"]
Kind = Literal["table", "live", "assumed"]
MARKETS: tuple[Market, ...] = ("on-demand", "spot")
# Older prices than this are worth a warning.
STALE_DAYS = 90
# So many names are read at a glance.
_FEW = 12
# What AWS documents as free of charge; any other zero is a hole in somebody's data.
FREE = frozenset({"gateway_usd_per_gb"})

# Every rate that a region can have, and its unit. AWS writes GB for what it counts in GiB in its storage prices.
RATES: Mapping[str, str] = {
    "snapshot_usd_per_gib_month": "USD/GiB-month",
    "archive_usd_per_gib_month": "USD/GiB-month",
    "gp3_usd_per_gib_month": "USD/GiB-month",
    "gp3_usd_per_iops_month": "USD/IOPS-month",
    "gp3_usd_per_mib_s_month": "USD/(MiB/s)-month",
    "gp2_usd_per_gib_month": "USD/GiB-month",
    "initialization_usd_per_gib_mib_s": "USD/GiB per MiB/s",
    "fsr_usd_per_hour": "USD/h per zone",
    "nat_usd_per_hour": "USD/h",
    "nat_usd_per_gb": "USD/GB",
    "endpoint_usd_per_hour": "USD/h per zone",
    "endpoint_usd_per_gb": "USD/GB",
    "gateway_usd_per_gb": "USD/GB",
    "ipv4_usd_per_hour": "USD/h",
    "ecr_usd_per_gb_month": "USD/GB-month",
    "s3_usd_per_gb_month": "USD/GB-month",
    "s3_usd_per_10k_gets": "USD/10,000 GET",
    "cross_zone_usd_per_gb": "USD/GB",
    "cross_region_usd_per_gb": "USD/GB",
}


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where prices come from.

    Attributes:
        what: Who publishes them.
        date: The day they held; None when the publisher does not say.
        kind: ``table`` for a copy, ``live`` for AWS's own answer, ``assumed`` for an estimate of ours.
    """

    what: str
    date: date | None
    kind: Kind = "table"

    def __str__(self) -> str:
        """Say all of it, as the source of a figure does."""
        if self.kind == "assumed":
            return f"assumed: {self.what}"
        origin = "live price" if self.kind == "live" else "table"
        return f"{origin} of {self.date} ({self.what})" if self.date else f"{origin}, undated ({self.what})"


class InstancePrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an hour of one instance type costs.

    Attributes:
        on_demand: Linux, shared tenancy.
        spot: The middle price by zone id; a zone without one is not in it.
        spot_p10_p50_p90: Over all zones, weighted by time; None when only one moment is known.
        source: Key of the table's sources, for both.
        spot_source: Another key for the spot prices.
    """

    on_demand: Decimal | None
    spot: dict[str, Decimal] = {}
    spot_p10_p50_p90: tuple[Decimal, Decimal, Decimal] | None = None
    source: str
    spot_source: str | None = None


class Rate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One price of storage, network or a service."""

    usd: Decimal | None
    source: str


class Region(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The prices of one region; what is not in it is unknown."""

    name: str
    instances_usd_per_hour: dict[str, InstancePrice] = {}
    rates: dict[str, Rate] = {}


class PriceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every price that is known without asking AWS.

    Attributes:
        currency: Prices in another one do not belong here.
        compiled: The day the table was put together: undated prices are at least as old.
        sources: By key.
        regions: By region code.
    """

    currency: Literal["USD"]
    compiled: date
    sources: dict[str, Source]
    regions: dict[str, Region]

    def rate(self, region: str, name: str) -> Figure:
        """Return the price *name* (a key of `RATES`) in *region*; unknown when the table does not have it."""
        prices = self.regions.get(region)
        found = prices.rates.get(name) if prices else None
        return self._figure(name, found.usd if found else None, RATES[name], found.source if found else "")

    def hourly(self, region: str, instance_type: str, market: Market) -> Range:
        """Return what an hour of *instance_type* costs in *region*.

        On-demand prices do not move. Spot prices are the tenth, half and ninetieth percentile over time and zones;
        where only one moment is known, the cheapest, middle and dearest zone of that moment.
        """
        prices = self.regions.get(region)
        found = prices.instances_usd_per_hour.get(instance_type) if prices else None
        values, source = _hourly_values(found, market)
        figures = [self._figure(f"{instance_type}_{market}", value, "USD/h", source) for value in values]
        return Range(*figures)

    def zones(self, region: str, instance_type: str) -> Mapping[str, Decimal]:
        """Return the spot price by zone id."""
        prices = self.regions.get(region)
        found = prices.instances_usd_per_hour.get(instance_type) if prices else None
        return found.spot if found else {}

    def check_region(self, region: str, *, has_live: bool = True) -> None:
        """Refuse a region without prices.

        Args:
            region: The region.
            has_live: Whether the caller's task has a flag that asks AWS for what the table lacks.

        Raises:
            UsageError: The table has none for *region*, or prices there are in another currency.
        """
        if region.startswith("cn-"):
            msg = f"Prices in {region} are in CNY; this table and its arithmetic are in USD: choose another region."
            raise UsageError(msg)
        if region not in self.regions:
            msg = f"No prices for region {region!r}: {known_are(region, self.regions)}{self._or_live(has_live)}."
            raise UsageError(msg)

    def check_type(self, region: str, instance_type: str) -> None:
        """Refuse an instance type without a price in *region*.

        Raises:
            UsageError: The table has none.
        """
        known = self.regions[region].instances_usd_per_hour
        if instance_type not in known:
            msg = f"No price for {instance_type!r} in {region}: {known_are(instance_type, known)}{self._or_live()}."
            raise UsageError(msg)

    def _or_live(self, has_live: bool = True) -> str:
        """Return the offer to query AWS, unless it has been queried already."""
        is_queried = any(source.kind == "live" for source in self.sources.values())
        return "; or add --live" if has_live and not is_queried else ""

    def _figure(self, name: str, value: Decimal | None, unit: str, key: str) -> Figure:
        if value is None:
            return Figure(name, None, unit, "unknown")
        source = self.sources[key]
        return Figure(name, value, unit, str(source), source.date or self.compiled)


def _hourly_values(found: InstancePrice | None, market: Market) -> tuple[list[Decimal | None], str]:
    """Return the low, middle and high price, and the key of their source."""
    if found is None:
        return [None] * 3, ""
    if market == "on-demand":
        return [found.on_demand] * 3, found.source
    source = found.spot_source or found.source
    if found.spot_p10_p50_p90 is not None:
        return list(found.spot_p10_p50_p90), source
    if not found.spot:
        return [None] * 3, source
    zones = sorted(found.spot.values())
    middle = (zones[(len(zones) - 1) // 2] + zones[len(zones) // 2]) / 2
    return [zones[0], middle, zones[-1]], source


@functools.lru_cache(maxsize=4)
def load(path: Path = BUNDLED) -> PriceTable:
    """Return the price table in *path*.

    Raises:
        UsageError: The file is missing, not YAML or not a price table; the line says where.
    """
    return parse(read_text(path, what="price table", hint="Restore it from git."), source=path.name)


def parse(text: str, *, source: str) -> PriceTable:
    """Return the price table that *text* holds; *source* names it in errors.

    Numbers are read as text and become Decimal: a price never passes through a float.

    Raises:
        UsageError: It is not a price table, names an unknown source or rate, or holds a price that is not one.
    """
    import yaml

    try:
        raw = yaml.load(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))  # noqa: S506 - makes only text
        table = msgspec.convert(_without_nulls(raw), PriceTable)
    except (yaml.YAMLError, RecursionError) as exc:
        msg = f"{source} is not YAML: {limited(getattr(exc, 'problem', None) or 'it cannot be read')}."
        raise UsageError(msg) from exc
    except msgspec.ValidationError as exc:
        msg = f"{source} is not a price table: {reason(exc)}."
        raise UsageError(msg) from exc
    _check(table, source)
    return table


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the names in *known*, those most like *name* first."""
    names = sorted(known)
    close = _close(name, names, cutoff=0.6)
    return ", ".join([*close, *(other for other in names if other not in close)])


def known_are(name: str, known: Collection[str]) -> str:
    """Return the names in *known*, or of many the nearest to *name*, as text for an error."""
    if len(known) <= _FEW:
        return f"known are {nearest(name, known)}"
    return f"nearest are {', '.join(_close(name, sorted(known), cutoff=0))}"


def meant(name: str, known: Iterable[str], *, otherwise: str) -> str:
    """Return a guess at which of the *known* names *name* is a slip of; *otherwise* where none is close."""
    close = _close(name, sorted(known), cutoff=0.7)
    return f"did you mean {' or '.join(close)}?" if close else f"{otherwise}."


def _close(name: str, names: Sequence[str], *, cutoff: float) -> list[str]:
    import difflib

    return difflib.get_close_matches(name, names, n=3, cutoff=cutoff)


def _without_nulls(raw: Any) -> Any:
    if isinstance(raw, dict):
        return {key: _without_nulls(value) for key, value in raw.items()}
    return None if raw == "null" else raw


def _check(table: PriceTable, source: str) -> None:
    for region, prices in table.regions.items():
        where = f"{source}, {region}"
        for name, price in prices.instances_usd_per_hour.items():
            amounts = (price.on_demand, *price.spot.values(), *(price.spot_p10_p50_p90 or ()))
            _check_prices(amounts, f"{where}, {name}")
            _check_source(price.source, table, f"{where}, {name}")
            _check_source(price.spot_source or price.source, table, f"{where}, {name}")
        for name, rate in prices.rates.items():
            if name not in RATES:
                guess = meant(name, RATES, otherwise=f"rates are {', '.join(RATES)}")
                msg = f"{where} has the unknown rate {name!r}: {guess}"
                raise UsageError(msg)
            _check_source(rate.source, table, f"{where}, {name}")
            if name not in FREE or rate.usd != 0:
                _check_prices([rate.usd], f"{where}, {name}")


def _check_source(key: str, table: PriceTable, where: str) -> None:
    if key not in table.sources:
        msg = f"{where} has the unknown source {key!r}: sources are {', '.join(table.sources)}."
        raise UsageError(msg)


def _check_prices(prices: Iterable[Decimal | None], where: str) -> None:
    for usd in prices:
        if usd is not None and not (usd.is_finite() and 0 < usd < 1000):
            msg = f"{where} costs {usd}, which is no price: write null for unknown."
            raise UsageError(msg)
