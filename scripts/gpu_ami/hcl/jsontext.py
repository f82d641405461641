"""Parses JSON variables files and templates into the same document as HCL: Terraform reads both."""

from __future__ import annotations

import json
import re

from gpu_ami.errors import UsageError
from gpu_ami.hcl.lines import Lines
from gpu_ami.hcl.tree import Attribute, Body, Document, Entry, Kind, Value

_SPACE = re.compile(r"[ \t\r\n]*")
# What Python's decoder takes beyond JSON; Terraform does not.
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity")
_KINDS: dict[type, Kind] = {str: "string", bool: "bool", int: "number", float: "number", type(None): "null"}


def parse_json(text: str, source: str) -> Document:
    """Return the object that *text* holds; *source* names it in errors. A byte-order mark may lead.

    Raises:
        UsageError: It is no JSON object; the error names the line.
    """
    start = 1 if text.startswith("\ufeff") else 0
    try:
        if not isinstance(json.loads(text[start:]), dict):
            msg = f"{source} holds no JSON object: it must map variable names to values."
            raise UsageError(msg)
        top = _Reader(text).value(_after_space(text, start))
    except json.JSONDecodeError as exc:
        # Some of Python's reasons end in "at", for the position that follows.
        problem = f"{exc.msg} column {exc.colno}" if exc.msg.endswith(" at") else exc.msg
        msg = f"{source} is not JSON at line {exc.lineno}: {problem}. Fix it there, or delete it if only we write it."
        raise UsageError(msg) from exc
    except _NoJsonNumberError as exc:
        msg = f"{source} is not JSON at line {exc.line}: {exc} is no number there. Fix it there."
        raise UsageError(msg) from exc
    except (ValueError, RecursionError) as exc:
        msg = f"{source} is not JSON that can be read: it is nested too deeply, or a number in it is too long."
        raise UsageError(msg) from exc
    members = [Attribute(str(entry.name), entry.value.line, entry.value) for entry in top.entries]
    return Document(text, source, Body(attributes=tuple(members)), parse_json)


def with_member(document: Document, name: str, literal: str) -> str:
    """Return the text of *document* with the member *name* behind the last one, laid out as that one is.

    Args:
        document: A JSON object.
        name: The new member's name.
        literal: Its value, as JSON.
    """
    text, members = document.text, document.body.attributes
    key, start = json.dumps(name, ensure_ascii=False), text.index("{") + 1
    if not members:
        line_end = "\r\n" if "\r\n" in text else "\n"
        # Where the braces are on lines of their own the closing one has its line end already.
        closing = "" if "\n" in text[start : text.rindex("}")] else line_end
        return f"{text[:start]}{line_end}  {key}: {literal}{closing}{text[start:]}"
    last, is_only = members[-1].value, len(members) == 1
    before = start if is_only else _after_space(text, members[-2].value.end) + 1
    comma = "," if is_only else text[members[-2].value.end : before]
    key_start = _after_space(text, before)
    _, key_end = json.JSONDecoder().raw_decode(text, key_start)
    lead, colon = text[before:key_start], text[key_end : last.start]
    if is_only and not lead and colon.endswith(" "):
        lead = " "
    return f"{text[: last.end]}{comma}{lead}{key}{colon}{literal}{text[last.end :]}"


class _NoJsonNumberError(ValueError):
    """A number that is none in JSON, on the line `line`."""

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


class _Reader:
    """Reads a text that is known to be JSON, and notes the positions.

    Args:
        text: The text.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = Lines(text)
        self.decode = json.JSONDecoder().raw_decode

    def value(self, start: int) -> Value:
        """Return the value at *start*."""
        text, line = self.text, self.lines.number(start)
        if text[start] not in "{[":
            literal, end = self.decode(text, start)
            if text[start:end] in _NO_NUMBERS:
                raise _NoJsonNumberError(text[start:end], line)
            return Value(start, end, line, text[start:end], _KINDS[type(literal)], literal)
        kind: Kind = "map" if text[start] == "{" else "list"
        entries: list[Entry] = []
        position = _after_space(text, start + 1)
        while text[position] not in "}]":
            name: str | int = len(entries)
            if kind == "map":
                name, position = self.decode(text, position)
                position = _after_space(text, _after_space(text, position) + 1)
            value = self.value(position)
            entries.append(Entry(name, value))
            position = _after_space(text, value.end)
            if text[position] == ",":
                position = _after_space(text, position + 1)
        return Value(start, position + 1, line, text[start : position + 1], kind, None, tuple(entries))


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
