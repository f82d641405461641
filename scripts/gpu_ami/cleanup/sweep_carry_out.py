"""Carries the sweep of one account out, journalled, and says how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from gpu_ami.aws.caller import Caller
from gpu_ami.cleanup.execute import Result
from gpu_ami.cleanup.incomplete_builds import Sweep, SweepPlan
from gpu_ami.cleanup.inventory import Survey
from gpu_ami.cleanup.journal import Journal, cut_short, new_path
from gpu_ami.cleanup.journal_events import Begin, End
from gpu_ami.cleanup.sweep_planner import LEFTOVER
from gpu_ami.cleanup.sweep_scope import Request
from gpu_ami.errors import InterruptedRunError, PartialError
from gpu_ami.invocation import Invocation
from gpu_ami.records import unfinished_build
from gpu_ami.units import show_count


def next_step(run: Invocation, request: Request) -> str:
    """Return what a person does to have a plan carried out."""
    parts = ["leave out --dry-run"] if run.options.dry_run else []
    how = " and ".join([*parts, *([] if request.yes else ["add --yes"])])
    return f"Nothing was removed. {how[0].upper()}{how[1:]} to carry this out."


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
    looked = [report for report in plan.reports if report.name.startswith(LEFTOVER)]
    if run.options.dry_run or request.skip_source or any(report.status == "failed" for report in looked):
        return
    gone = {result.image_id for result in results if result.is_done}
    left = {verdict.resource.run for verdict in plan.verdicts if verdict.resource.identifier not in gone}
    builds = unfinished_build.cut_off(run.workspace.logs)
    listed = unfinished_build.Whose(account=plan.account, family=run.settings.family)
    unfinished_build.forget(
        build for build in builds if build.whose == listed and build.region in plan.regions and build.run_id not in left
    )


def error_of(results: Sequence[Result], refused: str | None) -> PartialError | None:
    """Return how a sweep ends that could not remove all of it; None where it could."""
    if refused:
        return cut_short(refused, sum(result.is_done for result in results), len(results))
    if failed := [result for result in results if result.is_failed]:
        first = f"{failed[0].image_id} first: {failed[0].error}"
        return PartialError(f"{len(failed)} of {len(results)} were not removed, {first}")
    return None
