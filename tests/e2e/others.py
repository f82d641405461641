"""More of a root module than the pipeline brings: an environment of ours with two image types, and three of others."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from gpu_ami.tools import terraform_tools
from gpu_ami_sandbox.aws.base_image import base_image_id
from gpu_ami_sandbox.session import Sandbox

REGION = "ap-northeast-2"
ENVIRONMENT = "aws_batch_compute_environment"
# Ours is at the first address, and then at the second.
BEFORE, AFTER = f"{ENVIRONMENT}.video", f"{ENVIRONMENT}.clips"
FARGATE = f"{ENVIRONMENT}.fargate"
OTHERS = {FARGATE: "Fargate takes no AMI"} | {
    f"{ENVIRONMENT}.{name}": "it does not take var.gpu_ami_id" for name in ("cpu", "theirs")
}
OURS, OLD = "video", "video-old"
CPU, GPU = "ECS_AL2023", "ECS_AL2023_NVIDIA"
THEIRS = base_image_id(REGION)
_CPU_BLOCK = f"""
    ec2_configuration {{
      image_type        = "{CPU}"
      image_id_override = "{THEIRS}"
    }}
"""
_GPU_BLOCK = f"""
    ec2_configuration {{
      image_type        = "{GPU}"
      image_id_override = var.gpu_ami_id
    }}
    launch_template {{
      launch_template_id = aws_launch_template.own.id
      version            = aws_launch_template.own.latest_version
    }}
"""
_ENVIRONMENT = """
resource "aws_batch_compute_environment" "%(label)s" {
  compute_environment_name = "%(name)s"
  type                     = "MANAGED"

  compute_resources {
    type                = "%(type)s"
    max_vcpus           = 8
    subnets             = local.subnet_ids
    security_group_ids  = local.security_group_ids
    %(more)s
  }

  update_policy {
    job_execution_timeout_minutes = 30
    terminate_jobs_on_update      = false
  }
}
"""
_ON_EC2 = """
    allocation_strategy = "BEST_FIT_PROGRESSIVE"
    instance_type       = ["g5.xlarge"]
    instance_role       = "%s"
    min_vcpus           = 0
"""
_TEMPLATE = """
resource "aws_launch_template" "own" {
  name = "own"

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size                = 40
      volume_initialization_rate = 300
    }
  }
}
"""
_LIFE = {
    "first": 'resource "terraform_data" "forgotten" {}\n',
    "second": """
moved {
  from = aws_batch_compute_environment.video
  to   = aws_batch_compute_environment.clips
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
""",
}
_LETS_GO = """
removed {
  from = aws_batch_compute_environment.fargate
  lifecycle { destroy = false }
}
"""


class Others:
    """What is added to the root module in *main*, a state after the other."""

    def __init__(self, main: Path, sandbox: Sandbox) -> None:
        """Take the root module as it is, and a role of the demo account."""
        self.main, self.text = main, main.read_text(encoding="utf-8")
        self.role = sandbox.access.client("iam").list_instance_profiles()["InstanceProfiles"][0]["Arn"]

    def write(self, step: str, *, blocks: str = _CPU_BLOCK + _GPU_BLOCK, lets_go: bool = False) -> None:
        """Write the root module as it is at *step*."""
        label = {"first": BEFORE, "second": AFTER}[step].split(".")[1]
        made = [
            self._environment(label, OURS, blocks),
            self._environment("cpu", "cpu", ""),
            self._environment("theirs", "theirs", _CPU_BLOCK),
            _LETS_GO
            if lets_go
            else _ENVIRONMENT % {"label": "fargate", "name": "fargate", "type": "FARGATE", "more": ""},
        ]
        self.main.write_text("\n".join([self.text, _TEMPLATE, _LIFE[step], *made]), encoding="utf-8")
        subprocess.run([terraform_tools().terraform.path, "fmt", self.main], check=True, stdout=subprocess.DEVNULL)

    def write_refused(self) -> None:
        """Write it so that ours would be replaced, for its second image type, and the Fargate one be let go of."""
        self.write("second", blocks=_GPU_BLOCK, lets_go=True)

    def _environment(self, label: str, name: str, more: str) -> str:
        return _ENVIRONMENT % {"label": label, "name": name, "type": "EC2", "more": _ON_EC2 % self.role + more}


def leave_behind(state: Path, sandbox: Sandbox) -> None:
    """Leave an old environment of ours behind, as a replacement does when Batch refuses to delete the old one."""
    batch = sandbox.access.client("batch")
    (ours,) = batch.describe_compute_environments(computeEnvironments=[OURS])["computeEnvironments"]
    made = batch.create_compute_environment(
        computeEnvironmentName=OLD, type="MANAGED", computeResources=ours["computeResources"]
    )
    document = json.loads(state.read_text(encoding="utf-8"))
    resource = next(row for row in document["resources"] if (row["type"], row["name"]) == (ENVIRONMENT, "clips"))
    (live,) = resource["instances"]
    old = json.loads(json.dumps(live).replace(live["attributes"]["arn"], made["computeEnvironmentArn"]))
    old["attributes"] |= {"compute_environment_name": OLD, "id": OLD}
    resource["instances"] = [live, old | {"deposed": "0a1b2c3d"}]
    document["serial"] += 1
    state.write_text(json.dumps(document), encoding="utf-8")
