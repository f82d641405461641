"""`invoke cleanup`: surveys, plans, shows, deletes after confirmation, and restores from a journal."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Sequence
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

from gpu_ami import families
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.regions import requested_regions
from gpu_ami.cleanup import plan_document as plans
from gpu_ami.cleanup.carry_out import act, callers_of, tell_unfinished
from gpu_ami.cleanup.cleanup_request import Request
from gpu_ami.cleanup.decide import find_blocks
from gpu_ami.cleanup.execute import Result, blocked
from gpu_ami.cleanup.inventory import Survey
from gpu_ami.cleanup.journal import Journal, Replay, cut_short, read, unfinished
from gpu_ami.cleanup.plan_document import Plan
from gpu_ami.cleanup.plan_tables import View, loses, plan_tables, what_goes
from gpu_ami.cleanup.planner import make_plan
from gpu_ami.cleanup.policy import policy_from
from gpu_ami.cleanup.restore import Restored, restore
from gpu_ami.cleanup.result_tables import restored_table, result_tables
from gpu_ami.cleanup.scope import account_of, check_whose, chosen_regions, survey_of, whose
from gpu_ami.cleanup.snapshots import to_finish
from gpu_ami.cleanup.usage_reports import UsageReports, reports_of
from gpu_ami.console import Step
from gpu_ami.errors import PartialError, PipelineError, SafetyError, UsageError, then_raised
from gpu_ami.files import check_writable, write_atomic
from gpu_ami.invocation import Invocation
from gpu_ami.locks import only_one
from gpu_ami.units import show_count

__all__ = ["Request", "run"]

_PLAN = "clean-up plan"


def run(run: Invocation, request: Request) -> None:
    """Plan a clean-up and print it; carry it out if requested.

    Raises:
        UsageError: Flags or files cannot be used.
        AwsError: The account's AMIs cannot be listed at all.
        SafetyError: Nothing may be changed, and why.
        PartialError: It was carried out, but some of it failed.
    """
    request.check()
    families.refuse_beside(run, request.of_one_family)
    if request.restore:
        _restore(run, _file(run, request.restore), make_public=request.make_public, over_accounts=request.fleet)
        return
    if request.fleet:
        _over_accounts(run, request)
        return
    now = datetime.now(timezone.utc)
    _check_without_credentials(run, request, now)
    acts = (request.yes or request.apply is not None) and not run.options.dry_run
    # A plan with reports makes something, too.
    makes = request.flags.usage_reports and not run.options.dry_run
    account = whose(run, announces=acts or makes)
    saved = plans.load(_file(run, request.apply), account=account, now=now) if request.apply else None
    policy = saved.policy if saved else policy_from(run.settings, request.flags)
    if policy.keep == 0:
        run.console.warn("--keep 0: not even the newest AMI of a family stays if nothing needs it.")
    regions = list(saved.regions) if saved else chosen_regions(run, request.regions)
    # Those of the plan's accounts and of the settings by now: more eyes see more uses.
    roles = list(dict.fromkeys([*run.settings.cleanup.accounts, *(saved.roles if saved else request.accounts)]))
    survey = survey_of(run, policy, account, regions, roles=roles)
    wants_orphans = request.orphans or bool(saved and saved.orphans)
    with run.console.step(f"querying {show_count(len(survey.locations), 'region')} and the working tree") as step:
        prices = {location.region: _price(location.region) for location in survey.own_locations}
        plan = make_plan(
            survey,
            account,
            now,
            orphans=wants_orphans,
            usd_per_gib_month=prices,
            roles=roles,
            usage_reports=_usage_reports(run, survey, now, step),
            only=saved.images if saved else None,
        )
    _tell_unmatched(run, survey)
    if saved:
        # What else may go by now is not what somebody approved: neither done nor announced.
        plan = saved.cut(plan)
    if request.plan:
        write_atomic(Path(request.plan), json.dumps(plan.document(), indent=1) + "\n", what=_PLAN)
        run.console.say(f"Wrote {request.plan}.")
    # Markdown is for a report: whoever reads it cannot ask for more.
    is_full = request.wide or run.console.output == "markdown"
    view = View(all=request.all or is_full, wide=is_full, saved=saved, file=request.apply or "")
    if acts:
        _carry_out(run, plan, survey, view, permanent=request.permanent)
    else:
        _show(run, plan, view)
        tell_unfinished(run, survey)
        if advice := _next_step(request, plan, dry_run=run.options.dry_run):
            run.console.say(advice)
    _raise_blocks(plan)


def _over_accounts(run: Invocation, request: Request) -> None:
    """Plan for the accounts of a fleet together: by parts that were read before, for some owners, or for all."""
    from gpu_ami.cleanup import over_accounts, over_owners, over_parts

    over_accounts.check(request)
    if request.list is not None or request.references:
        over_parts.run(run, request)
    elif request.owners:
        over_owners.run(run, request)
    else:
        over_accounts.run(run, request)


def _usage_reports(run: Invocation, survey: Survey, now: datetime, step: Step) -> UsageReports | None:
    """Return what makes the image usage reports that the policy demands; None where none are to be made."""
    if run.options.dry_run or not survey.policy.usage_reports:
        return None
    callers = {location.place: location.caller for location in survey.own_locations}
    return reports_of(run, lambda *place: callers[place], now, step)


def _check_without_credentials(run: Invocation, request: Request, now: datetime) -> None:
    """Refuse flags that cannot be used: somebody without credentials is told of these first, not of those.

    Raises:
        UsageError: A flag's value, or the plan's file, cannot be used.
        SafetyError: The plan is not to be carried out any more.
    """
    if request.apply:
        saved = plans.load(_file(run, request.apply), account=None, now=now)
        check_whose(run, saved.policy, request.apply)
        return
    policy_from(run.settings, request.flags)
    requested_regions(request.regions)
    for role in (*run.settings.cleanup.accounts, *request.accounts):
        account_of(role)
    if request.plan:
        check_writable(Path(request.plan), what=_PLAN)


def _tell_unmatched(run: Invocation, survey: Survey) -> None:
    """Say that no AMI is in the scope that was asked for: a slip in a pattern reads like an account that is clean."""
    scope = survey.policy.scope
    if scope.name is None and not scope.tags:
        return
    if not any(scope.covers(image.name, image.tags) for image in survey.images):
        flags = [f"--name {scope.name!r}"] if scope.name is not None else []
        flags += [f"--tag {key}={value}" for key, value in scope.tags.items()]
        run.console.warn(
            f"{' with '.join(flags)} matches no AMI of {show_count(len(survey.images), 'AMI')}; * and ? stand for any "
            "characters, every other one for itself."
        )


def _show(run: Invocation, plan: Plan, view: View) -> None:
    tables = [] if run.console.output == "json" else plan_tables(plan, view)
    run.console.result(plan.document(), *tables)


def _next_step(request: Request, plan: Plan, *, dry_run: bool) -> str:
    """Return the one thing to do next after a plan was shown; empty where there is nothing to do."""
    if plan.decision.blocks or not (plan.decision.selected or plan.selected_orphans):
        return ""
    permanent = " --permanent" if loses(plan) and not request.permanent else ""
    if request.plan:
        how = f"run `invoke cleanup --apply {shlex.quote(request.plan)}{permanent}`"
    else:
        added = f"{'' if request.yes or request.apply else ' --yes'}{permanent}"
        how = " and ".join([*(["leave out --dry-run"] if dry_run else []), *([f"add{added}"] if added else [])])
    # Said again, as a small terminal shows no more than the end.
    but = " but image usage reports" if plan.asked and plan.asked.has_changed else ""
    return f"Nothing was changed{but}. {how[0].upper()}{how[1:]} to {what_goes(plan)}."


def _raise_blocks(plan: Plan) -> None:
    if plan.decision.blocks:
        more = len(plan.decision.blocks) - 1
        also = f" (and {more} more)" if more else ""
        msg = f"Everything is kept: {plan.decision.blocks[0]}{also}"
        raise SafetyError(msg)


def _carry_out(run: Invocation, plan: Plan, survey: Survey, view: View, *, permanent: bool) -> None:
    lost = plan.irrecoverable() if plan.policy.mode == "delete" or plan.selected_orphans else []
    if plan.decision.blocks or (lost and not permanent):
        _show(run, plan, view)
        _raise_blocks(plan)
        msg = (
            f"{len(lost)} of the AMIs and snapshots could not be brought back ({lost[0]}, …): make Recycle Bin rules "
            "for EC2_IMAGE and EBS_SNAPSHOT (new ones take up to 30 minutes to work), or add --permanent."
        )
        raise SafetyError(msg)
    with only_one(run.workspace.logs, "cleanup"):
        replays = unfinished(run.workspace.logs, plan.account)
        # What a killed run left behind goes now, too, even where no AMI of this plan does.
        left = [replay for replay in replays if to_finish(replay.entries.values(), survey.images)]
        if left and (blocks := find_blocks(plan.reports, plan.policy)):
            why = f"{run.workspace.shown(left[0].path)} of a killed run is to be finished, but {blocks[0]}"
            plan = dataclasses.replace(plan, decision=dataclasses.replace(plan.decision, blocks=(why,)))
            _show(run, plan, view)
            _raise_blocks(plan)
        callers = callers_of(survey)
        results, journal, cut = act(run, plan, survey, replays, callers, must_recover=not permanent)
    shown = run.workspace.shown(journal) if journal else None
    _finish(run, plan, results, shown, view, cut)


def _finish(
    run: Invocation,
    plan: Plan,
    results: Sequence[Result],
    journal: str | None,
    view: View,
    cut: PartialError | None,
) -> None:
    document = plan.document()
    document |= {"applied": True, "results": [result.document() for result in results], "journal": journal}
    tables = [] if run.console.output == "json" else result_tables(plan, results, journal, view)
    error: PipelineError | None = cut
    failed = [result for result in results if result.is_failed]
    if failed and error is None:
        error = PartialError(f"{len(failed)} of {len(results)} failed, {failed[0].image_id} first: {failed[0].error}")
    with then_raised(error or blocked(results)):
        run.console.result(document, *tables)


def _restore(run: Invocation, path: Path, *, make_public: bool, over_accounts: bool) -> None:
    replay = read(path)
    if run.options.dry_run:
        public = sum(entry.would_be_public for entry in replay.entries.values())
        more = "" if make_public or not public else f" Stay private without --make-public: {public}."
        run.console.would(f"bring back {_left_to_restore(replay)} of {path}.{more}")
        return
    account = run.announce().account
    access = run.access
    if over_accounts:
        from gpu_ami.cleanup.over_accounts import way_back

        access, account = way_back(run, replay.account), replay.account
    if replay.account != account:
        way = "another --profile, or add --fleet" if run.target.fleet is not None else "another --profile"
        msg = f"{path} is of account {replay.account}, the credentials are for {account}: choose {way}."
        raise SafetyError(msg)
    if not replay.entries and not replay.orphans:
        msg = f"{path} names no AMI or snapshot that `invoke cleanup` changed: there is nothing to bring back."
        raise UsageError(msg)
    with (
        only_one(run.workspace.logs, "cleanup"),
        Journal(path, is_new=False) as journal,
        run.console.step(f"bringing back {_left_to_restore(replay)}") as step,
    ):
        results = restore(replay, journal, lambda region: Caller(access, region), make_public=make_public)
        if results and all(result.status == "failed" for result in results):
            step.fail()
        refused = journal.refused
    document = {"account": account, "journal": str(path), "results": [result.document() for result in results]}
    with then_raised(_restore_error(replay, results, refused)):
        run.console.result(document, restored_table(results))


def _restore_error(replay: Replay, results: Sequence[Restored], refused: str | None) -> PipelineError | None:
    """Return how a restore ends: what failed, or what waits for somebody's word; None where all is well."""
    if refused:
        return cut_short(refused, sum(result.status == "restored" for result in results), len(results))
    failed = [result for result in results if result.status == "failed"]
    if failed:
        return PartialError(f"{len(failed)} of {len(results)} could not be brought back: {failed[0].error}")
    # Who was told already and did not consent keeps it private on purpose.
    told = {image_id for image_id, entry in replay.entries.items() if entry.stays_private}
    private = [r.image_id for r in results if r.stays_private and not (r.status == "unchanged" and r.image_id in told)]
    if not private:
        return None
    more = f" and {len(private) - 1} more" if len(private) > 1 else ""
    return SafetyError(
        f"Everybody could launch {private[0]}{more} before, and cannot now; all else is brought back. Add "
        "--make-public if the whole world is to launch it again."
    )


def _left_to_restore(replay: Replay) -> str:
    """Return how much a restore has to bring back, as far as the journal knows."""
    images = show_count(sum(entry.is_to_restore for entry in replay.entries.values()), "AMI")
    snapshots = sum(outcome.status not in ("kept", "failed", "restored") for _, outcome in replay.orphans.values())
    return f"{images} and {show_count(snapshots, 'orphan snapshot')}" if snapshots else images


def _file(run: Invocation, name: str) -> Path:
    """Return the file that the caller names, from where they are or, as our own messages say it, from the root."""
    return Path(name) if Path(name).exists() else run.workspace.root / name


def _price(region: str) -> Decimal | None:
    from gpu_ami.cost.price_table import load

    return load().rate(region, "snapshot_usd_per_gib_month").value
