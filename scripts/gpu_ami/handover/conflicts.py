"""Detects another auto-loaded tfvars file that sets the same variable: one of the two would win unseen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gpu_ami.errors import UsageError
from gpu_ami.files import read_text
from gpu_ami.handover.change import WHAT, Change
from gpu_ami.handover.tfvars import JSON, load, path_in
from gpu_ami.hcl import find

if TYPE_CHECKING:
    from gpu_ami.hcl.tree import Value


def is_read_by_itself(file: Path) -> bool:
    """Return whether Terraform reads *file* without being told; a ``.tf`` file of the folder is code, not this."""
    return file.name in {"terraform.tfvars", "terraform.tfvars.json"} or file.name.endswith(
        (".auto.tfvars", f".auto{JSON}")
    )


def read_by_itself(folder: Path) -> list[Path]:
    """Return the files in *folder* that Terraform reads without being told, were it run there."""
    return [path for path in sorted(folder.iterdir()) if is_read_by_itself(path)] if folder.is_dir() else []


def is_taken(file: Path, folder: Path) -> bool:
    """Return whether Terraform, run in *folder*, takes *file* without being told; code may be a module's."""
    return file.name.endswith(".tf") or (is_read_by_itself(file) and file.parent.resolve() == folder.resolve())


def not_taken(shown: str) -> str:
    """Return what to do where Terraform does not take the file *shown*; every other advice leads away from it."""
    return (
        f"Terraform does not take {shown} by itself: let handover.file in pipeline.yaml name a "
        "*.auto.tfvars or *.auto.tfvars.json file in Terraform's own folder, or name this one in "
        "TF_CLI_ARGS_plan=-var-file=FILE."
    )


def check(change: Change) -> None:
    """Refuse a change of a variable that another file beside it gives another value.

    A file that is only read when it is named (``-var-file``) may differ: that is its purpose.

    Raises:
        UsageError: Both files are named; or the other one cannot be read.
    """
    document = load(change.file, change.after)
    path = path_in(document, change.file, change.variable)
    is_code = change.file.name.endswith(".tf")
    if is_code and (path[0] != "variable" or path[2:3] != ("default",)):
        return
    if not is_code and not is_read_by_itself(change.file):
        return
    name, top = (str(path[1]), path[:3]) if is_code else (str(path[0]), path[:1])
    ours = _plain(find(document, top))
    for other in read_by_itself(change.file.parent):
        if other == change.file:
            continue
        text = read_text(other, what=WHAT, keep_mark=True)
        theirs = (
            [attribute for attribute in load(other, text).body.attributes if attribute.name == name]
            if text.strip()
            else []
        )
        if any(_plain(attribute.value) != ours for attribute in theirs):
            msg = (
                f"{name} would be {_shown(ours)} in {change.file} but is {theirs[0].value.text[:60]} at line "
                f"{theirs[0].line} of {other}: keep it in one of them."
            )
            raise UsageError(msg)


def _plain(value: Value) -> object:
    if value.kind in {"map", "list"}:
        return value.kind, frozenset((entry.name, _plain(entry.value)) for entry in value.entries)
    return value.literal if value.kind not in {"heredoc", "expression"} else value.text


def _shown(plain: object) -> str:
    return f'"{plain}"' if isinstance(plain, str) else "another map"
