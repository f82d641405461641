"""`invoke sweep`: finds, shows and removes the resources of incomplete builds."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from gpu_ami.aws.build_resources import KINDS, BuildResource, find
from gpu_ami.aws.caller import Caller, RefusedError
from gpu_ami.aws.images import Image
from gpu_ami.aws.regions import requested_regions
from gpu_ami.aws.sts import identify
from gpu_ami.bake import template
from gpu_ami.cleanup.dead_benches import BENCHES_ALONE, TOGETHER
from gpu_ami.cleanup.decide import SourceReport, by_target
from gpu_ami.cleanup.execute import Result
from gpu_ami.cleanup.incomplete_builds import (
    Sweep,
    SweepPlan,
    SweepVerdict,
    decide_sweep,
    image_failures,
    sweep_blocks,
    without_unseen,
)
from gpu_ami.cleanup.inventory import Location, Survey, in_parallel
from gpu_ami.cleanup.journal import Journal, cut_short, new_path
from gpu_ami.cleanup.journal_events import Begin, End
from gpu_ami.cleanup.plan_tables import sweep_table
from gpu_ami.cleanup.planner import clock_reports
from gpu_ami.cleanup.policy import SETTING, SOURCE_NAMES, Policy, left_out
from gpu_ami.cleanup.result_tables import sweep_result_table
from gpu_ami.cleanup.scope import chosen_regions, survey_of
from gpu_ami.cleanup.volume_bins import volume_bins
from gpu_ami.errors import AwsError, InterruptedRunError, PartialError, SafetyError, UsageError, then_raised
from gpu_ami.invocation import Invocation
from gpu_ami.locks import only_one
from gpu_ami.records import unfinished_build
from gpu_ami.records.tags import REGION
from gpu_ami.units import parse_duration, show_count

# IAM is one for all regions: its resources are listed with the first.
_GLOBAL = frozenset({"instance-profile", "role"})
# A role may go unseen: it costs nothing. What benches leave in Batch keeps the rest of the same bench. Who grants a
# sweep what it needed before these were looked for must not lose the rest of it.
_MAY_BE_DENIED = frozenset({"role", *BENCHES_ALONE})
# What the names of this task's own sources begin with.
_LEFTOVER = "leftover-"
# The template's defaults, for a checkout without it.
_TIMES = {"max_build_minutes": 180, "poll_delay_seconds": 15, "poll_max_attempts": 480}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke sweep`` requested.

    Attributes:
        older_than: Only builds older than this; never less than a build can take.
        regions: Regions; empty takes the settings' and those that the template copies the family's AMIs to.
        skip_source: Kinds that are not queried.
        allow_no_references: Whether an account in which nothing at all needs any AMI is believed.
        yes: Whether to act.
        fleet: Whether all accounts of the fleet are swept.
    """

    older_than: str | None = None
    regions: Sequence[str] = ()
    skip_source: Sequence[str] = ()
    allow_no_references: bool = False
    yes: bool = False
    fleet: bool = False


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


@dataclass(frozen=True, kw_only=True)
class Ages:
    """From which age on a build is over.

    Attributes:
        older_than: What it may take, or more if requested.
        requested: What was requested.
    """

    older_than: timedelta
    requested: timedelta


def run(run: Invocation, request: Request, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Plan the removal of what incomplete builds left and print it; carry it out if requested.

    Args:
        run: The invocation.
        request: What was requested.
        sleep: Waits some seconds.

    Raises:
        UsageError: Flags or the template's variables cannot be used.
        AwsError: The account's AMIs cannot be listed at all.
        SafetyError: Nothing may be removed, or no AMI, and why.
        PartialError: Some of it could not be removed.
    """
    if request.fleet:
        from gpu_ami.cleanup import fleet_sweep

        fleet_sweep.run(run, request, sleep=sleep)
        return
    ages = ages_of(run, request.older_than)
    kinds = chosen_kinds(request.skip_source)
    policy = policy_of_sweep(run, request, ages)
    requested_regions(request.regions)  # before credentials are asked for
    acts = request.yes and not run.options.dry_run
    account = (run.announce() if acts else identify(run.access)).account
    regions = _regions(run, request.regions)
    survey = survey_of(run, policy, account, regions)
    with run.console.step("querying what incomplete builds left"):
        plan = _plan(run, survey, account, ages, kinds)
    if not acts or plan.blocks:
        forget_builds(run, plan, request, ())
        run.console.result(plan.document(), sweep_table(plan))
        if plan.blocks:
            msg = f"Everything is kept: {plan.blocks[0]}"
            raise SafetyError(msg)
        if plan.selected:
            run.console.say(next_step(run, request))
        _raise_failures(plan, policy)
        return
    with only_one(run.workspace.logs, "cleanup"):
        results, journal, refused = act(
            run, plan, survey, ages.requested, sleep=lambda seconds: sleep(run.target.poll_s(seconds))
        )
    forget_builds(run, plan, request, results)
    shown = run.workspace.shown(journal) if journal else None
    document = plan.document() | {
        "applied": True,
        "results": [result.document() for result in results],
        "journal": shown,
    }
    with then_raised(error_of(results, refused)):
        run.console.result(document, sweep_table(plan), sweep_result_table(results, shown))
    _raise_failures(plan, policy)


def policy_of_sweep(run: Invocation, request: Request, ages: Ages) -> Policy:
    """Return what decides about AMIs: nothing that is needed may go."""
    return Policy(
        older_than=ages.older_than,
        keep=1,
        skip_sources=left_out(run.settings),
        allow_no_references=request.allow_no_references,
    )


def next_step(run: Invocation, request: Request) -> str:
    """Return what a person does to have a plan carried out."""
    parts = ["leave out --dry-run"] if run.options.dry_run else []
    how = " and ".join([*parts, *([] if request.yes else ["add --yes"])])
    return f"Nothing was removed. {how[0].upper()}{how[1:]} to carry this out."


def _raise_failures(plan: SweepPlan, policy: Policy) -> None:
    """End with an error where an AMI stays because what may need it could not be read: a job should not look well.

    Raises:
        SafetyError: It is so; what else was left is shown, or removed, all the same.
    """
    if failures := image_failures(plan, policy):
        msg = f"AMIs are kept: {failures[0]}"
        raise SafetyError(msg)


def error_of(results: Sequence[Result], refused: str | None) -> PartialError | None:
    """Return how a sweep ends that could not remove all of it; None where it could."""
    if refused:
        return cut_short(refused, sum(result.is_done for result in results), len(results))
    if failed := [result for result in results if result.is_failed]:
        first = f"{failed[0].image_id} first: {failed[0].error}"
        return PartialError(f"{len(failed)} of {len(results)} were not removed, {first}")
    return None


def _plan(run: Invocation, survey: Survey, account: str, ages: Ages, kinds: Sequence[str]) -> SweepPlan:
    now = datetime.now(timezone.utc)
    survey.query()
    # Of its first answer, and so rather too early; how old a thing is must not depend on this machine's clock.
    aws_time = survey.aws_time
    (found,) = leftovers_of(survey.own_locations, kinds, run.settings.family)
    verdicts = verdicts_on(survey, [found], ages, aws_time or now)[account]
    reports = [*time_reports(aws_time, now), *survey.reports, *found.reports]
    return plan_of(survey.own_locations, found, without_unseen(verdicts, reports, survey.policy), reports, survey, now)


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
        name = f"{_LEFTOVER}{kind}s"
        return SourceReport(name, location.region, status, location.account, caller.calls, error=error, is_use=False)

    try:
        return find(caller, kind, family), report("ok")
    except AwsError as exc:
        is_let_pass = kind in _MAY_BE_DENIED and isinstance(exc, RefusedError) and exc.is_denied
        return [], report("skipped" if is_let_pass else "failed", str(exc))
    finally:
        location.caller.aws_time = location.caller.aws_time or caller.aws_time


def act(
    run: Invocation,
    plan: SweepPlan,
    survey: Survey,
    requested: timedelta,
    *,
    sleep: Callable[[float], None],
    callers: Mapping[str, Caller] | None = None,
) -> tuple[list[Result], Path | None, str | None]:
    """Remove what is selected; return what came of it, the journal, and why that could not be written on, if so.

    Args:
        run: The invocation.
        plan: What to remove, of one account.
        survey: What it was made from; queried again before an AMI goes.
        requested: What a person wants to be left alone, of whatever made it.
        sleep: Waits some seconds.
        callers: By region, what may change the account; None for what the survey reads it with.

    Raises:
        InterruptedRunError: Somebody interrupted it.
    """
    if not plan.selected:
        return [], None, None
    path = new_path(run.workspace.logs, datetime.now(timezone.utc), task="sweep")
    try:
        with Journal(path) as journal:
            journal.write(Begin(account=plan.account, older_than_s=int(plan.older_than.total_seconds())))
            sweep = Sweep(
                survey, run.settings.family, plan.older_than, journal, requested, sleep=sleep, callers=callers
            )
            with run.console.step(f"removing {show_count(len(plan.selected), 'resource')}") as step:
                results = sweep.run(plan.selected)
                if results and all(result.is_failed for result in results):
                    step.fail()
            journal.note(End(failed=sum(result.is_failed for result in results)))
            refused = journal.refused
    except KeyboardInterrupt as exc:
        msg = f"Interrupted; what was removed is in {run.workspace.shown(path)}."
        raise InterruptedRunError(msg) from exc
    return results, path, refused


def forget_builds(run: Invocation, plan: SweepPlan, request: Request, results: Sequence[Result]) -> None:
    """Drop the notes of builds that were killed and of which nothing is left: nobody need be told of them any more.

    What a build of another account or family left is not what was listed here. Of sources of uses that failed, as a
    receipt that cannot be read, no build is kept in mind: they are not about what is left.
    """
    looked = [report for report in plan.reports if report.name.startswith(_LEFTOVER)]
    if run.options.dry_run or request.skip_source or any(report.status == "failed" for report in looked):
        return
    gone = {result.image_id for result in results if result.is_done}
    left = {verdict.resource.run for verdict in plan.verdicts if verdict.resource.identifier not in gone}
    builds = unfinished_build.cut_off(run.workspace.logs)
    listed = unfinished_build.Whose(account=plan.account, family=run.settings.family)
    unfinished_build.forget(
        build for build in builds if build.whose == listed and build.region in plan.regions and build.run_id not in left
    )


def ages_of(run: Invocation, requested: str | None) -> Ages:
    """Return from which age on a build is over: what it may take, or more if *requested*.

    Raises:
        UsageError: That is less than a build may take.
    """
    longest = longest_build(run)
    if requested is None:
        return Ages(older_than=longest, requested=timedelta())
    span = parse_duration(requested, name="--older-than")
    if span < longest:
        why = f"is less than a build may take ({longest}): a living one could be removed"
        msg = f"--older-than {requested} {why}. Give more."
        raise UsageError(msg)
    return Ages(older_than=span, requested=span)


def longest_build(run: Invocation) -> timedelta:
    """Return how long a build can take: the builder's own time limit and the wait for the AMI.

    Raises:
        UsageError: The template or its variables cannot be read.
    """
    values = _TIMES | _template_values(run)
    try:
        minutes, delay, attempts = (int(values[name]) for name in _TIMES)
    except (TypeError, ValueError, OverflowError) as exc:
        given = ", ".join(f"{name} is {values[name]!r}" for name in _TIMES)
        msg = f"Packer's variables {', '.join(_TIMES)} must be whole numbers ({given}): give numbers."
        raise UsageError(msg) from exc
    return timedelta(minutes=minutes, seconds=delay * attempts)


def _template_values(run: Invocation) -> dict[str, Any]:
    folder, target = run.workspace.root / "packer", run.target
    # Of a variable that a sweep does not need it may not know the value.
    wanted = {*_TIMES, "ami_regions"}
    return template.effective(folder, target.user_variables, {}, environment=target.environment, wanted=wanted)


def _regions(run: Invocation, requested: Sequence[str]) -> list[str]:
    """Return where to look: as requested, else where a build of the family makes AMIs, its copies included."""
    chosen = chosen_regions(run, requested)
    return chosen if requested else list(dict.fromkeys([*chosen, *copy_regions(run)]))


def copy_regions(run: Invocation) -> list[str]:
    """Return the regions to which a build copies its AMI; what is no region is Packer's to refuse."""
    copies = _template_values(run).get("ami_regions")
    named = [name for name in copies if isinstance(name, str)] if isinstance(copies, list) else []
    return [name for name in named if REGION.fullmatch(name)]


def chosen_kinds(skipped: Sequence[str]) -> list[str]:
    """Return the kinds to look for.

    Raises:
        UsageError: One of *skipped* is none.
    """
    for name in skipped:
        if name in SOURCE_NAMES:
            msg = f"--skip-source {name!r} is not a kind of resource: name it in {SETTING}."
            raise UsageError(msg)
        if name not in KINDS:
            msg = f"--skip-source {name!r} is not a kind of resource: {', '.join(KINDS)}."
            raise UsageError(msg)
    return [kind for kind in KINDS if kind not in skipped]
