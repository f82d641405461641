"""ECS: clusters that say how many services they have; moto always says none."""

from __future__ import annotations

from moto.core.responses import ActionResult
from moto.ecs.responses import EC2ContainerServiceResponse


class SandboxECS(EC2ContainerServiceResponse):
    """ECS, as far as clusters and services are listed."""

    def describe_clusters(self) -> ActionResult:
        """Show clusters, with the number of their services that are active."""
        services = self.ecs_backend.services.values()
        for cluster in self.ecs_backend.clusters.values():
            active = [s for s in services if s.cluster_arn == cluster.arn and s.status == "ACTIVE"]
            cluster.active_services_count = len(active)
        return super().describe_clusters()
