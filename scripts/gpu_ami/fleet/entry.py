"""Enters the accounts of a fleet, side by side: each with its own credentials, or with the reason why it can't be."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller, RefusedError
from gpu_ami.aws.organizations import Organization, listed_accounts, organization
from gpu_ami.aws.regions import regions_by_state
from gpu_ami.aws.sts import Identity, assume, enter, identify
from gpu_ami.errors import AwsError
from gpu_ami.fleet.members import Member, members_of
from gpu_ami.settings import Fleet

_T = TypeVar("_T")
_WORKERS = 32
_SESSION = re.compile(r"arn:[\w-]+:sts::(?P<account>[0-9]{12}):assumed-role/(?P<role>[^/]+)/[^/]+", re.ASCII)
# A region that no account can switch off, by partition: there each says which regions it has.
_HOME = {"aws": "us-east-1", "aws-us-gov": "us-gov-west-1", "aws-cn": "cn-north-1"}


@dataclass(frozen=True, kw_only=True)
class Entered:
    """A member of the fleet, and how far one came with it.

    Attributes:
        member: The account.
        access: The way in; None where it could not be entered.
        regions: Its regions that are on.
        off: Its regions that are switched off: what was launched there goes on and cannot be seen.
        trouble: Why it could not be entered or has not said which regions it has; None where all is well.
        fix: What to do about that.
    """

    member: Member
    access: Access | None = None
    regions: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    trouble: str | None = None
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Where a fleet is entered from.

    Attributes:
        access: The way in.
        identity: Whose credentials.
        named_role: The ARN of the role that the settings enter the fleet by; None where it is the caller's own.
    """

    access: Access
    identity: Identity
    named_role: str | None = None

    @property
    def partition(self) -> str:
        """The partition, of which a fleet has one."""
        return self.identity.arn.split(":")[1]

    @property
    def trusted(self) -> str:
        """What the roles of the members have to trust: a session's ARN is another one each time, its role's is not.

        Of a role that nobody named, such as that of a person's single sign-on, a session's ARN does not say the path.
        """
        if self.named_role is not None:
            return self.named_role
        session = _SESSION.fullmatch(self.identity.arn)
        return self.identity.arn if session is None else self.role(session["account"], session["role"])

    @property
    def home(self) -> str:
        """A region that is never off."""
        return _HOME.get(self.partition, self.access.region)

    def enter(self, role_arn: str, account: str) -> Access:
        """Return the way into *account*.

        Raises:
            AwsError: STS refused.
        """

        def by(region: str) -> Access:
            return enter(dataclasses.replace(self.access, region=region), role_arn, account)

        return _either(by, self.access.region, self.home)

    def role(self, account: str, name: str) -> str:
        """Return the ARN of the role *name* of *account*."""
        return f"arn:{self.partition}:iam::{account}:role/{name}"


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A fleet's members before anybody entered them.

    Attributes:
        members: The accounts.
        organization: Whose they are; None where they were listed by hand.
    """

    members: tuple[Member, ...]
    organization: Organization | None = None


def hub_of(access: Access, fleet: Fleet) -> Hub:
    """Return where the fleet is entered from: the caller's own credentials, or the hub's role.

    Raises:
        AwsError: STS refused.
    """
    hub = access if fleet.hub_role is None else assume(access, fleet.hub_role, session_name="gpu-ami-hub")
    return Hub(access=hub, identity=identify(hub), named_role=fleet.hub_role)


def members_by(hub: Hub, fleet: Fleet, today: date) -> Listed:
    """Return the fleet's members, from Organizations where the settings say so.

    Raises:
        AwsError: Organizations refused; only the management account and delegated administrators may list.
    """
    if fleet.organization is None:
        return Listed(members=members_of(fleet, (), today))
    caller = Caller(hub.access)
    try:
        found = organization(caller)
        accounts = listed_accounts(caller)
    except RefusedError as exc:
        if not exc.is_denied:
            raise
        msg = (
            f"{str(exc).rstrip('.')}. Only the organization's management account and its delegated administrators may "
            f"list accounts, and {hub.trusted} needs organizations:DescribeOrganization and ListAccounts for it; or "
            "name the accounts in fleet.accounts."
        )
        raise AwsError(msg) from exc
    return Listed(members=members_of(fleet, accounts, today), organization=found)


def enter_all(hub: Hub, members: Sequence[Member], *, role: str) -> list[Entered]:
    """Return each of *members*, entered by its role *role*; whatever goes wrong with one ends in its trouble.

    The hub's own account is read with the hub's own credentials.
    """
    with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
        return list(pool.map(lambda member: _enter(hub, member, role), members))


def _either(ask: Callable[[str], _T], first: str, second: str) -> _T:
    """Return what *ask* says of a region, or of another one where that fails.

    The pipeline's own may be off for the account, and a service control policy may deny the one that is never off.

    Raises:
        AwsError: Both failed; it is the first one's.
    """
    try:
        return ask(first)
    except AwsError:
        if second != first:
            with contextlib.suppress(AwsError):
                return ask(second)
        raise


def _enter(hub: Hub, member: Member, role: str) -> Entered:
    if member.left_out is not None:
        return Entered(member=member)
    if member.trouble is not None:
        fix = "have it made active again, or name it in fleet.left_out with a reason and an end"
        return Entered(member=member, trouble=f"{member.label} {member.trouble}", fix=fix)
    is_hub = member.account == hub.identity.account
    arn = hub.role(member.account, role)
    try:
        access = hub.access if is_hub else hub.enter(arn, member.account)
    except AwsError as exc:
        fix = f"make the role {role} there, as docs/fleet.md says, with {hub.trusted} in its trust"
        return Entered(member=member, trouble=f"{member.label}: {exc}".rstrip("."), fix=fix)
    try:
        on, off = _either(lambda region: regions_by_state(Caller(access, region)), hub.home, hub.access.region)
    except AwsError as exc:
        fix = f"allow {'these credentials' if is_hub else f'the role {role}'} ec2:DescribeRegions"
        return Entered(member=member, access=access, trouble=f"{member.label}: {exc}".rstrip("."), fix=fix)
    return Entered(member=member, access=access, regions=tuple(on), off=tuple(off))
