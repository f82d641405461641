"""Values that nobody else may see: which they are, the file they travel in, and what is taken out of a log."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpu_ami.bake.template import template

_REFERENCE = re.compile(r"\b(?P<kind>var|local)\.(?P<name>\w+)")
# A presigned URL's query is a credential. Packer writes a comma as %!(PACKER_COMMA), JSON an ampersand as \u0026.
_QUERY = re.compile(r"(https?://[^\s?\"'<>]+)\?[^\s\"'<>]+")
_USER = re.compile(r"(https?://)[^\s/@\"'<>]+@")
_NAMED = re.compile(
    r"(?P<name>\b[\w-]*(?:token|password|secret|signature|credential|authorization)[\w-]*[\"']?\s*[:=]\s*[\"']?)"
    r"(?:(?:bearer|basic)\s+)?[^\s\"',&]{6,}",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Return *text* without the users and queries of URLs and without what is named a token, password or secret."""
    return _NAMED.sub(r"\g<name>...", _USER.sub(r"\1...@", _QUERY.sub(r"\1?...", text)))


def private_names(folder: Path) -> frozenset[str]:
    """Return the variables of the template in *folder* that are secrets.

    Those are the ones with ``sensitive = true``, however that is written, and what a sensitive local is made of.
    """
    variables: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    hidden: list[str] = []
    for path in sorted(folder.glob("*.pkr.hcl")):
        document = template(path)
        for block in document.get("variable", []):
            variables |= block
        for block in document.get("locals", []):
            plain |= block
        hidden += [
            str(body.get("expression"))
            for block in document.get("local", [])
            for body in block.values()
            if _is_sensitive(body)
        ]
    found = {name for name, body in variables.items() if _is_sensitive(body)}
    return frozenset(found | _reached(hidden, plain)) & variables.keys()


def _is_sensitive(body: Mapping[str, Any]) -> bool:
    """Return whether a block says that its value is a secret, as Packer converts it: "true" and !false do, too."""
    return body.get("sensitive", False) not in (False, None, "false", "0")


def apart(folder: Path, given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return those of the *given* variables that may be on a command line, and those that may not.

    A command line is in the process list and in a dry run's output; the template in *folder* says what is a secret.
    """
    hidden = private_names(folder) & given.keys() if given else frozenset()
    return (
        {name: value for name, value in given.items() if name not in hidden},
        {name: given[name] for name in sorted(hidden)},
    )


def _reached(expressions: list[str], plain: Mapping[str, Any]) -> set[str]:
    """Return the variables in *expressions*, those of the locals that they use included."""
    found: set[str] = set()
    seen: set[str] = set()
    left = list(expressions)
    while left:
        for match in _REFERENCE.finditer(left.pop()):
            if match["kind"] == "var":
                found.add(match["name"])
            elif match["name"] not in seen:
                seen.add(match["name"])
                left.append(str(plain.get(match["name"], "")))
    return found


def variables_text(folder: Path, values: Mapping[str, str]) -> str:
    """Return *values*, given as on a command line, as a Packer variables file.

    As ``-var`` does, a value is text for a variable of type string, and an expression for any other.
    """
    types: dict[str, str] = {}
    for path in sorted(folder.glob("*.pkr.hcl")):
        for block in template(path).get("variable", []):
            types |= {name: str(body.get("type", "string")) for name, body in block.items()}
    lines = [f"{name} = {_written(value, types.get(name, 'string'))}" for name, value in sorted(values.items())]
    return "\n".join(lines) + "\n"


def _written(value: str, kind: str) -> str:
    if kind not in ("string", "${string}"):
        return value
    return json.dumps(value, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")
