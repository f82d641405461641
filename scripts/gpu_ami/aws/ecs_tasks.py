"""Reads from ECS what became of the one task of a host, and what the agent said of its container instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, making_sense


@dataclass(frozen=True, kw_only=True)
class TaskSeen:
    """A task as DescribeTasks shows it; times are seconds since 1970, None where ECS shows none.

    Attributes:
        arn: The task.
        created: When it entered PENDING: Batch's STARTING.
        pull_started: By the agent, when its first container's pull began; None where the image was there already.
        pull_stopped: By the agent, when the last one's ended.
        started: When it went from PENDING to RUNNING.
        digest: Of its container's image, ``sha256:…``.
        status: Its last status.
        stopped_reason: Why it was stopped.
    """

    arn: str
    created: float | None = None
    pull_started: float | None = None
    pull_stopped: float | None = None
    started: float | None = None
    digest: str = ""
    status: str = ""
    stopped_reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ContainerInstance:
    """A container instance.

    Attributes:
        arn: Its ARN.
        instance_id: EC2's id of it.
        registered: When the agent registered it, seconds since 1970.
    """

    arn: str
    instance_id: str
    registered: float | None


def task(caller: Caller, cluster: str, arn: str) -> TaskSeen | None:
    """Return a task; None when ECS does not have it, or no longer: stopped ones stay an hour (its API reference).

    Raises:
        AwsError: ECS refused.
    """
    with making_sense(f"ecs:DescribeTasks in {caller.region}"):
        row = _described(caller, "describe_tasks", "task", arn, cluster=cluster, tasks=[arn])
        return None if row is None else _task(row)


def container_instance(caller: Caller, cluster: str, arn: str) -> ContainerInstance | None:
    """Return a container instance; None when ECS does not have it, or no longer.

    Raises:
        AwsError: ECS refused.
    """
    given = {"cluster": cluster, "containerInstances": [arn]}
    with making_sense(f"ecs:DescribeContainerInstances in {caller.region}"):
        row = _described(caller, "describe_container_instances", "containerInstance", arn, **given)
        if row is None:
            return None
        return ContainerInstance(
            arn=arn, instance_id=str(row.get("ec2InstanceId") or ""), registered=_seconds(row.get("registeredAt"))
        )


def _described(caller: Caller, operation: str, what: str, arn: str, **given: Any) -> Mapping[str, Any] | None:
    """Return what ECS shows of *arn*, a thing of the kind *what*; None when it, or its cluster, is not there."""
    try:
        answer = caller.call("ecs", operation, **given)
    except RefusedError as exc:
        if exc.code == "ClusterNotFoundException":
            return None
        raise
    return next((row for row in answer[f"{what}s"] if row[f"{what}Arn"] == arn), None)


def tasks_of(caller: Caller, cluster: str, container_instance_arn: str) -> tuple[str, ...]:
    """Return the ARNs of all tasks of a container instance that ECS has, stopped ones too.

    Raises:
        AwsError: ECS refused, or a list could not be read to its end.
    """
    found: dict[str, None] = {}
    for status in ("RUNNING", "STOPPED"):
        pages = caller.whole_pages(
            "ecs",
            "list_tasks",
            page_key="nextToken",
            cluster=cluster,
            containerInstance=container_instance_arn,
            desiredStatus=status,
        )
        for page in pages:
            with making_sense(f"ecs:ListTasks in {caller.region}"):
                found |= dict.fromkeys(str(arn) for arn in page["taskArns"])
    return tuple(found)


def _task(row: Mapping[str, Any]) -> TaskSeen:
    containers = row.get("containers") or []
    return TaskSeen(
        arn=row["taskArn"],
        created=_seconds(row.get("createdAt")),
        pull_started=_seconds(row.get("pullStartedAt")),
        pull_stopped=_seconds(row.get("pullStoppedAt")),
        started=_seconds(row.get("startedAt")),
        digest=next((str(one["imageDigest"]) for one in containers if one.get("imageDigest")), ""),
        status=str(row.get("lastStatus") or ""),
        stopped_reason=str(row.get("stoppedReason") or ""),
    )


def _seconds(moment: Any) -> float | None:
    return None if moment is None else float(moment.timestamp())
