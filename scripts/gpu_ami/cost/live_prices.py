"""Live prices from AWS: summarised, cached for a day, and overlaid on the price table."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec

from gpu_ami.aws.price_list import FoundPrices, SpotChange, SpotHistory
from gpu_ami.cost.price_table import InstancePrice, Kind, PriceTable, Rate, Region, Source
from gpu_ami.files import read_text, write_atomic

# Older look-ups are done again.
KEPT_FOR = timedelta(hours=24)


class SpotPrices(msgspec.Struct, frozen=True, kw_only=True):
    """The middle price by zone, and the tenth, half and ninetieth percentile over all zones."""

    zones: dict[str, Decimal]
    p10_p50_p90: tuple[Decimal, Decimal, Decimal]


class LivePrices(msgspec.Struct, frozen=True, kw_only=True):
    """The prices of one region as AWS gave them at *looked_up*.

    Attributes:
        region: The region.
        looked_up: When.
        spot_days: How long the spot history is.
        types: Instance types that were requested.
        missing: What AWS did not give a price for.
        on_demand: USD an hour by instance type.
        spot: Spot prices by instance type.
        rates: USD by rate.
    """

    region: str
    looked_up: datetime
    spot_days: int
    types: list[str]
    missing: list[str]
    on_demand: dict[str, Decimal]
    spot: dict[str, SpotPrices]
    rates: dict[str, Decimal]

    def covers(self, types: Iterable[str], now: datetime) -> bool:
        """Return whether these answer for *types* and are young enough."""
        return timedelta(0) <= now - self.looked_up <= KEPT_FOR and set(types) <= set(self.types)


def summarise(answers: FoundPrices, region: str, *, types: Iterable[str], now: datetime, spot_days: int) -> LivePrices:
    """Return what AWS's *answers* give for *types*, the spot histories made into percentiles."""
    spot = {}
    for name, history in answers.spot.items():
        held = held_by_zone(history)
        if held:
            spot[name] = SpotPrices(
                zones={zone: percentiles(prices)[1] for zone, prices in held.items()},
                p10_p50_p90=percentiles(price for prices in held.values() for price in prices),
            )
    return LivePrices(
        region=region,
        looked_up=now,
        spot_days=spot_days,
        types=list(types),
        missing=list(answers.problems),
        on_demand=dict(answers.on_demand),
        spot=spot,
        rates=dict(answers.rates),
    )


def overlay(table: PriceTable, live: LivePrices, *, kind: Kind = "live") -> PriceTable:
    """Return *table* with the prices of *live* in place of its own; what was not looked up stays.

    Args:
        table: The prices so far.
        live: The new ones.
        kind: ``live`` for an answer of now, ``table`` for a table that is written to a file.
    """
    day = live.looked_up.date()
    listed, spot = _key("aws", day, kind), _key("spot", day, kind)
    sources = dict(table.sources)
    sources[listed] = Source(what="AWS Price List", date=day, kind=kind)
    history = f"EC2 spot price history of {live.spot_days} days"
    sources[spot] = Source(what=history, date=day, kind=kind)
    old = table.regions.get(live.region, Region(name=live.region))
    instances = dict(old.instances_usd_per_hour)
    for name in [*live.on_demand, *live.spot]:
        instances[name] = _instance(instances.get(name), name, live, listed, spot)
    rates = dict(old.rates) | {name: Rate(usd=_plain(usd), source=listed) for name, usd in live.rates.items()}
    region = Region(name=old.name, instances_usd_per_hour=dict(sorted(instances.items())), rates=rates)
    merged = msgspec.structs.replace(table, sources=sources, regions={**table.regions, live.region: region})
    return _without_unused_sources(merged)


def load_kept(path: Path) -> LivePrices | None:
    """Return the prices kept in *path*; None when there are none, or none that can be read."""
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(read_text(path, what="kept prices"), type=LivePrices)
    except msgspec.DecodeError:
        # Written by another version, or cut off: they are looked up again.
        return None


def keep(path: Path, live: LivePrices) -> None:
    """Keep *live* in *path* for the next question."""
    write_atomic(path, msgspec.json.encode(live) + b"\n", what="kept prices")


def _key(name: str, day: date, kind: Kind) -> str:
    return f"{name}-{day}" if kind == "table" else f"live-{name}-{day}"


def _instance(old: InstancePrice | None, name: str, live: LivePrices, listed: str, spot: str) -> InstancePrice:
    on_demand, prices = live.on_demand.get(name), live.spot.get(name)
    before = old or InstancePrice(on_demand=None, source=listed)
    middle, over_all, spot_source = before.spot, before.spot_p10_p50_p90, before.spot_source or before.source
    if prices is not None:
        low, mid, high = prices.p10_p50_p90
        over_all = (_plain(low), _plain(mid), _plain(high))
        middle, spot_source = {zone: _plain(usd) for zone, usd in prices.zones.items()}, spot
    return InstancePrice(
        on_demand=before.on_demand if on_demand is None else _plain(on_demand),
        source=before.source if on_demand is None else listed,
        spot=middle,
        spot_p10_p50_p90=over_all,
        spot_source=spot_source if middle else None,
    )


def _plain(usd: Decimal) -> Decimal:
    """Return *usd* without the zeros that AWS fills its answers with: 0.0500000000 is 0.05."""
    short = usd.normalize()
    return short if short.as_tuple().exponent < 0 else usd.quantize(Decimal(1))  # type: ignore[operator]


def _without_unused_sources(table: PriceTable) -> PriceTable:
    used: set[str] = set()
    for prices in table.regions.values():
        used |= {rate.source for rate in prices.rates.values()}
        for price in prices.instances_usd_per_hour.values():
            used |= {price.source, price.spot_source or price.source}
    return msgspec.structs.replace(table, sources={key: table.sources[key] for key in table.sources if key in used})


# A price and for how many seconds it held.
Held = tuple[Decimal, Decimal]
SHARES = (Decimal("0.1"), Decimal("0.5"), Decimal("0.9"))


def held_by_zone(history: SpotHistory) -> Mapping[str, Sequence[Held]]:
    """Return for each zone its prices and how long each held within the period.

    AWS lists changes only: an average of them would count a price that held for a minute like one that held for a week.
    """
    zones: dict[str, list[SpotChange]] = defaultdict(list)
    for change in history.changes:
        zones[change.zone].append(change)
    held = {zone: _held(changes, history.start, history.end) for zone, changes in sorted(zones.items())}
    return {zone: prices for zone, prices in held.items() if prices}


def percentiles(held: Iterable[Held]) -> tuple[Decimal, Decimal, Decimal]:
    """Return the prices below or at which a tenth, half and nine tenths of the time were.

    Args:
        held: At least one price.
    """
    ordered = sorted(held)
    whole = sum((seconds for _, seconds in ordered), Decimal(0))
    low, mid, high = (_at(ordered, share * whole) for share in SHARES)
    return low, mid, high


def _at(ordered: Sequence[Held], seconds: Decimal) -> Decimal:
    """Return the first price at which *seconds* have passed."""
    passed = itertools.accumulate(held_s for _, held_s in ordered)
    return next(usd for (usd, _), now in zip(ordered, passed, strict=True) if now >= seconds)


def _held(changes: list[SpotChange], start: datetime, end: datetime) -> list[Held]:
    changes.sort(key=lambda change: change.at)
    ends = [*(change.at for change in changes[1:]), end]
    spans = [
        (change.usd, (min(until, end) - max(change.at, start)).total_seconds())
        for change, until in zip(changes, ends, strict=True)
    ]
    return [(usd, Decimal(str(seconds))) for usd, seconds in spans if seconds > 0]
