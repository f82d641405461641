"""The paths of one invocation's files, on AWS and in the sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SETTINGS_FILE = "pipeline.yaml"


@dataclass(frozen=True)
class Workspace:
    """The repository's folders; the sandbox keeps everything it writes under ``.sandbox/``.

    Attributes:
        root: The repository: the folder of ``tasks.py``.
        sandbox: Whether this invocation works on the local AWS.
    """

    root: Path
    sandbox: bool = False

    @property
    def state(self) -> Path:
        """The folder that holds what the pipeline writes."""
        return self.root / ".sandbox" if self.sandbox else self.root

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
        return self.state / "manifest.json" if self.sandbox else self.packer / "manifest.json"

    @property
    def release(self) -> Path:
        """Where the bake's release record is kept."""
        return self.state / "release.json" if self.sandbox else self.packer / "release.json"

    @property
    def logs(self) -> Path:
        """Build logs and clean-up journals."""
        return self.state / "logs"

    def shown(self, path: Path) -> str:
        """Return *path* as a person in the repository would type it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def auto_variables(folder: Path) -> tuple[Path, ...]:
    """Return the variables files that Packer reads in the template's *folder* by itself, in its order: the last counts.

    Those in HCL by name, then those in JSON by name: JSON wins whatever the letters are (Packer 1.16.0's
    ``hcl2template.Parser.Parse``).
    """
    found = ((path for path in folder.glob(f"*.auto.pkrvars.{kind}") if not path.is_dir()) for kind in ("hcl", "json"))
    return tuple(path for files in found for path in sorted(files, key=lambda path: path.name))
