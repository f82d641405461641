"""One run that changes things at a time, on one machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpu_ami.errors import SafetyError


@contextmanager
def only_one(logs: Path) -> Iterator[None]:
    """Keep a second run with the same folder of journals out.

    Raises:
        SafetyError: One is under way.
    """
    from filelock import FileLock, Timeout

    logs.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(logs / "cleanup.lock").acquire(timeout=0):
            yield
    except Timeout as exc:
        msg = "Another clean-up is under way here: wait for it to end."
        raise SafetyError(msg) from exc
