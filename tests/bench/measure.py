"""Timing two ways of doing the same thing in turn, so that a drifting machine drifts for both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """Seconds of each run of ours and of theirs, taken in turn."""

    ours_s: tuple[float, ...]
    theirs_s: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The median of ours over theirs, pair by pair."""
        return statistics.median(a / b for a, b in zip(self.ours_s, self.theirs_s, strict=True))

    def __str__(self) -> str:
        """Return both medians and the ratio."""
        ours, theirs = statistics.median(self.ours_s), statistics.median(self.theirs_s)
        return f"{ours:.2f} s / {theirs:.2f} s = {self.ratio:.2f}"


def seconds(action: Callable[[], object]) -> float:
    """Return how long *action* takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def in_turn(ours: Callable[[], object], theirs: Callable[[], object], *, runs: int = 5) -> Pair:
    """Return *runs* timings of each, after one uncounted run of each."""
    ours()
    theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(runs)]
    return Pair(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def say(name: str, text: str, *, good: bool) -> bool:
    """Print the result of the bench *name* and return whether it is good."""
    print(f"{'ok  ' if good else 'MISS'} {name}: {text}", flush=True)  # noqa: T201
    return good
