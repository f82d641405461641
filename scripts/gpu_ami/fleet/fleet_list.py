"""The list of a fleet for many machines: who is read where, in which shard, as of when. Made before anything is read.

What the shards bring is counted against it, so that nothing can be missing unseen; see "Spread over many machines" in
docs/fleet.md.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from gpu_ami.aws.organizations import Organization
from gpu_ami.errors import UsageError
from gpu_ami.files import read_text
from gpu_ami.fleet.entry import Entered
from gpu_ami.fleet.members import Member
from gpu_ami.foreign_text import bare_reason
from gpu_ami.settings import Account, LeftOut, Region

FORMAT: Literal["gpu-ami-fleet-1"] = "gpu-ami-fleet-1"
# In the root of the repository: what lies in it is no reference to any AMI.
FOLDER = "fleet-parts"
# GitHub makes no more jobs of one matrix than 256 (docs.github.com, "Running variations of jobs in a workflow").
MOST_SHARDS = 250
_WHAT = "list of a fleet"
_LIMIT_BYTES = 64 * 1024 * 1024
_HINT = "Make one with `invoke fleet --out FILE`."
_SHARD = re.compile(r"([1-9][0-9]{0,2})/([1-9][0-9]{0,2})", re.ASCII)

# An account and a region.
Place = tuple[str, str]


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which run of a workflow it is; by hand a random one.

    Attributes:
        id: GitHub's number of the run, or what was drawn.
        attempt: Of the same run, the how many-th.
        repository: As ``owner/name``; empty outside of GitHub.
    """

    id: str
    attempt: Annotated[int, msgspec.Meta(ge=1)] = 1
    repository: str = ""

    def __str__(self) -> str:
        """Return it as messages name it."""
        return f"run {self.id}{f' of {self.repository}' if self.repository else ''}, attempt {self.attempt}"


class HubRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the fleet is entered from."""

    account: Account
    arn: str


class OrganizationRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose accounts they are, and the units to which the fleet is confined; empty for all of it."""

    id: str
    arn: str
    management_account: str
    units: tuple[str, ...] = ()


class LeftOutRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By whose decision an account is not read."""

    reason: str
    until: date


class MemberRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An account of the fleet.

    Attributes:
        account: Its id.
        name: Its name; empty where nobody gave one.
        state: As Organizations has it; empty for one that is listed by hand.
        paths: Its units.
        on: Its regions.
        off: Its regions that are switched off.
        read: Those of its regions that are to be read.
        left_out: By whose decision it is not read; None where it is.
        trouble: Why it cannot be read; None where all is well.
        fix: What to do about that.
    """

    account: Account
    name: str = ""
    state: str = ""
    paths: tuple[str, ...] = ()
    on: tuple[Region, ...] = ()
    off: tuple[Region, ...] = ()
    read: tuple[Region, ...] = ()
    left_out: LeftOutRow | None = None
    trouble: str | None = None
    fix: str = ""

    @property
    def is_read(self) -> bool:
        """Whether it is in a shard."""
        return self.left_out is None and self.trouble is None

    @property
    def member(self) -> Member:
        """The account as the rest of the pipeline has it, yet to be entered."""
        decision = None
        if self.left_out is not None:
            decision = LeftOut(id=self.account, reason=self.left_out.reason, until=self.left_out.until)
        return Member(account=self.account, name=self.name, state=self.state, paths=self.paths, left_out=decision)

    @property
    def entered(self) -> Entered:
        """How far one came with it when the list was made."""
        return Entered(member=self.member, regions=self.on, off=self.off, trouble=self.trouble, fix=self.fix)


class FleetList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fleet as it is to be read by many machines.

    Attributes:
        format: What makes it one.
        run: The run that it was made for.
        as_of: When, as AWS has it: each age is judged by it, whichever machine judges.
        hub: Where the fleet is entered from.
        organization: Whose it is; None where the accounts are listed by hand.
        members: Its accounts, in the order of their ids.
        shards: The accounts of each shard.
        regions_by: What says that not every region that is on is read. Where all are it is not in the file, which
            earlier versions, that do not know it, then read, too.
    """

    format: Literal["gpu-ami-fleet-1"] = FORMAT
    run: Run
    as_of: Annotated[datetime, msgspec.Meta(tz=True)]
    hub: HubRow
    organization: OrganizationRow | None = None
    members: tuple[MemberRow, ...]
    shards: tuple[tuple[Account, ...], ...]
    regions_by: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def names(self) -> tuple[str, ...]:
        """The shards as ``--shard`` takes them, such as ``1/20``."""
        return tuple(f"{number}/{len(self.shards)}" for number in range(1, len(self.shards) + 1))

    @property
    def places(self) -> tuple[Place, ...]:
        """Every place that is to be read, in the order of one machine's reading."""
        return tuple((one.account, region) for one in self.members if one.is_read for region in one.read)

    @property
    def owner(self) -> Organization | None:
        """The organization as the rest of the pipeline has it."""
        row = self.organization
        if row is None:
            return None
        return Organization(organization_id=row.id, arn=row.arn, management_account=row.management_account)

    def members_of(self, shard: str) -> tuple[MemberRow, ...]:
        """Return the accounts of *shard*, such as ``3/20``.

        Raises:
            UsageError: The list has no such shard.
        """
        found = _SHARD.fullmatch(shard)
        if found is None or shard not in self.names:
            known = f"{self.names[0]} to {self.names[-1]}" if self.names else "none: no account of it can be read"
            msg = f"--shard {shard!r} is not a shard of the list, which has {known}."
            raise UsageError(msg)
        chosen = frozenset(self.shards[int(found[1]) - 1])
        return tuple(one for one in self.members if one.account in chosen)

    def encoded(self) -> bytes:
        """Return its file; what goes by the list is bound to these bytes."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of a list's file, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def load(path: Path) -> tuple[FleetList, str]:
    """Return the list in the file *path*, and its digest.

    Raises:
        UsageError: It is none, or contradicts itself.
    """
    text = read_text(path, what=_WHAT, limit_bytes=_LIMIT_BYTES, hint=_HINT, keep_mark=True)
    try:
        found = msgspec.json.decode(text, type=FleetList)
    except (msgspec.MsgspecError, RecursionError) as exc:
        msg = f"{path} is no {_WHAT} ({bare_reason(exc)}): make one with `invoke fleet --out {path}`."
        raise UsageError(msg) from exc
    if why := _contradiction(found):
        msg = f"{path} contradicts itself: {why}. Make a new one with `invoke fleet --out {path}`."
        raise UsageError(msg)
    return found, digest_of(text.encode())


def _contradiction(found: FleetList) -> str | None:
    """Return what no list that was made here says: an account in two shards, or in none; None where all is well."""
    accounts = [one.account for one in found.members]
    shared = [account for shard in found.shards for account in shard]
    readable = {one.account for one in found.members if one.is_read}
    for name, some in (("members", accounts), ("shards", shared)):
        if len(some) > len(set(some)):
            return f"an account stands twice among its {name}"
    if odd := sorted(readable ^ set(shared)):
        return f"account {odd[0]} is {'in no shard' if odd[0] in readable else 'in a shard and cannot be read'}"
    if wrong := next((one for one in found.members if len(set(one.read)) < len(one.read)), None):
        return f"a region of {wrong.account} is to be read twice"
    return None


def list_of(
    entered: Sequence[Entered],
    organization: Organization | None,
    *,
    units: Sequence[str],
    regions: Sequence[str],
    hub: HubRow,
    run: Run,
    as_of: datetime,
    shards: int,
) -> FleetList:
    """Return the list of a fleet.

    Args:
        entered: Its members, entered.
        organization: Whose it is; None where they are listed by hand.
        units: The units to which it is confined.
        regions: The regions to read; empty for all that each account has.
        hub: Where it is entered from.
        run: The run that it is for.
        as_of: When, as AWS has it.
        shards: Into how many it is cut at most.
    """
    rows = tuple(_row(one, regions) for one in entered)
    made = None
    if organization is not None:
        made = OrganizationRow(
            organization.organization_id, organization.arn, organization.management_account, tuple(units)
        )
    weights = {row.account: len(row.read) for row in rows if row.is_read}
    return FleetList(run=run, as_of=as_of, hub=hub, organization=made, members=rows, shards=cut(weights, shards))


def regions_to_read(one: Entered, regions: Sequence[str]) -> tuple[str, ...]:
    """Return those of an account's regions that are read: of its own choice, else of *regions*, else all."""
    chosen = one.member.regions or tuple(regions)
    return tuple(name for name in one.regions if not chosen or name in chosen)


def _row(one: Entered, regions: Sequence[str]) -> MemberRow:
    member = one.member
    decision = None if member.left_out is None else LeftOutRow(member.left_out.reason, member.left_out.until)
    is_read = decision is None and one.trouble is None
    return MemberRow(
        account=member.account,
        name=member.name,
        state=member.state,
        paths=tuple(member.paths),
        on=tuple(one.regions),
        off=tuple(one.off),
        read=regions_to_read(one, regions) if is_read else (),
        left_out=decision,
        trouble=one.trouble,
        fix=one.fix,
    )


def cut(weights: Mapping[str, int], count: int) -> tuple[tuple[str, ...], ...]:
    """Return accounts in at most *count* shards of about equal weight, whole accounts each and none empty.

    An account is never cut: an AMI's family, and what may go, is its own account's.
    """
    shards: list[list[str]] = [[] for _ in range(min(count, len(weights)))]
    loads = [0] * len(shards)
    for account in sorted(weights, key=lambda account: (-weights[account], account)):
        lightest = min(range(len(shards)), key=lambda number: (len(shards[number]) > 0, loads[number], number))
        shards[lightest].append(account)
        loads[lightest] += weights[account]
    return tuple(tuple(sorted(shard)) for shard in shards)


def run_of(environment: Mapping[str, str]) -> Run | None:
    """Return the run of GitHub Actions that *environment* is of; None outside of one.

    Raises:
        UsageError: It says so, and no number of an attempt.
    """
    identifier = environment.get("GITHUB_RUN_ID", "").strip()
    if not identifier:
        return None
    attempt = environment.get("GITHUB_RUN_ATTEMPT", "").strip() or "1"
    if not (attempt.isascii() and attempt.isdigit() and len(attempt) <= 6 and int(attempt) >= 1):
        msg = f"GITHUB_RUN_ATTEMPT={attempt!r} is not a number: GitHub sets it with GITHUB_RUN_ID, or leave out both."
        raise UsageError(msg)
    return Run(identifier, int(attempt), environment.get("GITHUB_REPOSITORY", "").strip())


def drawn_run() -> Run:
    """Return the run of somebody who runs it by hand."""
    return Run(f"hand-{secrets.token_hex(8)}")
