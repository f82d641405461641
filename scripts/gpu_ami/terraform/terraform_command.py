"""The Terraform command lines of the pipeline.

Each that Terraform has JSON diagnostics for asks for them; `failures` reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_ami.process import Command

if TYPE_CHECKING:
    from gpu_ami.tools.tool import TerraformTools

# No question to Terraform's maker for a newer version, and no hints for a person at a terminal.
_VARIABLES = {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}


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

    def command(self, *arguments: str) -> Command:
        """Return ``terraform ARGUMENTS`` in the root module."""
        return Command((str(self.program), *arguments), cwd=self.folder, env=self.environment)

    def fmt(self) -> Command:
        """Check the layout of every file; prints the difference and ends with 3 when there is one."""
        return self.command("fmt", "-check", "-diff", "-recursive", "-no-color")

    def init(self, *, backend: bool = False) -> Command:
        """Install modules and providers; a backend is touched only when requested."""
        mirror = [f"-plugin-dir={self.provider_mirror}"] if self.provider_mirror else []
        without = [] if backend else ["-backend=false"]
        return self.command("init", *without, "-input=false", "-json", "-no-color", *mirror)

    def validate(self, *, tests: bool = True) -> Command:
        """Check that the module is consistent; says nothing about variable values.

        Its *tests* (``*.tftest.hcl``) take longer than the module: Terraform reads the provider's schema for each.
        """
        return self.command("validate", *([] if tests else ["-no-tests"]), "-json", "-no-color")

    def plan(self, file: Path) -> Command:
        """Plan into *file*; ends with 0 without changes, with 2 when there are some."""
        return self.command("plan", f"-out={file}", "-detailed-exitcode", "-input=false", "-json", "-no-color")

    def show(self, file: Path) -> Command:
        """Print the plan in *file* as JSON."""
        return self.command("show", "-json", "-no-color", str(file))

    def apply(self, file: Path) -> Command:
        """Carry out exactly the plan in *file*; does not prompt."""
        return self.command("apply", "-input=false", "-json", "-no-color", str(file))

    def version(self) -> Command:
        """Print Terraform's version and the providers that are selected, as JSON."""
        return self.command("version", "-json")

    def state(self) -> Command:
        """Print the state as it is stored; empty when there is none."""
        return self.command("state", "pull", "-no-color")


def terraform_in(
    folder: Path, tools: TerraformTools, child_environment: Callable[[Mapping[str, str]], Mapping[str, str]]
) -> Terraform:
    """Return Terraform in the root module *folder*: the one way in which the pipeline makes it.

    Args:
        folder: The root module.
        tools: The program and the mirror of its provider.
        child_environment: Returns the environment of a child process, with the given variables on top.
    """
    environment = _without_missing_settings(child_environment(_VARIABLES))
    return Terraform(tools.terraform.path, folder, environment, tools.provider_mirror)


def _without_missing_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the child's environment without a settings file that is not there: Terraform warns on each call."""
    named = environment.get("TF_CLI_CONFIG_FILE")
    missing = named is not None and not Path(named).expanduser().is_file()
    return {name: value for name, value in environment.items() if not (missing and name == "TF_CLI_CONFIG_FILE")}
