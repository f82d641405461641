"""Detects what Terraform would refuse to read in a variables file, before a build or a plan finds out.

`terraform validate` reads no variables file, so it says nothing of them; `terraform plan` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from gpu_ami.errors import UsageError
from gpu_ami.files import read_text
from gpu_ami.handover.change import WHAT
from gpu_ami.handover.conflicts import read_by_itself
from gpu_ami.handover.tfvars import JSON, MARK, load
from gpu_ami.hcl import Document, Value, show_path
from gpu_ami.hcl.paths import Path as ValuePath

# Terraform leaves members of this name at the top of a JSON file alone, however many: they are comments.
_COMMENT = "//"
# Beside the pipeline's own file there may be larger ones; Terraform has no limit.
_LIMIT_BYTES = 16 * 1024 * 1024


def check(file: Path, folder: Path) -> None:
    """Refuse what Terraform would not read: in *file*, and in those of its *folder* that it reads by itself.

    Raises:
        UsageError: It would not; the line names the file, the line in it and what to do.
    """
    for path in dict.fromkeys((file, *read_by_itself(folder))):
        if path.is_file():
            text = read_text(path, what=WHAT, limit_bytes=_LIMIT_BYTES, keep_mark=True)
            if path.name.endswith(JSON) and text.startswith(MARK):
                ours = "run `invoke update-tfvars`, which leaves it out" if path == file else "save it without"
                msg = f"{path} begins with a byte-order mark, which Terraform takes for no JSON: {ours}."
                raise UsageError(msg)
            check_text(path, text)


def check_text(file: Path, text: str) -> None:
    """Refuse what Terraform would not read in *text*, the content of *file*; a byte-order mark is left to `check`.

    Raises:
        UsageError: It would not.
    """
    if file.name.endswith(JSON):
        _check_once(file, _members(load(file, text)))
    elif not file.name.endswith(".tf"):
        try:
            document = load(file, text)
        except UsageError:
            return  # `terraform fmt` says it in Terraform's own words, and knows corners that our reader does not
        if document.body.blocks:
            block = document.body.blocks[0]
            msg = (
                f"{file} has a block, {block.type}, at line {block.line}: Terraform takes only `name = value` in a "
                "variables file. Write it so, or move the block to a .tf file."
            )
            raise UsageError(msg)
        _check_once(file, [((attribute.name,), attribute.line) for attribute in document.body.attributes])


def _check_once(file: Path, members: Iterable[tuple[ValuePath, int]]) -> None:
    seen: dict[ValuePath, int] = {}
    for path, line in members:
        if path in seen:
            where = f"at lines {seen[path]} and {line}"
            msg = f"{show_path(path)} occurs twice in {file}, {where}, which Terraform refuses: keep one."
            raise UsageError(msg)
        seen[path] = line


def _members(document: Document) -> Sequence[tuple[ValuePath, int]]:
    found: list[tuple[ValuePath, int]] = []
    for attribute in document.body.attributes:
        if attribute.name != _COMMENT:
            found.append(((attribute.name,), attribute.line))
            found += _inside((attribute.name,), attribute.value)
    return found


def _inside(path: ValuePath, value: Value) -> Sequence[tuple[ValuePath, int]]:
    found: list[tuple[ValuePath, int]] = []
    for entry in value.entries:
        step = (*path, entry.name if entry.name is not None else "")
        if value.kind == "map":
            found.append((step, entry.value.line))
        found += _inside(step, entry.value)
    return found
