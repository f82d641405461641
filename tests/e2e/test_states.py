"""Several Terraform states that share a folder of receipts: real Terraform, its S3 backend, real provider, local AWS.

Two workspaces of one backend, and two keys in one folder of the bucket, put their receipts in one place.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpu_ami import process
from gpu_ami.cleanup.local_references import protected_by_receipts
from gpu_ami.deploy import apply, rollback
from gpu_ami.errors import SafetyError, UsageError
from gpu_ami.process import Command
from gpu_ami.terraform.terraform_command import Terraform, terraform_in
from gpu_ami.tools import terraform_tools
from tests.support.account import REGION, Task, World, task

BUCKET = "team-state"
ROOT_MODULE = """\
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
  backend "s3" {
    bucket                      = "team-state"
    region                      = "ap-northeast-2"
    use_path_style              = true
    skip_requesting_account_id  = true
    skip_credentials_validation = true
  }
}

provider "aws" {
  region = "ap-northeast-2"
}

variable "gpu_ami_id" {
  type = string
}

resource "aws_batch_compute_environment" "gpu" {
  type = "MANAGED"

  compute_resources {
    type                = "EC2"
    allocation_strategy = "BEST_FIT_PROGRESSIVE"
    instance_role       = "arn:aws:iam::ACCOUNT:instance-profile/worker"
    instance_type       = ["g5.xlarge"]
    min_vcpus           = 0
    max_vcpus           = 16
    subnets             = ["SUBNET"]
    security_group_ids  = ["GROUP"]

    ec2_configuration {
      image_type        = "ECS_AL2023_NVIDIA"
      image_id_override = var.gpu_ami_id
    }
  }
}
"""


@dataclass(frozen=True)
class Team:
    """A root module that several states use.

    Attributes:
        here: The account.
        root: The repository.
        patch: Sets what the next commands find in their environment.
    """

    here: World
    root: Path
    patch: pytest.MonkeyPatch

    @property
    def terraform(self) -> Terraform:
        """Terraform in the root module, as the pipeline runs it."""
        return terraform_in(self.root / "terraform", terraform_tools(), self.here.access.child_environment)

    def run(self, command: Command) -> None:
        """Run one of Terraform's commands by hand."""
        done = process.run(command)
        assert done.returncode == 0, done.stdout + done.stderr

    def init(self, key: str) -> None:
        """Connect the root module to a state."""
        command = self.terraform.init(backend=True)
        self.run(Command((*command.argv, f"-backend-config=key={key}"), cwd=command.cwd, env=command.env))

    def apply(self, ami: str, workspace: str = "default") -> None:
        """Hand an AMI over and apply it in a workspace."""
        (self.root / "terraform" / "gpu-ami.auto.tfvars.json").write_text(json.dumps({"gpu_ami_id": ami}))
        with self.patch.context() as patch:
            patch.setenv("TF_WORKSPACE", workspace)
            apply.run(task(self.here, self.root).run, apply.Request(yes=True))

    def roll_back(self, done: Task, workspace: str = "default") -> None:
        """Plan the way back to the AMI before; nobody confirms it."""
        with self.patch.context() as patch:
            patch.setenv("TF_WORKSPACE", workspace)
            rollback.run(done.run, rollback.Request())

    def receipts(self) -> dict[str, dict[str, Any]]:
        """Return key to content of the receipts in the bucket, the oldest first."""
        s3 = self.here.access.client("s3")
        keys = sorted(row["Key"] for row in s3.list_objects_v2(Bucket=BUCKET)["Contents"] if "/receipts/" in row["Key"])
        return {key: json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()) for key in keys}


@pytest.fixture
def team(here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    """An account with a bucket for states, and a root module with one environment."""
    for name, value in {
        "AWS_ENDPOINT_URL": here.aws.endpoint_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE", "TF_WORKSPACE", "TF_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    here.access.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    location, text = here.maker.location, ROOT_MODULE
    for placeholder, value in {
        "ACCOUNT": here.account,
        "SUBNET": location.subnet_id,
        "GROUP": location.security_group_id,
    }.items():
        text = text.replace(placeholder, value)
    (tmp_path / "terraform").mkdir()
    (tmp_path / "terraform" / "main.tf").write_text(text)
    return Team(here, tmp_path, monkeypatch)


def test_each_state_has_its_own_way_back(team: Team) -> None:
    """Staging and another key try a bad AMI between prod's two: prod goes back to what prod ran, they go nowhere."""
    good, bad, newest = (team.here.image(age).id for age in (9, 8, 7))
    team.init("batch/gpu.tfstate")
    for workspace in ("prod", "staging"):
        team.run(team.terraform.command("workspace", "new", workspace))

    team.apply(good, "prod")
    team.apply(bad, "staging")
    with team.patch.context() as patch:
        patch.setenv("TF_DATA_DIR", ".terraform-other")
        team.init("batch/other.tfstate")
        team.apply(bad)
        with pytest.raises(UsageError, match="No receipt of this state knows of an AMI before"):
            team.roll_back(task(team.here, team.root))
    team.apply(newest, "prod")

    back = task(team.here, team.root)
    with pytest.raises(SafetyError, match=r"not confirmed|nobody is here"):
        team.roll_back(back, "prod")
    assert f"Rolling back to {good}." in back.err.getvalue()
    assert "s3://team-state/env:/prod/batch/gpu.tfstate, workspace prod by TF_WORKSPACE" in back.err.getvalue()

    found = team.receipts()
    assert {key.rpartition("/")[0] for key in found} == {"batch/receipts"}
    assert [(receipt["state"]["key"], receipt["status"]) for receipt in found.values()] == [
        ("env:/prod/batch/gpu.tfstate", "applied"),
        ("env:/staging/batch/gpu.tfstate", "applied"),
        ("batch/other.tfstate", "applied"),
        ("env:/prod/batch/gpu.tfstate", "applied"),
    ]
    needed = protected_by_receipts([(f"s3://{BUCKET}/{key}", json.dumps(text)) for key, text in found.items()])
    assert {reference.target for reference in needed} == {good, bad, newest}
