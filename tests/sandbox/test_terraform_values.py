"""What Terraform is told in the sandbox, and what another sandbox left."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from gpu_ami_sandbox.session import Sandbox
from gpu_ami_sandbox.terraform_values import prepare_terraform, variables

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A root module with two variables, and what another sandbox left in it."""
    (tmp_path / "variables.tf").write_text('variable "region" {}\nvariable "subnet_ids" {\n}\n# variable "family" {}\n')
    (tmp_path / "receipts").mkdir()
    for name in ("terraform.tfstate", "terraform.tfstate.backup", "receipts/1.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def _hand_over(folder: Path, ami: str) -> Path:
    file = folder / "gpu-ami.auto.tfvars.json"
    file.write_text(json.dumps({"gpu_ami_id": ami}))
    return file


def test_only_declared_variables_are_set(local_aws: Sandbox, folder: Path) -> None:
    """Terraform warns of each other one."""
    prepare_terraform(local_aws, folder, folder / "none.json")

    values = json.loads((folder / "sandbox.auto.tfvars.json").read_text())
    assert values == {"region": local_aws.account.region, "subnet_ids": [local_aws.account.subnet_id]}


def test_the_real_root_module_takes_them_all(local_aws: Sandbox) -> None:
    """A variable that was renamed there would silently be left out here."""
    declared = (ROOT / "terraform" / "variables.tf").read_text()

    assert [name for name in variables(local_aws) if f'variable "{name}"' not in declared] == []


def test_the_state_is_local_whatever_the_code_says(local_aws: Sandbox, folder: Path) -> None:
    """An override replaces any backend."""
    prepare_terraform(local_aws, folder, folder / "none.json")

    settings = json.loads((folder / "sandbox_override.tf.json").read_text())
    assert settings["terraform"] == {"backend": {"local": {}}}


def test_what_another_sandbox_left_is_dropped(local_aws: Sandbox, folder: Path) -> None:
    """Its AWS is gone; a new one gives the same ids to other things."""
    file = _hand_over(folder, "ami-0123456789abcdef0")

    prepare_terraform(local_aws, folder, file)

    assert not file.exists()
    assert not list(folder.glob("terraform.tfstate*"))
    assert not (folder / "receipts").exists()


def test_an_ami_that_this_sandbox_has_stays_handed_over(local_aws: Sandbox, folder: Path) -> None:
    """`invoke build apply`: the build of this sandbox has written it a moment ago."""
    file = _hand_over(folder, local_aws.account.live_ami_id)

    prepare_terraform(local_aws, folder, file)

    assert file.exists()


def test_the_same_sandbox_keeps_everything(local_aws: Sandbox, folder: Path) -> None:
    """The second apply must find the state of the first."""
    prepare_terraform(local_aws, folder, folder / "none.json")
    (folder / "terraform.tfstate").write_text("{}")
    file = _hand_over(folder, "ami-0123456789abcdef0")

    prepare_terraform(local_aws, folder, file)
    assert (folder / "terraform.tfstate").exists()
    assert file.exists()

    prepare_terraform(dataclasses.replace(local_aws, identity="another"), folder, file)
    assert not (folder / "terraform.tfstate").exists()
