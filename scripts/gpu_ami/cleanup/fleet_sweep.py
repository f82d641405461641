"""`invoke sweep --fleet`: what incomplete builds left in every account, judged by one graph, removed by each's role."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gpu_ami.aws.caller import Caller
from gpu_ami.cleanup.decide import SourceReport, find_blocks
from gpu_ami.cleanup.execute import Result
from gpu_ami.cleanup.fleet_tables import sweep_answer, sweep_outcome
from gpu_ami.cleanup.incomplete_builds import SweepPlan, SweepVerdict, decide_sweep, why_idle, without_images
from gpu_ami.cleanup.inventory import Location, Survey
from gpu_ami.cleanup.over_accounts import check_sharing, survey_of_fleet, with_right_to_change
from gpu_ami.cleanup.policy import SETTING
from gpu_ami.cleanup.sweep import (
    Ages,
    Leftovers,
    Request,
    act,
    ages_of,
    chosen_kinds,
    copy_regions,
    error_of,
    forget_builds,
    leftovers_of,
    next_step,
    plan_of,
    policy_of_sweep,
    time_reports,
    verdicts_on,
)
from gpu_ami.errors import AwsError, PartialError, SafetyError, then_raised
from gpu_ami.fleet.entry import Hub
from gpu_ami.fleet.fleet import find, regions_of, settings_of
from gpu_ami.fleet.narrowing import Narrowing, narrowing, region_setting
from gpu_ami.invocation import Invocation
from gpu_ami.locks import only_one
from gpu_ami.units import show_count


@dataclass(frozen=True, kw_only=True)
class FleetSweep:
    """What a sweep of a fleet would remove.

    Attributes:
        hub: The account that it is entered from.
        names: The accounts by their ids, with their names.
        plans: Of each account that could be entered.
        reports: How every query ended.
        images_kept: Why no AMI goes in any account; None where they may.
        narrowed: Which regions that are on are not swept, and what says so; None where all are.
    """

    hub: str
    names: Mapping[str, str]
    plans: tuple[SweepPlan, ...]
    reports: tuple[SourceReport, ...]
    images_kept: str | None = None
    narrowed: Narrowing | None = None

    @property
    def selected(self) -> list[tuple[str, SweepVerdict]]:
        """What would go, each with its account."""
        return [(plan.account, verdict) for plan in self.plans if not plan.blocks for verdict in plan.selected]

    @property
    def blocks(self) -> list[str]:
        """Why nothing goes in an account, with that account."""
        return [f"{self.label(plan.account)}: {block}" for plan in self.plans for block in plan.blocks]

    def label(self, account: str) -> str:
        """Return *account* with its name, where it has one."""
        name = self.names.get(account)
        return f"{account} ({name})" if name else account

    def problems(self) -> Iterator[str]:
        """Yield what could not be swept, account by account: a job should not look well then."""
        for report in self.reports:
            if report.name == "account" and report.status == "failed":
                yield f"what {self.label(str(report.account))} has stays: {report.error}"
        for block in self.blocks:
            yield f"what {block.partition(':')[0]} has stays:{block.partition(':')[2]}"
        if self.images_kept is not None and any(
            verdict.resource.kind == "image" and any(reason.detail == self.images_kept for reason in verdict.reasons)
            for plan in self.plans
            for verdict in plan.verdicts
        ):
            yield f"AMIs are kept: {self.images_kept}"

    def document(self) -> dict[str, Any]:
        """Return the plan as JSON-ready values; the contract with scripts."""
        verdicts = [{"account": plan.account, **one.document()} for plan in self.plans for one in plan.verdicts]
        going = len(self.selected)
        return {
            "account": self.hub,
            "accounts": [{"account": account, "name": name} for account, name in self.names.items()],
            "regions": sorted({region for plan in self.plans for region in plan.regions}),
            "narrowed": None if self.narrowed is None else self.narrowed.document(),
            "older_than_s": next((int(plan.older_than.total_seconds()) for plan in self.plans), 0),
            "sources": [report.document() for report in self.reports],
            "blocks": self.blocks,
            "verdicts": verdicts,
            "recycle_bin": [{"account": plan.account, **one.document()} for plan in self.plans for one in plan.bins],
            "totals": {"delete": going, "keep": len(verdicts) - going},
            "applied": False,
            "results": [],
            "journal": None,
            "journals": [],
        }


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


def make_plan(
    run: Invocation, survey: Survey, hub: str, names: Mapping[str, str], ages: Ages, kinds: Sequence[str]
) -> FleetSweep:
    """Return what a sweep of the fleet would remove now.

    What needs an AMI is read, in all accounts, only where an AMI would go: most sweeps find none.

    Args:
        run: The invocation.
        survey: Of the fleet; it has not queried anything yet.
        hub: The account that it is entered from.
        names: The accounts by their ids, with their names.
        ages: From when on a build is over.
        kinds: What to look for.
    """
    now = datetime.now(timezone.utc)
    leftovers = leftovers_of(survey.own_locations, kinds, run.settings.family, workers=survey.workers)
    aws_time = survey.aws_time
    verdicts = {one.account: _at_worst(one, ages, aws_time or now) for one in leftovers}
    if any(one.action == "delete" and one.resource.kind == "image" for some in verdicts.values() for one in some):
        survey.query()
        verdicts = verdicts_on(survey, leftovers, ages, aws_time or now)
    clock, seen = time_reports(aws_time, now), survey.reports
    listed = [report for one in leftovers for report in one.reports]
    blocks = find_blocks([report for report in (*seen, *listed) if report.status == "failed"], survey.policy)
    images_kept = blocks[0] if blocks and any(report.status == "failed" for report in (*seen, *listed)) else None
    of: dict[str, list[Location]] = {}
    for location in survey.own_locations:
        of.setdefault(location.account, []).append(location)
    plans = []
    for one in leftovers:
        some = verdicts[one.account]
        if why := _why_no_image(survey, some, one.account, images_kept):
            some = without_images(some, why)
        plans.append(plan_of(of[one.account], one, some, [*clock, *one.reports], survey, now))
    return FleetSweep(
        hub=hub, names=names, plans=tuple(plans), reports=(*clock, *seen, *listed), images_kept=images_kept
    )


def _at_worst(found: Leftovers, ages: Ages, now: datetime) -> list[SweepVerdict]:
    """Return the verdicts on what an account has as if nothing needed any AMI."""
    return decide_sweep(found.resources, (), {}, ages.older_than, now, ages.requested, found.unseen)


def _why_no_image(
    survey: Survey, verdicts: Sequence[SweepVerdict], account: str, images_kept: str | None
) -> str | None:
    """Return why no AMI of *account* goes; None where that is not so, or none would go anyway."""
    if not any(one.action == "delete" and one.resource.kind == "image" for one in verdicts):
        return None
    return images_kept or why_idle(survey, account)


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
