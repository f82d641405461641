"""`invoke fleet`: which accounts the fleet has, who can be entered, and what is missing. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from gpu_ami import collector, process
from gpu_ami.console import Table
from gpu_ami.errors import DifferenceError, UsageError
from gpu_ami.fleet.entry import Entered, Hub, Listed, enter_all, hub_of, members_by
from gpu_ami.fleet.members import strangers
from gpu_ami.invocation import Invocation
from gpu_ami.settings import Fleet
from gpu_ami.units import show_count

_EDGE = 100
# A unit without the role would fill the screen with the same sentence; the table names each account.
_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Found:
    """A fleet as it was found.

    Attributes:
        hub: Where it is entered from.
        listed: Its members, and whose they are.
        entered: Each of them, and how far one came.
        strangers: Accounts that the settings leave out and that it does not have.
    """

    hub: Hub
    listed: Listed
    entered: tuple[Entered, ...]
    strangers: tuple[str, ...]

    @property
    def troubled(self) -> tuple[Entered, ...]:
        """The members that could not be entered."""
        return tuple(one for one in self.entered if one.trouble is not None)

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "hub": {"account": self.hub.identity.account, "arn": self.hub.trusted},
            "organization": None if self.listed.organization is None else self.listed.organization.organization_id,
            "accounts": [_row(one) for one in self.entered],
            "unknown_left_out": list(self.strangers),
        }


def run(run: Invocation) -> None:
    """Enter every account of the fleet and show how far one comes.

    Raises:
        UsageError: The settings have no fleet.
        AwsError: The hub cannot be entered, or Organizations does not list the accounts.
        DifferenceError: An account could not be entered.
    """
    fleet = settings_of(run)
    if run.options.dry_run:
        run.console.dry_run(["# list the accounts of the fleet, enter each of them and ask for its regions"])
        return
    with run.console.step("entering the accounts of the fleet"):
        found = find(run, fleet)
    run.console.result(found.document(), table(found))
    if found.troubled:
        first = found.troubled[0]
        of_all = f"{len(found.troubled)} of {show_count(len(found.entered), 'account')}"
        msg = f"{of_all} cannot be read, so a clean-up of the fleet would keep everything: {first.trouble}."
        raise DifferenceError(msg)


def settings_of(run: Invocation) -> Fleet:
    """Return the fleet of the settings, or the sandbox's.

    Raises:
        UsageError: There is none.
    """
    fleet = run.target.fleet
    if fleet is None:
        msg = "pipeline.yaml has no fleet: name its accounts or its organization there, as docs/fleet.md says."
        raise UsageError(msg)
    return fleet


def find(run: Invocation, fleet: Fleet) -> Found:
    """Enter the accounts of *fleet*.

    Raises:
        AwsError: The hub cannot be entered, or Organizations does not list the accounts.
    """
    collector.one_heap()
    process.allow_many_files()
    hub = hub_of(run.access, fleet)
    listed = members_by(hub, fleet, datetime.now(timezone.utc).date())
    entered = enter_all(hub, listed.members, role=fleet.read_role)
    return Found(hub=hub, listed=listed, entered=tuple(entered), strangers=strangers(fleet, listed.members))


def _row(one: Entered) -> dict[str, Any]:
    member = one.member
    decision = member.left_out
    return {
        "account": member.account,
        "name": member.name,
        "state": member.state or None,
        "paths": list(member.paths),
        "entered": one.access is not None,
        "regions": list(one.regions),
        "off": list(one.off),
        "left_out": None if decision is None else {"reason": decision.reason, "until": decision.until.isoformat()},
        "trouble": one.trouble,
        "fix": one.fix or None,
    }


def table(found: Found) -> Table:
    """Return the fleet for people: each account, and what is to be done about those that cannot be read."""
    rows = [(one.member.account, one.member.name, one.member.state, _regions(one), _word(one)) for one in found.entered]
    counts = [
        show_count(sum(one.access is not None and one.trouble is None for one in found.entered), "account")
        + " can be read",
        f"{len(found.troubled)} cannot",
        f"{sum(one.member.left_out is not None for one in found.entered)} left out",
    ]
    footer = [", ".join(counts) + "."]
    footer += [f"{one.trouble}. {one.fix[0].upper()}{one.fix[1:]}." for one in found.troubled[:_SHOWN]]
    if more := len(found.troubled[_SHOWN:]):
        footer.append(f"And {more} more: --output json has what is wrong with each.")
    if found.strangers:
        footer.append(f"fleet.left_out names {', '.join(found.strangers)}, which the fleet does not have.")
    return Table(
        title=f"The fleet, entered from {found.hub.identity.account}",
        columns=("account", "name", "state", "regions", "read"),
        rows=_without_empty(rows),
        footer=tuple(footer),
        edge=_EDGE,
    )


def _without_empty(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [tuple(cell or "-" for cell in row) for row in rows]


def _regions(one: Entered) -> str:
    if one.access is None or not one.regions:
        return ""
    return f"{len(one.regions)} on" + (f", {len(one.off)} off" if one.off else "")


def _word(one: Entered) -> str:
    if one.member.left_out is not None:
        return f"left out until {one.member.left_out.until}: {one.member.left_out.reason}"
    return "no" if one.trouble is not None else "yes"
