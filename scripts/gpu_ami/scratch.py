"""The folder of this process for files that nobody else may read, and the end of what dead processes left in theirs.

Terraform's plan holds every variable's value, and Packer's temporary files what it was given. They go with their
process; what one that was killed has left, the next start removes.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import getpass
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_LOCK = "lock"
_CHILD = "child-"
_NEEDS_US = "needs-us"
_NOT_KNOWN = "?"
# Another process makes or removes a folder meanwhile, which takes no time.
_FREE_WITHIN_S = 10.0


@functools.cache
def folder() -> Path:
    """Return this process's folder, which only this user can enter; it is removed when the process ends.

    Raises:
        OSError: It cannot be made.
    """
    root = _root()
    with contextlib.suppress(FileExistsError):
        root.mkdir(mode=0o700)
    if not _is_ours_alone(root):
        # Somebody else has taken the name: what a kill leaves then, stays.
        return Path(tempfile.mkdtemp(prefix=f"{root.name}-"))
    from filelock import FileLock

    with FileLock(root / _LOCK, timeout=_FREE_WITHIN_S):
        made = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=root))
        # Held until the process ends, however that comes about: who gets it knows that we are dead.
        lock = FileLock(made / _LOCK, thread_local=False)
        lock.acquire(timeout=0)
    atexit.register(lock.release)
    return made


@contextlib.contextmanager
def subfolder() -> Iterator[Path]:
    """Lend a new folder in this process's one; it is removed with the block.

    Raises:
        OSError: It cannot be made.
    """
    with tempfile.TemporaryDirectory(dir=folder(), ignore_cleanup_errors=True) as path:
        yield Path(path)


@contextlib.contextmanager
def used_by(pid: int, *, needs_us: bool) -> Iterator[None]:
    """Note meanwhile that the program *pid* reads in this process's folder, which stays as long as it runs.

    Args:
        pid: Our child, the first of a process group of its own.
        needs_us: Whether it works in vain once we are dead; the next start ends it then.
    """
    if not folder.cache_info().currsize:
        yield
        return
    note = folder() / f"{_CHILD}{pid}"
    with contextlib.suppress(OSError):
        note.write_text(f"{_start_of(pid)} {_NEEDS_US if needs_us else ''}")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            note.unlink()


def remove_dead() -> None:
    """Remove the folders of processes that died without doing it, and end the programs that need those.

    The folder of one whose program goes on is left to a later start.
    """
    with contextlib.suppress(OSError):
        root = _root()
        if not _is_ours_alone(root):
            return
        ours = folder() if folder.cache_info().currsize else None
        others = [path for path in root.iterdir() if path != ours and path.is_dir()]
        if not others:
            return
        from filelock import FileLock

        # Who makes a folder holds this lock until that one has its own. Held by another: that one removes.
        with FileLock(root / _LOCK, timeout=0):
            for path in others:
                if _is_dead(path) and not _is_used(path):
                    shutil.rmtree(path, ignore_errors=True)


def _root() -> Path:
    """Return the folder of all of this user's processes."""
    user = getpass.getuser() if sys.platform == "win32" else os.getuid()
    return Path(tempfile.gettempdir()) / f"gpu-ami-{user}"


def _is_ours_alone(root: Path) -> bool:
    """Return whether *root* is a folder of this user's, and no link, that nobody else can enter."""
    status = root.lstat()
    if sys.platform == "win32":
        return stat.S_ISDIR(status.st_mode)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not stat.S_IMODE(status.st_mode) & 0o077


def _is_dead(path: Path) -> bool:
    from filelock import FileLock, Timeout

    try:
        with FileLock(path / _LOCK, timeout=0):
            return True
    except Timeout:
        return False


def _is_used(path: Path) -> bool:
    """Return whether a program of the dead process whose folder is *path* goes on; one that needs it is ended."""
    used = False
    for note in path.glob(f"{_CHILD}*"):
        pid, (start, _, needs) = int(note.name.removeprefix(_CHILD)), note.read_text().partition(" ")
        if not _is_alive(pid, start):
            continue
        if needs == _NEEDS_US and start != _NOT_KNOWN:
            _end(pid)
        else:
            used = True
    return used


def _start_of(pid: int) -> str:
    """Return when *pid* began, in clock ticks of Linux's /proc: they tell it from a later process of its number."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return _NOT_KNOWN
    return _NOT_KNOWN if state == "Z" else fields[18]


def _is_alive(pid: int, start: str) -> bool:
    if start != _NOT_KNOWN or sys.platform == "win32":
        return start == _start_of(pid) != _NOT_KNOWN
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _end(pid: int) -> None:
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)


@atexit.register
def _remove_own() -> None:
    if folder.cache_info().currsize:
        shutil.rmtree(folder(), ignore_errors=True)
