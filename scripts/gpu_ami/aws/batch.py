"""Reads the state of AWS Batch: compute environments, running jobs, job definitions, and the instances behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, making_sense
from gpu_ami.records.batch_images import Images, Kind, in_batch, kind_of
from gpu_ami.records.tags import AMI_ID

_PAGE = 100
# Batch describes, ECS describes and EC2 lists at most so many at once.
_AT_ONCE = 100
_GONE = ("DELETED", "DELETING")
# An account may hide from EC2's listings what AWS services manage.
_HIDDEN_TOO: dict[str, Any] = {"IncludeManagedResources": True}
# AWS's own default; the service shows the policy of environments that have one.
_TIMEOUT_MINUTES = 30


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A compute environment as Batch describes it.

    Attributes:
        name: Its name.
        arn: Its ARN.
        state: ``ENABLED`` or ``DISABLED``.
        status: ``VALID``, ``UPDATING``, ``INVALID``, …
        reason: Why: Batch's message.
        ami_id: The AMI its instances are launched from; None for Batch's own, or a launch template's, and where it
            names several for one instance. Of several image types, a GPU's.
        template: Id or name of its launch template; None without one.
        version: The template version it requests: a number, ``$Latest`` or ``$Default``.
        template_overrides: Launch templates that go before that one for some instance types, each with its version.
        images: Every AMI that it names; without those of launch templates.
        kind: What it runs on.
        cluster_arn: The ECS cluster of its instances.
        timeout_minutes: How long jobs may go on in an update.
        terminates_jobs: Whether an update ends jobs at once.
        tags: Its tags.
    """

    name: str
    arn: str
    state: str
    status: str
    reason: str
    ami_id: str | None
    template: str | None
    version: str
    cluster_arn: str | None
    timeout_minutes: int = _TIMEOUT_MINUTES
    terminates_jobs: bool = False
    tags: Mapping[str, str]
    template_overrides: tuple[tuple[str, str], ...] = ()
    images: Images = field(default_factory=Images)
    kind: Kind = "EC2"


@dataclass(frozen=True, kw_only=True)
class TemplateVersion:
    """What one version of a launch template says of instances.

    Attributes:
        rate_mib_s: Its volume initialization rate, MiB/s; None when it sets none.
        ami_id: Its AMI; None when it names none, or not by its id.
        volumes: EC2's settings of each volume that it names, by its device.
    """

    rate_mib_s: int | None = None
    ami_id: str | None = None
    volumes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as Batch describes it.

    Attributes:
        job_id: Its id.
        name: Its name.
        queue: Its queue's name.
        status: ``STARTING`` or ``RUNNING``.
        started: Since when it runs, UTC; None when Batch does not say.
        limit: Its time-out; None without one.
        cluster_arn: ARN of the ECS cluster it runs in; None when Batch does not say (Fargate, EKS, several nodes).
        environments: The compute environments of its queue, by ARN or name; None when Batch does not say.
    """

    job_id: str
    name: str
    queue: str
    status: str
    started: datetime | None
    limit: timedelta | None
    cluster_arn: str | None
    environments: frozenset[str] | None = None


@dataclass(frozen=True, kw_only=True)
class JobDefinition:
    """The newest active revision of a job definition.

    Attributes:
        name: Its name.
        revision: Its number.
        image: The container image that it runs, as written there.
        tags: Its tags.
    """

    name: str
    revision: int
    image: str
    tags: Mapping[str, str]

    @property
    def digest(self) -> str | None:
        """The image's digest; None when the definition names a tag."""
        _, at, digest = self.image.partition("@")
        return digest if at else None


@dataclass(frozen=True, kw_only=True)
class Volume:
    """The root volume of an instance that Batch started.

    Attributes:
        instance_id: The instance.
        ami_id: What it was launched from.
        volume_id: Its root volume.
        rate_mib_s: The volume's initialization rate, MiB/s; None when it has none.
    """

    instance_id: str
    ami_id: str
    volume_id: str
    rate_mib_s: int | None


def environments(caller: Caller, names: Sequence[str] | None = None) -> list[Environment]:
    """Return the compute environments that exist, or those of *names* that do.

    Raises:
        AwsError: Batch refused, or the list could not be read to its end.
    """
    filters = [{}] if names is None else [{"computeEnvironments": some} for some in _chunks(names)]
    rows = [row for which in filters for row in _environment_rows(caller, **which)]
    with making_sense(f"batch:DescribeComputeEnvironments in {caller.region}"):
        return [_environment(row) for row in rows if row.get("status") not in _GONE]


def _environment_rows(caller: Caller, **which: Any) -> Iterator[dict[str, Any]]:
    return caller.pages(
        "batch", "describe_compute_environments", "computeEnvironments", page_key="nextToken", **which, maxResults=_PAGE
    )


def _environment(row: Mapping[str, Any]) -> Environment:
    resources = row.get("computeResources") or {}
    template = resources.get("launchTemplate") or {}
    overrides = [_template(item) for item in template.get("overrides") or []]
    name, version = _template(template)
    policy = row.get("updatePolicy") or {}
    images = in_batch(resources)
    return Environment(
        name=row["computeEnvironmentName"],
        arn=row["computeEnvironmentArn"],
        state=row.get("state") or "unknown",
        status=row.get("status") or "unknown",
        reason=row.get("statusReason") or "",
        ami_id=None if images.conflict else images.main(),
        template=name,
        version=version,
        cluster_arn=row.get("ecsClusterArn") or None,
        timeout_minutes=int(policy.get("jobExecutionTimeoutMinutes") or _TIMEOUT_MINUTES),
        terminates_jobs=bool(policy.get("terminateJobsOnUpdate")),
        tags=dict(row.get("tags") or {}),
        template_overrides=tuple((other, its_version) for other, its_version in overrides if other),
        images=images,
        kind=kind_of(row.get("type"), resources.get("type"), has_eks=bool(row.get("eksConfiguration"))),
    )


def _template(row: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return id or name of a launch template, and the version that is requested of it."""
    name = row.get("launchTemplateId") or row.get("launchTemplateName") or None
    return name, str(row.get("version") or "$Default")


def running_jobs(caller: Caller) -> list[Job]:
    """Return every job that holds an instance now, in every queue; children of array jobs are jobs of their own.

    Raises:
        AwsError: Batch refused, or a list could not be read to its end.
    """
    queues = caller.pages("batch", "describe_job_queues", "jobQueues", page_key="nextToken", maxResults=_PAGE)
    with making_sense(f"batch:DescribeJobQueues in {caller.region}"):
        served_by = {str(row["jobQueueName"]): _serving(row) for row in queues}
    with making_sense(f"batch:ListJobs in {caller.region}"):
        found = {job_id: name for name in served_by for job_id in _active_ids(caller, name)}
    with making_sense(f"batch:DescribeJobs in {caller.region}"):
        rows = [row for some in _chunks(found) for row in caller.call("batch", "describe_jobs", jobs=some)["jobs"]]
        running = [row for row in rows if row["status"] in ("STARTING", "RUNNING")]
        return [_job(row, found[row["jobId"]], served_by[found[row["jobId"]]]) for row in running]


def _serving(queue: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the compute environments that run a queue's jobs; None unless Batch names every one."""
    order = queue.get("computeEnvironmentOrder") or []
    named = frozenset(str(item["computeEnvironment"]) for item in order if item.get("computeEnvironment"))
    return named if named and len(named) == len(order) else None


def _active_ids(caller: Caller, queue: str) -> Iterator[str]:
    """Yield the jobs of *queue* that start or run; the parent of an array job only waits for its children."""
    for status in ("STARTING", "RUNNING"):
        yield from (row["jobId"] for row in _job_rows(caller, jobQueue=queue, jobStatus=status))
    for parent in _job_rows(caller, jobQueue=queue, jobStatus="PENDING"):
        if parent.get("arrayProperties"):
            for status in ("STARTING", "RUNNING"):
                yield from (row["jobId"] for row in _job_rows(caller, arrayJobId=parent["jobId"], jobStatus=status))


def _job_rows(caller: Caller, **which: Any) -> Iterator[dict[str, Any]]:
    return caller.pages("batch", "list_jobs", "jobSummaryList", page_key="nextToken", **which, maxResults=_PAGE)


def _job(row: Mapping[str, Any], queue: str, environments: frozenset[str] | None) -> Job:
    started = row.get("startedAt")
    seconds = (row.get("timeout") or {}).get("attemptDurationSeconds")
    container = row.get("container") or {}
    return Job(
        job_id=row["jobId"],
        name=row["jobName"],
        queue=queue,
        status=row["status"],
        started=datetime.fromtimestamp(started / 1000, tz=timezone.utc) if started else None,
        limit=timedelta(seconds=seconds) if seconds else None,
        cluster_arn=_cluster_of(container.get("containerInstanceArn")),
        environments=environments,
    )


def _cluster_of(container_instance: str | None) -> str | None:
    """Return the cluster that ``arn:…:container-instance/CLUSTER/ID`` names; None for the old form without it."""
    head, found, rest = (container_instance or "").partition(":container-instance/")
    return f"{head}:cluster/{rest.split('/')[0]}" if found and "/" in rest else None


def job_definitions(caller: Caller) -> list[JobDefinition]:
    """Return the newest active revision of each job definition that runs a container.

    Raises:
        AwsError: Batch refused, or the list could not be read to its end.
    """
    rows = caller.pages(
        "batch", "describe_job_definitions", "jobDefinitions", page_key="nextToken", status="ACTIVE", maxResults=_PAGE
    )
    with making_sense(f"batch:DescribeJobDefinitions in {caller.region}"):
        found = [
            JobDefinition(
                name=row["jobDefinitionName"],
                revision=int(row["revision"]),
                image=image,
                tags=dict(row.get("tags") or {}),
            )
            for row in rows
            if (image := (row.get("containerProperties") or {}).get("image"))
        ]
    newest = {item.name: item for item in sorted(found, key=lambda item: item.revision)}
    return [newest[name] for name in sorted(newest)]


def template_version(caller: Caller, template: str, version: str) -> TemplateVersion:
    """Return what a launch template version says.

    Raises:
        AwsError: EC2 refused, or there is no such version.
    """
    which = "LaunchTemplateId" if template.startswith("lt-") else "LaunchTemplateName"
    answer = caller.call(
        "ec2", "describe_launch_template_versions", Versions=[version], **{which: template}, **_HIDDEN_TOO
    )
    with making_sense(f"ec2:DescribeLaunchTemplateVersions {template}"):
        data = answer["LaunchTemplateVersions"][0]["LaunchTemplateData"]
        mappings = data.get("BlockDeviceMappings") or []
        rates = [mapping.get("Ebs", {}).get("VolumeInitializationRate") for mapping in mappings]
        named = str(data.get("ImageId") or "")
        return TemplateVersion(
            rate_mib_s=next((int(rate) for rate in rates if rate), None),
            ami_id=named if AMI_ID.fullmatch(named) else None,
            volumes={str(mapping["DeviceName"]): mapping["Ebs"] for mapping in mappings if "Ebs" in mapping},
        )


def volumes(caller: Caller, cluster_arn: str) -> list[Volume]:
    """Return the root volume of each instance that runs in an environment's cluster; empty when none does.

    Raises:
        AwsError: ECS or EC2 refused, or a list could not be read to its end.
    """
    instances = _instances(caller, cluster_arn)
    roots: dict[str, Mapping[str, Any]] = {}
    for row in instances:
        for mapping in row.get("BlockDeviceMappings") or []:
            if mapping.get("DeviceName") == row.get("RootDeviceName") and "Ebs" in mapping:
                roots[mapping["Ebs"]["VolumeId"]] = row
    if not roots:
        return []
    with making_sense(f"ec2:DescribeVolumes in {caller.region}"):
        return [
            Volume(
                instance_id=roots[row["VolumeId"]]["InstanceId"],
                ami_id=roots[row["VolumeId"]]["ImageId"],
                volume_id=row["VolumeId"],
                rate_mib_s=row.get("VolumeInitializationRate") or None,
            )
            for some in _chunks(roots)
            for row in caller.call("ec2", "describe_volumes", VolumeIds=some, **_HIDDEN_TOO)["Volumes"]
        ]


def _instances(caller: Caller, cluster_arn: str) -> list[dict[str, Any]]:
    """Return EC2's rows of the running instances of an ECS cluster; none when the cluster is gone."""
    try:
        arns = [arn for page in _container_instance_pages(caller, cluster_arn) for arn in page]
    except RefusedError as exc:
        if exc.code == "ClusterNotFoundException":
            return []
        raise
    ids: list[str] = []
    for some in _chunks(arns):
        answer = caller.call("ecs", "describe_container_instances", cluster=cluster_arn, containerInstances=some)
        with making_sense("ecs:DescribeContainerInstances"):
            ids += [row["ec2InstanceId"] for row in answer["containerInstances"] if row.get("ec2InstanceId")]
    rows: list[dict[str, Any]] = []
    for some in _chunks(ids):
        answer = caller.call("ec2", "describe_instances", InstanceIds=some, **_HIDDEN_TOO)
        with making_sense("ec2:DescribeInstances"):
            found = [row for reservation in answer["Reservations"] for row in reservation["Instances"]]
            rows += [row for row in found if row["State"]["Name"] in ("pending", "running")]
    return rows


def _container_instance_pages(caller: Caller, cluster_arn: str) -> Iterator[list[str]]:
    for answer in caller.whole_pages("ecs", "list_container_instances", page_key="nextToken", cluster=cluster_arn):
        with making_sense("ecs:ListContainerInstances"):
            yield list(answer["containerInstanceArns"])


def _chunks(values: Iterable[str]) -> Iterator[list[str]]:
    all_values = list(values)
    for at in range(0, len(all_values), _AT_ONCE):
        yield all_values[at : at + _AT_ONCE]
