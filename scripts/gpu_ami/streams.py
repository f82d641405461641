"""Standard output and standard error of a process whose terminal, pipe or disk may be gone meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import IO, Any

from gpu_ami.errors import UsageError


class _Stream:
    """A stream that is another one; what that refuses is handled by the subclass."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        """Return what the stream itself has."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write *text*."""
        try:
            return self._stream.write(text)
        except OSError as exc:
            self._refused(exc)
            return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        try:
            self._stream.flush()
        except OSError as exc:
            self._refused(exc)

    def _refused(self, cause: OSError) -> None:
        raise cause


class Talk(_Stream):
    """Standard error: what nobody hears must not stop the work that it is about.

    A terminal that was closed refuses every word, in the middle of a build that is being cancelled for just that.
    """

    def _refused(self, cause: OSError) -> None:
        del cause
        to_nowhere(self._stream)


class Results(_Stream):
    """Standard output: a result that cannot be delivered is an error, but one of a line."""

    def _refused(self, cause: OSError) -> None:
        to_nowhere(self._stream)
        # A terminal that is closed is a reader that has gone, as at the end of a pipe.
        if cause.errno in (errno.EPIPE, errno.EIO):
            raise BrokenPipeError from cause
        msg = f"The result cannot be written to standard output: {cause.strerror}."
        raise UsageError(msg) from cause


def to_nowhere(stream: IO[str]) -> None:
    """Let *stream* go nowhere from now on, what waits in it included: Python writes that out at the end, and fails."""
    with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
