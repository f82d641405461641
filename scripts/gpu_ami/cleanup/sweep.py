"""`invoke sweep`: finds, shows and removes the resources of incomplete builds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

from gpu_ami.aws.regions import requested_regions
from gpu_ami.cleanup.incomplete_builds import SweepPlan, image_failures, without_unseen
from gpu_ami.cleanup.inventory import Survey
from gpu_ami.cleanup.plan_tables import sweep_table
from gpu_ami.cleanup.policy import Policy
from gpu_ami.cleanup.result_tables import sweep_result_table
from gpu_ami.cleanup.scope import chosen_regions, survey_of, whose
from gpu_ami.cleanup.sweep_carry_out import act, error_of, forget_builds, next_step
from gpu_ami.cleanup.sweep_planner import leftovers_of, plan_of, time_reports, verdicts_on
from gpu_ami.cleanup.sweep_scope import Ages, Request, ages_of, chosen_kinds, copy_regions, policy_of_sweep
from gpu_ami.errors import SafetyError, then_raised
from gpu_ami.invocation import Invocation
from gpu_ami.locks import only_one

__all__ = ["Request", "run"]


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
    account = whose(run, announces=acts)
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


def _raise_failures(plan: SweepPlan, policy: Policy) -> None:
    """End with an error where an AMI stays because what may need it could not be read: a job should not look well.

    Raises:
        SafetyError: It is so; what else was left is shown, or removed, all the same.
    """
    if failures := image_failures(plan, policy):
        msg = f"AMIs are kept: {failures[0]}"
        raise SafetyError(msg)


def _plan(run: Invocation, survey: Survey, account: str, ages: Ages, kinds: Sequence[str]) -> SweepPlan:
    now = datetime.now(timezone.utc)
    survey.query()
    # Of its first answer, and so rather too early; how old a thing is must not depend on this machine's clock.
    aws_time = survey.aws_time
    (found,) = leftovers_of(survey.own_locations, kinds, run.settings.family)
    verdicts = verdicts_on(survey, [found], ages, aws_time or now)[account]
    reports = [*time_reports(aws_time, now), *survey.reports, *found.reports]
    return plan_of(survey.own_locations, found, without_unseen(verdicts, reports, survey.policy), reports, survey, now)


def _regions(run: Invocation, requested: Sequence[str]) -> list[str]:
    """Return where to look: as requested, else where a build of the family makes AMIs, its copies included."""
    chosen = chosen_regions(run, requested)
    return chosen if requested else list(dict.fromkeys([*chosen, *copy_regions(run)]))
