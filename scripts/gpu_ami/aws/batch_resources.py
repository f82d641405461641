"""Makes environments, queues and definitions in AWS Batch for a while, submits jobs to them, and sees how they fare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, making_sense
from gpu_ami.records.tags import is_production

# Batch describes so many jobs, environments or queues at once (its API reference).
AT_ONCE = 100
# Fixed quotas of Batch's, each per Region (its guide, "AWS Batch service quotas").
MOST_ENVIRONMENTS = MOST_QUEUES = 50
# What a job that cannot get its capacity is cancelled for, and when its queue or environment is misconfigured. These
# are the reasons that Batch's guide ("Jobs stuck in a RUNNABLE status") lists for jobStateTimeLimitActions; with
# others (MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS, ACTION_REQUIRED, UNDETERMINED) Batch never cancels a job.
_STUCK = (
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
)
# Younger than those; the API's model has no list of reasons, so that only Batch can say that it does not know one.
_STUCK_TOO = ("MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED",)
_GONE = frozenset({"DELETED", "DELETING"})
# States of a job that is not over.
ALIVE = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
# What a definition of production says of where its log goes and who it is, apart from what it runs and needs.
_OWN = frozenset({"image", "command", "resourceRequirements", "vcpus", "memory", "instanceType"})


@dataclass(frozen=True, kw_only=True)
class EnvironmentToMake:
    """One compute environment for one instance.

    Attributes:
        name: Its name.
        instance_type: The one type that it may start.
        vcpus: The vCPUs of that type: so many, and so one instance; Batch may start one more.
        subnet_id: Its one subnet.
        security_group_ids: Of its instances.
        profile: Their instance profile, as name or ARN.
        image_type: Batch's name of the kind of AMI, such as ``ECS_AL2023_NVIDIA``.
        ami_id: The AMI.
        template_id: Its launch template.
        template_version: A number: Batch would keep its own copy of ``$Latest``.
        tags: Of the environment and of its instances.
    """

    name: str
    instance_type: str
    vcpus: int
    subnet_id: str
    security_group_ids: tuple[str, ...]
    profile: str
    image_type: str
    ami_id: str
    template_id: str
    template_version: str
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Production:
    """How a live environment's instances are started.

    Attributes:
        name: The environment.
        profile: Their instance profile.
        subnet_ids: Their subnets.
        security_group_ids: Their security groups.
        image_types: Batch's names of the kinds of their AMIs.
    """

    name: str
    profile: str
    subnet_ids: tuple[str, ...]
    security_group_ids: tuple[str, ...]
    image_types: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How an environment or a queue is.

    Attributes:
        name: Its name.
        arn: Its ARN.
        status: ``CREATING``, ``VALID``, ``INVALID``, …
        reason: Batch's reason.
        cluster_arn: An environment's ECS cluster; empty for a queue, and before there is one.
        tags: Its tags.
    """

    name: str
    arn: str
    status: str
    reason: str = ""
    cluster_arn: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A job as DescribeJobs shows it; times are seconds since 1970, None where Batch shows none.

    Attributes:
        job_id: Its id.
        status: Such as ``RUNNABLE``.
        reason: Batch's reason for it.
        container_reason: The container's.
        created: When Batch took it.
        started: Since when it is RUNNING.
        stopped: When it was over.
        attempts: How many attempts are over.
        exit_code: The container's.
        task_arn: Its ECS task, from STARTING on.
        container_instance_arn: Where that is.
        stream: Its log stream, from RUNNING on.
    """

    job_id: str
    status: str
    reason: str = ""
    container_reason: str = ""
    created: float | None = None
    started: float | None = None
    stopped: float | None = None
    attempts: int = 0
    exit_code: int | None = None
    task_arn: str = ""
    container_instance_arn: str = ""
    stream: str = ""

    @property
    def is_over(self) -> bool:
        """Whether Batch is done with it."""
        return self.status in ("SUCCEEDED", "FAILED")


def production(caller: Caller, name: str) -> Production:
    """Return how the instances of the environment *name* are started.

    Raises:
        AwsError: Batch refused, or does not show what there has to be.
    """
    answer = caller.call("batch", "describe_compute_environments", computeEnvironments=[name])
    with making_sense(f"batch:DescribeComputeEnvironments {name}"):
        (row,) = answer["computeEnvironments"]
        resources = row["computeResources"]
        return Production(
            name=row["computeEnvironmentName"],
            profile=resources["instanceRole"],
            subnet_ids=tuple(resources["subnets"]),
            security_group_ids=tuple(resources.get("securityGroupIds") or ()),
            image_types=tuple(one["imageType"] for one in resources.get("ec2Configuration") or []),
        )


def counts(caller: Caller) -> tuple[int, int]:
    """Return how many compute environments and queues there are in the region, those that are being deleted too.

    Raises:
        AwsError: Batch refused, or a list could not be read to its end.
    """
    environments = list(_rows(caller, "describe_compute_environments", "computeEnvironments", maxResults=AT_ONCE))
    queues = list(_rows(caller, "describe_job_queues", "jobQueues", maxResults=AT_ONCE))
    return len(environments), len(queues)


def container_of(caller: Caller, family: str) -> dict[str, Any]:
    """Return what production's job definition says of its container, but for what it runs and how much it needs.

    That is the newest active one with the family's tag, or without any the one that is named after the family; empty
    where there is neither.

    Raises:
        AwsError: Batch refused, or the list could not be read to its end.
    """
    rows = list(_rows(caller, "describe_job_definitions", "jobDefinitions", status="ACTIVE", maxResults=AT_ONCE))
    with making_sense(f"batch:DescribeJobDefinitions in {caller.region}"):
        rows = [row for row in rows if row.get("containerProperties")]
        tagged = [row for row in rows if is_production(row.get("tags") or {}, family)]
        named = [row for row in rows if row["jobDefinitionName"] == family]
        # Of several with the tag the one with the family's name, as the Terraform module has it.
        found = sorted(tagged or named, key=lambda row: (row["jobDefinitionName"] == family, int(row["revision"])))
        if not found:
            return {}
        return {key: value for key, value in found[-1]["containerProperties"].items() if key not in _OWN and value}


def create_environment(caller: Caller, wanted: EnvironmentToMake) -> None:
    """Make an environment without instances; Batch's own service-linked role runs it.

    Raises:
        AwsError: Batch refused.
    """
    caller.call(
        "batch",
        "create_compute_environment",
        doing=f"make the compute environment {wanted.name}",
        computeEnvironmentName=wanted.name,
        type="MANAGED",
        state="ENABLED",
        computeResources={
            "type": "EC2",
            "allocationStrategy": "BEST_FIT_PROGRESSIVE",
            "minvCpus": 0,
            "desiredvCpus": 0,
            "maxvCpus": wanted.vcpus,
            "instanceTypes": [wanted.instance_type],
            "subnets": [wanted.subnet_id],
            "securityGroupIds": list(wanted.security_group_ids),
            "instanceRole": wanted.profile,
            # Tags of the environment itself do not reach EC2 (Batch's guide, "Tag your resources").
            "tags": dict(wanted.tags),
            "launchTemplate": {"launchTemplateId": wanted.template_id, "version": wanted.template_version},
            # imageIdOverride alone: the guide and the API's model disagree on what wins beside imageId.
            "ec2Configuration": [{"imageType": wanted.image_type, "imageIdOverride": wanted.ami_id}],
        },
        tags=dict(wanted.tags),
    )


def create_queue(caller: Caller, name: str, environment: str, tags: Mapping[str, str], *, stuck_s: int) -> None:
    """Make a queue for one environment; a job that waits in it without a prospect is cancelled after *stuck_s*.

    Only where Batch gives one of the reasons that it cancels for: a job whose host never comes into ECS waits on.

    Args:
        caller: Calls the region.
        name: Its name.
        environment: The environment's name.
        tags: Its tags.
        stuck_s: Seconds, 600 to 86,400 (the API reference).

    Raises:
        AwsError: Batch refused.
    """

    def make(reasons: Sequence[str]) -> None:
        limit = {"state": "RUNNABLE", "maxTimeSeconds": stuck_s, "action": "CANCEL"}
        caller.call(
            "batch",
            "create_job_queue",
            doing=f"make the job queue {name}",
            jobQueueName=name,
            state="ENABLED",
            priority=1,
            computeEnvironmentOrder=[{"order": 1, "computeEnvironment": environment}],
            jobStateTimeLimitActions=[{"reason": reason, **limit} for reason in reasons],
            tags=dict(tags),
        )

    try:
        make((*_STUCK, *_STUCK_TOO))
    except RefusedError as exc:
        if exc.code != "ClientException" or exc.may_have_acted:
            raise
        make(_STUCK)


def register_definition(
    caller: Caller, name: str, container: Mapping[str, Any], tags: Mapping[str, str], *, longest_s: int
) -> str:
    """Register a job definition with one attempt and return the ARN of its revision.

    Raises:
        AwsError: Batch refused.
    """
    answer = caller.call(
        "batch",
        "register_job_definition",
        doing=f"register the job definition {name}",
        jobDefinitionName=name,
        type="container",
        platformCapabilities=["EC2"],
        propagateTags=False,
        containerProperties=dict(container),
        retryStrategy={"attempts": 1},
        timeout={"attemptDurationSeconds": longest_s},
        tags=dict(tags),
    )
    with making_sense(f"batch:RegisterJobDefinition in {caller.region}"):
        return str(answer["jobDefinitionArn"])


def submit(caller: Caller, name: str, queue: str, definition_arn: str, tags: Mapping[str, str]) -> str:
    """Submit a job and return its id.

    Raises:
        AwsError: Batch refused.
    """
    answer = caller.call(
        "batch",
        "submit_job",
        doing=f"submit the job {name}",
        jobName=name,
        jobQueue=queue,
        jobDefinition=definition_arn,
        propagateTags=False,
        tags=dict(tags),
    )
    with making_sense(f"batch:SubmitJob in {caller.region}"):
        return str(answer["jobId"])


def alive_jobs(caller: Caller, queue: str) -> list[str]:
    """Return the ids of the jobs of *queue* that are not over.

    Raises:
        AwsError: Batch refused, or a list could not be read to its end.
    """
    with making_sense(f"batch:ListJobs in {caller.region}"):
        return [
            str(row["jobId"])
            for status in ALIVE
            for row in caller.pages(
                "batch", "list_jobs", "jobSummaryList", page_key="nextToken", jobQueue=queue, jobStatus=status
            )
        ]


def environments(caller: Caller, names: Sequence[str]) -> dict[str, Standing]:
    """Return how those of the environments *names* are that Batch shows, by name.

    Raises:
        AwsError: Batch refused, or a list could not be read to its end.
    """
    with making_sense(f"batch:DescribeComputeEnvironments in {caller.region}"):
        return {
            str(row["computeEnvironmentName"]): _standing(row, "computeEnvironment")
            for some in _chunks(names)
            for row in _rows(caller, "describe_compute_environments", "computeEnvironments", computeEnvironments=some)
            if row.get("status") not in _GONE
        }


def queues(caller: Caller, names: Sequence[str]) -> dict[str, Standing]:
    """Return how those of the queues *names* are that Batch shows, by name.

    Raises:
        AwsError: Batch refused, or a list could not be read to its end.
    """
    with making_sense(f"batch:DescribeJobQueues in {caller.region}"):
        return {
            str(row["jobQueueName"]): _standing(row, "jobQueue")
            for some in _chunks(names)
            for row in _rows(caller, "describe_job_queues", "jobQueues", jobQueues=some)
            if row.get("status") not in _GONE
        }


def definitions(caller: Caller, name: str) -> dict[str, dict[str, str]]:
    """Return the ARNs of the active revisions of the definition *name*, each with its tags.

    Raises:
        AwsError: Batch refused, or the list could not be read to its end.
    """
    rows = _rows(caller, "describe_job_definitions", "jobDefinitions", jobDefinitionName=name, status="ACTIVE")
    with making_sense(f"batch:DescribeJobDefinitions in {caller.region}"):
        return {str(row["jobDefinitionArn"]): dict(row.get("tags") or {}) for row in rows}


def deregister(caller: Caller, definition_arn: str) -> None:
    """Take a job definition's revision out of use.

    Raises:
        AwsError: Batch refused.
    """
    caller.call("batch", "deregister_job_definition", jobDefinition=definition_arn)


def jobs(caller: Caller, job_ids: Sequence[str]) -> dict[str, Seen]:
    """Return those of *job_ids* that Batch shows, by id.

    Raises:
        AwsError: Batch refused.
    """
    with making_sense(f"batch:DescribeJobs in {caller.region}"):
        rows = [row for some in _chunks(job_ids) for row in caller.call("batch", "describe_jobs", jobs=some)["jobs"]]
        return {str(row["jobId"]): _seen(row) for row in rows}


def _seen(row: Mapping[str, Any]) -> Seen:
    attempts = row.get("attempts") or []
    # The attempt keeps what the container's own part loses once the job is over (Batch's API reference).
    container = {**(row.get("container") or {}), **_given((attempts[-1].get("container") or {}) if attempts else {})}
    code = container.get("exitCode")
    return Seen(
        job_id=row["jobId"],
        status=row["status"],
        reason=str(row.get("statusReason") or ""),
        container_reason=str(container.get("reason") or ""),
        created=_seconds(row.get("createdAt")),
        started=_seconds(row.get("startedAt")),
        stopped=_seconds(row.get("stoppedAt")),
        attempts=len(attempts),
        exit_code=None if code is None else int(code),
        task_arn=str(container.get("taskArn") or ""),
        container_instance_arn=str(container.get("containerInstanceArn") or ""),
        stream=str(container.get("logStreamName") or ""),
    )


def _given(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if value is not None}


def _seconds(milliseconds: Any) -> float | None:
    return None if not milliseconds else int(milliseconds) / 1000


def _standing(row: Mapping[str, Any], what: str) -> Standing:
    return Standing(
        name=row[f"{what}Name"],
        arn=row[f"{what}Arn"],
        status=str(row.get("status") or ""),
        reason=str(row.get("statusReason") or ""),
        cluster_arn=str(row.get("ecsClusterArn") or ""),
        tags=dict(row.get("tags") or {}),
    )


def _rows(caller: Caller, operation: str, key: str, **which: Any) -> Iterator[dict[str, Any]]:
    return caller.pages("batch", operation, key, page_key="nextToken", **which)


def _chunks(values: Iterable[str]) -> Iterator[list[str]]:
    every = list(values)
    for at in range(0, len(every), AT_ONCE):
        yield every[at : at + AT_ONCE]
