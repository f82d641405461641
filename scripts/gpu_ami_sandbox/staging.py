"""The sandbox's copies of packer/ and terraform/, free of anybody's variables and state."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gpu_ami.errors import UsageError
from gpu_ami.workspace import Workspace

# What could lead a copy back to a real account, or out of the sandbox: variables, models, state, backends, plugins.
_LEFT_OUT = shutil.ignore_patterns(
    "*.auto.pkrvars.hcl",
    "*.auto.pkrvars.json",
    "*.pkrvars.hcl",
    "terraform.tfvars",
    "terraform.tfvars.json",
    "*.auto.tfvars",
    "*.auto.tfvars.json",
    "*.tfstate",
    "*.tfstate.*",
    ".terraform*",
    "backend.tf",
    "receipts",
    "models.yaml",
    "manifest.json",
    "release.json",
    "*.pem",
)
# The records of several families and of past builds, in Packer's folder itself: elsewhere such a name is anybody's.
_RECORDS = shutil.ignore_patterns("manifest-*.json", "release-*.json", "contents.json", "bill.cdx.json", "builds")

# What is not staged but made there, for the sandbox: one of each family's.
_MADE = "sandbox.pkrvars.json"
# What a copy is called until it is whole, and how long that takes at most; seconds. An older one is a killed build's.
_NEW, _PUT_WITHIN_S = ".new", 60.0


def stage(workspace: Workspace) -> None:
    """Make ``.sandbox/packer`` and ``.sandbox/terraform`` what the repository's folders are now.

    Only what differs is touched: a build in another terminal reads there. Terraform's local state and the handed-over
    variable stay: they belong to the sandbox.

    Raises:
        UsageError: A folder is missing or the copy cannot be written.
    """
    with _making(workspace):
        _mirror(Workspace(root=workspace.root).packer, workspace.packer, lambda path: not path.name.endswith(_MADE))
    stage_terraform(workspace)


def stage_terraform(workspace: Workspace) -> None:
    """Make ``.sandbox/terraform`` what the repository's folder is now; see `stage`.

    Raises:
        UsageError: The folder is missing or the copy cannot be written.
    """
    with _making(workspace):
        _mirror(Workspace(root=workspace.root).terraform, workspace.terraform, _is_terraforms_source)


def _is_terraforms_source(path: Path) -> bool:
    return path.parts[0] in ("modules", "tests") or (
        len(path.parts) == 1 and path.name.endswith((".tf", ".tftest.hcl"))
    )


def _mirror(source: Path, target: Path, is_copied: Callable[[Path], bool]) -> None:
    """Copy what differs from *source* to *target*, and remove what is not in *source* and *is_copied* owns."""
    expected = set(_files(source))
    for path in expected:
        here, there = source / path, target / path
        if not (there.is_file() and there.stat().st_mode == here.stat().st_mode and filecmp.cmp(here, there, False)):
            there.parent.mkdir(parents=True, exist_ok=True)
            new = there.with_name(f".{there.name}.{os.getpid()}{_NEW}")
            shutil.copy2(here, new)
            new.replace(there)
    for path in [path.relative_to(target) for path in target.rglob("*") if not path.is_dir()]:
        if path not in expected and ".terraform" not in path.parts and is_copied(path) and not _is_new(target / path):
            (target / path).unlink(missing_ok=True)  # another terminal may be at it too


def _is_new(path: Path) -> bool:
    """Whether *path* is what another build is about to put in its place: those of several families begin together."""
    if not path.name.endswith(_NEW):
        return False
    try:
        return time.time() - path.stat().st_ctime < _PUT_WITHIN_S
    except FileNotFoundError:
        return True


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files that are copied, as paths below *folder*."""
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    for path, folders, names in os.walk(folder):
        out = _LEFT_OUT(path, [*folders, *names])
        if Path(path) == folder and folder.name == "packer":
            out |= _RECORDS(path, [*folders, *names])
        folders[:] = [name for name in folders if name not in out]
        yield from (Path(path, name).relative_to(folder) for name in names if name not in out)


@contextlib.contextmanager
def _making(workspace: Workspace) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        msg = f"The sandbox's copies under {workspace.state} cannot be made: {exc}."
        raise UsageError(msg) from exc
