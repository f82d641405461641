"""File locks between processes; a lock ends with its process, however that ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

from gpu_ami.errors import SafetyError, UsageError

Work = Literal["build", "apply", "cleanup", "bench"]
# What holds a lock, for messages.
_NAMES: dict[Work, str] = {"build": "build", "apply": "apply or rollback", "cleanup": "clean-up", "bench": "bench"}


@contextmanager
def held(file: Path, *, busy: str) -> Iterator[None]:
    """Hold the lock *file*; its folder is made.

    Raises:
        SafetyError: Another process holds it; *busy* is what it says.
        UsageError: The file cannot be made.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as exc:
        raise SafetyError(busy) from exc
    except OSError as exc:
        raise UsageError(_no_lock(file, exc)) from exc
    try:
        yield
    finally:
        lock.release()


@contextmanager
def waited_for(file: Path, waiting: AbstractContextManager[Any]) -> Iterator[None]:
    """Hold the lock *file* once it is free; *waiting* is entered while another process holds it, and only then.

    Raises:
        OSError: The file cannot be made.
    """
    from filelock import FileLock, Timeout

    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with waiting:
            lock.acquire(poll_interval=0.2)
    try:
        yield
    finally:
        lock.release()


def _no_lock(file: Path, cause: OSError) -> str:
    why = cause.strerror
    if isinstance(cause, (FileExistsError, NotADirectoryError)):
        why = "a file has the name of its folder, or of one above it"
    return f"{file} cannot be locked: {why}. Make {file.parent} a folder that you can write to, with some space."


def only_one(folder: Path, work: Work, *, family: str | None = None) -> AbstractContextManager[None]:
    """Keep a second run of *work* out, rollbacks and sweeps too: two would overwrite each other's files.

    Args:
        folder: Where the lock is.
        work: What is done.
        family: Whose files it writes, of several families that have each their own; None where others would be written.

    Raises:
        SafetyError: One is under way.
        UsageError: *folder* is none that can be written to.
    """
    name, of = (work, "") if family is None else (f"{work}-{family}", f" of {family}")
    return held(folder / f"{name}.lock", busy=f"Another {_NAMES[work]}{of} is under way here: wait for it to end.")


def in_turn(folder: Path, what: str, *, family: str | None) -> AbstractContextManager[None]:
    """Let the builds of several families do *what*, which takes a moment, one after the other.

    Raises:
        OSError: The lock's file cannot be made.
    """
    return nullcontext() if family is None else waited_for(folder / f"{what}.lock", nullcontext())
