"""A root module that holds more than ours, through its life: real Terraform, real provider, local AWS, in this process.

One environment of ours, with two image types, lies in a module; beside it are others that take no AMI of ours. It is
renamed, something is imported and something let go of, a replacement leaves the old one behind, and a rollback follows.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from gpu_ami.console import Console
from gpu_ami.deploy import apply, plan, rollback
from gpu_ami.errors import DifferenceError, TerraformError
from gpu_ami.invocation import Invocation
from gpu_ami.status import status
from tests.e2e.inprocess import Bench, bench

ENVIRONMENT = "aws_batch_compute_environment"
CPU, GPU = "ECS_AL2023", "ECS_AL2023_NVIDIA"
MODULE = """
variable "ami" { type = string }
variable "cpu_ami" { type = string }
variable "instance_role" { type = string }
variable "subnets" { type = list(string) }
variable "groups" { type = list(string) }

resource "aws_batch_compute_environment" "NAME" {
  type = "MANAGED"

  compute_resources {
    type                = "SPOT"
    allocation_strategy = "SPOT_CAPACITY_OPTIMIZED"
    instance_type       = ["g5.xlarge"]
    instance_role       = var.instance_role
    min_vcpus           = 0
    max_vcpus           = 8
    subnets             = var.subnets
    security_group_ids  = var.groups
CPU_BLOCK
    ec2_configuration {
      image_type        = "ECS_AL2023_NVIDIA"
      image_id_override = var.ami
    }
  }

  lifecycle { create_before_destroy = true }
}
"""
CPU_BLOCK = """
    ec2_configuration {
      image_type        = "ECS_AL2023"
      image_id_override = var.cpu_ami
    }
"""
ROOT = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {}

variable "gpu_ami_id" { type = string }
variable "subnet_ids" { type = list(string) }
variable "security_group_ids" { type = list(string) }

locals { role = "ROLE" }

module "video" {
  source        = "./modules/video"
  ami           = var.gpu_ami_id
  cpu_ami       = "THEIRS"
  instance_role = local.role
  subnets       = var.subnet_ids
  groups        = var.security_group_ids
}

resource "aws_batch_compute_environment" "cpu" {
  type = "MANAGED"
  compute_resources {
    type               = "EC2"
    allocation_strategy = "BEST_FIT_PROGRESSIVE"
    instance_type      = ["m5.large"]
    instance_role      = local.role
    min_vcpus          = 0
    max_vcpus          = 8
    subnets            = var.subnet_ids
    security_group_ids = var.security_group_ids
  }
}

resource "aws_batch_compute_environment" "theirs" {
  type = "MANAGED"
  compute_resources {
    type               = "EC2"
    allocation_strategy = "BEST_FIT_PROGRESSIVE"
    instance_type      = ["m5.large"]
    instance_role      = local.role
    min_vcpus          = 0
    max_vcpus          = 8
    subnets            = var.subnet_ids
    security_group_ids = var.security_group_ids
    ec2_configuration {
      image_type        = "ECS_AL2023"
      image_id_override = "THEIRS"
    }
  }
}

resource "aws_batch_compute_environment" "fargate" {
  type = "MANAGED"
  compute_resources {
    type               = "FARGATE"
    max_vcpus          = 8
    subnets            = var.subnet_ids
    security_group_ids = var.security_group_ids
  }
}
"""
BEFORE = """
resource "terraform_data" "forgotten" {}
"""
AFTER = """
moved {
  from = module.video.aws_batch_compute_environment.gpu
  to   = module.video.aws_batch_compute_environment.video
}

removed {
  from = terraform_data.forgotten
  lifecycle { destroy = false }
}

import {
  to = terraform_data.taken
  id = "taken"
}

resource "terraform_data" "taken" {}
"""
FORGETS = """
removed {
  from = aws_batch_compute_environment.fargate
  lifecycle { destroy = false }
}
"""


class Life:
    """The checkout, and what its commands said and printed."""

    def __init__(self, opened: Bench) -> None:
        """Look up what the root module names."""
        self.bench = opened
        self.out = io.StringIO()
        opened.run.console = Console("json", out=self.out, err=opened.err)
        self.role = opened.access.client("iam").list_instance_profiles()["InstanceProfiles"][0]["Arn"]
        self.ec2 = opened.access.client("ec2")
        filters = [
            {"Name": "tag:gpu-ami:family", "Values": [opened.run.settings.family]},
            {"Name": "state", "Values": ["available"]},
        ]
        found = self.ec2.describe_images(Owners=["self"], Filters=filters)["Images"]
        self.first, self.second, self.theirs = (image["ImageId"] for image in found[:3])
        self.ec2.delete_tags(Resources=[self.theirs], Tags=[{"Key": "gpu-ami:family"}])

    @property
    def run(self) -> Invocation:
        """The invocation."""
        return self.bench.run

    def write(self, *parts: str, name: str = "gpu", cpu_block: str = CPU_BLOCK, root: str = ROOT) -> None:
        """Write the root module."""
        folder = self.run.workspace.root / "terraform"
        module = MODULE.replace("NAME", name).replace("CPU_BLOCK", cpu_block)
        (folder / "modules" / "video").mkdir(parents=True, exist_ok=True)
        (folder / "modules" / "video" / "main.tf").write_text(module)
        text = "".join((root, *parts)).replace("ROLE", self.role).replace("THEIRS", self.theirs)
        (folder / "main.tf").write_text(text)

    def hand_over(self, ami: str) -> None:
        """Name the AMI."""
        file = self.run.workspace.terraform / "gpu-ami.auto.tfvars.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"gpu_ami_id": ami}))

    def did(self, act: Any, request: Any) -> dict[str, Any]:
        """Run a command; return its document, with what it said and the error that it ended with."""
        for stream in (self.out, self.bench.err):
            stream.truncate(stream.seek(0))
        error = ""
        try:
            act.run(self.run, request)
        except (TerraformError, DifferenceError) as exc:
            error = str(exc)
        lines = self.out.getvalue().splitlines()
        document = json.loads(lines[-1]) if lines else {}
        return {**document, "error": error, "said": self.bench.err.getvalue()}

    def amis(self) -> dict[str, str]:
        """Return image type to AMI of our environment, as Batch shows it."""
        (ours,) = [row for row in self.environments() if len(row["computeResources"].get("ec2Configuration", [])) == 2]
        return {row["imageType"]: row["imageIdOverride"] for row in ours["computeResources"]["ec2Configuration"]}

    def environments(self) -> list[dict[str, Any]]:
        """Return what Batch shows."""
        found = self.bench.access.client("batch").describe_compute_environments()["computeEnvironments"]
        return [row for row in found if row["computeEnvironmentName"].startswith("terraform-")]

    def receipts(self) -> list[dict[str, Any]]:
        """Return the receipts, the oldest first."""
        files = sorted((self.run.workspace.terraform / "receipts").glob("*.json"))
        return [json.loads(file.read_text()) for file in files]


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """A checkout whose root module is ours to write, and its sandbox."""
    with bench(tmp_path_factory.mktemp("environments") / "checkout") as opened:
        terraform = opened.run.workspace.root / "terraform"
        for file in [*terraform.rglob("*.tf"), *terraform.rglob("*.hcl")]:
            file.unlink()
        yield Life(opened)


@pytest.fixture(scope="module")
def seen(life: Life) -> dict[str, Any]:
    """What each step of the life said."""
    found: dict[str, Any] = {}
    life.write(BEFORE)
    life.hand_over(life.first)
    found["created"] = life.did(apply, apply.Request(yes=True))
    found["status"] = life.did(status, status.Request(skip=("next-build", "base", "manifest", "jobs")))

    life.write(AFTER, name="video")
    found["moved"] = life.did(apply, apply.Request(yes=True))

    life.hand_over(life.second)
    found["updated"] = life.did(apply, apply.Request(yes=True)) | {"amis": life.amis()}

    life.write(
        name="video", cpu_block="", root=ROOT.split('resource "aws_batch_compute_environment" "fargate"')[0] + FORGETS
    )
    found["replaced"] = life.did(plan, plan.Request())
    life.bench.gate.fail(
        "ClientException",
        "Cannot delete, found existing JobQueue relationship",
        service="batch",
        action="DeleteComputeEnvironment",
    )
    life.write(name="video", cpu_block="")
    address = f"module.video.{ENVIRONMENT}.video"
    found["left"] = life.did(apply, apply.Request(yes=True, allow_replace=(address,)))
    life.bench.gate.clear()
    found["deposed"] = life.did(plan, plan.Request(allow_replace=(address,)))
    name = next((row["name"] for row in found["deposed"].get("resources", []) if row["deposed"]), "")
    found["back"] = life.did(rollback, rollback.Request(yes=True, allow_deposed=(name,))) | {"old": name}
    return found


def test_only_the_environment_that_takes_the_variable_is_ours(life: Life, seen: dict[str, Any]) -> None:
    """The others take no AMI of ours: each was refused with advice that nobody can follow."""
    created = seen["created"]

    assert created["error"] == ""
    assert [change["address"] for change in life.receipts()[0]["changes"]] == [f"module.video.{ENVIRONMENT}.gpu"]
    assert {row["address"]: row["ours"] for row in created["environments"]} == {
        f"module.video.{ENVIRONMENT}.gpu": True,
        f"{ENVIRONMENT}.cpu": False,
        f"{ENVIRONMENT}.theirs": False,
        f"{ENVIRONMENT}.fargate": False,
    }
    assert created["said"].count("Left alone: ") == 1


def test_status_leaves_the_others_alone(life: Life, seen: dict[str, Any]) -> None:
    """Theirs was out of step for ever."""
    found = seen["status"]

    assert [row["address"] for row in found["environments"]] == [f"module.video.{ENVIRONMENT}.gpu"]
    assert found["environments"][0]["ami_id"] == life.first
    assert len(found["left_alone"]) == 3
    # The root module of this test has no launch template.
    assert {drift["code"] for drift in found["drift"]} <= {"not-hydrated", "image-differs", "baked-image-unknown"}


def test_what_moves_is_imported_or_let_go_of_is_named(seen: dict[str, Any]) -> None:
    """It was applied as "outputs only"."""
    moved = seen["moved"]

    assert moved["error"] == ""
    assert {word: number for word, number in moved["count"].items() if number} == {"forget": 1, "move": 1, "import": 1}
    assert {row["action"] for row in moved["resources"]} == {"forget", "move", "import"}
    assert "1 to forget, 1 to move, 1 to import" in moved["said"]


def test_both_image_types_are_read(life: Life, seen: dict[str, Any]) -> None:
    """The CPU type comes first, with an AMI of its own: it was compared with ours, and what became of ours unseen."""
    updated = seen["updated"]

    assert updated["error"] == ""
    assert updated["amis"] == {CPU: life.theirs, GPU: life.second}
    (ours,) = [row for row in updated["environments"] if row["ours"]]
    assert (ours["action"], ours["old_ami"], ours["new_ami"]) == ("update", life.first, life.second)
    (change,) = life.receipts()[2]["changes"]
    assert (change["old"], change["new"]) == (life.first, life.second)


def test_another_number_of_blocks_replaces_and_says_so(seen: dict[str, Any]) -> None:
    """Whatever role and strategy; and to let go of an environment asks as to destroy it."""
    findings = {finding["code"]: finding for finding in seen["replaced"]["findings"]}

    assert set(findings) == {"replaced", "forgotten"}
    assert "the number of ec2_configuration blocks, 2 and then 1" in findings["replaced"]["detail"]
    assert findings["forgotten"]["address"] == f"{ENVIRONMENT}.fargate"


def test_what_the_replacement_left_behind_has_its_own_permission(life: Life, seen: dict[str, Any]) -> None:
    """Batch refused to delete the old environment; --allow-replace of the live one is no word about it."""
    assert "found existing JobQueue relationship" in seen["left"]["error"]
    found = seen["deposed"]

    assert [finding["code"] for finding in found["findings"]] == ["deposed"]
    assert seen["back"]["old"].startswith("terraform-")
    assert f"--allow-deposed '{seen['back']['old']}'" in found["error"]
    assert found["count"]["delete-deposed"] == 1


def test_rollback_follows_the_renamed_environment(life: Life, seen: dict[str, Any]) -> None:
    """To the AMI of before, past the rename and the replacement; what was left behind is in no receipt."""
    back = seen["back"]

    assert back["error"] == ""
    assert back["old"] not in {row["computeEnvironmentName"] for row in life.environments()}
    (change,) = life.receipts()[-1]["changes"]
    assert (change["address"], change["old"], change["new"]) == (
        f"module.video.{ENVIRONMENT}.video",
        life.second,
        life.first,
    )
    assert [receipt["status"] for receipt in life.receipts()] == ["applied", "applied", "applied", "failed", "applied"]
