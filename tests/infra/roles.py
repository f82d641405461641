"""The roles of GitHub's workflows as Terraform would make them, and IAM's decision on them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpu_ami.aws.access import Access
from gpu_ami.tools import terraform_tools
from gpu_ami_sandbox.aws.policies import Attached, decide

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "terraform" / "modules" / "github-oidc"
VERIFY = ROOT / "terraform" / "modules" / "verify"
BENCH = ROOT / "terraform" / "modules" / "bench"
ACCOUNT, SEOUL = "123456789012", "ap-northeast-2"
ROLE = f"arn:aws:iam::{ACCOUNT}:role"
KEY = f"arn:aws:kms:{SEOUL}:{ACCOUNT}:key/abc-1"
SIGNING_KEY = f"arn:aws:kms:{SEOUL}:{ACCOUNT}:key/5160-1"
PURPOSES = ("plan", "build", "apply", "cleanup", "bench")
CALLER = f"""
provider "aws" {{}}

module "roles" {{
  source             = "{MODULE}"
  family             = "FAMILY"
  subject            = "repo:acme/video"
  create_provider    = false
  ecr_repository_arn = "arn:aws:ecr:{SEOUL}:{ACCOUNT}:repository/own"
  models_bucket      = "own-models"
  state_bucket       = "own-state"
  parameter_path     = "/gpu-ami"
  kms_key_arns       = ["{KEY}"]
  signing_key_arn    = "{SIGNING_KEY}"

  MORE
  allow_session_tunnel = true

  verify_instance_profile = "gpu-ami-verify"
  allow_bench             = true
  bench_policy_jsons      = [module.bench.caller_policy_json, module.verify.caller_policy_json]
  reader_role_arns   = ["arn:aws:iam::210987654321:role/reader"]
  pass_role_arns = {{
    builder   = "{ROLE}/gpu-batch-bake-1"
    instance  = "{ROLE}/gpu-batch-instance-1"
    execution = "{ROLE}/gpu-batch-exec-1"
    job       = "{ROLE}/gpu-batch-job-1"
  }}
}}

module "verify" {{
  source = "{VERIFY}"
  family = "FAMILY"
}}

module "bench" {{
  source             = "{BENCH}"
  family             = "FAMILY"
  instance_role_arn  = "{ROLE}/gpu-batch-instance-1"
  job_role_arns      = ["{ROLE}/gpu-batch-exec-1", "{ROLE}/gpu-batch-job-1"]
  log_group_name     = "/gpu-ami/FAMILY"
  ecr_repository_arn = "arn:aws:ecr:{SEOUL}:{ACCOUNT}:repository/own"
}}

output "caller" {{
  value = module.verify.caller_policy_json
}}

output "bencher" {{
  value = module.bench.caller_policy_json
}}
"""
OURS = {"aws:ResourceTag/gpu-ami:pipeline": ["gpu-ami-pipeline"]}
BUILDS = OURS | {"aws:ResourceTag/gpu-ami:run": ["20261101T000000Z-abcdef"]}
REQUESTED = {"aws:RequestTag/gpu-ami:pipeline": ["gpu-ami-pipeline"]}
EC2 = f"arn:aws:ec2:{SEOUL}"
IMAGE, SNAPSHOT = f"{EC2}::image/ami-1", f"{EC2}::snapshot/snap-1"
INSTANCE = f"{EC2}:{ACCOUNT}:instance/i-1"
TEMPLATE = f"{EC2}:{ACCOUNT}:launch-template/lt-1"
VOLUME = f"{EC2}:{ACCOUNT}:volume/vol-1"
REQUEST = f"{EC2}:{ACCOUNT}:spot-instances-request/sir-1"
COMPUTE = f"arn:aws:batch:{SEOUL}:{ACCOUNT}:compute-environment"


def planned_roles(access: Access, folder: Path, family: str = "gpu-batch", more: str = "") -> dict[str, Any]:
    """Return the modules' resources by address, planned for *family* with *more* in *folder* against the local AWS.

    Those of modules/verify keep their module's address; under ``caller`` is the policy of whoever verifies, under
    ``bencher`` that of whoever benches.
    """
    (folder / "main.tf").write_text(CALLER.replace("FAMILY", family).replace("MORE", more))
    tools = terraform_tools()
    env = access.child_environment({"CHECKPOINT_DISABLE": "1"})
    mirror = [f"-plugin-dir={tools.provider_mirror}"] if tools.provider_mirror else []
    for step in (("init", "-input=false", *mirror), ("plan", "-input=false", "-out=plan"), ("show", "-json", "plan")):
        done = subprocess.run(
            [str(tools.terraform.path), *step],
            cwd=folder,
            env={**env, "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    values = json.loads(done.stdout)["planned_values"]
    rows = [row for module in values["root_module"]["child_modules"] for row in module.get("resources", ())]
    found = {row["address"].removeprefix("module.roles."): row["values"] for row in rows}
    return found | {name: {"policy": values["outputs"][name]["value"]} for name in ("caller", "bencher")}


def policies_of(planned: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each role's policy document."""
    return {name: json.loads(planned[f'aws_iam_role_policy.this["{name}"]']["policy"]) for name in PURPOSES}


def may(
    document: Mapping[str, Any], action: str, resource: str = "*", context: Mapping[str, list[str]] | None = None
) -> bool:
    """Whether the policy allows it."""
    return decide([Attached("p", "role", document)], action, resource, context or {}).verdict == "allowed"
