"""The external programs that the pipeline runs: their names, versions and paths."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.version import InvalidVersion, Version

Source = Literal["PATH", "cache", "plugins", "mirror"]


def parse_version(text: str) -> Version | None:
    """Return the version that *text* is, such as ``v1.16.0``, ``0.8`` or ``1.15.0-beta1``; None for anything else."""
    try:
        version = Version(text)
    except InvalidVersion:
        return None
    # A number alone, such as a year, is no version of these programs.
    return version if len(version.release) in (2, 3) else None


@dataclass(frozen=True)
class Tool:
    """One program that is ready to be used.

    Attributes:
        name: Its usual name, such as ``packer``.
        version: Its version, or an empty text where only its presence matters.
        path: The file.
        source: Where it was found: on PATH, in the pipeline's own cache, among the user's Packer plugins or in
            a Terraform mirror.
    """

    name: str
    version: str
    path: Path
    source: Source

    def document(self) -> dict[str, str | None]:
        """Return it as JSON has it."""
        return {
            "name": self.name,
            "version": self.version or None,
            "path": str(self.path),
            "source": self.source,
        }


@dataclass(frozen=True)
class PackerTools:
    """Packer with its amazon plugin.

    Attributes:
        packer: Packer itself.
        plugin: The amazon plugin's binary.
        plugin_path: The folder to set ``PACKER_PLUGIN_PATH`` to.
    """

    packer: Tool
    plugin: Tool
    plugin_path: Path


@dataclass(frozen=True)
class TerraformTools:
    """Terraform, and where its aws provider comes from.

    Attributes:
        terraform: Terraform itself.
        provider_mirror: The folder to give to ``terraform init -plugin-dir``; None means the public registry.
    """

    terraform: Tool
    provider_mirror: Path | None


@dataclass(frozen=True)
class GuestTools:
    """What the sandbox's guest is made of: its walls and the programs it borrows from the host."""

    bwrap: Tool
    scp: Tool
    jq: Tool
    curl: Tool


def host_platform() -> str:
    """Return this machine as HashiCorp's file names spell it, such as ``linux_amd64``."""
    system = {"win32": "windows", "darwin": "darwin"}.get(sys.platform, "linux")
    machine = platform.machine().lower()
    return f"{system}_{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(machine, machine) }"


def executable(name: str) -> str:
    """Return the file name of the program *name* on this machine."""
    return f"{name}.exe" if sys.platform == "win32" else name
