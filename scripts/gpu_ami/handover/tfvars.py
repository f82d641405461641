"""The machine-owned ``*.auto.tfvars.json`` that carries the AMI id to Terraform."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_ami.errors import UsageError
from gpu_ami.files import check_writable, read_text, write_atomic
from gpu_ami.ids import checked_ami_id

_WHAT = "Terraform variables file"


@dataclass(frozen=True)
class Change:
    """One variable's change in one file; nothing is written before `apply`.

    Attributes:
        file: The file that Terraform reads.
        variable: The root module's variable.
        old: Its value now; None when the file or the variable is not there yet.
        new: The AMI id it gets.
        before: The file's text now; empty when there is no file.
        after: The file's text then.
    """

    file: Path
    variable: str
    old: str | None
    new: str
    before: str
    after: str

    @property
    def changed(self) -> bool:
        """Whether the value would change at all; a file of the same value in another layout stays as it is."""
        return self.old != self.new

    def document(self, shown: str) -> dict[str, Any]:
        """Return the change as the ``update-tfvars`` task prints it; *shown* is the file's name."""
        return {"file": shown, "variable": self.variable, "old": self.old, "new": self.new, "changed": self.changed}

    def diff(self, shown: str) -> str:
        """Return the change as a unified diff, empty when there is none."""
        import difflib

        if not self.changed:
            return ""
        before, after = self.before.splitlines(keepends=True), self.after.splitlines(keepends=True)
        return "".join(difflib.unified_diff(before, after, f"a/{shown}", f"b/{shown}")).rstrip("\n")


def plan(file: Path, variable: str, ami_id: str) -> Change:
    """Return what setting *variable* to *ami_id* changes in *file*.

    Other variables in the file are kept; keys are sorted, so that diffs show values and nothing else.

    Raises:
        UsageError: The id is not an AMI id, or the file is not a plain JSON object of variables that may be
            replaced.
    """
    checked_ami_id(ami_id)
    if file.suffixes[-2:] != [".tfvars", ".json"]:
        msg = f"{file} is not a .tfvars.json file: Terraform would not read JSON from it. Name one."
        raise UsageError(msg)
    check_writable(file, what=_WHAT)
    before = read_text(file, what=_WHAT) if file.exists() else ""
    values = _parse(before, file) if before.strip() else {}
    old = values.get(variable)
    if old is not None and not isinstance(old, str):
        msg = f"{variable} is {json.dumps(old)[:60]} in {file}, not a string: mend the file or name another variable."
        raise UsageError(msg)
    after = json.dumps({**values, variable: ami_id}, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    return Change(file=file, variable=variable, old=old, new=ami_id, before=before, after=after)


def apply(change: Change) -> None:
    """Write *change*; a change that changes nothing touches nothing.

    Raises:
        UsageError: The file cannot be written, or was changed by somebody else since it was planned.
    """
    if not change.changed:
        return
    now = read_text(change.file, what=_WHAT) if change.file.exists() else ""
    if now != change.before:
        msg = f"{change.file} was changed by somebody else meanwhile: run `invoke update-tfvars` again."
        raise UsageError(msg)
    write_atomic(change.file, change.after, what=_WHAT)


def _parse(text: str, file: Path) -> dict[str, Any]:
    try:
        values = json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, file))
    except (ValueError, RecursionError) as exc:
        msg = f"The {_WHAT} {file} is not JSON ({exc}): mend or delete it; it is written by `invoke update-tfvars`."
        raise UsageError(msg) from exc
    if not isinstance(values, dict):
        msg = f"The {_WHAT} {file} holds no JSON object: it must map variable names to values."
        raise UsageError(msg)
    return values


def _unique(pairs: list[tuple[str, Any]], file: Path) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        msg = f"{twice[0]} stands twice in {file}: keep one of them."
        raise UsageError(msg)
    return dict(pairs)
