"""Which of several sources an input is taken from."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from gpu_ami.coldstart.assumptions import Range, assumed, with_given
from gpu_ami.coldstart.model import Host, Start, predict
from gpu_ami.cost.figure import Figure
from gpu_ami.cost.inputs import CostRequest, gather
from gpu_ami.cost.price_table import load
from gpu_ami.errors import UsageError
from tests.cost.builders import REPORTED_AND_LOADED, SEOUL

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
    """Nobody may take predicted minutes for a measurement."""
    figures = gather(CostRequest(region=SEOUL), load()).figures

    assert figures["build_min"].source.startswith("assumed: ")
    assert figures["pull_s"].source.startswith("computed: the model of cold starts, ")
    assert "not measured" in figures["pull_s"].source


def test_the_seed_preset_gives_the_original_ten() -> None:
    """Its own arithmetic, to the original's precision."""
    case = gather(CostRequest(region=SEOUL, preset="seed"), load()).case()

    assert round(float(str(case.break_even_launches))) == 10


@pytest.mark.parametrize(
    ("given", "variant", "inputs"),
    [
        ({}, "rated", {"snapshot_gib": 30, "rate_mib_s": 300}),
        ({"initialization_mib_s": 100}, "rated", {"snapshot_gib": 30, "rate_mib_s": 100}),
        ({"initialization_mib_s": 100, "hydrated_gib": 60}, "rated", {"snapshot_gib": 60, "rate_mib_s": 100}),
        ({"initialization_mib_s": 0}, "plain", {"snapshot_gib": 30}),
        ({"initialization_mib_s": 0, "touched_gib": 9}, "plain", {"snapshot_gib": 30, "touched_gib": 9}),
        ({"initialization_mib_s": 0, "reader_mb_s": 3}, "plain", {"snapshot_gib": 30, "reader_mb_s": 3}),
    ],
)
def test_the_wait_for_the_volume_is_the_models(given: dict[str, int], variant: Any, inputs: dict[str, float]) -> None:
    """There is one model of a cold start in the project, and cost asks it with its own inputs."""
    request = CostRequest(region=SEOUL, given={name: Decimal(value) for name, value in given.items()})
    fixed = {name: Range(value, value, value) for name, value in inputs.items()}
    model = predict(Start(variant, Host.of("g5.xlarge")), with_given(assumed(), fixed, "test"))

    gathered = gather(request, load())

    wait = model.over("pull_unpack", "models")
    assert gathered.figures["lazy_load_s"].value == round(wait.likely)
    assert gathered.spreads["lazy_load_s"].low == pytest.approx(wait.low, abs=1)
    assert gathered.spreads["lazy_load_s"].high == pytest.approx(wait.high, abs=1)
    assert gathered.figures["baked_boot_s"].value == round(model.over("launch", "register").likely)


def test_the_instance_type_reaches_the_model() -> None:
    """More cores unpack more at once."""
    small, large = (
        gather(CostRequest(region=SEOUL, instance_type=name), load()) for name in ("g5.xlarge", "g5.12xlarge")
    )

    assert (large.figures["pull_s"].value or 0) < (small.figures["pull_s"].value or 0)


def test_a_stated_wait_is_the_wait_and_has_no_spread() -> None:
    """What somebody has measured is not predicted any more."""
    gathered = gather(CostRequest(region=SEOUL, given={"lazy_load_s": Decimal(5)}), load())
    everything = gather(CostRequest(region=SEOUL, given=REPORTED_AND_LOADED), load())

    assert gathered.figures["lazy_load_s"].value == 5
    assert "lazy_load_s" not in gathered.spreads
    assert everything.spread.saved == Range(1020, 1020, 1020)


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
