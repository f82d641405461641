"""Batch's jobs: a bench's probe has a cold start, any other job runs until it is terminated.

moto would start a container, and there is no Docker here.
"""

from __future__ import annotations

from copy import deepcopy
from datetime import datetime
from typing import Any

from moto.batch import models

from gpu_ami_sandbox.aws import clock
from gpu_ami_sandbox.aws.batch_starts import ColdStart, begin, is_probe

_LOG_GROUP = "/aws/batch/job"
# What moto has for a job that never ran.
_NEVER = 1970


class SandboxJob(models.Job):
    """A job.

    Attributes:
        cold_start: Its start on a host of its own; None for a job that runs at once.
        is_cancelled: Whether it was ended before it began.
        is_terminated: Whether somebody asked for its end.
    """

    cold_start: ColdStart | None = None
    exit_code: int | None
    container_overrides: dict[str, Any]
    is_cancelled = False
    is_terminated = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.job_created_at = clock.now()

    def start(self) -> None:
        """Begin: with a cold start, or at once and without doing anything."""
        if self.job_definition.container_properties is not None and is_probe(self.command()):
            self.cold_start = begin(self)
            return
        self.job_started_at = clock.now()
        self.status = "RUNNING"

    def terminate(self, reason: str) -> None:
        """End as failed, as a terminated job does; one that is over stays as it is."""
        if self.status in ("SUCCEEDED", "FAILED"):
            return
        self.is_terminated = True
        if self.cold_start is not None:
            self.cold_start.terminate(reason)
            return
        super().terminate(reason)
        self.exit_code = 137
        self._mark_stopped(success=False)

    def end(self, at: datetime, reason: str, exit_code: int | None) -> None:
        """End at the time *at*, with the container's exit code where there was one."""
        start, self.exit_code, self.job_stopped_reason = self.cold_start, exit_code, reason
        if start is not None and start.task is not None:
            container = {
                "containerInstanceArn": start.task.row["containerInstanceArn"],
                "taskArn": start.task.arn,
                "networkInterfaces": [],
            }
            container |= {"logStreamName": start.stream} if start.stream else {}
            container |= {} if exit_code is None else {"exitCode": exit_code}
            attempt = {"container": container, "stoppedAt": int(at.timestamp() * 1000), "statusReason": reason}
            self.attempts.append(attempt | self._begun())
        self._mark_stopped(success=exit_code == 0)
        self.job_stopped_at = at

    # --- what it asks for

    def command(self) -> list[str]:
        """Return what its container runs."""
        return list(self._get_container_property("command", []) or [])

    def image(self) -> str:
        """Return its container image's reference."""
        return str((self.job_definition.container_properties or {}).get("image", ""))

    def log_group(self) -> str:
        """Return the group that its log goes to."""
        logs = (self.job_definition.container_properties or {}).get("logConfiguration") or {}
        return str((logs.get("options") or {}).get("awslogs-group") or _LOG_GROUP)

    def needs(self) -> tuple[float, int, int]:
        """Return vCPUs, MiB of memory and GPUs that it asks for."""
        properties = self.job_definition.container_properties or {}
        given = {row["type"]: row["value"] for row in properties.get("resourceRequirements") or []}
        given |= {row["type"]: row["value"] for row in self.container_overrides.get("resourceRequirements") or []}
        vcpus = given.get("VCPU") or self.container_overrides.get("vcpus") or properties.get("vcpus") or 1
        memory_mib = given.get("MEMORY") or self.container_overrides.get("memory") or properties.get("memory") or 512
        return float(vcpus), int(memory_mib), int(given.get("GPU") or 0)

    # --- how it is shown

    def describe_short(self) -> dict[str, Any]:
        """Return the job as ListJobs shows it; one that never ran has not started."""
        row: dict[str, Any] = super().describe_short()
        if self.job_started_at.year == _NEVER:
            row.pop("startedAt", None)
        flags = {"isCancelled": self.is_cancelled, "isTerminated": self.is_terminated}
        return row | flags if self.cold_start is not None else row

    def describe(self) -> dict[str, Any]:
        """Return the job as DescribeJobs shows it."""
        row: dict[str, Any] = super().describe()
        if "container" not in row or self.job_definition.container_properties is None:
            return row
        properties = self.job_definition.container_properties
        row["container"]["image"] = self.image()
        row["container"]["vcpus"] = int(row["container"]["vcpus"])
        for name in ("resourceRequirements", "mountPoints", "secrets"):
            row["container"][name] = self.container_overrides.get(name) or properties.get(name) or []
        row["container"]["networkInterfaces"] = []
        row["platformCapabilities"] = self.job_definition.platform_capabilities or ["EC2"]
        row["retryStrategy"] = self.job_definition.retry_strategy or {"attempts": 1, "evaluateOnExit": []}
        row["propagateTags"] = bool(self.job_definition.propagate_tags)
        if (limit_s := self._get_attempt_duration()) is not None:
            row["timeout"] = {"attemptDurationSeconds": int(limit_s)}
        if self.cold_start is not None:
            row["container"] |= self._where(self.cold_start)
        return row

    def _where(self, start: ColdStart) -> dict[str, Any]:
        """Return where a job with a cold start is: its task from STARTING on, its log's stream from RUNNING on."""
        if start.task is None:
            return {}
        where: dict[str, Any] = {
            "containerInstanceArn": start.task.row["containerInstanceArn"],
            "taskArn": start.task.arn,
        }
        where |= {"logStreamName": start.stream} if start.stream else {}
        if self.exit_code is not None:
            where["exitCode"] = self.exit_code
        return where

    def _begun(self) -> dict[str, int]:
        return {} if self.job_started_at.year == _NEVER else {"startedAt": int(self.job_started_at.timestamp() * 1000)}

    def _get_container_property(self, p: str, default: Any) -> Any:
        """Return a property; moto would add the job's id to its environment at each look."""
        before = self.container_overrides
        self.container_overrides = deepcopy(before)
        try:
            return super()._get_container_property(p, default)
        finally:
            self.container_overrides = before

    def _mark_stopped(self, success: bool = True) -> None:
        before = self.job_stopped
        super()._mark_stopped(success)
        if not before:
            self.job_stopped_at = clock.now()


models.Job = SandboxJob
