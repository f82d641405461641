"""Finds what incomplete builds left, decides on it, and says what a sweep of one account would remove."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gpu_ami.aws.build_resources import BuildResource, find
from gpu_ami.aws.caller import RefusedError
from gpu_ami.aws.images import Image
from gpu_ami.cleanup.dead_benches import BENCHES_ALONE, TOGETHER
from gpu_ami.cleanup.decide import SourceReport, by_target
from gpu_ami.cleanup.incomplete_builds import SweepPlan, SweepVerdict, decide_sweep, sweep_blocks
from gpu_ami.cleanup.inventory import Location, Survey, in_parallel
from gpu_ami.cleanup.planner import clock_reports
from gpu_ami.cleanup.sweep_scope import Ages
from gpu_ami.cleanup.volume_bins import volume_bins
from gpu_ami.errors import AwsError

# IAM is one for all regions: its resources are listed with the first.
_GLOBAL = frozenset({"instance-profile", "role"})
# A role may go unseen: it costs nothing. What benches leave in Batch keeps the rest of the same bench. Who grants a
# sweep what it needed before these were looked for must not lose the rest of it.
_MAY_BE_DENIED = frozenset({"role", *BENCHES_ALONE})
# What the names of this task's own sources begin with.
LEFTOVER = "leftover-"


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """What carries the tags of builds in one account.

    Attributes:
        account: Its id.
        resources: Whatever was found.
        reports: How the list of each kind ended.
        unseen: Kinds of what benches make that could not be listed, or were not to be, each with its region.
    """

    account: str
    resources: tuple[BuildResource, ...]
    reports: tuple[SourceReport, ...]
    unseen: frozenset[tuple[str, str]]


def leftovers_of(
    locations: Sequence[Location], kinds: Sequence[str], family: str, *, workers: int | None = None
) -> list[Leftovers]:
    """Return what *family*'s builds left, account by account, in the order of *locations*.

    Args:
        locations: Where to look; what is one for all regions of an account is listed with its first.
        kinds: What to look for.
        family: Whose.
        workers: How many queries may wait at once.
    """
    of: dict[str, list[Location]] = defaultdict(list)
    for location in locations:
        of[location.account].append(location)
    queries = [
        (location, kind)
        for some in of.values()
        for number, location in enumerate(some)
        for kind in kinds
        if number == 0 or kind not in _GLOBAL
    ]
    more = {} if workers is None else {"workers": workers}
    answers: dict[str, list[tuple[str, list[BuildResource], SourceReport]]] = defaultdict(list)
    found = in_parallel(queries, lambda query: _find(*query, family), **more)
    for (location, kind), (resources, report) in zip(queries, found, strict=True):
        answers[location.account].append((kind, resources, report))
    return [
        Leftovers(
            account=account,
            resources=tuple(resource for _, resources, _ in answers[account] for resource in resources),
            reports=tuple(report for _, _, report in answers[account]),
            unseen=frozenset((kind, location.region) for location in some for kind in TOGETHER)
            - {(kind, str(report.region)) for kind, _, report in answers[account] if report.status == "ok"},
        )
        for account, some in of.items()
    ]


def verdicts_on(
    survey: Survey, leftovers: Sequence[Leftovers], ages: Ages, now: datetime
) -> dict[str, list[SweepVerdict]]:
    """Return the verdicts on what each account has, by account; AMIs that would go are queried one by one first.

    Args:
        survey: Of all accounts, queried; what any of them needs, stays.
        leftovers: What each has.
        ages: From when on a build is over.
        now: The time, by AWS's clock.
    """
    images: dict[str, list[Image]] = defaultdict(list)
    for image in survey.images:
        images[image.account].append(image)

    def decided() -> dict[str, list[SweepVerdict]]:
        needed = by_target(survey.references)
        return {
            one.account: decide_sweep(
                one.resources,
                images[one.account] if survey.is_fleet else survey.images,
                needed,
                ages.older_than,
                now,
                ages.requested,
                one.unseen,
            )
            for one in leftovers
        }

    verdicts = decided()
    going = [verdict.resource for some in verdicts.values() for verdict in some if verdict.action == "delete"]
    if selected := {resource.identifier for resource in going if resource.kind == "image"}:
        survey.query_images(selected)
        return decided()
    return verdicts


def plan_of(
    locations: Sequence[Location],
    found: Leftovers,
    verdicts: Sequence[SweepVerdict],
    reports: Sequence[SourceReport],
    survey: Survey,
    now: datetime,
) -> SweepPlan:
    """Return what a sweep of one account would remove.

    Args:
        locations: Its regions.
        found: What it has.
        verdicts: On that.
        reports: How every query ended that matters to it.
        survey: What the verdicts follow from.
        now: The time, by this machine's clock.
    """
    blocks = sweep_blocks(reports, survey.policy)
    callers = {location.region: location.caller for location in locations}
    going = [] if blocks else [verdict.resource for verdict in verdicts if verdict.action == "delete"]
    return SweepPlan(
        account=found.account,
        regions=tuple(location.region for location in locations),
        older_than=survey.policy.older_than,
        verdicts=tuple(verdicts),
        reports=tuple(reports),
        blocks=blocks,
        bins=tuple(volume_bins(callers, going, now)),
    )


def time_reports(aws_time: datetime | None, now: datetime) -> list[SourceReport]:
    """Return what is wrong with this machine's clock, or that AWS has not said what time it is."""
    if aws_time is not None:
        return clock_reports(aws_time, now)
    error = "AWS's answers do not say what time it is: nobody knows how old anything is. Is there a proxy in between?"
    return [SourceReport("clock", None, "failed", error=error, is_use=False)]


def _find(location: Location, kind: str, family: str) -> tuple[list[BuildResource], SourceReport]:
    caller = location.caller.counting()

    def report(status: Any, error: str | None = None) -> SourceReport:
        name = f"{LEFTOVER}{kind}s"
        return SourceReport(name, location.region, status, location.account, caller.calls, error=error, is_use=False)

    try:
        return find(caller, kind, family), report("ok")
    except AwsError as exc:
        is_let_pass = kind in _MAY_BE_DENIED and isinstance(exc, RefusedError) and exc.is_denied
        return [], report("skipped" if is_let_pass else "failed", str(exc))
    finally:
        location.caller.aws_time = location.caller.aws_time or caller.aws_time
