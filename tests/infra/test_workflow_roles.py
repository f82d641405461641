"""The roles of GitHub's workflows may what their jobs do, and nothing that is not ours."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.bake import template
from gpu_ami.bake.checks.permissions import Scene, context, needed
from gpu_ami.bake.variables import typed
from gpu_ami_sandbox.aws.policies import Attached, decide
from gpu_ami_sandbox.session import Sandbox
from tests.infra.roles import (
    ACCOUNT,
    BUILDS,
    COMPUTE,
    EC2,
    IMAGE,
    INSTANCE,
    KEY,
    OURS,
    PURPOSES,
    REQUEST,
    REQUESTED,
    ROLE,
    ROOT,
    SEOUL,
    SIGNING_KEY,
    SNAPSHOT,
    TEMPLATE,
    VOLUME,
    may,
    planned_roles,
    policies_of,
)


def test_nobody_can_make_something_ours_by_tagging_it(policies: dict[str, Any]) -> None:
    """A tag that grants access must not be anybody's to set."""
    for name in PURPOSES:
        for resource in (IMAGE, SNAPSHOT, INSTANCE, TEMPLATE):
            assert not may(policies[name], "ec2:CreateTags", resource, REQUESTED), (name, resource)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_role_s_policy_is_no_longer_than_iam_takes(policies: dict[str, Any], purpose: str) -> None:
    """10,240 characters without white space, says IAM's quota of a role's inline policies; more fails at the apply."""
    assert len(json.dumps(policies[purpose], separators=(",", ":"))) <= 10_240


def test_plan_changes_nothing_but_the_lock(policies: dict[str, Any]) -> None:
    """Every pull request of the repository can have this role."""
    reading = re.compile(r"[\w-]+:(BatchGet|Describe|List|Get)\w*\*?|sts:AssumeRole")
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


def test_archives_lie_beside_the_receipts_and_never_among_them(policies: dict[str, Any]) -> None:
    """Whoever builds writes its own archive, and no receipt: those say what was applied. Whoever plans reads both."""
    bucket = "arn:aws:s3:::own-state/gpu-ami"
    bill, receipt = f"{bucket}/builds/ami-0123456789abcdef0/bill.cdx.json", f"{bucket}/receipts/x.json"

    assert {name for name in ("plan", "build", "apply") if may(policies[name], "s3:PutObject", bill)} == {
        "build",
        "apply",
    }
    assert not may(policies["build"], "s3:PutObject", receipt)
    assert all(may(policies["plan"], "s3:GetObject", resource) for resource in (bill, receipt))


def test_a_build_signs_and_whoever_reads_verifies(policies: dict[str, Any]) -> None:
    """Packer asks for the key's description, too, to sign and to verify: without it KMS refuses after the bake."""
    assert may(policies["build"], "kms:Sign", SIGNING_KEY)
    for name in ("plan", "build", "apply"):
        for action in ("kms:GetPublicKey", "kms:DescribeKey"):
            assert may(policies[name], action, SIGNING_KEY), (name, action)
    for name in set(PURPOSES) - {"build"}:
        assert not may(policies[name], "kms:Sign", SIGNING_KEY), name
    assert not may(policies["build"], "kms:Sign", KEY)


def test_a_plan_reads_the_roles_of_a_family_with_a_long_name(local_aws: Sandbox, tmp_path: Path) -> None:
    """Names that AWS ends are cut at 26 characters, these are not; one role that cannot be read stops every plan."""
    planned = planned_roles(local_aws.access, tmp_path, family="gpu-batch-video-analysis-seoul")
    plan = policies_of(planned)["plan"]
    roles = [planned[f'aws_iam_role.this["{purpose}"]']["name"] for purpose in PURPOSES]

    assert roles[0] == "gpu-batch-video-analysis-seoul-github-plan"
    for name in (*roles, "gpu-batch-video-analysis-s-job-1"):
        assert may(plan, "iam:GetRole", f"{ROLE}/{name}"), name
        assert may(plan, "iam:GetRolePolicy", f"{ROLE}/{name}"), name
    assert not may(plan, "iam:GetRole", f"{ROLE}/admin")


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def test_a_build_may_whatever_the_doctor_says_that_it_needs(copying: dict[str, Any]) -> None:
    """All that a bake can need; the doctor's list was read off Packer's real calls."""
    variables = {
        "ecr_repository_url": f"{ACCOUNT}.dkr.ecr.{SEOUL}.amazonaws.com/own",
        "subnet_id": "subnet-0123456789abcdef0",
        "iam_instance_profile": "gpu-batch-bake-1",
        "ssh_interface": "session_manager",
        "spot": True,
        "deregistration_protection": "on",
        "ami_regions": ["us-east-1"],
        "ami_users": [ACCOUNT],
    }
    bake = typed(template.template_defaults(ROOT / "packer") | variables)
    scene = Scene(ACCOUNT, SEOUL, "aws")
    parts = needed(bake, scene, role=f"{ROLE}/gpu-batch-bake-1", key=KEY)
    tags = {"gpu-ami:pipeline": "gpu-ami-pipeline", "gpu-ami:run": "doctor"}
    held = [Attached("p", "role", copying)]

    refused = [
        (name, part)
        for part in parts
        for name in part.actions
        if decide(held, name, None if part.resource == "*" else part.resource, context(scene, tags, part)).verdict
        != "allowed"
    ]

    assert {part.part for part in parts} >= {"look-ups", "builder", "AMI", "temporary group", "session", "key"}
    assert "ec2:EnableImageDeregistrationProtection" in {name for part in parts for name in part.actions}
    assert refused == []


@pytest.mark.parametrize("action", ["ecr:DescribeImages", "ecr:GetLifecyclePolicy", "ec2:GetAllowedImagesSettings"])
def test_a_build_may_look_at_what_the_doctor_skips_without(policies: dict[str, Any], action: str) -> None:
    """A skipped check fails nothing, so nobody would notice that the module's own role has it skipped each time."""
    repository = f"arn:aws:ecr:{SEOUL}:{ACCOUNT}:repository/own"
    on = repository if action.startswith("ecr:") else "*"

    assert may(policies["build"], action, on)
    assert not may(policies["build"], action.replace("Get", "Put").replace("Describe", "Put"), on)
    assert not may(policies["build"], "ecr:GetLifecyclePolicy", repository.replace("/own", "/other"))


def test_a_build_launches_only_what_it_tags(policies: dict[str, Any]) -> None:
    """An instance without the tags would never be swept."""
    build = policies["build"]

    assert may(build, "ec2:RunInstances", INSTANCE, REQUESTED)
    assert not may(build, "ec2:RunInstances", INSTANCE)
    assert may(build, "ec2:RunInstances", f"{EC2}:{ACCOUNT}:subnet/subnet-1")
    assert may(build, "ec2:CreateTags", INSTANCE, {"ec2:CreateAction": ["RunInstances"]})


@pytest.mark.parametrize("kind", ["instance", "volume"])
def test_a_spot_build_tags_once_more_what_carries_a_run(policies: dict[str, Any], kind: str) -> None:
    """After CreateFleet the plugin calls CreateTags by itself, which has no ec2:CreateAction."""
    resource = {"instance": INSTANCE, "volume": VOLUME}[kind]
    sent = REQUESTED | {"aws:RequestTag/gpu-ami:run": ["20261101T000000Z-abcdef"]}

    assert may(policies["build"], "ec2:CreateTags", resource, BUILDS | sent)
    assert not may(policies["build"], "ec2:CreateTags", resource, OURS | sent), "Batch's own carry this tag"
    assert not may(policies["build"], "ec2:CreateTags", resource, sent)


def test_a_spot_build_tags_its_request(policies: dict[str, Any]) -> None:
    """It is the one thing of a build that comes untagged; and no role has a use for another's."""
    assert may(policies["build"], "ec2:CreateTags", REQUEST, REQUESTED)
    assert not may(policies["build"], "ec2:CreateTags", REQUEST)
    for name in PURPOSES:
        everything = OURS | BUILDS | REQUESTED
        for operation in ("CancelSpotInstanceRequests", "DeleteTags"):
            assert not may(policies[name], f"ec2:{operation}", REQUEST, everything), (name, operation)


@pytest.mark.parametrize("kind", ["fleet", "instance", "key-pair", "launch-template", "network-interface", "volume"])
def test_a_fleet_may_use_all_that_a_launch_template_names(policies: dict[str, Any], kind: str) -> None:
    """EC2 checks the fleet itself and the launch behind it; what a fleet makes has its tags from the template."""
    assert may(policies["build"], "ec2:CreateFleet", f"{EC2}:{ACCOUNT}:{kind}/x-1")
    assert may(policies["build"], "ec2:CreateFleet", SNAPSHOT)
    assert may(policies["build"], "ec2:RunInstances", REQUEST)


def test_without_spot_a_build_may_nothing_for_it(local_aws: Sandbox, tmp_path: Path) -> None:
    """allow_spot_builds = false closes the second way to launch and the second way to tag."""
    build = policies_of(planned_roles(local_aws.access, tmp_path, more="allow_spot_builds = false"))["build"]

    assert not may(build, "ec2:CreateFleet", INSTANCE, REQUESTED)
    assert not may(build, "ec2:RunInstances", REQUEST, REQUESTED)
    for resource in (REQUEST, INSTANCE, VOLUME):
        assert not may(build, "ec2:CreateTags", resource, BUILDS | REQUESTED)


def test_a_copys_snapshots_are_tagged_only_where_the_ami_is_copied_to(
    policies: dict[str, Any], copying: dict[str, Any]
) -> None:
    """They come without tags, and without ami_regions nobody may tag what has none."""
    there = SNAPSHOT.replace(SEOUL, "us-east-1")
    elsewhere = SNAPSHOT.replace(SEOUL, "eu-west-1")
    tagged_by_others = {"aws:ResourceTag/gpu-ami:pipeline": ["another"]}

    for resource in (there, SNAPSHOT):  # its own region too: with named keys the AMI is made a second time there
        assert may(copying, "ec2:CreateTags", resource, REQUESTED)
        assert not may(copying, "ec2:CreateTags", resource)
        assert not may(copying, "ec2:CreateTags", resource, REQUESTED | tagged_by_others)
        assert not may(policies["build"], "ec2:CreateTags", resource, REQUESTED)
    assert not may(copying, "ec2:CreateTags", elsewhere, REQUESTED)
    assert not may(copying, "ec2:CreateTags", IMAGE.replace(SEOUL, "us-east-1"), REQUESTED), (
        "an image's tags come along"
    )


def test_a_copy_is_asked_for_without_tags(policies: dict[str, Any], copying: dict[str, Any]) -> None:
    """The plugin's CopyImage has no TagSpecifications, and CopyImageTags is no tag of the request."""
    for resource in (IMAGE, SNAPSHOT, *(arn.replace(SEOUL, "us-east-1") for arn in (IMAGE, SNAPSHOT))):
        for region, allowed in (("us-east-1", True), ("eu-west-1", False)):
            condition = {"aws:RequestedRegion": [region]}
            assert may(copying, "ec2:CopyImage", resource, condition) is allowed
            assert not may(policies["build"], "ec2:CopyImage", resource, BUILDS | REQUESTED | condition)


@pytest.mark.parametrize("action", ["ec2:TerminateInstances", "ec2:StopInstances", "ec2:ModifyInstanceAttribute"])
def test_a_build_ends_builders_and_not_batchs_instances(policies: dict[str, Any], action: str) -> None:
    """Both carry the pipeline's tag; only a builder carries a run."""
    assert may(policies["build"], action, INSTANCE, BUILDS)
    assert not may(policies["build"], action, INSTANCE, OURS)


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
    sessions = re.findall(r"vars\.GPU_AMI_(\w+)_ROLE }}\n +role-duration-seconds: (\d+)", workflows)

    assert {purpose.lower() for purpose, _ in sessions} == {"build", "apply", "bench", "cleanup", "fleet_cleanup"}
    hub = (ROOT / "terraform" / "modules" / "fleet-hub" / "main.tf").read_text()
    for purpose, seconds in sessions:
        if purpose.startswith("FLEET_"):
            assert re.findall(r"max_session_duration = (\d+)", hub) == [seconds]
            continue
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
    "operation", ["UpdateComputeEnvironment", "DeleteComputeEnvironment", "UpdateJobQueue", "DeleteJobQueue"]
)
def test_apply_changes_our_batch_and_nobody_elses(policies: dict[str, Any], operation: str) -> None:
    """Other teams run environments in the same account."""
    resource = f"arn:aws:batch:{SEOUL}:{ACCOUNT}:compute-environment/terraform-1"

    assert may(policies["apply"], f"batch:{operation}", resource, OURS)
    assert not may(policies["apply"], f"batch:{operation}", resource)


@pytest.mark.parametrize(
    ("resource", "allowed"),
    [
        (f"{COMPUTE}/terraform-20261101000000000000000001", True),  # the provider's own names
        (f"{COMPUTE}/another-teams", False),
        (COMPUTE.replace("compute-environment", "job-queue/gpu-batch"), True),
        (COMPUTE.replace("compute-environment", "job-queue/gpu-batch-2"), False),
        (COMPUTE.replace("compute-environment", "job-definition/gpu-batch"), True),
        (COMPUTE.replace("compute-environment", "job-definition/gpu-batch:3"), True),
        (COMPUTE.replace("compute-environment", "job-definition/gpu-batch-2:3"), False),
    ],
)
def test_apply_makes_only_names_of_ours_its_own(policies: dict[str, Any], resource: str, allowed: bool) -> None:
    """Batch requires TagResource on creation too, and has no key that tells the two apart."""
    assert may(policies["apply"], "batch:TagResource", resource, REQUESTED) is allowed
    assert not may(policies["apply"], "batch:TagResource", resource), "with other tags than ours"
    assert may(policies["apply"], "batch:TagResource", resource, OURS), "what is ours may change its tags"


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("CreateComputeEnvironment", "compute-environment/terraform-1"),
        ("CreateJobQueue", "job-queue/gpu-batch"),
        ("RegisterJobDefinition", "job-definition/gpu-batch"),
    ],
)
def test_apply_makes_nothing_in_batch_without_our_tag(policies: dict[str, Any], operation: str, name: str) -> None:
    """It could not change or delete it afterwards."""
    resource = COMPUTE.replace("compute-environment", name)

    assert may(policies["apply"], f"batch:{operation}", resource, REQUESTED)
    assert not may(policies["apply"], f"batch:{operation}", resource)


def test_apply_marks_an_ami_as_applied_and_no_more(policies: dict[str, Any]) -> None:
    """The pipeline's own tag and the family must not be its to change."""
    tagging = ("ec2:CreateTags", IMAGE)

    assert may(policies["apply"], *tagging, OURS | {"aws:TagKeys": ["gpu-ami:handover"]})
    assert not may(policies["apply"], *tagging, OURS | {"aws:TagKeys": ["gpu-ami:handover", "gpu-ami:keep"]})


@pytest.mark.parametrize("purpose", PURPOSES)
def test_no_role_can_widen_itself(policies: dict[str, Any], purpose: str) -> None:
    """Who may write a policy may do anything."""
    for operation in ("CreateRole", "PutRolePolicy", "AttachRolePolicy", "UpdateAssumeRolePolicy", "CreateUser"):
        for resource in (f"{ROLE}/gpu-batch-github-{purpose}", f"{ROLE}/packer-1", "*"):
            assert not may(policies[purpose], f"iam:{operation}", resource)
    for statement in policies[purpose]["Statement"]:
        assert statement["Effect"] == "Allow"
        assert not [name for name in _listed(statement["Action"]) if re.fullmatch(r"\*|\w+:\*", name)]


@pytest.mark.parametrize("purpose", PURPOSES)
def test_only_the_exact_jobs_sign_in(planned: Mapping[str, Any], purpose: str) -> None:
    """A pattern in a subject lets in a branch or a repository of somebody else's choosing."""
    (statement,) = json.loads(planned[f'aws_iam_role.this["{purpose}"]']["assume_role_policy"])["Statement"]
    expected = {
        "plan": ["pull_request", "ref:refs/heads/main", "environment:gpu-ami-build"],
        "build": ["environment:gpu-ami-build"],
        "apply": ["environment:gpu-ami-apply"],
        "cleanup": ["environment:gpu-ami-cleanup", "environment:gpu-ami-sweep"],
        "bench": ["environment:gpu-ami-bench"],
    }

    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert set(statement["Condition"]) == {"StringEquals"}
    condition = statement["Condition"]["StringEquals"]
    assert condition["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"
    assert _listed(condition["token.actions.githubusercontent.com:sub"]) == [
        f"repo:acme/video:{end}" for end in expected[purpose]
    ]


def test_the_environments_are_the_workflows(planned: Mapping[str, Any]) -> None:
    """A role that waits for another environment than the workflow's never signs anybody in."""
    workflows = "".join(file.read_text() for file in (ROOT / ".github" / "workflows").glob("*.yml"))
    used = set(re.findall(r"^ +environment: (\S+)$", workflows, re.MULTILINE))
    trusted = "".join(str(row.get("assume_role_policy", "")) for row in planned.values())

    assert used == set(re.findall(r"environment:([\w-]+)", trusted))


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_role_fits_into_iam(policies: dict[str, Any], purpose: str) -> None:
    """IAM takes 10,240 characters of inline policies a role; names are longer elsewhere, a bucket's by 54 each time."""
    assert len(json.dumps(policies[purpose], separators=(",", ":"))) < 9_500
