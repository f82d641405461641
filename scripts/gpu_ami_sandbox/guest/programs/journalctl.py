"""Emulates `journalctl`: shows what units have said in this boot; the files can be rotated and vacuumed."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path

from gpu_ami_sandbox.guest.programs import journal
from gpu_ami_sandbox.guest.programs.system import Refusal, System
from gpu_ami_sandbox.guest.programs.units import full_name

REFUSALS = (
    Refusal("journalctl --no-such-option", "journalctl: unrecognized option '--no-such-option'", 1),
    Refusal("sudo journalctl --vacuum-time=soon", "Failed to parse time value: soon", 1),
    Refusal("journalctl --rotate", "Failed to rotate: Permission denied", 1),
)

_FLAGS = """
    --all --boot --catalog --disk-usage --dmesg --flush --follow --full --list-boots --lines --no-hostname --no-full
    --no-pager --no-tail --output --pager-end --priority --quiet --reverse --rotate --since --sync --system --unit
    --until --utc --vacuum-files --vacuum-size --vacuum-time
"""
_SPAN = re.compile(r"(\d+(\.\d+)?\s*(us|ms|s|sec|m|min|h|hour|d|day|w|week|M|month|y|year)?s?\s*)+")


def main(argv: list[str], system: System) -> int:
    """Show entries, rotate, or vacuum."""
    arguments = argv[1:]
    changes = [argument for argument in arguments if argument.startswith(("--rotate", "--vacuum"))]
    problem = _problem(arguments, changes, system)
    if problem:
        return system.fail(1, problem)
    for folder in system.path("/var/log/journal").glob("*/"):
        if "--rotate" in changes:
            _rotate(folder)
        if any(argument.startswith("--vacuum") for argument in changes):
            for archived in folder.glob("*@*.journal"):
                archived.unlink()
            system.fail(0, f"Vacuuming done, freed 0B of archived journals from /var/log/journal/{folder.name}.")
    if not changes:
        _show(arguments, system)
    return 0


def _show(arguments: list[str], system: System) -> None:
    units = [full_name(name) for name in _values(arguments, "--unit", "-u")]
    found = journal.entries(units, system)
    lines = _values(arguments, "--lines", "-n")
    if lines and lines[-1].isdecimal():
        found = found[-int(lines[-1]) :] if int(lines[-1]) else []
    if not found:
        system.say("-- No entries --")
    is_bare = _values(arguments, "--output", "-o")[-1:] == ["cat"]
    host = system.path("/proc/sys/kernel/hostname").read_text(encoding="utf-8").strip() if not is_bare else ""
    for entry in found:
        at = datetime.fromtimestamp(entry.at, timezone.utc)
        before = "" if is_bare else f"{at:%b %d %H:%M:%S} {host} {entry.program}[1]: "
        system.say(f"{before}{entry.message}")


def _values(arguments: list[str], long: str, short: str) -> list[str]:
    """Return the values of a flag that is given as ``--flag=value``, ``--flag value`` or ``-f value``."""
    values = [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{long}=")]
    return values + [value for flag, value in pairwise(arguments) if flag in (long, short)]


def _problem(arguments: list[str], changes: list[str], system: System) -> str:
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name.startswith("--") and name not in _FLAGS.split():
            return f"journalctl: unrecognized option '{argument}'"
        if name == "--vacuum-time" and not _SPAN.fullmatch(value):
            return f"Failed to parse time value: {value}"
    if changes and not system.is_root:
        return f"Failed to {'rotate' if '--rotate' in changes else 'vacuum'}: Permission denied"
    return ""


def _rotate(folder: Path) -> None:
    journal = folder / "system.journal"
    if journal.exists():
        journal.rename(folder / "system@0000000000000001-0000000000000001.journal")
        journal.write_bytes(b"LPKSHHRH" + bytes(120))
