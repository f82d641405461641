"""The roles of GitHub's workflows may what their jobs do, and nothing that is not ours."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.bake import variables
from gpu_ami.bake.checks.permissions import Scene, context, needed
from gpu_ami.bake.checks.wanted import wanted
from gpu_ami.sandbox.policies import Attached, decide
from gpu_ami.sandbox.session import Sandbox
from gpu_ami.tools import terraform_tools

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "terraform" / "modules" / "github-oidc"
AWS = ROOT / "scripts" / "gpu_ami" / "aws"
ACCOUNT, SEOUL = "123456789012", "ap-northeast-2"
ROLE = f"arn:aws:iam::{ACCOUNT}:role"
KEY = f"arn:aws:kms:{SEOUL}:{ACCOUNT}:key/abc-1"
PURPOSES = ("plan", "build", "apply", "cleanup")
CALLER = f"""
provider "aws" {{}}

module "roles" {{
  source             = "{MODULE}"
  family             = "gpu-batch"
  subject            = "repo:acme/video"
  create_provider    = false
  ecr_repository_arn = "arn:aws:ecr:{SEOUL}:{ACCOUNT}:repository/own"
  models_bucket      = "own-models"
  state_bucket       = "own-state"
  parameter_path     = "/gpu-ami"
  kms_key_arns       = ["{KEY}"]

  allow_session_tunnel = true
  reader_role_arns   = ["arn:aws:iam::210987654321:role/reader"]
  pass_role_arns = {{
    builder   = "{ROLE}/gpu-batch-bake-1"
    instance  = "{ROLE}/gpu-batch-instance-1"
    execution = "{ROLE}/gpu-batch-exec-1"
    job       = "{ROLE}/gpu-batch-job-1"
  }}
}}
"""
OURS = {"aws:ResourceTag/gpu-ami:pipeline": ["gpu-ami-pipeline"]}
BUILDS = OURS | {"aws:ResourceTag/gpu-ami:run": ["20261101T000000Z-abcdef"]}
REQUESTED = {"aws:RequestTag/gpu-ami:pipeline": ["gpu-ami-pipeline"]}
EC2 = f"arn:aws:ec2:{SEOUL}"
IMAGE, SNAPSHOT = f"{EC2}::image/ami-1", f"{EC2}::snapshot/snap-1"
INSTANCE = f"{EC2}:{ACCOUNT}:instance/i-1"
TEMPLATE = f"{EC2}:{ACCOUNT}:launch-template/lt-1"
# What is removed or changed, by the last words of the call's name.
RESOURCES = {
    "image": IMAGE,
    "image_deprecation": IMAGE,
    "image_attribute": IMAGE,
    "image_from_recycle_bin": IMAGE,
    "snapshot_from_recycle_bin": SNAPSHOT,
    "snapshot": SNAPSHOT,
    "tags": IMAGE,
    "instances": INSTANCE,
    "volume": f"{EC2}:{ACCOUNT}:volume/vol-1",
    "security_group": f"{EC2}:{ACCOUNT}:security-group/sg-1",
    "key_pair": f"{EC2}:{ACCOUNT}:key-pair/packer",
    "launch_template": TEMPLATE,
}

pytestmark = pytest.mark.infra


@pytest.fixture(scope="module")
def planned(local_aws: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The resources as Terraform would make them, by address."""
    folder = tmp_path_factory.mktemp("roles")
    (folder / "main.tf").write_text(CALLER)
    tools = terraform_tools()
    env = local_aws.access.child_environment({"CHECKPOINT_DISABLE": "1"})
    mirror = [f"-plugin-dir={tools.provider_mirror}"] if tools.provider_mirror else []
    for words in (("init", "-input=false", *mirror), ("plan", "-input=false", "-out=plan"), ("show", "-json", "plan")):
        done = subprocess.run(
            [str(tools.terraform.path), *words],
            cwd=folder,
            env={**env, "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    (module,) = json.loads(done.stdout)["planned_values"]["root_module"]["child_modules"]
    return {row["address"].removeprefix("module.roles."): row["values"] for row in module["resources"]}


@pytest.fixture(scope="module")
def policies(planned: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each role's policy document."""
    return {name: json.loads(planned[f'aws_iam_role_policy.this["{name}"]']["policy"]) for name in PURPOSES}


def may(
    document: Mapping[str, Any], action: str, resource: str = "*", context: Mapping[str, list[str]] | None = None
) -> bool:
    """Whether the policy allows it."""
    return decide([Attached("p", "role", document)], action, resource, context or {}).verdict == "allowed"


def calls(*places: str) -> set[tuple[str, str]]:
    """Return the API calls that the code in *places* names: service and operation, in boto3's words."""
    files = [
        file for place in places for file in ([AWS / place] if place.endswith(".py") else (AWS / place).glob("*.py"))
    ]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    services = "autoscaling|batch|ec2|ecs|iam|imagebuilder|rbin|ssm"
    found = set(re.findall(rf'"({services})",\s*"([a-z]+_[a-z_]+)"', text))
    found |= {("iam", name) for name in re.findall(r'_iam_pages\(caller, "(\w+)"', text)}
    return found


def action(service: str, operation: str) -> str:
    """Return what IAM calls an operation."""
    return f"{service}:{''.join(word.capitalize() for word in operation.split('_'))}"


def is_reading(operation: str) -> bool:
    """Whether an operation changes nothing."""
    return operation.startswith(("describe_", "list_", "get_"))


CLEANING = sorted(calls("changes.py", "leftovers.py", "recyclebin.py", "images.py", "regions.py", "references"))


def test_the_code_was_read() -> None:
    """An empty list of calls would make every test below pass."""
    assert len(CLEANING) > 30
    assert {("ec2", "deregister_image"), ("rbin", "list_rules"), ("iam", "list_instance_profiles")} <= set(CLEANING)


@pytest.mark.parametrize(("service", "operation"), [call for call in CLEANING if is_reading(call[1])])
def test_cleanup_may_read_whatever_it_asks(policies: dict[str, Any], service: str, operation: str) -> None:
    """One read that is denied stops the whole clean-up: what cannot be read counts as needed."""
    resource = {"ssm": f"arn:aws:ssm:{SEOUL}:{ACCOUNT}:parameter/x"}.get(service, "*")
    if service == "iam" and operation != "list_instance_profiles":
        resource = f"{ROLE}/packer-1" if "role" in operation else f"arn:aws:iam::{ACCOUNT}:instance-profile/packer-1"
    names = ("cleanup",) if service == "iam" else ("plan", "cleanup")
    asked = "ssm:DescribeParameters" if operation == "describe_parameters" else action(service, operation)

    for name in names:
        assert may(policies[name], asked, "*" if asked == "ssm:DescribeParameters" else resource), name


@pytest.mark.parametrize(
    ("service", "operation"), [call for call in CLEANING if not is_reading(call[1]) and call[0] == "ec2"]
)
def test_cleanup_changes_what_is_ours_and_nothing_else(policies: dict[str, Any], service: str, operation: str) -> None:
    """The tag is the last line: whatever the code decides, another team's AMI stays."""
    resource = RESOURCES[operation.partition("_")[2]]
    sweeps = "::" not in resource.removeprefix("arn:aws:")
    asked = action(service, operation)

    assert may(policies["cleanup"], asked, resource, BUILDS if sweeps else OURS)
    assert not may(policies["cleanup"], asked, resource)
    if sweeps:
        assert not may(policies["cleanup"], asked, resource, OURS), "Batch's own instances carry this tag"


@pytest.mark.parametrize(
    ("service", "operation"), [call for call in CLEANING if not is_reading(call[1]) and call[0] == "iam"]
)
def test_cleanup_removes_packers_roles_and_no_others(policies: dict[str, Any], service: str, operation: str) -> None:
    """A role that may delete roles must not be able to delete an administrator's."""
    kind = "instance-profile" if "profile" in operation else "role"

    for name, allowed in (("packer-64a1", True), ("admin", False), ("my-packer-1", False)):
        resource = f"arn:aws:iam::{ACCOUNT}:{kind}/{name}"
        assert may(policies["cleanup"], action(service, operation), resource) is allowed


def test_nobody_can_make_something_ours_by_tagging_it(policies: dict[str, Any]) -> None:
    """A tag that opens the door must not be for the taking."""
    for name in PURPOSES:
        for resource in (IMAGE, SNAPSHOT, INSTANCE, TEMPLATE):
            assert not may(policies[name], "ec2:CreateTags", resource, REQUESTED), (name, resource)


def test_plan_changes_nothing_but_the_lock(policies: dict[str, Any]) -> None:
    """Every pull request of the repository can have this role."""
    reading = re.compile(r"\w+:(Describe|List|Get)\w*\*?|sts:AssumeRole")
    changing = {
        (name, resource)
        for statement in policies["plan"]["Statement"]
        for name in _listed(statement["Action"])
        for resource in _listed(statement["Resource"])
        if not reading.fullmatch(name)
    }

    assert changing == {
        (f"s3:{verb}Object", "arn:aws:s3:::own-state/gpu-ami/terraform.tfstate.tflock") for verb in ("Put", "Delete")
    }


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def test_a_build_may_whatever_the_doctor_says_that_it_needs(policies: dict[str, Any]) -> None:
    """On Spot, with copies, sharing, a key and a tunnel; the doctor's list was read off Packer's real calls."""
    asked = {
        "ecr_repository_url": f"{ACCOUNT}.dkr.ecr.{SEOUL}.amazonaws.com/own",
        "subnet_id": "subnet-0123456789abcdef0",
        "iam_instance_profile": "gpu-batch-bake-1",
        "ssh_interface": "session_manager",
        "spot": True,
        "ami_regions": ["us-east-1"],
        "ami_users": [ACCOUNT],
    }
    bake = wanted(variables.template_defaults(ROOT / "packer") | asked)
    scene = Scene(ACCOUNT, SEOUL, "aws")
    parts = needed(bake, scene, role=f"{ROLE}/gpu-batch-bake-1", key=KEY)
    asking = context(scene, {"gpu-ami:pipeline": "gpu-ami-pipeline", "gpu-ami:run": "doctor"})
    held = [Attached("p", "role", policies["build"])]

    refused = [
        name
        for part in parts
        for name in part.actions
        if decide(held, name, None if part.resource == "*" else part.resource, asking).verdict != "allowed"
    ]

    assert {part.part for part in parts} >= {"look-ups", "builder", "AMI", "temporary group", "session", "key"}
    assert refused == []


def test_a_build_launches_only_what_it_tags(policies: dict[str, Any]) -> None:
    """An instance without the tags would never be swept."""
    build = policies["build"]

    assert may(build, "ec2:RunInstances", INSTANCE, REQUESTED)
    assert not may(build, "ec2:RunInstances", INSTANCE)
    assert may(build, "ec2:RunInstances", f"{EC2}:{ACCOUNT}:subnet/subnet-1")
    assert may(build, "ec2:CreateTags", INSTANCE, {"ec2:CreateAction": ["RunInstances"]})


@pytest.mark.parametrize("asked", ["ec2:TerminateInstances", "ec2:StopInstances", "ec2:ModifyInstanceAttribute"])
def test_a_build_ends_builders_and_not_batchs_instances(policies: dict[str, Any], asked: str) -> None:
    """Both carry the pipeline's tag; only a builder carries a run."""
    assert may(policies["build"], asked, INSTANCE, BUILDS)
    assert not may(policies["build"], asked, INSTANCE, OURS)


def test_a_build_takes_back_only_what_is_not_applied(policies: dict[str, Any]) -> None:
    """Packer removes the image of a build that fails; the live one must be out of its reach."""
    for handover, allowed in (("pending", True), ("applied", False)):
        context = BUILDS | {"aws:ResourceTag/gpu-ami:handover": [handover]}
        assert may(policies["build"], "ec2:DeregisterImage", IMAGE, context) is allowed
        assert may(policies["build"], "ec2:DeleteSnapshot", SNAPSHOT, context) is allowed
    assert may(policies["build"], "ec2:DeregisterImage", IMAGE, BUILDS)


def test_a_build_asks_iam_about_the_builder_and_not_about_itself(policies: dict[str, Any]) -> None:
    """A simulation knows no tags of a request: the doctor would take what is allowed for denied, and stop the build."""
    for name, allowed in (("gpu-batch-bake-1", True), ("gpu-batch-github-build", False)):
        assert may(policies["build"], "iam:SimulatePrincipalPolicy", f"{ROLE}/{name}") is allowed


def test_sessions_last_as_long_as_the_workflows_ask(planned: Mapping[str, Any]) -> None:
    """A role that allows less refuses the sign-in; without asking, an hour ends a bake in the middle."""
    workflows = "".join(file.read_text() for file in sorted((ROOT / ".github" / "workflows").glob("*.yml")))
    asked = re.findall(r"vars\.GPU_AMI_(\w+)_ROLE }}\n +role-duration-seconds: (\d+)", workflows)

    assert {purpose.lower() for purpose, _ in asked} == {"build", "apply", "cleanup"}
    for purpose, seconds in asked:
        assert planned[f'aws_iam_role.this["{purpose.lower()}"]']["max_session_duration"] == int(seconds)


@pytest.mark.parametrize(
    ("purpose", "role", "service", "allowed"),
    [
        ("build", "gpu-batch-bake-1", "ec2.amazonaws.com", True),
        ("build", "gpu-batch-bake-1", "lambda.amazonaws.com", False),
        ("build", "gpu-batch-job-1", "ec2.amazonaws.com", False),
        ("build", "admin", "ec2.amazonaws.com", False),
        ("apply", "gpu-batch-instance-1", "ec2.amazonaws.com", True),
        ("apply", "gpu-batch-job-1", "ecs-tasks.amazonaws.com", True),
        ("apply", "gpu-batch-job-1", "ec2.amazonaws.com", False),
        ("apply", "admin", "ecs-tasks.amazonaws.com", False),
        ("plan", "gpu-batch-job-1", "ecs-tasks.amazonaws.com", False),
        ("cleanup", "gpu-batch-bake-1", "ec2.amazonaws.com", False),
    ],
)
def test_roles_are_passed_only_to_their_services(
    policies: dict[str, Any], purpose: str, role: str, service: str, allowed: bool
) -> None:
    """Who may pass any role has all of them."""
    context = {"iam:PassedToService": [service]}

    assert may(policies[purpose], "iam:PassRole", f"{ROLE}/{role}", context) is allowed


@pytest.mark.parametrize(
    "asked", ["UpdateComputeEnvironment", "DeleteComputeEnvironment", "UpdateJobQueue", "DeleteJobQueue"]
)
def test_apply_changes_our_batch_and_nobody_elses(policies: dict[str, Any], asked: str) -> None:
    """Other teams run environments in the same account."""
    resource = f"arn:aws:batch:{SEOUL}:{ACCOUNT}:compute-environment/terraform-1"

    assert may(policies["apply"], f"batch:{asked}", resource, OURS)
    assert not may(policies["apply"], f"batch:{asked}", resource)


def test_apply_marks_an_ami_as_applied_and_no_more(policies: dict[str, Any]) -> None:
    """The pipeline's own tag and the family must not be its to change."""
    asked = ("ec2:CreateTags", IMAGE)

    assert may(policies["apply"], *asked, OURS | {"aws:TagKeys": ["gpu-ami:handover"]})
    assert not may(policies["apply"], *asked, OURS | {"aws:TagKeys": ["gpu-ami:handover", "gpu-ami:keep"]})


@pytest.mark.parametrize("purpose", PURPOSES)
def test_no_role_can_widen_itself(policies: dict[str, Any], purpose: str) -> None:
    """Who may write a policy may do anything."""
    for asked in ("CreateRole", "PutRolePolicy", "AttachRolePolicy", "UpdateAssumeRolePolicy", "CreateUser"):
        for resource in (f"{ROLE}/gpu-batch-github-{purpose}", f"{ROLE}/packer-1", "*"):
            assert not may(policies[purpose], f"iam:{asked}", resource)
    for statement in policies[purpose]["Statement"]:
        assert statement["Effect"] == "Allow"
        assert not [name for name in _listed(statement["Action"]) if re.fullmatch(r"\*|\w+:\*", name)]


@pytest.mark.parametrize("purpose", PURPOSES)
def test_only_the_exact_jobs_sign_in(planned: Mapping[str, Any], purpose: str) -> None:
    """A pattern in a subject lets in a branch or a repository of somebody else's choosing."""
    (statement,) = json.loads(planned[f'aws_iam_role.this["{purpose}"]']["assume_role_policy"])["Statement"]
    wanted = {
        "plan": ["pull_request", "ref:refs/heads/main", "environment:gpu-ami-build"],
        "build": ["environment:gpu-ami-build"],
        "apply": ["environment:gpu-ami-apply"],
        "cleanup": ["environment:gpu-ami-cleanup", "environment:gpu-ami-sweep"],
    }

    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert set(statement["Condition"]) == {"StringEquals"}
    condition = statement["Condition"]["StringEquals"]
    assert condition["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"
    assert _listed(condition["token.actions.githubusercontent.com:sub"]) == [
        f"repo:acme/video:{end}" for end in wanted[purpose]
    ]


def test_the_environments_are_the_workflows(planned: Mapping[str, Any]) -> None:
    """A role that waits for another environment than the workflow's never signs anybody in."""
    workflows = "".join(file.read_text() for file in (ROOT / ".github" / "workflows").glob("*.yml"))
    used = set(re.findall(r"^ +environment: (\S+)$", workflows, re.MULTILINE))
    trusted = "".join(str(row.get("assume_role_policy", "")) for row in planned.values())

    assert used == set(re.findall(r"environment:([\w-]+)", trusted))


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_role_fits_into_iam(policies: dict[str, Any], purpose: str) -> None:
    """IAM takes 10,240 characters of inline policies a role."""
    assert len(json.dumps(policies[purpose], separators=(",", ":"))) < 9_000
