"""Spot prices over time: what an hour cost, weighted by how long it cost that."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from gpu_ami.aws.price_list import SpotChange, SpotHistory

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


def _at(ordered: Sequence[Held], wanted: Decimal) -> Decimal:
    """Return the first price at which *wanted* seconds have passed."""
    passed = itertools.accumulate(seconds for _, seconds in ordered)
    return next(usd for (usd, _), now in zip(ordered, passed, strict=True) if now >= wanted)


def _held(changes: list[SpotChange], start: datetime, end: datetime) -> list[Held]:
    changes.sort(key=lambda change: change.at)
    ends = [*(change.at for change in changes[1:]), end]
    spans = [
        (change.usd, (min(until, end) - max(change.at, start)).total_seconds())
        for change, until in zip(changes, ends, strict=True)
    ]
    return [(usd, Decimal(str(seconds))) for usd, seconds in spans if seconds > 0]
