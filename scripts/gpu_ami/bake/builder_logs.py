"""Extracts the builder's logs, printed by collect-logs.sh after a failure, to a file of their own on this machine."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from gpu_ami.bake.packer_events import Event, said_by

# collect-logs.sh prints these around the logs.
BEGIN = "collect-logs: begin"
END = "collect-logs: end"


class BuilderLogs:
    """Takes what is between the two lines out of Packer's output and writes it to a file that only its owner may read.

    Args:
        path: The file; made when there is something to write.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taking = False
        self._lines: list[str] = []

    @property
    def path(self) -> Path | None:
        """The file, once it is written."""
        return self._path if self._path.exists() else None

    def feed(self, event: Event | None) -> None:
        """Take in one line of Packer's output."""
        if event is None or event.kind != "ui" or len(event.data) < 2:
            return
        for line in map(said_by, event.data[1].splitlines()):
            if line.startswith(BEGIN):
                self._taking, self._lines = True, []
            elif line.startswith(END):
                self.close()
            elif self._taking:
                self._lines.append(line)

    def close(self) -> None:
        """Write what was taken, also where the end never came: Packer or the builder may have died before it."""
        if not self._taking:
            return
        self._taking = False
        text = "".join(f"{line}\n" for line in self._lines)
        # The build has failed and says why; a full disk here must not hide that.
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
