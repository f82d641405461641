"""Work that may be under way once in a folder: two of it would overwrite each other's files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gpu_ami.errors import SafetyError
from gpu_ami.invocation import Invocation


@contextmanager
def only_one(run: Invocation, what: str) -> Iterator[None]:
    """Keep a second *what* of this folder out, such as ``build``.

    Raises:
        SafetyError: One is under way.
    """
    from filelock import FileLock, Timeout

    run.workspace.logs.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run.workspace.logs / f"{what}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as exc:
        other = {"apply": "apply or rollback"}.get(what, what)
        msg = f"Another {other} is under way here: wait for it to end."
        raise SafetyError(msg) from exc
    try:
        yield
    finally:
        lock.release()
