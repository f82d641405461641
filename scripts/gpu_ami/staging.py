"""The sandbox's copies of packer/ and terraform/, free of anybody's variables and state."""

from __future__ import annotations

import shutil
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
    ".terraform",
    ".terraform.lock.hcl",
    "backend.tf",
    "receipts",
    "models.yaml",
    "manifest.json",
    "release.json",
    "*.pem",
)


def stage(workspace: Workspace) -> None:
    """Make ``.sandbox/packer`` and ``.sandbox/terraform`` what the repository's folders are now.

    Terraform's local state and the handed-over variable stay: they belong to the sandbox.

    Raises:
        UsageError: A folder is missing or the copy cannot be written.
    """
    try:
        shutil.rmtree(workspace.packer, ignore_errors=True)
        shutil.copytree(Workspace(root=workspace.root).packer, workspace.packer, ignore=_LEFT_OUT)
    except OSError as exc:
        raise _not_made(workspace, exc) from exc
    stage_terraform(workspace)


def stage_terraform(workspace: Workspace) -> None:
    """Make ``.sandbox/terraform`` what the repository's folder is now; see `stage`.

    Raises:
        UsageError: The folder is missing or the copy cannot be written.
    """
    try:
        if workspace.terraform.is_dir():
            _drop_sources(workspace.terraform)
        source = Workspace(root=workspace.root).terraform
        shutil.copytree(source, workspace.terraform, ignore=_LEFT_OUT, dirs_exist_ok=True)
    except OSError as exc:
        raise _not_made(workspace, exc) from exc


def _not_made(workspace: Workspace, cause: OSError) -> UsageError:
    return UsageError(f"The sandbox's copies under {workspace.state} cannot be made: {cause}.")


def _drop_sources(folder: Path) -> None:
    for path in [*folder.glob("*.tf"), *folder.glob("*.tftest.hcl")]:
        path.unlink()
    for name in ("modules", "tests"):
        shutil.rmtree(folder / name, ignore_errors=True)
