"""Batch: environments without a role, updates that stick, pages."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami.sandbox import paging
from tests.sandbox.world import BASE, refused

OTHER = "ami-0123456789abcdef0"


@pytest.fixture
def batch(access: Access) -> Any:
    """A client of Batch."""
    return access.client("batch")


@pytest.fixture
def resources(access: Access, ec2: Any) -> dict[str, Any]:
    """What a compute environment needs."""
    iam = access.client("iam")
    profile = iam.create_instance_profile(InstanceProfileName="ecsInstanceRole")["InstanceProfile"]["Arn"]
    subnet = ec2.describe_subnets()["Subnets"][0]
    group = ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [subnet["VpcId"]]}])["SecurityGroups"][0]
    return {
        "type": "SPOT",
        "minvCpus": 0,
        "maxvCpus": 4,
        "instanceTypes": ["g5.xlarge"],
        "subnets": [subnet["SubnetId"]],
        "securityGroupIds": [group["GroupId"]],
        "instanceRole": profile,
    }


def an_environment(batch: Any, resources: dict[str, Any], name: str = "gpu", **more: Any) -> str:
    """Make a compute environment and return its name."""
    answer = batch.create_compute_environment(
        computeEnvironmentName=name, type="MANAGED", state="ENABLED", computeResources=resources | more
    )
    return str(answer["computeEnvironmentName"])


def test_without_a_role_the_service_linked_one_is_used(batch: Any, resources: dict[str, Any], aws: Any) -> None:
    """The environment that Terraform updates in place; moto refuses it."""
    for name in ("first", "second"):
        an_environment(batch, resources, name)

    environments = batch.describe_compute_environments()["computeEnvironments"]

    arn = f"arn:aws:iam::{aws.account_id}:role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch"
    assert [e["serviceRole"] for e in environments] == [arn, arn]


def test_a_given_role_is_kept(batch: Any, resources: dict[str, Any], access: Access) -> None:
    """Only a missing one is filled in."""
    role = access.client("iam").create_role(RoleName="own", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    batch.create_compute_environment(
        computeEnvironmentName="gpu", type="MANAGED", computeResources=resources, serviceRole=role
    )

    (environment,) = batch.describe_compute_environments()["computeEnvironments"]

    assert environment["serviceRole"] == role


def test_a_new_image_sticks(batch: Any, resources: dict[str, Any]) -> None:
    """Moto forgets it: each later Terraform plan would want to change it again."""
    override = [{"imageType": "ECS_AL2023_NVIDIA", "imageIdOverride": BASE}]
    name = an_environment(batch, resources, ec2Configuration=override)
    changed = [{"imageType": "ECS_AL2023_NVIDIA", "imageIdOverride": OTHER}]
    template = {"launchTemplateId": "lt-1", "version": "2"}

    batch.update_compute_environment(
        computeEnvironment=name,
        computeResources={"ec2Configuration": changed, "launchTemplate": template, "maxvCpus": 8},
    )

    (environment,) = batch.describe_compute_environments(computeEnvironments=[name])["computeEnvironments"]
    found = environment["computeResources"]
    assert (found["ec2Configuration"], found["launchTemplate"], found["maxvCpus"]) == (changed, template, 8)
    assert found["subnets"] == resources["subnets"]


def test_updating_only_the_state(batch: Any, resources: dict[str, Any]) -> None:
    """No compute resources in the request: none are changed."""
    name = an_environment(batch, resources)

    batch.update_compute_environment(computeEnvironment=name, state="DISABLED")

    (environment,) = batch.describe_compute_environments()["computeEnvironments"]
    assert environment["state"] == "DISABLED"
    assert environment["computeResources"]["maxvCpus"] == 4


def test_environments_and_queues_come_in_pages(
    batch: Any, resources: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moto shows all at once: code without paging would pass."""
    monkeypatch.setitem(paging.PAGE_SIZES, "DescribeJobQueues", 2)
    for number in range(3):
        name = an_environment(batch, resources, f"gpu-{number}")
        order = [{"order": 1, "computeEnvironment": name}]
        batch.create_job_queue(
            jobQueueName=f"queue-{number}", state="ENABLED", priority=1, computeEnvironmentOrder=order
        )

    environments = list(batch.get_paginator("describe_compute_environments").paginate(maxResults=2))
    queues = list(batch.get_paginator("describe_job_queues").paginate())

    assert [len(p["computeEnvironments"]) for p in environments] == [2, 1]
    assert [len(p["jobQueues"]) for p in queues] == [2, 1]


def test_an_unknown_environment_cannot_be_updated(batch: Any) -> None:
    """Batch says so; nothing is made up."""
    with refused("ClientException"):
        batch.update_compute_environment(computeEnvironment="none", state="DISABLED")
