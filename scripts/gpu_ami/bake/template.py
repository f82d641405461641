"""Reads the Packer template: its variables with the value that each has in effect, and its scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from gpu_ami.bake import variable_values
from gpu_ami.errors import UsageError
from gpu_ami.files import read_text
from gpu_ami.foreign_text import limited, reason

_VARIABLE = re.compile(r"^[\t ]*variable\b", re.MULTILINE)
# Of strings with these python-hcl2 gives what is written, not what it means: an escape, an expression, a heredoc.
_AS_WRITTEN = re.compile(r"\A<<|[$%]\{")


def load_hcl(path: Path, *, what: str, hint: str = "") -> dict[str, Any]:
    """Return the HCL (or JSON) file *path* as plain values; expressions stay strings like ``"${var.x}"``.

    Raises:
        UsageError: The file is missing, unreadable or does not parse; the error names the line.
    """
    text = read_text(path, what=what, hint=hint)
    if path.suffix == ".json":
        try:
            document = json.loads(text)
        except ValueError as exc:
            msg = f"The {what} {path} is not JSON: {reason(exc)}."
            raise UsageError(msg) from exc
        if not isinstance(document, dict):
            msg = f'The {what} {path} holds no object: write {{"name": value}}.'
            raise UsageError(msg)
        return document
    return _parse_hcl(text, path, what)


def _parse_hcl(text: str, path: Path, what: str) -> dict[str, Any]:
    from lark.exceptions import LarkError, UnexpectedInput

    from gpu_ami.hcl.parser import values

    try:
        # hcl2 wants the final newline that editors may leave out.
        return values(text + "\n")
    except UnexpectedInput as exc:
        msg = f"The {what} {path} does not parse at line {exc.line}, column {exc.column}: fix it there."
        raise UsageError(msg) from exc
    except (LarkError, RecursionError) as exc:
        msg = f"The {what} {path} does not parse: {limited(str(exc).splitlines()[0])}."
        raise UsageError(msg) from exc


def template(path: Path) -> Mapping[str, Any]:
    """Return a file of the template as plain values; several readers of one run share what was parsed.

    Raises:
        UsageError: As of `load_hcl`.
    """
    text = read_text(path, what="template")
    # By its text: the sandbox's copy is the same template.
    if text not in _parsed:
        _parsed[text] = _parse_hcl(text, path, "template")
    return _parsed[text]


_parsed: dict[str, Mapping[str, Any]] = {}


def template_defaults(folder: Path, *, wanted: Collection[str] | None = None) -> dict[str, Any]:
    """Return variable name to default of the template in *folder*; a variable without one is absent.

    Args:
        folder: The template's.
        wanted: The variables to return, for a caller that must not fail because of another one; None for all.

    Raises:
        UsageError: A file cannot be used, or a default is an expression that only Packer evaluates.
    """
    return {
        name: variable_values.of_template(path, name) if _is_as_written(body["default"]) else body["default"]
        for path, name, body in _variables(folder)
        if "default" in body and (wanted is None or name in wanted)
    }


def _is_as_written(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_is_as_written(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return any(map(_is_as_written, value))
    return isinstance(value, str) and _AS_WRITTEN.search(value) is not None


def template_kinds(folder: Path) -> dict[str, str]:
    """Return variable name to type of the template in *folder*, as ``list(string)``: without blanks, empty for any."""
    kinds = {name: str(body.get("type", "")) for _, name, body in _variables(folder)}
    return {name: re.sub(r"\s", "", kind.removeprefix("${").removesuffix("}")) for name, kind in kinds.items()}


def _variables(folder: Path) -> Iterator[tuple[Path, str, Mapping[str, Any]]]:
    for path in sorted(folder.glob("*.pkr.hcl")):
        if not _VARIABLE.search(read_text(path, what="template")):
            continue  # to parse the largest file for nothing takes longer than most tasks do
        for block in template(path).get("variable", []):
            for name, body in block.items():
                yield path, name, body


def template_scripts(folder: Path) -> tuple[str, ...]:
    """Return the names of the shell provisioners' scripts, in the order they run."""
    names: list[str] = []
    for path in sorted(folder.glob("*.pkr.hcl")):
        for build in template(path).get("build", []):
            for provisioner in build.get("provisioner", []):
                body = provisioner.get("shell", {})
                scripts = body.get("scripts") or ([body["script"]] if "script" in body else [])
                names += [PurePosixPath(script).stem for script in scripts]
    return tuple(names)


def effective(
    folder: Path,
    files: Sequence[Path],
    given: Mapping[str, str],
    *,
    environment: Mapping[str, str],
    wanted: Collection[str] | None = None,
) -> dict[str, Any]:
    """Return the value that Packer gives each variable of the template in *folder*, as Packer would convert it.

    The order is Packer's, the last one counts: the template's defaults, ``PKR_VAR_…``, the variables files, ``-var``
    (Packer 1.16.0's ``collectInputVariableValues``).

    Args:
        folder: The template's.
        files: The variables files in Packer's order: those that it finds itself (`workspace.auto_variables`), then
            those of ``-var-file``.
        given: The ``-var`` of the command line.
        environment: Packer's environment.
        wanted: The variables to return, for a caller that must not fail because of another one; None for all.

    Raises:
        UsageError: A file cannot be used, or a value is an expression that only Packer evaluates.
    """

    def chosen(named: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in named.items() if wanted is None or name in wanted}

    kinds = chosen(template_kinds(folder))
    values = variable_values.from_environment(environment, kinds)
    for path in files:
        values |= variable_values.from_file(path, kinds)
    values |= variable_values.from_texts(chosen(given), kinds)
    # A default that does not count may be an expression.
    defaults = template_defaults(folder, wanted=kinds.keys() - values.keys())
    return {name: variable_values.converted(value, kinds[name]) for name, value in defaults.items()} | chosen(values)


def check_owner(values: Mapping[str, Any], file: Path, owned: Mapping[str, str], owner: Path) -> None:
    """Refuse a value that the settings own and the variables file gives differently.

    Raises:
        UsageError: *file* sets a name of *owned* to something else; both files are named.
    """
    for name, value in owned.items():
        if name in values and values[name] != value:
            msg = f"{name} is {values[name]!r} in {file} but {value!r} in {owner}: keep it in {owner.name} only."
            raise UsageError(msg)


def parse_given(pairs: Sequence[str]) -> dict[str, str]:
    """Return the ``name=value`` arguments of ``--packer-var`` as a mapping.

    Raises:
        UsageError: An argument has no ``=`` or no name.
    """
    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            msg = f"--packer-var {pair!r} is not name=value: write --packer-var image_tag=v3."
            raise UsageError(msg)
        given[name] = value
    return given
