"""`invoke survey`: reads the accounts of one shard of a fleet, and writes what it saw to a file. Changes nothing.

A shard does not know what the others see: in which regions AMIs of theirs are, and which of its own AMIs something of
theirs needs. So it reads more than one machine would, every source in every listed place and, AMI by AMI, about each
that could go by the shard alone. `fleet_merge` takes of that what one machine would have read.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gpu_ami import collector, families, process
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.clock import aws_now
from gpu_ami.aws.images import Image, Snapshot
from gpu_ami.cleanup import fleet_part
from gpu_ami.cleanup.decide import decide
from gpu_ami.cleanup.fleet_part import Header, PlacePart, Written, code, policy_digest, source_part
from gpu_ami.cleanup.fleet_plan import by_place, details_of
from gpu_ami.cleanup.grantees import Reached
from gpu_ami.cleanup.inventory import Location, Survey, in_parallel
from gpu_ami.cleanup.over_accounts import check_sharing, check_survey_flags
from gpu_ami.cleanup.plan_document import Bin
from gpu_ami.cleanup.policy import SETTING, Flags, Policy, policy_from
from gpu_ami.cleanup.scope import fast_restore_usd_per_hour
from gpu_ami.console import Table
from gpu_ami.errors import PartialError, SafetyError, UsageError
from gpu_ami.files import check_writable
from gpu_ami.fleet import fleet_list
from gpu_ami.fleet.entry import Entered, Hub, enter_all, hub_of
from gpu_ami.fleet.fleet import settings_of
from gpu_ami.fleet.fleet_list import FleetList, MemberRow
from gpu_ami.invocation import Invocation
from gpu_ami.units import show_count

_PART = "part of the fleet's survey"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke survey`` requested.

    Attributes:
        list: The list of the fleet.
        shard: Which shard of it, such as ``3/20``.
        out: Where to write the part.
        flags: What decides; it says about which AMIs AWS is asked one by one.
    """

    list: str | None = None
    shard: str | None = None
    out: str | None = None
    flags: Flags = field(default_factory=Flags)

    def check(self) -> tuple[Path, str, Path]:
        """Return the list's file, the shard and the part's file.

        Raises:
            UsageError: One of them was not given, or a flag is not for a fleet.
        """
        given = {"--list": self.list, "--shard": self.shard, "--out": self.out}
        if missing := next((flag for flag, value in given.items() if value is None), None):
            msg = f"{missing} is missing: invoke survey --list fleet.json --shard 3/20 --out FILE{fleet_part.ENDING}."
            raise UsageError(msg)
        check_survey_flags(self.flags)
        if not str(self.out).endswith(fleet_part.ENDING):
            msg = f"--out {self.out!r} does not end with {fleet_part.ENDING}, by which a folder's parts are found."
            raise UsageError(msg)
        return Path(str(self.list)), str(self.shard), Path(str(self.out))


@dataclass(frozen=True)
class Seen:
    """What was seen of a shard.

    Attributes:
        places: Each listed place.
        accounts: The accounts.
        images: How many AMIs.
        references: How many references.
        failed: What could not be read: its source, region, account and why.
    """

    places: Sequence[PlacePart]
    accounts: Sequence[str]
    images: int
    references: int
    failed: Sequence[Mapping[str, Any]]


def run(run: Invocation, request: Request) -> None:
    """Read a shard and write what was seen.

    Raises:
        UsageError: Flags, settings or files cannot be used, or the list is of another run.
        AwsError: The hub cannot be entered.
        SafetyError: The credentials are of another hub than the list's.
        PartialError: The part was written, and says that something could not be read.
    """
    listing, shard, out = request.check()
    families.refuse_beside(run, {"--out": True})
    policy = policy_from(run.settings, request.flags)
    check_sharing(policy, f"--skip-source or {SETTING}")
    listed, digest = fleet_list.load(listing)
    fleet = settings_of(run)
    rows = listed.members_of(shard)
    _check_run(listed, listing)
    check_writable(out, what=_PART)
    if run.options.dry_run:
        run.console.dry_run([f"# enter {show_count(len(rows), 'account')}, read them and write {out}"])
        return
    collector.for_many_threads()
    process.allow_many_files()
    hub = hub_of(run.access, fleet)
    if hub.identity.account != listed.hub.account:
        msg = (
            f"{listing} was made from account {listed.hub.account}, the credentials are for {hub.identity.account}: "
            "choose another --profile."
        )
        raise SafetyError(msg)
    header = _header(listed, digest, shard, policy, hub)
    with run.console.step(f"reading {show_count(sum(len(row.read) for row in rows), 'place')} of shard {shard}"):
        entered = enter_all(hub, [row.member for row in rows], role=fleet.read_role)
        seen = look(rows, entered, listed, policy)
    written = fleet_part.write(out, header, seen.places)
    run.console.result(_document(out, header, seen, written), *_tables(header, seen, written))
    if seen.failed:
        first = seen.failed[0]
        where = " ".join(filter(None, (first["region"], first["account"])))
        msg = (
            f"{out} was written, and {show_count(len(seen.failed), 'source')} could not be read, so a plan by it keeps "
            f"everything: {first['name']} ({where}): {first['error']}"
        )
        raise PartialError(msg)


def _check_run(listed: FleetList, file: Path) -> None:
    here = fleet_list.run_of(os.environ)
    if here is not None and here != listed.run:
        msg = (
            f"{file} is of {listed.run}, this is {here}: run all of its jobs again, the one that lists the fleet first."
        )
        raise UsageError(msg)


def _header(listed: FleetList, digest: str, shard: str, policy: Policy, hub: Hub) -> Header:
    # The moments of both clocks, one right after the other.
    aws_time = aws_now(Caller(hub.access))
    return Header(
        run=listed.run.id,
        attempt=listed.run.attempt,
        repository=listed.run.repository,
        list_sha256=digest,
        shard=shard,
        code=code(),
        policy_sha256=policy_digest(policy),
        caller=hub.trusted,
        began=datetime.now(timezone.utc),
        aws_time=aws_time,
    )


def look(rows: Sequence[MemberRow], entered: Sequence[Entered], listed: FleetList, policy: Policy) -> Seen:
    """Read every listed place of the accounts *rows*; return what was seen.

    Args:
        rows: The accounts of a shard.
        entered: The same, entered.
        listed: The list.
        policy: What decides.
    """
    troubles = {row.account: _trouble(row, one) for row, one in zip(rows, entered, strict=True)}
    locations = [
        Location(Caller(one.access, region), row.account)
        for row, one in zip(rows, entered, strict=True)
        if one.access is not None and troubles[row.account] is None
        for region in row.read
    ]
    survey = Survey(
        locations,
        policy,
        fast_restore_usd_per_hour=fast_restore_usd_per_hour,
        reached=Reached(members={row.account: row.member for row in listed.members}),
    )
    places = {part.place: part for part in parts_of(survey, listed.as_of)}
    unread = [
        PlacePart(account, region, trouble=trouble)
        for account, trouble in troubles.items()
        if trouble is not None
        for row in rows
        if row.account == account
        for region in row.read
    ]
    places |= {part.place: part for part in unread}
    return Seen(
        [places[row.account, region] for row in rows for region in row.read],
        [row.account for row in rows],
        sum(len(part.images) for part in places.values()),
        sum(report.references for location in locations for report in _reports(survey, location)),
        [
            *(
                {"name": "account", "region": None, "account": account, "error": trouble}
                for account, trouble in troubles.items()
                if trouble is not None
            ),
            *(
                {"name": report.name, "region": report.region, "account": report.account, "error": report.error}
                for location in locations
                for report in _reports(survey, location)
                if report.status == "failed"
            ),
        ],
    )


def _reports(survey: Survey, location: Location) -> Iterator[Any]:
    return (state.report for state in survey.states_of(location).values())


def _trouble(row: MemberRow, one: Entered) -> str | None:
    """Return why an account cannot be read as the list says; None where it can."""
    if one.trouble is not None:
        return f"{one.trouble}. {one.fix[0].upper()}{one.fix[1:]}" if one.fix else one.trouble
    if (set(one.regions), set(one.off)) != (set(row.on), set(row.off)):
        changed = sorted(set(one.regions) ^ set(row.on)) or sorted(set(one.off) ^ set(row.off))
        return f"{one.member.label}: {changed[0]} was switched on or off since the list was made: make a new one"
    return None


def parts_of(survey: Survey, as_of: datetime) -> Iterable[PlacePart]:
    """Read everything that *survey* is of; return what was seen, place by place.

    Args:
        survey: A survey of a part of a fleet that has not queried anything yet.
        as_of: The moment by which ages are judged, on every machine.
    """
    survey.query()
    # Judged by less than is known in the end, so that all are among them that may go by everything together.
    everything = dataclasses.replace(survey.policy, max_deletions=None, allow_no_references=True)
    first = decide(survey.images, survey.references, (), everything, as_of, brief=True)
    survey.query_rest()
    asked = {verdict.image.image_id for verdict in first.selected}
    survey.query_images(asked)
    going = by_place(verdict.image for verdict in first.selected)
    found = in_parallel(
        survey.own_locations, lambda location: _details(location, going.get(location.place)), workers=survey.workers
    )
    images = by_place(survey.images)
    return [
        _part(survey, location, images.get(location.place, []), asked, snapshots, bin_)
        for location, (snapshots, bin_) in zip(survey.own_locations, found, strict=True)
    ]


def _details(location: Location, going: Sequence[Image] | None) -> tuple[dict[str, Snapshot], Bin | None]:
    return ({}, None) if going is None else details_of(location, going)


def _part(
    survey: Survey,
    location: Location,
    images: Sequence[Image],
    asked: Collection[str],
    snapshots: Mapping[str, Snapshot],
    bin_: Bin | None,
) -> PlacePart:
    return PlacePart(
        account=location.account,
        region=location.region,
        aws_time=location.caller.aws_time,
        images=tuple(images),
        sources={name: source_part(name, state) for name, state in survey.states_of(location).items()},
        asked=tuple(sorted(image.image_id for image in images if image.image_id in asked)),
        snapshots=tuple(snapshots.values()),
        bin=bin_,
    )


def _document(out: Path, header: Header, seen: Seen, written: Written) -> dict[str, Any]:
    return {
        "out": str(out),
        "shard": header.shard,
        "run": header.run,
        "attempt": header.attempt,
        "repository": header.repository,
        "list_sha256": header.list_sha256,
        "policy_sha256": header.policy_sha256,
        "code": header.code,
        "accounts": list(seen.accounts),
        "places": len(seen.places),
        "images": seen.images,
        "references": seen.references,
        "failed": list(seen.failed),
        "bytes": written.bytes,
        "sha256": written.sha256,
    }


def _tables(header: Header, seen: Seen, written: Written) -> list[Table]:
    rows = [
        ("accounts", f"{len(seen.accounts)}"),
        ("places", f"{len(seen.places)}"),
        ("AMIs", f"{seen.images}"),
        ("references", f"{seen.references}"),
        ("could not be read", f"{len(seen.failed)}"),
        ("bytes", f"{written.bytes}"),
    ]
    return [Table(columns=("", "count"), rows=rows, title=f"Shard {header.shard}", numeric=frozenset({"count"}))]
