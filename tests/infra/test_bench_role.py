"""Whoever benches may do what the code calls, under a bench's own names and tags, and touch nothing of production's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests.infra.roles import ACCOUNT, IMAGE, INSTANCE, ROLE, ROOT, SEOUL, TEMPLATE, VOLUME, may
from tests.support.benching import BENCHING

NAME, JOB = "gpu-ami-bench-0a1b2c-1-rated", "0a1b2c3d-0000-4000-8000-000000000001"
TAGS = {
    "gpu-ami:pipeline": "gpu-ami-pipeline",
    "gpu-ami:family": "gpu-batch",
    "gpu-ami:run": "bench-20261130T120000Z-0a1b2c",
}
BATCH, ECS, LOGS = (f"arn:aws:{service}:{SEOUL}:{ACCOUNT}" for service in ("batch", "ecs", "logs"))
CLUSTER = f"AWSBatch-{NAME}-8f0c"
ENVIRONMENT, QUEUE = f"{BATCH}:compute-environment/{NAME}", f"{BATCH}:job-queue/{NAME}"
DEFINITION, A_JOB = f"{BATCH}:job-definition/gpu-ami-bench-0a1b2c-baked", f"{BATCH}:job/{JOB}"
STREAM = f"{LOGS}:log-group:/gpu-ami/gpu-batch:log-stream:gpu-batch/default/0a1b"
REPOSITORY = f"arn:aws:ecr:{SEOUL}:{ACCOUNT}:repository/own"
PRODUCTIONS = {
    ENVIRONMENT: f"{BATCH}:compute-environment/terraform-2026",
    QUEUE: f"{BATCH}:job-queue/gpu-batch",
    f"{DEFINITION}:1": f"{BATCH}:job-definition/gpu-batch:1",
}


def tagged(key: str, **changed: str) -> dict[str, list[str]]:
    """Return a bench's tags under a condition *key*; an empty value leaves one out."""
    said = TAGS | {f"gpu-ami:{name}": value for name, value in changed.items()}
    return {f"{key}/{name}": [value] for name, value in said.items() if value}


MADE, OWN = tagged("aws:RequestTag"), tagged("aws:ResourceTag")
# What each action is about in a bench: each resource, with its conditions.
RIGHTS: dict[str, list[tuple[str, dict[str, list[str]]]]] = {
    "batch:CreateComputeEnvironment": [(ENVIRONMENT, MADE)],
    "batch:CreateJobQueue": [(QUEUE, MADE)],
    "batch:RegisterJobDefinition": [(DEFINITION, MADE)],
    "batch:TagResource": [(one, MADE) for one in (ENVIRONMENT, QUEUE, DEFINITION, A_JOB)],
    "batch:SubmitJob": [(f"{DEFINITION}:1", MADE), (QUEUE, MADE), (A_JOB, MADE)],
    "batch:TerminateJob": [(A_JOB, OWN)],
    "batch:UpdateJobQueue": [(QUEUE, OWN)],
    "batch:DeleteJobQueue": [(QUEUE, OWN)],
    "batch:UpdateComputeEnvironment": [(ENVIRONMENT, OWN)],
    "batch:DeleteComputeEnvironment": [(ENVIRONMENT, OWN)],
    "batch:DeregisterJobDefinition": [(f"{DEFINITION}:1", OWN)],
    "ec2:CreateLaunchTemplate": [(TEMPLATE, MADE)],
    "ec2:CreateTags": [(TEMPLATE, MADE | {"ec2:CreateAction": ["CreateLaunchTemplate"]})],
    "ec2:DeleteLaunchTemplate": [(TEMPLATE, OWN)],
    "ecs:DescribeContainerInstances": [(f"{ECS}:container-instance/{CLUSTER}/0a1b", {})],
    "ecs:ListTasks": [(f"{ECS}:container-instance/{CLUSTER}/0a1b", {})],
    "ecs:DescribeTasks": [(f"{ECS}:task/{CLUSTER}/0a1b", {})],
    "logs:GetLogEvents": [(STREAM, {}), (f"{LOGS}:log-group:/aws/batch/job:log-stream:{NAME}/default/0a1b", {})],
    "ecr:BatchGetImage": [(REPOSITORY, {})],
    "ecr:DescribeImages": [(REPOSITORY, {})],
}


@pytest.fixture
def bencher(planned: Mapping[str, Any]) -> dict[str, Any]:
    """The policy of whoever runs `invoke bench`."""
    return dict(json.loads(planned["bencher"]["policy"]))


@pytest.fixture(params=["bencher", "workflow"])
def either(request: pytest.FixtureRequest, bencher: dict[str, Any], policies: dict[str, Any]) -> dict[str, Any]:
    """The policy of a person who benches, and that of the workflow that does."""
    return bencher if request.param == "bencher" else dict(policies["bench"])


@pytest.mark.parametrize("action", sorted(BENCHING))
def test_whoever_benches_may_do_what_it_calls(either: dict[str, Any], action: str) -> None:
    """A right that is missing is noticed when hosts run already, and cost; in the teardown, when they stay."""
    for resource, context in RIGHTS.get(action, [("*", {})]):
        assert may(either, action, resource, context), (action, resource)


def test_a_person_may_do_no_more_than_that(bencher: dict[str, Any]) -> None:
    """The policy goes on people's own roles: each action of it is one that the code calls."""
    listed = [statement["Action"] for statement in bencher["Statement"]]
    actions = {name for some in listed for name in ([some] if isinstance(some, str) else some)}

    assert actions == BENCHING | {"iam:PassRole", "iam:CreateServiceLinkedRole"}


def test_the_list_of_calls_has_what_the_teardown_calls() -> None:
    """Read off the code: the calls that are made when everything else has gone wrong."""
    text = (ROOT / "scripts" / "gpu_ami" / "aws" / "batch_teardown.py").read_text(encoding="utf-8")
    names = re.findall(r'"((?:describe|list|terminate|update|delete)_[a-z_]+)"', text)

    called = {f"batch:{''.join(part.capitalize() for part in name.split('_'))}" for name in names}

    assert len(called) == 8
    assert called <= BENCHING


@pytest.mark.parametrize("part", ["run", "family"])
def test_nothing_is_made_without_the_tags_of_a_run(either: dict[str, Any], part: str) -> None:
    """A sweep would not find it."""
    context = tagged("aws:RequestTag", **{part: ""})
    for action in ("batch:CreateComputeEnvironment", "batch:CreateJobQueue", "batch:RegisterJobDefinition"):
        for resource, _ in RIGHTS[action]:
            assert not may(either, action, resource, context), action
    assert not may(either, "ec2:CreateLaunchTemplate", TEMPLATE, context)
    assert not may(either, "batch:SubmitJob", A_JOB, context)


@pytest.mark.parametrize(
    "changed",
    [{"run": ""}, {"family": "other"}, {"family": ""}],
    ids=["no run: production's", "another family", "none"],
)
def test_what_is_not_a_benchs_is_neither_changed_nor_ended(either: dict[str, Any], changed: dict[str, str]) -> None:
    """Production's queue has the family's tag, and could have any name."""
    for action, rights in RIGHTS.items():
        for resource, context in rights:
            if context == OWN:
                assert not may(either, action, resource, tagged("aws:ResourceTag", **changed)), action
                if resource in PRODUCTIONS:
                    assert not may(either, action, PRODUCTIONS[resource], OWN), action


def test_production_gets_no_tags_and_no_jobs(either: dict[str, Any]) -> None:
    """Batch has no key for tags that come with the making: who could tag production's queue could then delete it."""
    for resource in PRODUCTIONS.values():
        assert not may(either, "batch:TagResource", resource, MADE)
        assert not may(either, "batch:SubmitJob", resource, MADE)
    assert not may(either, "ec2:CreateTags", TEMPLATE, MADE)


def test_no_instance_is_started_ended_or_commanded(bencher: dict[str, Any]) -> None:
    """Hosts come and go with their environment: ended by hand, their group starts others."""
    for action in ("ec2:RunInstances", "ec2:TerminateInstances", "ssm:SendCommand", "ec2:CreateTags"):
        for resource in (INSTANCE, VOLUME, IMAGE):
            assert not may(bencher, action, resource, MADE | OWN), action


@pytest.mark.parametrize(
    ("role", "service", "allowed"),
    [
        ("gpu-batch-instance-1", "ec2.amazonaws.com", True),
        ("gpu-batch-instance-1", "batch.amazonaws.com", True),
        ("gpu-batch-exec-1", "ecs-tasks.amazonaws.com", True),
        ("gpu-batch-job-1", "ecs-tasks.amazonaws.com", True),
        ("gpu-batch-job-1", "ec2.amazonaws.com", False),
        ("gpu-batch-instance-1", "lambda.amazonaws.com", False),
        ("admin", "ec2.amazonaws.com", False),
    ],
)
def test_only_productions_roles_are_passed(either: dict[str, Any], role: str, service: str, *, allowed: bool) -> None:
    """Who may pass any role has all of them."""
    assert may(either, "iam:PassRole", f"{ROLE}/{role}", {"iam:PassedToService": [service]}) is allowed


def test_batch_may_get_its_linked_role_and_no_other(bencher: dict[str, Any]) -> None:
    """In an account whose first environment a bench makes."""
    linked = f"{ROLE}/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch"
    for service, allowed in (("batch.amazonaws.com", True), ("organizations.amazonaws.com", False)):
        context = {"iam:AWSServiceName": [service]}
        assert may(bencher, "iam:CreateServiceLinkedRole", linked, context) is allowed


def test_no_other_workflow_makes_any_of_this(policies: dict[str, Any]) -> None:
    """GPU hosts cost money: the environment of that one role is where reviewers stand."""
    for purpose in ("plan", "build", "cleanup"):
        assert not may(policies[purpose], "batch:CreateComputeEnvironment", ENVIRONMENT, MADE), purpose
        assert not may(policies[purpose], "batch:SubmitJob", QUEUE, MADE), purpose
