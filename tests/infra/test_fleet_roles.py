"""The roles of a fleet: one truth for StackSets and Terraform, no more in it than is called, and it fits into IAM."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from gpu_ami.settings import Fleet
from gpu_ami.tools import terraform_tools
from gpu_ami_sandbox.session import Sandbox
from tests.infra.roles import ACCOUNT, IMAGE, OURS, REQUESTED, ROOT, SEOUL, SNAPSHOT, may
from tests.infra.test_cleanup_role import action, calls, is_reading, services
from tests.support import member_roles

MODULES = ROOT / "terraform" / "modules"
ORGANIZATION = "o-abcdefghij"
HUB = {purpose: f"arn:aws:iam::{ACCOUNT}:role/gpu-ami-fleet-hub-{purpose}" for purpose in ("plan", "cleanup")}
PEOPLE = f"arn:aws:iam::{ACCOUNT}:role/people"
# Every inline policy of a role together, without white space (IAM's quotas); a managed one has 6,144.
INLINE, MANAGED = 10_240, 6_144
READS = {
    action(*call) for call in calls("images.py", "regions.py", "recycle_bin.py", "references") if is_reading(call[1])
}
WRITES = {action(*call) for call in calls("image_changes.py", "recycle_bin.py") if not is_reading(call[1])}
# `--usage-reports`: all of it by whoever may change an account, as it makes something.
REPORTS = {action(*call) for call in calls("usage_reports.py")}
READ_REPORTS = {"ec2:DescribeImageUsageReportEntries", "ec2:DescribeImageUsageReports"}
# Of the bin only those who bring back ask, and of builds nobody in a fleet.
IN_BIN = {"ec2:ListImagesInRecycleBin", "ec2:ListSnapshotsInRecycleBin"}
# A folder that is named by its whole path would be copied without the one beside it, whose template the hub reads.
CALLER = f"""
provider "aws" {{}}

module "hub" {{
  source           = "./modules/fleet-hub"
  organization_id  = "{ORGANIZATION}"
  subject          = "repo:acme/video"
  create_provider  = false
  people_role_arns = ["{PEOPLE}"]
}}

module "member" {{
  source               = "./modules/fleet-member"
  organization_id      = "{ORGANIZATION}"
  plan_hub_role_arn    = "{HUB["plan"]}"
  cleanup_hub_role_arn = "{HUB["cleanup"]}"
}}
"""


@pytest.fixture(scope="module")
def made(local_aws: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The resources of both modules as Terraform would make them: values by address."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "main.tf").write_text(CALLER)
    for name in ("fleet-hub", "fleet-member"):
        shutil.copytree(MODULES / name, folder / "modules" / name)
    tools = terraform_tools()
    env = local_aws.access.child_environment({"CHECKPOINT_DISABLE": "1"}) | {"PATH": os.environ["PATH"]}
    mirror = [f"-plugin-dir={tools.provider_mirror}"] if tools.provider_mirror else []
    for step in (("init", "-input=false", *mirror), ("plan", "-input=false", "-out=plan"), ("show", "-json", "plan")):
        command = [str(tools.terraform.path), *step]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    modules = json.loads(done.stdout)["planned_values"]["root_module"]["child_modules"]
    return {row["address"].removeprefix("module."): row["values"] for module in modules for row in module["resources"]}


def policies_of(made: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the policy documents whose addresses begin with *prefix*, by key."""
    found = re.compile(rf'{re.escape(prefix)}\["([\w/]+)"\]')
    return {key[1]: json.loads(row["policy"]) for address, row in made.items() if (key := found.fullmatch(address))}


def actions_of(document: Mapping[str, Any]) -> list[str]:
    """Return each action of a policy."""
    listed = [statement["Action"] for statement in document["Statement"]]
    return [name for some in listed for name in ([some] if isinstance(some, str) else some)]


def size(*documents: Mapping[str, Any]) -> int:
    """Return how many characters IAM counts."""
    return sum(len(json.dumps(document, separators=(",", ":"))) for document in documents)


def test_a_member_s_role_may_read_what_is_called_and_no_more() -> None:
    """One call that is denied keeps every AMI of the fleet; one right too many is in five hundred accounts."""
    policies = member_roles.policies()
    # These are called by the names that stand beside the kinds of recipes.
    text = (ROOT / "scripts" / "gpu_ami" / "aws" / "references" / "image_builder.py").read_text(encoding="utf-8")
    recipes = {action("imagebuilder", name) for name in re.findall(r'"((?:get|list)_\w+_recipes?)"', text)}
    of_services = {name.strip('"') for body in services().values() for name in body["actions"]}

    found = actions_of(policies["ReadPolicy"]), actions_of(policies["ServicesPolicy"])

    assert len(READS) > 40
    for listed in found:
        assert listed == sorted(set(listed), key=listed.index)
    assert set(found[1]) == of_services
    assert len(recipes) == 4
    assert set(found[0]) == (READS | recipes) - of_services - IN_BIN


def test_a_member_s_role_may_change_what_is_ours_and_no_more() -> None:
    """The tag is the last line: whatever the code decides, another team's AMI stays."""
    document = member_roles.policies()["CleanupPolicy"]
    changing, looking, *_ = document["Statement"]

    assert set(changing["Action"]) == WRITES
    assert set(looking["Action"]) <= READS | REPORTS
    assert {*IN_BIN} <= set(looking["Action"])
    for name in changing["Action"]:
        for resource in (IMAGE, SNAPSHOT):
            assert may(document, name, resource, OURS)
            assert not may(document, name, resource)
            assert not may(document, name, resource, REQUESTED), "it could take anybody's for its own"
            assert not may(member_roles.policies()["ReadPolicy"], name, resource, OURS)


def test_a_member_s_role_makes_reports_on_own_images_alone_and_tags_them() -> None:
    """As the role of one account does: a report without our tag could not be deleted again."""
    policies = member_roles.policies()
    document, making = policies["CleanupPolicy"], "ec2:CreateImageUsageReport"
    report = f"arn:aws:ec2:{SEOUL}:{ACCOUNT}:image-usage-report/report-0123456789abcdef0"
    tagging = REQUESTED | {"ec2:CreateAction": ["CreateImageUsageReport"]}

    assert {making, "ec2:DeleteImageUsageReport", *READ_REPORTS} == REPORTS
    assert may(document, making, IMAGE, OURS)
    assert not may(document, making, IMAGE)
    assert may(document, making, report, REQUESTED)
    assert not may(document, making, report)
    assert may(document, "ec2:CreateTags", report, tagging)
    assert not may(document, "ec2:CreateTags", report, REQUESTED), "it could take anybody's for its own"
    assert may(document, "ec2:DeleteImageUsageReport", report, OURS)
    assert not may(document, "ec2:DeleteImageUsageReport", report)
    for name in READ_REPORTS:
        assert may(document, name, "*")
    assert not {*actions_of(policies["ReadPolicy"]), *actions_of(policies["ServicesPolicy"])} & REPORTS


def test_both_ways_make_the_same_roles(made: Mapping[str, Any]) -> None:
    """Whoever uses Terraform and whoever uses StackSets have the same rights."""
    policies = member_roles.policies()
    trusts = member_roles.trusts(ORGANIZATION, **HUB)
    fleet = Fleet()

    assert policies_of(made, "member.aws_iam_role_policy.read") == {
        "read": policies["ReadPolicy"],
        "services": policies["ServicesPolicy"],
    }
    assert policies_of(made, "member.aws_iam_role_policy.cleanup") == {"cleanup": policies["CleanupPolicy"]}
    for address, name in (("member.aws_iam_role.read", "ReadRole"), ("member.aws_iam_role.cleanup[0]", "CleanupRole")):
        assert _sorted(json.loads(made[address]["assume_role_policy"])) == _sorted(json.loads(trusts[name]))
    assert made["member.aws_iam_role.read"]["name"] == fleet.read_role == member_roles.defaults()["ReadRoleName"]
    assert made["member.aws_iam_role.cleanup[0]"]["name"] == fleet.cleanup_role
    assert member_roles.defaults()["CleanupRoleName"] == fleet.cleanup_role


def _sorted(trust: dict[str, Any]) -> dict[str, Any]:
    (statement,) = trust["Statement"]
    named = statement["Principal"]["AWS"]
    return {**statement, "Sid": None, "Principal": sorted([named] if isinstance(named, str) else named)}


def test_the_hub_enters_roles_of_these_names_in_its_organization_alone(made: Mapping[str, Any]) -> None:
    """A star for the account is safe only with the organization beside it; who plans deletes nothing."""
    hub = policies_of(made, "hub.aws_iam_role_policy.this")
    policies = member_roles.policies()
    own, other = ({"aws:ResourceOrgID": [name]} for name in (ORGANIZATION, "o-another0000"))

    assert set(hub) == {
        *(f"{purpose}/{name}" for purpose in HUB for name in ("enter", "read", "services")),
        "cleanup/cleanup",
    }
    for purpose, names in (("plan", {"read"}), ("cleanup", {"read", "cleanup"})):
        assert [hub[f"{purpose}/{name}"] for name in ("read", "services")] == [
            policies["ReadPolicy"],
            policies["ServicesPolicy"],
        ]
        enter = hub[f"{purpose}/enter"]
        assert sorted(actions_of(enter)) == [
            "organizations:DescribeOrganization",
            "organizations:ListAccounts",
            "sts:AssumeRole",
        ]
        for name in ("read", "cleanup", "admin"):
            role = f"arn:aws:iam::210987654321:role/gpu-ami-fleet-{name}"
            assert may(enter, "sts:AssumeRole", role, own) is (name in names)
            assert not may(enter, "sts:AssumeRole", role, other)
            assert not may(enter, "sts:AssumeRole", role)
    assert hub["cleanup/cleanup"] == policies["CleanupPolicy"]


def test_only_the_exact_jobs_and_people_use_the_hub(made: Mapping[str, Any]) -> None:
    """A pattern in a subject lets in somebody else's branch or repository; a pull request may do nothing."""
    for purpose, end in (("plan", "ref:refs/heads/main"), ("cleanup", "environment:gpu-ami-cleanup")):
        job, people = json.loads(made[f'hub.aws_iam_role.this["{purpose}"]']["assume_role_policy"])["Statement"]
        assert job["Condition"]["StringEquals"] == {
            "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
            "token.actions.githubusercontent.com:sub": f"repo:acme/video:{end}",
        }
        assert (people["Action"], people["Principal"]) == ("sts:AssumeRole", {"AWS": PEOPLE})


def test_the_roles_fit_into_iam(made: Mapping[str, Any]) -> None:
    """10,240 characters of inline policies a role; whoever pastes them into managed ones has 6,144 for each."""
    policies = member_roles.policies()
    hub = policies_of(made, "hub.aws_iam_role_policy.this")

    assert max(size(document) for document in policies.values()) <= MANAGED
    assert size(policies["ReadPolicy"], policies["ServicesPolicy"]) <= INLINE
    for purpose in HUB:
        assert size(*(document for name, document in hub.items() if name.startswith(purpose))) <= INLINE


def test_a_role_that_may_not_read_services_has_no_such_right() -> None:
    """Whoever leaves them out must not be able to read what may hold secrets."""
    template = member_roles.document()["Resources"]

    assert template["ServicesPolicy"]["Condition"] == "ReadServices"
    assert {name for name, body in template.items() if body.get("Condition") == "OwnsAmis"} == {
        "CleanupRole",
        "CleanupPolicy",
    }
    assert not may(member_roles.policies()["ReadPolicy"], "lambda:ListFunctions")
    assert may(member_roles.policies()["ReadPolicy"], "ssm:GetParameters", f"arn:aws:ssm:{SEOUL}:{ACCOUNT}:parameter/x")
