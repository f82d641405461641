"""Packer's and Terraform's error boxes, read down to one line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

_FRAME = re.compile(r"^[\s╷│╵|]+")
_ERROR = "Error: "
_BOXES = (_ERROR, "Warning: ")
_PLACE = re.compile(r"^on (?P<file>\S+) line (?P<line>\d+)")
# The paragraph that says where, not why; Packer leaves the file's name empty for a variable of the command line.
_WHERE = re.compile(r"with \S+,$|on \S* ?line \d+")
# Some reasons go on for pages; this holds two sentences.
_LONGEST = 400


def errors(output: str) -> list[str]:
    """Return each error box of *output* as text of its own, from its first line on, without frames."""
    found: list[list[str]] = []
    is_error = False
    for line in _lines(output):
        if line.startswith(_BOXES):
            is_error = line.startswith(_ERROR)
            if is_error:
                found.append([])
        if is_error:
            found[-1].append(line)
    return ["\n".join(lines).strip() for lines in found]


def first_problem(output: str) -> str:
    """Return the first error in *output* with its place and reason, or the last line when there is no error box.

    Both programs wrap a reason at 78 columns: it goes on up to the end of its paragraph.
    """
    if found := errors(output):
        first, *box = found[0].split("\n")
        return _one_line(first.removeprefix(_ERROR).rstrip("."), box)
    return next((line for line in reversed(_lines(output)) if line), "no output")


def _lines(output: str) -> list[str]:
    """Return the lines without the frames of boxes; those between two paragraphs are empty."""
    return [_FRAME.sub("", line).strip() for line in output.splitlines()]


def _one_line(problem: str, box: list[str]) -> str:
    place = next((f" ({match['file']} line {match['line']})" for line in box if (match := _PLACE.match(line))), "")
    reason = _reason(list(group) for has_text, group in itertools.groupby(box, bool) if has_text)
    return f"{problem}{place}{': ' if reason else ''}{reason}"


def _reason(paragraphs: Iterable[list[str]]) -> str:
    """Return the first of the *paragraphs* that is no place, with what it announces by a colon."""
    said: list[str] = []
    for lines in paragraphs:
        if not said and _WHERE.match(lines[0]):
            continue
        said += lines
        if not lines[-1].endswith(":"):
            break
    text = " ".join(said).rstrip(".:")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rsplit(' ', 1)[0]} […]"
