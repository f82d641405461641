"""The signals that ask a process to end, for tests that send them to their own one."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

ENDS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


@pytest.fixture
def interrupts() -> Iterator[None]:
    """What was interrupted goes on tidying until its process is gone; here the process goes on."""
    before = {number: signal.getsignal(number) for number in ENDS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
