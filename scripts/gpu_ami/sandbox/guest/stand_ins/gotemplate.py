"""The part of Go's templates that `docker --format` is used with in scripts."""

from __future__ import annotations

import json
import re
from typing import Any

_TOKEN = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`|\(|\)|\||[^\s()|]+')


class TemplateError(Exception):
    """The template is not one; the text is Go's."""


def render(template: str, value: object) -> str:
    r"""Return *template* with ``{{...}}`` filled in from *value*; ``\t`` and ``\n`` are as in docker.

    Raises:
        TemplateError: It does not parse, asks for a field that is not there, or for a function we do not have.
    """
    pieces = _TOKEN.split(template.replace("\\t", "\t").replace("\\n", "\n"))
    if any("{{" in text for text in pieces[::2]):
        msg = "unclosed action"
        raise TemplateError(msg)
    text, rest = _block(list(enumerate(pieces)), value)
    if rest:
        msg = f"unexpected {{{{{rest[0][1]}}}}}"
        raise TemplateError(msg)
    return text


def _block(pieces: list[tuple[int, str]], value: Any) -> tuple[str, list[tuple[int, str]]]:
    """Render up to an ``end`` or ``else`` that is not ours; return the text and what follows, from that on."""
    out = ""
    while pieces:
        number, piece = pieces[0]
        if number % 2 == 0:
            out, pieces = out + piece, pieces[1:]
            continue
        if piece in ("end", "else"):
            return out, pieces
        keyword, _, expression = piece.partition(" ")
        pieces = pieces[1:]
        if keyword in ("range", "if"):
            text, pieces = _control(keyword, _evaluate(expression, value), pieces, value)
            out += text
        else:
            out += _text(_evaluate(piece, value))
    return out, []


def _control(
    keyword: str, subject: Any, pieces: list[tuple[int, str]], value: Any
) -> tuple[str, list[tuple[int, str]]]:
    """Render a ``range`` or an ``if`` whose subject is known; return the text and what follows its ``end``."""
    items = [value] if keyword == "if" and subject else (list(_values(subject)) if keyword == "range" else [])
    rendered = [_block(pieces, item) for item in items]
    # Rendered once more, for nothing but its end, when there was no item.
    rest = rendered[0][1] if rendered else _skip(pieces)
    other = ""
    if rest and rest[0][1] == "else":
        other, rest = _block(rest[1:], value) if not rendered else ("", _skip(rest[1:]))
    if not rest:
        msg = "unexpected EOF"
        raise TemplateError(msg)
    return "".join(text for text, _ in rendered) or ("" if rendered else other), rest[1:]


def _skip(pieces: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return *pieces* from the ``end`` or ``else`` on that closes the block they start in."""
    depth = 0
    for index, (number, piece) in enumerate(pieces):
        if number % 2 == 0:
            continue
        if piece.partition(" ")[0] in ("range", "if"):
            depth += 1
        elif depth == 0 and piece in ("end", "else"):
            return pieces[index:]
        elif piece == "end":
            depth -= 1
    return []


def _values(subject: Any) -> Any:
    return subject.values() if isinstance(subject, dict) else (subject or [])


def _evaluate(expression: str, value: Any) -> Any:
    """Evaluate ``a b | c``: words are arguments of the first one, a pipe adds its left side as last argument."""
    words = _WORD.findall(expression)
    result, position = _call(words, 0, value)
    while position < len(words):
        if words[position] != "|":
            msg = f"unexpected {words[position]!r} in command"
            raise TemplateError(msg)
        result, position = _call(words, position + 1, value, (result,))
    return result


def _call(words: list[str], position: int, value: Any, piped: tuple[Any, ...] = ()) -> tuple[Any, int]:
    if position >= len(words):
        msg = "missing value for command"
        raise TemplateError(msg)
    if words[position] in _FUNCTIONS:
        name, arguments, position = words[position], [], position + 1
        while position < len(words) and words[position] not in ("|", ")"):
            argument, position = _operand(words, position, value)
            arguments.append(argument)
        try:
            return _FUNCTIONS[name](*arguments, *piped), position
        except (TypeError, IndexError, KeyError) as exc:
            msg = f"error calling {name}: {exc}"
            raise TemplateError(msg) from exc
    return _operand(words, position, value)


def _operand(words: list[str], position: int, value: Any) -> tuple[Any, int]:
    word = words[position]
    if word == "(":
        result, position = _call(words, position + 1, value)
        if position >= len(words) or words[position] != ")":
            msg = "unclosed left paren"
            raise TemplateError(msg)
        return result, position + 1
    if word.startswith(('"', "`")):
        return json.loads(word) if word[0] == '"' else word[1:-1], position + 1
    if re.fullmatch(r"-?\d+", word):
        return int(word), position + 1
    if word.startswith("."):
        return _field(value, word), position + 1
    msg = f'function "{word}" not defined'
    raise TemplateError(msg)


def _field(value: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        if not isinstance(value, dict) or name not in value:
            msg = f'map has no entry for key "{name}"'
            raise TemplateError(msg)
        value = value[name]
    return value


def _index(container: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(container, list) and not 0 <= key < len(container):
            msg = f"error calling index: index out of range: {key}"
            raise TemplateError(msg)
        container = container.get(key, "") if isinstance(container, dict) else container[key]
    return container


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{' '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_text(value[key])}' for key in sorted(value))}]"
    return "<no value>" if value is None else str(value)


_FUNCTIONS: dict[str, Any] = {
    "eq": lambda left, right: left == right,
    "index": _index,
    "join": lambda items, separator: separator.join(items),
    "json": lambda item: json.dumps(item, separators=(",", ":"), sort_keys=True),
    "len": len,
    "lower": lambda text: text.lower(),
    "not": lambda item: not item,
    "println": lambda *items: " ".join(map(_text, items)) + "\n",
    "slice": lambda item, *ends: item[slice(*ends)],
    "upper": lambda text: text.upper(),
}
