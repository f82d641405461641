"""ECS: clusters that say how many services they have, and the tasks of Batch's jobs, with their times.

moto's tasks have no times, and each look moves them on. Members: ECS's API reference; a task that is not there is a
failure ``MISSING``.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.ecs.exceptions import ClusterNotFoundException
from moto.ecs.models import ecs_backends
from moto.ecs.responses import EC2ContainerServiceResponse

from gpu_ami_sandbox.aws.paging import page

_PAGE = 100


def batch_tasks(account: str, region: str) -> dict[str, dict[str, Any]]:
    """Return the tasks of Batch's jobs by ARN, as DescribeTasks shows them, to add to."""
    kept: dict[str, dict[str, Any]] = vars(ecs_backends[account][region]).setdefault("sandbox_tasks", {})
    return kept


class SandboxECS(EC2ContainerServiceResponse):
    """ECS, as far as clusters and services are listed, and hosts and tasks of Batch's are shown."""

    def describe_clusters(self) -> ActionResult:
        """Show clusters, with the number of their services that are active."""
        services = self.ecs_backend.services.values()
        for cluster in self.ecs_backend.clusters.values():
            active = [s for s in services if s.cluster_arn == cluster.arn and s.status == "ACTIVE"]
            cluster.active_services_count = len(active)
        return super().describe_clusters()

    def describe_tasks(self) -> ActionResult:
        """Show tasks: those of Batch's jobs from here, others as moto does."""
        cluster = self._cluster()
        asked = [str(task) for task in self._get_param("tasks", [])]
        mine = [row for row in self._tasks().values() if row["clusterArn"] == cluster.arn]
        shown = [row for row in mine if any(_names(row["taskArn"], one) for one in asked)]
        rest = [one for one in asked if not any(_names(row["taskArn"], one) for row in shown)]
        others = self.ecs_backend.describe_tasks(cluster.name, rest) if rest or not asked else []
        missing = [one for one in rest if not any(_names(task.task_arn, one) for task in others)]
        failures = [{"arn": one, "reason": "MISSING"} for one in missing]
        return ActionResult({"tasks": [*shown, *others], "failures": failures})

    def list_tasks(self) -> ActionResult:
        """List tasks, in pages: those that run unless stopped ones are requested."""
        cluster = self._cluster()
        host, status = self._get_param("containerInstance"), self._get_param("desiredStatus") or "RUNNING"
        arns = [
            arn
            for arn, row in self._tasks().items()
            if row["clusterArn"] == cluster.arn
            and row["desiredStatus"] == status
            and (not host or row["containerInstanceArn"].endswith(host))
        ]
        arns += super().list_tasks().result["taskArns"]
        return ActionResult(self._paged("taskArns", arns))

    def list_container_instances(self) -> ActionResult:
        """List the hosts of a cluster, in pages."""
        cluster = self._cluster()
        arns = self.ecs_backend.list_container_instances(cluster.name, self._get_param("status"))
        return ActionResult(self._paged("containerInstanceArns", arns))

    def describe_container_instances(self) -> ActionResult:
        """Show hosts; moto fails in a cluster that never had one."""
        self.ecs_backend.container_instances.setdefault(self._cluster().name, {})
        return super().describe_container_instances()

    def _cluster(self) -> Any:
        """Return the cluster that the request names; of one of Batch's that is deleted nothing is shown."""
        cluster = self.ecs_backend._get_cluster(str(self._get_param("cluster", "default")))
        if cluster.status != "ACTIVE":
            raise ClusterNotFoundException
        return cluster

    def _tasks(self) -> dict[str, dict[str, Any]]:
        return batch_tasks(self.current_account, self.region)

    def _paged(self, key: str, rows: list[str]) -> dict[str, Any]:
        shown, token = page(rows, self._get_param("nextToken"), int(self._get_param("maxResults") or _PAGE))
        return {key: shown, "nextToken": token}


def _names(arn: str, given: str) -> bool:
    """Return whether *given*, an ARN or the id in one, is *arn*'s."""
    return arn == given or arn.endswith(f"/{given}")
