"""Makes the plan: looks, decides, looks closer at what would go, and decides again."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal

from gpu_ami.aws import recyclebin
from gpu_ami.aws.calls import Caller
from gpu_ami.aws.images import Snapshot, own_snapshots, snapshot_is_shared, snapshots, some_images
from gpu_ami.aws.regions import enabled_regions
from gpu_ami.cleanup.decide import Decision, SourceReport, by_target, decide
from gpu_ami.cleanup.orphans import find_orphans, without_copies, without_shared
from gpu_ami.cleanup.plan import Bin, Orphan, Plan
from gpu_ami.cleanup.policy import Policy
from gpu_ami.cleanup.survey import Place, Survey, in_parallel
from gpu_ami.errors import AwsError

# AWS refuses requests signed with a clock that is five minutes off.
_CLOCK_LIMIT = timedelta(minutes=5)


def make_plan(
    survey: Survey,
    account: str,
    now: datetime,
    *,
    orphans: bool = False,
    usd_per_gib_month: Mapping[str, Decimal | None] | None = None,
    roles: Sequence[str] = (),
) -> Plan:
    """Return what a clean-up would do now.

    Args:
        survey: A survey that has not looked yet.
        account: Whose AMIs.
        now: The time.
        orphans: Whether to look for snapshots that AMIs left behind, too.
        usd_per_gib_month: The price of snapshot storage by region.
        roles: Of the other accounts that the survey looks at; the plan's file names them to whoever carries it out.

    Raises:
        AwsError: The AMIs themselves could not be listed.
    """
    survey.look()
    unlimited = dataclasses.replace(survey.policy, max_deletions=None)
    clock = clock_reports(survey.aws_time, now)
    first = _decide(survey, now, clock, unlimited, with_orphans=orphans)
    with ThreadPoolExecutor(max_workers=1) as pool:
        # Sizes and the Recycle Bin decide nothing, so they are read beside what does.
        reading = pool.submit(_details, survey, first, orphans=orphans)
        if first.doomed:
            survey.look_at({verdict.image.image_id for verdict in first.doomed})
        details = reading.result()
    decision = _decide(survey, now, clock, survey.policy, with_orphans=orphans)
    found = _orphans(survey, now) if orphans and not decision.blocks else []
    return Plan(
        account=account,
        regions=tuple(place.region for place in survey.own_places),
        policy=survey.policy,
        decision=decision,
        reports=[*clock, *survey.reports],
        made_at=now,
        snapshots={key: each for some, _ in details.values() for key, each in some.items()},
        bins={region: bin_ for region, (_, bin_) in details.items()},
        orphans=tuple(found),
        usd_per_gib_month=usd_per_gib_month or {},
        roles=tuple(roles),
    )


def clock_reports(aws_time: datetime | None, now: datetime) -> list[SourceReport]:
    """Return a failed report when this machine's clock is wrong: every age would be, too."""
    if aws_time is None or abs(now - aws_time) <= _CLOCK_LIMIT:
        return []
    error = f"this machine says {now:%Y-%m-%d %H:%M}, AWS says {aws_time:%Y-%m-%d %H:%M} UTC: set the clock"
    return [SourceReport("clock", None, "failed", error=error, is_use=False)]


def _decide(
    survey: Survey, now: datetime, clock: Sequence[SourceReport], policy: Policy, *, with_orphans: bool
) -> Decision:
    reports = [*clock, *survey.reports]
    return decide(survey.images, survey.references, reports, policy, now, with_orphans=with_orphans)


def _details(survey: Survey, decision: Decision, *, orphans: bool) -> dict[str, tuple[dict[str, Snapshot], Bin]]:
    """Return, by region, the snapshots of what may go and the Recycle Bin; neither decides anything."""
    regions = {verdict.image.region for verdict in decision.doomed}
    busy = [place for place in survey.own_places if orphans or place.region in regions]
    found = in_parallel(busy, lambda place: _details_of(place, decision))
    return {place.region: each for place, each in zip(busy, found, strict=True)}


def _details_of(place: Place, decision: Decision) -> tuple[dict[str, Snapshot], Bin]:
    wanted = [
        snapshot_id
        for verdict in decision.doomed
        if verdict.image.region == place.region
        for snapshot_id in verdict.image.snapshot_ids
    ]
    try:
        found = snapshots(place.caller, wanted)
    except AwsError:
        found = {}
    try:
        return found, Bin(recyclebin.rules(place.caller))
    except AwsError as exc:
        return found, Bin(error=str(exc))


def _orphans(survey: Survey, now: datetime) -> list[Orphan]:
    found = [each for some in in_parallel(survey.own_places, lambda p: _orphans_of(p, survey, now)) for each in some]
    asked = {each.image_id for each in found if each.action == "delete"}
    return without_copies(found, _elsewhere(survey, asked)) if asked else found


def _elsewhere(survey: Survey, asked: Collection[str]) -> dict[str, str]:
    """Return why those of the AMIs *asked* that may live in a region that was not looked at do, by id."""
    caller = survey.own_places[0].caller
    seen = {place.region for place in survey.own_places}
    try:
        others = [region for region in enabled_regions(caller) if region not in seen]
        looks = in_parallel(others, lambda region: some_images(Caller(caller.access, region), asked))
    except AwsError as exc:
        return dict.fromkeys(asked, f"whether its AMI lives in another region could not be read: {exc}")
    alive = (image for some in looks for image in some)
    return {each.image_id: f"its AMI lives in {each.region}, which was not looked at: a copy" for each in alive}


def _orphans_of(place: Place, survey: Survey, now: datetime) -> list[Orphan]:
    found = own_snapshots(place.caller, place.account)
    try:
        in_bin = {place.region: set(recyclebin.images_in_bin(place.caller))}
    except AwsError:
        in_bin = {}
    verdicts = find_orphans(found, survey.images, by_target(survey.references), in_bin, survey.policy, now)
    asked = [each.snapshot.snapshot_id for each in verdicts if each.action == "delete"]
    answers = in_parallel(asked, lambda snapshot_id: _why_shared(place, snapshot_id))
    return without_shared(verdicts, dict(zip(asked, answers, strict=True)))


def _why_shared(place: Place, snapshot_id: str) -> str | None:
    try:
        return "shared with another account" if snapshot_is_shared(place.caller, snapshot_id) else None
    except AwsError as exc:
        return f"whether it is shared could not be read: {exc}"
