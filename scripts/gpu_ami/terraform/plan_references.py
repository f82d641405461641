"""Follows the expressions of Terraform's configuration, as a plan has them, back to the root's variables.

The plan's JSON names what an expression refers to, not how: a resource's argument refers to ``var.x``, the call of the
module gives ``x`` an expression that refers to something else, and so on. It does not say what a local value is made
of, and nothing of what is in a ``dynamic`` block: those end the trail.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_MODULE = re.compile(r'module\.([^.\[]+)(?:\[(?:"(?:[^"\\]|\\.)*"|\d+)\])?')
_NAME = re.compile(r"[^.\[]+")
# Where a resource shows an argument under another name.
_SHOWN_AS = {("terraform_data", "output"): "input", ("null_data_source", "outputs"): "inputs"}
# What differs between the instances of one resource: what they refer to is not what each of them takes.
_PER_INSTANCE = frozenset({"each", "count", "self"})


@dataclass(frozen=True)
class Configuration:
    """The configuration that a plan was made from.

    Attributes:
        root: The root module's part of the plan's JSON.
    """

    root: Mapping[str, Any]

    def expressions(self, module_address: str, kind: str, name: str) -> Mapping[str, Any]:
        """Return the arguments of a managed resource; empty when the configuration does not have it."""
        return _resource(self._module(_path(module_address)), kind, name)

    def all_of(self, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield module address, without keys, and arguments of each managed resource, also where ``count`` is 0."""
        modules = [("", self.root)]
        while modules:
            address, module = modules.pop()
            for row in module.get("resources") or []:
                if row.get("mode") == "managed" and row.get("type") == kind:
                    yield address, row.get("expressions") or {}
            for name, call in (module.get("module_calls") or {}).items():
                modules.append((f"{address}.module.{name}".lstrip("."), call.get("module") or {}))

    def takes(self, module_address: str, expression: Any, variable: str) -> bool:
        """Whether *expression*, written in that module, is the root's *variable*, alone or with others beside it.

        False also where that cannot be said: a local value, or one that differs between instances.
        """
        found = set(self._sources(_path(module_address), expression, set()))
        return variable in found and not found & {f"{word}." for word in _PER_INSTANCE}

    def _sources(self, path: tuple[str, ...], expression: Any, seen: set[tuple[tuple[str, ...], str]]) -> Iterator[str]:
        """Yield names of root variables, and ``each.`` and its like as they are; each reference is followed once."""
        if not isinstance(expression, Mapping):
            return
        for reference in _longest(expression.get("references") or []):
            if (path, reference) in seen:
                continue
            seen.add((path, reference))
            first, *rest = _NAME.findall(reference)
            if first in _PER_INSTANCE:
                yield f"{first}."
            elif first == "var" and rest:
                if path:
                    call = (self._module(path[:-1]).get("module_calls") or {}).get(path[-1]) or {}
                    yield from self._sources(path[:-1], (call.get("expressions") or {}).get(rest[0]), seen)
                else:
                    yield rest[0]
            elif first == "module" and len(rest) > 1:
                inner = (*path, rest[0])
                output = (self._module(inner).get("outputs") or {}).get(rest[1]) or {}
                yield from self._sources(inner, output.get("expression"), seen)
            elif len(rest) > 1:
                arguments = _resource(self._module(path), first, rest[0])
                argument = arguments.get(_SHOWN_AS.get((first, rest[1]), rest[1]))
                yield from self._sources(path, argument, seen)

    def _module(self, path: Iterable[str]) -> Mapping[str, Any]:
        module = self.root
        for name in path:
            module = ((module.get("module_calls") or {}).get(name) or {}).get("module") or {}
        return module


def of(document: Mapping[str, Any]) -> Configuration | None:
    """Return the configuration in a plan's *document*; None when it has none."""
    root = (document.get("configuration") or {}).get("root_module")
    return Configuration(root) if isinstance(root, Mapping) else None


def blocks(expressions: Any, name: str) -> list[Mapping[str, Any]]:
    """Return the blocks *name* among *expressions*; none where they are dynamic."""
    found = expressions.get(name) if isinstance(expressions, Mapping) else None
    return [block for block in found if isinstance(block, Mapping)] if isinstance(found, list) else []


def _path(module_address: str) -> tuple[str, ...]:
    return tuple(_MODULE.findall(module_address))


def _longest(references: Iterable[str]) -> list[str]:
    """Return *references* without those that only begin another: Terraform names ``module.a.b`` and ``module.a``."""
    found = list(dict.fromkeys(references))
    return [one for one in found if not any(other.startswith((f"{one}.", f"{one}[")) for other in found)]


def _resource(module: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    for row in module.get("resources") or []:
        if row.get("mode") == "managed" and (row.get("type"), row.get("name")) == (kind, name):
            found: Mapping[str, Any] = row.get("expressions") or {}
            return found
    return {}
