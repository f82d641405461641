"""docs/cost.md says what the model says."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from gpu_ami.cost.inputs import CostRequest
from gpu_ami.cost.model import Case, time_usd
from gpu_ami.cost.price_table import load
from gpu_ami.cost.report import CostReport, report
from gpu_ami.units import show_duration
from tests.cost.builders import SEOUL, TODAY, real_case, seed_case

_DOCUMENT = (Path(__file__).parents[2] / "docs" / "cost.md").read_text(encoding="utf-8")
_REAL = report(CostRequest(region=SEOUL), load(), today=TODAY)
_ON_DEMAND = report(CostRequest(region=SEOUL, market="on-demand"), load(), today=TODAY)
_CASES = (_REAL.low, _REAL.mid, _REAL.high)


def _cents(usd: Decimal | None, *, signed: bool = False) -> str:
    assert usd is not None
    return f"{'-' if usd < 0 else '+' if signed else ''}${abs(usd):,.2f}"


def _builds(hourly: str) -> str:
    low, high = (seed_case(builder_usd_per_hour=hourly, build_min=minutes).build.usd for minutes in (20, 30))
    return f"{_cents(low)}-{_cents(high)[1:]}"


def _saved_duration(case: Case) -> str:
    assert case.launch.saved_s is not None
    return show_duration(float(case.launch.saved_s))


def _prewarmed(answered: CostReport) -> str:
    (row,) = [row for row in answered.sensitivities if row.change.startswith("prewarmed")]
    return f"{row.break_even_launches:.0f}"


def _minutes(answered: CostReport) -> str:
    saved = answered.inputs.spread.saved
    return f"{round(saved.low / 60)} to {round(saved.high / 60)} min"


def _stock_minutes(answered: CostReport) -> str:
    stock = answered.inputs.spread.stock
    assert stock.high < 20 * 60
    return f"{stock.low / 60:.1f} to {stock.high / 60:.0f} min"


def _waiting_usd(answered: CostReport) -> Decimal | None:
    return time_usd(answered.mid.launch.saved_s, answered.mid.launch.instance_usd_per_hour)


def _rows() -> dict[str, str]:
    """Return the middle cell of the comparison's rows by their first."""
    section = _DOCUMENT.split("## The original estimate")[1].split("## ")[0]
    lines = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    return {line[0].removeprefix("| "): line[1] for line in lines}


_SPOT = load().hourly(SEOUL, "g5.xlarge", "spot")
_EXPECTED = {
    "g5.xlarge at $0.20/h, Spot in Seoul": " / ".join(
        _cents(figure.value) for figure in (_SPOT.low, _SPOT.mid, _SPOT.high)
    ),
    "a build takes 20-30 minutes": f"{_REAL.mid.build.build_min} min",
    "$0.07-0.10 per build": _builds(f"{_SPOT.mid.value}"),
    "30 GB of snapshot at $0.05/GB a month": f"${load().rate(SEOUL, 'snapshot_usd_per_gib_month').value}",
    # Nothing but snapshots is in the model's storage.
    "AMI storage: the same again as the snapshot": _cents(
        (seed_case().storage.usd_per_month or 0) - 30 * Decimal("0.05")
    ),
    "$1.50/month per AMI": _cents(_REAL.mid.storage.usd_per_month),
    "17 minutes saved per job": _saved_duration(_REAL.mid),
    "about $0.10 of network per job": _cents(_REAL.mid.launch.network_usd),
    "$1/month saved at 10 jobs": _cents(seed_case().net_usd_per_month(Decimal(10)), signed=True),
    "cost-effective from 10 jobs a month on": f"{seed_case().break_even_jobs:.1f}",
}


@pytest.mark.parametrize("claim", _EXPECTED)
def test_the_comparison_with_the_original_is_the_models(claim: str) -> None:
    """A figure in a document ages; this one fails first."""
    assert _rows()[claim] == _EXPECTED[claim]


def test_every_figure_of_the_original_is_compared() -> None:
    """None may be left out because it is inconvenient."""
    assert list(_rows()) == list(_EXPECTED)


@pytest.mark.parametrize(
    ("said", "case"),
    [
        ("on demand $0.41-0.62", _builds("1.237")),
        (
            "on a c5.large, which is enough without a GPU test, $0.04",
            _cents(seed_case(builder_usd_per_hour="0.096").build.usd),
        ),
        ("through a NAT gateway is $1.11", _cents(Decimal("18.85") * Decimal("0.059"))),
        ("$0.10 is 1.7 GB of it", _cents(Decimal("1.7") * Decimal("0.059"))),
        ("its own figures save $1.57 and cost $1.58", _cents((seed_case().launch.saved_usd or Decimal(0)) * 10)),
        ("its own figures save $1.57 and cost $1.58", _cents(seed_case().fixed_usd_per_month)),
        ("the month ends at -$5.96", _cents(_REAL.mid.net_usd_per_month(Decimal(10)))),
        *[("never at any of the three Spot prices", f"{case.break_even_launches}") for case in _CASES],
        ("nor on demand (never)", f"{_ON_DEMAND.mid.break_even_launches}"),
        ("380 launches a month when it is prewarmed instead, on demand 142", _prewarmed(_REAL)),
        ("380 launches a month when it is prewarmed instead, on demand 142", _prewarmed(_ON_DEMAND)),
        ("predicted: -1 to 6 min", _minutes(_REAL)),
        ("outside of the predicted 3.6 to 10 min", _stock_minutes(_REAL)),
        ("30 GiB at 300 MiB/s are $0.12 a launch", _cents(_REAL.mid.launch.hydration_usd)),
        ("is worth $0.02 on Spot and $0.05 on demand", _cents(_waiting_usd(_REAL))),
        ("is worth $0.02 on Spot and $0.05 on demand", _cents(_waiting_usd(_ON_DEMAND))),
    ],
)
def test_figures_in_the_reasons_are_the_models_too(said: str, case: str) -> None:
    """The explanation must not contradict the table."""
    assert said in _DOCUMENT
    assert case in said


def test_the_network_of_the_original_is_what_it_is_said_to_be() -> None:
    """2.2 GB in N. Virginia are the same ten cents."""
    assert _cents(Decimal("2.2") * Decimal("0.045")) == "$0.10"
    assert real_case().launch.network_usd == 0
