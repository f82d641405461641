"""Archives of builds: whole or not at all, only our files, and none that is anybody's."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.records import archive
from gpu_ami.records.archive import BILL, BUILD, LIMITS, PROVENANCE, RELEASE

AMI = "ami-0123456789abcdef0"


def _texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_what_was_kept_is_read_back(tmp_path: Path) -> None:
    """Byte for byte: provenance holds the record's SHA-256. What comes later lies beside it, or in its place."""
    root = tmp_path / "builds"

    folder = archive.keep(root, AMI, {RELEASE: '{"a":\r\n"é"}', BILL: b"{}"})
    archive.keep(root, AMI, {PROVENANCE: "signed", BILL: "newer"})

    assert folder == root / AMI
    expected = {RELEASE: '{"a":\r\n"é"}', BILL: "newer", PROVENANCE: "signed"}
    assert archive.read(root, AMI) == expected
    assert (folder / RELEASE).read_bytes() == expected[RELEASE].encode()
    assert archive.read(root, AMI, [BUILD, BILL]) == {BILL: "newer"}
    assert archive.read(root, "ami-0123456789abcdef1") == {}
    assert [path.name for path in root.iterdir()] == [AMI]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half archive would look like one of an AMI without provenance."""
    archive.keep(tmp_path, AMI, {RELEASE: "old", PROVENANCE: "old"})
    synced: list[int] = []

    def full(handle: int) -> None:
        synced.append(handle)
        if len(synced) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for ami in (AMI, "ami-0123456789abcdef1"):
        synced.clear()
        with pytest.raises(
            UsageError, match=rf"The archive {re.escape(str(tmp_path / ami))} was not written: No space"
        ):
            archive.keep(tmp_path, ami, {RELEASE: "new", BILL: "new"})

    assert [path.name for path in tmp_path.iterdir()] == [AMI]
    assert _texts(tmp_path / AMI) == {RELEASE: "old", PROVENANCE: "old"}


def test_an_archive_that_cannot_be_put_in_place_gives_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two renames there is none for a moment; not for good."""
    archive.keep(tmp_path, AMI, {RELEASE: "old"})
    rename = Path.rename

    def broken(self: Path, target: Path) -> Path:
        if self.name != AMI and target.name == AMI:
            raise PermissionError(1, "Operation not permitted")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(UsageError, match="Operation not permitted; what was there"):
        archive.keep(tmp_path, AMI, {RELEASE: "new"})

    assert [path.name for path in tmp_path.iterdir()] == [AMI]
    assert _texts(tmp_path / AMI) == {RELEASE: "old"}


@pytest.mark.parametrize(
    ("ami", "files", "reason"),
    [
        ("../../etc", {RELEASE: ""}, "not an AMI id"),
        (AMI, {"../release.json": ""}, "is no file of an archive"),
        (AMI, {PROVENANCE: b" " * (LIMITS[PROVENANCE] + 1)}, "larger than 4 MiB"),
    ],
)
def test_what_is_no_archive_is_not_written(tmp_path: Path, ami: str, files: dict[str, str], reason: str) -> None:
    """An id from a manifest, or a name, leads nowhere else."""
    with pytest.raises(UsageError, match=reason):
        archive.keep(tmp_path / "builds", ami, files)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b" " * 101_000_000, "larger than 4 MiB"), (b"\xff\xfe", r"is not UTF-8 \(byte 0 is 0xff\)")],
    ids=["100 MB", "no text"],
)
def test_a_file_that_is_none_of_ours_is_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    """It is refused before it is read whole."""
    (tmp_path / AMI).mkdir()
    (tmp_path / AMI / PROVENANCE).write_bytes(content)

    with pytest.raises(UsageError, match=reason) as caught:
        archive.read(tmp_path, AMI)

    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="not an AMI id"):
        archive.read(tmp_path, "..")
