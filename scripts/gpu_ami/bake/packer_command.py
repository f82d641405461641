"""Builds the Packer command lines of one build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpu_ami.process import Command


@dataclass(frozen=True)
class Packer:
    """A Packer to call and where to call it.

    Attributes:
        program: The executable.
        folder: The template's folder. It is passed whole: with a single file Packer reads no
            ``*.auto.pkrvars.hcl``.
        environment: The child's whole environment, with PACKER_PLUGIN_PATH.
        staged: A copy of the folder that Packer reads in its place, without what it must not find there; None reads
            the folder itself.
    """

    program: Path
    folder: Path
    environment: Mapping[str, str]
    staged: Path | None = None

    @property
    def _template(self) -> str:
        return "." if self.staged is None else str(self.staged)

    def command(self, *arguments: str) -> Command:
        """Return ``packer ARGUMENTS`` in the template's folder."""
        return Command((str(self.program), *arguments), cwd=self.folder, env=self.environment)

    def fmt(self) -> Command:
        """Check the template's layout; prints the difference and ends with 3 when there is one."""
        return self.command("fmt", "-check", "-diff", "-recursive", self._template)

    def validate(self, inputs: Inputs) -> Command:
        """Check the template and its variables.

        Data sources are not evaluated: against an endpoint that does not answer that takes a minute and a
        half, and preflight has looked the parameter up already.
        """
        return self.command("validate", *inputs.flags, self._template)

    def build(self, inputs: Inputs, *, debug: bool = False) -> Command:
        """Bake. Machine-readable, except with *debug*, which pauses and asks on the terminal."""
        mode = ("-debug", "-on-error=ask") if debug else ("-machine-readable", "-on-error=cleanup")
        return self.command("build", *mode, *inputs.flags, self._template)


@dataclass(frozen=True)
class Inputs:
    """The values Packer is given: files first, then single variables, which win."""

    files: tuple[Path, ...]
    variables: Mapping[str, str]

    @property
    def flags(self) -> tuple[str, ...]:
        """The ``-var-file`` and ``-var`` flags."""
        files = [f"-var-file={path}" for path in self.files]
        return (*files, *(f"-var={name}={value}" for name, value in sorted(self.variables.items())))
