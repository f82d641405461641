"""The AMIs of other accounts of an organization that an account is shown: those that are shared with it.

moto keeps each account's AMIs apart; EC2 lists an AMI for whoever may launch it (user guide, "Share an AMI").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moto.ec2.models import ec2_backends

from gpu_ami_sandbox.aws.organizations import MemberAccount, Organization, member


def shared_with(account: str, region: str) -> list[Any]:
    """Return the AMIs of the other accounts of *account*'s organization that it may launch in *region*."""
    found = member(account)
    if found is None:
        return []
    organization, me = found
    # Only regions in which something was done: moto fills each new one with AMIs of its own.
    backends = {other: dict.get(ec2_backends[other], region) for other in organization.members if other != account}
    return [
        image
        for other, backend in backends.items()
        if backend is not None
        for image in backend.amis.values()
        if image.owner_id == other and any(_means(one, organization, me) for one in image.launch_permissions)
    ]


def _means(permission: Mapping[str, str], organization: Organization, me: MemberAccount) -> bool:
    unit = permission.get("OrganizationalUnitArn", "").rpartition("/")[2]
    return (
        permission.get("UserId") == me.account
        or permission.get("OrganizationArn") == organization.arn
        or bool(unit and f"/{unit}/" in me.path)
    )
