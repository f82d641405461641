"""Launch configurations: the predecessors of launch templates in Auto Scaling groups."""

from __future__ import annotations

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.references.source import Found, SourceQuery, members, references_in


class LaunchConfigurations:
    """All launch configurations, attached to a group or not."""

    name = "launch-configurations"
    service = "autoscaling"
    is_essential = False
    is_use = True
    reads = members(
        "autoscaling:DescribeLaunchConfigurations",
        "LaunchConfigurations[].ImageId",
        "LaunchConfigurations[].BlockDeviceMappings[].Ebs.SnapshotId",
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the AMI and the mapped snapshots of each."""
        del query
        references = []
        rows = caller.pages("autoscaling", "describe_launch_configurations", "LaunchConfigurations", MaxRecords=100)
        for row in rows:
            who = f"launch configuration {row['LaunchConfigurationName']}"
            references += references_in(row, self.name, who)
        return Found(references)
