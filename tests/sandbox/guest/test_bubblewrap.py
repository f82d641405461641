"""bubblewrap's command line, piece by piece."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_ami_sandbox.guest.bubblewrap import Bind, Cell, wall_in

_CELL = Cell(Path("/h/root"), Path("/h/run"), Path("/h/tmp"), (Bind(Path("/usr/lib64"), "/usr/lib64"),), "ip-10-0-0-4")


def _words(*, as_root: bool = False) -> list[str]:
    return wall_in(Path("/usr/bin/bwrap"), _CELL, ["ls", "-l"], {"A": "b"}, cwd="/home", as_root=as_root)


@pytest.mark.parametrize("as_root", [True, False])
def test_every_wall_stands(as_root: bool) -> None:
    """Each word closes a way that was measured to be open without it."""
    words = _words(as_root=as_root)

    for wall in ("--unshare-all", "--new-session", "--clearenv", "--die-with-parent", "--cap-drop"):
        assert wall in words
    assert words[words.index("--cap-drop") + 1] == "ALL"
    assert words[words.index("/proc") + 1 : words.index("/proc") + 3] == ["--remount-ro", "/proc"]
    assert "--share-net" not in words
    assert words[-3:] == ["--", "ls", "-l"]


def test_only_the_instances_own_folders_are_writable() -> None:
    """Everything else that is bound is bound read-only."""
    words = _words()

    writable = [(words[i + 1], words[i + 2]) for i, word in enumerate(words) if word == "--bind"]
    assert writable == [("/h/root", "/"), ("/h/run", "/run"), ("/h/tmp", "/tmp")]
    assert words[words.index("--ro-bind") + 1 :][:2] == ["/usr/lib64", "/usr/lib64"]


def test_an_unprivileged_caller_becomes_the_guests_root() -> None:
    """Root on the host is root already; others have to ask for user number 0."""
    assert "--uid" in _words(as_root=False)
    assert "--uid" not in _words(as_root=True)
