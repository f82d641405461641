"""How good the model is, computed here and shown in docs/coldstart.md.

`python -m tests.coldstart.test_calibration` writes the page's tables anew.
"""

from __future__ import annotations

import functools
import io
import statistics
from pathlib import Path

import pytest

from gpu_ami.coldstart import calibration, points, validation
from gpu_ami.coldstart.assumptions import FITTED, Range, assumed
from gpu_ami.coldstart.calibration import Judged
from gpu_ami.console import Console

# One worker computes once what they look at.
pytestmark = pytest.mark.xdist_group("calibration")

_PAGE = Path(__file__).parents[2] / "docs" / "coldstart.md"
_BEGIN, _END = "<!-- Written by `python -m tests.coldstart.test_calibration`. -->\n", "<!-- End. -->"


@functools.cache
def _judged() -> tuple[Judged, ...]:
    return tuple(calibration.judge(calibration.known()))


def _tables() -> str:
    out = io.StringIO()
    Console("markdown", out=out).result({}, *validation.tables(_judged()))
    return out.getvalue()


def test_the_fit_in_the_code_is_the_fit_of_the_points() -> None:
    """Whoever adds a point to measured.csv has to take over what it says."""
    assert calibration.fit(calibration.known()) == FITTED


def test_the_page_shows_what_the_model_says() -> None:
    """A table that was typed in ages; this one is the program's."""
    text = _PAGE.read_text(encoding="utf-8")

    assert text.split(_BEGIN)[1].split(_END)[0] == _tables()


def test_the_model_is_as_good_as_is_asked_of_it() -> None:
    """Of points that it was not fitted on: inside, near, narrow; and better than the mean on each count."""
    model, baseline = validation.scores(_judged())

    assert model.inside >= 0.7
    assert model.error <= 0.3
    assert model.width <= 2.5
    assert max(one.predicted.high / one.predicted.low for one in _judged()) <= 4
    assert model.inside > baseline.inside
    assert model.error < baseline.error
    assert model.width < baseline.width


@pytest.mark.parametrize(
    ("lot", "count", "said"),
    [
        ("unfitted.csv", 11, "the model of this page meets them at {inside} % inside and {error} % off"),
        ("fresh.csv", 23, "it meets them, no longer unseen, at {inside} % inside and {error} % off"),
        ("latest.csv", 11, "it meets them at {inside} % inside and {error} % off, {width} times wide"),
        ("unseen.csv", 20, "wait for each other less: {inside} % inside and {error} % off now"),
        ("further.csv", 14, "{inside} % inside and {error} % off now, {width} times wide"),
    ],
)
def test_the_page_says_how_the_model_meets_points_that_it_was_not_fitted_to(lot: str, count: int, said: str) -> None:
    """The honest figure beside the flattering one: these are no rows of measured.csv, and stay none."""
    unfitted = points.load(Path(__file__).with_name(lot))
    pairs = points.measured(unfitted)
    answered = calibration.predicted(unfitted, assumed())
    score = calibration.score([seconds for _, seconds in pairs], answered)

    assert {point.what for point in unfitted}.isdisjoint(point.what for point in calibration.known())
    assert len(pairs) == count
    text = " ".join(_PAGE.read_text(encoding="utf-8").split())
    assert (
        said.format(inside=f"{100 * score.inside:.0f}", error=f"{100 * score.error:.0f}", width=f"{score.width:.1f}")
        in text
    )
    assert max(one.high / one.low for one in answered) <= 4


def test_most_ranges_are_two_and_a_half_times_from_low_to_high() -> None:
    """Of all points, fitted and not: the wide ranges are for the starts that are known least."""
    lots = [calibration.known(), *(points.load(path) for path in sorted(Path(__file__).parent.glob("*.csv")))]
    answered = [one for lot in lots for one in calibration.predicted(lot, assumed())]

    assert len(lots) == 6
    assert statistics.median(one.high / one.low for one in answered) <= 2.5


def test_the_model_meets_what_is_asked_without_a_points_whole_source() -> None:
    """Points of one source are alike: one is easy to meet by a model that was fitted to the others."""
    known = calibration.known()
    sources = [_source(point.what) for point in known]
    judged = []
    for source in dict.fromkeys(sources):
        others = [point for point, its in zip(known, sources, strict=True) if its != source]
        ours = [point for point, its in zip(known, sources, strict=True) if its == source]
        said = calibration.predicted(ours, assumed(calibration.fit(others)))
        judged += [(seconds, one) for (_, seconds), one in zip(points.measured(ours), said, strict=True)]
    score = calibration.score([seconds for seconds, _ in judged], [one for _, one in judged])

    assert len(judged) == len(known)
    assert score.inside >= 0.7
    assert score.error <= 0.3
    text = " ".join(_PAGE.read_text(encoding="utf-8").split())
    assert f"{100 * score.inside:.0f} % inside and {100 * score.error:.0f} % off" in text


def _source(what: str) -> str:
    """Who measured it: the name before the colon, and of one team's issues the team."""
    return what.split(":", maxsplit=1)[0].split(" ", maxsplit=1)[0]


def test_a_point_is_judged_without_itself() -> None:
    """Else any model is good: the fit without it differs from the fit with it, and so does what is said of it."""
    all_points = calibration.known()
    one = next(judged for judged in _judged() if judged.point.id == "gpu-node")
    others = [point for point in all_points if point.id != "gpu-node"]

    assert calibration.fit(others) != FITTED
    assert one.predicted != calibration.predicted([one.point], assumed())[0]


def test_the_fit_follows_the_points_it_is_given() -> None:
    """Points that are all three times as slow make the factors slow; with none they stay at 1."""
    slow = "".join(
        f"p{number},stock,,,,,,,,,,,launch,register,{seconds}\n" for number, seconds in enumerate((210, 216, 220, 225))
    )
    rows = points.parse(",".join((*points.COLUMNS, "measured_s")) + "\n" + slow, source="p")

    fitted = calibration.fit(rows)

    assert fitted["host"] > 1.1
    assert fitted["pull"] == 1
    assert calibration.fit([]) == dict.fromkeys(FITTED, 1)


def test_a_point_that_is_far_off_counts_less() -> None:
    """What is wrong with a start of half an hour is not in the model: it moves a factor hardly more than a slow one."""
    header = ",".join((*points.COLUMNS, "measured_s")) + "\n"
    slow, absurd = (
        calibration.fit(points.parse(f"{header}p,stock,,,,,,,,,,,launch,register,{seconds}\n", source="p"))["host"]
        for seconds in (300, 3000)
    )

    assert 1 < slow <= absurd < 1.1 * slow


def test_the_fit_is_to_what_is_answered() -> None:
    """Fitting asks for the likely value alone, three times as fast: it has to be the one that people get."""
    known = calibration.known()

    assert points.likely_s(known, assumed()) == pytest.approx(
        [answer.seconds.likely for answer in points.answers(known, assumed())]
    )


def test_scores_count_what_they_say() -> None:
    """Inside includes the ends; the median of an even number is between the two."""
    said = [Range(1, 2, 4), Range(10, 20, 40), Range(1, 1, 1), Range(5, 10, 15)]

    found = calibration.score([4, 9, 1, 5], said)

    assert found.inside == 0.75
    assert found.error == pytest.approx((0.5 + 1) / 2)
    assert found.width == pytest.approx((3 + 4) / 2)


def test_every_known_point_says_what_it_is_and_is_one() -> None:
    """Ids are distinct, and each was measured."""
    known = calibration.known()

    assert len({point.id for point in known}) == len(known) >= 30
    assert all(point.what and point.measured_s for point in known)


if __name__ == "__main__":
    page = _PAGE.read_text(encoding="utf-8")
    before, rest = page.split(_BEGIN)
    _PAGE.write_text(before + _BEGIN + _tables() + _END + rest.split(_END)[1], encoding="utf-8")
