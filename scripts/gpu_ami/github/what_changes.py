"""What a pull request says of its AMI beside the one that is live, by `invoke diff` of the same run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from gpu_ami.errors import UsageError
from gpu_ami.files import read_text
from gpu_ami.foreign_text import in_markdown, limited, visible, without_references
from gpu_ami.records.image_comparison import KINDS
from gpu_ami.units import show_bytes, show_count

# What `invoke diff --output json` printed, beside the other artifacts.
FILE = "diff.json"
_LIMIT_BYTES = 16 * 1024 * 1024
# So many differences are listed: a new base AMI moves hundreds of packages.
_ROWS = 60
_LONGEST = 100


class _Change(msgspec.Struct, frozen=True):
    kind: str
    name: str
    old: str | None = None
    new: str | None = None
    old_bytes: int | None = None
    new_bytes: int | None = None


class _Document(msgspec.Struct, frozen=True):
    to: str
    from_: str = msgspec.field(name="from")
    summary: str
    differences: tuple[_Change, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class WhatChanges:
    """What is said of a new AMI.

    Attributes:
        summary: All of it in one line; empty where nothing is known, or nothing differs.
        text: A section of Markdown; empty where nothing is known.
    """

    summary: str = ""
    text: str = ""


def read(artifacts: Path, title: str) -> WhatChanges:
    """Return what the run's comparison in *artifacts* says of the AMI that *title* names; nothing of another AMI.

    A comparison that failed is no reason to propose nothing: then there is no file, or an empty one.
    """
    path = artifacts / FILE
    try:
        text = read_text(path, what="comparison", limit_bytes=_LIMIT_BYTES)
        found = msgspec.json.decode(text, type=_Document)
    except (UsageError, msgspec.DecodeError, RecursionError):
        return WhatChanges()
    if found.to not in title:
        return WhatChanges()
    return WhatChanges(found.summary if found.differences else "", _section(found))


def _section(found: _Document) -> str:
    lines = ["## What changes", "", f"Beside {in_markdown(found.from_)}: {in_markdown(limited(found.summary, 1000))}."]
    if found.differences:
        lines += ["", "| what | name | from | to |", "| --- | --- | --- | --- |"]
        lines += [_row(change) for change in found.differences[:_ROWS]]
    if (more := len(found.differences) - _ROWS) > 0:
        lines += ["", f"And {show_count(more, 'more difference')}: `invoke diff` lists them."]
    if found.unknown:
        kinds = ", ".join(KINDS.get(kind, kind) for kind in found.unknown)
        lines += ["", in_markdown(f"Not known of both, so not compared: {kinds}.")]
    return "\n".join(lines)


def _row(change: _Change) -> str:
    cells = (
        KINDS.get(change.kind, change.kind),
        change.name,
        _value(change.old, change.old_bytes),
        _value(change.new, change.new_bytes),
    )
    return f"| {' | '.join(in_markdown(limited(cell, _LONGEST)) for cell in cells)} |"


def _value(text: str | None, size_bytes: int | None) -> str:
    if text is None:
        return "none"
    return text if size_bytes is None else f"{show_bytes(size_bytes)}, {text}"


def titled(title: str, changes: WhatChanges) -> str:
    """Return the *title* with what changes behind it, as far as it fits a line."""
    return f"{title}: {without_references(visible(limited(changes.summary, _LONGEST)))}" if changes.summary else title
