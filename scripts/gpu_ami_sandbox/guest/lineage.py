"""An instance of an AMI that was baked here: its file system starts as the one that the AMI was made of.

What lies there was written by a guest. Nothing here follows a link of it.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path


def copy(parent: Path, root: Path) -> None:
    """Make the new folder *root* a copy of *parent*: files, folders and links as they are, nothing else.

    Raises:
        OSError: It cannot be read or written.
    """
    closed = _open_folders(parent)
    try:
        shutil.copytree(parent, root, symlinks=True, copy_function=_copy_file)
    finally:
        for folder, mode in reversed(closed):
            for path in (folder, root / folder.relative_to(parent)):
                if path.is_dir():
                    path.chmod(mode)


def _open_folders(parent: Path) -> list[tuple[Path, int]]:
    """Let us into folders that the guest has closed to everybody; return them with their modes."""
    closed = []
    for folder, names, _ in os.walk(parent):
        for path in (Path(folder, name) for name in names):
            mode = stat.S_IMODE(path.lstat().st_mode)
            if not path.is_symlink() and mode & stat.S_IRWXU != stat.S_IRWXU:
                closed.append((path, mode))
                path.chmod(mode | stat.S_IRWXU)
    return closed


def _copy_file(source: str, target: str) -> None:
    """Copy a plain file; leave out devices, pipes and sockets, which a snapshot's reader has no use for."""
    mode = os.lstat(source).st_mode
    if not stat.S_ISREG(mode):
        return
    if not mode & stat.S_IRUSR:
        Path(source).chmod(mode | stat.S_IRUSR)
    try:
        shutil.copy2(source, target, follow_symlinks=False)
    finally:
        Path(source).chmod(mode)
    Path(target).chmod(stat.S_IMODE(mode))


def lay_over(boot: Path, root: Path, paths: Iterable[str]) -> None:
    """Move those *paths* of *boot* that exist into *root*, in place of what is there.

    Folders that both have are merged, so what the AMI has beside stays. *root* is still: no process is in it.
    """
    for path in paths:
        if os.path.lexists(boot / path):
            _make_folders(root, Path(path).parent)
            _move(boot / path, root / path)


def _move(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        _make_folder(target, stat.S_IMODE(source.stat().st_mode))
        for entry in sorted(source.iterdir()):
            _move(entry, target / entry.name)
        return
    _remove(target)
    source.rename(target)


def _make_folders(root: Path, path: Path) -> None:
    folder = root
    for part in path.parts:
        folder = folder / part
        _make_folder(folder, 0o755)


def _make_folder(path: Path, mode: int) -> None:
    """Make *path* a folder that can be written in; a link or a file there goes."""
    if path.is_symlink() or not path.is_dir():
        _remove(path)
        path.mkdir()
        path.chmod(mode)
    elif not os.access(path, os.W_OK | os.X_OK):
        path.chmod(mode | stat.S_IRWXU)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
