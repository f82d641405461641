"""Auto Scaling's instance refreshes, which moto lacks, warm pools' instances, and the activities of Batch's groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from moto.autoscaling.models import autoscaling_backends
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult

from gpu_ami_sandbox.aws.paging import page
from gpu_ami_sandbox.aws.refusals import refuse

_PAGE = 50
_ACTIVITIES_PAGE = 100


@dataclass(frozen=True)
class ScalingGroup:
    """A group that Batch made.

    Attributes:
        activities: Oldest first, as DescribeScalingActivities shows them.
        is_deleted: Its activities are shown only on request then, as they are for six weeks.
    """

    activities: list[dict[str, Any]] = field(default_factory=list)
    is_deleted: bool = False


def scaling_groups(account: str, region: str) -> dict[str, ScalingGroup]:
    """Return the groups that Batch made, by name, to add to."""
    kept: dict[str, ScalingGroup] = vars(autoscaling_backends[account][region]).setdefault("sandbox_groups", {})
    return kept


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
    """Auto Scaling, with what a refresh or a warm pool brings into a group, and what a group of Batch's did."""

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

    def describe_scaling_activities(self) -> ActionResult:
        """List what groups of Batch's did, the newest first, in pages; moto's groups do nothing."""
        name, with_deleted = self._get_param("AutoScalingGroupName"), self._get_param("IncludeDeletedGroups", False)
        groups = scaling_groups(self.current_account, self.region)
        shown = {key: group for key, group in groups.items() if with_deleted or not group.is_deleted}
        if name and name not in shown and name not in self.autoscaling_backend.autoscaling_groups:
            refuse("ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup: {name} not found")
        rows = [row for key, group in shown.items() if name in (None, key) for row in group.activities]
        requested = self._get_param("ActivityIds") or [row["ActivityId"] for row in rows]
        rows = [row for row in rows if row["ActivityId"] in requested]
        rows.sort(key=lambda row: row["StartTime"], reverse=True)
        return ActionResult(self._page("Activities", rows, _ACTIVITIES_PAGE))

    def _group(self) -> str:
        name = str(self._get_param("AutoScalingGroupName"))
        if name not in self.autoscaling_backend.autoscaling_groups:
            refuse("ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup: {name} not found")
        return name

    def _page(self, key: str, rows: list[dict[str, Any]], usual: int = _PAGE) -> dict[str, Any]:
        shown, token = page(rows, self._get_param("NextToken"), int(self._get_param("MaxRecords") or usual))
        return {key: shown, "NextToken": token}
