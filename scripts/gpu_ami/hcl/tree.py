"""Parses an HCL text into bodies, attributes, blocks and values, each with its position in the text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from gpu_ami.errors import UsageError
from gpu_ami.foreign_text import limited
from gpu_ami.hcl.lines import Lines
from gpu_ami.hcl.paths import Path, Step
from gpu_ami.hcl.shadow import UnreadableTextError, shadow

Kind = Literal["string", "number", "bool", "null", "list", "map", "heredoc", "expression"]

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_DIGITS = 4000
_KEYWORDS: dict[str, tuple[Kind, bool | None]] = {
    "true": ("bool", True),
    "false": ("bool", False),
    "null": ("null", None),
}
_ESCAPE = re.compile(r"\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8}|\\[nrt\"\\]|\$\$\{|%%\{")
_TEMPLATE = re.compile(r"\\.|\$\$\{|%%\{|(?P<template>\$\{|%\{)", re.DOTALL)
_SHORT = {"\\n": "\n", "\\r": "\r", "\\t": "\t", '\\"': '"', "\\\\": "\\", "$${": "${", "%%{": "%{"}


@dataclass(frozen=True)
class Value:
    """The right-hand side of an attribute, or a part of it.

    Attributes:
        start: Offset of its first character.
        end: Offset behind its last one.
        line: The line it starts on.
        text: It, as written.
        kind: What it is; anything that has to be computed is an expression.
        literal: The value of a string, number, bool or null; None otherwise.
        entries: The entries of a map, the elements of a list.
    """

    start: int
    end: int
    line: int
    text: str
    kind: Kind
    literal: str | float | bool | None = None
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Entry:
    """An entry of a map or an element of a list; `name` is None for a key that has to be computed."""

    name: Step | None
    value: Value


@dataclass(frozen=True)
class Attribute:
    """``name = value``."""

    name: str
    line: int
    value: Value


@dataclass(frozen=True)
class Block:
    """``type "label" … { body }``; `end` is the offset of its closing brace."""

    type: str
    labels: tuple[str, ...]
    line: int
    body: Body
    end: int


@dataclass(frozen=True)
class Body:
    """A file, or what is between a block's braces."""

    attributes: tuple[Attribute, ...] = ()
    blocks: tuple[Block, ...] = ()

    def walk(self, path: Path = ()) -> Iterator[tuple[Path, Attribute]]:
        """Yield each attribute in it with the path that leads there; repeated blocks are numbered."""
        for attribute in self.attributes:
            yield (*path, attribute.name), attribute
        names = [(block.type, *block.labels) for block in self.blocks]
        several, seen = Counter(names), Counter[tuple[str, ...]]()
        for name, block in zip(names, self.blocks, strict=True):
            index = (seen[name],) if several[name] > 1 else ()
            seen[name] += 1
            yield from block.body.walk((*path, *name, *index))


@dataclass(frozen=True)
class Document:
    """A parsed text.

    Attributes:
        text: The text.
        source: What it is called in errors.
        body: What it holds.
        parse: Reads another text of the same syntax.
    """

    text: str
    source: str
    body: Body
    parse: Callable[[str, str], Document]


def parse(text: str, source: str) -> Document:
    """Return what *text* holds; *source* names it in errors. A byte-order mark may lead.

    Raises:
        UsageError: It is not HCL; the error names the line.
    """
    from lark.exceptions import LarkError, UnexpectedInput

    from gpu_ami.hcl.parser import tree

    position: int | None
    try:
        return _Reader(text, source).document(tree(shadow(text)))
    except UnreadableTextError as exc:
        position, problem = exc.position, str(exc)
    except UnexpectedInput as exc:
        # A file that ends too early is blamed on its end.
        position, problem = exc.pos_in_stream, "something is missing or unexpected there"
    except LarkError as exc:
        position, problem = None, limited(str(exc).splitlines()[0])
    except RecursionError:
        position, problem = None, "it is nested too deeply"
    end = len(text.rstrip())
    line = text.count("\n", 0, end if position is None else min(position, end)) + 1
    msg = f"{source} does not parse at line {line}: {problem}. Fix it there."
    raise UsageError(msg)


@dataclass
class _Reader:
    """Turns the parser's tree into ours; positions and names are those of the text, not of its shadow."""

    text: str
    source: str

    def __post_init__(self) -> None:
        self._line = Lines(self.text).number

    def document(self, tree: Any) -> Document:
        return Document(self.text, self.source, self._body(tree.children[0]), parse)

    def _body(self, tree: Any) -> Body:
        self._check_lines(tree)
        return Body(
            attributes=tuple(self._attribute(child) for child in tree.children if child.data == "attribute"),
            blocks=tuple(self._block(child) for child in tree.children if child.data == "block"),
        )

    def _check_lines(self, tree: Any) -> None:
        """Refuse two attributes or blocks on one line: the parser takes them, Terraform does not."""
        for before, after in pairwise(tree.children):
            if "new_line_or_comment" not in {before.data, after.data} and not _ends_its_line(before):
                problem = "two attributes or blocks are on one line"
                raise UnreadableTextError(problem, _span(after)[0])

    def _attribute(self, tree: Any) -> Attribute:
        name, _equals, value = tree.children
        start, end = _span(name)
        return Attribute(self.text[start:end], self._line(start), self._value(value))

    def _block(self, tree: Any) -> Block:
        heads = [child for child in tree.children if getattr(child, "data", None) not in {None, "body"}]
        heads = [head for head in heads if head.data != "new_line_or_comment"]
        names = [self._name(head) for head in heads]
        (body,) = (child for child in tree.children if getattr(child, "data", None) == "body")
        start = _span(heads[0])[0]
        return Block(names[0], tuple(names[1:]), self._line(start), self._body(body), tree.children[-1].start_pos)

    def _name(self, tree: Any) -> str:
        start, end = _span(tree)
        written = self.text[start:end]
        return _unquoted(written) or "" if tree.data == "string" else written

    def _value(self, tree: Any) -> Value:
        start, end = _span(tree)
        written = self.text[start:end]
        only = tree.children[0] if tree.data == "expr_term" and len(tree.children) == 1 else tree
        kind, literal, entries = self._meaning(only, written)
        return Value(start, end, self._line(start), written, kind, literal, entries)

    def _meaning(self, tree: Any, written: str) -> tuple[Kind, str | float | bool | None, tuple[Entry, ...]]:
        if _NUMBER.fullmatch(written):
            # Python makes no integers of thousands of digits; whoever writes some gets the nearest float.
            is_whole = written.lstrip("-").isdigit() and len(written) < _DIGITS
            return "number", int(written) if is_whole else float(written), ()
        if tree.data == "literal_value":
            return (*_KEYWORDS[written], ())
        if tree.data == "string" and (unquoted := _unquoted(written)) is not None:
            return "string", unquoted, ()
        if tree.data.startswith("heredoc"):
            return "heredoc", None, ()
        if tree.data == "object":
            return "map", None, tuple(self._entry(row) for row in _rows(tree) if row.data == "object_elem")
        if tree.data == "tuple":
            return "list", None, tuple(Entry(number, self._value(row)) for number, row in enumerate(_rows(tree)))
        return "expression", None, ()

    def _entry(self, tree: Any) -> Entry:
        key, _sign, value = tree.children
        start, end = _span(key)
        written = self.text[start:end]
        name = _unquoted(written) if written.startswith('"') else written
        is_plain = name is not None and (written[0] == '"' or re.fullmatch(r"[\w-]+", written) is not None)
        return Entry(name if is_plain else None, self._value(value))


def _rows(tree: Any) -> list[Any]:
    """Return the parts of a list or map without its brackets, commas and line ends."""
    return [child for child in tree.children if hasattr(child, "data") and child.data != "new_line_or_comment"]


def _span(tree: Any) -> tuple[int, int]:
    """Return where *tree* starts and ends, the line ends that the parser counts to it left out."""
    tokens = list(tree.scan_values(lambda token: token.type != "NL_OR_COMMENT"))
    first, last = tokens[0], tokens[-1]
    # The parser counts the line feed behind a heredoc to it.
    return first.start_pos, last.end_pos - (1 if last.type.startswith("HEREDOC") else 0)


def _ends_its_line(tree: Any) -> bool:
    """Return whether the parser counts a line's end to *tree*, as it does to heredocs and operators."""
    last = tree.children[-1]
    while hasattr(last, "children"):
        last = last.children[-1]
    return bool(last.type == "NL_OR_COMMENT" or last.type.startswith("HEREDOC"))


def _unquoted(written: str) -> str | None:
    """Return the value of the string literal *written*; None when it has to be computed."""
    inside = written[1:-1]
    if any(match["template"] for match in _TEMPLATE.finditer(inside)):
        return None
    return _ESCAPE.sub(_unescaped, inside)


def _unescaped(match: re.Match[str]) -> str:
    written = match[0]
    if written in _SHORT:
        return _SHORT[written]
    code = int(written[2:], 16)
    return chr(code) if code <= 0x10FFFF else written
