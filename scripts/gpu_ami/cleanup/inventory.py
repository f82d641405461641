"""Queries every source in every region and account, side by side, and remembers the answers for the second query."""

from __future__ import annotations

import functools
import itertools
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from msgspec.structs import replace

from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller, RefusedError, making_sense
from gpu_ami.aws.images import Image, own_images, some_images
from gpu_ami.aws.references.image_builder import own_images_of
from gpu_ami.aws.references.known_members import unknown
from gpu_ami.aws.references.registry import AFTER, BY_OWN_IMAGES, FROM_ANYWHERE, LONGEST, OWN, PER_IMAGE, USES
from gpu_ami.aws.references.source import OWN_IMAGES, Found, Reference, Source, SourceQuery
from gpu_ami.aws.regions import has_service
from gpu_ami.cleanup.decide import Decision, SourceReport, Status, decide, newest_of
from gpu_ami.cleanup.grantees import GRANTEES, Reached
from gpu_ami.cleanup.local_references import LocalSource
from gpu_ami.cleanup.policy import SETTING, Policy
from gpu_ami.errors import AwsError

_WORKERS = 32
# Of a plan's queries, forty in each region, most do nothing but wait for one answer.
_QUERIES = 64
# Of a fleet: waiting for hundreds of places, each at its own pace, costs little more than some threads.
_FLEET_WORKERS = 256
_LISTING = "images"
_SHARING = "launch-permissions"
_PUBLIC = "public-snapshots"
# The code of the reason for which an AMI stays that another account uses, or may use.
USAGE = "usage-reports"
# How services refuse an operation that a region of theirs lacks: SageMaker with "UnknownOperationException: The
# requested operation is not supported in the called region." (hashicorp/terraform-provider-aws#27258), services of the
# query protocol with "InvalidAction: Operation (…) is not supported in this region" (rebuy-de/aws-nuke#301).
_NO_OPERATION = frozenset({"InvalidAction", "UnknownOperationException"})
# These say the same and other things, such as that an account is not set up for it, so their words count: "The
# functionality you requested is not available in this region." (EC2; hashicorp/terraform-provider-aws#4359).
_UNSUPPORTED = frozenset({"UnsupportedOperation", "UnsupportedOperationException"})
_NOT_HERE = re.compile(r"\bnot (?:available|supported) in (?:this|the called) region\b", re.IGNORECASE)
# What these see is there whether or not the region has the operation that shows it: who an AMI is shared with, and what
# uses it. The other sources list things that nobody can have where nobody can list them.
_SEES_WHAT_IS_THERE = frozenset({_SHARING, "public-snapshots", "image-references"})
# Without them --include-shared would delete what nobody asked about; both read what EC2 has everywhere.
_NO_WAY_ROUND = frozenset({_SHARING, "public-snapshots"})
# botocore's name of the service that answers most, and takes longest.
EC2 = "ec2"
_Found = TypeVar("_Found")
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Location:
    """A region of an account to query.

    Attributes:
        caller: Calls it.
        account: Whose it is.
        is_own: Whether the AMIs to clean up are there; in other accounts only uses are read.
    """

    caller: Caller
    account: str
    is_own: bool = True

    @property
    def region(self) -> str:
        """The region."""
        return self.caller.region

    @property
    def place(self) -> tuple[str, str]:
        """The account and the region."""
        return self.account, self.caller.region

    def among(self, images: Iterable[Image]) -> list[Image]:
        """Return those of *images* that are this account's, in this region."""
        account, region = self.account, self.region
        return [image for image in images if image.region == region and image.account == account]


@dataclass(slots=True)
class SourceState:
    """What one source in one location showed, and what it keeps for its next query."""

    report: SourceReport
    references: Sequence[Reference] = ()
    memory: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Reading:
    """What was read of a fleet for one family, and counts for the next one.

    Attributes:
        began: When, by which every age is judged.
        aws_time: What time AWS had then; None before its first answer.
        images: All AMIs that were listed; None before any were.
        states: What each source that answers region by region showed, by account, region and source.
    """

    began: datetime
    aws_time: datetime | None = None
    images: tuple[Image, ...] | None = None
    states: dict[tuple[str, str, str], SourceState] = field(default_factory=dict)


class Survey:
    """One query of everything, and the quick second one right before something is changed.

    Args:
        locations: The regions and accounts.
        policy: What to leave out, and how many versions to read.
        local: Says what the working tree needs, each time that it is called.
        failed_accounts: Reports of accounts that could not be entered at all.
        uses: Sources queried in every location.
        own: Sources queried where the AMIs are.
        per_image: Sources queried for single AMIs.
        clock: Monotonic seconds.
        fast_restore_usd_per_hour: Returns what fast snapshot restore of a snapshot costs in one zone of a region, by
            the hour; None where that is not known.
        reached: How far a fleet is read: a shared AMI goes only when all who may launch it are in it. None where there
            is no fleet.
        reading: What was read of the same places before, by a policy that leaves out the same and reads as many
            versions; what is read now is added. None where nobody reads them again.
    """

    def __init__(
        self,
        locations: Sequence[Location],
        policy: Policy,
        *,
        local: Callable[[], Sequence[LocalSource]] = tuple,
        failed_accounts: Sequence[SourceReport] = (),
        uses: Sequence[Source] = USES,
        own: Sequence[Source] = OWN,
        per_image: Sequence[Source] = PER_IMAGE,
        clock: Callable[[], float] = time.monotonic,
        fast_restore_usd_per_hour: Callable[[str], Decimal | None] = lambda _region: None,
        reached: Reached | None = None,
        reading: Reading | None = None,
    ) -> None:
        """Read the working tree alone."""
        self._reached = reached
        self._reading = reading
        self.workers = _WORKERS if reached is None else _FLEET_WORKERS
        # Each worker of a fleet would have threads of its own: of many places one does what they would do.
        self._at_once = _WORKERS if reached is None else max(1, _FLEET_WORKERS // max(1, len(locations)))
        self._fast_restore_usd_per_hour = fast_restore_usd_per_hour
        self.locations = tuple(locations)
        self.policy = policy
        self._read_files = local
        self._local = tuple(local())
        self._failed_accounts = tuple(failed_accounts)
        self._uses, self._own, self._per_image = tuple(uses), tuple(own), tuple(per_image)
        self._states: dict[tuple[str, str, str], SourceState] = {}
        self._lock = threading.Lock()
        self.clock = clock
        self._sharing_seen_at = float("-inf")
        # What EC2's usage reports say of an AMI, and with whom it was shared then.
        self._reported: dict[str, tuple[tuple[str, ...], frozenset[str] | None]] = {}
        self._own_places = {location.place for location in self.locations if location.is_own}
        # Of many places each looks for its own, again and again.
        self._images: dict[tuple[str, str], list[Image]] = {}
        self._all_images: tuple[Image, ...] | None = ()
        # Regions of a fleet in which no AMI of the scope is, and in which all is read for another reason.
        self._also_busy: frozenset[str] = frozenset()
        # Where all of them were listed in the round of queries under way.
        self._just_listed: frozenset[tuple[str, str]] = frozenset()
        # What follows from all that was seen so far, by what it is.
        self._memo: dict[str, Any] = {}

    @property
    def images(self) -> tuple[Image, ...]:
        """All AMIs that were listed, place by place."""
        if self._all_images is None:
            self._all_images = tuple(image for some in self._images.values() for image in some)
        return self._all_images

    @images.setter
    def images(self, images: Iterable[Image]) -> None:
        found: dict[tuple[str, str], list[Image]] = defaultdict(list)
        self._all_images = tuple(images)
        for image in self._all_images:
            found[image.account, image.region].append(image)
        self._images = dict(found)
        self._memo = {}

    def _images_in(self, location: Location) -> list[Image]:
        return self._images.get(location.place, [])

    @property
    def is_fleet(self) -> bool:
        """Whether it is about many accounts."""
        return self._reached is not None

    @property
    def places(self) -> list[tuple[str, str]]:
        """The account and the region of each location."""
        return [location.place for location in self.locations]

    @property
    def own_locations(self) -> tuple[Location, ...]:
        """The locations whose AMIs may go."""
        return tuple(location for location in self.locations if location.is_own)

    @property
    def reports(self) -> list[SourceReport]:
        """How the last query of each source ended; that uses are seen is only shown by a use of an own AMI."""
        return [*self._failed_accounts, *self._kept("reports", self._seen), *(source.report for source in self._local)]

    def _seen(self) -> list[SourceReport]:
        owners, seen = self._owners, {id(state): uses for _, state, uses in self._shown}
        found = []
        for state in self._states.values():
            report = state.report
            if report.is_use and not any(use.target in owners for use in seen.get(id(state), ())):
                report = replace(report, is_use=False)
            found.append(report)
        return found

    @property
    def _shown(self) -> list[tuple[str, SourceState, Sequence[Reference]]]:
        """Return what has shown something, with its account: what is about images of Image Builder, as about AMIs."""
        return self._kept("shown", self._find_shown)

    def _find_shown(self) -> list[tuple[str, SourceState, Sequence[Reference]]]:
        images = self.images
        return [
            (account, state, own_images_of(state.references, images))
            for (account, _, _), state in self._states.items()
            if state.references
        ]

    def _kept(self, name: str, find: Callable[[], _Found]) -> _Found:
        """Return what *find* finds, found once as long as nothing is queried again."""
        if name not in self._memo:
            self._memo[name] = find()
        found: _Found = self._memo[name]
        return found

    @property
    def references(self) -> list[Reference]:
        """What all sources showed, from every location and file."""
        local = [reference for source in self._local for reference in source.references]
        elsewhere = [
            Reference(image_id, USAGE, why) for image_id, (reasons, _) in self._reported.items() for why in reasons
        ]
        if self._reached is not None:
            return [*elsewhere, *self._fleet_references(), *local]
        seen = [reference for state in self._states.values() for reference in state.references]
        return [*elsewhere, *own_images_of(seen, self.images), *local]

    def _fleet_references(self) -> list[Reference]:
        """Return what is needed in any account of a fleet; what another one than the owner needs names that account."""
        found = self._unread_grantees()
        # That says more of the same permissions.
        told = {reference.target for reference in found}
        everybody: list[Reference] = []
        for _, some in self._by_account():
            # No fleet has everybody in it.
            found += [Reference(one.target, GRANTEES, one.what, one.where) for one in some if one.source == _PUBLIC]
            everybody += [one for one in some if one.source != _SHARING or one.target not in told] if told else some
        found += everybody
        return found

    def _by_account(self) -> Iterator[tuple[str, list[Reference]]]:
        """Yield what each account needs; of what is not its own with the account's name."""
        assert self._reached is not None
        owners, label = self._owners, self._reached.label
        for account, _, uses in self._shown:
            where = f", in account {label(account)}"
            yield (
                account,
                [
                    use
                    if owners.get(use.target, account) == account
                    else Reference(use.target, use.source, use.what, where)
                    for use in uses
                ],
            )

    @property
    def _owners(self) -> dict[str, str]:
        """Whose each AMI and each of their snapshots is."""
        return self._kept(
            "owners",
            lambda: {key: image.account for image in self.images for key in (image.image_id, *image.snapshot_ids)},
        )

    @property
    def foreign(self) -> frozenset[str]:
        """The AMIs of a fleet that something in another account than their own needs."""
        owners = {key: image for image in self.images for key in (image.image_id, *image.snapshot_ids)}
        uses = [
            (account, owners[use.target])
            for account, some in self._by_account()
            for use in some
            if use.target in owners
        ]
        return frozenset(image.image_id for account, image in uses if image.account != account)

    def _unread_grantees(self) -> list[Reference]:
        """Return what keeps the shared AMIs of a fleet that somebody may launch who was not read."""
        if self._reached is None:
            return []
        who = ((image, self.permissions(image)) for image in self.images)
        kept = ((image, self._reached.why_kept(some, image.account, image.region)) for image, some in who if some)
        return [Reference(image.image_id, GRANTEES, why) for image, why in kept if why]

    @property
    def used_accounts(self) -> frozenset[str]:
        """The accounts of whose AMIs a use was found; that uses of one are seen says nothing of another."""
        owners = self._owners
        local = [source for source in self._local if source.report.is_use]
        found = {use.target for _, state, uses in self._shown if state.report.is_use for use in uses}
        found |= {use.target for source in local for use in source.references}
        return frozenset(owners[target] for target in found if target in owners)

    @property
    def reported(self) -> frozenset[str]:
        """The AMIs of which EC2's usage reports were read, and that are shared with nobody else since."""
        if not self._reported:
            return frozenset()
        known = {image.image_id: image for image in self.images if image.image_id in self._reported}
        return frozenset(key for key, image in known.items() if self._reported[key][1] == self.sharers(image))

    def note_usage(self, answers: Mapping[str, Sequence[str]]) -> None:
        """Take note of what EC2's usage reports say: by AMI what keeps it; nothing where no other account uses it."""
        images = {image.image_id: image for image in self.images}
        self._reported |= {key: (tuple(why), self.sharers(images[key])) for key, why in answers.items()}

    def sharers(self, image: Image) -> frozenset[str] | None:
        """Return who may launch *image*; None where that was not read."""
        found = self.permissions(image)
        return None if found is None else frozenset(value for entry in found for value in entry.values())

    def permissions(self, image: Image) -> tuple[dict[str, str], ...] | None:
        """Return who may launch *image*, as it was read; None when it was not."""
        place = (image.account, image.region)
        state = self._states.get((*place, _SHARING)) if place in self._own_places else None
        found = state.memory.get("permissions", {}).get(image.image_id) if state else None
        return tuple(found) if found is not None else None

    @property
    def aws_time(self) -> datetime | None:
        """What time AWS has, or had when it was read for another family; None before its first answer."""
        if self._reading is not None and self._reading.aws_time is not None:
            return self._reading.aws_time
        return next((location.caller.aws_time for location in self.locations if location.caller.aws_time), None)

    def query(self) -> None:
        """List the AMIs of every own location and query all sources that answer region by region.

        Raises:
            AwsError: The AMIs of a location could not be listed; sources that fail are reported instead.
        """
        if self._reached is not None:
            self._query_fleet()
            return
        places = self.own_locations
        uses = [(location, source) for source in self._uses for location in self.locations]
        own = [(location, source) for location in places for source in self._own]
        self._note_pairs([*uses, *own])
        # What calls nothing reads the AMIs themselves. Whatever does not need their list starts with it.
        still = [pair for pair in [*uses, *own] if _is_answered_by_images(*pair)]
        calling = _by_service(pair for pair in [*uses, *own] if not _is_answered_by_images(*pair))
        with ThreadPoolExecutor(max_workers=_QUERIES) as pool:
            self._prepare(EC2, calling[EC2])
            listings = [pool.submit(own_images, location.caller, location.account) for location in places]
            begun: list[Future[None]] = []
            for service, pairs in calling.items():
                if service != EC2:
                    # Reading a model and making a client keep the processor busy: EC2's answers, which take longest,
                    # are under way meanwhile. All threads at once would do it before EC2 had its first request.
                    self._prepare(service, pairs)
                begun += [pool.submit(self._query_together, *job, ()) for job in _jobs(pairs)]
            self.images = tuple(image for listing in listings for image in listing.result())
            self._just_listed = frozenset(location.place for location in places)
            for done in [*begun, *(pool.submit(self._query_together, *job, ()) for job in _jobs(still))]:
                done.result()

    def _prepare(self, service: str, pairs: Iterable[tuple[Location, Source]]) -> None:
        """Make the client of *service* in each region of *pairs* that is queried."""
        if service:
            for caller in {
                location.region: location.caller
                for location, source in pairs
                if source.name not in self.policy.skip_sources
            }.values():
                caller.prepare(service)

    def _query_fleet(self) -> None:
        """List the AMIs everywhere, then query the sources: all of them only where an AMI of the scope is.

        A place whose AMIs cannot be listed is reported, so that everything stays: the others are shown all the same.
        """
        known = {} if self._reading is None else self._reading.states
        if self._reading is None or self._reading.images is None:
            listed = in_parallel(self.own_locations, self._listed, workers=self.workers)
            self.images = tuple(image for images in listed for image in images)
            self._just_listed = frozenset(
                location.place for location in self.own_locations if _key(location, _LISTING) not in self._states
            )
        else:
            self.images = self._reading.images
            # Where they could not be listed.
            self._states |= {key: state for key, state in known.items() if key[-1] == _LISTING}
        pairs = [*self._asked(self._uses), *self._asked(self._own, own_only=True)]
        keys = [_key(location, source.name) for location, source in pairs]
        # In this order they are reported, whoever has read them.
        self._states |= {key: known.get(key) or _unqueried(*pair) for key, pair in zip(keys, pairs, strict=True)}
        self._query_pairs([pair for key, pair in zip(keys, pairs, strict=True) if key not in known], frozenset())
        if self._reading is not None:
            self._reading.aws_time = self.aws_time
            self._reading.images = self.images
            self._reading.states |= self._states

    def _listed(self, location: Location) -> list[Image]:
        caller = location.caller.counting()
        try:
            with making_sense(f"images in {location.region}"):
                found = own_images(caller, location.account, is_checked=True)
        except AwsError as exc:
            report = SourceReport(_LISTING, location.region, "failed", location.account, error=str(exc), is_use=False)
            with self._lock:
                self._states[_key(location, _LISTING)] = SourceState(report)
                self._memo = {}
            return []
        location.caller.aws_time = location.caller.aws_time or caller.aws_time
        return found

    @property
    def _busy(self) -> frozenset[str]:
        """The regions in which an AMI of the scope is: of a fleet, the others are asked for little."""
        covers = self.policy.scope.covers
        return self._also_busy | {image.region for image in self.images if covers(image.name, image.tags)}

    def _asked(self, sources: Iterable[Source], *, own_only: bool = False) -> list[tuple[Location, Source]]:
        """Return where each of *sources* is queried, source by source."""
        locations = self.own_locations if own_only else self.locations
        busy = None if self._reached is None else self._busy
        return [
            (location, source)
            for source in sources
            for location in locations
            if busy is None or location.region in busy or source.name in FROM_ANYWHERE
        ]

    def query_regions(self, regions: Collection[str]) -> None:
        """Query in *regions* what `query` left out where no AMI of the scope is, and again whenever all is.

        What a run that was killed has left there may be needed, although its AMIs are gone.
        """
        self._also_busy |= frozenset(regions)
        pairs = [*self._asked(self._uses), *self._asked(self._own, own_only=True)]
        self._query_pairs([pair for pair in pairs if _key(pair[0], pair[1].name) not in self._states], frozenset())

    def query_rest(self) -> None:
        """Query what `query` left out where no AMI of the scope is.

        Who reads a part of a fleet does not know in which regions the others have AMIs.
        """
        uses = [(location, source) for source in self._uses for location in self.locations]
        own = [(location, source) for source in self._own for location in self.own_locations]
        left = [pair for pair in (*uses, *own) if _key(pair[0], pair[1].name) not in self._states]
        self._query_pairs(left, frozenset())

    def states_of(self, location: Location) -> dict[str, SourceState]:
        """Return what each source has shown in *location*, by its name; `images` among them where that failed."""
        sources = [_LISTING, *(source.name for source in (*self._uses, *self._own, *self._per_image))]
        keys = [(name, (*location.place, name)) for name in sources]
        return {name: self._states[key] for name, key in keys if key in self._states}

    def query_images(self, selected: Collection[str]) -> None:
        """Query the sources that AWS only answers AMI by AMI, for the AMIs *selected*."""
        self._query_all(self.own_locations, self._per_image, selected)
        self._sharing_seen_at = self.clock()

    def sharing_age_s(self) -> float:
        """Return how long ago launch permissions were read."""
        return self.clock() - self._sharing_seen_at

    def query_sharing(self, selected: Collection[str]) -> None:
        """Read the launch permissions of the AMIs *selected* anew."""
        for state in self._states.values():
            state.memory.pop("permissions", None)
        self._query_all(self.own_locations, self._sharing, selected)
        self._sharing_seen_at = self.clock()

    def query_again(self, selected: Collection[str]) -> None:
        """Query all again that may have moved since the last time: files, uses and the AMIs *selected* themselves.

        What EC2 says of references (image-references) is read from its origins again, and who may launch an AMI by
        `query_sharing`.
        """
        self._local = tuple(self._read_files())
        # Only some of the AMIs are read anew.
        self._just_listed = frozenset()
        moving = [source for source in self._own if source.service]
        selected = frozenset(selected)
        queries = [*self._asked(self._uses), *self._asked(moving, own_only=True)]
        in_parallel(
            [*_jobs(queries), *((location, ()) for location in self.own_locations)],
            lambda job: self._query_together(*job, selected) if job[1] else self._refresh(job[0], selected),
            workers=self.workers,
        )
        # These read the AMIs' own properties; they call nothing.
        still = [source for source in self._own if not source.service]
        self._query_all(self.own_locations, [*still, *self._sharing], selected)

    @property
    def _sharing(self) -> list[Source]:
        return [source for source in self._per_image if source.name == _SHARING]

    def _refresh(self, location: Location, selected: Collection[str]) -> None:
        """Read the AMIs *selected* anew: one may have been tagged, launched, protected or made public meanwhile.

        So are the newest of their families, which may have been deleted meanwhile: the next ones take their place.
        """
        here = self._images_in(location)
        present = {image.image_id for image in here if image.image_id in selected}
        if not present:
            return
        caller = location.caller.counting()

        def report(status: Status, error: str | None = None) -> SourceState:
            return SourceState(
                SourceReport(_LISTING, location.region, status, location.account, error=error, is_use=False)
            )

        try:
            with making_sense(f"images in {location.region}"):
                here = _fresh(here, present, self.policy.keep, lambda ids: some_images(caller, ids))
            state = report("ok")
        except AwsError as exc:
            state = report("failed", str(exc))
        with self._lock:
            self._states[_key(location, _LISTING)] = state
            # The last one, as it was read last.
            self._images.pop(location.place, None)
            self._images[location.place] = here
            self._all_images = None
            self._memo = {}

    def decide(
        self,
        now: datetime,
        policy: Policy | None = None,
        *,
        more: Sequence[SourceReport] = (),
        brief: bool = False,
        with_orphans: bool = False,
    ) -> Decision:
        """Return the verdicts that follow from what was seen; *more* is reported beside what this survey reports.

        With *brief* each AMI that stays has one reason; *with_orphans* says that orphan snapshots go, too.
        """
        policy = policy or self.policy
        used = None if self._reached is None else self.used_accounts
        reports = [*more, *self.reports]
        return decide(
            self.images,
            self.references,
            reports,
            policy,
            now,
            with_orphans=with_orphans,
            reported=self.reported,
            used=used,
            brief=brief,
        )

    def _query_all(self, locations: Sequence[Location], sources: Iterable[Source], selected: Collection[str]) -> None:
        self._query_pairs([(location, source) for location in locations for source in sources], selected)

    def _query_pairs(self, pairs: Sequence[tuple[Location, Source]], selected: Collection[str]) -> None:
        chosen = frozenset(selected)
        self._note_pairs(pairs)
        in_parallel(_jobs(pairs), lambda job: self._query_together(*job, chosen), workers=self.workers)

    def _note_pairs(self, pairs: Iterable[tuple[Location, Source]]) -> None:
        """Note what is about to be queried: in this order it is reported, whichever thread comes to which first."""
        for location, source in pairs:
            self._states.setdefault(_key(location, source.name), _unqueried(location, source))

    def _query_together(self, location: Location, sources: Iterable[Source], selected: Collection[str]) -> None:
        """Query *sources* in their order; each knows what those before it have listed."""
        is_known = location.is_own and location.place in self._just_listed
        listed: dict[str, Any] = {OWN_IMAGES: self._images_in(location)} if is_known else {}
        for source in sources:
            self._query(location, source, selected, listed)

    def _query(self, location: Location, source: Source, selected: Collection[str], listed: dict[str, Any]) -> None:
        key = _key(location, source.name)
        memory = self._states[key].memory if key in self._states else {}
        here = self._images_in(location) if location.is_own else []
        present = {image.image_id for image in here if image.image_id in selected}
        price = functools.partial(self._fast_restore_usd_per_hour, location.region)
        query = SourceQuery(here, present, self.policy.template_versions, memory, price, self._at_once, listed)
        with self._lock:
            self._states.setdefault(key, _unqueried(location, source, memory))
        before = self._states[key].report.status
        state = query_source(location, source, query, skip=source.name in self.policy.skip_sources)
        if before == "ok" and state.report.status == "skipped":
            # What answered a moment ago is not absent.
            state.report = replace(state.report, status="failed")
        with self._lock:
            self._states[key] = state
            self._memo = {}


def query_source(location: Location, source: Source, query: SourceQuery, *, skip: bool = False) -> SourceState:
    """Return what *source* shows in *location*; whatever goes wrong ends in its report."""
    caller = location.caller.counting()

    def state(
        status: Any, found: Found | None = None, error: str | None = None, denied: RefusedError | None = None
    ) -> SourceState:
        found = found or Found()
        report = SourceReport(
            source.name,
            location.region,
            status,
            account=location.account,
            calls=caller.calls,
            references=len(found.references),
            error=error,
            notes=tuple(found.notes),
            is_use=source.is_use and bool(found.references),
            denied=denied.action if denied else "",
            principal=denied.principal if denied else "",
        )
        return SourceState(report, found.references, query.memory)

    if skip:
        return state("skipped", error="left out by --skip-source or cleanup.skip_sources")
    if lacking := unknown(source.reads):
        return state("failed", error=f"The installed botocore does not know {lacking[0]}: upgrade boto3.")
    try:
        with making_sense(f"{source.name} in {location.region}"):
            return state("ok", source.find(caller, query))
    except AwsError as exc:
        if why := _why_absent(caller, source, exc):
            return state("skipped", error=why)
        denied = exc if isinstance(exc, RefusedError) and exc.is_denied else None
        return state("failed", error=_with_way_round(source, exc), denied=denied)
    finally:
        location.caller.aws_time = location.caller.aws_time or caller.aws_time


def _with_way_round(source: Source, problem: AwsError) -> str:
    """Return what *problem* is, and how to do without *source* where that is allowed and not said already.

    The setting holds for `invoke cleanup` and `invoke sweep`; a flag of the first would be refused by the second.
    """
    said = str(problem)
    if source.is_essential or source.name in _NO_WAY_ROUND or SETTING in said:
        return said
    return f"{said.rstrip('.')}. To do without, name {source.name} in {SETTING}."


def _why_absent(caller: Caller, source: Source, problem: AwsError) -> str | None:
    """Return why nothing can be there that *source* would find; None where it may be."""
    here = caller.region
    if _lacks_operation(caller, source, problem):
        return f"AWS says that {here} has no such operation: {problem}"
    if _is_absent(caller, source, problem):
        return f"{source.service} does not exist in {here}, says AWS's public list"
    return None


def _lacks_operation(caller: Caller, source: Source, problem: AwsError) -> bool:
    """Return whether AWS says that the region lacks the listing from which *source* sets out.

    What cannot be listed there cannot be there. That goes for the first listing alone: of what was listed, something
    that cannot be shown is there and not seen.
    """
    if source.is_essential or source.name in _SEES_WHAT_IS_THERE or not isinstance(problem, RefusedError):
        return False
    is_said = problem.code in _NO_OPERATION or (
        problem.code in _UNSUPPORTED and _NOT_HERE.search(str(problem)) is not None
    )
    return is_said and caller.answered == 0


def _is_absent(caller: Caller, source: Source, problem: AwsError) -> bool:
    """Return whether AWS's public list says that the region lacks the service; a list that fails says nothing."""
    if not source.service or (isinstance(problem, RefusedError) and problem.is_denied):
        return False
    try:
        with making_sense("the public list of services"):
            return not has_service(caller, source.service)
    except AwsError:
        return False


def locations_of(access: Access, account: str, regions: Sequence[str], *, is_own: bool = True) -> list[Location]:
    """Return one location for each of *regions*.

    A region that is named twice is one location: its AMIs, listed twice, would fill their own places among the newest.
    """
    return [Location(Caller(access, region), account, is_own) for region in dict.fromkeys(regions)]


def in_parallel(items: Sequence[_Item], work: Callable[[_Item], _Result], *, workers: int = _WORKERS) -> list[_Result]:
    """Return what *work* makes of each item, in their order; the first exception ends it.

    Each thread takes the next item when it is done with one: a future for each of the hundred thousand queries of a
    fleet, all at once, would be a third of its memory.
    """
    numbers = itertools.count()
    results: dict[int, _Result] = {}
    is_over = threading.Event()

    def take() -> None:
        # Of two threads none gets the same number: `next` of a counter is one step.
        while not is_over.is_set() and (number := next(numbers)) < len(items):
            results[number] = work(items[number])

    if not items:
        return []
    threads = min(workers, len(items))
    with ThreadPoolExecutor(max_workers=threads) as pool:
        try:
            for done in as_completed([pool.submit(take) for _ in range(threads)]):
                done.result()
        finally:
            is_over.set()
    return [results[number] for number in range(len(items))]


def _fresh(
    images: Sequence[Image], selected: Collection[str], keep: int, read: Callable[[Collection[str]], Iterable[Image]]
) -> list[Image]:
    """Return *images*: those *selected* and the newest of their families as they are now, without the gone ones."""
    seen: set[str] = set()
    now = list(images)
    while unseen := ({*selected} | newest_of(now, selected, keep)) - seen:
        found = {image.image_id: image for image in read(unseen)}
        now = [
            found.get(image.image_id, image) for image in now if image.image_id in found or image.image_id not in unseen
        ]
        seen |= unseen
    return now


def _key(location: Location, source: str) -> tuple[str, str, str]:
    return location.account, location.region, source


def _by_service(pairs: Iterable[tuple[Location, Source]]) -> dict[str, list[tuple[Location, Source]]]:
    """Return *pairs* by the service that each source reads first, by botocore's name, in the order to begin in."""
    found: dict[str, list[tuple[Location, Source]]] = {service: [] for service in (EC2, *LONGEST)}
    for location, source in pairs:
        service = source.reads[0].partition(":")[0] if source.reads else ""
        found.setdefault(service, []).append((location, source))
    return found


def _is_answered_by_images(location: Location, source: Source) -> bool:
    return location.is_own and (not source.service or source.name in BY_OWN_IMAGES)


def _jobs(pairs: Iterable[tuple[Location, Source]]) -> list[tuple[Location, Sequence[Source]]]:
    """Return what of *pairs* one thread queries: a source, and those that begin with what it lists there."""
    jobs: dict[tuple[tuple[str, str], str], tuple[Location, list[Source]]] = {}
    for location, source in pairs:
        # One that comes before what it follows, or without it, lists by itself.
        jobs.setdefault((location.place, AFTER.get(source.name, source.name)), (location, []))[1].append(source)
    return list(jobs.values())


def _unqueried(location: Location, source: Source, memory: dict[str, Any] | None = None) -> SourceState:
    return SourceState(SourceReport(source.name, location.region, "failed"), memory={} if memory is None else memory)
