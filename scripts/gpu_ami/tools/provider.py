"""Finds a local mirror of Terraform's aws provider: then `terraform init` needs no network."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.version import Version

from gpu_ami.errors import ToolError
from gpu_ami.tools.pins import PROVIDER_MINIMUM
from gpu_ami.tools.tool import host_platform, parse_version

_REGISTRY = "registry.terraform.io"
_PROVIDER = Path(_REGISTRY, "hashicorp", "aws")
# Where images for machines without internet keep such things.
SHARED = Path("/opt")
_COMMENT = re.compile(r"/\*.*?\*/|(?m:^\s*(?:#|//)[^\n]*$)", re.DOTALL)
_MIRROR = re.compile(r'\bfilesystem_mirror\s*\{[^}]*?\bpath\s*=\s*"([^"]+)"')


def find_mirror() -> Path | None:
    """Return the folder for ``terraform init -plugin-dir``, or None where the provider comes from the registry.

    Searched in order: ``GPU_AMI_PROVIDER_MIRROR``, the user's Terraform settings, the folders Terraform
    itself searches, and two levels of ``/opt``.

    Raises:
        ToolError: ``GPU_AMI_PROVIDER_MIRROR`` is set and holds no provider that will do.
    """
    if named := os.environ.get("GPU_AMI_PROVIDER_MIRROR"):
        folder = Path(named).expanduser().absolute()
        if newest_provider(folder) is None:
            msg = (
                f"GPU_AMI_PROVIDER_MIRROR={named} holds no aws provider {PROVIDER_MINIMUM} or newer for "
                f"{host_platform()}: expected {_PROVIDER.as_posix()}/VERSION/{host_platform()}/ in it."
            )
            raise ToolError(msg)
        return folder
    return next((folder for folder in _candidates() if newest_provider(folder) is not None), None)


def newest_provider(mirror: Path) -> Version | None:
    """Return the newest usable aws provider in *mirror*, unpacked or packed, for this platform."""
    suffix = f"_{host_platform()}.zip"
    home = mirror / _PROVIDER
    names = [folder.parent.name for folder in home.glob(f"*/{host_platform()}") if folder.is_dir()]
    names += [
        file.name.removesuffix(suffix).removeprefix("terraform-provider-aws_")
        for file in home.glob(f"terraform-provider-aws_*{suffix}")
    ]
    versions = [version for version in map(parse_version, names) if version is not None]
    return max((version for version in versions if version >= PROVIDER_MINIMUM), default=None)


def _candidates() -> Iterator[Path]:
    yield from _configured()
    yield from _implied()
    for depth in ("", "*/", "*/*/"):
        yield from (found.parent for found in sorted(SHARED.glob(f"{depth}{_REGISTRY}")))


def _configured() -> Iterator[Path]:
    """Yield the mirrors of the user's Terraform settings file."""
    default = Path(os.environ.get("APPDATA", ""), "terraform.rc") if sys.platform == "win32" else Path("~/.terraformrc")
    file = Path(os.environ.get("TF_CLI_CONFIG_FILE") or default).expanduser()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return  # Terraform itself will say what is wrong with it
    for path in _MIRROR.findall(_COMMENT.sub("", text)):
        yield Path(path).expanduser().absolute()


def _implied() -> Iterator[Path]:
    """Yield the folders Terraform searches without being told ("implied local mirrors")."""
    home = Path.home()
    if sys.platform == "win32":
        yield Path(os.environ.get("APPDATA") or home, "terraform.d", "plugins")
        return
    yield home / ".terraform.d" / "plugins"
    if sys.platform == "darwin":
        support = Path("Library", "Application Support", "io.terraform", "plugins")
        yield from (home / support, Path("/") / support)
        return
    yield Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "terraform" / "plugins"
    for folder in (os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":"):
        yield Path(folder) / "terraform" / "plugins"
