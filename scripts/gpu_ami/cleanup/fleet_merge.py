"""Makes one survey of a fleet out of the parts of its shards: what one machine would have read, or why that is unknown.

Each place of the list has to be in exactly one part, which is whole and of this very run, list, policy and code. What
is not, is a source that failed; and where one failed everything stays.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO

import msgspec.structs
from msgspec.structs import replace

from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.clock import LIMIT
from gpu_ami.aws.images import Image, Snapshot
from gpu_ami.aws.references.registry import OWN, PER_IMAGE, USES
from gpu_ami.aws.references.source import Source, SourceQuery
from gpu_ami.cleanup.decide import SourceReport
from gpu_ami.cleanup.fleet_part import (
    ENDING,
    Header,
    Part,
    PartError,
    Permissions,
    PlacePart,
    SourcePart,
    read,
    state_of,
)
from gpu_ami.cleanup.grantees import Reached
from gpu_ami.cleanup.inventory import Location, SourceState, Survey, query_source
from gpu_ami.cleanup.local_references import LocalSource
from gpu_ami.cleanup.plan_document import Bin
from gpu_ami.cleanup.policy import Policy
from gpu_ami.errors import UsageError
from gpu_ami.fleet.fleet_list import FleetList, Place, Run

# What was read longer ago may not be so any more; see `Expected.now`.
FRESH = timedelta(minutes=60)
# The name of the source that fails where a part is not to be believed.
PART = "part"
_SHARING, _LISTING = "launch-permissions", "images"
# So many AMIs AWS is asked about at a time: what one machine's plan counts for the AMIs that may go by all shards.
_AMIS_A_CALL = {_SHARING: 1, "image-references": 10}
# A file of a part: its name, and what opens it.
Opened = tuple[str, Callable[[], BinaryIO]]


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What each part has to belong to.

    Attributes:
        listed: The list.
        list_sha256: Its digest.
        policy_sha256: The policy's.
        code: The code that decides.
        run: The run of the workflow in which it is decided; None outside of one.
        now: What time AWS has; None where that is not known.
    """

    listed: FleetList
    list_sha256: str
    policy_sha256: str
    code: str
    run: Run | None
    now: datetime | None


@dataclass
class Merged:
    """What the parts say together.

    Attributes:
        places: Every listed place that is in exactly one part that is to be believed.
        reports: A failed report for whatever is not as it should be.
    """

    places: dict[Place, PlacePart] = field(default_factory=dict)
    reports: list[SourceReport] = field(default_factory=list)


def files_of(names: Sequence[Path]) -> list[Path]:
    """Return the files of parts that *names* mean: each file, and what lies in each folder; no folder holds none.

    Raises:
        UsageError: A file that is named does not exist, or a folder cannot be read.
    """
    found: list[Path] = []
    for name in names:
        if name.name.endswith(ENDING) and not name.is_dir():
            if not name.exists():
                msg = f"The part {name} does not exist: `invoke survey --out {name}` writes it."
                raise UsageError(msg)
            found.append(name)
        elif name.exists() and not name.is_dir():
            msg = f"{name} is no part of a survey, whose names end with {ENDING}, and no folder: name one."
            raise UsageError(msg)
        else:
            found += _within(name)
    # Named twice, once by its folder, it is one all the same.
    return list({path.resolve(): path for path in found}.values())


def _within(folder: Path) -> list[Path]:
    def refuse(exc: OSError) -> None:
        if not isinstance(exc, FileNotFoundError):
            msg = f"{exc.filename} cannot be read ({exc.strerror}), and there may be parts in it: get the right to."
            raise UsageError(msg)

    found = [Path(where, name) for where, _, names in os.walk(folder, onerror=refuse) for name in names]
    return sorted(path for path in found if path.name.endswith(ENDING))


def opened(path: Path) -> Opened:
    """Return the part in *path*, to be opened when its turn comes."""

    def open_() -> BinaryIO:
        # To open a pipe may never end.
        if not path.is_file():
            raise OSError(0, "it is no plain file")
        return path.open("rb")

    return path.name, open_


def merge(parts: Iterable[Opened], expected: Expected) -> Merged:
    """Return what *parts* say together, read one after the other."""
    counted = _Counted(expected)
    for name, open_ in parts:
        counted.take(name, open_)
    return counted.merged()


class _Counted:
    """Counts the parts against the list."""

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._shards = {
            name: [(row.account, region) for row in expected.listed.members_of(name) for region in row.read]
            for name in expected.listed.names
        }
        self._shard_of = {place: name for name, places in self._shards.items() for place in places}
        self._found: dict[Place, tuple[PlacePart, str]] = {}
        # Why a place is not to be believed; the first reason counts.
        self._wrong: dict[Place, str] = {}
        self._reports: list[SourceReport] = []

    def take(self, name: str, open_: Callable[[], BinaryIO]) -> None:
        """Take the part *name*, or note what is wrong with it."""
        try:
            with open_() as file:
                part = read(file)
        except OSError as exc:
            self._refuse(name, None, f"it cannot be read: {exc.strerror}")
        except PartError as exc:
            self._refuse(name, exc.header, str(exc))
        else:
            if why := self._why_other(part.header):
                self._refuse(name, part.header, why)
            else:
                self._take_places(name, part)

    def merged(self) -> Merged:
        """Return what is left to believe, and a report for each place of which nothing is."""
        expected, reports = self._expected, [*self._clock(), *self._reports]
        troubled: dict[str, str] = {}
        for place in expected.listed.places:
            why = self._wrong.get(place)
            if why is None and place not in self._found:
                why = f"no part has it: `invoke survey --shard {self._shard_of[place]}` makes one"
            if why is not None:
                reports.append(_report(*place, f"shard {self._shard_of[place]}: {why}"))
            elif (trouble := self._found[place][0].trouble) is not None:
                troubled[place[0]] = trouble
        # One account that nobody could enter is one line, not one for each of its regions.
        reports += [
            SourceReport("account", None, "failed", account, error=error, is_use=False)
            for account, error in troubled.items()
        ]
        good = {place: part for place, (part, _) in self._found.items() if place not in self._wrong}
        return Merged(good, reports)

    def _refuse(self, name: str, header: Header | None, why: str) -> None:
        """Note that a part is not to be believed: nothing of its shard is, whatever other parts say of it."""
        places = self._shards.get(header.shard) if header is not None else None
        text = f"{name}: {why}"
        if places is None:
            shard = "" if header is None else f"shard {header.shard}: "
            self._reports.append(_report(None, None, f"{shard}{text}"))
        for place in places or ():
            self._wrong.setdefault(place, text)

    def _why_other(self, header: Header) -> str | None:
        """Return why a part does not belong to this list, run, policy and code; None where it does."""
        expected, run = self._expected, self._expected.listed.run
        if (header.run, header.repository) != (run.id, run.repository):
            return (
                f"it is of run {header.run or 'unknown'} of {header.repository or 'nobody'}, not of {run}: take it away"
            )
        if header.attempt != run.attempt:
            return f"it is of attempt {header.attempt} of the run, the list is of attempt {run.attempt}: run all again"
        pairs = (
            ("list", header.list_sha256, expected.list_sha256, "make all parts by one list"),
            ("policy", header.policy_sha256, expected.policy_sha256, "give surveys and plan the same flags, settings"),
        )
        for what, theirs, ours, fix in pairs:
            if theirs != ours:
                return f"it was made by another {what} (SHA-256 {theirs[:12]}…, here {ours[:12]}…): {fix}"
        if header.code != expected.code:
            return f"it was made by other code ({header.code}, here {expected.code})"
        if header.shard not in self._shards:
            return f"the list has no shard {header.shard}"
        if abs(header.began - header.aws_time) > LIMIT:
            return f"its machine said {header.began:%Y-%m-%d %H:%M} when AWS said {header.aws_time:%H:%M} UTC"
        return None

    def _take_places(self, name: str, part: Part) -> None:
        shard = part.header.shard
        own = set(self._shards[shard])
        for one in part.places:
            where = self._shard_of.get(one.place)
            if where is None:
                self._reports.append(_report(*one.place, f"shard {shard}: {name}: the list does not have that place"))
            elif one.place not in own:
                self._wrong.setdefault(one.place, f"{name} has it, which is the part of shard {shard}")
            elif one.place in self._found:
                self._wrong.setdefault(one.place, f"it is there twice, in {self._found[one.place][1]} and in {name}")
            else:
                _share_texts(one.images)
                self._found[one.place] = (one, name)
                if why := self._why_unsound(one):
                    self._wrong.setdefault(one.place, f"{name}: {why}")

    def _why_unsound(self, one: PlacePart) -> str | None:
        """Return why what a part says of a place cannot be so, or is not so any more; None where all is well."""
        if one.trouble is not None:
            return None
        if strange := next((image for image in one.images if (image.account, image.region) != one.place), None):
            return f"it has the AMI {strange.image_id} of another place"
        if one.aws_time is None:
            # Where nothing answered, that is what is to be said; the AMIs are listed first, and of every place.
            listing = one.sources.get(_LISTING)
            is_said = listing is not None and listing.status == "failed"
            return None if is_said else "when it was read is not known"
        if one.aws_time < self._expected.listed.as_of - LIMIT:
            return f"it was read {one.aws_time:%Y-%m-%d %H:%M} UTC, before the list was made"
        now = self._expected.now
        if now is None:
            return None
        if one.aws_time > now + LIMIT:
            return f"it was read {one.aws_time:%Y-%m-%d %H:%M} UTC, and AWS says that it is {now:%H:%M} now"
        if now - one.aws_time > FRESH:
            minutes = int(FRESH.total_seconds() // 60)
            return f"it was read {one.aws_time:%Y-%m-%d %H:%M} UTC, more than {minutes} minutes ago: read it again"
        return None

    def _clock(self) -> Iterator[SourceReport]:
        run, listed = self._expected.run, self._expected.listed.run
        if run is not None and run != listed:
            yield _report(None, None, f"the list is of {listed}, this is {run}: run all of its jobs again")
        for one in self._expected.listed.members:
            if one.left_out is not None and self._expected.now is not None:
                until = one.left_out.until
                if until < self._expected.now.date():
                    # From that day on it is read again, or holds everything up.
                    yield _report(one.account, None, f"it was left out until {until}: list the fleet anew")
        if not self._shards:
            # Of nobody nothing is known; that no account can be read is said by each of them.
            yield _report(None, None, "the list has no account that can be read")


def _share_texts(images: Iterable[Image]) -> None:
    """Let *images* have one text for what many of them have: of a hundred thousand it is a third of their memory."""
    for image in images:
        for name in ("account", "region", "architecture"):
            msgspec.structs.force_setattr(image, name, sys.intern(getattr(image, name)))
        tags = {key: sys.intern(value) for key, value in image.tags.items()}
        msgspec.structs.force_setattr(image, "tags", tags)


def _report(account: str | None, region: str | None, error: str) -> SourceReport:
    return SourceReport(PART, region, "failed", account, error=error, is_use=False)


class MergedSurvey(Survey):
    """A survey that was made by others: it decides as if it had read everything itself, and reads nothing.

    Args:
        listed: The list.
        merged: What the parts say.
        policy: What decides.
        local: Says what the working tree needs.
        failed: Reports of what could not be read, those of the accounts among them.
        uses: Sources that were queried everywhere.
        own: Sources that were queried where the AMIs are.
        per_image: Sources that were queried for single AMIs.
        fast_restore_usd_per_hour: See `Survey`.
    """

    def __init__(
        self,
        listed: FleetList,
        merged: Merged,
        policy: Policy,
        *,
        local: Callable[[], Sequence[LocalSource]] = tuple,
        failed: Sequence[SourceReport] = (),
        uses: Sequence[Source] = USES,
        own: Sequence[Source] = OWN,
        per_image: Sequence[Source] = PER_IMAGE,
        fast_restore_usd_per_hour: Callable[[str], Decimal | None] = lambda _region: None,
    ) -> None:
        # Nobody's: whoever would call AWS with it by mistake is refused.
        locations = [Location(Caller(Access(region=region), region), account) for account, region in listed.places]
        super().__init__(
            locations,
            policy,
            local=local,
            failed_accounts=[*failed, *merged.reports],
            uses=uses,
            own=own,
            per_image=per_image,
            fast_restore_usd_per_hour=fast_restore_usd_per_hour,
            reached=Reached(
                members={one.account: one.member for one in listed.members},
                organization=listed.owner,
                units=listed.organization.units if listed.organization else (),
                read=frozenset(listed.places),
                off=frozenset((one.account, name) for one in listed.members for name in one.off),
            ),
        )
        self._parts = merged.places
        # What is not counted yet of each place, source by source.
        self._sources: dict[Place, dict[str, SourcePart]] = {}

    @property
    def aws_time(self) -> datetime | None:
        """Nothing: whether the clocks were right is judged part by part."""
        return None

    def query(self) -> None:
        """Take the AMIs of all places, and of the sources what one machine would have asked them, in its order."""
        there = [location for location in self.locations if self._is_there(location)]
        self.images = tuple(image for location in there for image in self._parts[location.place].images)
        for location in there:
            part = self._parts[location.place]
            self._sources[location.place] = part.sources
            part.images, part.sources = (), {}
        for location in there:
            if (listing := self._sources[location.place].get(_LISTING)) is not None:
                self._states[(*location.place, _LISTING)] = state_of(listing, _LISTING, location, is_use=False)
        for location, source in [*self._asked(self._uses), *self._asked(self._own, own_only=True)]:
            if self._is_there(location):
                part_of_it = self._sources[location.place].pop(source.name, None)
                self._states[(*location.place, source.name)] = _state(part_of_it, location, source)
        self._memo = {}

    def _is_there(self, location: Location) -> bool:
        part = self._parts.get(location.place)
        return part is not None and part.trouble is None

    def query_images(self, selected: Collection[str]) -> None:
        """Take what AWS answered about the AMIs *selected*, and not what it said of others that a shard asked about."""
        for location in self.own_locations:
            here = self._images_in(location)
            wanted = {image.image_id for image in here if image.image_id in selected}
            for source in self._per_image if self._is_there(location) else ():
                self._states[(*location.place, source.name)] = self._about(location, source, here, wanted)
        self._sharing_seen_at = self.clock()
        self._memo = {}

    def _about(self, location: Location, source: Source, here: Sequence[Image], wanted: Collection[str]) -> SourceState:
        if not wanted or source.name in self.policy.skip_sources:
            # Then the source calls nothing, and says what it would have said.
            skip = source.name in self.policy.skip_sources
            return query_source(location, source, SourceQuery(here, frozenset()), skip=skip)
        part = self._sources[location.place].get(source.name)
        state = _state(part, location, source)
        asked, permissions = frozenset(self._parts[location.place].asked), (part and part.permissions) or {}
        is_sharing = source.name == _SHARING
        if unasked := sorted(set(wanted) - asked):
            error = f"nobody asked about {unasked[0]}, which may go"
            return SourceState(replace(state.report, status="failed", error=error))
        if state.report.status != "ok":
            return state
        if is_sharing and (unsaid := sorted(set(wanted) - permissions.keys())):
            error = f"its part does not say who may launch {unsaid[0]}, which may go"
            return SourceState(replace(state.report, status="failed", error=error))
        public = {image.image_id for image in here if image.public} if is_sharing else set()
        return _only(state, permissions, set(wanted), more=asked - set(wanted), anyway=public)

    def details(self, location: Location, images: Sequence[Image]) -> tuple[dict[str, Snapshot], Bin]:
        """Return the snapshots of *images*, which go in *location*, by id, and its Recycle Bin."""
        part = self._parts.get(location.place)
        if part is None or part.bin is None:
            return {}, Bin(error="its part does not say")
        wanted = {key for image in images for key in image.snapshot_ids}
        return {one.snapshot_id: one for one in part.snapshots if one.snapshot_id in wanted}, part.bin


def _state(part: SourcePart | None, location: Location, source: Source) -> SourceState:
    if part is not None:
        return state_of(part, source.name, location, is_use=source.is_use)
    error = f"its part says nothing of {source.name}"
    return SourceState(SourceReport(source.name, location.region, "failed", location.account, error=error))


def _only(
    state: SourceState, permissions: Permissions, wanted: set[str], *, more: frozenset[str], anyway: set[str]
) -> SourceState:
    """Return of *state* what one machine would have learned: it asks about the AMIs *wanted* alone.

    Args:
        state: What a source said.
        permissions: Who may launch each AMI, where that is what it said.
        wanted: The AMIs that count.
        more: Those that the shard asked about beside them.
        anyway: Those of which it tells without being asked.
    """
    references = [one for one in state.references if one.target not in more - anyway]
    name, calls = state.report.name, state.report.calls
    if more and name in _AMIS_A_CALL:
        calls = -(-len(wanted) // _AMIS_A_CALL[name])
    report = replace(
        state.report, calls=calls, references=len(references), is_use=state.report.is_use and bool(references)
    )
    return SourceState(
        report, references, {"permissions": {key: permissions[key] for key in permissions if key in wanted}}
    )
