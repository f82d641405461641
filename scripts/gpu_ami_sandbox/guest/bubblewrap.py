"""Isolates every command of the guest: builds bubblewrap's command line."""

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
class Isolation:
    """What one instance's commands can reach.

    Attributes:
        root: Its ``/``.
        run: Its ``/run``: memory on a real instance, so it lies outside of *root*.
        tmp: Its ``/tmp``, for the same reason.
        binds: Read-only parts of the host.
        hostname: What ``hostname`` says.
        sys: Its ``/sys``, where it has devices; None for an empty one.
    """

    root: Path
    run: Path
    tmp: Path
    binds: tuple[Bind, ...]
    hostname: str
    sys: Path | None = None


def bwrap_arguments(
    bwrap: Path, isolation: Isolation, command: Sequence[str], env: Mapping[str, str], *, cwd: str, as_root: bool
) -> list[str]:
    """Return the arguments that run *command* in *isolation* with *env* as its whole environment.

    Args:
        bwrap: bubblewrap.
        isolation: What it can reach.
        command: The program to run and its arguments.
        env: Names and values; nothing of this process's environment is added.
        cwd: Folder to start in, as the guest sees it.
        as_root: Whether this process is root.
    """
    arguments = [str(bwrap), "--unshare-all", "--new-session", "--clearenv", "--die-with-parent"]
    # bubblewrap started by root leaves all capabilities as they are: with CAP_SYS_ADMIN the guest could remount the
    # read-only parts. Started by others it needs to be told that the guest is its own root.
    arguments += ["--cap-drop", "ALL", *(() if as_root else ("--uid", "0", "--gid", "0"))]
    arguments += ["--hostname", isolation.hostname]
    arguments += ["--bind", str(isolation.root), "/"]
    for bind in isolation.binds:
        arguments += ["--ro-bind", str(bind.source), bind.target]
    arguments += ["--bind", str(isolation.run), "/run", "--bind", str(isolation.tmp), "/tmp"]  # noqa: S108 - the guest's own
    arguments += ["--bind", str(isolation.sys), "/sys"] if isolation.sys else []
    # Read-only: /proc/sys asks for no capability, only for user number 0, which a guest of root's is. A writable
    # core_pattern there would be a way out.
    arguments += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev", "--chdir", cwd]
    for name, value in env.items():
        arguments += ["--setenv", name, value]
    return [*arguments, "--", *command]
