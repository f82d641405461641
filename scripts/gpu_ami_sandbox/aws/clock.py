"""The clock of the local AWS's own answers: it knows its zone, so that the machine's shows in none of them.

moto keeps some times in UTC and some in the machine's zone, both without saying so: turned into the milliseconds that
Batch answers with, a job in Tokyo has started nine hours before it was made.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(timezone.utc)


def seconds() -> float:
    """Return seconds that only go on, for how long something takes; tests put a clock of theirs in its place."""
    return time.monotonic()
