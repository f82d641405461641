"""Batch as it really behaves: service-linked role, updates that stick, states, refusals, time limits, jobs, pages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from moto.batch import models
from moto.batch.exceptions import ClientException
from moto.batch.responses import BatchResponse
from moto.iam.models import SERVICE_NAME_CONVERSION, iam_backends

from gpu_ami_sandbox.aws import batch_environments as environments
from gpu_ami_sandbox.aws import clock
from gpu_ami_sandbox.aws.batch_jobs import SandboxJob
from gpu_ami_sandbox.aws.paging import PAGE_SIZES, page

_SERVICE = "batch.amazonaws.com"
_ROLE = "AWSServiceRoleForBatch"
SAGEMAKER = "SAGEMAKER_TRAINING"
# What AWS shows of an environment that was made without a policy.
DEFAULT_POLICY = {"terminateJobsOnUpdate": False, "jobExecutionTimeoutMinutes": 30}
# What an update changes without touching an instance.
_SCALING = frozenset({"minvCpus", "maxvCpus", "desiredvCpus"})
# moto would write "batch" in the role's name.
SERVICE_NAME_CONVERSION["batch"] = "Batch"
_WAITING = ("SUBMITTED", "PENDING", "RUNNABLE")
_SHORTEST_LIMIT_S, _LONGEST_LIMIT_S = 600, 86_400


class SandboxBatch(BatchResponse):
    """Batch; moto demands a role, forgets updates of compute resources, runs jobs in Docker and knows no pages."""

    body: str

    def createcomputeenvironment(self) -> str:
        """Create an environment, with Batch's service-linked role when none is given."""
        environments.check_count("compute environments", self.batch_backend._compute_environments)
        if not self._get_param("serviceRole"):
            request = json.loads(self.body)
            self.body = json.dumps(request | {"serviceRole": service_linked_role(self.current_account)})
        answer = str(super().createcomputeenvironment())
        made = self.batch_backend.get_compute_environment(self._get_param("computeEnvironmentName"))
        environments.note_creation(made, self.batch_backend)
        return answer

    def deletecomputeenvironment(self) -> str:
        """Begin to delete an environment that is disabled and in no queue."""
        environments.delete_environment(self.batch_backend, str(self._get_param("computeEnvironment")))
        return ""

    def updatecomputeenvironment(self) -> str:
        """Update an environment, its AMI, launch template and update policy included."""
        environment = self.batch_backend.get_compute_environment(self._get_param("computeEnvironment"))
        before = None if environment is None else environment.state
        if environment is not None:
            environments.check_changeable(environment, "update")
        answer = str(super().updatecomputeenvironment())  # refuses an unknown one
        if environment.state != before:
            environments.note_update(environment)
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
            row["uuid"] = environment.ecs_name[-36:]
            row["containerOrchestrationType"] = "ECS"
            row["status"], row["statusReason"] = environments.status_of(environment)
            if row["status"] == "VALID" and _is_updating(
                environment, list(self.batch_backend._jobs.values()), now=clock.now()
            ):
                row["status"] = "UPDATING"
        return self._paged(json.dumps(answer), "computeEnvironments", "DescribeComputeEnvironments")

    def createjobqueue(self) -> str:
        """Create a queue on environments that are there, with its time limits, which moto drops."""
        environments.check_count("job queues", self.batch_backend._job_queues)
        limits = _time_limits(self._get_param("jobStateTimeLimitActions"))
        for entry in self._get_param("computeEnvironmentOrder") or []:
            named = self.batch_backend.get_compute_environment(entry["computeEnvironment"])
            if named is not None:
                environments.check_usable(named)
        answer = str(super().createjobqueue())
        queue = self.batch_backend.get_job_queue(self._get_param("jobQueueName"))
        vars(queue)["sandbox_time_limits"] = limits
        environments.note_creation(queue, self.batch_backend)
        return answer

    def updatejobqueue(self) -> str:
        """Update a queue, its time limits too."""
        queue = self.batch_backend.get_job_queue(str(self._get_param("jobQueue")))
        limits = self._get_param("jobStateTimeLimitActions")
        if queue is not None:
            environments.check_changeable(queue, "update")
        answer = str(super().updatejobqueue())  # refuses an unknown one
        if limits is not None:
            vars(queue)["sandbox_time_limits"] = _time_limits(limits)
        environments.note_update(queue)
        return answer

    def deletejobqueue(self) -> str:
        """Begin to delete a queue that is disabled."""
        environments.delete_queue(self.batch_backend, str(self._get_param("jobQueue")))
        return ""

    def describejobqueues(self) -> str:
        """List job queues with their states, types and time limits, in pages."""
        answer = json.loads(super().describejobqueues())
        for row in answer["jobQueues"]:
            queue = self.batch_backend.get_job_queue(row["jobQueueArn"])
            row["status"], row["statusReason"] = environments.status_of(queue)
            if row.get("schedulingPolicyArn") is None:
                row.pop("schedulingPolicyArn", None)
            row["jobStateTimeLimitActions"] = vars(queue).get("sandbox_time_limits", [])
            row["jobQueueType"] = _queue_type(queue)
            if service := getattr(queue, "service_environments", None):
                row["serviceEnvironmentOrder"] = service
        return self._paged(json.dumps(answer), "jobQueues", "DescribeJobQueues")

    def describejobdefinitions(self) -> str:
        """List job definitions, in pages."""
        return self._paged(super().describejobdefinitions(), "jobDefinitions", "DescribeJobDefinitions")

    def submitjob(self) -> str:
        """Take a job, if its queue does; moto's takes any, with definitions that are gone."""
        queue = self.batch_backend.get_job_queue(str(self._get_param("jobQueue")))
        if queue is not None and (queue.state != "ENABLED" or environments.status_of(queue)[0] == "DELETING"):
            msg = f"Job queue {queue.name} must be ENABLED and VALID to take jobs."
            raise ClientException(msg)
        definition = self.batch_backend.get_job_definition(str(self._get_param("jobDefinition")))
        if definition is not None and definition.status != "ACTIVE":
            msg = f"JobDefinition {definition.name}:{definition.revision} is not ACTIVE."
            raise ClientException(msg)
        return str(super().submitjob())

    def canceljob(self) -> str:
        """Cancel a job that has not begun; from STARTING on Batch says yes and does nothing."""
        job = self.batch_backend.get_job_by_id(str(self._get_param("jobId")))
        before = None if job is None else job.status
        answer = str(super().canceljob())
        if job is not None and before in _WAITING and job.status == "FAILED":
            job.is_cancelled, job.is_terminated = True, False
        return answer

    def describejobs(self) -> str:
        """Show jobs, and where those run that do: without a start of their own on a host of their first environment."""
        answer = json.loads(super().describejobs())
        for row in answer["jobs"]:
            job = self.batch_backend._jobs[row["jobId"]]
            if row["status"] == "RUNNING" and "container" in row and job.cold_start is None:
                cluster = job.job_queue.environments[0].ecs_arn.replace(":cluster/", ":container-instance/")
                row["container"]["containerInstanceArn"] = f"{cluster}/{row['jobId'].replace('-', '')[:32]}"
        return json.dumps(answer)

    def listjobs(self) -> str:
        """List jobs of one status, RUNNING unless another is requested, in pages.

        What Batch says of a queue of SageMaker is in no document; here it refuses, so that whoever asks is seen.
        """
        queue = self.batch_backend.get_job_queue(str(self._get_param("jobQueue")))
        if queue is not None and _queue_type(queue) == SAGEMAKER:
            msg = f"The job queue {queue.name} has service jobs: use ListServiceJobs."
            raise ClientException(msg)
        answer = json.loads(super().listjobs())
        if not self._get_param("filters"):
            requested = self._get_param("jobStatus") or "RUNNING"
            answer["jobSummaryList"] = [row for row in answer["jobSummaryList"] if row["status"] == requested]
        return self._paged(json.dumps(answer), "jobSummaryList", "ListJobs")

    def _paged(self, answer: str, key: str, operation: str) -> str:
        size = int(self._get_param("maxResults") or PAGE_SIZES[operation])
        rows, token = page(json.loads(answer)[key], self._get_param("nextToken"), size)
        return json.dumps({key: rows, "nextToken": token} if token else {key: rows})


def add_sagemaker_queue(backend: Any, name: str) -> None:
    """Add a queue of SageMaker training jobs to a backend of moto's, which knows no service environments."""
    queue = models.JobQueue(name, "1", "ENABLED", [], [], None, backend)
    arn = f"arn:aws:batch:{backend.region_name}:{backend.account_id}:service-environment/{name}"
    queue.service_environments = [{"order": 1, "serviceEnvironment": arn}]
    backend._job_queues[queue.arn] = queue


def _time_limits(given: Any) -> list[dict[str, Any]]:
    """Return the time limits of a queue, as they are given; what is out of Batch's range is refused."""
    limits: list[dict[str, Any]] = given or []
    for limit in limits:
        if not _SHORTEST_LIMIT_S <= int(limit["maxTimeSeconds"]) <= _LONGEST_LIMIT_S:
            msg = f"maxTimeSeconds must be from {_SHORTEST_LIMIT_S} to {_LONGEST_LIMIT_S}."
            raise ClientException(msg)
        if limit["action"] != "CANCEL" or limit["state"] != "RUNNABLE":
            msg = "jobStateTimeLimitActions of this queue must CANCEL jobs that are RUNNABLE."
            raise ClientException(msg)
    return limits


def _queue_type(queue: Any) -> str:
    """Return what Batch calls a queue's type: by the environments that it has."""
    if getattr(queue, "service_environments", None):
        return SAGEMAKER
    kinds = {str((environment.compute_resources or {}).get("type", "")) for environment in queue.environments}
    if any(getattr(environment, "eks_configuration", None) for environment in queue.environments):
        return "EKS"
    return "ECS_FARGATE" if any(kind.startswith("FARGATE") for kind in kinds) else "ECS"


def _is_updating(environment: Any, jobs: Iterable[SandboxJob], *, now: datetime) -> bool:
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
