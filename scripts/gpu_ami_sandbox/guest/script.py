"""A shell script that runs as root in an instance, as Run Command starts them."""

from __future__ import annotations

import concurrent.futures
from dataclasses import dataclass


@dataclass(frozen=True)
class Ran:
    """What a script left: its exit status (None where it was killed) and its output."""

    status: int | None
    output: str
    errors: str


class Script:
    """A script that runs, or has run."""

    def __init__(self, future: concurrent.futures.Future[Ran]) -> None:
        self._future = future

    def result(self) -> Ran | None:
        """Return what came of it; None while it runs."""
        if not self._future.done():
            return None
        if self._future.cancelled():
            return Ran(None, "", "")
        return self._future.result()

    def kill(self) -> None:
        """End it, with all that it has started."""
        self._future.cancel()
