"""Archives of past builds: what a build has written of its AMI, in a folder that is named by it.

``packer/builds/AMI/`` holds the files of `LIMITS`. Clean-up leaves that one folder out by its name: a record of an AMI
that is gone needs nothing. The same files go to S3, see `handover.build_store`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from gpu_ami.errors import UsageError
from gpu_ami.files import read_text
from gpu_ami.records.tags import checked_ami_id

FOLDER = "builds"
# As the builder wrote it, byte for byte: provenance holds its SHA-256. What is added to the one beside the manifest,
# the size of the snapshot, is in `BUILD` here.
RELEASE = "release.json"
# CycloneDX.
BILL = "bill.cdx.json"
# A DSSE envelope, or a plain statement where nobody signs; beside a keyless one, what shows when it was signed.
PROVENANCE = "provenance.json"
SIGSTORE = "provenance.sigstore.json"
# What only the pipeline knows of the AMI: see `records.build_facts`.
BUILD = "build.json"
_MIB = 1024 * 1024
# How large each may be, bytes; a larger one is none of ours.
LIMITS: Mapping[str, int] = MappingProxyType(
    {RELEASE: 16 * _MIB, BILL: 16 * _MIB, PROVENANCE: 4 * _MIB, SIGSTORE: 4 * _MIB, BUILD: _MIB},
)


def check_root(root: Path) -> None:
    """Make sure that archives can be kept below *root*, which is made if it is not there.

    Raises:
        UsageError: They cannot.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix="."):
            pass
    except OSError as exc:
        msg = f"No archive of a build can be kept in {root} ({exc.strerror}): make it a folder that you may write to."
        raise UsageError(msg) from exc


def keep(root: Path, ami: str, files: Mapping[str, str | bytes]) -> Path:
    """Write *files* (name to content) of *ami* below *root*, whole or not at all; return their folder.

    What the archive holds already stays beside them; a file of the same name is replaced.

    Raises:
        UsageError: *ami* is no AMI id, a name is none of an archive's, a content is too large, or the disk refused.
    """
    folder = root / checked_ami_id(ami)
    contents = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
    for name, content in contents.items():
        check_content(name, len(content), where=str(folder / name))
    try:
        root.mkdir(parents=True, exist_ok=True)
        # In a hidden folder beside it until it is whole: to rename one is a single act.
        new = Path(tempfile.mkdtemp(dir=root, prefix=f".{ami}."))
        try:
            _fill(new, folder, contents)
            _put_in_place(new, folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except OSError as exc:
        msg = f"The archive {folder} was not written: {exc.strerror}; what was there, if anything, is untouched."
        raise UsageError(msg) from exc
    return folder


def _fill(new: Path, old: Path, contents: Mapping[str, bytes]) -> None:
    if old.is_dir():
        for name in LIMITS:
            if (old / name).is_file() and name not in contents:
                shutil.copy2(old / name, new / name)
    for name, content in contents.items():
        with (new / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    new.chmod(0o755)


def _put_in_place(new: Path, folder: Path) -> None:
    """Rename *new* to *folder*; an earlier one there goes when the new one is in its place."""
    if not folder.exists():
        new.rename(folder)
        return
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.")) / folder.name
    folder.rename(aside)
    try:
        new.rename(folder)
    except OSError:
        with contextlib.suppress(OSError):
            aside.rename(folder)
        raise
    finally:
        shutil.rmtree(aside.parent, ignore_errors=True)


def read(root: Path, ami: str, names: Iterable[str] = tuple(LIMITS)) -> dict[str, str]:
    """Return those of the files *names* that the archive of *ami* below *root* holds, by name; empty without one.

    Raises:
        UsageError: *ami* is no AMI id, or a file is too large, unreadable or not UTF-8.
    """
    folder = root / checked_ami_id(ami)
    return {
        name: read_text(folder / name, what="archived file", limit_bytes=LIMITS[name])
        for name in names
        if (folder / name).exists()
    }


def check_content(name: str, size_bytes: int, *, where: str) -> None:
    """Refuse what no archive holds, by its *name* or its size; *where* names it in the error.

    Raises:
        UsageError: It is none of an archive's files.
    """
    limit = LIMITS.get(name)
    if limit is None:
        msg = f"{where} is no file of an archive: those are {', '.join(LIMITS)}."
    elif size_bytes > limit:
        msg = f"The archived file {where} is larger than {limit // _MIB} MiB: that is not one of ours. Check the path."
    else:
        return
    raise UsageError(msg)
