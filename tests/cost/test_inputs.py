"""Which of several sources an input is taken from."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gpu_ami.cost.figure import Figure
from gpu_ami.cost.inputs import CostRequest, gather
from gpu_ami.cost.price_table import load
from gpu_ami.errors import UsageError
from tests.cost.builders import SEOUL

_MEASURED = Figure("pull_s", Decimal(300), "s", "measured: somewhere")


@pytest.mark.parametrize(
    ("request_", "value", "source"),
    [
        (CostRequest(region=SEOUL), 300, "measured: somewhere"),
        (CostRequest(region=SEOUL, settings={"pull_s": Decimal(1)}), 1, "given: pipeline.yaml"),
        (
            CostRequest(region=SEOUL, preset="seed", settings={"pull_s": Decimal(1)}),
            1020,
            "given: the original estimate",
        ),
        (CostRequest(region=SEOUL, preset="seed", given={"pull_s": Decimal(2)}), 2, "given: command line"),
    ],
    ids=["measured", "settings", "preset", "command line"],
)
def test_the_nearer_source_wins(request_: CostRequest, value: int, source: str) -> None:
    """Command line over preset over settings over measurements over assumptions; each figure says which."""
    figure = gather(request_, load(), [_MEASURED]).figures["pull_s"]

    assert (figure.value, figure.source) == (Decimal(value), source)


def test_without_any_source_a_figure_says_that_it_is_assumed() -> None:
    """Nobody may take the 17 minutes for a measurement."""
    figures = gather(CostRequest(region=SEOUL), load()).figures

    assert figures["pull_s"].source.startswith("assumed: ")
    assert "not measured" in figures["pull_s"].source


def test_the_seed_preset_gives_the_original_ten() -> None:
    """Its own arithmetic, to the original's precision."""
    case = gather(CostRequest(region=SEOUL, preset="seed"), load()).case()

    assert round(float(str(case.break_even_launches))) == 10


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        # 30 GiB at 300 MiB/s are read in 102 s, before the boot of 120 s is over; the target leaves a minute.
        ({}, 60),
        # At 100 MiB/s they take 307 s, 187 s more than the boot.
        ({"initialization_mib_s": 100}, 187),
        # 3 GiB at 7 MB/s.
        ({"initialization_mib_s": 0}, 460),
        ({"initialization_mib_s": 0, "lazy_load_s": 5}, 5),
    ],
)
def test_the_wait_for_the_volume_follows_from_its_initialization(given: dict[str, int], seconds: int) -> None:
    """Slower initialization is cheaper and makes the first job wait."""
    request = CostRequest(region=SEOUL, given={name: Decimal(value) for name, value in given.items()})

    assert gather(request, load()).figures["lazy_load_s"].value == seconds


def test_what_is_initialized_is_what_is_in_the_snapshot() -> None:
    """Unless it is stated itself."""
    bigger = gather(CostRequest(region=SEOUL, given={"billed_gib": Decimal(50)}), load()).figures
    stated = gather(CostRequest(region=SEOUL, given={"hydrated_gib": Decimal(28)}), load()).figures

    assert bigger["hydrated_gib"].value == 50
    assert stated["hydrated_gib"].value == 28


def test_a_given_instance_price_does_not_move() -> None:
    """Low, middle and high are then the same; a type without a price is then no problem."""
    request = CostRequest(region="nowhere-1", instance_type="x1.y", given={"instance_usd_per_hour": Decimal("0.5")})
    hourly = gather(request, load()).hourly

    assert hourly.low == hourly.mid == hourly.high
    assert hourly.mid.value == Decimal("0.5")


def test_the_network_path_decides_the_price_of_the_bytes() -> None:
    """The whole image through a Seoul NAT gateway costs over a dollar for each launch; a gateway endpoint nothing."""
    costs = {
        path: gather(CostRequest(region=SEOUL, network=path), load()).case().launch.network_usd
        for path in ("nat", "endpoint", "gateway")
    }

    assert costs == {"nat": Decimal("1.11215"), "endpoint": Decimal("0.1885"), "gateway": 0}


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"market": "sport"}, "--market 'sport' is not known: give one of on-demand, spot"),
        ({"network": "igw"}, "network 'igw' is not known: give one of nat, endpoint, gateway"),
        ({"preset": "seeds"}, "--preset 'seeds' is not known: give one of seed"),
    ],
)
def test_unknown_words_are_answered_with_the_known_ones(wrong: dict[str, str], problem: str) -> None:
    """Invoke checks no choices."""
    with pytest.raises(UsageError, match=problem):
        CostRequest(region=SEOUL, **wrong)  # type: ignore[arg-type]
