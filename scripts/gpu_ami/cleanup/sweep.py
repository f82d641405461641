"""`invoke sweep`: finds, shows and removes the resources of incomplete builds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from gpu_ami.aws.access import identify
from gpu_ami.aws.build_resources import KINDS, BuildResource, find
from gpu_ami.aws.caller import RefusedError
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
from gpu_ami.cleanup.scope import chosen_regions, requested_regions, survey_of
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
    """

    older_than: str | None = None
    regions: Sequence[str] = ()
    skip_source: Sequence[str] = ()
    allow_no_references: bool = False
    yes: bool = False


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
    older_than, requested = _older_than(run, request.older_than)
    kinds = _kinds(request.skip_source)
    skipped = left_out(run.settings)
    requested_regions(request.regions)  # before credentials are asked for
    acts = request.yes and not run.options.dry_run
    account = (run.announce() if acts else identify(run.access)).account
    regions = _regions(run, request.regions)
    policy = Policy(
        older_than=older_than, keep=1, skip_sources=skipped, allow_no_references=request.allow_no_references
    )
    survey = survey_of(run, policy, account, regions)
    with run.console.step("querying what incomplete builds left"):
        plan = _plan(run, survey, account, (older_than, requested), kinds)
    if not acts or plan.blocks:
        _forget_builds(run, plan, request, ())
        run.console.result(plan.document(), sweep_table(plan))
        if plan.blocks:
            msg = f"Everything is kept: {plan.blocks[0]}"
            raise SafetyError(msg)
        if plan.selected:
            parts = ["leave out --dry-run"] if run.options.dry_run else []
            how = " and ".join([*parts, *([] if request.yes else ["add --yes"])])
            run.console.say(f"Nothing was removed. {how[0].upper()}{how[1:]} to carry this out.")
        _raise_failures(plan, policy)
        return
    with only_one(run.workspace.logs, "cleanup"):
        results, journal, refused = _act(
            run, plan, survey, requested, lambda seconds: sleep(run.target.poll_s(seconds))
        )
    _forget_builds(run, plan, request, results)
    shown = run.workspace.shown(journal) if journal else None
    document = plan.document() | {
        "applied": True,
        "results": [result.document() for result in results],
        "journal": shown,
    }
    with then_raised(_error(results, refused)):
        run.console.result(document, sweep_table(plan), sweep_result_table(results, shown))
    _raise_failures(plan, policy)


def _raise_failures(plan: SweepPlan, policy: Policy) -> None:
    """End with an error where an AMI stays because what may need it could not be read: a job should not look well.

    Raises:
        SafetyError: It is so; what else was left is shown, or removed, all the same.
    """
    if failures := image_failures(plan, policy):
        msg = f"AMIs are kept: {failures[0]}"
        raise SafetyError(msg)


def _error(results: Sequence[Result], refused: str | None) -> PartialError | None:
    """Return how a sweep ends that could not remove all of it; None where it could."""
    if refused:
        return cut_short(refused, sum(result.is_done for result in results), len(results))
    if failed := [result for result in results if result.is_failed]:
        first = f"{failed[0].image_id} first: {failed[0].error}"
        return PartialError(f"{len(failed)} of {len(results)} were not removed, {first}")
    return None


def _plan(
    run: Invocation, survey: Survey, account: str, ages: tuple[timedelta, timedelta], kinds: Sequence[str]
) -> SweepPlan:
    older_than, requested = ages
    now = datetime.now(timezone.utc)
    survey.query()
    # Of its first answer, and so rather too early; how old a thing is must not depend on this machine's clock.
    aws_time = survey.aws_time
    queries = [
        (location, kind)
        for number, location in enumerate(survey.own_locations)
        for kind in kinds
        if number == 0 or kind not in _GLOBAL
    ]
    found = in_parallel(queries, lambda query: _find(*query, run.settings.family))
    resources = [resource for some, _ in found for resource in some]
    unseen = {(kind, location.region) for location in survey.own_locations for kind in TOGETHER}
    unseen -= {
        (kind, location.region)
        for (location, kind), (_, report) in zip(queries, found, strict=True)
        if report.status == "ok"
    }

    def decided() -> tuple[list[SweepVerdict], set[str]]:
        needed = by_target(survey.references)
        verdicts = decide_sweep(resources, survey.images, needed, older_than, aws_time or now, requested, unseen)
        selected = (v.resource for v in verdicts if v.action == "delete" and v.resource.kind == "image")
        return verdicts, {resource.identifier for resource in selected}

    verdicts, images = decided()
    if images:
        survey.query_images(images)
        verdicts, _ = decided()
    reports = [*_clock_reports(aws_time, now), *survey.reports, *(report for _, report in found)]
    blocks = sweep_blocks(reports, survey.policy)
    callers = {location.region: location.caller for location in survey.own_locations}
    verdicts = without_unseen(verdicts, reports, survey.policy)
    going = [] if blocks else [verdict.resource for verdict in verdicts if verdict.action == "delete"]
    return SweepPlan(
        account=account,
        regions=tuple(location.region for location in survey.own_locations),
        older_than=older_than,
        verdicts=tuple(verdicts),
        reports=tuple(reports),
        blocks=blocks,
        bins=tuple(volume_bins(callers, going, now)),
    )


def _clock_reports(aws_time: datetime | None, now: datetime) -> list[SourceReport]:
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


def _act(
    run: Invocation, plan: SweepPlan, survey: Survey, requested: timedelta, sleep: Callable[[float], None]
) -> tuple[list[Result], Path | None, str | None]:
    """Remove what is selected; return what came of it, the journal, and why that could not be written on, if so."""
    if not plan.selected:
        return [], None, None
    path = new_path(run.workspace.logs, datetime.now(timezone.utc), task="sweep")
    try:
        with Journal(path) as journal:
            journal.write(Begin(account=plan.account, older_than_s=int(plan.older_than.total_seconds())))
            act = Sweep(survey, run.settings.family, plan.older_than, journal, requested, sleep=sleep)
            with run.console.step(f"removing {show_count(len(plan.selected), 'resource')}") as step:
                results = act.run(plan.selected)
                if results and all(result.is_failed for result in results):
                    step.fail()
            journal.note(End(failed=sum(result.is_failed for result in results)))
            refused = journal.refused
    except KeyboardInterrupt as exc:
        msg = f"Interrupted; what was removed is in {run.workspace.shown(path)}."
        raise InterruptedRunError(msg) from exc
    return results, path, refused


def _forget_builds(run: Invocation, plan: SweepPlan, request: Request, results: Sequence[Result]) -> None:
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


def _older_than(run: Invocation, requested: str | None) -> tuple[timedelta, timedelta]:
    """Return the age from which on a build is over: what it may take, or more if requested; and what was requested."""
    longest = longest_build(run)
    if requested is None:
        return longest, timedelta()
    span = parse_duration(requested, name="--older-than")
    if span < longest:
        why = f"is less than a build may take ({longest}): a living one could be removed"
        msg = f"--older-than {requested} {why}. Give more."
        raise UsageError(msg)
    return span, span


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
    if requested:
        return chosen
    copies = _template_values(run).get("ami_regions")
    named = [name for name in copies if isinstance(name, str)] if isinstance(copies, list) else []
    # What is no region is Packer's to refuse.
    return list(dict.fromkeys([*chosen, *(name for name in named if REGION.fullmatch(name))]))


def _kinds(skipped: Sequence[str]) -> list[str]:
    for name in skipped:
        if name in SOURCE_NAMES:
            msg = f"--skip-source {name!r} is not a kind of resource: name it in {SETTING}."
            raise UsageError(msg)
        if name not in KINDS:
            msg = f"--skip-source {name!r} is not a kind of resource: {', '.join(KINDS)}."
            raise UsageError(msg)
    return [kind for kind in KINDS if kind not in skipped]
