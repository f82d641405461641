"""The demo organization as other code needs to know it: names, ids and regions. No moto here."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpu_ami.settings import Fleet

READ_ROLE, CLEANUP_ROLE = "gpu-ami-fleet-read", "gpu-ami-fleet-cleanup"
REFUSES, SUSPENDED = "finance", "legacy"
_MEMBERS = ("video", "research", REFUSES, SUSPENDED)
_MORE_REGIONS = ("us-east-1", "eu-west-1", "us-west-2")
_UNTIL = date(2099, 12, 31)


def member_ids(account_id: str) -> dict[str, str]:
    """Return the ids of the other accounts, by their names; each sandbox has its own."""
    return {name: f"{int(account_id) + number * 100_000_000_000:012d}" for number, name in enumerate(_MEMBERS, 1)}


def regions_of(region: str) -> tuple[str, str, str]:
    """Return the regions in which the demo organization has something, the demo account's first."""
    second, third = [name for name in _MORE_REGIONS if name != region][:2]
    return region, second, third


def demo_fleet(account_id: str) -> Fleet:
    """Return the settings of the demo fleet: all of the organization but the two that nobody can enter."""
    from gpu_ami.settings import Fleet, LeftOut, OrganizationScope

    ids = member_ids(account_id)
    why = {REFUSES: "has no role for us: its owner refuses", SUSPENDED: "is suspended"}
    return Fleet(
        organization=OrganizationScope(),
        read_role=READ_ROLE,
        cleanup_role=CLEANUP_ROLE,
        left_out=tuple(LeftOut(id=ids[name], reason=reason, until=_UNTIL) for name, reason in why.items()),
    )
