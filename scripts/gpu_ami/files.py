"""Reads text files with one-line errors, and replaces files atomically."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path

from gpu_ami.errors import UsageError

_MIB = 1024 * 1024
# What a full disk, and a closed place, answers.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
CLOSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_OF_FILES = FULL | CLOSED | {errno.EFBIG, errno.EIO}


def is_of_files(exc: OSError) -> bool:
    """Return whether a file or its disk refused something; anything else, as of the network, is about no place."""
    return exc.filename is not None or exc.errno in _OF_FILES


def read_text(path: Path, *, what: str, limit_bytes: int = _MIB, hint: str = "", keep_mark: bool = False) -> str:
    """Return the text of *path*, its line ends as they are, a leading byte-order mark removed.

    Args:
        path: The file to read.
        what: What the file is, for the error: ``"settings file"``.
        limit_bytes: A larger file is refused before it is read.
        hint: The next step, appended to the error when the file is missing.
        keep_mark: Whether the byte-order mark stays, for a text that will be written back.

    Raises:
        UsageError: The file is missing, not a file, too large, unreadable or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(limit_bytes + 1)
    except FileNotFoundError as exc:
        msg = f"The {what} {path} does not exist. {hint}".rstrip()
        raise UsageError(msg) from exc
    except OSError as exc:
        msg = f"The {what} {path} cannot be read: {exc.strerror}."
        raise UsageError(msg) from exc
    if len(raw) > limit_bytes:
        msg = f"The {what} {path} is larger than {limit_bytes // _MIB} MiB: that is not one of ours. Check the path."
        raise UsageError(msg)
    try:
        return raw.decode("utf-8" if keep_mark else "utf-8-sig")
    except UnicodeDecodeError as exc:
        msg = f"The {what} {path} is not UTF-8 (byte {exc.start} is {raw[exc.start]:#04x}): save it as UTF-8."
        raise UsageError(msg) from exc


def check_writable(path: Path, *, what: str) -> None:
    """Refuse to replace what is not a plain, writable file of the user's.

    The permission bits are read rather than tried, so that root is held to them too.

    Raises:
        UsageError: *path* is a symbolic link, a directory or another non-file, or it or its folder has no write bit.
    """
    _check_folder(path, what)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as exc:
        msg = f"The {what} {path} cannot be replaced: {exc.strerror}."
        raise UsageError(msg) from exc
    if stat.S_ISLNK(mode):
        msg = f"The {what} {path} is a symbolic link: name the file that it points to instead."
    elif stat.S_ISDIR(mode):
        msg = f"The {what} {path} is a directory: name a file."
    elif not stat.S_ISREG(mode):
        msg = f"The {what} {path} is not a regular file: name one."
    elif not mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        msg = f"The {what} {path} is write-protected: run `chmod u+w {path}` if it may be changed."
    else:
        return
    raise UsageError(msg)


def _check_folder(path: Path, what: str) -> None:
    with contextlib.suppress(OSError):
        if not path.parent.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
            msg = f"The {what} {path} cannot be replaced: its folder is write-protected."
            raise UsageError(msg)


def write_atomic(path: Path, data: str | bytes, *, what: str, mode: int = 0o644) -> None:
    """Replace *path* with *data* so that a reader sees the old file or the new one, never a part.

    An existing file keeps its permission bits; a new one gets *mode*.

    Raises:
        UsageError: See `check_writable`, or the disk refused the write (full, read-only).
    """
    check_writable(path, what=what)
    content = data.encode("utf-8") if isinstance(data, str) else data
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(path.stat().st_mode)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
        temporary = None
    except OSError as exc:
        msg = f"The {what} {path} was not written: {exc.strerror}; the old file, if any, is untouched."
        raise UsageError(msg) from exc
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
