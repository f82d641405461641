"""`invoke fleet`: which accounts the fleet has, who can be entered, and what is missing. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from gpu_ami import collector, process
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.clock import LIMIT, aws_now
from gpu_ami.aws.regions import ALL, requested_regions
from gpu_ami.console import Table
from gpu_ami.errors import DifferenceError, SafetyError, UsageError
from gpu_ami.files import check_writable, write_atomic
from gpu_ami.fleet.entry import Entered, Hub, Listed, enter_all, hub_of, members_by
from gpu_ami.fleet.fleet_list import MOST_SHARDS, FleetList, HubRow, digest_of, drawn_run, list_of, run_of
from gpu_ami.fleet.members import strangers
from gpu_ami.fleet.narrowing import narrowing, region_setting
from gpu_ami.invocation import Invocation
from gpu_ami.settings import Fleet
from gpu_ami.units import show_count

_EDGE = 100
# A unit without the role would fill the screen with the same sentence; the table names each account.
_SHOWN = 10
_LIST = "list of the fleet"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke fleet`` requested.

    Attributes:
        out: Where to write the list for many machines; None writes none.
        shards: Into how many parts its accounts are cut at most, as it was typed; None is one.
        regions: Regions to read, also joined by commas, or ``all``; empty takes the settings'.
    """

    out: str | None = None
    shards: str | None = None
    regions: Sequence[str] = ()

    @property
    def count(self) -> int:
        """How many shards there are to be at most.

        Raises:
            UsageError: It is no number of shards, or no list is to be written.
        """
        for flag, is_given in (("--shards", self.shards is not None), ("--regions", bool(self.regions))):
            if is_given and self.out is None:
                msg = f"{flag} is about the list that --out FILE writes: add it, or leave {flag} out."
                raise UsageError(msg)
        text = "1" if self.shards is None else self.shards.strip()
        is_whole = text.isascii() and text.isdigit() and len(text) <= 6
        if not is_whole or not 1 <= int(text) <= MOST_SHARDS:
            msg = f"--shards {self.shards!r} is not a whole number from 1 to {MOST_SHARDS}."
            raise UsageError(msg)
        return int(text)


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


def run(run: Invocation, request: Request) -> None:
    """Enter every account of the fleet and show how far one comes; write the list for many machines if requested.

    Raises:
        UsageError: The settings have no fleet, or a flag or file cannot be used.
        AwsError: The hub cannot be entered, or Organizations does not list the accounts.
        SafetyError: The list would be made by a wrong clock.
        DifferenceError: An account could not be entered.
    """
    count = request.count
    requested_regions(request.regions)
    fleet = settings_of(run)
    if request.out is not None:
        run_of(os.environ)
        check_writable(Path(request.out), what=_LIST)
    if run.options.dry_run:
        write = [f"# write {request.out}"] if request.out is not None else []
        run.console.dry_run(["# list the accounts of the fleet, enter each of them and ask for its regions", *write])
        return
    with run.console.step("entering the accounts of the fleet"):
        found = find(run, fleet)
    document = found.document()
    if request.out is not None:
        listed = made_list(fleet, found, regions_of(run, request.regions), count)
        narrowed = narrowing(found.entered, listed.places, region_setting(run, request.regions))
        if narrowed is not None:
            listed = msgspec.structs.replace(listed, regions_by=narrowed.by)
            run.console.say(f"By this list: {narrowed.text}")
        document |= _write(run, request.out, listed)
        document["narrowed"] = None if narrowed is None else narrowed.document()
    run.console.result(document, table(found))
    if found.troubled:
        first = found.troubled[0]
        of_all = f"{len(found.troubled)} of {show_count(len(found.entered), 'account')}"
        msg = f"{of_all} cannot be read, so a clean-up of the fleet would keep everything: {first.trouble}."
        raise DifferenceError(msg)


def made_list(fleet: Fleet, found: Found, regions: Sequence[str], count: int) -> FleetList:
    """Return the list of what was found, of now.

    Raises:
        AwsError: AWS did not say what time it has.
        SafetyError: This machine's clock is wrong.
    """
    now = datetime.now(timezone.utc)
    as_of = aws_now(Caller(found.hub.access))
    if abs(now - as_of) > LIMIT:
        msg = f"This machine says {now:%Y-%m-%d %H:%M}, AWS says {as_of:%Y-%m-%d %H:%M} UTC: set the clock."
        raise SafetyError(msg)
    return list_of(
        found.entered,
        found.listed.organization,
        units=fleet.organization.ou_paths if fleet.organization else (),
        regions=regions,
        hub=HubRow(found.hub.identity.account, found.hub.trusted),
        run=run_of(os.environ) or drawn_run(),
        as_of=as_of.replace(microsecond=0),
        shards=count,
    )


def _write(run: Invocation, path: str, made: FleetList) -> dict[str, Any]:
    content = made.encoded()
    write_atomic(Path(path), content, what=_LIST)
    places, shards = show_count(len(made.places), "place"), show_count(len(made.shards), "shard")
    run.console.say(f"Wrote {path}: {places} in {shards}.")
    return {"list": path, "list_sha256": digest_of(content), "shards": list(made.names)}


def regions_of(run: Invocation, arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the regions to read, by the flag's *arguments* or the settings; empty for all that each account has.

    Raises:
        UsageError: An argument is not a region.
    """
    requested = requested_regions(arguments)
    if requested == [ALL]:
        return ()
    return tuple(requested or ([run.options.region] if run.options.region else run.settings.cleanup.regions))


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
    """Enter the accounts of *fleet*; of several families of one task for the first alone.

    Raises:
        AwsError: The hub cannot be entered, or Organizations does not list the accounts.
    """
    return run.once("the accounts of the fleet", lambda: _find(run, fleet))


def _find(run: Invocation, fleet: Fleet) -> Found:
    collector.for_many_threads()
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
