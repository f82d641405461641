"""Reads the instance's users and groups, for the emulated programs that need names behind numbers."""

from __future__ import annotations

from typing import NamedTuple

from gpu_ami_sandbox.guest.programs.system import System


class User(NamedTuple):
    """One line of /etc/passwd."""

    name: str
    uid: int
    gid: int
    home: str


def users(system: System) -> dict[str, User]:
    """Return the instance's users by name."""
    found = {}
    for line in system.path("/etc/passwd").read_text(encoding="utf-8").splitlines():
        name, _, uid, gid, _, home, *_ = line.split(":")
        found[name] = User(name, int(uid), int(gid), home)
    return found


def groups(system: System) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Return the instance's groups by name: number and further members."""
    found = {}
    for line in system.path("/etc/group").read_text(encoding="utf-8").splitlines():
        name, _, gid, members = line.split(":")
        found[name] = (int(gid), tuple(filter(None, members.split(","))))
    return found
