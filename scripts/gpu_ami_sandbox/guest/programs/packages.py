"""The instance's package database: one JSON file, which the emulated `rpm` and `dnf` share."""

from __future__ import annotations

import json
from typing import NamedTuple

from gpu_ami_sandbox.guest.programs.system import System

_DATABASE = "/var/lib/rpm/packages.json"


class Package(NamedTuple):
    """One installed package; the licence as its packager wrote it, in Fedora's names of before SPDX's."""

    name: str
    version: str
    release: str
    arch: str
    license: str
    epoch: str = "0"

    def __str__(self) -> str:
        """Return NAME-VERSION-RELEASE.ARCH."""
        return f"{self.name}-{self.version}-{self.release}.{self.arch}"


def installed(system: System) -> dict[str, Package]:
    """Return the installed packages by name."""
    rows = json.loads(system.path(_DATABASE).read_text(encoding="utf-8"))
    return {row["name"]: Package(**row) for row in rows}


def save(packages: dict[str, Package], system: System) -> None:
    """Replace the installed packages."""
    rows = ",\n".join("  " + json.dumps(packages[name]._asdict()) for name in sorted(packages))
    system.path(_DATABASE).write_text(f"[\n{rows}\n]\n", encoding="utf-8")
