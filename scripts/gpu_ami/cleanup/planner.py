"""Makes the plan: queries, decides, queries more about what would go, and decides again."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal

from gpu_ami.aws import recycle_bin
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.images import Image, Snapshot, own_snapshots, snapshot_is_shared, snapshots, some_images
from gpu_ami.aws.regions import enabled_regions
from gpu_ami.cleanup.decide import Decision, SourceReport, by_target, is_shared
from gpu_ami.cleanup.inventory import Location, Survey, in_parallel
from gpu_ami.cleanup.orphan_snapshots import find_orphans, without_copies, without_shared
from gpu_ami.cleanup.plan_document import Bin, Orphan, Plan
from gpu_ami.cleanup.policy import Policy
from gpu_ami.cleanup.usage_reports import Answer, Asked, UsageReports
from gpu_ami.errors import AwsError

# AWS refuses requests signed with a clock that is five minutes off.
_CLOCK_LIMIT = timedelta(minutes=5)
# All AMIs of a run share one time to wait, and a report takes minutes: asked one by one, a run would never get past the
# oldest, which are in use.
_AT_ONCE = 50
_NOT_ASKED = "shared, and nobody was asked who uses it: enough others go in this run"
_NOT_PLANNED = "shared, and nobody was asked who uses it: the plan that is carried out does not name it"
_NOT_MADE = "shared, and no image usage report says who uses it: --dry-run makes none"


def make_plan(
    survey: Survey,
    account: str,
    now: datetime,
    *,
    orphans: bool = False,
    usd_per_gib_month: Mapping[str, Decimal | None] | None = None,
    roles: Sequence[str] = (),
    usage_reports: UsageReports | None = None,
    only: Collection[tuple[str, str]] | None = None,
) -> Plan:
    """Return what a clean-up would do now.

    Args:
        survey: A survey that has not queried anything yet.
        account: Whose AMIs.
        now: The time.
        orphans: Whether to find snapshots that AMIs left behind, too.
        usd_per_gib_month: The price of snapshot storage by region.
        roles: Of the other accounts that the survey queries; the plan's file names them to whoever carries it out.
        usage_reports: Makes the reports that the policy demands; None where nothing may be made: then what is shared
            stays.
        only: Region and id of each AMI that a report may be made on; None for all.

    Raises:
        AwsError: The AMIs themselves could not be listed.
    """
    survey.query()
    # An AMI that only a report could let go counts as one that would: all else is read of it before it is reported on.
    unlimited = dataclasses.replace(survey.policy, max_deletions=None, usage_reports=False)
    clock = clock_reports(survey.aws_time, now)
    first = _decide(survey, now, clock, unlimited, with_orphans=orphans)
    with ThreadPoolExecutor(max_workers=1) as pool:
        # Sizes and the Recycle Bin decide nothing, so they are read beside what does.
        reading = pool.submit(_details, survey, first, orphans=orphans)
        if first.selected:
            survey.query_images({verdict.image.image_id for verdict in first.selected})
        details = reading.result()
    asked = None
    if survey.policy.usage_reports:
        asked = ask(survey, now, clock, usage_reports, only, with_orphans=orphans)
    decision = _decide(survey, now, clock, survey.policy, with_orphans=orphans)
    found = _orphans(survey, now) if orphans and not decision.blocks else []
    return Plan(
        account=account,
        regions=tuple(location.region for location in survey.own_locations),
        policy=survey.policy,
        decision=decision,
        reports=[*clock, *survey.reports],
        made_at=now,
        snapshots={key: found for some, _ in details.values() for key, found in some.items()},
        bins={region: bin_ for region, (_, bin_) in details.items()},
        orphans=tuple(found),
        usd_per_gib_month=usd_per_gib_month or {},
        roles=tuple(roles),
        asked=asked,
    )


def ask(
    survey: Survey,
    now: datetime,
    clock: Sequence[SourceReport],
    usage_reports: UsageReports | None,
    only: Collection[tuple[str, str]] | None,
    *,
    with_orphans: bool = False,
) -> Asked:
    """Ask EC2 which other accounts use the shared AMIs that would go, and note it in *survey*; delete the reports.

    Of a limited number of deletions the oldest AMIs are asked about, many at once, until as many that may go are found.

    Args:
        survey: What was queried.
        now: The time.
        clock: What is reported of this machine's clock.
        usage_reports: Makes the reports; None where nothing may be made: then what is shared stays.
        only: Region and id of each AMI that a report may be made on; None for all.
        with_orphans: Whether snapshots that AMIs left behind go, too.
    """
    if usage_reports is None:
        unasked = _unasked(survey, now, clock, None, None, with_orphans=with_orphans)
        unknown = [
            Answer(image_id=image.image_id, account=image.account, region=image.region, error=_NOT_MADE)
            for image in unasked
        ]
        survey.note_usage({answer.image_id: answer.reasons for answer in unknown})
        return Asked(answers=tuple(unknown), is_dry=True)
    with usage_reports:
        # Of a saved plan's AMIs those count alone, and are as many as were approved.
        limit = survey.policy.max_deletions if only is None else None
        while _unasked(survey, now, clock, limit, only, with_orphans=with_orphans):
            at_once = None if limit is None else max(limit, _AT_ONCE)
            images = _unasked(survey, now, clock, at_once, only, with_orphans=with_orphans)
            answers = usage_reports.ask(images, {image.image_id: survey.sharers(image) for image in images})
            survey.note_usage({image_id: answer.reasons for image_id, answer in answers.items()})
            limit = None if usage_reports.is_over else limit
    unasked = _unasked(survey, now, clock, None, None, with_orphans=with_orphans)
    why = _NOT_ASKED if only is None else _NOT_PLANNED
    survey.note_usage(dict.fromkeys((image.image_id for image in unasked), (why,)))
    return usage_reports.asked


def _unasked(
    survey: Survey,
    now: datetime,
    clock: Sequence[SourceReport],
    limit: int | None,
    only: Collection[tuple[str, str]] | None,
    *,
    with_orphans: bool,
) -> list[Image]:
    """Return the shared AMIs that would go if no other account used them and that nobody has been asked about."""
    policy = dataclasses.replace(survey.policy, usage_reports=False, max_deletions=limit)
    decision = _decide(survey, now, clock, policy, with_orphans=with_orphans)
    needed, reported = by_target(survey.references), survey.reported
    return [
        verdict.image
        for verdict in decision.selected
        if verdict.image.image_id not in reported
        and (only is None or (verdict.image.region, verdict.image.image_id) in only)
        and is_shared(verdict.image, needed, policy)
    ]


def clock_reports(aws_time: datetime | None, now: datetime) -> list[SourceReport]:
    """Return a failed report when this machine's clock is wrong: every age would be, too."""
    if aws_time is None or abs(now - aws_time) <= _CLOCK_LIMIT:
        return []
    error = f"this machine says {now:%Y-%m-%d %H:%M}, AWS says {aws_time:%Y-%m-%d %H:%M} UTC: set the clock"
    return [SourceReport("clock", None, "failed", error=error, is_use=False)]


def _decide(
    survey: Survey, now: datetime, clock: Sequence[SourceReport], policy: Policy, *, with_orphans: bool
) -> Decision:
    return survey.decide(now, policy, more=clock, with_orphans=with_orphans)


def _details(survey: Survey, decision: Decision, *, orphans: bool) -> dict[str, tuple[dict[str, Snapshot], Bin]]:
    """Return, by region, the snapshots of what may go and the Recycle Bin; neither decides anything."""
    regions = {verdict.image.region for verdict in decision.selected}
    busy = [location for location in survey.own_locations if orphans or location.region in regions]
    found = in_parallel(busy, lambda location: _details_of(location, decision))
    return {location.region: details for location, details in zip(busy, found, strict=True)}


def _details_of(location: Location, decision: Decision) -> tuple[dict[str, Snapshot], Bin]:
    snapshot_ids = [
        snapshot_id
        for verdict in decision.selected
        if verdict.image.region == location.region
        for snapshot_id in verdict.image.snapshot_ids
    ]
    try:
        found = snapshots(location.caller, snapshot_ids)
    except AwsError:
        found = {}
    try:
        return found, Bin(recycle_bin.rules(location.caller))
    except AwsError as exc:
        return found, Bin(error=str(exc))


def _orphans(survey: Survey, now: datetime) -> list[Orphan]:
    by_location = in_parallel(survey.own_locations, lambda location: _orphans_of(location, survey, now))
    found = [orphan for orphans in by_location for orphan in orphans]
    image_ids = {orphan.image_id for orphan in found if orphan.action == "delete"}
    return without_copies(found, _elsewhere(survey, image_ids)) if image_ids else found


def _elsewhere(survey: Survey, image_ids: Collection[str]) -> dict[str, str]:
    """Return why those of the AMIs *image_ids* that may live in a region that was not queried do, by id."""
    caller = survey.own_locations[0].caller
    seen = {location.region for location in survey.own_locations}
    try:
        others = [region for region in enabled_regions(caller) if region not in seen]
        by_region = in_parallel(others, lambda region: some_images(Caller(caller.access, region), image_ids))
    except AwsError as exc:
        return dict.fromkeys(image_ids, f"whether its AMI lives in another region could not be read: {exc}")
    alive = (image for images in by_region for image in images)
    return {image.image_id: f"its AMI lives in {image.region}, which was not queried: a copy" for image in alive}


def _orphans_of(location: Location, survey: Survey, now: datetime) -> list[Orphan]:
    found = own_snapshots(location.caller, location.account)
    try:
        in_bin = {location.region: set(recycle_bin.images_in_bin(location.caller))}
    except AwsError:
        in_bin = {}
    verdicts = find_orphans(found, survey.images, by_target(survey.references), in_bin, survey.policy, now)
    selected = [orphan.snapshot.snapshot_id for orphan in verdicts if orphan.action == "delete"]
    answers = in_parallel(selected, lambda snapshot_id: _why_shared(location, snapshot_id))
    return without_shared(verdicts, dict(zip(selected, answers, strict=True)))


def _why_shared(location: Location, snapshot_id: str) -> str | None:
    try:
        return "shared with another account" if snapshot_is_shared(location.caller, snapshot_id) else None
    except AwsError as exc:
        return f"whether it is shared could not be read: {exc}"
