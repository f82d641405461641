"""The members of a fleet, by the settings and by what Organizations lists; a pure function of both and the day."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from gpu_ami.aws.organizations import ACTIVE, ListedAccount
from gpu_ami.settings import Fleet, LeftOut

# What becomes of an account in each state in which nobody can enter it (AWS Organizations' user guide, "Account
# states"; CloseAccount: for up to 90 days Support can open it again).
_STATES = {
    "SUSPENDED": "is suspended: nobody can enter it, and it may be opened again and need its AMIs",
    "PENDING_CLOSURE": "is being closed: it can be opened again for 90 days and need its AMIs",
    "PENDING_ACTIVATION": "is not active yet",
    "CLOSED": "is closed: what it has is not gone until AWS deletes it",
}


@dataclass(frozen=True, kw_only=True)
class Member:
    """An account of the fleet.

    Attributes:
        account: Its id.
        name: Its name; empty where nobody gave one.
        state: As Organizations has it; empty for one that is listed by hand.
        paths: Its units, each as ``o-…/r-…/ou-…/``; empty for one that is listed by hand.
        regions: The regions to read, where somebody has chosen; empty for all that are wanted.
        left_out: By whose decision it is not read; None where it is.
        trouble: Why it can't be entered, as far as that is known before it is tried; None where it may be.
    """

    account: str
    name: str = ""
    state: str = ""
    paths: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    left_out: LeftOut | None = None
    trouble: str | None = None

    @property
    def is_read(self) -> bool:
        """Whether it is to be entered."""
        return self.left_out is None and self.trouble is None

    @property
    def label(self) -> str:
        """The account as people know it."""
        return f"{self.account} ({self.name})" if self.name else self.account


def members_of(fleet: Fleet, listed: Sequence[ListedAccount], today: date) -> tuple[Member, ...]:
    """Return the members of *fleet*, in the order of their ids.

    Args:
        fleet: The settings.
        listed: What Organizations lists; empty where the settings list accounts themselves.
        today: The day, UTC: who was left out until yesterday is read again.
    """
    if fleet.organization is None:
        found = [Member(account=one.id, name=one.name, regions=one.regions) for one in fleet.accounts]
    else:
        within = fleet.organization.ou_paths
        found = [_listed(one) for one in listed if not within or any(path.startswith(within) for path in one.paths)]
    decided = {one.id: one for one in fleet.left_out}
    return tuple(_decided(one, decided.get(one.account), today) for one in sorted(found, key=lambda one: one.account))


def strangers(fleet: Fleet, members: Iterable[Member]) -> tuple[str, ...]:
    """Return the accounts that the settings leave out and that are no members: a slip of the pen, or gone."""
    known = {one.account for one in members}
    return tuple(one.id for one in fleet.left_out if one.id not in known)


def _listed(one: ListedAccount) -> Member:
    trouble = None
    if one.state != ACTIVE:
        trouble = _STATES.get(one.state, f"is in the state {one.state}, of which nobody knows what it means")
    return Member(account=one.account, name=one.name, state=one.state, paths=one.paths, trouble=trouble)


def _decided(member: Member, decision: LeftOut | None, today: date) -> Member:
    if decision is None:
        return member
    if decision.until < today:
        # It is read again, and everything stays where it cannot be: nobody decides for ever.
        return member
    return replace(member, left_out=decision)
