"""Plans the change that handing AMI ids over makes in a ``.tfvars``, ``.tf`` or ``.tfvars.json`` file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_ami.errors import UsageError
from gpu_ami.handover.change import WHAT, Change, Edit, read
from gpu_ami.hcl import find
from gpu_ami.hcl.paths import Path as ValuePath
from gpu_ami.hcl.paths import parse_path, show_path
from gpu_ami.records.tags import checked_ami_id

if TYPE_CHECKING:
    from gpu_ami.hcl.tree import Document, Value

JSON = ".tfvars.json"
MARK = "\ufeff"
KINDS = (".tfvars", ".tf", JSON)


def plan(file: Path, variable: str, amis: Mapping[str, str], *, region: str) -> Change:
    """Return what handing *amis* over changes in *file*.

    Exactly the values' bytes change; a byte-order mark goes where Terraform would not read the file with it. Only a
    ``.tfvars.json`` file may lack the variable, which is added behind the others, or not be there yet.

    Args:
        file: A ``.tfvars``, ``.tf`` or ``.tfvars.json`` file.
        variable: A variable, or a path to a value. In a ``.tf`` file a plain name means that variable's default. Where
            the value is a map, its entries for the regions of *amis* get their AMIs; anything else gets *region*'s.
        amis: Region to AMI id.
        region: The pipeline's region.

    Raises:
        UsageError: An id is not an AMI id, or the value cannot be replaced: it is missing, ambiguous, an expression or
            no AMI id; the error names the line.
    """
    for ami in amis.values():
        checked_ami_id(ami)
    parse_path(variable)
    if not file.name.endswith(KINDS):
        msg = f"{file} is not a .tfvars, .tf or .tfvars.json file: Terraform would not read the id from it. Name one."
        raise UsageError(msg)
    before = read(file)
    # Terraform takes a byte-order mark in HCL, but for no JSON.
    text = before.removeprefix(MARK) if file.name.endswith(JSON) else before
    change = _planned(file, variable, amis, region, text)
    if text == before:
        return change
    note = f"{file.name} begins with a byte-order mark, which Terraform takes for no JSON: it is left out."
    return replace(change, before=before, notes=(*change.notes, note))


def _planned(file: Path, variable: str, amis: Mapping[str, str], region: str, text: str) -> Change:
    """Return what handing *amis* over changes in *file*, which holds *text*."""
    path = parse_path(variable)
    if file.name.endswith(JSON) and not text.strip(" \t\r\n"):
        name = _plain_name(file, path)
        after = json.dumps({name: amis[region]}, indent=2, ensure_ascii=False) + "\n"
        return Change(file, name, (Edit(None, amis[region]),), text, after)
    if not file.exists():
        msg = f"The {WHAT} {file} does not exist: name one that has {variable}, or a .tfvars.json file, which is made."
        raise UsageError(msg)
    document = load(file, text)
    if file.name.endswith(JSON) and all(attribute.name != path[0] for attribute in document.body.attributes):
        return _added(document, file, path, amis[region])
    return _replaced(document, file, variable, amis, region)


def load(file: Path, text: str) -> Document:
    """Return what *text*, the content of *file*, holds.

    Raises:
        UsageError: It does not parse.
    """
    from gpu_ami import hcl

    return (hcl.parse_json if file.name.endswith(".json") else hcl.parse)(text, str(file))


def path_in(document: Document, file: Path, variable: str) -> ValuePath:
    """Return the path that *variable* means in *file*: in a ``.tf`` file a plain name is a variable's default.

    Raises:
        UsageError: It is no path, or the variable has no default.
    """
    path = parse_path(variable)
    if not file.name.endswith(".tf") or any(block.type == path[0] for block in document.body.blocks):
        return path
    blocks = [block for block in document.body.blocks if (block.type, block.labels) == ("variable", (path[0],))]
    if len(blocks) == 1 and all(attribute.name != "default" for attribute in blocks[0].body.attributes):
        msg = (
            f"The variable {path[0]} at line {blocks[0].line} of {file} has no default: add `default = null` there, "
            "or hand over to a .tfvars file."
        )
        raise UsageError(msg)
    return ("variable", path[0], "default", *path[1:]) if blocks else path


def _plain_name(file: Path, path: ValuePath) -> str:
    if len(path) > 1:
        msg = f"{file} has no {path[0]}: add the map by hand, or name a plain variable."
        raise UsageError(msg)
    return str(path[0])


def _added(document: Document, file: Path, path: ValuePath, ami: str) -> Change:
    """Return the change that adds a variable behind the others; not a byte of theirs changes."""
    from gpu_ami import hcl

    name = _plain_name(file, path)
    return Change(file, name, (Edit(None, ami),), document.text, hcl.insert(document, name, ami))


def _replaced(document: Document, file: Path, variable: str, amis: Mapping[str, str], region: str) -> Change:
    from gpu_ami import hcl

    path = path_in(document, file, variable)
    value = find(document, path)
    if value.kind != "map":
        edit = _edit(document, path, amis[region], None)
        return Change(file, variable, (edit,), document.text, hcl.replace(document, {path: edit.new}))
    edits = tuple(_edit(document, (*path, name), ami, name) for name, ami in amis.items())
    after = hcl.replace(document, {(*path, name): ami for name, ami in amis.items()})
    return Change(file, variable, edits, document.text, after, _left(variable, value, edits))


def _edit(document: Document, path: ValuePath, ami: str, region: str | None) -> Edit:
    """Return the change of one value; a text that is neither empty nor an AMI's is not what the caller means."""
    value = find(document, path)
    old = value.literal if isinstance(value.literal, str) else None
    if old and not old.startswith("ami-"):
        raise UsageError(no_ami_id(show_path(path), value, document.source))
    return Edit(old, ami, region)


def no_ami_id(shown: str, value: Value, source: str) -> str:
    """Return what to say of the *value* of *shown* in *source*: a hand-over replaces only an AMI's id or nothing."""
    return (
        f"{shown} at line {value.line} of {source} is {value.text[:60]}, no AMI id: if it is to hold the id, write "
        "null there by hand and run `invoke update-tfvars`; if not, name another variable."
    )


def _left(variable: str, value: Value, edits: Sequence[Edit]) -> tuple[str, ...]:
    """Return what to say about the entries of a region map that stay."""
    done = {edit.region for edit in edits}
    left = [str(entry.name) for entry in value.entries if entry.name is not None and entry.name not in done]
    return (f"{variable} keeps its other entries: {', '.join(left)}.",) if left else ()
