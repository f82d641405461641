"""The repository's own template and Terraform folder, judged by the real Packer and Terraform."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gpu_ami.errors import PipelineError, TerraformError, ToolError
from gpu_ami.process import Command, run
from gpu_ami.terraform import failures
from gpu_ami.terraform.terraform_command import Terraform
from gpu_ami.tools import packer_tools, terraform_tools

ROOT = Path(__file__).parents[2]


def _run(cwd: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PACKER_PLUGIN_PATH": str(packer_tools().plugin_path), "CHECKPOINT_DISABLE": "1", **more}
    return subprocess.run(arguments, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_the_template_is_laid_out_as_packer_would() -> None:
    """One layout, no discussion."""
    done = _run(ROOT, str(packer_tools().packer.path), "fmt", "-check", "-diff", "-recursive", "packer/")

    assert (done.returncode, done.stdout) == (0, "")


def test_the_template_is_valid_with_the_example_values(tmp_path: Path) -> None:
    """Whoever copies the example and fills it in gets past validation."""
    folder = tmp_path / "packer"
    shutil.copytree(ROOT / "packer", folder, ignore=shutil.ignore_patterns("*.pkrvars.hcl"))
    shutil.copy2(folder / "variables.auto.pkrvars.hcl.example", folder / "variables.auto.pkrvars.hcl")

    done = _run(folder, str(packer_tools().packer.path), "validate", ".")

    assert done.returncode == 0, done.stdout + done.stderr


BILL = """
variable "bill_command" { type = string }
locals {
  run_id    = "run-2"
  bill_path = "${path.root}/bill.cdx.json"
}
source "null" "gpu" { communicator = "none" }
build {
  sources = ["source.null.gpu"]
  SHELL_LOCAL
  provisioner "shell-local" {
    environment_vars = ["SHA256=${DIGEST}"]
    inline           = ["echo bill=$SHA256."]
    execute_command  = ["/bin/sh", "-c", "{{ .Vars }} /bin/sh '{{ .Script }}'"]
  }
}
"""


@pytest.mark.parametrize(
    ("command", "is_kept"),
    [("printf '\"run-2\"' >bill.cdx.json", True), ("exit 3", False), ("kill -9 $$", False), ("no-such-program", False)],
    ids=["composed", "fails", "killed", "is not there"],
)
def test_the_bill_is_this_runs_or_none(tmp_path: Path, command: str, is_kept: bool) -> None:
    """By hand all runs write to one path: what an earlier one left there must not pass for this one's.

    Whatever becomes of the command the bake goes on, and a blank in TMPDIR is no reason to have no bill.
    """
    template = (ROOT / "packer" / "aws-gpu-ami.pkr.hcl").read_text(encoding="utf-8")
    (block,) = re.findall(r'^  provisioner "shell-local" \{\n.*?^  \}\n', template, re.MULTILINE | re.DOTALL)
    (digest,) = re.findall(r"^      BILL_SHA256 = (.*)$", template, re.MULTILINE)
    (tmp_path / "a.pkr.hcl").write_text(BILL.replace("SHELL_LOCAL", block).replace("DIGEST", digest))
    (tmp_path / "bill.cdx.json").write_text('"run-1"')
    (tmp_path / "a blank").mkdir()

    env = {"TMPDIR": str(tmp_path / "a blank"), "PKR_VAR_bill_command": command, "PACKER_NO_COLOR": "1"}
    done = _run(tmp_path, str(packer_tools().packer.path), "build", ".", **env)

    assert done.returncode == 0, done.stdout + done.stderr
    expected = hashlib.sha256(b'"run-2"').hexdigest() if is_kept else ""
    assert f"bill={expected}.\n" in done.stdout


def test_the_terraform_folder_is_laid_out_and_valid(tmp_path: Path) -> None:
    """fmt, init and validate on a copy: nobody's state, backend or variables take part.

    Its tests are validated where they are run, in `test_terraform_module.py`; here that took two thirds of the time.
    """
    folder = tmp_path / "terraform"
    ours = shutil.ignore_patterns(".terraform*", "backend.tf", "*.tfvars*", "*.tfstate*")
    shutil.copytree(ROOT / "terraform", folder, ignore=ours)
    tools = terraform_tools()
    terraform = str(tools.terraform.path)
    mirror = [f"-plugin-dir={tools.provider_mirror}"] if tools.provider_mirror else []

    for arguments in (
        ("fmt", "-check", "-diff", "-recursive"),
        ("init", "-backend=false", "-input=false", *mirror),
        ("validate", "-no-tests", "-no-color"),
    ):
        done = _run(folder, terraform, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("ami", "accepted"),
    [
        ("ami-0123456789abcdef0", True),
        ("ami-12345678", True),
        ("ami-0123456789ABCDEF0", False),
        ("ami-123", False),
        ("<html>", False),
        ("", False),
    ],
)
def test_the_root_module_takes_ami_ids_and_nothing_else(tmp_path: Path, ami: str, accepted: bool) -> None:
    """`terraform validate` accepts any value; the variable's own rule is what stops a wrong id at the plan."""
    shutil.copy2(ROOT / "terraform" / "variables.tf", tmp_path)
    terraform = str(terraform_tools().terraform.path)
    assert _run(tmp_path, terraform, "init", "-backend=false", "-input=false").returncode == 0

    done = _run(tmp_path, terraform, "plan", "-input=false", "-no-color", f"-var=gpu_ami_id={ami}")

    assert (done.returncode == 0) == accepted, done.stdout + done.stderr
    assert ("gpu_ami_id must be an AMI id" in done.stderr) != accepted


@pytest.fixture
def bare(tmp_path: Path) -> Terraform:
    """Terraform in a root module without providers, applied once."""
    (tmp_path / "main.tf").write_text(
        'variable "gpu_ami_id" {\n  default = "a"\n}\n'
        'resource "terraform_data" "x" {\n  input = var.gpu_ami_id\n}\n'
        'output "ami" {\n  value = var.gpu_ami_id\n}\n'
    )
    environment = {"PATH": os.environ["PATH"], "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    terraform = Terraform(terraform_tools().terraform.path, tmp_path, environment)
    _terraform(terraform.init(), 0)
    _terraform(terraform.plan(tmp_path / "first"), 2)
    _terraform(terraform.apply(tmp_path / "first"), 0)
    return terraform


def _terraform(command: Command, status: int) -> str:
    done = run(command, timeout_s=300)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def _failure(command: Command) -> PipelineError:
    done = run(command, timeout_s=300)
    assert done.returncode == 1, done.stdout + done.stderr
    return failures.explain(command.argv[1], failures.errors(done.stdout, done.stderr), folder="terraform")


def test_the_words_that_are_looked_for_are_terraforms(bare: Terraform) -> None:
    """Each of our next steps hangs on a summary of Terraform's, which another version may phrase anew."""
    folder, file = bare.folder, bare.folder / "plan"
    found: dict[str, PipelineError] = {"stale": _failure(bare.apply(folder / "first"))}
    state = folder / "terraform.tfstate"
    with state.open("r+") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        found["locked"] = _failure(bare.plan(file))
    whole = state.read_text()
    state.write_text(whole[:20])
    found["damaged"], found["damaged for pull"] = _failure(bare.plan(file)), _failure(bare.state())
    state.write_text(whole)
    (folder / "more.tf").write_text('variable "unset" {}\n')
    found["unset"] = _failure(bare.plan(file))
    (folder / "more.tf").write_text('terraform {\n  backend "s3" {}\n}\n')
    found["backend"] = _failure(bare.plan(file))
    (folder / "more.tf").write_text('provider "aws" {}\n')
    (folder / "empty").mkdir()
    without = Terraform(bare.program, folder, bare.environment, folder / "empty")
    found["no provider"] = _failure(without.init())

    said = {
        "stale": "the state changed since the plan was made",
        "locked": "The Terraform state of terraform is locked",
        "damaged": "is damaged",
        "damaged for pull": "is damaged",
        "unset": 'No value for required variable (more.tf line 1): The root module input variable "unset" is not set',
        "backend": "-migrate-state",
        "no provider": "found no aws provider (Failed to query available provider packages: ",
    }
    assert {name: text in str(found[name]) for name, text in said.items()} == dict.fromkeys(said, True), found
    assert {type(error) for name, error in found.items() if name != "no provider"} == {TerraformError}
    assert isinstance(found["no provider"], ToolError)


def test_what_tf_cli_args_breaks_is_named(tmp_path: Path) -> None:
    """A flag that fits `plan` breaks `show`: each command says so in a form of its own, some above a page of usage."""
    environment = {"PATH": os.environ["PATH"], "CHECKPOINT_DISABLE": "1", "TF_CLI_ARGS": "-bogus=hunter2"}
    terraform = Terraform(terraform_tools().terraform.path, tmp_path, environment)
    plan = tmp_path / "plan"

    for words, command in {
        "init": terraform.init(),
        "plan": terraform.plan(plan),
        "show": terraform.show(plan),
        "apply": terraform.apply(plan),
        "state pull": terraform.state(),
        "fmt": terraform.fmt(),
    }.items():
        done = run(command, timeout_s=300)
        found = failures.errors(done.stdout, done.stderr)
        assert done.returncode != 0, words
        assert str(failures.explain(words, found, folder="terraform", environment=environment)) == (
            f"`terraform {words}` failed: flag provided but not defined: -bogus. "
            "TF_CLI_ARGS in the environment changes that command: see whether it goes without."
        )


def test_terraform_asks_for_init_where_init_helps(bare: Terraform) -> None:
    """`invoke plan` runs it then, and only then."""
    (bare.folder / "more.tf").write_text('provider "aws" {}\n')
    refused = run(bare.plan(bare.folder / "plan"), timeout_s=300)
    (bare.folder / "more.tf").write_text("provider {}\n")
    invalid = run(bare.validate(), timeout_s=300)

    assert failures.wants_init(failures.errors(refused.stdout, refused.stderr))
    assert not failures.wants_init(failures.errors(invalid.stdout, invalid.stderr))


def test_the_log_of_a_plan_names_the_resources_and_the_outputs(bare: Terraform) -> None:
    """Terraform says each as a message of its own."""
    plan = bare.plan(bare.folder / "plan")
    changing = Command((*plan.argv, "-var=gpu_ami_id=b"), cwd=plan.cwd, env=plan.env)

    text = failures.readable(_terraform(changing, 2))

    assert "terraform_data.x: Plan to update\n" in text
    assert "Plan: 0 to add, 1 to change, 0 to destroy.\n" in text
    assert "\n  ami: update\n" in text
    assert "{" not in text
