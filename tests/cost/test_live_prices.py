"""FoundPrices-up prices over the table, and in the cache."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gpu_ami.aws.price_list import FoundPrices, SpotChange, SpotHistory
from gpu_ami.cost import live_prices
from gpu_ami.cost.live_prices import held_by_zone, percentiles
from gpu_ami.cost.price_table import load, parse
from gpu_ami.cost.price_table_yaml import render
from tests.cost.builders import SEOUL

_NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)


def _history(*prices: str) -> SpotHistory:
    start = _NOW - timedelta(days=30)
    changes = tuple(SpotChange(f"z{number}", start, Decimal(usd)) for number, usd in enumerate(prices))
    return SpotHistory(start, _NOW, changes)


def _live(region: str = SEOUL) -> live_prices.LivePrices:
    answers = FoundPrices(
        on_demand={"g5.xlarge": Decimal("1.3000000000"), "p9.large": Decimal("40.0000000000")},
        spot={
            "g5.xlarge": _history("0.30", "0.40", "0.50"),
            "g6.xlarge": SpotHistory(_NOW, _NOW, _history("1").changes),
        },
        rates={"snapshot_usd_per_gib_month": Decimal("0.0510000000")},
        problems={"nat_usd_per_gb": "no such product"},
    )
    return live_prices.summarise(answers, region, types=["g5.xlarge", "p9.large"], now=_NOW, spot_days=30)


def test_live_prices_take_the_place_of_the_tables() -> None:
    """With their own source, so that a reader sees which figures are of today."""
    table = live_prices.overlay(load(), _live())

    snapshot = table.rate(SEOUL, "snapshot_usd_per_gib_month")
    spot = table.hourly(SEOUL, "g5.xlarge", "spot")
    assert (snapshot.value, snapshot.source) == (Decimal("0.051"), "live price of 2026-11-23 (AWS Price List)")
    assert [spot.low.value, spot.mid.value, spot.high.value] == [Decimal("0.3"), Decimal("0.4"), Decimal("0.5")]
    assert spot.mid.source == "live price of 2026-11-23 (EC2 spot price history of 30 days)"
    assert table.hourly(SEOUL, "g5.xlarge", "on-demand").mid.value == Decimal("1.3")


def test_what_was_not_looked_up_stays() -> None:
    """A price that AWS did not give is still the table's, not unknown and not 0."""
    before, after = load(), live_prices.overlay(load(), _live())

    assert after.rate(SEOUL, "nat_usd_per_gb") == before.rate(SEOUL, "nat_usd_per_gb")
    assert after.hourly(SEOUL, "g6.xlarge", "spot") == before.hourly(SEOUL, "g6.xlarge", "spot")
    assert after.regions["us-east-1"] == before.regions["us-east-1"]


def test_new_types_and_regions_are_added() -> None:
    """--live works where the table has nothing."""
    table = live_prices.overlay(load(), _live("sa-east-1"))

    assert table.hourly("sa-east-1", "p9.large", "on-demand").mid.value == 40
    assert table.hourly("sa-east-1", "p9.large", "spot").mid.value is None
    assert table.regions["sa-east-1"].name == "sa-east-1"


def test_a_refreshed_table_can_be_written_and_forgets_unused_sources() -> None:
    """In the file the prices are a dated table's; a source that nothing names any more would mislead."""
    table = live_prices.overlay(load(), _live(), kind="table")

    assert parse(render(table), source="t") == table
    assert table.rate(SEOUL, "snapshot_usd_per_gib_month").source == "table of 2026-11-23 (AWS Price List)"
    used = {rate.source for region in table.regions.values() for rate in region.rates.values()}
    assert used <= table.sources.keys()
    small = msgspec.structs.replace(load(), regions={SEOUL: load().regions[SEOUL]})
    assert "fsr" not in live_prices.overlay(small, _live()).sources


def test_kept_prices_answer_for_a_day_and_for_the_types_that_were_asked(tmp_path: Path) -> None:
    """A type without a price was requested too: querying again each time would not find one."""
    live_prices.keep(tmp_path / "prices.json", _live())

    kept = live_prices.load_kept(tmp_path / "prices.json")

    assert kept == _live()
    assert kept is not None
    assert kept.missing == ["nat_usd_per_gb"]
    assert kept.covers(["g5.xlarge"], _NOW + timedelta(hours=24))
    assert not kept.covers(["g5.xlarge"], _NOW + timedelta(hours=25))
    assert not kept.covers(["g5.xlarge"], _NOW - timedelta(hours=1))
    assert not kept.covers(["g5.xlarge", "c5.large"], _NOW)


def test_unreadable_kept_prices_are_looked_up_again(tmp_path: Path) -> None:
    """A cut-off or foreign file in a cache is no error of the user's."""
    (tmp_path / "cut").write_text('{"region": "x"')

    assert live_prices.load_kept(tmp_path / "cut") is None
    assert live_prices.load_kept(tmp_path / "none") is None


_START = datetime(2026, 10, 1, tzinfo=timezone.utc)
_END = _START + timedelta(hours=100)


def _prices_over_time(*changes: tuple[str, float, str]) -> SpotHistory:
    """Return a history of changes given as zone, hours after the start, USD."""
    made = [SpotChange(zone, _START + timedelta(hours=hours), Decimal(usd)) for zone, hours, usd in changes]
    return SpotHistory(_START, _END, tuple(made))


def test_a_price_counts_for_as_long_as_it_held() -> None:
    """A peak of an hour among many rows must not move the middle: rows are changes, not samples."""
    history = _prices_over_time(("a", -5, "0.30"), ("a", 60, "9.00"), ("a", 60.5, "8.00"), ("a", 61, "0.40"))

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
    history = _prices_over_time(("a", 50, "0.2"), ("a", -1000, "0.1"))

    assert held_by_zone(history)["a"] == [(Decimal("0.1"), Decimal(180000)), (Decimal("0.2"), Decimal(180000))]


def test_zones_are_kept_apart() -> None:
    """One zone's change does not end another's price; a zone whose changes all lie outside has no price."""
    history = _prices_over_time(("b", 0, "0.5"), ("a", 0, "0.1"), ("a", 10, "0.2"), ("c", 200, "0.9"))

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
