"""The arithmetic: published results, and what must hold for any numbers."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_ami.cost.model import Build, break_even
from tests.cost.builders import real_case, seed_case

_AMOUNTS = st.decimals(min_value=0, max_value=10_000, places=4)
_PRICES = st.decimals(min_value=Decimal("0.0001"), max_value=100, places=4)
# Instance price, network price and build of each published row; the build of the rows with the original rate is the
# original's upper $0.10, the others run 25 minutes and pay a cent for volume and address.
_ROWS = {
    "original numbers": ("0.20", "0.10", "0.10"),
    "original rate, gateway endpoint": ("0.20", "0", "0.10"),
    "spot and NAT": ("0.46", "0.10", "0.201667"),
    "spot, no NAT": ("0.46", "0", "0.201667"),
    "on-demand, no NAT": ("1.237", "0", "0.525417"),
}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("original numbers", (10.2, 29.4, 31.3, 4.5)),
        ("original rate, gateway endpoint", (28.2, 81, 87, 12.4)),
        ("spot and NAT", (7.4, 20.4, 23.0, 3.5)),
        ("spot, no NAT", (13.1, 36.1, 40.7, 6.2)),
        ("on-demand, no NAT", (5.8, 14.3, 18.8, 3.2)),
    ],
)
def test_the_published_break_evens_are_reproduced(row: str, expected: tuple[float, ...]) -> None:
    """All twenty cells of the published table: AMIs kept, builds a month, GiB billed."""
    rate, path, build = _ROWS[row]
    fixed: dict[str, str | float] = {
        "instance_usd_per_hour": rate,
        "path_usd_per_gb": path,
        "builder_usd_per_hour": build,
        "build_min": 60,
    }
    columns = ((1, 1, 30), (3, 1, 30), (3, 4, 30), (1, 1, 12))
    cases = [seed_case(retained_amis=k, builds_per_month=b, billed_gib=g, **fixed) for k, b, g in columns]

    found = [case.break_even_launches for case in cases]

    # As precise as the table is: a tenth, or a whole number from 80 on.
    for value, published in zip(found, expected, strict=True):
        assert float(str(value)) == pytest.approx(published, abs=0.55 if published > 80 else 0.05)


@pytest.mark.parametrize(
    ("rate", "path", "saved"),
    [
        ("0.20", "0.10", "0.157"),
        ("0.20", "0", "0.057"),
        ("0.46", "0.10", "0.230"),
        ("0.46", "0", "0.130"),
        ("1.237", "0", "0.350"),
    ],
)
def test_the_published_savings_per_launch_are_reproduced(rate: str, path: str, saved: str) -> None:
    """17 minutes of the instance and $0.10 of network, to a tenth of a cent."""
    case = seed_case(instance_usd_per_hour=rate, path_usd_per_gb=path)

    assert case.launch.saved_usd is not None
    assert case.launch.saved_usd.quantize(Decimal("0.001")) == Decimal(saved)


def test_five_more_minutes_bring_the_published_break_even_from_13_to_10() -> None:
    """The sensitivity that the fact sheet names."""
    row: dict[str, str | float] = {
        "instance_usd_per_hour": "0.46",
        "path_usd_per_gb": 0,
        "builder_usd_per_hour": "0.484",
    }

    assert [round(float(str(seed_case(pull_s=s, **row).break_even_launches))) for s in (1020, 1320)] == [13, 10]


@pytest.mark.parametrize(
    ("rate", "minutes", "usd"),
    [
        ("0.46", 20, "0.15"),
        ("0.46", 30, "0.23"),
        ("1.237", 20, "0.41"),
        ("1.237", 30, "0.62"),
        ("0.096", 25, "0.04"),
        ("0.20", 20, "0.07"),
        ("0.20", 30, "0.10"),
    ],
)
def test_the_published_build_costs_are_reproduced(rate: str, minutes: int, usd: str) -> None:
    """To the cent, for each instance that somebody might build on."""
    case = seed_case(builder_usd_per_hour=rate, build_min=minutes)

    assert case.build.usd is not None
    assert case.build.usd.quantize(Decimal("0.01")) == Decimal(usd)


@pytest.mark.parametrize(
    ("region", "gib", "rate", "usd"),
    [("us-east-1", 250, 200, "0.60"), ("us-east-1", 28, 300, "0.10"), ("ap-northeast-2", 120, 300, "0.49")],
)
def test_the_published_hydration_prices_are_reproduced(region: str, gib: int, rate: int, usd: str) -> None:
    """AWS's own example, the sheet's 28 GiB, and one team's 120 GB in Seoul."""
    case = real_case(region, hydrated_gib=gib, initialization_mib_s=rate)

    assert case.launch.hydration_usd is not None
    assert case.launch.hydration_usd.quantize(Decimal("0.01")) == Decimal(usd)


def test_fast_snapshot_restore_left_on_costs_what_is_published() -> None:
    """$547 a month for each zone: the reason to switch it off after the burst."""
    on = [real_case("us-east-1", fsr_hours_per_month=730 * zones).fixed_usd_per_month for zones in (1, 3)]
    off = real_case("us-east-1").fixed_usd_per_month

    assert off is not None
    # $547.50 for one zone; the sheet gives $1,643 for three.
    assert [usd - off for usd in on if usd is not None] == [Decimal("547.50"), Decimal("1642.50")]


def test_a_larger_root_volume_costs_what_is_published() -> None:
    """30 GB more are $0.0037 for each hour of an instance's life."""
    case = real_case(extra_root_gib=30, instance_life_h=1)

    assert case.launch.extra_root_usd is not None
    assert case.launch.extra_root_usd.quantize(Decimal("0.0001")) == Decimal("0.0037")


def test_jobs_that_share_an_instance_share_one_cold_start() -> None:
    """20 jobs on one instance save 17 minutes once."""
    one, twenty = seed_case(), seed_case(jobs_per_instance=20, jobs_per_month=20)

    assert twenty.launches_per_month == 1
    assert twenty.break_even_launches == one.break_even_launches
    assert float(str(twenty.break_even_jobs)) == pytest.approx(20 * float(str(one.break_even_launches)))


def test_copies_in_other_regions_are_stored_and_transferred() -> None:
    """Each copy is billed where it is, and its way there once for each build."""
    home, copied = seed_case(), seed_case(copies=2)

    assert home.fixed_usd_per_month is not None
    # Two more regions: 2 x 30 GiB x $0.05 of storage, 2 x 30 GB x $0.08 of transfer.
    assert copied.fixed_usd_per_month == home.fixed_usd_per_month + Decimal("3.00") + Decimal("4.80")


def test_failed_builds_are_paid_for_by_those_that_succeed() -> None:
    """With one build in five failing, five runs bring four AMIs."""
    assert seed_case(failed_share="0.2").build.usd == seed_case().build.run_usd * Decimal("1.25")  # type: ignore[operator]


def test_volume_performance_is_paid_for_above_what_is_free() -> None:
    """3,000 IOPS and 125 MiB/s come with every gp3 volume."""
    free = real_case(builder_iops=3000, builder_mib_s=125).build
    fast = real_case(builder_iops=6000, builder_mib_s=1000).build

    assert free.volume_usd_per_hour == real_case(builder_iops=0, builder_mib_s=0).build.volume_usd_per_hour
    assert fast.volume_usd_per_hour is not None
    assert free.volume_usd_per_hour is not None
    # 3,000 x $0.0057 and 875 x $0.0456 a month.
    extra = Decimal(3000) * Decimal("0.0057") + Decimal(875) * Decimal("0.0456")
    assert float(fast.volume_usd_per_hour - free.volume_usd_per_hour) == pytest.approx(float(extra / 730))


def test_it_never_pays_when_a_launch_saves_nothing() -> None:
    """An AMI that starts slower than the pull it avoids is a loss at any number of launches."""
    slow = seed_case(lazy_load_s=7200)

    assert slow.break_even_launches == "never"
    assert slow.break_even_jobs == "never"
    assert slow.launch.saved_s is not None
    assert slow.launch.saved_s < 0


def test_an_unknown_price_makes_the_answer_unknown() -> None:
    """No break-even is better than one that rests on a missing price."""
    case = real_case("eu-west-1")

    assert case.storage.usd_per_month is None
    assert case.break_even_launches is None
    assert case.break_even_jobs is None
    assert case.net_usd_per_month(Decimal(10)) is None


def test_unknown_parts_are_unknown_in_each_quantity() -> None:
    """Every intermediate figure says so itself."""
    nothing = dict.fromkeys(Build.__dataclass_fields__)
    case = replace(seed_case(), jobs_per_month=None)

    assert Build(**nothing).usd is None
    assert case.launches_per_month is None
    assert break_even(None, Decimal(1)) is None
    assert replace(seed_case(), jobs_per_instance=None).break_even_jobs is None


@given(fixed=_AMOUNTS, saved=_PRICES)
def test_the_break_even_is_a_root_of_the_net_curve(fixed: Decimal, saved: Decimal) -> None:
    """There, and nowhere else, saving and cost are equal."""
    launches = break_even(fixed, saved)

    assert isinstance(launches, Decimal)
    assert abs(launches * saved - fixed) < Decimal("1e-9") * (1 + fixed)


@given(rate=_PRICES, kept=st.integers(0, 50), pull=st.integers(300, 5000))
def test_the_break_even_of_a_whole_case_is_a_root_of_its_net_curve(rate: Decimal, kept: int, pull: int) -> None:
    """With every part in it: time, network, hydration, storage, builds."""
    case = real_case(instance_usd_per_hour=f"{rate}", retained_amis=kept, pull_s=pull)
    launches = case.break_even_launches

    if isinstance(launches, Decimal):
        net = case.net_usd_per_month(launches)
        assert net is not None
        assert abs(net) < Decimal("1e-9") * (1 + launches)
    else:
        assert launches == "never"
        assert case.launch.saved_usd is not None
        assert case.launch.saved_usd <= 0


@given(low=_PRICES, more=_PRICES)
def test_the_saving_grows_with_the_instances_price(low: Decimal, more: Decimal) -> None:
    """A dearer instance makes waiting dearer, as long as the AMI saves time."""
    cheap = real_case(instance_usd_per_hour=f"{low}").launch.saved_usd
    dear = real_case(instance_usd_per_hour=f"{low + more}").launch.saved_usd

    assert cheap is not None
    assert dear is not None
    assert dear > cheap


@given(low=_PRICES, more=_PRICES)
def test_the_fixed_cost_grows_with_the_snapshot_price(low: Decimal, more: Decimal) -> None:
    """Dearer storage never makes the AMI pay earlier."""
    cheap, dear = (seed_case(snapshot_usd_per_gib_month=f"{usd}") for usd in (low, low + more))

    assert dear.fixed_usd_per_month is not None
    assert cheap.fixed_usd_per_month is not None
    assert dear.fixed_usd_per_month > cheap.fixed_usd_per_month
    assert float(str(dear.break_even_launches)) > float(str(cheap.break_even_launches))


@given(kept=st.integers(0, 1000))
def test_storage_is_linear_in_retained_amis(kept: int) -> None:
    """Each AMI that is kept costs the same again."""
    assert seed_case(retained_amis=kept).storage.usd_per_month == kept * Decimal("1.50")
