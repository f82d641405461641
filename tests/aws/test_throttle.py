"""The pace of one API: none until it throttles, then as fast as it lets through."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from gpu_ami.aws.throttle import Pace
from tests.support.clock import Clock


class Bucket:
    """AWS's token bucket and a clock that stops while nobody sleeps."""

    def __init__(self, burst: float, per_s: float) -> None:
        """Start full."""
        self.now, self.tokens, self._burst, self._per_s = 0.0, burst, burst, per_s

    def clock(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass and the bucket fill."""
        self.now += seconds
        self.tokens = min(self._burst, self.tokens + seconds * self._per_s)

    def take(self) -> bool:
        """Return whether a call is let through; a call takes 5 ms."""
        self.sleep(0.005)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def _run(bucket: Bucket, calls: int) -> tuple[Pace, int]:
    pace, refused = Pace(clock=bucket.clock, sleep=bucket.sleep), 0
    while calls:
        sent_at = pace.wait()
        if bucket.take():
            pace.succeeded()
            calls -= 1
        else:
            refused += 1
            pace.throttled(sent_at)
    return pace, refused


def test_what_never_throttles_is_never_slowed() -> None:
    """A limit that we only believe in would make every run slow."""
    bucket = Bucket(10_000, 1)

    pace, refused = _run(bucket, 1000)

    assert (pace.rate_per_s, refused) == (None, 0)
    assert bucket.now < 5.1


def test_a_throttling_api_is_used_nearly_to_its_limit() -> None:
    """600 calls at 5 a second after a burst of 50 take 110 s at least; more than a fifth on top is our waste."""
    bucket = Bucket(50, 5)

    _, refused = _run(bucket, 600)

    assert 110 <= bucket.now <= 1.2 * 110
    assert refused < 120


def test_calls_under_way_when_the_rate_fell_do_not_lower_it_again() -> None:
    """Sixteen workers get sixteen refusals at once; that is one piece of news."""
    bucket = Bucket(1000, 1)
    pace = Pace(clock=bucket.clock, sleep=bucket.sleep)
    for _ in range(100):
        pace.wait()
        bucket.take()
        pace.succeeded()
    pace.throttled(sent_at=bucket.now - 0.01)
    rate = pace.rate_per_s

    pace.throttled(sent_at=bucket.now - 0.01)

    assert rate is not None
    assert pace.rate_per_s == rate
    bucket.sleep(1)
    pace.throttled(sent_at=bucket.now)
    assert pace.rate_per_s < rate


def test_the_rate_never_falls_to_nothing() -> None:
    """After a long outage the run must still go on."""
    bucket = Bucket(0, 0)
    pace = Pace(clock=bucket.clock, sleep=bucket.sleep)
    for _ in range(50):
        pace.throttled(pace.wait())
        bucket.sleep(1)

    assert pace.rate_per_s == 0.5


def test_callers_in_the_queue_go_at_todays_rate() -> None:
    """Turns that were given out while the rate was low would hold everybody up long after it rose."""
    clock, queue, has_risen = Clock(), set[int](), threading.Event()

    def now() -> float:
        queue.add(threading.get_ident())
        return clock.now

    def sleep(seconds: float) -> None:
        assert has_risen.wait(60)
        clock.sleep(seconds)

    pace = Pace(clock=now, sleep=sleep)
    pace.throttled(pace.wait())
    queue.clear()
    with ThreadPoolExecutor(max_workers=20) as pool:
        waiting = [pool.submit(pace.wait) for _ in range(20)]
        end = time.monotonic() + 300
        while len(queue) < 20 and time.monotonic() < end:
            time.sleep(0.001)
        pace._rate = 1000.0
        has_risen.set()
        for call in waiting:
            call.result(timeout=60)

    # At the first rate, two a second, the last one would have waited ten seconds.
    assert clock.now < 8
