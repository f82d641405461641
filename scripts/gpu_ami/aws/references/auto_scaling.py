"""Auto Scaling groups: what their mixed-instances overrides name, and the template versions they pin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.references.aliases import with_aliases
from gpu_ami.aws.references.source import Found, SourceQuery, members
from gpu_ami.aws.references.templates import template_references

_GROUPS = "auto-scaling groups"


@dataclass(frozen=True)
class Group:
    """What other sources of Auto Scaling need to know of a group.

    Attributes:
        name: Its name.
        has_warm_pool: Whether it has a warm pool.
    """

    name: str
    has_warm_pool: bool


class AutoScalingGroups:
    """All groups, those with no instance too: they launch again when they are scaled up."""

    name = "auto-scaling"
    service = "autoscaling"
    is_essential = True
    is_use = True
    reads = members(
        "autoscaling:DescribeAutoScalingGroups",
        "AutoScalingGroups[].MixedInstancesPolicy.LaunchTemplate.Overrides[].ImageId",
        # What an instance's root volume was replaced from, where that is another AMI than it was launched from.
        "AutoScalingGroups[].Instances[].ImageId",
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return what each group names; its templates are read by launch-templates."""
        rows = _rows(caller)
        query.listed[_GROUPS] = tuple(map(_group, rows))
        named = [(f"Auto Scaling group {row['AutoScalingGroupName']}", row) for row in rows]
        found = with_aliases(caller, self.name, named)
        return Found([*found.references, *template_references(caller, query, self.name, named)], found.notes)


def groups(caller: Caller, query: SourceQuery) -> tuple[Group, ...]:
    """Return all groups, as `AutoScalingGroups` has listed them in this round of queries; listed anew where it has not.

    Raises:
        AwsError: Auto Scaling refused, or the list could not be read to its end.
    """
    listed: tuple[Group, ...] | None = query.listed.get(_GROUPS)
    if listed is None:
        return tuple(map(_group, _rows(caller)))
    # What is refused from here on is no first listing: what the groups have is there, whether it can be shown or not.
    caller.answered += 1
    return listed


def _rows(caller: Caller) -> list[dict[str, Any]]:
    return list(caller.pages("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups", MaxRecords=100))


def _group(row: Mapping[str, Any]) -> Group:
    return Group(str(row["AutoScalingGroupName"]), bool(row.get("WarmPoolConfiguration")))
