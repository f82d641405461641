"""Whether everybody who may launch a shared AMI was read to the end: only then does it go. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from gpu_ami.aws.organizations import Organization
from gpu_ami.fleet.members import Member

# The code of the reason for which a shared AMI stays that somebody may launch who was not read.
GRANTEES = "grantees"


@dataclass(frozen=True, kw_only=True)
class Reached:
    """How far the fleet was read.

    Attributes:
        members: Its accounts, by their ids.
        organization: Whose they are; None where they were listed by hand.
        units: The units to which the fleet is confined, as ``o-…/r-…/ou-…/``; empty for the whole organization.
        read: The places, an account and a region each, that were read.
        off: The places that are switched off: what was launched there goes on and cannot be seen.
    """

    members: Mapping[str, Member]
    organization: Organization | None = None
    units: Sequence[str] = ()
    read: Collection[tuple[str, str]] = frozenset()
    off: Collection[tuple[str, str]] = field(default_factory=frozenset)

    def label(self, account: str) -> str:
        """Return *account* with its name, where it has one."""
        member = self.members.get(account)
        return account if member is None else member.label

    def why_kept(self, permissions: Sequence[Mapping[str, str]], owner: str, region: str) -> str | None:
        """Return why an AMI of *owner* in *region* stays, by who may launch it; None when all of them were read.

        Args:
            permissions: EC2's launch permissions, one mapping each.
            owner: Its account.
            region: Where it is: only there can it be launched.
        """
        for permission in permissions:
            accounts, why = self.accounts(permission)
            why = why or next((why for one in accounts if one != owner and (why := self._unread(one, region))), None)
            if why:
                return f"shared with {why}"
        return None

    def accounts(self, permission: Mapping[str, str]) -> tuple[Sequence[str], str | None]:
        """Return the accounts that a permission means, or why it is not known which they are."""
        match dict(permission):
            case {"UserId": account, **rest} if not rest:
                return [account], None
            case {"OrganizationArn": arn, **rest} if not rest:
                return self._organization(arn)
            case {"OrganizationalUnitArn": arn, **rest} if not rest:
                return self._unit(arn)
            case {"Group": "all"}:
                return [], "everybody"
            case other:
                return [], f"{', '.join(sorted(map(str, other.values())))}, and who that is is not known"

    def _organization(self, arn: str) -> tuple[Sequence[str], str | None]:
        if self.organization is None:
            return [], f"the organization {arn}, and the fleet is a list of accounts"
        if arn != self.organization.arn:
            return [], f"another organization, {arn}"
        if self.units:
            return [], f"the whole organization {self.organization.organization_id}, of which the fleet has a part"
        return list(self.members), None

    def _unit(self, arn: str) -> tuple[Sequence[str], str | None]:
        organization, _, unit = arn.rpartition(":ou/")[2].partition("/")
        if self.organization is None:
            return [], f"the unit {arn}, and the fleet is a list of accounts"
        if organization != self.organization.organization_id or not unit:
            return [], f"a unit of another organization, {arn}"
        found = [one for one in self.members.values() if any(f"/{unit}/" in path for path in one.paths)]
        is_whole = bool(found) and all(self._confines(path, unit) for one in found for path in one.paths)
        if self.units and not is_whole:
            return [], f"the unit {unit}, of which the fleet may have a part only"
        return [one.account for one in found], None

    def _confines(self, path: str, unit: str) -> bool:
        """Return whether all of *unit*, by the path of one account in it, is within the units of the fleet."""
        before, _, _ = path.partition(f"/{unit}/")
        return f"{before}/{unit}/".startswith(tuple(self.units))

    def _unread(self, account: str, region: str) -> str | None:
        member = self.members.get(account)
        if member is None:
            return f"{account}, which is not in the fleet"
        if member.left_out is not None:
            return f"{member.label}, which is left out until {member.left_out.until}: {member.left_out.reason}"
        if (account, region) in self.off:
            return f"{member.label}, where {region} is switched off: what was launched there goes on"
        return None if (account, region) in self.read else f"{member.label}, where {region} was not read"
