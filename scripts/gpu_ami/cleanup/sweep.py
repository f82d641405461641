"""What builds that died left behind: which of it may go, and its removal."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from gpu_ami.aws.images import Image
from gpu_ami.aws.leftovers import KINDS, MAY_TAKE_TAG, Leftover, find, remove, wait_until_terminated
from gpu_ami.aws.references.source import Reference
from gpu_ami.cleanup.apply import Result
from gpu_ami.cleanup.decide import CLOCK_TOLERANCE, Reason, SourceReport, by_target, find_blocks
from gpu_ami.cleanup.journal import Journal
from gpu_ami.cleanup.journal_events import Failed, ImageRecord, Removed, Waited, WillRemove
from gpu_ami.cleanup.leftovers import Leftovers
from gpu_ami.cleanup.policy import HANDOVER_TAG, KEEP_TAG, LOCAL_SOURCES, Policy
from gpu_ami.cleanup.survey import Survey
from gpu_ami.errors import AwsError

# Our run ids begin with the time of the build's start.
_RUN_TIME = re.compile(r"^(20\d{2})-?([01]\d)-?([0-3]\d)T?([0-2]\d)([0-5]\d)([0-5]\d)Z?(?:-|$)")
_MINUTES = re.compile(r"[0-9]{1,6}")
_ABOUT_IMAGES = frozenset({*LOCAL_SOURCES, "account"})
_UNFINISHED = frozenset({"pending", "available", "failed", "error", "invalid"})


@dataclass(frozen=True)
class SweepVerdict:
    """What is to happen to a leftover, and every reason."""

    leftover: Leftover
    started: datetime | None
    action: str
    reasons: tuple[Reason, ...]

    def document(self) -> dict[str, Any]:
        """Return the verdict as the plan's JSON has it."""
        return {
            "kind": self.leftover.kind,
            "id": self.leftover.identifier,
            "region": self.leftover.region,
            "run": self.leftover.run,
            "started": self.started.strftime("%Y-%m-%dT%H:%M:%SZ") if self.started else None,
            "state": self.leftover.state,
            "action": self.action,
            "reasons": [{"code": reason.code, "detail": reason.detail} for reason in self.reasons],
        }


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What a sweep would remove.

    Attributes:
        account: Whose.
        regions: Where.
        older_than: Builds younger than this may be alive.
        verdicts: One per resource with a run tag, in the order of removal.
        reports: How the look at each source and kind ended.
        blocks: Why nothing may be removed at all.
    """

    account: str
    regions: tuple[str, ...]
    older_than: timedelta
    verdicts: tuple[SweepVerdict, ...]
    reports: tuple[SourceReport, ...]
    blocks: tuple[str, ...]

    @property
    def doomed(self) -> list[SweepVerdict]:
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
            "totals": {"delete": len(self.doomed), "keep": len(self.verdicts) - len(self.doomed)},
            "applied": False,
            "results": [],
            "journal": None,
        }


def decide_sweep(
    leftovers: Sequence[Leftover],
    images: Iterable[Image],
    needed: Mapping[str, Sequence[Reference]],
    older_than: timedelta,
    now: datetime,
) -> list[SweepVerdict]:
    """Return the verdict on each resource with a run tag, in the order in which they can be removed.

    Args:
        leftovers: The resources.
        images: The account's AMIs: their snapshots may be needed, too.
        needed: What needs an AMI or a snapshot, by its id.
        older_than: Builds younger than this may be alive, or than their own tags say if that is more.
        now: The time.
    """
    by_run: dict[str, list[Leftover]] = defaultdict(list)
    for leftover in leftovers:
        by_run[leftover.run].append(leftover)
    started = {run: started_at(run, some) for run, some in by_run.items()}
    youngest = {run: max((one.created for one in some if one.created), default=None) for run, some in by_run.items()}
    longest = {run: may_take(some, older_than) for run, some in by_run.items()}
    known = {image.image_id: image for image in images}
    order = list(KINDS)
    verdicts = []
    for leftover in sorted(leftovers, key=lambda each: (order.index(each.kind), each.region, each.identifier)):
        targets = [leftover.identifier]
        if leftover.identifier in known:
            targets += known[leftover.identifier].snapshot_ids
        uses = [use for target in targets for use in needed.get(target, ())] if leftover.kind == "image" else []
        if leftover.kind == "image" and HANDOVER_TAG in leftover.tags:
            continue  # a finished AMI: `cleanup` looks after it
        began = started[leftover.run]
        reasons = tuple(_reasons(leftover, (began, youngest[leftover.run]), uses, longest[leftover.run], now))
        gone = (Reason("leftover", f"build {leftover.run} is over"),)
        verdicts.append(SweepVerdict(leftover, began, "keep" if reasons else "delete", reasons or gone))
    return verdicts


def started_at(run: str, leftovers: Sequence[Leftover]) -> datetime | None:
    """Return when the build *run* began: by its id, else when its youngest resource was made."""
    if match := _RUN_TIME.match(run):
        try:
            return datetime(*map(int, match.groups()), tzinfo=timezone.utc)  # type: ignore[misc, arg-type]
        except ValueError:
            pass  # not a date after all
    return max((each.created for each in leftovers if each.created is not None), default=None)


def may_take(leftovers: Iterable[Leftover], older_than: timedelta) -> timedelta:
    """Return how long the build that made *leftovers* may take: *older_than*, or what their tags say if that is more.

    The build may come from a checkout with other times than this one. A tag that cannot be read allows it forever.
    """
    said = [leftover.tags[MAY_TAKE_TAG] for leftover in leftovers if MAY_TAKE_TAG in leftover.tags]
    spans = [timedelta(minutes=int(text)) if _MINUTES.fullmatch(text) else timedelta.max for text in said]
    return max([older_than, *spans])


def _reasons(
    leftover: Leftover,
    build: Iterable[datetime | None],
    uses: Sequence[Reference],
    older_than: timedelta,
    now: datetime,
) -> Iterable[Reason]:
    # A build that made anything lately may be alive, and with it whatever it made before.
    moments = [moment for moment in (*build, leftover.created) if moment is not None]
    if not moments:
        yield Reason("no-date", "neither its run id nor AWS says when it was made")
    elif max(moments) > now + CLOCK_TOLERANCE:
        yield Reason("future-date", f"made in the future, {max(moments):%Y-%m-%d %H:%M} UTC")
    elif now - max(moments) < older_than:
        yield Reason("may-be-alive", f"its build was at work {max(moments):%Y-%m-%d %H:%M} UTC and may still run")
    if KEEP_TAG in leftover.tags:
        yield Reason("keep-tag", f"tagged {KEEP_TAG}={leftover.tags[KEEP_TAG]}")
    if leftover.kind == "image" and leftover.state not in _UNFINISHED:
        yield Reason("state", f"its state is {leftover.state}")
    for use in uses[:3]:
        yield Reason(use.source, use.detail)


def sweep_blocks(reports: Sequence[SourceReport], policy: Policy, *, has_images: bool) -> tuple[str, ...]:
    """Return why nothing may be removed: lists that failed.

    What files and other accounts need matters only with AMIs among the leftovers.
    """
    failed = [each for each in reports if each.status == "failed" and (has_images or each.name not in _ABOUT_IMAGES)]
    return find_blocks(failed, policy) if failed else ()


def without_unseen(
    verdicts: Sequence[SweepVerdict], reports: Sequence[SourceReport], policy: Policy
) -> list[SweepVerdict]:
    """Return *verdicts* without a doomed AMI where no use was seen anywhere: a builder's cost goes on meanwhile."""
    if not (blocks := find_blocks(reports, policy)):
        return list(verdicts)
    kept = (Reason("blocked", blocks[0]),)
    return [
        replace(each, action="keep", reasons=kept)
        if each.action == "delete" and each.leftover.kind == "image"
        else each
        for each in verdicts
    ]


def kept_after_all(survey: Survey, doomed: Sequence[SweepVerdict]) -> dict[str, str]:
    """Look again right before the act; return why each AMI that must stay after all does, by its id."""
    ids = {verdict.leftover.identifier for verdict in doomed if verdict.leftover.kind == "image"}
    if not ids:
        return {}
    survey.look_again(ids)
    survey.look_at_sharing(ids)
    if blocks := find_blocks(survey.reports, survey.policy):
        return dict.fromkeys(ids, f"the check right before found: {blocks[0]}")
    needed = by_target(survey.references)
    listed = {image.image_id for image in survey.images}
    kept = dict.fromkeys(ids - listed, "the list of AMIs does not have it: nobody knows what needs it")
    for image in (image for image in survey.images if image.image_id in ids):
        uses = [use.detail for target in (image.image_id, *image.snapshot_ids) for use in needed.get(target, ())]
        uses += [f"tagged {tag}={image.tags[tag]}" for tag in (HANDOVER_TAG, KEEP_TAG) if tag in image.tags]
        if uses:
            kept[image.image_id] = f"needed since the plan: {uses[0]}"
    return kept


class Sweep:
    """One run that removes leftovers.

    Args:
        survey: Of the account's AMIs and what needs them; looked at again before an AMI goes.
        family: Whose leftovers.
        older_than: Builds younger than this may be alive.
        journal: Where every act is written down first.
    """

    def __init__(self, survey: Survey, family: str, older_than: timedelta, journal: Journal) -> None:
        """Remove nothing yet."""
        self._survey = survey
        self._family = family
        self._older_than = older_than
        self._callers = {place.region: place.caller for place in survey.own_places}
        self._images = {image.image_id: image for image in survey.images}
        self._leftovers = Leftovers(survey, journal)
        self._journal = journal

    def run(self, verdicts: Sequence[SweepVerdict]) -> list[Result]:
        """Remove what *verdicts* doom, kind by kind, each looked at again first; one failure never stops the rest."""
        results: list[Result] = []
        for kind in KINDS:
            doomed = [verdict for verdict in verdicts if verdict.leftover.kind == kind]
            kept = self._kept_now(doomed)
            some = [self._one(verdict.leftover, kept) for verdict in doomed]
            if kind == "instance":
                self._wait(some)
            results += some
        return results

    def _kept_now(self, doomed: Sequence[SweepVerdict]) -> dict[tuple[str, str], str]:
        """Return why leftovers of one kind must stay after all, by region and id."""
        kept: dict[tuple[str, str], str] = {}
        for kind, region in sorted({(verdict.leftover.kind, verdict.leftover.region) for verdict in doomed}):
            here = [verdict for verdict in doomed if verdict.leftover.region == region]
            try:
                fresh = {each.identifier: each for each in find(self._callers[region], kind, self._family)}
            except AwsError as exc:
                why = f"the check right before failed: {exc}"
                kept.update({(region, verdict.leftover.identifier): why for verdict in here})
                continue
            now = datetime.now(timezone.utc)
            for verdict in here:
                if reason := self._why_kept(verdict, fresh.get(verdict.leftover.identifier), now):
                    kept[region, verdict.leftover.identifier] = reason
        needed = kept_after_all(self._survey, doomed)
        left = [verdict.leftover for verdict in doomed if verdict.leftover.identifier in needed]
        return kept | {(each.region, each.identifier): needed[each.identifier] for each in left}

    def _why_kept(self, verdict: SweepVerdict, fresh: Leftover | None, now: datetime) -> str | None:
        if fresh is None or fresh.run != verdict.leftover.run:
            return "since the plan it went, came into use or lost its tags"
        reasons = list(_reasons(fresh, (verdict.started,), (), may_take([fresh], self._older_than), now))
        return f"since the plan: {reasons[0].detail}" if reasons else None

    def _wait(self, results: Sequence[Result]) -> None:
        ended = [each for each in results if each.status == "deleted"]
        for region in sorted({each.region for each in ended}):
            ids = [each.image_id for each in ended if each.region == region]
            try:
                wait_until_terminated(self._callers[region], ids)
            except AwsError as exc:
                self._journal.write(Waited(region=region, error=str(exc)))

    def _one(self, leftover: Leftover, kept: Mapping[tuple[str, str], str]) -> Result:
        identifier, caller = leftover.identifier, self._callers[leftover.region]
        if why := kept.get((leftover.region, identifier)):
            return Result(identifier, leftover.region, "kept", error=why)
        image = self._images.get(identifier)
        record = ImageRecord.of(image) if image else None
        self._journal.write(WillRemove(kind=leftover.kind, id=identifier, region=leftover.region, image=record))
        try:
            remove(caller, leftover)
        except AwsError as exc:
            self._journal.write(Failed(kind=leftover.kind, id=identifier, error=str(exc)))
            return Result(identifier, leftover.region, "failed", error=str(exc))
        self._journal.write(Removed(kind=leftover.kind, id=identifier))
        snapshots = self._leftovers.finish(caller, image, {}, {identifier}) if image else {}
        return Result(identifier, leftover.region, "deleted", snapshots)
