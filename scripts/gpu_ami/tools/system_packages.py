"""Installs what comes from the system's own packages: bubblewrap and the programs the guest borrows."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpu_ami.console import Console
from gpu_ami.errors import ToolError
from gpu_ami.process import Command, stream


@dataclass(frozen=True)
class Manager:
    """A package manager.

    Attributes:
        name: Its command.
        refresh: Arguments that bring its package lists up to date; empty where installing does.
        install: Arguments that install the packages named after them without asking.
        scp: Its package with ``scp``; the other packages are called the same everywhere.
    """

    name: str
    refresh: tuple[str, ...]
    install: tuple[str, ...]
    scp: str

    def packages(self, programs: Sequence[str]) -> tuple[str, ...]:
        """Return the packages that hold *programs*."""
        names = {"bwrap": "bubblewrap", "scp": self.scp}
        return tuple(names.get(program, program) for program in programs)


MANAGERS = (
    Manager("apt-get", ("update",), ("install", "-y", "--no-install-recommends"), "openssh-client"),
    Manager("dnf", (), ("install", "-y"), "openssh-clients"),
    Manager("apk", ("update",), ("add",), "openssh-client"),
)


def install(programs: Sequence[str], console: Console) -> None:
    """Install the packages that hold *programs*; without asking, but only as root.

    Raises:
        ToolError: This is not root, no known package manager is here, or it failed.
    """
    manager = next((manager for manager in MANAGERS if shutil.which(manager.name)), None)
    shown = ", ".join(programs)
    if manager is None:
        known = ", ".join(manager.name for manager in MANAGERS)
        msg = f"{shown} missing, and none of {known} is here: install {shown} and run `invoke setup` again."
        raise ToolError(msg)
    packages = manager.packages(programs)
    add = (manager.name, *manager.install, *packages)
    refresh = (manager.name, *manager.refresh) if manager.refresh else None
    if os.geteuid() != 0:
        line = " && ".join(f"sudo {shlex.join(step)}" for step in (refresh, add) if step)
        msg = f"{shown} missing, and installing needs root: run `{line}`, then `invoke setup` again."
        raise ToolError(msg)
    with console.step(f"Installing {', '.join(packages)} with {manager.name}") as note:
        problem = _run(add, note)
        if problem and refresh:
            # The lists on this machine are often good enough, and fetching new ones is the slower part.
            problem = _run(refresh, note) or _run(add, note)
        if problem:
            msg = f"{manager.name} could not install {', '.join(packages)}: {problem}"
            raise ToolError(msg)


def _run(argv: tuple[str, ...], note: Callable[[str], None]) -> str | None:
    """Run the package manager and return None, or its last line if it failed."""
    last = "no output"

    def heard(line: str) -> None:
        nonlocal last
        if line.strip():
            last = line.strip()
            note(last)

    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    status = stream(Command(argv, env=env), heard, on_interrupt=lambda: None)
    return None if status == 0 else last
