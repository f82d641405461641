"""The paths of one invocation's files, on AWS and in the sandbox."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from gpu_ami.errors import UsageError

SETTINGS_FILE = "pipeline.yaml"
_SANDBOX = Path(".sandbox")
# Each sandbox makes these, the last of them when it has started.
_OF_A_SANDBOX = ("lock", "home/empty")
# Says of a folder behind a link that it was empty when the first sandbox came, however far that got.
_MARK = "gpu-ami-sandbox"
_OF_A_NEW_DISK = {"lost+found"}


@dataclass(frozen=True)
class Workspace:
    """The repository's folders; the sandbox keeps everything it writes under ``.sandbox/``.

    Attributes:
        root: The repository: the folder of ``tasks.py``.
        sandbox: Whether this invocation works on the local AWS.
        family: Whose files these are, of several families; None where there is one, or none is meant.
    """

    root: Path
    sandbox: bool = False
    family: str | None = None

    @property
    def state(self) -> Path:
        """The folder that holds what the pipeline writes."""
        return self.sandbox_folder if self.sandbox else self.root

    @property
    def sandbox_folder(self) -> Path:
        """The sandbox's folder: where a link leads that has its name, for example to a larger disk."""
        named = self.root / _SANDBOX
        # What is written below a link would be taken for what leads out of the repository, file by file.
        return Path(os.path.realpath(named)) if named.is_symlink() else named

    def check_sandbox_folder(self) -> None:
        """Refuse a link that leads to anything but a folder for the sandbox alone: what else is there would be removed.

        One that is empty is marked: what is in it later is a sandbox's, even of one that did not start.

        Raises:
            UsageError: It does, or an empty one cannot be marked.
        """
        named, folder = self.root / _SANDBOX, self.sandbox_folder
        if not named.is_symlink():
            return
        try:
            there = {path.name for path in folder.iterdir()} - _OF_A_NEW_DISK
        except OSError as exc:
            msg = f"{_SANDBOX} is a link to {folder}, which cannot be read ({exc.strerror}): is its disk there?"
            raise UsageError(msg) from exc
        if not there:
            self._mark(folder)
        elif _MARK not in there and not all((folder / name).is_file() for name in _OF_A_SANDBOX):
            msg = (
                f"{_SANDBOX} is a link to {folder}, which holds other things than a sandbox, and these would be "
                "removed: link to an empty folder, or to a sandbox's that was moved. If all in it is a sandbox's, "
                f"`touch {shlex.quote(str(folder / _MARK))}` says so."
            )
            raise UsageError(msg)

    @staticmethod
    def _mark(folder: Path) -> None:
        try:
            (folder / _MARK).touch()
        except OSError as exc:
            msg = f"{_SANDBOX} is a link to {folder}, which cannot be written to ({exc.strerror}): make it your own."
            raise UsageError(msg) from exc

    @property
    def settings(self) -> Path:
        """The settings a person edits."""
        return self.root / SETTINGS_FILE

    @property
    def packer(self) -> Path:
        """The folder Packer runs in: in the sandbox a copy without anybody's variables."""
        return self.state / "packer"

    @property
    def terraform(self) -> Path:
        """The folder Terraform runs in: in the sandbox a copy with local state."""
        return self.state / "terraform"

    @property
    def manifest(self) -> Path:
        """Where Packer writes its manifest."""
        return (self.state if self.sandbox else self.packer) / self._named("manifest.json")

    @property
    def release(self) -> Path:
        """Where the bake's release record is kept."""
        return (self.state if self.sandbox else self.packer) / self._named("release.json")

    @property
    def builds(self) -> Path:
        """The archives of past builds, a folder per AMI: see `records.archive`."""
        return (self.state if self.sandbox else self.packer) / "builds"

    def _named(self, name: str) -> str:
        """Return the *name* of a file that each of several families has for itself."""
        first, ending = name.split(".")
        return name if self.family is None else f"{first}-{self.family}.{ending}"

    @property
    def logs(self) -> Path:
        """Build logs and clean-up journals."""
        return self.state / "logs"

    def shown(self, path: Path) -> str:
        """Return *path* as a person in the repository would type it."""
        if path.is_relative_to(self.root):
            return str(path.relative_to(self.root))
        folder = self.sandbox_folder
        return str(_SANDBOX / path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def auto_variables(folder: Path) -> tuple[Path, ...]:
    """Return the variables files that Packer reads in the template's *folder* by itself, in its order: the last counts.

    Those in HCL by name, then those in JSON by name: JSON wins whatever the letters are (Packer 1.16.0's
    ``hcl2template.Parser.Parse``).
    """
    found = ((path for path in folder.glob(f"*.auto.pkrvars.{kind}") if not path.is_dir()) for kind in ("hcl", "json"))
    return tuple(path for files in found for path in sorted(files, key=lambda path: path.name))
