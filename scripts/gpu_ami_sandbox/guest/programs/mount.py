"""Emulates `mount` and `umount`: memory file systems below /run and /tmp, which are memory already."""

from __future__ import annotations

import shutil
from pathlib import Path

from gpu_ami_sandbox.guest.programs.system import Refusal, System

REFUSALS = (
    Refusal("mount", "mount: bad usage", 1),
    Refusal("mount -t tmpfs tmpfs /no/such/folder", "mount: /no/such/folder: mount point does not exist.", 32),
    Refusal("mount -t nfs fs-1:/ /mnt", "mount: /mnt: unknown filesystem type 'nfs'.", 32),
    Refusal("mount /dev/xvdf /mnt", "mount: /mnt: special device /dev/xvdf does not exist.", 32),
    Refusal("mount -o bind /etc /mnt", "mount: /mnt: permission denied.", 32),
    Refusal("umount /mnt", "umount: /mnt: not mounted.", 32),
    Refusal("umount /no/such/folder", "umount: /no/such/folder: no mount point specified.", 32),
)

_TABLE = "/run/mounted"
_MEMORY = ("/run/", "/tmp/")  # noqa: S108 - the guest's own


def main(argv: list[str], system: System) -> int:
    """Mount or unmount."""
    table = system.path(_TABLE)
    mounted = table.read_text().splitlines() if table.exists() else []
    kind, arguments = _read(argv[1:])
    if argv[0] == "umount":
        return _umount(arguments, mounted, table, system)
    if not arguments:
        return system.fail(1, "mount: bad usage", "Try 'mount --help' for more information.")
    source, target = arguments[0], str(Path(arguments[-1]))
    problem = _problem(kind, source, target, system)
    if problem:
        return system.fail(32, f"mount: {target}: {problem}")
    table.write_text("".join(f"{line}\n" for line in [*mounted, target]))
    return 0


def _read(arguments: list[str]) -> tuple[str, list[str]]:
    kind, rest = "", []
    arguments = list(arguments)
    while arguments:
        argument = arguments.pop(0)
        if argument in ("-t", "--types") and arguments:
            kind = arguments.pop(0)
        elif argument in ("-o", "--options") and arguments:
            arguments.pop(0)
        elif not argument.startswith("-"):
            rest.append(argument)
    return kind, rest


def _problem(kind: str, source: str, target: str, system: System) -> str:
    if not system.path(target).is_dir():
        return "mount point does not exist."
    if kind == "tmpfs":
        return "" if target.startswith(_MEMORY) else "permission denied."
    if kind:
        return f"unknown filesystem type '{kind}'."
    if source.startswith("/dev/"):
        return f"special device {source} does not exist."
    return "permission denied."


def _umount(arguments: list[str], mounted: list[str], table: Path, system: System) -> int:
    for argument in arguments:
        target = str(Path(argument))
        if not system.path(target).exists():
            return system.fail(32, f"umount: {target}: no mount point specified.")
        if target not in mounted:
            return system.fail(32, f"umount: {target}: not mounted.")
        mounted.remove(target)
        for entry in system.path(target).iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    table.write_text("".join(f"{line}\n" for line in mounted))
    return 0
