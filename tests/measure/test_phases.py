"""Phases between moments: what they are called, which clock they are of, and what is not made up."""

from __future__ import annotations

import pytest

from gpu_ami.coldstart import model
from gpu_ami.measure import phases
from gpu_ami.measure.phases import PHASES, spans, spreads, total_s
from tests.measure.bench_hosts import host, moved


def test_the_phases_are_the_predictions_own() -> None:
    """A prediction and what came of it can be laid side by side."""
    assert (*model.PHASES, "total") == PHASES
    assert {*phases.BETWEEN} == {*phases.LABELS} == {*PHASES}


def test_all_time_is_some_phases() -> None:
    """Of a pulled start and of a baked one: what is in no phase would be lost between two columns."""
    for one in (host("stock"), host("rated")):
        parts = [span.seconds or 0.0 for span in spans(one)[:-1]]
        assert sum(parts) == pytest.approx(total_s(one))


def test_a_baked_host_has_no_pull_and_that_is_no_gap() -> None:
    """prefer-cached leaves the pull's times out; a pull of 0 s was never measured."""
    found = {span.phase: span for span in spans(host())}

    assert (found["pull_unpack"].seconds, found["pull_unpack"].missing) == (None, "nothing was pulled")
    assert (found["create_start"].begins, found["create_start"].seconds) == ("placed", 5)


def test_only_phases_of_one_clock_are_exact() -> None:
    """Between others there is skew, which the reader has to know."""
    assert {span.phase for span in spans(host("stock")) if span.is_exact} == {"register", "models"}


def test_a_missing_moment_takes_both_its_phases_with_it_and_says_why() -> None:
    """Neither neighbour is stretched over it."""
    found = {span.phase: span for span in spans(moved(host(), registered="gone with its host"))}

    for phase in ("boot", "register"):
        assert (found[phase].seconds, found[phase].missing) == (None, "registered: gone with its host")
    assert found["total"].seconds == 200


def test_skew_is_shown_as_what_it_is_and_kept() -> None:
    """A negative time is no time; clamped to 0 nobody would see that two clocks disagree."""
    late = moved(host(), started=99.4)

    span = next(span for span in spans(late) if span.phase == "create_start")

    assert span.seconds == pytest.approx(-0.6)
    assert not span.is_judged
    assert phases.show(span.seconds) == "≤ 1 s"
    assert [phases.show(seconds) for seconds in (None, 0.04, 1.26, 842.2)] == ["", "0.0 s", "1.3 s", "14 m 02 s"]
    assert [phases.is_judged(seconds) for seconds in (None, 1.9, 2.0, -2.5)] == [False, False, True, True]


def test_median_and_worst_are_of_one_arm_and_of_what_was_measured() -> None:
    """A host without a phase takes no part in it; no host at all gives no number."""
    hosts = [
        host(total_s=200),
        host("rated", 2, total_s=230),
        moved(host("rated", 3), models_done="cut"),
        host("stock"),
    ]

    found = {(one.arm, one.phase): one for one in spreads(hosts)}

    total = found["rated", "total"]
    assert (total.hosts, total.best_s, total.median_s, total.worst_s) == (2, 200, 215, 230)
    nothing = found["rated", "pull_unpack"]
    assert (nothing.hosts, nothing.median_s, nothing.worst_s, nothing.is_exact) == (0, None, None, False)
    assert found["stock", "pull_unpack"].median_s == 601
