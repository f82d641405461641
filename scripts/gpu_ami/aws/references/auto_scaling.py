"""Auto Scaling groups: what their mixed-instances overrides name, and the template versions they pin."""

from __future__ import annotations

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.references.aliases import with_aliases
from gpu_ami.aws.references.source import Found, SourceQuery, members
from gpu_ami.aws.references.templates import template_references


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
        rows = list(caller.pages("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups", MaxRecords=100))
        named = [(f"Auto Scaling group {row['AutoScalingGroupName']}", row) for row in rows]
        found = with_aliases(caller, self.name, named)
        return Found([*found.references, *template_references(caller, query, self.name, named)], found.notes)
