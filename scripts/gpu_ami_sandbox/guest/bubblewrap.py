"""The walls around every command of the guest: bubblewrap's command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bind:
    """A file or folder of the host that the guest sees read-only.

    Attributes:
        source: On the host.
        target: In the guest; the file or folder must exist there already, as something to mount over.
    """

    source: Path
    target: str


@dataclass(frozen=True)
class Cell:
    """What one instance's commands can reach.

    Attributes:
        root: Its ``/``.
        run: Its ``/run``: memory on a real instance, so it lies outside of *root*.
        tmp: Its ``/tmp``, for the same reason.
        binds: Read-only parts of the host.
        hostname: What ``hostname`` says.
    """

    root: Path
    run: Path
    tmp: Path
    binds: tuple[Bind, ...]
    hostname: str


def wall_in(
    bwrap: Path, cell: Cell, command: Sequence[str], env: Mapping[str, str], *, cwd: str, as_root: bool
) -> list[str]:
    """Return the words that run *command* in *cell* with *env* as its whole environment.

    Args:
        bwrap: bubblewrap.
        cell: What it can reach.
        command: The words to run.
        env: Names and values; nothing of this process's environment is added.
        cwd: Folder to start in, as the guest sees it.
        as_root: Whether this process is root.
    """
    words = [str(bwrap), "--unshare-all", "--new-session", "--clearenv", "--die-with-parent"]
    # bubblewrap started by root leaves all capabilities in place: with CAP_SYS_ADMIN the guest could remount the
    # read-only parts. Started by others it needs to be told that the guest is its own root.
    words += ["--cap-drop", "ALL", *(() if as_root else ("--uid", "0", "--gid", "0"))]
    words += ["--hostname", cell.hostname]
    words += ["--bind", str(cell.root), "/"]
    for bind in cell.binds:
        words += ["--ro-bind", str(bind.source), bind.target]
    words += ["--bind", str(cell.run), "/run", "--bind", str(cell.tmp), "/tmp"]  # noqa: S108 - the guest's own
    # Read-only: /proc/sys asks for no capability, only for user number 0, which a guest of root's is. A writable
    # core_pattern there would be a way out.
    words += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev", "--chdir", cwd]
    for name, value in env.items():
        words += ["--setenv", name, value]
    return [*words, "--", *command]
