"""The clean-up role may do what the code calls, and nothing that is not ours."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from gpu_ami.aws.references.registry import SOURCES
from gpu_ami_sandbox.session import Sandbox
from tests.infra.roles import (
    ACCOUNT,
    BUILDS,
    EC2,
    IMAGE,
    INSTANCE,
    MODULE,
    OURS,
    REQUESTED,
    ROLE,
    ROOT,
    SEOUL,
    SNAPSHOT,
    TEMPLATE,
    may,
    planned_roles,
    policies_of,
)

AWS = ROOT / "scripts" / "gpu_ami" / "aws"
# What is removed or changed, by the end of the call's name.
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
    "image_usage_report": f"{EC2}:{ACCOUNT}:image-usage-report/amiur-1",
}
# What clean-up makes, with our tag from the start.
MADE = {"create_image_usage_report"}
# Of what a clean-up makes and deletes itself no build is the owner.
NOT_SWEPT = {"image_usage_report"}


def calls(*paths: str) -> set[tuple[str, str]]:
    """Return the API calls that the code in *paths* names: service and operation, as boto3 names them."""
    files = [file for path in paths for file in ([AWS / path] if path.endswith(".py") else (AWS / path).glob("*.py"))]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    services = "autoscaling|batch|cloudformation|ec2|ecs|iam|imagebuilder|lambda|rbin|scheduler|ssm|stepfunctions"
    services += "|bedrock-agentcore-control|codebuild|elasticbeanstalk|emr|pcs|rds|sagemaker"
    return set(re.findall(rf'"({services})",\s*"([a-z]+_[a-z_]+)"', text))


def action(service: str, operation: str) -> str:
    """Return what IAM calls an operation."""
    names = {"bedrock-agentcore-control": "bedrock-agentcore", "emr": "elasticmapreduce", "stepfunctions": "states"}
    service = names.get(service, service)
    return f"{service}:{''.join(word.capitalize() for word in operation.split('_')).replace('Db', 'DB')}"


def is_reading(operation: str) -> bool:
    """Whether an operation changes nothing."""
    return operation.startswith(("batch_get_", "describe_", "get_", "list_"))


CLEANING = sorted(
    calls(
        "image_changes.py",
        "build_resources.py",
        "batch_teardown.py",
        "recycle_bin.py",
        "images.py",
        "regions.py",
        "usage_reports.py",
        "references",
    )
)


def test_the_code_was_read() -> None:
    """An empty list of calls would make every test below pass."""
    assert len(CLEANING) > 30
    assert len([name for service, name in CLEANING if service == "batch" and not is_reading(name)]) == 6
    assert {("ec2", "deregister_image"), ("rbin", "list_rules"), ("iam", "list_instance_profiles")} <= set(CLEANING)


@pytest.mark.parametrize(("service", "operation"), [call for call in CLEANING if is_reading(call[1])])
def test_cleanup_may_read_whatever_it_asks(policies: dict[str, Any], service: str, operation: str) -> None:
    """One read that is denied stops the whole clean-up: what cannot be read counts as needed."""
    reads_values = service == "ssm" and operation.startswith("get_parameters")
    resource = f"arn:aws:ssm:{SEOUL}:{ACCOUNT}:parameter/x" if reads_values else "*"
    if service == "iam" and operation != "list_instance_profiles":
        resource = f"{ROLE}/packer-1" if "role" in operation else f"arn:aws:iam::{ACCOUNT}:instance-profile/packer-1"
    names = ("cleanup",) if service == "iam" else ("plan", "cleanup")

    for name in names:
        assert may(policies[name], action(service, operation), resource), name


# What every account's clean-up needs is not in the module's list of services that may be left out.
CORE = {"", "autoscaling", "batch", "ec2", "imagebuilder"}


def services() -> dict[str, Any]:
    """Return the module's services, by name: actions and sources."""
    import hcl2

    text = (MODULE / "services.tf").read_text(encoding="utf-8")
    (block,) = [block for block in hcl2.loads(text)["locals"] if "services" in block]
    return {name.strip('"'): json.loads(json.dumps(body)) for name, body in block["services"].items() if name[0] != "_"}


def test_each_service_that_may_be_left_out_names_its_sources() -> None:
    """A source that is forgotten there fails every night in an account that leaves its service out."""
    named = [source.strip('"') for body in services().values() for source in body["sources"]]

    assert sorted(named) == sorted(s.name for s in SOURCES if s.service not in CORE and not s.is_essential)


@pytest.fixture(scope="session")
def bare(local_aws: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The roles' policies where every service is left out that may be."""
    nothing = ", ".join(f"{name} = false" for name in services())
    folder = tmp_path_factory.mktemp("bare")
    return policies_of(planned_roles(local_aws.access, folder, more=f"read_services = {{ {nothing} }}"))


def test_the_policy_to_paste_is_what_the_module_gives() -> None:
    """Whoever keeps a role of their own pastes it after the upgrade; one action too few stops every clean-up."""
    page = (ROOT / "docs" / "cleanup.md").read_text(encoding="utf-8")
    statement = json.loads(page.partition("```json\n")[2].partition("```")[0])

    assert statement["Action"] == sorted(
        action.strip('"') for body in services().values() for action in body["actions"]
    )


def test_what_is_left_out_cannot_be_read(policies: dict[str, Any], bare: dict[str, Any]) -> None:
    """Variables and definitions may hold secrets: whoever leaves them out must not be able to read them."""
    for body in services().values():
        for called in (action.strip('"') for action in body["actions"]):
            for name in ("plan", "cleanup"):
                assert may(policies[name], called, "*"), (name, called)
                assert not may(bare[name], called, "*"), (name, called)


@pytest.mark.parametrize(
    ("service", "operation"),
    [call for call in CLEANING if not is_reading(call[1]) and call[0] == "ec2" and call[1] not in MADE],
)
def test_cleanup_changes_what_is_ours_and_nothing_else(policies: dict[str, Any], service: str, operation: str) -> None:
    """The tag is the last line: whatever the code decides, another team's AMI stays."""
    kind = operation.partition("_")[2]
    resource = RESOURCES[kind]
    sweeps = "::" not in resource.removeprefix("arn:aws:") and kind not in NOT_SWEPT
    called = action(service, operation)

    assert may(policies["cleanup"], called, resource, BUILDS if sweeps else OURS)
    assert not may(policies["cleanup"], called, resource)
    if sweeps:
        assert not may(policies["cleanup"], called, resource, OURS), "Batch's own instances carry this tag"


def test_cleanup_makes_reports_on_own_images_alone_and_tags_them(policies: dict[str, Any]) -> None:
    """A report without our tag could not be deleted again; on another team's AMI none is made."""
    report, called = RESOURCES["image_usage_report"], "ec2:CreateImageUsageReport"
    making = {"ec2:CreateAction": ["CreateImageUsageReport"]}

    assert ("ec2", "create_image_usage_report") in CLEANING
    assert may(policies["cleanup"], called, IMAGE, OURS)
    assert not may(policies["cleanup"], called, IMAGE)
    assert may(policies["cleanup"], called, report, REQUESTED)
    assert not may(policies["cleanup"], called, report)
    assert may(policies["cleanup"], "ec2:CreateTags", report, REQUESTED | making)
    assert not may(policies["cleanup"], "ec2:CreateTags", report, REQUESTED), "it could take anybody's for its own"
    for name in ("plan", "build", "apply"):
        assert not may(policies[name], called, IMAGE, OURS), name
        assert not may(policies[name], "ec2:DeleteImageUsageReport", report, OURS), name


@pytest.mark.parametrize(
    "operation", [name for service, name in CLEANING if service == "batch" and not is_reading(name)]
)
def test_cleanup_ends_what_benches_left_and_nothing_of_productions(policies: dict[str, Any], operation: str) -> None:
    """Production's queue and environments carry the pipeline's tag, and a stranger's may carry a bench's name."""
    kind = operation.partition("_")[2].replace("_", "-")
    names = {"job": ["0a1b2c3d-1"], "job-definition": ["gpu-ami-bench-0a1b2c:1"]}.get(
        kind, ["gpu-ami-bench-0a1b2c-1-rated"]
    )
    benches = OURS | {"aws:ResourceTag/gpu-ami:run": ["bench-20261130T120000Z-0a1b2c"]}
    arn = f"arn:aws:batch:{SEOUL}:{ACCOUNT}:{kind}"
    called = action("batch", operation)

    assert may(policies["cleanup"], called, f"{arn}/{names[0]}", benches)
    assert not may(policies["cleanup"], called, f"{arn}/{names[0]}", OURS), "it has no run"
    assert not may(policies["cleanup"], called, f"{arn}/{names[0]}")
    if kind != "job":  # a job's ARN has no name in it
        assert not may(policies["cleanup"], called, f"{arn}/gpu-batch", benches)
    assert not may(policies["plan"], called, f"{arn}/{names[0]}", benches)


@pytest.mark.parametrize(
    ("service", "operation"), [call for call in CLEANING if not is_reading(call[1]) and call[0] == "iam"]
)
def test_cleanup_removes_packers_roles_and_no_others(policies: dict[str, Any], service: str, operation: str) -> None:
    """It must reach no administrator's role, nor that of another team, whose Packer names it alike."""
    kind = "instance-profile" if "profile" in operation else "role"

    for name, allowed in (("packer-64a1", True), ("admin", False), ("my-packer-1", False)):
        resource = f"arn:aws:iam::{ACCOUNT}:{kind}/{name}"
        assert may(policies["cleanup"], action(service, operation), resource, BUILDS) is allowed
        assert not may(policies["cleanup"], action(service, operation), resource)
        assert not may(policies["cleanup"], action(service, operation), resource, OURS), "no build made it"
