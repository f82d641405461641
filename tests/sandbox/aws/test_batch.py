"""Batch: environments without a role, updates that stick, pages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from moto.batch.models import batch_backends

from gpu_ami.aws.access import Access
from gpu_ami_sandbox.aws import paging
from tests.support.resources import BASE, refused

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


def test_the_update_policy_sticks(batch: Any, resources: dict[str, Any]) -> None:
    """Moto forgets it: Terraform would change it in each later plan, and the guard would not know the time-out."""
    name = an_environment(batch, resources)
    batch.update_compute_environment(computeEnvironment=name, updatePolicy={"jobExecutionTimeoutMinutes": 45})
    batch.update_compute_environment(computeEnvironment=name, state="DISABLED")

    (row,) = batch.describe_compute_environments()["computeEnvironments"]

    assert row["updatePolicy"] == {"terminateJobsOnUpdate": False, "jobExecutionTimeoutMinutes": 45}


def test_an_environment_without_a_policy_shows_the_default_one(batch: Any, resources: dict[str, Any]) -> None:
    """Half an hour, then Batch terminates what still runs."""
    an_environment(batch, resources)

    (row,) = batch.describe_compute_environments()["computeEnvironments"]

    assert row["updatePolicy"] == {"terminateJobsOnUpdate": False, "jobExecutionTimeoutMinutes": 30}


@pytest.fixture
def queue(batch: Any, resources: dict[str, Any]) -> str:
    """A job queue with one environment, and a job definition ``video``."""
    order = [{"order": 1, "computeEnvironment": an_environment(batch, resources)}]
    batch.create_job_queue(jobQueueName="queue", state="ENABLED", priority=1, computeEnvironmentOrder=order)
    image = {"image": "r/video@sha256:" + 64 * "0", "vcpus": 1, "memory": 512}
    batch.register_job_definition(jobDefinitionName="video", type="container", containerProperties=image)
    return "queue"


def test_a_job_runs_until_it_is_terminated(batch: Any, queue: str) -> None:
    """Moto would start Docker; what an update would kill must be there to be seen."""
    job = batch.submit_job(jobName="long", jobQueue=queue, jobDefinition="video")["jobId"]

    (row,) = batch.list_jobs(jobQueue=queue)["jobSummaryList"]
    assert (row["jobId"], row["status"]) == (job, "RUNNING")
    assert row["startedAt"] >= row["createdAt"] - 1000

    batch.terminate_job(jobId=job, reason="enough")
    assert batch.list_jobs(jobQueue=queue)["jobSummaryList"] == []
    (ended,) = batch.describe_jobs(jobs=[job])["jobs"]
    assert (ended["status"], ended["statusReason"]) == ("FAILED", "enough")


def test_jobs_of_one_status_come_in_pages(batch: Any, queue: str) -> None:
    """Moto shows all of every status at once."""
    jobs = [batch.submit_job(jobName=f"j{n}", jobQueue=queue, jobDefinition="video")["jobId"] for n in range(3)]
    batch.terminate_job(jobId=jobs[0], reason="enough")

    running = list(batch.get_paginator("list_jobs").paginate(jobQueue=queue, maxResults=1))
    failed = batch.list_jobs(jobQueue=queue, jobStatus="FAILED")["jobSummaryList"]

    assert [[row["jobId"] for row in page["jobSummaryList"]] for page in running] == [[jobs[1]], [jobs[2]]]
    assert [row["jobId"] for row in failed] == [jobs[0]]


def _status(batch: Any) -> str:
    (row,) = batch.describe_compute_environments()["computeEnvironments"]
    return str(row["status"])


def test_an_update_lasts_until_the_jobs_on_old_instances_end(batch: Any, queue: str) -> None:
    """Moto's is done at once: nobody would see what waits for it."""
    job = batch.submit_job(jobName="long", jobQueue=queue, jobDefinition="video")["jobId"]
    batch.update_compute_environment(computeEnvironment="gpu", computeResources={"maxvCpus": 8})
    assert _status(batch) == "VALID"

    batch.update_compute_environment(computeEnvironment="gpu", computeResources={"ec2KeyPair": "other"})
    batch.submit_job(jobName="on-a-new-instance", jobQueue=queue, jobDefinition="video")

    assert [_status(batch), _status(batch)] == ["UPDATING", "UPDATING"]
    batch.terminate_job(jobId=job, reason="enough")
    assert _status(batch) == "VALID"


@pytest.mark.parametrize(
    ("policy", "since_min", "ended"),
    [
        ({"jobExecutionTimeoutMinutes": 45}, 44, False),
        ({"jobExecutionTimeoutMinutes": 45}, 45, True),
        ({"jobExecutionTimeoutMinutes": 45, "terminateJobsOnUpdate": True}, 0, True),
    ],
)
def test_an_update_ends_jobs_by_its_policy(
    batch: Any, queue: str, aws: Any, policy: dict[str, Any], since_min: int, ended: bool
) -> None:
    """When their time is up, or at once."""
    job = batch.submit_job(jobName="long", jobQueue=queue, jobDefinition="video")["jobId"]
    batch.update_compute_environment(
        computeEnvironment="gpu", computeResources={"ec2KeyPair": "other"}, updatePolicy=policy
    )
    backend = batch_backends[aws.account_id][batch.meta.region_name]
    backend.get_compute_environment("gpu").updating_since -= timedelta(minutes=since_min)
    backend._jobs[job].job_started_at -= timedelta(minutes=60)

    assert _status(batch) == ("VALID" if ended else "UPDATING")
    assert batch.describe_jobs(jobs=[job])["jobs"][0]["status"] == ("FAILED" if ended else "RUNNING")


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this machine be nine hours east of Greenwich."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_tokyo")
def test_a_jobs_times_are_the_same_in_every_zone(batch: Any, queue: str) -> None:
    """The guard against updates under long jobs reads how long they have run."""
    before = int(time.time() * 1000)
    job = batch.submit_job(jobName="long", jobQueue=queue, jobDefinition="video")["jobId"]
    batch.terminate_job(jobId=job, reason="enough")

    row = batch.describe_jobs(jobs=[job])["jobs"][0]

    assert before <= row["createdAt"] <= row["startedAt"] <= row["stoppedAt"] <= int(time.time() * 1000)


def test_job_definitions_come_in_pages(batch: Any, queue: str) -> None:
    """Moto shows all at once."""
    for _ in range(2):
        image = {"image": "r/video:2", "vcpus": 1, "memory": 512}
        batch.register_job_definition(jobDefinitionName="video", type="container", containerProperties=image)

    pages = list(batch.get_paginator("describe_job_definitions").paginate(status="ACTIVE", maxResults=2))

    assert [[row["revision"] for row in page["jobDefinitions"]] for page in pages] == [[1, 2], [3]]
