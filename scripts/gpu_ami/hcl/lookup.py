"""Looks up the one value that a path names, with errors that list what is there instead."""

from __future__ import annotations

from typing import NoReturn

from gpu_ami.errors import UsageError
from gpu_ami.hcl.paths import Path, show_path
from gpu_ami.hcl.tree import Attribute, Block, Body, Document, Entry, Value
from gpu_ami.units import show_count

_SHOWN = 6


def find(document: Document, path: Path) -> Value:
    """Return the value that *path* leads to in *document*.

    A path starts at the top of the file with an attribute, or with a block's type and all its labels. Of repeated
    blocks, one is chosen by its number.

    Raises:
        UsageError: There is no such value, or more than one; the error names the lines.
    """
    body, position = document.body, 0
    while position < len(path):
        attributes = [attribute for attribute in body.attributes if attribute.name == path[position]]
        blocks = [block for block in body.blocks if _labels_fit(block, path, position)]
        if len(attributes) + len(blocks) == 0:
            _refuse_missing(document, body, path, position)
        after = position + 1 + (len(blocks[0].labels) if blocks else 0)
        number = path[after] if blocks and after < len(path) and isinstance(path[after], int) else None
        if isinstance(number, int) and not attributes:
            if number >= len(blocks):
                msg = (
                    f"{document.source} has {len(blocks)} {show_path(path[:after])}, no number {number}: count from 0."
                )
                raise UsageError(msg)
            blocks, after = [blocks[number]], after + 1
        if len(attributes) + len(blocks) > 1:
            _refuse_several(document, [*attributes, *blocks], path[:after])
        if attributes:
            return _inside(document, attributes[0].value, path, position + 1)
        body, position = blocks[0].body, after
    msg = f"{show_path(path)} is a block in {document.source}, not a value: name an attribute in it."
    raise UsageError(msg)


def _labels_fit(block: Block, path: Path, position: int) -> bool:
    head = (block.type, *block.labels)
    return path[position : position + len(head)] == head


def _inside(document: Document, value: Value, path: Path, position: int) -> Value:
    """Return the part of *value* that the steps from *position* on lead to."""
    while position < len(path):
        step, shown = path[position], show_path(path[:position])
        if value.kind not in {"map", "list"}:
            msg = f"{shown} is {described(value)} at line {value.line} of {document.source}: it has no {step!r}."
            raise UsageError(msg)
        fitting: list[Entry] = [entry for entry in value.entries if entry.name == step]
        if not fitting:
            names = _listed([str(entry.name) for entry in value.entries if entry.name is not None])
            msg = f"{shown} at line {value.line} of {document.source} has no {step!r} but {names}: add it by hand."
            raise UsageError(msg)
        if len(fitting) > 1:
            lines = " and ".join(str(entry.value.line) for entry in fitting)
            msg = f"{show_path(path[: position + 1])} occurs twice in {document.source}, at lines {lines}: keep one."
            raise UsageError(msg)
        value, position = fitting[0].value, position + 1
    return value


def described(value: Value) -> str:
    """Return what kind of value it is, for messages, with its text if that is short."""
    if value.kind in {"string", "number", "bool", "null"}:
        return value.text if len(value.text) <= 60 else f"{value.text[:60]}…"
    names = {"list": "a list", "map": "a map", "heredoc": "a heredoc"}
    shown = " ".join(value.text.split())
    return names.get(value.kind) or f"the expression `{shown[:60]}{'…' if len(shown) > 60 else ''}`"


def _refuse_several(document: Document, found: list[Attribute | Block], path: Path) -> NoReturn:
    lines = " and ".join(str(item.line) for item in found)
    times = "twice" if len(found) == 2 else show_count(len(found), "time")
    is_block = all(isinstance(item, Block) for item in found)
    fix = f"choose one by its number, {show_path(path)}[0] to [{len(found) - 1}]" if is_block else "keep one"
    msg = f"{show_path(path)} occurs {times} in {document.source}, at lines {lines}: {fix}."
    raise UsageError(msg)


def _refuse_missing(document: Document, body: Body, path: Path, position: int) -> NoReturn:
    inside = f" in {show_path(path[:position])}" if position else ""
    missing = f"{document.source} has no {show_path(path[position:])}{inside}"
    alike = [
        f"{show_path(other)} (line {attribute.line})"
        for other, attribute in document.body.walk()
        if other[-1] == path[-1] and other != path
    ]
    if alike:
        msg = f"{missing}, but {_listed(alike)}: name one of them."
    else:
        there = [attribute.name for attribute in body.attributes]
        there += [show_path((block.type, *block.labels)) for block in body.blocks]
        msg = f"{missing} but {_listed(list(dict.fromkeys(there)))}: check the name."
    raise UsageError(msg)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) or "nothing"
