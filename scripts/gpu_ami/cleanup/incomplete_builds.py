"""The resources of incomplete builds: which of them may go, and their removal."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from gpu_ami.aws.build_resources import (
    KINDS,
    BuildResource,
    find,
    remove,
    remove_from_batch,
    wait_until_terminated,
)
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.images import Image
from gpu_ami.aws.references.source import Reference
from gpu_ami.cleanup import dead_benches
from gpu_ami.cleanup.dead_benches import BENCHES_ALONE, TOGETHER, is_of_bench
from gpu_ami.cleanup.decide import CLOCK_TOLERANCE, Reason, SourceReport, by_target, find_blocks, why_nothing
from gpu_ami.cleanup.execute import Result
from gpu_ami.cleanup.inventory import Survey
from gpu_ami.cleanup.journal import Journal
from gpu_ami.cleanup.journal_events import Failed, ImageRecord, Removed, Waited, WillRemove
from gpu_ami.cleanup.plan_document import iso, reason_list
from gpu_ami.cleanup.policy import SOURCE_NAMES, Policy
from gpu_ami.cleanup.snapshots import OrphanedSnapshots
from gpu_ami.cleanup.volume_bins import VolumeBin
from gpu_ami.errors import AwsError
from gpu_ami.records.tags import BENCH_RUN, HANDOVER_TAG, KEEP_TAG, MAY_TAKE_TAG, VERIFICATION_RUN, is_finished

# Our run ids begin with the time of the build's start.
_RUN_TIME = re.compile(r"^(20\d{2})-?([01]\d)-?([0-3]\d)T?([0-2]\d)([0-5]\d)([0-5]\d)Z?(?:-|$)")
_MINUTES = re.compile(r"[0-9]{1,6}")
# What says only what needs an AMI: every source of references, whether of AWS or of files, and other accounts.
_ABOUT_IMAGES = SOURCE_NAMES | {"account", "images"}
_BLOCKED = "blocked"
_UNFINISHED = frozenset({"pending", "available", "failed", "error", "invalid"})


@dataclass(frozen=True)
class SweepVerdict:
    """What is to happen to a resource, and every reason."""

    resource: BuildResource
    started: datetime | None
    action: str
    reasons: tuple[Reason, ...]

    def document(self) -> dict[str, Any]:
        """Return the verdict as the plan's JSON has it."""
        return {
            "kind": self.resource.kind,
            "id": self.resource.identifier,
            "region": self.resource.region,
            "run": self.resource.run,
            "started": iso(self.started),
            "state": self.resource.state,
            "action": self.action,
            "reasons": reason_list(self.reasons),
        }


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What a sweep would remove.

    Attributes:
        account: Whose.
        regions: Where.
        older_than: Builds younger than this may be alive.
        verdicts: One per resource with a run tag, in the order of removal.
        reports: How the query of each source and kind ended.
        blocks: Why nothing may be removed at all.
        bins: What becomes of the volumes that go, by region.
    """

    account: str
    regions: tuple[str, ...]
    older_than: timedelta
    verdicts: tuple[SweepVerdict, ...]
    reports: tuple[SourceReport, ...]
    blocks: tuple[str, ...]
    bins: tuple[VolumeBin, ...] = ()

    @property
    def selected(self) -> list[SweepVerdict]:
        """What would go, in the order in which it can."""
        return [verdict for verdict in self.verdicts if verdict.action == "delete"]

    def document(self) -> dict[str, Any]:
        """Return the plan as JSON-ready values; the contract with scripts."""
        return {
            "account": self.account,
            "regions": list(self.regions),
            "older_than_s": int(self.older_than.total_seconds()),
            "sources": [report.document() for report in self.reports],
            "blocks": list(self.blocks),
            "verdicts": [verdict.document() for verdict in self.verdicts],
            "recycle_bin": [bin_.document() for bin_ in self.bins],
            "totals": {"delete": len(self.selected), "keep": len(self.verdicts) - len(self.selected)},
            "applied": False,
            "results": [],
            "journal": None,
        }


def decide_sweep(
    resources: Sequence[BuildResource],
    images: Iterable[Image],
    needed: Mapping[str, Sequence[Reference]],
    older_than: timedelta,
    now: datetime,
    requested: timedelta = timedelta(),
    unseen: Collection[tuple[str, str]] = (),
) -> list[SweepVerdict]:
    """Return the verdict on each resource with a run tag, in the order in which they can be removed.

    Args:
        resources: The resources.
        images: The account's AMIs: their snapshots may be needed, too.
        needed: What needs an AMI or a snapshot, by its id.
        older_than: Builds younger than this may be alive, or than their own tags say if that is more.
        now: The time, by AWS's clock.
        requested: What a person wants to be left alone, of whatever made it.
        unseen: Kinds that could not be listed, or were not to be, each with its region.
    """
    by_run: dict[str, list[BuildResource]] = defaultdict(list)
    for resource in resources:
        by_run[resource.run].append(resource)
    started = {run: started_at(run, some) for run, some in by_run.items()}
    youngest = {run: max((one.created for one in some if one.created), default=None) for run, some in by_run.items()}
    longest = {run: may_take(some, older_than, requested) for run, some in by_run.items()}
    known = {image.image_id: image for image in images}
    order = list(KINDS)
    verdicts = []
    for resource in sorted(resources, key=lambda found: (order.index(found.kind), found.region, found.identifier)):
        targets = [resource.identifier]
        if resource.identifier in known:
            targets += known[resource.identifier].snapshot_ids
        uses = [use for target in targets for use in needed.get(target, ())] if resource.kind == "image" else []
        if resource.kind == "image" and is_finished(resource.tags):
            continue  # it is for `cleanup`
        began = started[resource.run]
        if is_of_bench(resource):
            began = dead_benches.began(resource)
            reasons = tuple(dead_benches.reasons(resource, by_run[resource.run], requested, now))
        else:
            reasons = tuple(_reasons(resource, (began, youngest[resource.run]), uses, longest[resource.run], now))
        gone = (Reason("leftover", f"{_what(resource.run)} is over"),)
        verdicts.append(SweepVerdict(resource, began, "keep" if reasons else "delete", reasons or gone))
    return _without_held(verdicts, unseen)


def _without_held(verdicts: Sequence[SweepVerdict], unseen: Collection[tuple[str, str]]) -> list[SweepVerdict]:
    """Return *verdicts* without what of a bench something else still needs."""
    kept = [verdict.resource for verdict in verdicts if verdict.action != "delete"]
    held = dead_benches.held_back([verdict.resource for verdict in verdicts], kept, unseen)
    return [
        replace(verdict, action="keep", reasons=(Reason("held", held[verdict.resource.identifier]),))
        if verdict.action == "delete" and verdict.resource.identifier in held
        else verdict
        for verdict in verdicts
    ]


def started_at(run: str, resources: Sequence[BuildResource]) -> datetime | None:
    """Return when the build *run* began: by its id, else when its youngest resource was made."""
    if match := _RUN_TIME.match(run):
        try:
            return datetime(*map(int, match.groups()), tzinfo=timezone.utc)  # type: ignore[misc, arg-type]
        except ValueError:
            pass  # not a date after all
    return max((resource.created for resource in resources if resource.created is not None), default=None)


def may_take(
    resources: Sequence[BuildResource], older_than: timedelta, requested: timedelta = timedelta()
) -> timedelta:
    """Return how long the build that made *resources* may take: *older_than*, or what their tags say if that is more.

    The build may come from a checkout with other times than this one. A tag that cannot be read allows it forever.
    A verification takes what its tags say and no build's time, or what a person has *requested* if that is more.
    """
    said = [resource.tags[MAY_TAKE_TAG] for resource in resources if MAY_TAKE_TAG in resource.tags]
    spans = [timedelta(minutes=int(text)) if _MINUTES.fullmatch(text) else timedelta.max for text in said]
    is_told = len(said) == len(resources) and all(one.run.startswith(VERIFICATION_RUN) for one in resources)
    return max([requested if is_told else older_than, *spans])


def _what(run: str) -> str:
    kinds = {VERIFICATION_RUN: "verification", BENCH_RUN: "bench"}
    return f"{next((kind for prefix, kind in kinds.items() if run.startswith(prefix)), 'build')} {run}"


def _reasons(
    resource: BuildResource,
    build: Iterable[datetime | None],
    uses: Sequence[Reference],
    older_than: timedelta,
    now: datetime,
) -> Iterable[Reason]:
    # A build that made anything lately may be alive, and with it whatever it made before.
    moments = [moment for moment in (*build, resource.created) if moment is not None]
    if not moments:
        yield Reason("no-date", "neither its run id nor AWS says when it was made")
    elif max(moments) > now + CLOCK_TOLERANCE:
        yield Reason("future-date", f"made in the future, {max(moments):%Y-%m-%d %H:%M} UTC")
    elif now - max(moments) < older_than:
        what = "verification" if resource.run.startswith(VERIFICATION_RUN) else "build"
        yield Reason("may-be-alive", f"its {what} was at work {max(moments):%Y-%m-%d %H:%M} UTC and may still run")
    if resource.kind in BENCHES_ALONE:
        yield Reason("not-of-a-bench", f"no build makes a {resource.kind.replace('-', ' ')}")
    if KEEP_TAG in resource.tags:
        yield Reason("keep-tag", f"tagged {KEEP_TAG}={resource.tags[KEEP_TAG]}")
    if resource.kind == "image" and resource.state not in _UNFINISHED:
        yield Reason("state", f"its state is {resource.state}")
    for use in uses[:3]:
        yield Reason(use.source, use.detail)


def sweep_blocks(reports: Sequence[SourceReport], policy: Policy) -> tuple[str, ...]:
    """Return why nothing may be removed: lists of what is left that failed, or a wrong clock.

    What needs an AMI matters to AMIs alone: see `without_unseen`.
    """
    failed = [report for report in reports if report.status == "failed" and not _is_about_images(report)]
    return find_blocks(failed, policy) if failed else ()


def why_idle(survey: Survey, account: str) -> str | None:
    """Return why no AMI of *account* goes, of a fleet: no use of any of its AMIs was seen; None where one was.

    That uses of another account's are seen says nothing of this one's.
    """
    if not survey.is_fleet or survey.policy.allow_no_references or account in survey.used_accounts:
        return None
    return why_nothing(account)


def image_failures(plan: SweepPlan, policy: Policy) -> tuple[str, ...]:
    """Return why AMIs of *plan* stay that would go if everything that may need one could be read; empty otherwise."""
    if not any(reason.code == _BLOCKED for verdict in plan.verdicts for reason in verdict.reasons):
        return ()
    failed = [report for report in plan.reports if report.status == "failed" and _is_about_images(report)]
    return find_blocks(failed, policy) if failed else ()


def _is_about_images(report: SourceReport) -> bool:
    return report.name in _ABOUT_IMAGES


def without_unseen(
    verdicts: Sequence[SweepVerdict], reports: Sequence[SourceReport], policy: Policy
) -> list[SweepVerdict]:
    """Return *verdicts* without a selected AMI where what needs it could not be read, or no use was seen anywhere.

    The rest goes: a builder's cost goes on meanwhile.
    """
    blocks = find_blocks(reports, policy)
    return without_images(verdicts, blocks[0]) if blocks else list(verdicts)


def without_images(verdicts: Sequence[SweepVerdict], why: str) -> list[SweepVerdict]:
    """Return *verdicts* without a selected AMI, for the reason *why*."""
    kept = (Reason(_BLOCKED, why),)
    return [
        replace(verdict, action="keep", reasons=kept)
        if verdict.action == "delete" and verdict.resource.kind == "image"
        else verdict
        for verdict in verdicts
    ]


def kept_after_all(survey: Survey, selected: Sequence[SweepVerdict]) -> dict[str, str]:
    """Query again right before the act; return why each AMI that must stay after all does, by its id."""
    ids = {verdict.resource.identifier for verdict in selected if verdict.resource.kind == "image"}
    if not ids:
        return {}
    survey.query_again(ids)
    survey.query_sharing(ids)
    if blocks := find_blocks(survey.reports, survey.policy):
        return dict.fromkeys(ids, f"the check right before found: {blocks[0]}")
    needed = by_target(survey.references)
    listed = {image.image_id for image in survey.images}
    kept = dict.fromkeys(ids - listed, "the list of AMIs does not have it: nobody knows what needs it")
    for image in (image for image in survey.images if image.image_id in ids):
        uses = [use.detail for target in (image.image_id, *image.snapshot_ids) for use in needed.get(target, ())]
        finished = [HANDOVER_TAG] if is_finished(image.tags) else []
        uses += [f"tagged {tag}={image.tags[tag]}" for tag in (*finished, KEEP_TAG) if tag in image.tags]
        if uses:
            kept[image.image_id] = f"needed since the plan: {uses[0]}"
        elif why := why_idle(survey, image.account):
            kept[image.image_id] = f"the check right before found: {why}"
    return kept


class Sweep:
    """One run that removes resources of incomplete builds.

    Args:
        survey: Of the account's AMIs and what needs them; queried again before an AMI goes.
        family: Whose resources.
        older_than: Builds younger than this may be alive.
        journal: Where every act is written down first.
        requested: What a person wants to be left alone, of whatever made it.
        sleep: Waits some seconds.
        callers: By region, what may change the one account; None for what the survey reads it with.
    """

    def __init__(
        self,
        survey: Survey,
        family: str,
        older_than: timedelta,
        journal: Journal,
        requested: timedelta = timedelta(),
        *,
        sleep: Callable[[float], None] = time.sleep,
        callers: Mapping[str, Caller] | None = None,
    ) -> None:
        self._survey = survey
        self._family = family
        self._older_than = older_than
        self._requested = requested
        own = {location.region: location.caller for location in survey.own_locations}
        self._callers: Mapping[str, Caller] = own if callers is None else callers
        self._images = {image.image_id: image for image in survey.images}
        self._snapshots = OrphanedSnapshots(survey, journal)
        self._journal = journal
        self._sleep = sleep
        # Of benches, each with its region: those of which an environment went, and of which something still stands.
        self._gone: set[tuple[str, str]] = set()
        self._standing: set[tuple[str, str]] = set()

    def run(self, verdicts: Sequence[SweepVerdict]) -> list[Result]:
        """Remove what *verdicts* select, kind by kind, each queried again first; one failure never stops the rest."""
        results = self._together([verdict for verdict in verdicts if verdict.resource.kind in TOGETHER])
        for kind in (kind for kind in KINDS if kind not in TOGETHER):
            selected = [verdict for verdict in verdicts if verdict.resource.kind == kind]
            kept = self._kept_now(selected)
            some = [self._one(verdict.resource, kept) for verdict in selected]
            if kind == "instance":
                self._wait(some)
            results += some
        return results

    def _together(self, selected: Sequence[SweepVerdict]) -> list[Result]:
        """Remove queues and environments: all of a region at once, for each takes minutes."""
        kept = self._kept_now(selected)
        results: list[Result] = []
        going: dict[str, list[BuildResource]] = defaultdict(list)
        for resource in (verdict.resource for verdict in selected):
            if result := self._not_begun(resource, kept):
                results.append(result)
            else:
                going[resource.region].append(resource)
        for region, resources in sorted(going.items()):
            failed = remove_from_batch(self._callers[region], resources, sleep=self._sleep)
            results += [self._ended(resource, failed.get(resource.identifier)) for resource in resources]
        done = {(result.region, result.image_id) for result in results if result.is_done}
        for resource in (verdict.resource for verdict in selected):
            is_done = (resource.region, resource.identifier) in done
            (self._gone if is_done else self._standing).add((resource.region, resource.run))
        return results

    def _kept_now(self, selected: Sequence[SweepVerdict]) -> dict[tuple[str, str], str]:
        """Return why resources must stay after all, by region and id."""
        kept: dict[tuple[str, str], str] = {}
        for kind, region in sorted({(verdict.resource.kind, verdict.resource.region) for verdict in selected}):
            here = [one for one in selected if (one.resource.kind, one.resource.region) == (kind, region)]
            caller = self._callers[region].counting()
            try:
                fresh = {found.identifier: found for found in find(caller, kind, self._family)}
            except AwsError as exc:
                why = f"the check right before failed: {exc}"
                kept.update({(region, verdict.resource.identifier): why for verdict in here})
                continue
            for verdict in here:
                if self._went_with_environment(verdict.resource, fresh):
                    continue
                if reason := self._why_kept(verdict, fresh.get(verdict.resource.identifier), caller.aws_time):
                    kept[region, verdict.resource.identifier] = reason
        needed = kept_after_all(self._survey, selected)
        left = [verdict.resource for verdict in selected if verdict.resource.identifier in needed]
        return kept | {(resource.region, resource.identifier): needed[resource.identifier] for resource in left}

    def _why_kept(self, verdict: SweepVerdict, fresh: BuildResource | None, now: datetime | None) -> str | None:
        if fresh is None or fresh.run != verdict.resource.run:
            return "since the plan it went, came into use or lost its tags"
        if now is None:
            return "AWS did not say what time it is"
        if is_of_bench(fresh):
            reasons = list(dead_benches.reasons(fresh, (), self._requested, now))
            return f"since the plan: {reasons[0].detail}" if reasons else None
        longest = may_take([fresh], self._older_than, self._requested)
        reasons = list(_reasons(fresh, (verdict.started,), (), longest, now))
        return f"since the plan: {reasons[0].detail}" if reasons else None

    def _went_with_environment(self, resource: BuildResource, fresh: Collection[str]) -> bool:
        """Whether it is a host or a volume of one that Batch has ended with the environment: nothing is left to do."""
        is_host = resource.kind in ("instance", "volume") and resource.identifier not in fresh
        return is_host and (resource.region, resource.run) in self._gone - self._standing

    def _wait(self, results: Sequence[Result]) -> None:
        ended = [result for result in results if result.status == "deleted"]
        for region in sorted({result.region for result in ended}):
            ids = [result.image_id for result in ended if result.region == region]
            try:
                wait_until_terminated(self._callers[region], ids)
            except AwsError as exc:
                self._journal.note(Waited(region=region, error=str(exc)))

    def _one(self, resource: BuildResource, kept: Mapping[tuple[str, str], str]) -> Result:
        if result := self._not_begun(resource, kept):
            return result
        try:
            remove(self._callers[resource.region], resource)
        except AwsError as exc:
            return self._ended(resource, str(exc))
        return self._ended(resource, None)

    def _not_begun(self, resource: BuildResource, kept: Mapping[tuple[str, str], str]) -> Result | None:
        """Return why a resource is not removed; None where it is about to be, which the journal says by then."""
        identifier, where = resource.identifier, (resource.region, resource.run)
        held = "the queue or environment of its bench is still there: run it again later"
        stands = is_of_bench(resource) and resource.kind not in TOGETHER and where in self._standing
        if why := kept.get((resource.region, identifier)) or (held if stands else None) or self._journal.refused:
            return Result(identifier, resource.region, "kept", error=why)
        image = self._images.get(identifier)
        record = ImageRecord.of(image) if image else None
        will = WillRemove(kind=resource.kind, id=identifier, region=resource.region, image=record)
        if why := self._journal.note(will):
            return Result(identifier, resource.region, "failed", error=why)
        return None

    def _ended(self, resource: BuildResource, why: str | None) -> Result:
        """Write down what came of a resource: *why* it is still there, None where it is gone; return that."""
        identifier, caller = resource.identifier, self._callers[resource.region]
        if why is not None:
            self._journal.note(Failed(kind=resource.kind, id=identifier, error=why))
            return Result(identifier, resource.region, "failed", error=why)
        error = self._journal.note(Removed(kind=resource.kind, id=identifier))
        image = self._images.get(identifier)
        snapshots = self._snapshots.finish(caller, image, {}, {identifier}) if image else {}
        return Result(identifier, resource.region, "deleted", snapshots, error)
