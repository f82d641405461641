"""The placements (subnet and type) to try for a builder, and whether a failed build only lacked capacity there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpu_ami.bake.packer_events import Progress
from gpu_ami.bake.variables import BuildVariables

# What EC2 says where another zone or type may have what this one has not: its error code, and its message, which is all
# that the amazon plugin prints of a Spot request that failed. Not among them: quotas, which hold for the whole region.
_SHORTAGES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (code, re.compile(rf"\b{code}\b|{message}", re.IGNORECASE))
    for code, message in (
        ("InsufficientInstanceCapacity", r"do not have sufficient \S+ capacity|no spot capacity available"),
        ("SpotMaxPriceTooLow", r"lower than the minimum required spot request fulfillment price"),
        ("UnfulfillableCapacity", r"unable to fulfill capacity due to your request configuration"),
        ("InsufficientHostCapacity", r"not enough capacity to fulfill your dedicated host"),
        ("InsufficientFreeAddressesInSubnet", r"not enough free addresses in subnet"),
        ("Unsupported", r"is not supported in your requested availability zone"),
    )
)
# EC2 may take the request and end the instance before it runs; the plugin prints the reason.
_NEVER_RAN = re.compile(r"Instance state change details:.*\bServer\.(InsufficientInstanceCapacity)\b")


@dataclass(frozen=True)
class Placement:
    """One subnet and instance type to start the builder with.

    Attributes:
        subnet_id: Its subnet, and so its zone.
        instance_type: Its type; empty for a Spot builder, whose type EC2 picks.
    """

    subnet_id: str
    instance_type: str = ""

    @property
    def variables(self) -> dict[str, str]:
        """The template's variables that say so."""
        chosen = {"subnet_id": self.subnet_id, "instance_type": self.instance_type}
        return {name: value for name, value in chosen.items() if value}

    def __str__(self) -> str:
        """Return the placement for people."""
        return f"{self.instance_type or 'a Spot builder'} in {self.subnet_id}"


def placements(variables: BuildVariables) -> tuple[Placement, ...]:
    """Return the placements that the *variables* allow, in the order to try: each type in every subnet."""
    # EC2 picks a Spot builder's type.
    types = ("",) if variables.spot else variables.instance_types
    return tuple(Placement(subnet, name) for name in types for subnet in variables.subnet_ids)


def shortage(progress: Progress) -> str | None:
    """Return EC2's code for the lack of room that ended the build *progress*; None when it ended for another reason.

    Only while there is no running builder: what fails later would fail elsewhere too.
    """
    if progress.step:
        return None
    said = "\n".join((*progress.errors, *progress.tail))
    if progress.instance_id:
        ended = _NEVER_RAN.search(said)
        return ended[1] if ended else None
    return next((code for code, pattern in _SHORTAGES if pattern.search(said)), None)
