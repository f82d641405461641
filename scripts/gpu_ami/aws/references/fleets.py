"""EC2 fleets and spot fleets: their launch specifications and the overrides of their templates."""

from __future__ import annotations

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.references.aliases import with_aliases
from gpu_ami.aws.references.source import Found, SourceQuery, members
from gpu_ami.aws.references.templates import template_references

_FLEET_OVER = frozenset({"deleted", "failed"})
_SPOT_FLEET_OVER = frozenset({"cancelled", "failed"})


class Fleets:
    """EC2 fleets that may still launch something."""

    name = "fleets"
    service = "ec2"
    is_essential = False
    is_use = True
    reads = members(
        "ec2:DescribeFleets",
        "Fleets[].LaunchTemplateConfigs[].Overrides[].ImageId",
        "Fleets[].LaunchTemplateConfigs[].Overrides[].BlockDeviceMappings[].Ebs.SnapshotId",
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return what the overrides of each fleet name; its templates are read by launch-templates."""
        rows = list(caller.pages("ec2", "describe_fleets", "Fleets", MaxResults=100))
        alive = [row for row in rows if row["FleetState"] not in _FLEET_OVER]
        named = [(f"EC2 fleet {row['FleetId']}", row) for row in alive]
        found = with_aliases(caller, self.name, named)
        return Found([*found.references, *template_references(caller, query, self.name, named)], found.notes)


class SpotFleets:
    """Spot fleet requests that may still launch something."""

    name = "spot-fleets"
    service = "ec2"
    is_essential = False
    is_use = True
    reads = members(
        "ec2:DescribeSpotFleetRequests",
        "SpotFleetRequestConfigs[].SpotFleetRequestConfig.LaunchSpecifications[].ImageId",
        "SpotFleetRequestConfigs[].SpotFleetRequestConfig.LaunchSpecifications[].BlockDeviceMappings[].Ebs.SnapshotId",
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return what the launch specifications of each fleet name; its templates are read by launch-templates."""
        rows = list(caller.pages("ec2", "describe_spot_fleet_requests", "SpotFleetRequestConfigs", MaxResults=100))
        alive = [row for row in rows if row["SpotFleetRequestState"] not in _SPOT_FLEET_OVER]
        named = [(f"spot fleet {row['SpotFleetRequestId']}", row["SpotFleetRequestConfig"]) for row in alive]
        found = with_aliases(caller, self.name, named)
        return Found([*found.references, *template_references(caller, query, self.name, named)], found.notes)
