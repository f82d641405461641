"""What to say of AMIs that a build has made and not handed over: which they are, and what a person does with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gpu_ami.records.tags import finishing_command


def named(amis: Mapping[str, str]) -> str:
    """Return the beginning of a sentence that names *amis*, region to AMI id, and goes on with the reason."""
    made = ", ".join(f"{ami} in {region}" for region, ami in amis.items()) or "An AMI"
    return f"{made} was made but is not handed over:"


def hand_over_command(home: str, amis: Mapping[str, str]) -> str:
    """Return the command that hands the AMI of the region *home* over; another region's where that has none."""
    region, ami = next(((r, a) for r, a in amis.items() if r == home), next(iter(amis.items()), (home, "ami-…")))
    return f"`invoke update-tfvars{'' if region == home else f' --region {region}'} --ami {ami}`"


def how_to_use(home: str, amis: Mapping[str, str], *, pending: Collection[str] = ()) -> str:
    """Return a sentence on how AMIs are used that nobody has called finished: as they are, a sweep takes them.

    Args:
        home: The pipeline's region.
        amis: Region to AMI id; empty where the id is not known.
        pending: Regions in which EC2 is not known to have made the AMI yet.
    """
    steps = []
    for region, ami in (amis or {home: "ami-…"}).items():
        if region in pending:
            steps.append(f"`aws ec2 wait image-available --image-ids {ami} --region {region}`")
        steps.append(f"`{finishing_command(region, ami)}`")
    once = " once it is available" if pending else ""
    return f"To use it, tag it as finished{once} ({', '.join(steps)}), then run {hand_over_command(home, amis)}."
