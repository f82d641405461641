"""GitHub's expressions, as far as the workflows here use them; anything else is an error, not a guess."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Contexts = Mapping[str, Any]
_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>\d+)|(?P<name>[A-Za-z_][\w-]*)|(?P<sign>\|\||&&|==|!=|[!().]))"
)
_INSIDE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_LITERALS = {"true": True, "false": False, "null": None}


def is_true(value: Any) -> bool:
    """Return what GitHub takes *value* for in a condition."""
    return value not in (None, False, 0, "")


def shown(value: Any) -> str:
    """Return *value* as it is put into a text."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)


def resolve(text: str, contexts: Contexts, functions: Mapping[str, Callable[[], bool]] | None = None) -> Any:
    """Return *text* with its expressions resolved; a text that is one expression keeps that one's type."""
    whole = _INSIDE.fullmatch(text.strip())
    if whole and "${{" not in whole[1]:
        return evaluate(whole[1], contexts, functions)
    return _INSIDE.sub(lambda match: shown(evaluate(match[1], contexts, functions)), text)


def evaluate(expression: str, contexts: Contexts, functions: Mapping[str, Callable[[], bool]] | None = None) -> Any:
    """Return the value of *expression*.

    Raises:
        ValueError: It uses something that is not known here.
    """
    parser = _Parser(_tokens(expression), contexts, functions or {})
    value = parser.either()
    if parser.rest:
        msg = f"{expression!r}: {parser.rest[0][1]!r} is not understood here"
        raise ValueError(msg)
    return value


def _tokens(expression: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    position = 0
    while position < len(expression.rstrip()):
        match = _TOKEN.match(expression, position)
        if match is None or match.lastgroup is None:
            msg = f"{expression!r} is not understood here from {expression[position:]!r} on"
            raise ValueError(msg)
        found.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return found


class _Parser:
    """Reads an expression and works it out on the way; both sides of `||` and `&&` are read, as on GitHub."""

    def __init__(
        self, tokens: list[tuple[str, str]], contexts: Contexts, functions: Mapping[str, Callable[[], bool]]
    ) -> None:
        self.rest = tokens
        self._contexts = contexts
        self._functions = functions

    def _take(self, sign: str) -> bool:
        if self.rest and self.rest[0] == ("sign", sign):
            self.rest = self.rest[1:]
            return True
        return False

    def either(self) -> Any:
        value = self._both()
        while self._take("||"):
            other = self._both()
            value = value if is_true(value) else other
        return value

    def _both(self) -> Any:
        value = self._compared()
        while self._take("&&"):
            other = self._compared()
            value = other if is_true(value) else value
        return value

    def _compared(self) -> Any:
        value = self._single()
        for sign, expected in (("==", True), ("!=", False)):
            if self._take(sign):
                return (_loose(value) == _loose(self._single())) is expected
        return value

    def _single(self) -> Any:
        if self._take("!"):
            return not is_true(self._single())
        if self._take("("):
            value = self.either()
            assert self._take(")")
            return value
        kind, token = self.rest[0]
        self.rest = self.rest[1:]
        match kind:
            case "text":
                return token[1:-1].replace("''", "'")
            case "number":
                return int(token)
            case "name":
                return self._named(token)
        msg = f"{token!r} is not understood here"
        raise ValueError(msg)

    def _named(self, token: str) -> Any:
        if self._take("("):
            return self._called(token)
        if token in _LITERALS:
            return _LITERALS[token]
        if token not in self._contexts:
            msg = f"the context {token!r} is not there"
            raise ValueError(msg)
        value = self._contexts[token]
        while self._take("."):
            name = self.rest[0][1]
            self.rest = self.rest[1:]
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def _called(self, token: str) -> Any:
        if token == "fromJSON":
            # What is no text is taken as one, as everywhere on GitHub.
            value = shown(self.either())
            assert self._take(")")
            return json.loads(value)
        if not self._take(")") or token not in self._functions:
            msg = f"{token}(…) is not known here"
            raise ValueError(msg)
        return self._functions[token]()


def _loose(value: Any) -> Any:
    """Return *value* as GitHub compares it: texts without regard to case, nothing as an empty text."""
    return value.casefold() if isinstance(value, str) else "" if value is None else value
