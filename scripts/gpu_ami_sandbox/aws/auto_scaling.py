"""Auto Scaling's instance refreshes, which moto lacks, and the instances of warm pools."""

from __future__ import annotations

from typing import Any

from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult

from gpu_ami_sandbox.aws.paging import page
from gpu_ami_sandbox.aws.refusals import refuse

_PAGE = 50


def instance_refreshes(backend: Any, group: str) -> list[dict[str, Any]]:
    """Return the instance refreshes of a group in moto's *backend*, newest first, to add to."""
    return _kept(backend, "sandbox_refreshes", group)


def warm_instances(backend: Any, group: str) -> list[dict[str, Any]]:
    """Return the instances in the warm pool of a group in moto's *backend*, to add to."""
    return _kept(backend, "sandbox_warm", group)


def _kept(backend: Any, name: str, group: str) -> list[dict[str, Any]]:
    kept: dict[str, list[dict[str, Any]]] = vars(backend).setdefault(name, {})
    return kept.setdefault(group, [])


class SandboxAutoScaling(AutoScalingResponse):
    """Auto Scaling, with what a refresh or a warm pool brings into a group."""

    def describe_instance_refreshes(self) -> ActionResult:
        """List a group's instance refreshes, in pages."""
        rows = instance_refreshes(self.autoscaling_backend, self._group())
        return ActionResult(self._page("InstanceRefreshes", rows))

    def describe_warm_pool(self) -> ActionResult:
        """Show a group's warm pool and its instances, in pages."""
        group = self._group()
        pool = self.autoscaling_backend.describe_warm_pool(group_name=group)
        rows = warm_instances(self.autoscaling_backend, group)
        return ActionResult({"WarmPoolConfiguration": pool} | self._page("Instances", rows))

    def _group(self) -> str:
        name = str(self._get_param("AutoScalingGroupName"))
        if name not in self.autoscaling_backend.autoscaling_groups:
            refuse("ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup: {name} not found")
        return name

    def _page(self, key: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        shown, token = page(rows, self._get_param("NextToken"), int(self._get_param("MaxRecords") or _PAGE))
        return {key: shown, "NextToken": token}
