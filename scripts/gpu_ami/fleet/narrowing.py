"""Whether a fleet is read in every region that its accounts have, and which setting says otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gpu_ami.aws.regions import ALL, requested_regions
from gpu_ami.fleet.entry import Entered
from gpu_ami.fleet.fleet_list import Place
from gpu_ami.invocation import Invocation
from gpu_ami.units import show_count

# Of each account by itself, before what is said of all of them.
OF_AN_ACCOUNT = "fleet.accounts in pipeline.yaml"
_SETTING = "cleanup.regions in pipeline.yaml"
_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """That a fleet is not read in every region that is on.

    Attributes:
        by: What says so, as flags, variables and settings are called; empty by a list of an earlier version.
        read: The regions that are read.
        unread: Those that are on in an account that is read, and are not read in it.
    """

    by: tuple[str, ...]
    read: tuple[str, ...]
    unread: tuple[str, ...]

    @property
    def text(self) -> str:
        """What a plan says of it."""
        more = f" and {len(self.read) - _SHOWN} more" if len(self.read) > _SHOWN else ""
        where = ", ".join(self.read[:_SHOWN]) + more
        extent = f"in {where} alone" if self.read else "nowhere"
        unread = show_count(len(self.unread), "region")
        because = f", because of {' and '.join(self.by)}" if self.by else ""
        return f"Read {extent}{because}; not read where they are on: {unread}."

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"by": list(self.by), "read": list(self.read), "unread": list(self.unread)}


def region_setting(run: Invocation, arguments: Sequence[str]) -> str:
    """Return what says which regions of a fleet are read, by the flag's *arguments* or the settings; empty for nothing.

    Raises:
        UsageError: An argument is not a region.
    """
    requested = requested_regions(arguments)
    if requested:
        return "" if requested == [ALL] else "--regions"
    if run.options.region:
        return run.options.region_by
    return _SETTING if run.settings.cleanup.regions else ""


def narrowing(entered: Iterable[Entered], places: Iterable[Place], by: str) -> Narrowing | None:
    """Return how far a fleet is read; None where all of it is that can be.

    Args:
        entered: Its accounts. One that is left out, or cannot be entered, is told of elsewhere.
        places: What is read.
        by: What says which regions these are, as `region_setting` has it.
    """
    read: dict[str, set[str]] = {}
    for account, region in places:
        read.setdefault(account, set()).add(region)
    whole = [one for one in entered if one.trouble is None and one.member.left_out is None]
    short = {
        one.member.account: left for one in whole if (left := {*one.regions} - read.get(one.member.account, set()))
    }
    if not short:
        return None
    own = {bool(one.member.regions) for one in whole if one.member.account in short}
    names = [name for name, counts in ((by, False in own), (OF_AN_ACCOUNT, True in own)) if name and counts]
    return Narrowing(
        by=tuple(names),
        read=tuple(sorted({name for some in read.values() for name in some})),
        unread=tuple(sorted({name for left in short.values() for name in left})),
    )
