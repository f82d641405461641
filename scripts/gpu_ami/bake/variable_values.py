"""Reads values of Packer's variables: from variables files, ``PKR_VAR_…`` and ``-var``, with Packer's conversions.

Packer evaluates a variables file without any function or variable. Of what is left, literals and the arithmetic of
plain numbers are evaluated here. Anything else, such as a template in a string, is `Computed`: its value is not known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from pathlib import Path
from typing import Any, NoReturn

from gpu_ami import hcl
from gpu_ami.errors import UsageError
from gpu_ami.files import read_text

ENVIRONMENT_PREFIX = "PKR_VAR_"
_WHAT = "Packer variables file"
# Packer computes with 512 bits, 154 decimal digits.
_PRECISION = 154
# A number of more digits is none that a variable can hold; to write it out would fill the memory.
_DIGITS = 400
_SHOWN = 60
_CONTAINER = re.compile(r"(?P<container>list|set|map)\((?P<inner>.+)\)")
# What a forgotten quote or bracket makes of a text: names, which nothing defines.
_NAME = re.compile(r"[\w.:/@-]+")
_NUMERAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BOOLS = {"true": True, "1": True, "false": False, "0": False}
_TOKEN = re.compile(r"\s*(?P<token>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|[-+*/%()])\s*")
_HEREDOC = re.compile(r"<<(?P<flush>-?)[^\r\n]*\r?\n(?P<body>.*\n|)[^\n]*", re.DOTALL)


@dataclass(frozen=True, repr=False)
class Computed:
    """An expression that only Packer evaluates: what is written, and on which line."""

    text: str
    line: int

    def __repr__(self) -> str:
        """Return it as messages show it."""
        shown = " ".join(self.text.split())
        return f"the expression `{shown if len(shown) <= _SHOWN else f'{shown[:_SHOWN]}…'}`"


def load(path: Path, *, hint: str = "") -> dict[str, Any]:
    """Return the variables file *path* as plain values; numbers are decimals, expressions are `Computed`.

    Raises:
        UsageError: The file is missing, unreadable or does not parse; the error names the line.
    """
    text = read_text(path, what=_WHAT, hint=hint)
    if path.suffix == ".json":
        return _json_object(text, path)
    return _attributes(text, f"The {_WHAT} {path}")


def from_file(path: Path, kinds: Mapping[str, str], *, hint: str = "") -> dict[str, Any]:
    """Return the values that the variables file *path* gives the template's variables.

    Args:
        path: The file.
        kinds: Variable to its type, as the template declares it, without blanks. Packer passes over any other name in
            the file; it is returned as it stands there.
        hint: What to do when the file is missing.

    Raises:
        UsageError: As of `load`; or a variable's value is an expression that only Packer evaluates.
    """
    found: dict[str, Any] = {}
    for name, value in load(path, hint=hint).items():
        if name in kinds and (computed := next(_computed(value), None)) is not None:
            _refuse(name, computed, f"at line {computed.line} of {path}")
        found[name] = converted(value, kinds.get(name, ""))
    return found


def of_template(path: Path, name: str) -> Any:
    """Return the default of the variable *name* in *path*, a file of the template, as Packer reads it.

    Raises:
        UsageError: The file does not parse, or the default is an expression that only Packer evaluates.
    """
    document = hcl.parse(read_text(path, what="template") + "\n", f"The template {path}")
    written = hcl.find(document, ("variable", name, "default"))
    value = _evaluated(written)
    if (computed := next(_computed(value), None)) is not None:
        _refuse(name, computed, f"at line {computed.line} of {path}")
    return _plain(value)


def from_environment(environment: Mapping[str, str], kinds: Mapping[str, str]) -> dict[str, Any]:
    """Return the values that ``PKR_VAR_…`` in *environment* give the template's variables, by their types *kinds*.

    Raises:
        UsageError: One is an expression that only Packer evaluates.
    """
    prefix = ENVIRONMENT_PREFIX
    given = {name.removeprefix(prefix): text for name, text in environment.items() if name.startswith(prefix)}
    return from_texts({name: text for name, text in given.items() if name in kinds}, kinds, prefix)


def without_strangers(environment: Mapping[str, str], kinds: Mapping[str, str]) -> dict[str, str]:
    """Return *environment* without the ``PKR_VAR_…`` of variables that the template does not have.

    Packer takes no notice of them, but its provenance holds each ``PKR_VAR_…`` that there is, with its value: those of
    another template may be secrets, and what is none of this template's variables cannot be sensitive in it (1.16.0).
    """
    prefix = ENVIRONMENT_PREFIX
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(prefix) or name.removeprefix(prefix) in kinds
    }


def from_texts(given: Mapping[str, str], kinds: Mapping[str, str], prefix: str = "--packer-var ") -> dict[str, Any]:
    """Return values that were *given* as texts: text for a string or a number, an expression for every other type.

    Args:
        given: Variable to the text.
        kinds: Variable to its type.
        prefix: What stands before the variable's name where it was given, for errors.

    Raises:
        UsageError: One is an expression that only Packer evaluates.
    """
    found: dict[str, Any] = {}
    for name, text in given.items():
        value = _expression(text) if kinds.get(name, "string") not in ("string", "number") else text
        if (computed := next(_computed(value), None)) is not None:
            _refuse(name, computed, f"in {prefix}{name}")
        found[name] = converted(value, kinds.get(name, ""))
    return found


def converted(value: Any, kind: str) -> Any:
    """Return *value* as Packer makes it one of the type *kind*, such as ``list(string)``.

    What cannot be converted stays as it is: Packer refuses it.
    """
    if kind == "string":
        return _text(value)
    if kind == "number" and isinstance(value, str) and _NUMERAL.fullmatch(value):
        return _plain(Decimal(value))
    if kind == "bool" and isinstance(value, str):
        return _BOOLS.get(value, value)
    match = _CONTAINER.fullmatch(kind)
    if match and isinstance(value, list) and match["container"] != "map":
        return [converted(entry, match["inner"]) for entry in value]
    if match and isinstance(value, dict) and match["container"] == "map":
        return {name: converted(entry, match["inner"]) for name, entry in value.items()}
    return _plain(value)


def _refuse(name: str, computed: Computed, where: str) -> NoReturn:
    msg = f"The Packer variable {name} is {computed} {where}, which only Packer evaluates: write the value itself."
    raise UsageError(msg)


def _json_object(text: str, path: Path) -> dict[str, Any]:
    try:
        document = json.loads(text, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError) as exc:
        msg = f"The {_WHAT} {path} is not JSON: {exc}."
        raise UsageError(msg) from exc
    if not isinstance(document, dict):
        msg = f'The {_WHAT} {path} holds no object: write {{"name": value}}.'
        raise UsageError(msg)
    return document


def _no_number(name: str) -> NoReturn:
    msg = f"{name} is no number"
    raise ValueError(msg)


def _attributes(text: str, source: str) -> dict[str, Any]:
    # The parser wants the final newline that editors may leave out.
    document = hcl.parse(text + "\n", source)
    return {attribute.name: _evaluated(attribute.value) for attribute in document.body.attributes}


def _expression(text: str) -> Any:
    """Return the value of the expression *text*; the text itself where Packer knows none: it says so."""
    try:
        found = _attributes(f"value = {text}", "the value")
    except UsageError:
        return text
    is_name = _NAME.fullmatch(text) is not None and isinstance(found["value"], Computed)
    return text if is_name or len(found) != 1 else found["value"]


def _evaluated(value: hcl.Value) -> Any:
    computed = Computed(value.text, value.line)
    if value.kind == "number":
        return Decimal(value.text)
    if value.kind == "list":
        return [_evaluated(entry.value) for entry in value.entries]
    if value.kind == "map":
        is_plain = all(entry.name is not None for entry in value.entries)
        return {str(entry.name): _evaluated(entry.value) for entry in value.entries} if is_plain else computed
    if value.kind == "heredoc":
        found = _heredoc(value.text)
        return computed if found is None else found
    if value.kind == "expression":
        number = arithmetic(value.text)
        return computed if number is None else number
    return value.literal


def _heredoc(written: str) -> str | None:
    """Return the text of a heredoc, in which only ``${`` and ``%{`` are special; None where it has to be computed."""
    match = _HEREDOC.fullmatch(written)
    if match is None or re.search(r"(?<!\$)\$\{|(?<!%)%\{", match["body"]):
        return None
    lines = match["body"].splitlines(keepends=True)
    if match["flush"]:
        margin = min((len(line) - len(line.lstrip(" \t")) for line in lines), default=0)
        lines = [line[margin:] for line in lines]
    return "".join(lines).replace("$${", "${").replace("%%{", "%{")


def _computed(value: Any) -> Iterator[Computed]:
    if isinstance(value, Computed):
        yield value
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for entry in entries:
        yield from _computed(entry)


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, Decimal)):
        number = Decimal(value)
        return f"{number.normalize(_EXACT):f}" if _is_writable(number) else str(value)
    return _plain(value)


def _plain(value: Any) -> Any:
    """Return *value* with numbers as Python has them: whole ones as int."""
    if isinstance(value, Decimal):
        return int(value) if _is_writable(value) and value == value.to_integral_value() else float(value)
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return value


# Takes trailing zeros away, and no digit of any number that `_is_writable`.
_EXACT = Context(prec=2 * _DIGITS + 1)


def _is_writable(number: Decimal) -> bool:
    return number == 0 or (abs(number.adjusted()) < _DIGITS and len(number.as_tuple().digits) <= _DIGITS)


def arithmetic(text: str) -> Decimal | None:
    """Return the value of *text*, plain numbers with ``+ - * / %`` and parentheses; None when it is anything else."""
    tokens: list[str] = []
    position = 0
    while match := _TOKEN.match(text, position):
        tokens.append(match["token"])
        position = match.end()
    if position != len(text):
        return None
    tokens.reverse()
    try:
        with localcontext(Context(prec=_PRECISION)):
            number = _sum(tokens)
    except (ArithmeticError, LookupError, RecursionError, ValueError):
        return None
    return None if tokens else number


def _sum(tokens: list[str]) -> Decimal:
    """Take a sum from the end of *tokens*, which are reversed, and return its value; the others go one level deeper."""
    total = _product(tokens)
    while tokens and tokens[-1] in "+-":
        is_sum = tokens.pop() == "+"
        other = _product(tokens)
        total = total + other if is_sum else total - other
    return total


def _product(tokens: list[str]) -> Decimal:
    product = _factor(tokens)
    while tokens and tokens[-1] in "*/%":
        sign = tokens.pop()
        other = _factor(tokens)
        product = product * other if sign == "*" else product / other if sign == "/" else product % other
    return product


def _factor(tokens: list[str]) -> Decimal:
    first = tokens.pop()
    if first == "-":
        return -_factor(tokens)
    if first != "(":
        return Decimal(first)
    inside = _sum(tokens)
    if tokens.pop() != ")":
        raise ValueError
    return inside
