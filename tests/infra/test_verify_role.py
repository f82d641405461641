"""Whoever verifies may do what the code calls, on its own instances; they may report to Systems Manager and no more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.infra.roles import ACCOUNT, EC2, IMAGE, INSTANCE, OURS, REQUESTED, ROLE, SEOUL, SNAPSHOT, VOLUME, may
from tests.support.verifying import VERIFYING

OWN = "module.verify.aws_iam_{}.instance"
RUN = "verify-20261130T120000Z-abc123"
TAGS = {"gpu-ami:pipeline": "gpu-ami-pipeline", "gpu-ami:family": "gpu-batch", "gpu-ami:run": RUN}
DOCUMENT = f"arn:aws:ssm:{SEOUL}::document/AWS-RunShellScript"
PROFILE_ROLE = f"{ROLE}/gpu-ami-verify"
GROUP, SUBNET = f"{EC2}:{ACCOUNT}:security-group/sg-1", f"{EC2}:{ACCOUNT}:subnet/subnet-1"
TO_EC2 = {"iam:PassedToService": ["ec2.amazonaws.com"]}


def tagged(key: str, **changed: str) -> dict[str, list[str]]:
    """Return the tags of a verification's instance under a condition *key*; an empty value leaves one out."""
    return {
        f"{key}/{name}": [value]
        for name, value in (TAGS | {f"gpu-ami:{k}": v for k, v in changed.items()}).items()
        if value
    }


@pytest.fixture
def caller(planned: Mapping[str, Any]) -> dict[str, Any]:
    """The policy of whoever runs `invoke verify`."""
    return dict(json.loads(planned["caller"]["policy"]))


@pytest.fixture(params=["caller", "build"])
def either(request: pytest.FixtureRequest, caller: dict[str, Any], policies: dict[str, Any]) -> dict[str, Any]:
    """The policy of a person who verifies, and that of the build workflow."""
    return caller if request.param == "caller" else dict(policies["build"])


def rights(action: str) -> list[tuple[str, dict[str, list[str]]]]:
    """Return what an action is about in a verification: each resource with its conditions."""
    return {
        "ec2:RunInstances": [
            (IMAGE, OURS),
            *((arn, {}) for arn in (SNAPSHOT, SUBNET, GROUP)),
            *((arn, tagged("aws:RequestTag")) for arn in (INSTANCE, VOLUME)),
        ],
        "ec2:CreateTags": [
            (INSTANCE, {"ec2:CreateAction": ["RunInstances"]}),
            (VOLUME, {"ec2:CreateAction": ["RunInstances"]}),
            (IMAGE, OURS | {"aws:TagKeys": ["gpu-ami:verified"]}),
        ],
        "ec2:TerminateInstances": [(INSTANCE, tagged("aws:ResourceTag"))],
        "ssm:SendCommand": [(DOCUMENT, {}), (INSTANCE, tagged("ssm:resourceTag"))],
    }.get(action, [("*", {})])


@pytest.mark.parametrize("action", sorted(VERIFYING))
def test_whoever_verifies_may_do_what_it_calls(either: dict[str, Any], action: str) -> None:
    """A right that is missing is noticed when the instance runs already, and costs."""
    for resource, context in rights(action):
        assert may(either, action, resource, context), (action, resource)


def test_a_person_may_do_no_more_than_that(caller: dict[str, Any]) -> None:
    """The policy goes on people's own roles: each action of it is one that the code calls."""
    listed = [statement["Action"] for statement in caller["Statement"]]
    actions = {name for some in listed for name in ([some] if isinstance(some, str) else some)}

    assert actions == VERIFYING | {"iam:PassRole"}


@pytest.mark.parametrize("part", ["run", "family"])
def test_nothing_is_launched_without_the_tags_of_a_run(caller: dict[str, Any], part: str) -> None:
    """A sweep would not find it."""
    for resource in (INSTANCE, VOLUME):
        assert not may(caller, "ec2:RunInstances", resource, tagged("aws:RequestTag", **{part: ""}))
        assert not may(caller, "ec2:RunInstances", resource, REQUESTED)


def test_only_our_images_are_launched(caller: dict[str, Any]) -> None:
    """It is a right to start GPU instances: not with anybody's image."""
    assert not may(caller, "ec2:RunInstances", IMAGE)


@pytest.mark.parametrize(
    "changed", [{"run": ""}, {"family": "other"}, {"family": ""}], ids=["no run: Batch's", "another family", "none"]
)
def test_other_instances_are_neither_ended_nor_commanded(caller: dict[str, Any], changed: dict[str, str]) -> None:
    """Commands run as root."""
    assert not may(caller, "ec2:TerminateInstances", INSTANCE, tagged("aws:ResourceTag", **changed))
    assert not may(caller, "ssm:SendCommand", INSTANCE, tagged("ssm:resourceTag", **changed))


def test_a_build_commands_no_instance_without_a_run(policies: dict[str, Any]) -> None:
    """Batch's own instances carry the pipeline's tag, too."""
    assert not may(policies["build"], "ssm:SendCommand", INSTANCE, tagged("ssm:resourceTag", run=""))
    for purpose in ("plan", "apply", "cleanup"):
        assert not may(policies[purpose], "ssm:SendCommand", INSTANCE, tagged("ssm:resourceTag"))


@pytest.mark.parametrize("document", ["AWS-RunPowerShellScript", "AWS-ConfigureAWSPackage", "own"])
def test_no_other_document_is_sent(either: dict[str, Any], document: str) -> None:
    """A document of somebody's own may do anything."""
    assert not may(either, "ssm:SendCommand", DOCUMENT.replace("AWS-RunShellScript", document))


def test_an_image_gets_no_other_tag(caller: dict[str, Any]) -> None:
    """The hand-over's tag decides what a clean-up may take."""
    both = {"aws:TagKeys": ["gpu-ami:verified", "gpu-ami:handover"]}

    assert not may(caller, "ec2:CreateTags", IMAGE, OURS | both)
    assert not may(caller, "ec2:CreateTags", IMAGE, {"aws:TagKeys": ["gpu-ami:verified"]})


@pytest.mark.parametrize(
    ("role", "service", "allowed"),
    [
        ("gpu-ami-verify", "ec2.amazonaws.com", True),
        ("gpu-ami-verify", "lambda.amazonaws.com", False),
        ("gpu-batch-job-1", "ec2.amazonaws.com", False),
        ("admin", "ec2.amazonaws.com", False),
    ],
)
def test_one_role_is_passed_to_one_service(either: dict[str, Any], role: str, service: str, *, allowed: bool) -> None:
    """Who may pass any role has all of them."""
    assert may(either, "iam:PassRole", f"{ROLE}/{role}", {"iam:PassedToService": [service]}) is allowed


def test_the_instance_may_report_and_nothing_else(planned: Mapping[str, Any]) -> None:
    """With a right to ECR a container that starts would prove nothing; with one to ECS the agent joins a cluster."""
    policy = json.loads(planned[OWN.format("role_policy")]["policy"])
    (statement,) = policy["Statement"]

    assert {name.partition(":")[0] for name in statement["Action"]} == {"ssm", "ssmmessages"}
    for action in ("ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecs:RegisterContainerInstance", "s3:GetObject"):
        assert not may(policy, action)
    trust = json.loads(planned[OWN.format("role")]["assume_role_policy"])["Statement"]
    assert [row["Principal"] for row in trust] == [{"Service": "ec2.amazonaws.com"}]
    assert planned[OWN.format("instance_profile")]["name"] == "gpu-ami-verify"


def test_a_plan_reads_the_role_that_verifies(policies: dict[str, Any]) -> None:
    """One role that cannot be read stops every plan of the root."""
    assert may(policies["plan"], "iam:GetRole", PROFILE_ROLE)
    assert may(policies["plan"], "iam:GetInstanceProfile", PROFILE_ROLE.replace(":role/", ":instance-profile/"))


def test_a_build_looks_the_profile_up_before_it_bakes(policies: dict[str, Any]) -> None:
    """`invoke doctor` and a build's own checks say that it is missing before anything is paid for."""
    assert may(policies["build"], "iam:GetInstanceProfile", PROFILE_ROLE.replace(":role/", ":instance-profile/"))
    assert may(policies["build"], "iam:SimulatePrincipalPolicy", PROFILE_ROLE)
