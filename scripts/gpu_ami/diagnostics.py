"""Diagnostics of Packer and Terraform: parsed from the boxes that they print, and shortened to one line.

Packer has no diagnostics as JSON: its ``-machine-readable`` carries the same boxes as text, and only of ``build``.
Terraform's long commands have (`gpu_ami.terraform.failures`); ``fmt``, ``show``, ``output`` and ``state pull`` print
boxes of the same kind, and so does every command that fails before it has read its flags.
"""

from __future__ import annotations

import itertools
import re

import msgspec

from gpu_ami.foreign_text import limited

_FRAME = re.compile(r"^[\s╷│╵|]+")
_ERROR = "Error: "
_BOXES = (_ERROR, "Warning: ")
_ADDRESS = re.compile(r"with (?P<address>\S.*),$")
# Packer leaves the file's name empty for a variable of the command line.
_LOCATION = re.compile(r"on (?P<file>\S*) ?line (?P<line>\d+)")
# Some reasons go on for pages; this holds two sentences.
_LONGEST = 400


class Position(msgspec.Struct, frozen=True):
    """A position in a file; lines count from 1."""

    line: int


class Range(msgspec.Struct, frozen=True):
    """A part of a configuration file; the name is relative to the root module."""

    filename: str
    start: Position


class Snippet(msgspec.Struct, frozen=True):
    """The code at fault: the block around it, if any, and its first line."""

    code: str = ""
    context: str | None = None


class Diagnostic(msgspec.Struct, frozen=True):
    """One complaint, in the fields that ``terraform -json`` has for it.

    Attributes:
        summary: What is wrong, in a line.
        severity: ``error`` or ``warning``.
        detail: The reason: paragraphs, or nothing.
        address: The resource that it is about.
        range: Where in the configuration.
        snippet: The code there.
        whole: All that was said, where the complaint is no more than its last line.
    """

    summary: str
    severity: str = "error"
    detail: str = ""
    address: str | None = None
    range: Range | None = None
    snippet: Snippet | None = None
    whole: str = ""

    @property
    def text(self) -> str:
        """Everything that it says."""
        return "\n".join(part for part in (self.summary, self.detail, self.whole) if part)

    def one_line(self) -> str:
        """Return the complaint with its location and the first reason that it gives."""
        # Of output without boxes it is the last line, which may be a whole document.
        summary = limited(self.summary, _LONGEST).rstrip(".")
        location = f" ({self.range.filename} line {self.range.start.line})" if self.range else ""
        reason = self._reason()
        return f"{summary}{location}{': ' if reason else ''}{reason}"

    def _reason(self) -> str:
        """Return the first paragraph of the detail, with what it announces by a colon."""
        said: list[str] = []
        for lines in _paragraphs(self.detail.splitlines()):
            said += lines
            if not lines[-1].endswith(":"):
                break
        text = " ".join(" ".join(said).split()).rstrip(".:")
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rsplit(' ', 1)[0]} […]"


def boxes(output: str) -> list[Diagnostic]:
    """Return each error box of *output*; of one without boxes what its last line says, as there may be no more."""
    found: list[list[str]] = []
    is_error = False
    lines = [_FRAME.sub("", line).strip() for line in output.splitlines()]
    for line in lines:
        if line.startswith(_BOXES):
            is_error = line.startswith(_ERROR)
            if is_error:
                found.append([])
        if is_error:
            found[-1].append(line)
    if found:
        return [_diagnostic(first.removeprefix(_ERROR), box) for first, *box in found]
    return [Diagnostic(line, whole=output) for line in reversed(lines) if line][:1]


def first_problem(output: str) -> str:
    """Return the first error in *output* with its location and reason, or the last line when there is no error box.

    Packer wraps a reason at 78 columns: it goes on up to the end of its paragraph.
    """
    return next((found.one_line() for found in boxes(output)), "no output")


def _diagnostic(summary: str, box: list[str]) -> Diagnostic:
    """Return what a box says: up to two lines of locations, then its reason."""
    paragraphs = list(_paragraphs(box))
    locations: list[str] = []
    while paragraphs and (_ADDRESS.match(paragraphs[0][0]) or _LOCATION.match(paragraphs[0][0])):
        locations += paragraphs.pop(0)
    address = next((match["address"] for line in locations if (match := _ADDRESS.match(line))), None)
    location = next((match for line in locations if (match := _LOCATION.match(line)) and match["file"]), None)
    return Diagnostic(
        summary,
        detail="\n\n".join("\n".join(lines) for lines in paragraphs),
        address=address,
        range=Range(location["file"], Position(int(location["line"]))) if location else None,
    )


def _paragraphs(lines: list[str]) -> list[list[str]]:
    return [list(group) for has_text, group in itertools.groupby(lines, lambda line: bool(line.strip())) if has_text]
