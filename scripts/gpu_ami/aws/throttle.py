"""Paces the calls of one AWS API: unlimited until it throttles, then at an adaptive rate."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

# After a throttling answer the rate falls to this share, and grows again by this share a second, faster with time.
_BACK_OFF = 0.7
_GROWTH_PER_S = 0.1
_FIRST_PER_S = 2.0
_SLOWEST_PER_S = 0.5
# The rate before the first throttling answer is measured over this long.
_WINDOW_S = 1.0
_LATE_S = 0.1
# So many answers' times are kept for that at most.
_MOST_DONE = 1024
# What it guards takes microseconds: one for all is waited for less than one for each would take memory.
_lock = threading.Lock()


class Pace:
    """The rate of one API in one account and region; unlimited until its first throttling answer.

    AWS gives each API a token bucket: a burst, then a steady rate. Staying a little around that rate empties the
    bucket all the time, which is as fast as AWS allows.

    Args:
        clock: Monotonic seconds.
        sleep: Waits for some seconds.
    """

    # A fleet has one for each API of hundreds of places: ten times as much memory would be a fifth of all it takes.
    __slots__ = (
        "_clock",
        "_done",
        "_grown_at",
        "_next",
        "_rate",
        "_sleep",
        "_slowed_at",
        "_turnstile",
        "progress_at",
    )

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Start without a limit."""
        self._clock = clock
        self._sleep = sleep
        self._turnstile: threading.Lock | None = None
        self._rate: float | None = None
        self._next = 0.0
        self._grown_at = 0.0
        self._slowed_at = float("-inf")
        self._done: list[float] = []
        self.progress_at = clock()

    @property
    def rate_per_s(self) -> float | None:
        """Calls a second that are let through; None before the first throttling answer."""
        return self._rate

    def wait(self) -> float:
        """Wait for this call's turn; return when it was let through."""
        now = self._clock()
        if self._rate is None:
            return now
        # One caller at a time waits for the next turn. Turns given out in advance would be at a rate of the past.
        with self._turnstile or contextlib.nullcontext():
            while (left := self._left()) > 0:
                self._sleep(left)
            return self._clock()

    def _left(self) -> float:
        """Return the seconds until the next turn; take it when it has come."""
        with _lock:
            now = self._clock()
            if self._rate is not None and self._next <= now:
                # Oversleeping a little must not lower the rate.
                self._next = max(self._next, now - _LATE_S) + 1 / self._rate
                return 0.0
            return self._next - now

    def succeeded(self) -> None:
        """Note an answer that was not a throttling one."""
        with _lock:
            now = self._clock()
            self.progress_at = now
            if self._rate is None:
                self._done.append(now)
                if len(self._done) >= 2 * _MOST_DONE:
                    del self._done[:-_MOST_DONE]
            else:
                # The longer nothing is throttled, the further off the limit must be.
                share = _GROWTH_PER_S * max(1.0, now - self._slowed_at)
                self._rate *= 1 + share * min(1.0, max(0.0, now - self._grown_at))
                self._grown_at = now

    def throttled(self, sent_at: float) -> None:
        """Note a throttling answer to a call that was let through at *sent_at*.

        Calls that were under way when the rate last fell say nothing about the new rate.
        """
        with _lock:
            now = self._clock()
            if self._rate is None:
                self._turnstile = threading.Lock()
                recent = sum(1 for moment in self._done if moment > now - _WINDOW_S)
                self._rate = max(_FIRST_PER_S, recent * _BACK_OFF)
                self._done = []
            elif sent_at > self._slowed_at:
                self._rate = max(_SLOWEST_PER_S, self._rate * _BACK_OFF)
            else:
                return
            self._slowed_at = self._grown_at = now
            self._next = now + 1 / self._rate
