"""bubblewrap's command line, piece by piece."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gpu_ami_sandbox.guest.bubblewrap import Bind, Isolation, bwrap_arguments

_ISOLATION = Isolation(
    Path("/h/root"), Path("/h/run"), Path("/h/tmp"), (Bind(Path("/usr/lib64"), "/usr/lib64"),), "ip-10-0-0-4"
)


def _arguments(*, as_root: bool = False) -> list[str]:
    return bwrap_arguments(Path("/usr/bin/bwrap"), _ISOLATION, ["ls", "-l"], {"A": "b"}, cwd="/home", as_root=as_root)


@pytest.mark.parametrize("as_root", [True, False])
def test_every_wall_stands(as_root: bool) -> None:
    """Each argument closes a way that was measured to be open without it."""
    arguments = _arguments(as_root=as_root)

    for flag in ("--unshare-all", "--new-session", "--clearenv", "--die-with-parent", "--cap-drop"):
        assert flag in arguments
    assert arguments[arguments.index("--cap-drop") + 1] == "ALL"
    assert arguments[arguments.index("/proc") + 1 : arguments.index("/proc") + 3] == ["--remount-ro", "/proc"]
    assert "--share-net" not in arguments
    assert arguments[-3:] == ["--", "ls", "-l"]


def test_only_the_instances_own_folders_are_writable() -> None:
    """Everything else that is bound is bound read-only."""
    arguments = _arguments()

    writable = [(arguments[i + 1], arguments[i + 2]) for i, argument in enumerate(arguments) if argument == "--bind"]
    assert writable == [("/h/root", "/"), ("/h/run", "/run"), ("/h/tmp", "/tmp")]
    assert arguments[arguments.index("--ro-bind") + 1 :][:2] == ["/usr/lib64", "/usr/lib64"]
    assert "/sys" not in arguments


def test_devices_are_the_instances_own() -> None:
    """The host's /sys would show its GPUs; the guest sees those that were made for it, over whatever its root has."""
    isolation = dataclasses.replace(_ISOLATION, sys=Path("/h/sys"))

    arguments = bwrap_arguments(Path("/usr/bin/bwrap"), isolation, ["ls"], {}, cwd="/", as_root=False)

    at = arguments.index("/sys")
    assert arguments[at - 2 : at + 1] == ["--bind", "/h/sys", "/sys"]
    assert at > arguments.index("/h/root")


def test_an_unprivileged_caller_becomes_the_guests_root() -> None:
    """Root on the host is root already; others have to ask for user number 0."""
    assert "--uid" in _arguments(as_root=False)
    assert "--uid" not in _arguments(as_root=True)
