"""Batch as it really behaves: service-linked role, updates that stick, jobs that run, pages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from moto.batch import models
from moto.batch.responses import BatchResponse
from moto.iam.models import SERVICE_NAME_CONVERSION, iam_backends

from gpu_ami_sandbox.aws import clock
from gpu_ami_sandbox.aws.paging import PAGE_SIZES, page

_SERVICE = "batch.amazonaws.com"
_ROLE = "AWSServiceRoleForBatch"
# What AWS shows of an environment that was made without a policy.
DEFAULT_POLICY = {"terminateJobsOnUpdate": False, "jobExecutionTimeoutMinutes": 30}
# What an update changes without touching an instance.
_SCALING = frozenset({"minvCpus", "maxvCpus", "desiredvCpus"})
# moto would write "batch" in the role's name.
SERVICE_NAME_CONVERSION["batch"] = "Batch"


class RunningJob(models.Job):
    """A job that runs until it is terminated; moto would start a container, and there is no Docker here."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.job_created_at = clock.now()

    def start(self) -> None:
        """Run, without doing anything."""
        self.job_started_at = clock.now()
        self.status = "RUNNING"

    def terminate(self, reason: str) -> None:
        """End as failed, as a terminated job does."""
        super().terminate(reason)
        self.exit_code = 137
        self._mark_stopped(success=False)

    def _mark_stopped(self, success: bool = True) -> None:
        before = self.job_stopped
        super()._mark_stopped(success)
        if not before:
            self.job_stopped_at = clock.now()


models.Job = RunningJob


class SandboxBatch(BatchResponse):
    """Batch; moto demands a role, forgets updates of compute resources, runs jobs in Docker and knows no pages."""

    body: str

    def createcomputeenvironment(self) -> str:
        """Create an environment, with Batch's service-linked role when none is given."""
        if not self._get_param("serviceRole"):
            request = json.loads(self.body)
            self.body = json.dumps(request | {"serviceRole": service_linked_role(self.current_account)})
        return str(super().createcomputeenvironment())

    def updatecomputeenvironment(self) -> str:
        """Update an environment, its AMI, launch template and update policy included."""
        answer = str(super().updatecomputeenvironment())  # refuses an unknown one
        environment = self.batch_backend.get_compute_environment(self._get_param("computeEnvironment"))
        requested = self._get_param("computeResources") or {}
        changed = {key for key, value in requested.items() if environment.compute_resources.get(key) != value}
        environment.compute_resources.update(requested)
        if changed - _SCALING:
            environment.updating_since = clock.now()
        if policy := self._get_param("updatePolicy"):
            environment.update_policy = DEFAULT_POLICY | policy
        return answer

    def describecomputeenvironments(self) -> str:
        """List environments with their update policies, in pages; one is UPDATING while jobs keep its old instances."""
        answer = json.loads(super().describecomputeenvironments())
        for row in answer["computeEnvironments"]:
            environment = self.batch_backend.get_compute_environment(row["computeEnvironmentArn"])
            row["updatePolicy"] = getattr(environment, "update_policy", DEFAULT_POLICY)
            if _is_updating(environment, list(self.batch_backend._jobs.values()), now=clock.now()):
                row["status"] = "UPDATING"
        return self._paged(json.dumps(answer), "computeEnvironments", "DescribeComputeEnvironments")

    def describejobqueues(self) -> str:
        """List job queues, in pages."""
        return self._paged(super().describejobqueues(), "jobQueues", "DescribeJobQueues")

    def describejobdefinitions(self) -> str:
        """List job definitions, in pages."""
        return self._paged(super().describejobdefinitions(), "jobDefinitions", "DescribeJobDefinitions")

    def describejobs(self) -> str:
        """Show jobs, and where those run that do: on an instance of their queue's first environment."""
        answer = json.loads(super().describejobs())
        for row in answer["jobs"]:
            if row["status"] == "RUNNING" and "container" in row:
                queue = self.batch_backend.get_job_queue(row["jobQueue"])
                cluster = queue.environments[0].ecs_arn.replace(":cluster/", ":container-instance/")
                row["container"]["containerInstanceArn"] = f"{cluster}/{row['jobId'].replace('-', '')[:32]}"
        return json.dumps(answer)

    def listjobs(self) -> str:
        """List jobs of one status, RUNNING unless another is requested, in pages."""
        answer = json.loads(super().listjobs())
        if not self._get_param("filters"):
            requested = self._get_param("jobStatus") or "RUNNING"
            answer["jobSummaryList"] = [row for row in answer["jobSummaryList"] if row["status"] == requested]
        return self._paged(json.dumps(answer), "jobSummaryList", "ListJobs")

    def _paged(self, answer: str, key: str, operation: str) -> str:
        size = int(self._get_param("maxResults") or PAGE_SIZES[operation])
        rows, token = page(json.loads(answer)[key], self._get_param("nextToken"), size)
        return json.dumps({key: rows, "nextToken": token} if token else {key: rows})


def _is_updating(environment: Any, jobs: Iterable[models.Job], *, now: datetime) -> bool:
    """Whether jobs still hold instances from before an update; those that the policy gives no more time are ended."""
    since = getattr(environment, "updating_since", None)
    if since is None:
        return False
    policy = getattr(environment, "update_policy", DEFAULT_POLICY)
    minutes = 0 if policy["terminateJobsOnUpdate"] else policy["jobExecutionTimeoutMinutes"]
    on_old = [
        job
        for job in jobs
        if job.status == "RUNNING" and job.job_queue.environments[0] is environment and job.job_started_at <= since
    ]
    if on_old and now < since + timedelta(minutes=minutes):
        return True
    for job in on_old:
        job.terminate("Compute environment was updated")
    environment.updating_since = None
    return False


def service_linked_role(account: str) -> str:
    """Return the ARN of Batch's service-linked role, made on first use as Batch does."""
    iam = iam_backends[account]["aws"]
    existing = next((role for role in iam.roles.values() if role.name == _ROLE), None)
    if existing is None:
        existing = iam.create_service_linked_role(_SERVICE, "", "")
    return str(existing.arn)
