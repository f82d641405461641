"""The answer of `invoke coldstart` as data, tables and picture."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from gpu_ami import svg
from gpu_ami.coldstart.assumptions import ASSUMPTIONS, assumed, parse_ranges, with_given
from gpu_ami.coldstart.chart import COLOURS, WIDTH, draw, sentence
from gpu_ami.coldstart.model import LABELS, PHASES, VARIANTS, PhaseTime, Prediction
from gpu_ami.coldstart.report import Report, report, tables
from gpu_ami.drawing import Line, Rectangle, Text
from gpu_ami.units import show_duration
from tests.support.schemas import problems


def _report(*values: str, host: str = "g5.xlarge", fitted: bool = False) -> Report:
    inputs = with_given(assumed(), parse_ranges(values, flag="--set"), "--set")
    return report(host, inputs, _as_measured) if fitted else report(host, inputs)


def _as_measured(prediction: Prediction) -> Prediction:
    times = [
        PhaseTime(phase.name, phase.seconds, "fitted: 3 hosts of b.json" if phase.name == "queue" else phase.source)
        for phase in prediction.phases
    ]
    return Prediction(prediction.variant, times, prediction.widths)


def test_the_documents_keys_are_the_contract() -> None:
    """Scripts read these; the total of each way is the sum of its phases to a tenth."""
    document = _report().document()

    assert problems("coldstart", document) == []
    assert [row["variant"] for row in document["variants"]] == list(VARIANTS)
    for row in document["variants"]:
        assert [phase["name"] for phase in row["phases"]] == list(PHASES)
        assert sum(phase["likely_s"] for phase in row["phases"]) == pytest.approx(row["total"]["likely_s"], abs=0.5)
        assert row["total"]["low_s"] < row["total"]["likely_s"] < row["total"]["high_s"]
    assert [row["name"] for row in document["inputs"]] == list(ASSUMPTIONS)
    assert json.loads(json.dumps(document)) == document


def test_the_what_ifs_are_those_that_one_asks_first() -> None:
    """Image, rate, throughput and instance store, each against the same way without the change."""
    rows = {(row.change, row.variant): row for row in _report().what_ifs}

    assert rows["image 5 GiB smaller", "stock"].against_s < -45
    assert [rows[f"rate {rate} MiB/s", "rated"].against_s for rate in (100, 300)] == [pytest.approx(122, abs=2), 0]
    assert rows["throughput 125 MiB/s", "rated"].against_s > 0
    assert rows["throughput 500 MiB/s", "stock"].against_s == 0
    assert rows["instance store (NVMe) for the pull", "fast_pull"].against_s < 0


def test_a_smaller_image_is_smaller_in_all_that_is_given() -> None:
    """Also of sizes that somebody has said, the same share is gone; no size becomes negative."""
    given = {
        row.change + row.variant: row for row in _report("image_gib=10", "touched_gib=8", "snapshot_gib=20").what_ifs
    }
    tiny = {row.change + row.variant: row for row in _report("image_gib=2").what_ifs}

    assert given["image 5 GiB smallerplain"].against_s < -100
    assert tiny["image 5 GiB smallerstock"].total.likely > 0
    assert _report("image_gib=0").what_ifs[0].against_s == 0


def test_the_tables_say_what_is_assumed_and_where_the_inputs_are() -> None:
    """Nobody may take a prediction for a measurement."""
    shown = tables(_report())
    everything = tables(_report(), all_inputs=True)

    assert shown[0].title == "A cold start on g5.xlarge, from the job's submission to models ready"
    assert [row[0] for row in shown[0].rows] == [*(LABELS[phase] for phase in PHASES), "in all", "likely in all"]
    total = _report().predictions[0].total
    assert shown[0].rows[-2][1] == f"{total.low:.0f}-{total.likely:.0f}-{total.high:.0f}"
    assert len(shown[0].columns) == 1 + len(VARIANTS)
    assert "Assumed, not measured here" in shown[0].footer[1]
    assert shown[1].title == "What would change it"
    # "3 m 15 s to 7 m 59 s" was broken within the last duration at 80 columns.
    assert all(re.fullmatch(r"[\d.]+ to [\d.]+ min", row[3]) for row in shown[1].rows)
    assert shown[1].footer[0].startswith(f"Likely in all: stock {show_duration(total.likely)}, plain ")
    assert [row[0] for row in everything[2].rows] == list(ASSUMPTIONS)


def test_invented_times_and_void_hosts_are_told_under_the_table_and_in_the_picture() -> None:
    """A picture of the sandbox's times in a decision paper would be a lie."""
    answered = replace(_report(fitted=True), void=2, invented=True)

    said = " ".join(tables(answered)[0].footer)
    assert "The sandbox invented these times" in said
    assert "Left out as void, with a reason in the result: 2 hosts." in said
    assert any("the sandbox invented, which says nothing of AWS" in text for text in _texts(answered))
    assert problems("coldstart", answered.document()) == []
    assert (answered.document()["void_hosts"], answered.document()["times_are_invented"]) == (2, True)


def test_what_is_fitted_is_marked() -> None:
    """With a star in its column, and by name below, what is assumed everywhere too."""
    first = tables(_report(fitted=True))[0]

    assert all(cell.endswith("*") for cell in first.rows[0][1:])
    assert not any(cell.endswith("*") for row in first.rows[1:] for cell in row)
    assert first.footer[1].startswith(
        "* fitted to hosts that were measured: queue. Assumed for every way: launch, boot"
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["at_once=1"], ""),
        (["at_once=11"], "Fast Snapshot Restore has 10 credits"),
        (["at_once=17"], "More volumes at once than the Region's 5,000 MiB/s"),
    ],
)
def test_too_many_at_once_are_warned_about(values: list[str], said: str) -> None:
    """A burst meets two limits that one instance never sees."""
    notes = " ".join(tables(_report(*values))[0].footer[2:])

    assert said in notes
    assert bool(notes) is bool(said)


# --- The picture ---------------------------------------------------------------------------------


def _texts(answered: Report) -> list[str]:
    return [shape.text for shape in draw(answered).shapes if isinstance(shape, Text)]


def test_the_bars_are_as_long_as_their_phases() -> None:
    """A picture in a decision paper is believed: its lengths are the seconds."""
    answered = _report()
    drawing = draw(answered)

    bars = [shape for shape in drawing.shapes if isinstance(shape, Rectangle) and shape.height == 24]
    phases = [phase for one in answered.predictions for phase in one.phases]
    (scale,) = {round(bar.width / phase.seconds.likely, 6) for bar, phase in zip(bars, phases, strict=True)}
    assert {bar.fill for bar in bars} == set(COLOURS.values())
    lines = [shape.points for shape in drawing.shapes if isinstance(shape, Line) and shape.width == 1.5]
    # The legend's own line is the first; the ends of each range are upright.
    spans = [end[0] - begin[0] for begin, end in lines[1:] if begin[1] == end[1]]
    expected = [(one.total.high - one.total.low) * scale for one in answered.predictions]
    assert spans == pytest.approx(expected, rel=1e-3)


def test_the_picture_says_which_way_is_the_fastest_and_that_it_is_predicted() -> None:
    """Without it a reader has to measure bars."""
    shown = _texts(_report())

    assert any(text.startswith("Likely the fastest: baked, Fast Snapshot Restore (") for text in shown)
    assert (
        "Predicted from public measurements, not measured here. Inputs and sources: invoke coldstart --inputs." in shown
    )
    assert any(text.startswith("Fitted to hosts that were measured: queue") for text in _texts(_report(fitted=True)))


def test_the_picture_says_of_what_it_is() -> None:
    """Cut out and put into a paper, it has to name its image: another one starts otherwise."""
    (what,) = [text for text in _texts(_report("image_gib=9", "throughput_mib_s=250")) if text.startswith("Image of ")]

    assert what.startswith("Image of 9 GiB, models of 1.9 GiB. Volume at 250 MiB/s, provisioned rate 300 MiB/s")


def test_a_stock_ami_can_be_the_fastest() -> None:
    """A small image is pulled faster than a rate is paid for."""
    stock = [one for one in _report().predictions if one.variant in ("stock", "plain")]

    assert sentence(stock).startswith("Likely the fastest: the stock AMI (")


@pytest.mark.parametrize(
    "values",
    [
        (),
        ("image_gib=2000",),
        ("models_gib=60000", "readers=1"),
        ("queue_s=0", "image_gib=0", "models_gib=0"),
        ("queue_s=1..5..80000",),
    ],
)
def test_every_shape_stays_in_the_frame(values: Any) -> None:
    """Whatever the numbers: no label off the edge, no bar outside."""
    drawing = draw(_report(*values))

    for shape in drawing.shapes:
        if isinstance(shape, Text):
            width = 0.56 * shape.size * len(shape.text)
            left = {"start": shape.x, "middle": shape.x - width / 2, "end": shape.x - width}[shape.anchor]
            assert left >= -0.5, shape
            assert left + width <= WIDTH + 0.5, shape
        elif isinstance(shape, Rectangle):
            assert 0 <= shape.x <= shape.x + shape.width <= WIDTH + 0.5, shape
    assert svg.render(drawing).startswith("<svg")


def test_the_grid_has_a_few_lines_at_times_that_people_say() -> None:
    """Minutes for minutes, hours for hours."""
    for values, unit in ((("image_gib=1",), "min"), (("models_gib=6000",), "h")):
        ticks = [
            text
            for text in _texts(_report(*values))
            if text.replace(".", "", 1).split(" ")[0].isdigit() and text.split(" ")[-1] == unit and len(text) < 9
        ]
        assert 3 <= len(ticks) <= 10


def test_ranges_given_reach_the_answer() -> None:
    """A range of a size, too: it makes the whole less certain."""
    answered, fixed = _report("image_gib=10..20..30"), _report("image_gib=20")

    widths = [one.predictions[0].total.high - one.predictions[0].total.low for one in (answered, fixed)]
    assert widths[0] > widths[1] + 100
    assert answered.document()["inputs"][0] == {
        "name": "image_gib",
        "low": 10.0,
        "likely": 20.0,
        "high": 30.0,
        "unit": "GiB",
        "source": "given: --set",
    }
