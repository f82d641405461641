"""Auto Scaling: what an instance refresh under way brings, and what waits in warm pools.

Neither shows in the group itself: it is changed only once the refresh has succeeded (Auto Scaling user guide), and the
instances of a pool are not among its own. Both begin with the groups that `auto_scaling` has listed.
"""

from __future__ import annotations

from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError
from gpu_ami.aws.references.aliases import with_aliases
from gpu_ami.aws.references.auto_scaling import groups
from gpu_ami.aws.references.reading import joined
from gpu_ami.aws.references.source import Found, SourceQuery, members
from gpu_ami.aws.references.templates import template_references

_WORKERS = 16
_GROUP_GONE = "AutoScalingGroup name not found"
# Any other state, one that is added some day too, may still launch what the refresh asks for.
_REFRESH_OVER = frozenset({"Successful", "Failed", "Cancelled", "RollbackFailed", "RollbackSuccessful"})


class InstanceRefreshes:
    """Instance refreshes that are not over, one that is baked, cancelled or rolled back included."""

    name = "instance-refreshes"
    service = "autoscaling"
    is_essential = False
    is_use = True
    reads = members(
        "autoscaling:DescribeInstanceRefreshes",
        "InstanceRefreshes[].DesiredConfiguration.MixedInstancesPolicy.LaunchTemplate.Overrides[].ImageId",
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return what each desired configuration names; its templates are read by launch-templates."""
        named = joined(groups(caller, query), lambda group: _refreshes(caller, group.name), workers=_WORKERS)
        found = with_aliases(caller, self.name, named)
        return Found([*found.references, *template_references(caller, query, self.name, named)], found.notes)


class WarmPools:
    """Instances in warm pools: of one whose root volume was replaced, EC2 shows another AMI."""

    name = "warm-pools"
    service = "autoscaling"
    is_essential = False
    is_use = True
    reads = members("autoscaling:DescribeWarmPool", "Instances[].ImageId")

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return what each instance was made from; one call for each group that has a pool."""
        with_pool = [group for group in groups(caller, query) if group.has_warm_pool]
        named = joined(with_pool, lambda group: _warm(caller, group.name), workers=_WORKERS)
        found = with_aliases(caller, self.name, named)
        return Found([*found.references, *template_references(caller, query, self.name, named)], found.notes)


def _refreshes(caller: Caller, group: str) -> list[tuple[str, object]]:
    rows = _of_group(caller, ("autoscaling", "describe_instance_refreshes", "InstanceRefreshes"), group)
    return [
        (f"{row['Status']} instance refresh of Auto Scaling group {group}", row.get("DesiredConfiguration") or {})
        for row in rows
        if row["Status"] not in _REFRESH_OVER
    ]


def _warm(caller: Caller, group: str) -> list[tuple[str, object]]:
    rows = _of_group(caller, ("autoscaling", "describe_warm_pool", "Instances"), group)
    return [(f"instance {row['InstanceId']} in the warm pool of Auto Scaling group {group}", row) for row in rows]


def _of_group(caller: Caller, listing: tuple[str, str, str], group: str) -> list[dict[str, Any]]:
    """Return the rows of a listing about *group*; none when it was deleted meanwhile."""
    try:
        return list(caller.pages(*listing, AutoScalingGroupName=group, MaxRecords=50))
    except RefusedError as exc:
        # Auto Scaling has no code of its own for it; what else is not found, as a launch template, is no deleted group.
        if exc.code == "ValidationError" and _GROUP_GONE in str(exc):
            return []
        raise
