"""Packer's and Terraform's error boxes, read down to one line."""

from __future__ import annotations

import re

_FRAME = re.compile(r"^[\s╷│╵|]+")
_PLACE = re.compile(r"^on (?P<file>\S+) line (?P<line>\d+)")


def errors(output: str) -> list[str]:
    """Return each error box of *output* as text of its own, from its first line on, without frames."""
    found: list[list[str]] = []
    is_error = False
    for line in _said(output):
        if line.startswith(("Error: ", "Warning: ")):
            is_error = line.startswith("Error: ")
            if is_error:
                found.append([])
        if is_error:
            found[-1].append(line)
    return ["\n".join(lines) for lines in found]


def first_problem(output: str) -> str:
    """Return the first error in *output* with its file and line, or the last line when there is no error box."""
    said = _said(output)
    for position, line in enumerate(said):
        if line.startswith("Error: "):
            return _with_place(line.removeprefix("Error: ").rstrip("."), said[position + 1 :])
    return said[-1] if said else "no output"


def _said(output: str) -> list[str]:
    """Return the lines that say something, without the frames of boxes."""
    lines = [_FRAME.sub("", line).strip() for line in output.splitlines()]
    return [line for line in lines if line]


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
