"""Looks at every source in every region and account, side by side, and remembers for the second look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from gpu_ami.aws.access import Access
from gpu_ami.aws.calls import Caller, RefusedError, making_sense
from gpu_ami.aws.images import Image, own_images, some_images
from gpu_ami.aws.references.image_builder import own_images_of
from gpu_ami.aws.references.registry import OWN, PER_IMAGE, USES
from gpu_ami.aws.references.source import Found, Look, Reference, Source
from gpu_ami.aws.regions import has_service
from gpu_ami.cleanup.decide import Decision, SourceReport, Status, decide, newest_of
from gpu_ami.cleanup.policy import Policy
from gpu_ami.cleanup.tree import LocalSource
from gpu_ami.errors import AwsError

_WORKERS = 32
_SHARING = "launch-permissions"
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Place:
    """A region of an account to look at.

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

    def among(self, images: Iterable[Image]) -> list[Image]:
        """Return those of *images* that are this account's, in this region."""
        account, region = self.account, self.region
        return [image for image in images if image.region == region and image.account == account]


@dataclass
class Sight:
    """What one source in one place showed, and what it keeps for its next look."""

    report: SourceReport
    references: Sequence[Reference] = ()
    memory: dict[str, Any] = field(default_factory=dict)


class Survey:
    """One look at everything, and the quick second look right before something is changed.

    Args:
        places: The regions and accounts.
        policy: What to leave out, and how deep to look.
        local: Says what the working tree needs, each time that it is asked.
        failed_accounts: Reports of accounts that could not be entered at all.
        uses: Sources asked in every place.
        own: Sources asked where the AMIs are.
        per_image: Sources asked about single AMIs.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        places: Sequence[Place],
        policy: Policy,
        *,
        local: Callable[[], Sequence[LocalSource]] = tuple,
        failed_accounts: Sequence[SourceReport] = (),
        uses: Sequence[Source] = USES,
        own: Sequence[Source] = OWN,
        per_image: Sequence[Source] = PER_IMAGE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look at the working tree alone."""
        self.places = tuple(places)
        self.policy = policy
        self._look_at_files = local
        self._local = tuple(local())
        self._failed_accounts = tuple(failed_accounts)
        self._uses, self._own, self._per_image = tuple(uses), tuple(own), tuple(per_image)
        self._sights: dict[tuple[str, str, str], Sight] = {}
        self._lock = threading.Lock()
        self.clock = clock
        self._sharing_seen_at = float("-inf")
        self.images: tuple[Image, ...] = ()

    @property
    def own_places(self) -> tuple[Place, ...]:
        """The places whose AMIs may go."""
        return tuple(place for place in self.places if place.is_own)

    @property
    def reports(self) -> list[SourceReport]:
        """How the last look at each source ended; that uses are seen is only shown by a use of an own AMI."""
        shown = [(sight.report, own_images_of(sight.references, self.images)) for sight in self._sights.values()]
        used = {use.target for _, uses in shown for use in uses}
        own = {each for image in self.images for each in (image.image_id, *image.snapshot_ids) if each in used}
        seen = [
            replace(report, is_use=report.is_use and any(use.target in own for use in uses)) for report, uses in shown
        ]
        return [*self._failed_accounts, *seen, *(source.report for source in self._local)]

    @property
    def references(self) -> list[Reference]:
        """What all sources showed, from every place and file."""
        local = [reference for source in self._local for reference in source.references]
        seen = [each for sight in self._sights.values() for each in sight.references]
        return [*own_images_of(seen, self.images), *local]

    def permissions(self, image: Image) -> tuple[dict[str, str], ...] | None:
        """Return who may launch *image*, as it was looked up; None when it was not."""
        for place in self.own_places:
            if (place.account, place.region) == (image.account, image.region):
                sight = self._sights.get(_key(place, _SHARING))
                found = sight.memory.get("permissions", {}).get(image.image_id) if sight else None
                return tuple(found) if found is not None else None
        return None

    @property
    def aws_time(self) -> datetime | None:
        """What time AWS has; None before its first answer."""
        return next((place.caller.aws_time for place in self.places if place.caller.aws_time), None)

    def look(self) -> None:
        """List the AMIs of every own place and look at all sources that are asked region by region.

        Raises:
            AwsError: The AMIs of a place could not be listed; sources that fail are reported instead.
        """
        with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
            # Whatever does not need the list of AMIs starts with it.
            early = [(place, source) for place in self.places for source in self._uses]
            uses = [pool.submit(self._see, place, source, ()) for place, source in early]
            listings = [pool.submit(own_images, place.caller, place.account) for place in self.own_places]
            self.images = tuple(image for listing in listings for image in listing.result())
            own = [(place, source) for place in self.own_places for source in self._own]
            for done in [*uses, *(pool.submit(self._see, place, source, ()) for place, source in own)]:
                done.result()

    def look_at(self, asked: Collection[str]) -> None:
        """Look at the sources that AWS only answers AMI by AMI, for the AMIs *asked*."""
        self._see_all(self.own_places, self._per_image, asked)
        self._sharing_seen_at = self.clock()

    def sharing_age_s(self) -> float:
        """Return how long ago launch permissions were read."""
        return self.clock() - self._sharing_seen_at

    def look_at_sharing(self, asked: Collection[str]) -> None:
        """Read the launch permissions of the AMIs *asked* anew."""
        for sight in self._sights.values():
            sight.memory.pop("permissions", None)
        self._see_all(self.own_places, self._sharing, asked)
        self._sharing_seen_at = self.clock()

    def look_again(self, asked: Collection[str]) -> None:
        """Look again at all that may have moved since the last look: files, uses and the AMIs *asked* themselves.

        What EC2 says of references (image-references) is read from its origins again, and who may launch an AMI by
        `look_at_sharing`.
        """
        self._local = tuple(self._look_at_files())
        moving = [source for source in self._own if source.service]
        looks = [(place, source) for place in self.places for source in self._uses]
        looks += [(place, source) for place in self.own_places for source in moving]
        in_parallel(
            [*looks, *((place, None) for place in self.own_places)],
            lambda look: self._see(look[0], look[1], asked) if look[1] else self._refresh(look[0], asked),
        )
        # These read the AMIs' own properties; they call nothing.
        still = [source for source in self._own if not source.service]
        self._see_all(self.own_places, [*still, *self._sharing], asked)

    @property
    def _sharing(self) -> list[Source]:
        return [source for source in self._per_image if source.name == _SHARING]

    def _refresh(self, place: Place, asked: Collection[str]) -> None:
        """Read the AMIs *asked* anew: one may have been tagged, launched, protected or made public meanwhile.

        So are the newest of their families, which may have been deleted meanwhile: the next ones take their place.
        """
        here = place.among(self.images)
        wanted = {image.image_id for image in here} & set(asked)
        if not wanted:
            return
        caller = place.caller.counting()

        def report(status: Status, error: str | None = None) -> Sight:
            return Sight(SourceReport("images", place.region, status, place.account, error=error, is_use=False))

        try:
            with making_sense(f"images in {place.region}"):
                here = _fresh(here, wanted, self.policy.keep, lambda ids: some_images(caller, ids))
            sight = report("ok")
        except AwsError as exc:
            sight = report("failed", str(exc))
        with self._lock:
            self._sights[_key(place, "images")] = sight
            there = (place.account, place.region)
            self.images = (*(image for image in self.images if (image.account, image.region) != there), *here)

    def decide(self, now: datetime, policy: Policy | None = None) -> Decision:
        """Return the verdicts that follow from what was seen."""
        return decide(self.images, self.references, self.reports, policy or self.policy, now)

    def _see_all(self, places: Sequence[Place], sources: Iterable[Source], asked: Collection[str]) -> None:
        pairs = [(place, source) for place in places for source in sources]
        in_parallel(pairs, lambda pair: self._see(*pair, asked))

    def _see(self, place: Place, source: Source, asked: Collection[str]) -> None:
        key = _key(place, source.name)
        memory = self._sights[key].memory if key in self._sights else {}
        here = place.among(self.images) if place.is_own else []
        wanted = {image.image_id for image in here} & set(asked)
        look = Look(here, wanted, self.policy.template_versions, memory)
        with self._lock:
            self._sights.setdefault(key, Sight(SourceReport(source.name, place.region, "failed"), memory=memory))
        sight = see(place, source, look, skip=source.name in self.policy.skip_sources)
        with self._lock:
            self._sights[key] = sight


def see(place: Place, source: Source, look: Look, *, skip: bool = False) -> Sight:
    """Return what *source* shows in *place*; whatever goes wrong ends in its report."""
    caller = place.caller.counting()

    def sight(status: Any, found: Found | None = None, error: str | None = None) -> Sight:
        found = found or Found()
        report = SourceReport(
            source.name,
            place.region,
            status,
            account=place.account,
            calls=caller.calls,
            references=len(found.references),
            error=error,
            notes=tuple(found.notes),
            is_use=source.is_use,
        )
        return Sight(report, found.references, look.memory)

    if skip:
        return sight("skipped", error="left out by --skip-source")
    try:
        with making_sense(f"{source.name} in {place.region}"):
            return sight("ok", source.look(caller, look))
    except AwsError as exc:
        if _is_absent(caller, source, exc):
            return sight("skipped", error=f"{source.service} does not exist in {place.region}, says AWS's public list")
        return sight("failed", error=f"{exc}{_way_round(source, exc)}")
    finally:
        place.caller.aws_time = place.caller.aws_time or caller.aws_time


def _way_round(source: Source, problem: AwsError) -> str:
    """Return what to do about a part of a service that AWS does not have in a region, as Spot fleets in GovCloud."""
    is_missing = isinstance(problem, RefusedError) and problem.code == "UnsupportedOperation"
    return f" Leave it out with --skip-source {source.name}." if is_missing and not source.is_essential else ""


def _is_absent(caller: Caller, source: Source, problem: AwsError) -> bool:
    """Return whether AWS's public list says that the region lacks the service; a list that fails says nothing."""
    if not source.service or (isinstance(problem, RefusedError) and problem.is_denied):
        return False
    try:
        with making_sense("the public list of services"):
            return not has_service(caller, source.service)
    except AwsError:
        return False


def places_of(access: Access, account: str, regions: Sequence[str], *, is_own: bool = True) -> list[Place]:
    """Return one place for each of *regions*.

    A region that is named twice is one place: its AMIs, listed twice, would fill their own places among the newest.
    """
    return [Place(Caller(access, region), account, is_own) for region in dict.fromkeys(regions)]


def in_parallel(items: Sequence[_Item], work: Callable[[_Item], _Result], *, workers: int = _WORKERS) -> list[_Result]:
    """Return what *work* makes of each item, in their order."""
    if not items:
        return []
    with ThreadPoolExecutor(max_workers=min(workers, len(items))) as pool:
        return list(pool.map(work, items))


def _fresh(
    images: Sequence[Image], wanted: Collection[str], keep: int, read: Callable[[Collection[str]], Iterable[Image]]
) -> list[Image]:
    """Return *images*: those *wanted* and the newest of their families as they are now, without those that are gone."""
    seen: set[str] = set()
    now = list(images)
    while unseen := ({*wanted} | newest_of(now, wanted, keep)) - seen:
        found = {image.image_id: image for image in read(unseen)}
        now = [found.get(each.image_id, each) for each in now if each.image_id in found or each.image_id not in unseen]
        seen |= unseen
    return now


def _key(place: Place, source: str) -> tuple[str, str, str]:
    return place.account, place.region, source
