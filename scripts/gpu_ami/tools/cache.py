"""The user's cache of tools: whole versions or nothing, one `setup` at a time."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gpu_ami.console import Console
from gpu_ami.errors import ToolError, UsageError
from gpu_ami.files import write_atomic
from gpu_ami.locks import waited_for
from gpu_ami.tools.tool import host_platform

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Cache:
    """The folder that holds what `setup` installed.

    A version's folder appears under its name in one rename, once it is complete. Everything before that happens
    in ``tmp/`` on the same filesystem; whatever a killed run left there goes with the next `setup`.
    """

    root: Path

    def folder(self, name: str, version: str) -> Path:
        """Return where *version* of the tool *name* is, or will be, for this machine's platform."""
        return self.root / name / version / host_platform()

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Lend an empty folder on the cache's filesystem; it is removed in the end, whatever happened."""
        parent = self.root / "tmp"
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent))
        try:
            yield folder
        finally:
            remove_tree(folder)

    def publish(self, staged: Path, name: str, version: str) -> Path:
        """Move the complete folder *staged* to its path in the cache in one step and return that path.

        What is there already is a folder that lost files: a complete one is never replaced.
        """
        path = self.folder(name, version)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.staging() as aside:
            if path.exists():
                path.rename(aside / "incomplete")
            staged.rename(path)
        return path

    @contextlib.contextmanager
    def locked(self, console: Console) -> Iterator[None]:
        """Be the only `setup` in this cache; a second one waits here and says so."""
        waiting = console.step("Waiting for another `invoke setup` to finish")
        with waited_for(self.root / "setup.lock", waiting):
            remove_tree(self.root / "tmp")
            yield

    def require_space(self, what: str, needed_bytes: int, *folders: Path) -> None:
        """Refuse to start on *what* when the disk of the cache, or of one of *folders*, is too full for it.

        Raises:
            ToolError: There is less than *needed_bytes* free.
        """
        for folder in (self.root, *folders):
            existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
            free = shutil.disk_usage(existing).free
            if free < needed_bytes:
                msg = (
                    f"{what} needs {needed_bytes // _MIB} MiB of disk and {folder} has {free // _MIB} MiB left: "
                    "free some space, or set GPU_AMI_CACHE_DIR (and Go's GOCACHE, GOMODCACHE) to another disk."
                )
                raise ToolError(msg)

    def recall(self, file: Path) -> str | None:
        """Return what was remembered about *file* if it has not changed since, else None."""
        with contextlib.suppress(OSError):
            return self._notes().get(_fingerprint(file))
        return None

    def remember(self, file: Path, fact: str) -> None:
        """Keep *fact* about *file* until the file changes; a cache that cannot be written forgets it."""
        with contextlib.suppress(OSError, UsageError):
            notes = {key: value for key, value in self._notes().items() if key.partition("|")[0] != str(file)}
            notes[_fingerprint(file)] = fact
            write_atomic(self.root / "versions.json", msgspec.json.encode(notes), what="list of known versions")

    def _notes(self) -> dict[str, str]:
        try:
            return msgspec.json.decode((self.root / "versions.json").read_bytes(), type=dict[str, str])
        except (OSError, msgspec.DecodeError):
            return {}


def user_cache() -> Cache:
    """Return the user's cache: ``GPU_AMI_CACHE_DIR``, or the usual folder of caches on this system."""
    if override := os.environ.get("GPU_AMI_CACHE_DIR"):
        return Cache(Path(override).expanduser().absolute())
    from platformdirs import user_cache_path

    return Cache(user_cache_path("gpu-ami", appauthor=False))


def remove_tree(folder: Path) -> None:
    """Remove *folder* as far as it can be: the program of a killed run may still be writing there."""
    shutil.rmtree(folder, ignore_errors=True)


def _fingerprint(file: Path) -> str:
    status = file.stat()
    return f"{file}|{status.st_mtime_ns}|{status.st_size}"
