"""Fits the model to points that were measured, and asks it for each point what it would say without knowing it.

Five factors are fitted, one for each group of inputs that are wrong together: the host, the pull, first touch of code
and of data, the application. Each is drawn towards 1, the more the fewer points speak about it: a hundred points of
fifty sources are no reason to believe any factor of two.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_ami.coldstart import points as rows
from gpu_ami.coldstart.assumptions import Group, Inputs, Range, assumed
from gpu_ami.coldstart.points import Point

MEASURED = Path(__file__).with_name("measured.csv")
GROUPS: tuple[Group, ...] = ("host", "pull", "code", "data", "application")
# How far, in logarithms, one point is expected to lie from a good model, and a factor from 1.
_POINT, _FACTOR = 0.4, 0.12
_ROUNDS = 2
_STEP = 0.02


@dataclass(frozen=True)
class Judged:
    """One point, and what the model says of it when it was fitted on all others."""

    point: Point
    measured_s: float
    predicted: Range
    baseline: Range

    @property
    def error(self) -> float:
        """The likely value's error, as a share of what was measured."""
        return self.predicted.likely / self.measured_s - 1


@dataclass(frozen=True)
class Score:
    """How good answers are."""

    inside: float
    error: float
    width: float

    def document(self) -> dict[str, float]:
        """Return it as JSON-ready values."""
        return {
            "inside_share": round(self.inside, 3),
            "median_error": round(self.error, 3),
            "median_high_over_low": round(self.width, 2),
        }


@functools.cache
def known() -> tuple[Point, ...]:
    """Return the public measurements that come with the pipeline."""
    return tuple(rows.load(MEASURED))


def fit(points: Sequence[Point]) -> dict[Group, float]:
    """Return the factors that fit *points* best: the least sum of squares, of errors and of factors' distance from 1.

    A point that lies further off than one is expected to counts less, in proportion (Huber): what is wrong with it is
    most often not in the model. Gauss-Newton, one factor after the other; a handful of rounds is enough for factors
    that hardly touch each other.
    """
    pairs = rows.measured(points)
    logs = dict.fromkeys(GROUPS, 0.0)
    for _ in range(_ROUNDS):
        for group in GROUPS:
            here = _misses(pairs, logs)
            there = _misses(pairs, logs | {group: logs[group] + _STEP})
            slopes = [(b - a) / _STEP for a, b in zip(here, there, strict=True)]
            trusted = [min(1.0, _POINT / abs(miss)) if miss else 1.0 for miss in here]
            pull = sum(w * slope * miss for w, slope, miss in zip(trusted, slopes, here, strict=True)) / _POINT**2
            weight = sum(w * slope * slope for w, slope in zip(trusted, slopes, strict=True)) / _POINT**2
            weight += 1 / _FACTOR**2
            logs[group] -= (pull + logs[group] / _FACTOR**2) / weight
    return {group: round(math.exp(value), 3) for group, value in logs.items()}


def _misses(pairs: Sequence[tuple[Point, float]], logs: Mapping[Group, float]) -> list[float]:
    factors: dict[Group, float] = {group: math.exp(value) for group, value in logs.items()}
    said = rows.likely_s([point for point, _ in pairs], assumed(factors))
    return [math.log(likely / seconds) for likely, (_, seconds) in zip(said, pairs, strict=True)]


def judge(points: Sequence[Point]) -> list[Judged]:
    """Return what the model says of each of *points* when it is fitted on all others, beside the mean of those."""
    pairs = rows.measured(points)
    found = []
    for number, (point, seconds) in enumerate(pairs):
        others = [*pairs[:number], *pairs[number + 1 :]]
        said = predicted([point], assumed(fit([other for other, _ in others])))[0]
        found.append(Judged(point, seconds, said, _mean([other for _, other in others])))
    return found


def predicted(points: Sequence[Point], known_inputs: Inputs) -> list[Range]:
    """Return what the model says of *points*."""
    return [answer.seconds for answer in rows.answers(points, known_inputs)]


def _mean(seconds: Sequence[float]) -> Range:
    """Return what a model says that knows nothing but the mean, as wide as ours may be at most."""
    mean = sum(seconds) / len(seconds)
    return Range(mean / 2, mean, mean * 2)


def score(measured_s: Sequence[float], said: Sequence[Range]) -> Score:
    """Return the share of measurements within low and high, the median error and the median width of *said*."""
    pairs = list(zip(measured_s, said, strict=True))
    return Score(
        sum(one.low <= seconds <= one.high for seconds, one in pairs) / len(pairs),
        _median([abs(one.likely / seconds - 1) for seconds, one in pairs]),
        _median([one.high / one.low for _, one in pairs]),
    )


def _median(numbers: Sequence[float]) -> float:
    # `statistics` takes longer to import than all of this.
    ordered = sorted(numbers)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
