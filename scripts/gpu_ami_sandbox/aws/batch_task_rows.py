"""The ECS task of a Batch job, as DescribeTasks shows it from its placement to its end.

Members: ECS's API reference. The times of a pull come with the report that the task runs, not earlier, and not at all
when nothing is pulled (ECS agent's source).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from gpu_ami_sandbox.aws.batch_environments import Host, number_of
from gpu_ami_sandbox.aws.ecs import batch_tasks


class TaskRow:
    """One task.

    Attributes:
        id: Its id, the end of its ARN.
        row: As DescribeTasks shows it; times are aware.
    """

    def __init__(self, backend: Any, environment: Any, host: Host, job: Any, digest: str, seed: str) -> None:
        self._backend, self._host = backend, host
        self.id = number_of(seed, "task").hex
        where = f"arn:aws:ecs:{backend.region_name}:{backend.account_id}"
        arn = f"{where}:task/{environment.ecs_name}/{self.id}"
        vcpus, memory_mib, gpus = job.needs()
        name, revision = job.job_definition.name, job.job_definition.revision
        self._container: dict[str, Any] = {
            "containerArn": f"{where}:container/{environment.ecs_name}/{self.id}/{number_of(seed, 'container')}",
            "taskArn": arn,
            "name": "default",
            "image": job.image(),
            "lastStatus": "PENDING",
            "networkInterfaces": [],
            "cpu": str(int(vcpus * 1024)),
            "memory": str(memory_mib),
            "gpuIds": [f"GPU-{number_of(host.instance.id, str(number))}" for number in range(gpus)],
        }
        self._digest = digest
        self.row: dict[str, Any] = {
            "attachments": [],
            "availabilityZone": host.instance.placement if isinstance(host.instance.placement, str) else None,
            "clusterArn": environment.ecs_arn,
            "containerInstanceArn": host.container.container_instance_arn,
            "containers": [self._container],
            "cpu": self._container["cpu"],
            "desiredStatus": "RUNNING",
            "enableExecuteCommand": False,
            "group": f"family:{name}",
            "lastStatus": "PENDING",
            "launchType": "EC2",
            "memory": self._container["memory"],
            "overrides": {"containerOverrides": [], "inferenceAcceleratorOverrides": []},
            "tags": [],
            "taskArn": arn,
            "taskDefinitionArn": f"{where}:task-definition/{name}:{revision}",
            "version": 1,
        }
        self.row["availabilityZone"] = host.container.attributes["ecs.availability-zone"]

    @property
    def arn(self) -> str:
        """The task's ARN."""
        return str(self.row["taskArn"])

    def place(self, at: datetime) -> None:
        """Let the task be on its host, PENDING."""
        self.row["createdAt"] = at
        batch_tasks(self._backend.account_id, self._backend.region_name)[self.arn] = self.row
        self._host.container.pending_tasks_count += 1

    def start(self, at: datetime, pull: tuple[datetime, datetime] | None) -> None:
        """Let the task run, with the times of its pull where something was pulled."""
        if pull:
            self.row["pullStartedAt"], self.row["pullStoppedAt"] = pull
        self.row |= {"startedAt": at, "lastStatus": "RUNNING", "version": 2}
        self.row |= {"connectivity": "CONNECTED", "connectivityAt": self.row["createdAt"] + timedelta(seconds=0.4)}
        self._container |= {"lastStatus": "RUNNING", "imageDigest": self._digest, "runtimeId": f"{self.id * 2}"}
        self._host.container.pending_tasks_count -= 1
        self._host.container.running_tasks_count += 1

    def stop(self, at: datetime, exit_code: int | None, reason: str) -> None:
        """Let the task be STOPPED; ECS shows it for an hour at least."""
        ran = self.row["lastStatus"] == "RUNNING"
        count = "running_tasks_count" if ran else "pending_tasks_count"
        setattr(self._host.container, count, max(0, getattr(self._host.container, count) - 1))
        is_its_own = reason.startswith("Essential container")
        self.row |= {"desiredStatus": "STOPPED", "lastStatus": "STOPPED", "version": 3, "stoppedReason": reason}
        self.row |= {"stopCode": "EssentialContainerExited" if is_its_own else "UserInitiated"}
        self.row |= {"stoppingAt": at, "executionStoppedAt": at, "stoppedAt": at + timedelta(seconds=0.6)}
        self._container["lastStatus"] = "STOPPED"
        if exit_code is not None and ran:
            self._container["exitCode"] = exit_code

    def forget(self) -> None:
        """Let ECS know nothing of the task any more."""
        batch_tasks(self._backend.account_id, self._backend.region_name).pop(self.arn, None)
