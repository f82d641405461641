"""Spot requests: an open or persistent one launches its AMI whenever there is capacity."""

from __future__ import annotations

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.references.source import Found, SourceQuery, members, references_in

_OVER = frozenset({"closed", "cancelled", "failed"})


class SpotRequests:
    """Spot instance requests that may still launch something."""

    name = "spot-requests"
    service = "ec2"
    is_essential = False
    is_use = True
    reads = members(
        "ec2:DescribeSpotInstanceRequests",
        "SpotInstanceRequests[].LaunchSpecification.ImageId",
        "SpotInstanceRequests[].LaunchSpecification.BlockDeviceMappings[].Ebs.SnapshotId",
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the AMI of each request that is not over."""
        del query
        references = []
        rows = caller.pages("ec2", "describe_spot_instance_requests", "SpotInstanceRequests", MaxResults=1000)
        for row in rows:
            if row["State"] not in _OVER:
                who = f"{row['State']} spot request {row['SpotInstanceRequestId']}"
                references += references_in(row.get("LaunchSpecification") or {}, self.name, who)
        return Found(references)
