"""Terraform's command, and that every capability calls it in the same environment."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami.bake import build, init, prepare, validate
from gpu_ami.cleanup import scope
from gpu_ami.console import Console
from gpu_ami.deploy import root_module
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options
from gpu_ami.process import Command, Finished
from gpu_ami.terraform.terraform_command import terraform_in
from gpu_ami.tools.tool import PackerTools, TerraformTools, Tool

ROOT = Path(__file__).parents[2]
PACKER = PackerTools(
    Tool("packer", "1.11.2", Path("packer"), "PATH"), Tool("plugin", "1.3.9", Path("p"), "PATH"), Path()
)
TERRAFORM = TerraformTools(Tool("terraform", "1.11.4", Path("terraform"), "PATH"), Path("mirror"))
CALLERS: dict[str, Callable[[Invocation], Any]] = {
    "init": init._from_terraform,
    "prepare": lambda run: prepare.prepare(run, ()).terraform.state(),
    "root module": lambda run: root_module.prepare(run).terraform.state(),
    "scope": scope._backend_state,
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invocation:
    """A checkout whose Terraform has a backend and was initialized, on a machine with variables of its own."""
    shutil.copytree(ROOT / "packer", tmp_path / "packer")
    (tmp_path / "packer" / "variables.auto.pkrvars.hcl.example").rename(tmp_path / "packer/variables.auto.pkrvars.hcl")
    (tmp_path / "terraform" / ".terraform").mkdir(parents=True)
    (tmp_path / "terraform" / "backend.tf").write_text('terraform {\n  backend "s3" {}\n}\n')
    (tmp_path / "pipeline.yaml").write_text("region: ap-northeast-2\n")
    for module in (init, prepare, root_module):
        monkeypatch.setattr(module, "terraform_tools", lambda: TERRAFORM)
    monkeypatch.setattr(prepare, "packer_tools", lambda: PACKER)
    monkeypatch.setattr("gpu_ami.tools.terraform_tools", lambda: TERRAFORM)
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", str(tmp_path / "none.tfrc"))
    for name in ("CHECKPOINT_DISABLE", "TF_IN_AUTOMATION"):
        monkeypatch.delenv(name, raising=False)
    found = Invocation(tmp_path, Options(output="json"), Console("json", out=io.StringIO(), err=io.StringIO()))
    found.__dict__["access"] = Access(region="ap-northeast-2", profile="team")
    return found


def _environment(run: Invocation, caller: str, patch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Return the environment of Terraform as *caller* calls it."""
    commands: list[Command] = []

    def answer(command: Command, **_: Any) -> Finished:
        commands.append(command)
        return Finished(0, "{}", "")

    patch.setattr("gpu_ami.process.run", answer)
    made = CALLERS[caller](run)
    ours = made if isinstance(made, Command) else commands[0]
    assert ours.env is not None
    return ours.env


@pytest.mark.parametrize("caller", CALLERS)
def test_every_capability_calls_terraform_in_the_same_environment(
    run: Invocation, monkeypatch: pytest.MonkeyPatch, caller: str
) -> None:
    """One that differs would phone home, warn on each call, or read another account's state."""
    expected = terraform_in(run.workspace.terraform, TERRAFORM, run.access.child_environment).environment

    assert _environment(run, caller, monkeypatch) == expected
    assert {name: expected.get(name) for name in ("CHECKPOINT_DISABLE", "TF_IN_AUTOMATION", "AWS_PROFILE")} == {
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
        "AWS_PROFILE": "team",
    }
    assert "TF_CLI_CONFIG_FILE" not in expected


def test_a_settings_file_that_is_there_is_kept(tmp_path: Path) -> None:
    """It may name the mirror or the credentials of a registry."""
    file = tmp_path / "own.tfrc"
    file.touch()

    terraform = terraform_in(tmp_path, TERRAFORM, lambda variables: {**variables, "TF_CLI_CONFIG_FILE": str(file)})

    assert terraform.environment["TF_CLI_CONFIG_FILE"] == str(file)
    assert "-plugin-dir=mirror" in terraform.init().argv


def test_a_build_needs_no_tests_of_the_terraform_folder(run: Invocation) -> None:
    """They take Terraform twice as long as the module, and a build does not run them; `invoke validate` reads them."""
    job = prepare.prepare(run, ())

    def commands(lines: list[str]) -> list[str]:
        return [line for line in lines if "terraform validate" in line]

    assert all("-no-tests" in line for line in commands(build.command_lines(job, debug=False)))
    assert all("-no-tests" not in line for line in commands(validate.command_lines(job)))
    assert len(commands(build.command_lines(job, debug=False))) == len(commands(validate.command_lines(job))) == 1
