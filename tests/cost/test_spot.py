"""Spot prices weighted by time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from gpu_ami.aws.price_list import SpotChange, SpotHistory
from gpu_ami.cost.spot import held_by_zone, percentiles

_START = datetime(2026, 10, 1, tzinfo=timezone.utc)
_END = _START + timedelta(hours=100)


def _history(*changes: tuple[str, float, str]) -> SpotHistory:
    """Return a history of changes given as zone, hours after the start, USD."""
    made = [SpotChange(zone, _START + timedelta(hours=hours), Decimal(usd)) for zone, hours, usd in changes]
    return SpotHistory(_START, _END, tuple(made))


def test_a_price_counts_for_as_long_as_it_held() -> None:
    """A peak of an hour among many rows must not move the middle: rows are changes, not samples."""
    history = _history(("a", -5, "0.30"), ("a", 60, "9.00"), ("a", 60.5, "8.00"), ("a", 61, "0.40"))

    held = held_by_zone(history)["a"]

    assert [(str(usd), int(seconds)) for usd, seconds in held] == [
        ("0.30", 216000),
        ("9.00", 1800),
        ("8.00", 1800),
        ("0.40", 140400),
    ]
    assert percentiles(held) == (Decimal("0.30"), Decimal("0.30"), Decimal("0.40"))


def test_the_change_before_the_start_counts_from_the_start() -> None:
    """AWS returns the price in force at the start with its own, older date; rows come newest first."""
    history = _history(("a", 50, "0.2"), ("a", -1000, "0.1"))

    assert held_by_zone(history)["a"] == [(Decimal("0.1"), Decimal(180000)), (Decimal("0.2"), Decimal(180000))]


def test_zones_are_kept_apart() -> None:
    """One zone's change does not end another's price; a zone whose changes all lie outside has no price."""
    history = _history(("b", 0, "0.5"), ("a", 0, "0.1"), ("a", 10, "0.2"), ("c", 200, "0.9"))

    held = held_by_zone(history)

    assert list(held) == ["a", "b"]
    assert held["b"] == [(Decimal("0.5"), Decimal(360000))]


_HELD = st.lists(
    st.tuples(
        st.decimals(min_value=Decimal("0.0001"), max_value=50, places=4),
        st.decimals(min_value=1, max_value=10**6, places=0),
    ),
    min_size=1,
)


@given(held=_HELD)
def test_percentiles_are_prices_in_order(held: list[tuple[Decimal, Decimal]]) -> None:
    """Each is a price that was really charged, and none is above the next."""
    low, mid, high = percentiles(held)

    assert {low, mid, high} <= {usd for usd, _ in held}
    assert low <= mid <= high


@given(held=_HELD)
def test_half_of_the_time_the_price_was_not_above_the_middle(held: list[tuple[Decimal, Decimal]]) -> None:
    """What a percentile means."""
    middle = percentiles(held)[1]
    whole = sum(seconds for _, seconds in held)

    assert sum(seconds for usd, seconds in held if usd <= middle) * 2 >= whole
    assert sum(seconds for usd, seconds in held if usd < middle) * 2 <= whole
