"""The journal of this boot: what units have said, in memory as on an instance whose journal is not kept."""

from __future__ import annotations

import json
import time
from typing import NamedTuple

from gpu_ami_sandbox.guest.programs.system import System

_FILE = "/run/log/journal/entries.json"


class Entry(NamedTuple):
    """One line of the journal.

    Attributes:
        at: When, in seconds of Unix time.
        unit: Whose it is.
        program: Who wrote it.
        message: The line.
    """

    at: float
    unit: str
    program: str
    message: str


def note(unit: str, program: str, message: str, system: System) -> None:
    """Add a line."""
    system.append(_FILE, json.dumps(Entry(time.time(), unit, program, message)) + "\n")


def entries(units: list[str], system: System) -> list[Entry]:
    """Return the lines of *units*, of all without any, the oldest first."""
    path = system.path(_FILE)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [Entry(*json.loads(line)) for line in lines]
    return [entry for entry in found if not units or entry.unit in units]
