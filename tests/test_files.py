"""Replacing files: old or new, never half."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.files import read_text, write_atomic


def test_write_replaces_the_whole_file_and_keeps_its_mode(tmp_path: Path) -> None:
    """A file somebody made private must not become readable by being rewritten."""
    file = tmp_path / "a.json"
    file.write_text("old")
    file.chmod(0o600)

    write_atomic(file, "new", what="file")

    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_write_makes_the_folder(tmp_path: Path) -> None:
    """A fresh checkout has no .sandbox/ yet."""
    write_atomic(tmp_path / "a" / "b.json", b"x", what="file", mode=0o600)

    assert stat.S_IMODE((tmp_path / "a" / "b.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["symlink", "directory", "read-only", "fifo"])
def test_write_refuses_what_is_not_a_plain_writable_file(tmp_path: Path, kind: str) -> None:
    """Root ignores permission bits, so they are read; a link would replace a file somewhere else."""
    target, file = tmp_path / "target", tmp_path / "file"
    target.write_text("precious")
    if kind == "symlink":
        file.symlink_to(target)
    elif kind == "directory":
        file.mkdir()
    elif kind == "fifo":
        os.mkfifo(file)
    else:
        file.write_text("precious")
        file.chmod(0o444)

    with pytest.raises(UsageError, match=str(file)):
        write_atomic(file, "new", what="file")

    assert target.read_text() == "precious"
    assert sorted(tmp_path.iterdir()) == [file, target]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing half-written: the temporary file is gone and the old content is there."""
    file = tmp_path / "a.json"
    file.write_text("old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(UsageError, match="No space left on device"):
        write_atomic(file, "new", what="file")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_parent_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """The system's reason is passed on in one line."""
    (tmp_path / "a").write_text("")

    with pytest.raises(UsageError, match="Not a directory"):
        write_atomic(tmp_path / "a" / "b", "x", what="file")


def test_read_names_the_missing_file_and_the_next_step(tmp_path: Path) -> None:
    """The hint is the caller's: only it knows what makes the file."""
    with pytest.raises(UsageError, match=r"does not exist\. Run `invoke build` first."):
        read_text(tmp_path / "none", what="manifest", hint="Run `invoke build` first.")
