"""Replaces values in an HCL or JSON text, leaves every other byte alone and verifies the result."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from gpu_ami.errors import UsageError
from gpu_ami.hcl.jsontext import with_member
from gpu_ami.hcl.lookup import described, find
from gpu_ami.hcl.paths import Path, show_path
from gpu_ami.hcl.tree import Document, Value, parse

Plain = str | int | float | bool | None | Sequence[str]

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


def quoted(value: Plain) -> str:
    """Return *value* as HCL that evaluates to exactly it: quotes, ``${`` and ``%{`` in strings are escaped."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if not isinstance(value, str):
        return f"[{', '.join(map(quoted, value))}]"
    escaped = re.sub(r'[\n\r\t"\\]', lambda match: _SHORT[match[0]], value)
    # Of $$${ the last two dollars are the escape: see HCL's scanner.
    escaped = re.sub(r"[$%](?=\{)", lambda match: match[0] * 2, escaped)
    return f'"{escaped}"'


def replace(document: Document, changes: Mapping[Path, str]) -> str:
    """Return the document's text with each value at a path of *changes* set to that string.

    Only strings and null are replaced. Not a byte outside the values changes, and the result is parsed again: it must
    differ from the document in these values only.

    Raises:
        UsageError: A value is missing, ambiguous, or not a string; the error names the line.
    """
    edits: list[_Edit] = []
    for path, new in changes.items():
        value = find(document, path)
        _check_is_string(document, path, value)
        if value.literal != new:
            edits.append(_Edit(value.start, value.end, quoted(new)))
    text = _spliced(document.text, edits)
    after = _checked(document, text, edits, {})
    if any(find(after, path).literal != new for path, new in changes.items()):
        _refuse_result(document)
    return text


def insert(document: Document, name: str, value: str) -> str:
    """Return the text of *document*, a JSON object, with the member *name* behind the others, set to a string.

    No other byte changes: numbers, key order, line ends and layout stay as somebody wrote them. The result is parsed
    again, as by `replace`.

    Raises:
        UsageError: The result would not read as intended.
    """
    literal = json.dumps(value)
    text = with_member(document, name, literal)
    _checked(document, text, (), {name: literal})
    return text


def set_attributes(text: str, values: Mapping[str, Plain], *, source: str) -> str:
    """Return *text*, a variables file, with its top-level attributes set to *values*.

    A value that is right already keeps its form; another one is replaced where it is, comments beside it stay; a
    missing attribute is added at the end, with the file's own line ends.

    Raises:
        UsageError: The text does not parse, or an attribute is set twice or is an expression.
    """
    document = parse(text, source)
    edits: list[_Edit] = []
    added: dict[str, str] = {}
    for name, value in values.items():
        new = quoted(value)
        if all(attribute.name != name for attribute in document.body.attributes):
            added[name] = new
            continue
        old = find(document, (name,))
        if old.kind == "expression":
            _refuse_expression(document, (name,), old)
        if _meaning(old) != _meaning(find(parse(f"{name} = {new}", source), (name,))):
            edits.append(_Edit(old.start, old.end, new))
    text = _with_lines(_spliced(text, edits), added)
    _checked(document, text, edits, added)
    return text


@dataclass(frozen=True)
class _Edit:
    """What replaces the characters from *start* to *end*."""

    start: int
    end: int
    new: str


def _spliced(text: str, edits: Iterable[_Edit], *, offset: int = 0) -> str:
    """Return *text*, which starts at *offset* of the file, with the *edits* made."""
    for edit in sorted(edits, key=lambda edit: edit.start, reverse=True):
        text = text[: edit.start - offset] + edit.new + text[edit.end - offset :]
    return text


def _check_is_string(document: Document, path: Path, value: Value) -> None:
    if value.kind in {"string", "null"}:
        return
    if value.kind == "expression":
        _refuse_expression(document, path, value)
    msg = (
        f"{show_path(path)} is {described(value)} at line {value.line} of {document.source}, not a string: name "
        "another value, or write null there by hand."
    )
    raise UsageError(msg)


def _refuse_expression(document: Document, path: Path, value: Value) -> NoReturn:
    msg = (
        f"{show_path(path)} is {described(value)} at line {value.line} of {document.source}: only a literal can be "
        "replaced. Change what the expression reads, or write the value there once by hand."
    )
    raise UsageError(msg)


def _meaning(value: Value) -> object:
    if value.kind in {"list", "map"}:
        return value.kind, tuple((entry.name, _meaning(entry.value)) for entry in value.entries)
    return value.kind, value.text if value.kind in {"heredoc", "expression"} else value.literal


def _with_lines(text: str, added: Mapping[str, str]) -> str:
    if not added:
        return text
    line_end = "\r\n" if "\r\n" in text else "\n"
    width = max(map(len, added))
    lines = [f"{name:{width}} = {new}{line_end}" for name, new in added.items()]
    between = line_end if text.strip("\ufeff") and not text.endswith("\n") else ""
    return text + between + "".join(lines)


def _checked(before: Document, text: str, edits: Iterable[_Edit], added: Mapping[str, str]) -> Document:
    """Parse *text* and refuse it unless it holds the attributes of *before*, the edits made, and those *added*."""
    after = before.parse(text, before.source)
    expected = [(path, _edited(attribute.value, edits)) for path, attribute in before.body.walk()]
    # The top level's attributes come before those in blocks.
    position = len(before.body.attributes)
    expected[position:position] = [((name,), new) for name, new in added.items()]
    if [(path, attribute.value.text) for path, attribute in after.body.walk()] != expected:
        _refuse_result(before)
    return after


def _edited(value: Value, edits: Iterable[_Edit]) -> str:
    inside = [edit for edit in edits if value.start <= edit.start and edit.end <= value.end]
    return _spliced(value.text, inside, offset=value.start)


def _refuse_result(document: Document) -> NoReturn:
    msg = f"{document.source} would not read as intended after the change; nothing is written: please report it."
    raise UsageError(msg)
