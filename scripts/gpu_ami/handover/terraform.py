"""The Terraform command lines of the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpu_ami.process import Command


@dataclass(frozen=True)
class Terraform:
    """A Terraform to call and where to call it.

    Attributes:
        program: The executable.
        folder: The root module.
        environment: The child's whole environment.
        provider_mirror: A folder of providers to install from; None means the registry.
    """

    program: Path
    folder: Path
    environment: Mapping[str, str]
    provider_mirror: Path | None = None

    def command(self, *words: str) -> Command:
        """Return ``terraform WORDS`` in the root module."""
        return Command((str(self.program), *words), cwd=self.folder, env=self.environment)

    def fmt(self) -> Command:
        """Check the layout of every file; prints the difference and ends with 3 when there is one."""
        return self.command("fmt", "-check", "-diff", "-recursive")

    def init(self) -> Command:
        """Install modules and providers without touching a backend."""
        mirror = [f"-plugin-dir={self.provider_mirror}"] if self.provider_mirror else []
        return self.command("init", "-backend=false", "-input=false", "-no-color", *mirror)

    def validate(self) -> Command:
        """Check that the module is consistent; says nothing about variable values."""
        return self.command("validate", "-no-color")
