"""Regions, as each account has them: one may be switched off for it; moto has the same for everybody."""

from __future__ import annotations

from moto.core.responses import ActionResult

from gpu_ami_sandbox.aws.ec2.part import EC2Part
from gpu_ami_sandbox.aws.organizations import member


class Regions(EC2Part):
    """EC2's DescribeRegions."""

    def describe_regions(self) -> ActionResult:
        """List the regions that the account can use, or with AllRegions those that are switched off, too."""
        found = member(self.current_account)
        off = found[1].off if found is not None else frozenset()
        answer = super().describe_regions()
        rows = [
            {
                "RegionName": region.name,
                "Endpoint": region.endpoint,
                "OptInStatus": "not-opted-in" if region.name in off else region.opt_in_status,
            }
            for region in answer.result["Regions"]
        ]
        if str(self._get_param("AllRegions", "")).lower() != "true":
            rows = [row for row in rows if row["OptInStatus"] != "not-opted-in"]
        return ActionResult({"Regions": rows})
