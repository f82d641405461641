"""A hand-over's change of one file: its values, its diff, and the locked, atomic write."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_ami.errors import SafetyError, UsageError
from gpu_ami.files import check_writable, read_text, write_atomic
from gpu_ami.locks import held
from gpu_ami.workspace import Workspace

WHAT = "Terraform variables file"


@dataclass(frozen=True)
class Edit:
    """One value's change.

    Attributes:
        old: The value now; None when it is null or not there yet.
        new: The AMI id it gets.
        region: The entry of a region map; None for a plain variable.
    """

    old: str | None
    new: str
    region: str | None = None


@dataclass(frozen=True)
class Change:
    """What a hand-over changes in one file; nothing is written before `apply`.

    Attributes:
        file: The file that Terraform reads.
        variable: The variable, or the path to the value, as the caller named it.
        edits: Its values; several only in a region map.
        before: The file's text now, a byte-order mark included; empty when there is no file.
        after: The file's text then.
        notes: What a person should know, such as entries that stay as they are.
    """

    file: Path
    variable: str
    edits: tuple[Edit, ...]
    before: str
    after: str
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether a byte would change at all; a file of the same values in another layout stays as it is."""
        return self.before != self.after

    @property
    def old(self) -> str | dict[str, str | None] | None:
        """The value now; of a region map, its entries that are handed over."""
        return {edit.region: edit.old for edit in self.edits if edit.region} or self.edits[0].old

    @property
    def new(self) -> str | dict[str, str]:
        """The value then; of a region map, its entries that are handed over."""
        return {edit.region: edit.new for edit in self.edits if edit.region} or self.edits[0].new

    def document(self, shown: str) -> dict[str, Any]:
        """Return the change as the ``update-tfvars`` task prints it; *shown* is the file's name."""
        return {"file": shown, "variable": self.variable, "old": self.old, "new": self.new, "changed": self.changed}

    def diff(self, shown: str) -> str:
        """Return the change as a unified diff, empty when there is none."""
        import difflib

        if not self.changed:
            return ""
        before, after = (_lines(text) for text in (self.before, self.after))
        name = shown.lstrip("/")
        return "\n".join(line.rstrip("\n") for line in difflib.unified_diff(before, after, f"a/{name}", f"b/{name}"))


def _lines(text: str) -> list[str]:
    lines = [line.rstrip("\r") for line in text.lstrip("\ufeff").split("\n")]
    return lines if lines[-1] else lines[:-1]


def apply(change: Change) -> None:
    """Write *change*; a change that changes nothing touches nothing.

    Raises:
        UsageError: The file cannot be written, or was changed by somebody else since it was planned.
        SafetyError: Another run is writing it.
    """
    if change.changed:
        _replace(change.file, change.before, change.after, advice="run `invoke update-tfvars` again")


def undo(change: Change) -> None:
    """Take back what `apply` has written; a file that was not there before is removed.

    Raises:
        UsageError: The file cannot be written, or was changed by somebody else meanwhile.
        SafetyError: Another run is writing it.
    """
    if change.changed:
        _replace(change.file, change.after, change.before, advice="it stays as it is now")


def _replace(file: Path, before: str, after: str, *, advice: str) -> None:
    lock = file.with_name(f".{file.name}.lock")
    with held(lock, busy=f"Another run is writing {file} (it holds {lock.name}): wait for it to end."):
        if read(file) != before:
            msg = f"{file} was changed by somebody else meanwhile: {advice}."
            raise UsageError(msg)
        if after:
            write_atomic(file, after, what=WHAT)
        else:
            file.unlink(missing_ok=True)


def read(file: Path) -> str:
    """Return the text of *file* as it is, a byte-order mark and its line ends included; empty when there is none.

    Raises:
        UsageError: It cannot be read, or may not be replaced.
    """
    check_writable(file, what=WHAT)
    return read_text(file, what=WHAT, keep_mark=True) if file.exists() else ""


def settings_file(workspace: Workspace, setting: str) -> Path:
    """Return the file that *setting*, ``handover.file``, names; in the sandbox it is the sandbox's own.

    Raises:
        UsageError: It leads out of the repository.
        SafetyError: It leads out of the sandbox, which would write, or remove, the AMI in a file of the user's.
    """
    file = workspace.state / setting
    plain = _absolute(file)
    if plain.is_relative_to(_absolute(workspace.state)):
        return file
    if workspace.sandbox:
        shown = workspace.shown(workspace.state)
        msg = (
            f"handover.file {setting} leads out of {shown}/, and the sandbox writes nowhere else: "
            "name a file in the repository, from its root."
        )
        raise SafetyError(msg)
    if not Path(setting).is_absolute():
        msg = f"handover.file {setting} leads out of the repository: name {plain} itself if you mean it."
        raise UsageError(msg)
    return file


def resolve(file: Path, root: Path, *, sandbox: Path | None = None) -> Path:
    """Return the file that *file* leads to, symbolic links inside the repository *root* followed.

    Args:
        file: As it is named.
        root: The repository.
        sandbox: The sandbox's folder, which a link may have moved out of the repository.

    Raises:
        UsageError: A link leads out of the repository, or round in a circle.
    """
    home = Path(os.path.realpath(root))
    named = _absolute(file)
    inside = next((top for top in (home, _absolute(root)) if named.is_relative_to(top)), None)
    if inside is None:
        return file
    try:
        real = named.resolve(strict=named.exists())
    except (OSError, RuntimeError) as exc:
        msg = f"{file} cannot be followed: its symbolic links lead round in a circle."
        raise UsageError(msg) from exc
    if real.is_symlink():
        msg = f"{file} cannot be followed: its symbolic links lead round in a circle."
        raise UsageError(msg)
    if not real.is_relative_to(home) and not (sandbox and real.is_relative_to(sandbox)):
        msg = f"{file} leads out of the repository through a symbolic link: name {real} itself if you mean it."
        raise UsageError(msg)
    return file if real == home / named.relative_to(inside) else real


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - links must stay
