"""Time for tests: it passes at once, and only while somebody waits."""

from __future__ import annotations

import threading

import pytest

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.throttle import Pace


class Clock:
    """Monotonic seconds that pass only by what is slept.

    A real clock beside a sleep that returns at once would let whoever waits for a moment spin until it comes.

    Attributes:
        now: The time.
        naps: The seconds of each sleep.
    """

    def __init__(self) -> None:
        """Begin at zero."""
        self.now = 0.0
        self.naps: list[float] = []
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass; safe from several threads."""
        with self._lock:
            self.now += seconds
            self.naps.append(seconds)


def hurry(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let every caller of AWS made from now on wait by a clock of its own making, which is returned."""
    clock = Clock()
    # By their defaults, wherever in the pipeline one is made.
    for made, defaults in ((Caller, {"sleep": clock.sleep}), (Pace, {"clock": clock, "sleep": clock.sleep})):
        own = made.__init__.__kwdefaults__
        assert own is not None
        assert own.keys() >= defaults.keys()
        for name, value in defaults.items():
            monkeypatch.setitem(own, name, value)
    return clock
