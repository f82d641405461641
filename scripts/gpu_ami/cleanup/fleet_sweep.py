"""`invoke sweep --fleet`: what incomplete builds left in every account, judged by one graph, removed by each's role."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpu_ami.aws.caller import Caller
from gpu_ami.cleanup.execute import Result
from gpu_ami.cleanup.fleet_sweep_plan import FleetSweep, make_plan
from gpu_ami.cleanup.fleet_tables import sweep_answer, sweep_outcome
from gpu_ami.cleanup.incomplete_builds import SweepPlan
from gpu_ami.cleanup.inventory import Survey
from gpu_ami.cleanup.over_accounts import check_sharing, survey_of_fleet, with_right_to_change
from gpu_ami.cleanup.policy import SETTING
from gpu_ami.cleanup.sweep_carry_out import act, error_of, forget_builds, next_step
from gpu_ami.cleanup.sweep_scope import Ages, Request, ages_of, chosen_kinds, copy_regions, policy_of_sweep
from gpu_ami.errors import AwsError, PartialError, SafetyError, then_raised
from gpu_ami.fleet.entry import Hub
from gpu_ami.fleet.fleet import find, regions_of, settings_of
from gpu_ami.fleet.narrowing import narrowing, region_setting
from gpu_ami.invocation import Invocation
from gpu_ami.locks import only_one
from gpu_ami.units import show_count


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What was removed in one account.

    Attributes:
        account: Its id.
        results: What came of each resource.
        journal: Where it is written down; None where nothing was begun.
        error: How it ended, where that was not well.
    """

    account: str
    results: Sequence[Result]
    journal: Path | None = None
    error: PartialError | None = None


def run(run: Invocation, request: Request, *, sleep: Callable[[float], None]) -> None:
    """Plan the removal of what incomplete builds left in a fleet and print it; carry it out if requested.

    Raises:
        UsageError: Flags, settings or the template's variables cannot be used.
        AwsError: The hub cannot be entered, or its accounts cannot be listed.
        SafetyError: An account could not be read: what it has stays, and every AMI that something in it may need.
        PartialError: Some of it could not be removed.
    """
    ages, kinds = ages_of(run, request.older_than), chosen_kinds(request.skip_source)
    policy, regions = policy_of_sweep(run, request, ages), _regions(run, request)
    check_sharing(policy, SETTING)
    fleet = settings_of(run)
    acts = request.yes and not run.options.dry_run
    if acts:
        # Whoever has joined since a family before entered the accounts may launch what would go.
        run.forget_readings()
        run.announce()
    with run.console.step("entering the accounts of the fleet"):
        found = find(run, fleet)
    units = fleet.organization.ou_paths if fleet.organization else ()
    survey = survey_of_fleet(run, policy, found, regions, units=units)
    names = {one.member.account: one.member.name for one in found.entered}
    places = show_count(len(survey.locations), "place")
    with run.console.step(f"querying what incomplete builds left in {places}"):
        plan = make_plan(run, survey, found.hub.identity.account, names, ages, kinds)
        narrowed = narrowing(found.entered, survey.places, region_setting(run, request.regions))
        plan = replace(plan, narrowed=narrowed)
    if acts:
        _carry_out(run, request, plan, survey, ages, _way_in(found.hub, fleet.cleanup_role), sleep)
    else:
        for one in plan.plans:
            forget_builds(run, one, request, ())
        run.console.result(plan.document(), *sweep_answer(plan))
        if plan.selected:
            run.console.say(next_step(run, request))
    if problems := list(plan.problems()):
        also = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        msg = f"Not everything was swept: {problems[0]}{also}"
        raise SafetyError(msg)


def _way_in(hub: Hub, role: str) -> Callable[[str, Sequence[str]], dict[str, Caller]]:
    """Return what returns, of an account and its regions, whatever may change it there."""

    def callers(account: str, regions: Sequence[str]) -> dict[str, Caller]:
        access = with_right_to_change(hub, role, account)
        return {name: Caller(access, name) for name in regions}

    return callers


def _carry_out(
    run: Invocation,
    request: Request,
    plan: FleetSweep,
    survey: Survey,
    ages: Ages,
    way_in: Callable[[str, Sequence[str]], dict[str, Caller]],
    sleep: Callable[[float], None],
) -> None:
    run.forget_readings()
    done: list[Swept] = []
    with only_one(run.workspace.logs, "cleanup"):
        for one in plan.plans:
            swept = _one_account(run, one, survey, ages, way_in, sleep)
            forget_builds(run, one, request, swept.results)
            done.append(swept)
    journals = {one.account: run.workspace.shown(one.journal) for one in done if one.journal}
    document = plan.document() | {
        "applied": True,
        "results": [{"account": one.account, **result.document()} for one in done for result in one.results],
        "journals": [{"account": account, "journal": journal} for account, journal in journals.items()],
    }
    with then_raised(next((one.error for one in done if one.error), None)):
        results = {one.account: one.results for one in done}
        run.console.result(document, *sweep_outcome(plan, results, journals))


def _one_account(
    run: Invocation,
    plan: SweepPlan,
    survey: Survey,
    ages: Ages,
    way_in: Callable[[str, Sequence[str]], dict[str, Caller]],
    sleep: Callable[[float], None],
) -> Swept:
    """Remove what goes in one account; where nobody gets in with the right to, it stays, and the others' goes."""
    if plan.blocks or not plan.selected:
        return Swept(account=plan.account, results=())
    try:
        callers = way_in(plan.account, plan.regions)
    except AwsError as exc:
        why = f"{str(exc).rstrip('.')}. Make the role as docs/fleet.md says"
        gone = [Result(one.resource.identifier, one.resource.region, "failed", error=why) for one in plan.selected]
        return Swept(account=plan.account, results=gone, error=_named(plan.account, error_of(gone, None)))
    results, journal, refused = act(
        run,
        plan,
        survey,
        ages.requested,
        sleep=lambda seconds: sleep(run.target.poll_s(seconds)),
        callers=callers,
    )
    error = _named(plan.account, error_of(results, refused))
    return Swept(account=plan.account, results=results, journal=journal, error=error)


def _named(account: str, error: PartialError | None) -> PartialError | None:
    return None if error is None else PartialError(f"{account}: {error}")


def _regions(run: Invocation, request: Request) -> tuple[str, ...]:
    """Return where to look: as requested, else the settings' and those to which builds copy AMIs; empty is all."""
    chosen = regions_of(run, request.regions)
    return chosen if request.regions or not chosen else tuple(dict.fromkeys([*chosen, *copy_regions(run)]))
