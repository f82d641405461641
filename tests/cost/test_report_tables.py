"""The answer as people read it."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pytest

from gpu_ami.console import Console
from gpu_ami.cost.inputs import CostRequest
from gpu_ami.cost.price_table import load
from gpu_ami.cost.report import CostReport, report
from gpu_ami.cost.report_tables import headline, tables
from tests.cost.builders import REPORTED, REPORTED_AND_LOADED, SEOUL, TODAY


def _report(**fields: Any) -> CostReport:
    return report(CostRequest(**{"region": SEOUL, **fields}), load(), today=TODAY)


_LESS = "Waiting: 17 m 00 s less per cold start, 2 h 50 m a month. Money: "
_MORE = "Waiting: 10 m 00 s more per cold start, 1 h 40 m a month. Money: "
_NEVER = "it never pays, a launch costs more with the AMI"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"given": REPORTED_AND_LOADED}, f"{_LESS}it pays from 663 launches a month on; -$4.84 a month at 10."),
        ({"instance_type": "g6.xlarge", "given": REPORTED_AND_LOADED}, f"{_LESS}{_NEVER}; -$5.28 a month at 10."),
        (
            {"given": {**REPORTED, "lazy_load_s": Decimal(1680)}, "market": "on-demand"},
            f"{_MORE}{_NEVER}; -$8.21 a month at 10.",
        ),
        (
            {"region": "eu-west-1", "given": REPORTED_AND_LOADED},
            f"{_LESS}whether it pays is unknown; unknown a month at 10.",
        ),
    ],
    ids=["late", "never", "slower", "unknown"],
)
def test_the_headline_says_waiting_first_and_money_second(fields: dict[str, Any], said: str) -> None:
    """The money is small either way; the waiting is what an AMI is for."""
    assert headline(_report(**fields)) == said


def test_the_answer_comes_first_and_the_inputs_only_when_requested() -> None:
    """A pull request shows the beginning; forty inputs are for who asks how it comes about."""
    answered = _report(compare=("g6.xlarge",))
    shown, everything = tables(answered), tables(answered, all_inputs=True)

    assert shown[0].title == "g5.xlarge spot in ap-northeast-2, network path: gateway"
    assert [table.title for table in shown[1:]] == [
        "What the AMI costs",
        "Other ways to start 10 jobs a month",
        "What would change it",
        "Beside it",
    ]
    assert everything[:-1] == shown
    assert everything[-1].columns == ("input", "value", "unit", "source")
    assert len(everything[-1].rows) == len(answered.figures)
    assert "apne2-az4 $0.3700" in everything[-1].footer[0]


@pytest.mark.parametrize(
    "fields", [{}, {"market": "on-demand"}, {"instance_type": "g6.xlarge"}, {"region": "eu-west-1"}]
)
def test_the_answer_is_one_screen(fields: dict[str, Any]) -> None:
    """The answer, what it costs, the other ways and what would change it: 100 columns, 40 lines, the prompt below."""
    out = io.StringIO()
    answered = _report(**fields)

    Console("table", out=out).result(answered.document(), *tables(answered))

    lines = out.getvalue().splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= 100


def test_jobs_are_told_from_launches_where_an_instance_runs_several() -> None:
    """Else both break-evens are one number, and one row says it."""
    given = {**REPORTED_AND_LOADED, "jobs_per_instance": Decimal(4)}

    rows = {row[0]: row[2] for row in tables(_report(given=given))[0].rows}

    assert rows["pays from launches a month"] == "663"
    assert rows["pays from jobs a month"] == "2,653"
    assert "pays from jobs a month" not in {row[0] for row in tables(_report())[0].rows}


def test_the_answer_says_how_unsure_the_times_are() -> None:
    """In minutes, and where they come from; nothing of it where all are given."""
    said = " ".join(tables(_report())[0].footer)
    stated = " ".join(tables(_report(given=REPORTED_AND_LOADED))[0].footer)

    spread = _report().inputs.spread
    assert f"{spread.stock.low / 60:.1f} to {spread.stock.high / 60:.1f} min without the AMI" in said
    assert "`invoke coldstart`" in said
    assert "predicted" not in stated


def test_the_preset_shows_its_way_to_reality() -> None:
    """Next to its own numbers."""
    shown = tables(_report(preset="seed"))

    bridge = next(table for table in shown if table.title.startswith("From the preset seed"))
    assert bridge.rows[0] == ("the preset seed", "$0.157", "10.1")
    assert bridge.rows[-1][2] == "never"
    assert shown[0].title.startswith("preset seed")


def test_unknown_is_written_out() -> None:
    """No cell of a table may read $0.00 for a price that nobody knows."""
    texts = [cell for table in tables(_report(region="eu-west-1")) for row in table.rows for cell in row]

    assert "unknown" in texts
    answer = tables(_report(region="eu-west-1"))[0]
    assert answer.rows[4] == ("pays from launches a month", "unknown", "unknown", "unknown")


def test_amounts_keep_the_digits_that_matter() -> None:
    """A saving of a twentieth of a cent is not $0.000, and unit prices are not rounded."""
    tiny = _report(given={**REPORTED_AND_LOADED, "pull_s": Decimal(963), "instance_usd_per_hour": Decimal("0.4607")})
    rows = {row[0]: row[1] for row in tables(tiny)[0].rows}

    assert rows["instance, an hour"] == "$0.4607"
    assert rows["saved per launch"] == "$0.0001"


@pytest.mark.parametrize("output", ["table", "markdown"])
def test_it_can_be_printed_in_each_form(output: Any) -> None:
    """Every row has as many texts as its table has columns."""
    out = io.StringIO()
    answered = _report(preset="seed", compare=("g6.xlarge",))

    Console(output, out=out).result(answered.document(), *tables(answered))

    assert "10.1" in out.getvalue()
