"""One build: decided and not started, and as it came to its end."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_ami.bake import template, variable_values
from gpu_ami.bake.packer_command import Inputs, Packer
from gpu_ami.bake.packer_events import Progress
from gpu_ami.bake.variables import BuildVariables, typed
from gpu_ami.errors import BuildError, PipelineError, TerraformError
from gpu_ami.process import Command
from gpu_ami.terraform.terraform_command import Terraform
from gpu_ami.workspace import auto_variables


@dataclass(frozen=True, kw_only=True)
class Job:
    """One build, decided but not started.

    Attributes:
        packer: Packer and its folder.
        terraform: Terraform and its folder.
        inputs: The variables that Packer gets.
        plugin_path: Where Packer finds its amazon plugin.
        run_id: Names this build in tags, manifest and log.
        private: Variables that were given and are secrets: the last of the inputs' files holds them.
        environment: Where Packer finds ``PKR_VAR_…``.
        found: The variables files that Packer finds by itself, in its order; None is all that are in its folder.
        left_out: Those in its folder that are other families', which it is kept from.
        lists: The folder for the list of what is in the image, and the bill of materials; None in a dry run.
    """

    packer: Packer
    terraform: Terraform
    inputs: Inputs
    plugin_path: Path
    run_id: str
    private: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    found: tuple[Path, ...] | None = None
    left_out: tuple[Path, ...] = ()
    lists: Path | None = None

    def validation(self, *, tests: bool) -> tuple[tuple[type[PipelineError], tuple[Command, ...]], ...]:
        """Return the validation commands: two chains that can run side by side, and what a failure of each is.

        Args:
            tests: Whether Terraform's tests are validated, too.
        """
        return (
            # validate first: where the template does not parse, fmt says only that it does not.
            (BuildError, (self.packer.validate(self.inputs), self.packer.fmt())),
            (TerraformError, (self.terraform.fmt(), self.terraform.init(), self.terraform.validate(tests=tests))),
        )

    def given(self, **more: str) -> Job:
        """Return this build with the variables *more*, which win over what was given before."""
        changed = dataclasses.replace(self, inputs=Inputs(self.inputs.files, {**self.inputs.variables, **more}))
        if "_values" in vars(self):
            # Nothing else has changed: the files need not be read anew.
            kinds = template.template_kinds(self.packer.folder)
            vars(changed)["_values"] = self._values | variable_values.from_texts(more, kinds)
        return changed

    def values(self) -> dict[str, Any]:
        """Return each template variable's value as Packer will see it."""
        return dict(self._values)

    @functools.cached_property
    def _values(self) -> dict[str, Any]:
        # Reading HCL takes a second, and several steps of a build need it.
        found = auto_variables(self.packer.folder) if self.found is None else self.found
        files = (*found, *self.inputs.files)
        return template.effective(self.packer.folder, files, self.inputs.variables, environment=self.environment)

    @functools.cached_property
    def variables(self) -> BuildVariables:
        """The template's variables with their types.

        Raises:
            UsageError: A value has another type than the template's variable.
        """
        return typed(self._values)


@dataclass(frozen=True)
class Baked:
    """A bake that came to its end.

    Attributes:
        job: The build as Packer got it, with the placement that had room.
        progress: What Packer said; None after ``--debug``, which talks to the terminal.
        attempts: How many placements were tried.
    """

    job: Job
    progress: Progress | None
    attempts: int = 1
