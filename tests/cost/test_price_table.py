"""The price table: what it refuses, and that it never makes up a price."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from gpu_ami.cost.price_table import BUNDLED, RATES, Source, known_are, load, meant, nearest, parse
from gpu_ami.errors import UsageError
from tests.cost.builders import SEOUL

_GOOD = """\
currency: USD
compiled: 2026-11-01
sources:
  a: {what: somebody, date: 2026-10-01}
  b: {what: somebody else, date: null}
regions:
  ap-northeast-2:
    name: Seoul
    instances_usd_per_hour:
      g5.xlarge: {on_demand: 1.237, source: a, spot: {z1: 0.5, z2: 0.3, z3: 0.4}, spot_source: b}
      g6.xlarge: {on_demand: null, source: a, spot_p10_p50_p90: [0.2, 0.3, 0.5]}
    rates:
      gp3_usd_per_gib_month: {usd: 0.0912, source: a}
      gateway_usd_per_gb: {usd: 0, source: a}
      fsr_usd_per_hour: {usd: null, source: a}
"""


@pytest.mark.parametrize(
    ("region", "instance", "on_demand", "spot"),
    [
        (SEOUL, "g5.xlarge", "1.237", ("0.3700", "0.4607", "0.5252")),
        (SEOUL, "g4dn.xlarge", "0.647", ("0.2894", "0.3082", "0.3131")),
        (SEOUL, "g6.xlarge", "0.9896", ("0.2941", "0.3045", "0.3148")),
        ("us-east-1", "g5.xlarge", "1.006", ("0.4328", "0.4423", "0.4516")),
        ("us-east-1", "g4dn.xlarge", "0.526", ("0.2132", "0.2150", "0.2160")),
        ("us-east-1", "g6.xlarge", "0.8048", ("0.3470", "0.3618", "0.5525")),
    ],
)
def test_the_published_instance_prices(region: str, instance: str, on_demand: str, spot: tuple[str, ...]) -> None:
    """GPU instances, on demand and on spot by zone."""
    prices = load().hourly(region, instance, "spot")

    assert load().hourly(region, instance, "on-demand").mid.value == Decimal(on_demand)
    assert [prices.low.value, prices.mid.value, prices.high.value] == [Decimal(usd) for usd in spot]


@pytest.mark.parametrize(
    ("region", "instance", "usd"),
    [
        (SEOUL, "c5.large", "0.096"),
        (SEOUL, "m5.large", "0.118"),
        (SEOUL, "t3.large", "0.104"),
        ("us-east-1", "c5.large", "0.085"),
        ("us-east-1", "m5.large", "0.096"),
        ("us-east-1", "t3.large", "0.0882"),
    ],
)
def test_the_published_builder_prices(region: str, instance: str, usd: str) -> None:
    """What bakes without a GPU."""
    assert load().hourly(region, instance, "on-demand").mid.value == Decimal(usd)


@pytest.mark.parametrize(
    ("name", "seoul", "virginia"),
    [
        ("snapshot_usd_per_gib_month", "0.05", "0.05"),
        ("archive_usd_per_gib_month", "0.0125", "0.0125"),
        ("gp3_usd_per_gib_month", "0.0912", "0.08"),
        ("gp3_usd_per_iops_month", "0.0057", "0.005"),
        ("gp2_usd_per_gib_month", "0.114", "0.10"),
        ("nat_usd_per_hour", "0.059", "0.045"),
        ("nat_usd_per_gb", "0.059", "0.045"),
        ("endpoint_usd_per_hour", "0.013", "0.01"),
        ("endpoint_usd_per_gb", "0.01", "0.01"),
        ("gateway_usd_per_gb", "0", "0"),
        ("ipv4_usd_per_hour", "0.005", "0.005"),
        ("ecr_usd_per_gb_month", "0.10", "0.10"),
        ("s3_usd_per_gb_month", "0.025", "0.023"),
        ("s3_usd_per_10k_gets", "0.0035", None),
        ("cross_zone_usd_per_gb", "0.01", "0.01"),
        ("cross_region_usd_per_gb", "0.08", "0.02"),
        ("fsr_usd_per_hour", None, "0.75"),
    ],
)
def test_the_published_rates(name: str, seoul: str | None, virginia: str | None) -> None:
    """Storage, network and services; what is not published is unknown."""
    found = [load().rate(region, name).value for region in (SEOUL, "us-east-1")]

    assert found == [None if usd is None else Decimal(usd) for usd in (seoul, virginia)]


def test_every_price_says_where_it_comes_from() -> None:
    """A figure without a source cannot be doubted, and one with the wrong kind of source misleads."""
    table = load()

    assert table.rate(SEOUL, "gp3_usd_per_gib_month").source == "table of 2026-10-01 (AWS Price List)"
    assert table.hourly(SEOUL, "g5.xlarge", "spot").mid.source.startswith("table, undated (skypilot-catalog")
    assert table.rate(SEOUL, "initialization_usd_per_gib_mib_s").source.startswith("assumed: us-east-1 times 1.14")
    assert str(Source(what="AWS", date=table.compiled, kind="live")) == "live price of 2026-11-23 (AWS)"


def test_an_undated_price_is_as_old_as_the_table() -> None:
    """Otherwise a price without a date would never grow old."""
    table = parse(_GOOD, source="t")

    assert table.hourly(SEOUL, "g5.xlarge", "spot").mid.as_of == table.compiled
    assert str(table.hourly(SEOUL, "g5.xlarge", "on-demand").mid.as_of) == "2026-10-01"


def test_what_is_not_in_the_table_is_unknown() -> None:
    """Never 0: a region, a type, a market, a rate."""
    table = parse(_GOOD, source="t")

    unknown = [
        table.rate(SEOUL, "fsr_usd_per_hour"),
        table.rate(SEOUL, "nat_usd_per_gb"),
        table.rate("us-east-1", "nat_usd_per_gb"),
        table.hourly(SEOUL, "g6.xlarge", "on-demand").mid,
        table.hourly(SEOUL, "g9.xlarge", "spot").mid,
        table.hourly("us-east-1", "g5.xlarge", "spot").mid,
        parse(_GOOD.replace("spot_p10_p50_p90: [0.2, 0.3, 0.5]", ""), source="t")
        .hourly(SEOUL, "g6.xlarge", "spot")
        .low,
    ]

    assert {(figure.value, figure.source) for figure in unknown} == {(None, "unknown")}
    assert table.zones("us-east-1", "g5.xlarge") == {}
    assert table.zones(SEOUL, "g5.xlarge")["z1"] == Decimal("0.5")


def test_spot_percentiles_beat_the_zones_of_one_moment() -> None:
    """A history says more than a moment; of an even number of zones the middle lies between two."""
    table = parse(_GOOD.replace(", z3: 0.4", ""), source="t")

    assert table.hourly(SEOUL, "g6.xlarge", "spot").high.value == Decimal("0.5")
    assert table.hourly(SEOUL, "g5.xlarge", "spot").mid.value == Decimal("0.4")


def test_unknown_names_are_answered_with_the_nearest() -> None:
    """A slip of the finger is put right without looking anything up."""
    table = load()

    with pytest.raises(UsageError, match=r"'ap-norheast-2': known are ap-northeast-2, .*--live"):
        table.check_region("ap-norheast-2")
    with pytest.raises(UsageError, match=r"'g5.xlarg' in ap-northeast-2: known are g5.xlarge"):
        table.check_type(SEOUL, "g5.xlarg")
    assert nearest("zzz", ["b", "a"]) == "a, b"
    table.check_region(SEOUL)
    table.check_type(SEOUL, "g5.xlarge")


def test_prices_in_another_currency_are_refused() -> None:
    """AWS China charges in CNY; a number without its currency would be wrong by a factor of seven."""
    with pytest.raises(UsageError, match="CNY"):
        load().check_region("cn-north-1")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("currency: USD", "currency: CNY", "not a price table"),
        ("usd: 0.0912", "usd: 0", r"gp3_usd_per_gib_month costs 0, which is no price: write null"),
        ("usd: 0.0912", "usd: -1", "costs -1"),
        ("usd: 0.0912", "usd: NaN", "costs NaN"),
        ("usd: 0.0912", "usd: 5000", "costs 5000"),
        ("usd: 0.0912", "usd: cheap", "not a price table"),
        ("z2: 0.3", "z2: 0.0", "g5.xlarge costs 0.0"),
        ("[0.2, 0.3, 0.5]", "[0.2, 0.3, 0]", "g6.xlarge costs 0"),
        ("source: a, spot: {z1", "source: c, spot: {z1", "unknown source 'c': sources are a, b"),
        ("spot_source: b", "spot_source: c", "unknown source 'c'"),
        ("gp3_usd_per_gib_month:", "gp3_usd_per_gib:", "unknown rate 'gp3_usd_per_gib': did you mean gp3_usd_per"),
        ("name: Seoul", "nane: Seoul", "not a price table"),
        ("regions:", "regions: [", "not YAML"),
    ],
)
def test_a_spoilt_table_is_refused(old: str, new: str, problem: str) -> None:
    """Each slip of a person who edits the file is named, with where it is."""
    with pytest.raises(UsageError, match=problem) as caught:
        parse(_GOOD.replace(old, new), source="prices.yaml")

    assert "\n" not in str(caught.value)


def test_a_missing_table_says_how_to_get_it_back(tmp_path: Path) -> None:
    """The bundled file belongs to git."""
    with pytest.raises(UsageError, match="Restore it from git"):
        load(tmp_path / "prices.yaml")


def test_the_bundled_table_knows_only_known_rates() -> None:
    """And has the common regions and the small GPU types, Seoul first."""
    table = load(BUNDLED)

    assert next(iter(table.regions)) == SEOUL
    assert {"g4dn.xlarge", "g5.xlarge", "g6.xlarge", "g6e.xlarge"} <= table.regions[SEOUL].instances_usd_per_hour.keys()
    assert set(RATES) == set(table.regions[SEOUL].rates)


def test_known_names_are_all_or_called_the_nearest() -> None:
    """Who reads "known are" believes that there is no other."""
    table = load()

    with pytest.raises(UsageError, match=r"'af-south-1': known are ap-southeast-1, (?:[a-z0-9-]+, ){6}us-west-2; or"):
        table.check_region("af-south-1")
    with pytest.raises(UsageError, match=r"known are (?:[a-z0-9.]+, ){7}[a-z0-9.]+; or add --live\.$"):
        table.check_type(SEOUL, "nope.large")
    assert known_are("b7", [f"a{number}" for number in range(40)] + ["b1"]) == "nearest are b1, a7, a37"


def test_what_a_task_has_not_or_has_done_is_not_recommended() -> None:
    """`invoke prices` has no --live, and a price that AWS did not give will not come by asking again."""
    live = msgspec.structs.replace(load(), sources={"x": Source(what="AWS", date=None, kind="live")})

    for table, has_live in ((load(), False), (live, True)):
        with pytest.raises(UsageError, match=r"known are [^;]*us-west-2\.$"):
            table.check_region("mars", has_live=has_live)
    with pytest.raises(UsageError, match=r"known are [^;]*\.$"):
        live.check_type(SEOUL, "nope.large")


def test_a_guess_is_a_close_one() -> None:
    """A question before forty names, or before one that nobody could have meant, is no help."""
    assert meant("pull", ["pull_s", "copies"], otherwise="x") == "did you mean pull_s?"
    assert meant("nope", ["pull_s", "copies"], otherwise="there are two") == "there are two."
