"""Work that may be under way once in a folder: two of it would overwrite each other's files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gpu_ami.errors import SafetyError
from gpu_ami.invocation import Invocation

# What holds a lock, in words.
_NAMES = {"build": "build", "apply": "apply or rollback", "cleanup": "clean-up"}


@contextmanager
def only_one(run: Invocation, what: str) -> Iterator[None]:
    """Keep a second *what* of this folder out: ``build``, ``apply`` (rollbacks too) or ``cleanup`` (sweeps too).

    Raises:
        SafetyError: One is under way.
    """
    from filelock import FileLock, Timeout

    run.workspace.logs.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run.workspace.logs / f"{what}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as exc:
        msg = f"Another {_NAMES[what]} is under way here: wait for it to end."
        raise SafetyError(msg) from exc
    try:
        yield
    finally:
        lock.release()
