"""`invoke cleanup --fleet`: one plan over all accounts and regions, carried out account by account."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.regions import requested_regions
from gpu_ami.cleanup import fleet_plan as plans
from gpu_ami.cleanup.carry_out import act, tell_unfinished
from gpu_ami.cleanup.cleanup_request import Request
from gpu_ami.cleanup.decide import SourceReport, find_blocks, why_nothing
from gpu_ami.cleanup.execute import Result, blocked
from gpu_ami.cleanup.fleet_merge import FRESH
from gpu_ami.cleanup.fleet_plan import FleetPlan, make_fleet_plan
from gpu_ami.cleanup.fleet_tables import answer_tables, outcome_tables
from gpu_ami.cleanup.grantees import Reached
from gpu_ami.cleanup.inventory import Location, Reading, Survey
from gpu_ami.cleanup.journal import Replay, all_unfinished
from gpu_ami.cleanup.plan_tables import View
from gpu_ami.cleanup.policy import SETTING, Flags, Policy, policy_from
from gpu_ami.cleanup.scope import check_whose, fast_restore_usd_per_hour, local_sources
from gpu_ami.cleanup.snapshots import to_finish
from gpu_ami.cleanup.usage_reports import UsageReports, reports_of
from gpu_ami.console import Step
from gpu_ami.errors import (
    AwsError,
    InterruptedRunError,
    PartialError,
    PipelineError,
    SafetyError,
    UsageError,
    then_raised,
)
from gpu_ami.files import check_writable, write_atomic
from gpu_ami.fleet.entry import Entered, Hub, hub_of, members_by
from gpu_ami.fleet.fleet import Found, find, regions_of, settings_of
from gpu_ami.fleet.fleet_list import Place, regions_to_read
from gpu_ami.fleet.narrowing import narrowing, region_setting
from gpu_ami.invocation import Invocation
from gpu_ami.locks import only_one
from gpu_ami.units import show_count

_PLAN = "clean-up plan"
_SHARING = frozenset({"launch-permissions", "public-snapshots"})


@dataclass(frozen=True, kw_only=True)
class Done:
    """What was done in one account.

    Attributes:
        account: Its id.
        results: What came of each AMI.
        journal: Where it is written down; None where nothing was begun.
    """

    account: str
    results: Sequence[Result]
    journal: Path | None


def check(request: Request) -> None:
    """Refuse flags that a fleet's clean-up does not take.

    Raises:
        UsageError: There is one.
    """
    _refuse({"--orphans": request.orphans, "--account": bool(request.accounts), "--all-owned": request.flags.all_owned})
    if request.list is not None and request.flags.usage_reports:
        msg = (
            "--usage-reports does not go with --list: whoever puts the parts together may write nothing. Leave it out."
        )
        raise UsageError(msg)


def check_survey_flags(flags: Flags) -> None:
    """Refuse those of *flags* that are about one account, or need more rights than to read.

    Raises:
        UsageError: One is given.
    """
    _refuse({"--usage-reports": flags.usage_reports, "--all-owned": flags.all_owned})


def _refuse(others: Mapping[str, bool]) -> None:
    for name, is_given in others.items():
        if is_given:
            msg = f"{name} does not go with --fleet, which reads every account of the fleet by itself: leave one out."
            raise UsageError(msg)


def check_sharing(policy: Policy, where: str) -> None:
    """Refuse a policy that leaves out who may launch an AMI: that decides whose reading counts.

    Args:
        policy: The policy, of flags, settings or a plan's file.
        where: What says so, for the message.

    Raises:
        UsageError: It does.
    """
    if unseen := sorted(_SHARING & policy.skip_sources):
        msg = f"{where} leaves out {unseen[0]}, by which a fleet decides who may need an AMI: take it out for --fleet."
        raise UsageError(msg)


def run(run: Invocation, request: Request) -> None:
    """Plan a clean-up of the fleet and print it; carry it out if requested.

    Raises:
        UsageError: Flags, settings or files cannot be used.
        AwsError: The hub cannot be entered, or its accounts cannot be listed.
        SafetyError: Nothing may be changed, and why.
        PartialError: It was carried out, but some of it failed.
    """
    now = datetime.now(timezone.utc)
    acts = (request.yes or request.apply is not None) and not run.options.dry_run
    _forget_old_readings(run, now, acts=acts)
    _check_without_credentials(run, request, now)
    fleet = settings_of(run)
    # A plan with reports makes something, too.
    if acts or (request.flags.usage_reports and not run.options.dry_run):
        run.announce()
    with run.console.step("entering the accounts of the fleet"):
        found = find(run, fleet)
    hub = found.hub.identity.account
    saved = plans.load(saved_file(run, request.apply), hub=hub, now=now) if request.apply else None
    policy = saved.policy if saved else policy_from(run.settings, request.flags)
    regions = regions_of(run, request.regions)
    units = fleet.organization.ou_paths if fleet.organization else ()
    again = saved.places if saved else ()
    reading = _reading(run, policy, regions, now)
    if reading is not None:
        # So a plan is as old as what it was made from, and the clock is compared with AWS's of then.
        now = reading.began
    survey = survey_of_fleet(run, policy, found, regions, units=units, again=again, reading=reading)
    title = f"querying {show_count(len(survey.locations), 'place')} and the working tree"
    with run.console.step(title) as step:
        names = {one.member.account: one.member.name for one in found.entered}
        plan = make_fleet_plan(
            survey,
            hub,
            now,
            names=names,
            usd_per_gib_month=prices_of(survey),
            narrowed=narrowing(found.entered, survey.places, region_setting(run, request.regions)),
            usage_reports=usage_reports_of(run, policy, found.hub, fleet.cleanup_role, now, step),
            only=saved.to_report_on if saved else None,
        )
    if saved:
        plan = plan.cut(saved)
    if acts and not plan.decision.blocks:
        write_plan(run, request, plan)
        carry_out(run, request, plan, survey, found.hub, role=fleet.cleanup_role)
    else:
        tell_unfinished(run, survey)
        show(run, request, plan, survey)


def usage_reports_of(
    run: Invocation, policy: Policy, hub: Hub, role: str, now: datetime, step: Step
) -> UsageReports | None:
    """Return what makes the image usage reports that *policy* demands; None where none are to be made.

    They are made by the role that may change an account: one that plans writes nothing.
    """
    if run.options.dry_run or not policy.usage_reports:
        return None
    ways: dict[str, Access | AwsError] = {}

    def caller(account: str, region: str) -> Caller:
        if account not in ways:
            try:
                ways[account] = with_right_to_change(hub, role, account)
            except AwsError as exc:
                # It may have hundreds of AMIs, and STS asked about each would hold the others' reports up.
                ways[account] = exc
        way = ways[account]
        if isinstance(way, AwsError):
            raise way
        return Caller(way, region)

    return reports_of(run, caller, now, step)


def write_plan(run: Invocation, request: Request, plan: FleetPlan) -> None:
    """Write the plan to the file that was requested, if one was.

    Raises:
        UsageError: It cannot be written.
    """
    if request.plan:
        write_atomic(Path(request.plan), json.dumps(plan.document(), indent=1) + "\n", what=_PLAN)
        run.console.say(f"Wrote {request.plan}.")


def show(run: Invocation, request: Request, plan: FleetPlan, survey: Survey) -> None:
    """Show a plan that is not carried out, write it, and say what to do next.

    Raises:
        UsageError: The plan's file cannot be written.
        SafetyError: Everything is kept, and why.
    """
    write_plan(run, request, plan)
    run.console.result(plan.document(), *answer_tables(plan, survey, view_of(request)))
    if advice := _next_step(request, plan, dry_run=run.options.dry_run):
        run.console.say(advice)
    if plan.decision.blocks:
        more = len(plan.decision.blocks) - 1
        also = f" (and {more} more)" if more else ""
        msg = f"Everything is kept: {plan.decision.blocks[0]}{also}"
        raise SafetyError(msg)


def view_of(request: Request) -> View:
    """Return how much of a plan is shown."""
    return View(all=request.all or request.wide, wide=request.wide)


def prices_of(survey: Survey) -> dict[str, Decimal | None]:
    """Return the price of snapshot storage in each region of *survey*."""
    return {name: _price(name) for name in {location.region for location in survey.locations}}


def _check_without_credentials(run: Invocation, request: Request, now: datetime) -> None:
    if request.apply:
        check_saved(run, request.apply, now)
        return
    check_sharing(policy_from(run.settings, request.flags), f"--skip-source or {SETTING}")
    requested_regions(request.regions)
    if request.plan:
        check_writable(Path(request.plan), what=_PLAN)


def check_saved(run: Invocation, file: str, now: datetime) -> plans.SavedFleetPlan:
    """Return the saved plan in *file*, checked as far as that needs no credentials.

    Raises:
        UsageError: It is none, or its policy leaves out what a fleet decides by.
        SafetyError: It is not to be carried out any more, or is another family's.
    """
    saved = plans.load(saved_file(run, file), hub=None, now=now)
    check_whose(run, saved.policy, file)
    check_sharing(saved.policy, f"the policy of {file}")
    return saved


def saved_file(run: Invocation, name: str) -> Path:
    """Return the file that is called *name* here, or in the repository."""
    return Path(name) if Path(name).exists() else run.workspace.root / name


def regions_again(one: Entered, regions: Sequence[str], places: Collection[Place]) -> list[str]:
    """Return the regions of an account that are read: those chosen by now, and those by which a saved plan was made.

    The settings may name fewer than the plan was made by, and a text in one of the others may name what goes.

    Args:
        one: The account.
        regions: The regions to read; empty for all that it has.
        places: Where the saved plan's sources were queried; empty without one.
    """
    chosen = regions_to_read(one, regions)
    return [name for name in one.regions if name in chosen or (one.member.account, name) in places]


def survey_of_fleet(
    run: Invocation,
    policy: Policy,
    found: Found,
    regions: Sequence[str],
    *,
    units: Sequence[str],
    again: Collection[Place] = (),
    reading: Reading | None = None,
) -> Survey:
    """Return a survey of every place of the fleet, and of the working tree.

    Args:
        run: The invocation.
        policy: What decides.
        found: The fleet, entered.
        regions: The regions to read; empty for all that each account has.
        units: The units to which the fleet is confined.
        again: The places that are read whatever *regions* says: those by which a saved plan was made.
        reading: What was read of the same places before.
    """
    places = [(one, name) for one in found.entered if one.access for name in regions_again(one, regions, again)]
    locations = [Location(Caller(one.access, name), one.member.account) for one, name in places if one.access]
    read = frozenset((location.account, location.region) for location in locations)
    off = frozenset((one.member.account, name) for one in found.entered for name in one.off)
    reached = Reached(
        members={one.member.account: one.member for one in found.entered},
        organization=found.listed.organization,
        units=tuple(units),
        read=read,
        off=off,
    )
    return Survey(
        locations,
        policy,
        local=local_sources(run, policy),
        failed_accounts=[*account_reports(found.entered)],
        fast_restore_usd_per_hour=fast_restore_usd_per_hour,
        reached=reached,
        reading=reading,
    )


def _forget_old_readings(run: Invocation, now: datetime, *, acts: bool) -> None:
    """Have everything read anew where what the families before this one have read is too old, or this one *acts*.

    The last check before an act reads all uses again, but neither which accounts there are nor which regions they have
    switched on: whoever has joined since the reading of a family before, whose plan came to nothing, would not be seen.
    """

    def began() -> datetime:
        return run.once("when the reading of the families began", lambda: now)

    if acts or now - began() > FRESH:
        run.forget_readings()
        began()


def _reading(run: Invocation, policy: Policy, regions: Sequence[str], now: datetime) -> Reading | None:
    """Return what the families before this one have read; None where there is one family only.

    What a policy leaves out and how many versions it reads, with the regions, decides what is read; all else of it
    what becomes of that.
    """
    if run.readings is None:
        return None
    key = ("survey", policy.skip_sources, policy.template_versions, tuple(regions))
    return run.once(key, lambda: Reading(now))


def account_reports(entered: Iterable[Entered]) -> Iterable[SourceReport]:
    """Yield what keeps everything, or is by somebody's decision not read, of each account."""
    for one in entered:
        account, decision = one.member.account, one.member.left_out
        if one.trouble is not None:
            error = f"{one.trouble}. {one.fix[0].upper()}{one.fix[1:]}" if one.fix else one.trouble
            yield SourceReport("account", None, "failed", account, error=error, is_use=False)
        elif decision is not None:
            error = f"{one.member.label} is left out until {decision.until}: {decision.reason}"
            yield SourceReport("account", None, "skipped", account, error=error, is_use=False)


def carry_out(run: Invocation, request: Request, plan: FleetPlan, survey: Survey, hub: Hub, *, role: str) -> None:
    """Carry *plan* out, account by account, and show what came of it.

    Args:
        run: The invocation.
        request: What was requested.
        plan: What to do.
        survey: What it was made from; it is queried again.
        hub: Where the accounts are entered from.
        role: The role of each that may change it.

    Raises:
        SafetyError: Nothing may be changed, or the last check before an act kept what was left.
        PartialError: Some of it failed.
    """
    run.forget_readings()
    permanent, view = request.permanent, view_of(request)
    lost = plan.irrecoverable() if plan.policy.mode == "delete" else []
    if lost and not permanent:
        run.console.result(plan.document(), *answer_tables(plan, survey, view))
        msg = (
            f"{len(lost)} of the AMIs could not be brought back ({lost[0]}, …): make Recycle Bin rules for EC2_IMAGE "
            "and EBS_SNAPSHOT in their accounts (new ones take up to 30 minutes to work), or add --permanent."
        )
        raise SafetyError(msg)
    with only_one(run.workspace.logs, "cleanup"):
        earlier = all_unfinished(run.workspace.logs)
        killed = _killed(earlier, survey)
        blocks = _blocks_of_finishing(run, killed, survey)
        if blocks:
            # It ends with the first of them.
            decision = dataclasses.replace(plan.decision, blocks=blocks)
            show(run, request, dataclasses.replace(plan, decision=decision), survey)
        idle = _idle(run, plan, killed, survey)
        accounts = sorted({*plan.owners, *(killed.keys() - idle.keys())})
        # Before anything goes: half a fleet done is what nobody wants to explain.
        ways = {account: _way_in(hub, role, account) for account in accounts}
        done: list[Done] = []
        error: PipelineError | None = None
        for account in accounts:
            replays = [replay for replay in earlier if replay.account == account and account not in idle]
            try:
                part, cut = _one_account(run, plan, survey, ways[account], account, replays, must_recover=not permanent)
            except InterruptedRunError as exc:
                # What was done in the accounts before is to be shown, with the way back.
                error = exc
                break
            done.append(part)
            if cut is not None:
                error = cut
                break
    document = plan.document() | {
        "applied": True,
        "results": [{"account": one.account, **result.document()} for one in done for result in one.results],
        "journals": [
            {"account": one.account, "journal": run.workspace.shown(one.journal)} for one in done if one.journal
        ],
    }
    error = error or failure_of([(one.account, result) for one in done for result in one.results])
    with then_raised(error or next(iter(idle.values()), None)):
        journals = {one.account: run.workspace.shown(one.journal) for one in done if one.journal}
        results = {one.account: one.results for one in done}
        run.console.result(document, *outcome_tables(plan, survey, results, journals, view))


def _killed(earlier: Iterable[Replay], survey: Survey) -> dict[str, list[Replay]]:
    """Return those of the *earlier* runs that left snapshots of AMIs that they deleted, by account.

    They are to be finished. What is in a place that is not read is left to a run that reads it.
    """
    here = {location.place for location in survey.own_locations}
    found: dict[str, list[Replay]] = {}
    for replay in earlier:
        entries = to_finish(replay.entries.values(), survey.images)
        if any((replay.account, entry.image.region) in here for entry in entries):
            found.setdefault(replay.account, []).append(replay)
    return found


def _blocks_of_finishing(run: Invocation, killed: Mapping[str, Sequence[Replay]], survey: Survey) -> tuple[str, ...]:
    """Read what may need what earlier runs have left; return why nothing may be changed; empty where that is read.

    They may have deleted the last AMI of a region: then the plan has read nothing there but texts.
    """
    replays = [replay for some in killed.values() for replay in some]
    if not replays:
        return ()
    survey.query_regions({entry.image.region for replay in replays for entry in replay.entries.values()})
    failed = find_blocks(survey.reports, survey.policy, is_change=False)
    shown = run.workspace.shown(replays[0].path)
    return tuple(f"{shown} of a killed run is to be finished, but {why}" for why in failed)


def _idle(
    run: Invocation, plan: FleetPlan, killed: Mapping[str, Sequence[Replay]], survey: Survey
) -> dict[str, SafetyError]:
    """Return the accounts in which earlier runs are not finished, and why: no use of any AMI of theirs was seen."""
    quiet = set() if plan.policy.allow_no_references else killed.keys() - survey.used_accounts
    return {
        account: SafetyError(
            f"{run.workspace.shown(killed[account][0].path)} of a killed run is left unfinished: {why_nothing(account)}"
        )
        for account in sorted(quiet)
    }


def with_right_to_change(hub: Hub, role: str, account: str) -> Access:
    """Return the access that may change *account*.

    Raises:
        AwsError: Nobody gets in.
    """
    return hub.access if account == hub.identity.account else hub.enter(hub.role(account, role), account)


def _way_in(hub: Hub, role: str, account: str) -> Access:
    """Return the access that may change *account*.

    Raises:
        SafetyError: Nobody gets in; nothing was changed anywhere.
    """
    try:
        return with_right_to_change(hub, role, account)
    except AwsError as exc:
        msg = f"Nothing was changed in any account: {str(exc).rstrip('.')}. Make the role as docs/fleet.md says."
        raise SafetyError(msg) from exc


def way_back(run: Invocation, account: str) -> Access:
    """Return the access that brings back what was deleted in *account*.

    Raises:
        UsageError: The settings have no fleet, or the fleet does not have that account.
        SafetyError: Nobody gets in.
    """
    fleet = settings_of(run)
    hub = hub_of(run.access, fleet)
    # Nobody else is entered: to bring something back must not wait for those that nobody can enter.
    members = members_by(hub, fleet, datetime.now(timezone.utc).date()).members
    if account not in {member.account for member in members}:
        msg = f"The fleet does not have account {account}, of which the journal is: name it in pipeline.yaml."
        raise UsageError(msg)
    return _way_in(hub, fleet.cleanup_role, account)


def _one_account(
    run: Invocation,
    plan: FleetPlan,
    survey: Survey,
    access: Access,
    account: str,
    replays: Sequence[Replay],
    *,
    must_recover: bool,
) -> tuple[Done, PartialError | None]:
    regions = {location.region for location in survey.own_locations if location.account == account}
    callers: Mapping[str, Caller] = {name: Caller(access, name) for name in regions}
    results, journal, cut = act(run, plan.of(account), survey, replays, callers, must_recover=must_recover)
    return Done(account=account, results=results, journal=journal), cut


def failure_of(results: Sequence[tuple[str, Result]]) -> PipelineError | None:
    """Return how a clean-up ended, by what came of each AMI and its account; None where all went well."""
    failed = [(account, result) for account, result in results if result.is_failed]
    if failed:
        account, first = failed[0]
        return PartialError(
            f"{len(failed)} of {len(results)} failed, {first.image_id} of {account} first: {first.error}"
        )
    return blocked([result for _, result in results])


def _next_step(request: Request, plan: FleetPlan, *, dry_run: bool) -> str:
    if plan.decision.blocks or not plan.decision.selected:
        return ""
    permanent = " --permanent" if plan.irrecoverable() and not request.permanent else ""
    if request.plan:
        how = f"run `invoke cleanup --fleet --apply {shlex.quote(request.plan)}{permanent}`"
    else:
        added = f"{'' if request.yes or request.apply else ' --yes'}{permanent}"
        how = " and ".join([*(["leave out --dry-run"] if dry_run else []), *([f"add{added}"] if added else [])])
    going = show_count(len(plan.decision.selected), "AMI")
    where = show_count(len(plan.owners), "account")
    # Said again, as a small terminal shows no more than the end.
    but = " but image usage reports" if plan.asked and plan.asked.has_changed else ""
    return f"Nothing was changed{but}. {how[0].upper()}{how[1:]} to {plan.policy.mode} {going} of {where}."


def _price(region: str) -> Decimal | None:
    from gpu_ami.cost.price_table import load

    return load().rate(region, "snapshot_usd_per_gib_month").value
