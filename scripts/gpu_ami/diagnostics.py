"""Packer's and Terraform's error boxes, read down to one line."""

from __future__ import annotations

import re

_FRAME = re.compile(r"^[\s╷│╵|]+")
_PLACE = re.compile(r"^on (?P<file>\S+) line (?P<line>\d+)")


def first_problem(output: str) -> str:
    """Return the first error in *output* with its file and line, or the last line when there is no error box."""
    lines = [_FRAME.sub("", line).strip() for line in output.splitlines()]
    said = [line for line in lines if line]
    for position, line in enumerate(said):
        if line.startswith("Error: "):
            return _with_place(line.removeprefix("Error: ").rstrip("."), said[position + 1 :])
    return said[-1] if said else "no output"


def _with_place(problem: str, following: list[str]) -> str:
    place, reason = "", ""
    for line in following:
        if line.startswith("Error: "):
            break
        if match := _PLACE.match(line):
            place = f" ({match['file']} line {match['line']})"
        elif line[:1].isupper() and not reason:
            reason = f": {line.rstrip('.')}"
    return f"{problem}{place}{reason}"
