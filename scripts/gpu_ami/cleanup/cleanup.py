"""`invoke cleanup`: surveys, plans, shows, deletes after confirmation, and restores from a journal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_ami.aws.access import identify
from gpu_ami.aws.caller import Caller
from gpu_ami.cleanup import plan_document as plans
from gpu_ami.cleanup import plan_tables
from gpu_ami.cleanup.decide import find_blocks
from gpu_ami.cleanup.execute import Apply, Result, selected_verdicts
from gpu_ami.cleanup.inventory import Survey
from gpu_ami.cleanup.journal import Journal, JournalError, Replay, cut_short, new_path, read, unfinished
from gpu_ami.cleanup.journal_events import Begin, Done, End, Left, outcome_texts
from gpu_ami.cleanup.plan_document import Plan, SavedPlan
from gpu_ami.cleanup.planner import make_plan
from gpu_ami.cleanup.policy import Flags, policy_from
from gpu_ami.cleanup.restore import restore
from gpu_ami.cleanup.scope import chosen_regions, survey_of
from gpu_ami.cleanup.snapshots import OrphanedSnapshots, to_finish
from gpu_ami.errors import InterruptedRunError, PartialError, SafetyError, UsageError
from gpu_ami.files import write_atomic
from gpu_ami.invocation import Invocation
from gpu_ami.locks import only_one

if TYPE_CHECKING:
    from gpu_ami.console import Table


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke cleanup`` requested, beside the policy.

    Attributes:
        flags: What decides.
        regions: Regions, or ``all``; empty takes the settings'.
        accounts: Roles in other accounts, beside the settings'.
        orphans: Whether to find orphan snapshots.
        plan: Where to write the plan.
        apply: The plan to carry out.
        restore: The journal to undo.
        yes: Whether to act.
        permanent: Whether what cannot be brought back may go.
    """

    flags: Flags = field(default_factory=Flags)
    regions: Sequence[str] = ()
    accounts: Sequence[str] = ()
    orphans: bool = False
    plan: str | None = None
    apply: str | None = None
    restore: str | None = None
    yes: bool = False
    permanent: bool = False

    def check(self) -> None:
        """Refuse flags that contradict each other.

        Raises:
            UsageError: They do.
        """
        if self.apply and (self.plan or self.orphans or self.regions or self.accounts or self.flags != Flags()):
            msg = "--apply takes everything from its plan: leave out the other flags but --permanent."
            raise UsageError(msg)
        if self.restore and (self.plan or self.apply or self.orphans or self.yes or self.flags != Flags()):
            msg = "--restore takes everything from its journal: leave out the other flags."
            raise UsageError(msg)


def run(run: Invocation, request: Request) -> None:
    """Plan a clean-up and print it; carry it out if requested.

    Raises:
        UsageError: Flags or files cannot be used.
        AwsError: The account's AMIs cannot be listed at all.
        SafetyError: Nothing may be changed, and why.
        PartialError: It was carried out, but some of it failed.
    """
    request.check()
    if request.restore:
        _restore(run, _file(run, request.restore))
        return
    now = datetime.now(timezone.utc)
    acts = (request.yes or request.apply is not None) and not run.options.dry_run
    account = (run.announce() if acts else identify(run.access)).account
    saved = plans.load(_file(run, request.apply), account=account, now=now) if request.apply else None
    policy = saved.policy if saved else policy_from(run.settings, request.flags)
    if policy.keep == 0:
        run.console.warn("--keep 0: not even the newest AMI of a family stays if nothing needs it.")
    regions = list(saved.regions) if saved else chosen_regions(run, request.regions)
    # Those of the plan's accounts and of the settings by now: more eyes see more uses.
    roles = list(dict.fromkeys([*run.settings.cleanup.accounts, *(saved.roles if saved else request.accounts)]))
    survey = survey_of(run, policy, account, regions, roles=roles)
    wants_orphans = request.orphans or bool(saved and saved.orphans)
    with run.console.step(f"querying {len(survey.locations)} regions and the working tree"):
        prices = {location.region: _price(location.region) for location in survey.own_locations}
        plan = make_plan(survey, account, now, orphans=wants_orphans, usd_per_gib_month=prices, roles=roles)
    if request.plan:
        write_atomic(Path(request.plan), json.dumps(plan.document(), indent=1) + "\n", what="clean-up plan")
        run.console.say(f"Wrote {request.plan}; carry it out with `invoke cleanup --apply {request.plan}`.")
    if acts:
        _carry_out(run, plan, survey, saved, permanent=request.permanent)
    else:
        _show(run, plan)
        _tell_unfinished(run, plan.account, survey)
    _raise_blocks(plan)


def _tell_unfinished(run: Invocation, account: str, survey: Survey) -> None:
    """Say what `--yes` would do beside the plan: the snapshots of AMIs that a killed run deleted go, too."""
    here = {location.region for location in survey.own_locations}
    try:
        replays = unfinished(run.workspace.logs, account)
    except UsageError as exc:
        run.console.warn(f"{exc} Until then --yes is refused.")
        return
    for replay in replays:
        entries = to_finish(replay.entries.values(), survey.images)
        left = [entry for entry in entries if entry.image.region in here]
        if left:
            what = f"AMIs whose snapshots it left: {len(left)}"
            name = run.workspace.shown(replay.path)
            run.console.warn(f"{name} is of a run that was cut off: --yes finishes it first ({what}).")


def _show(run: Invocation, plan: Plan) -> None:
    tables = [] if run.console.output == "json" else [plan_tables.source_table(plan), *_plan_tables(plan)]
    run.console.result(plan.document(), *tables)
    if (plan.decision.selected or plan.selected_orphans) and not plan.decision.blocks:
        how = "Leave out --dry-run" if run.options.dry_run else "Add --yes"
        run.console.say(f"Nothing was changed. {how} to carry this out.")


def _plan_tables(plan: Plan) -> list[Table]:
    return [plan_tables.plan_table(plan), *plan_tables.orphan_tables(plan)]


def _raise_blocks(plan: Plan) -> None:
    if plan.decision.blocks:
        more = len(plan.decision.blocks) - 1
        also = f" (and {more} more)" if more else ""
        msg = f"Everything is kept: {plan.decision.blocks[0]}{also}"
        raise SafetyError(msg)


def _carry_out(run: Invocation, plan: Plan, survey: Survey, saved: SavedPlan | None, *, permanent: bool) -> None:
    lost = plan.irrecoverable() if plan.policy.mode == "delete" or plan.selected_orphans else []
    if plan.decision.blocks or (lost and not permanent):
        _show(run, plan)
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
            _show(run, plan)
            _raise_blocks(plan)
        results, journal, refused = _act(run, plan, survey, saved, replays, must_recover=not permanent)
    shown = run.workspace.shown(journal) if journal else None
    _finish(run, plan, results, shown, refused)


def _act(
    run: Invocation,
    plan: Plan,
    survey: Survey,
    saved: SavedPlan | None,
    replays: Sequence[Replay],
    *,
    must_recover: bool,
) -> tuple[list[Result], Path | None, str | None]:
    """Carry the plan out; return what came of it, the journal, and why that could not be written on, if so."""
    selected = selected_verdicts(plan, saved.images if saved else None)
    orphans = [
        orphan
        for orphan in plan.selected_orphans
        if saved is None or (orphan.snapshot.region, orphan.snapshot.snapshot_id) in saved.orphans
    ]
    if not selected and not orphans and not replays:
        return [], None, None
    path = new_path(run.workspace.logs, plan.made_at)
    try:
        with Journal(path) as journal:
            journal.write(Begin(account=plan.account, policy=plan.policy.document()))
            results: list[Result] = []
            try:
                _resume(run, survey, replays, journal)
                apply = Apply(plan, survey, journal, now=lambda: datetime.now(timezone.utc), must_recover=must_recover)
                with run.console.step(f"{plan.policy.mode} {len(selected)} AMIs"):
                    results = [*apply.images(selected), *apply.orphans(orphans)]
                journal.write(End(failed=sum(result.is_failed for result in results)))
            except JournalError as exc:
                # What has gone by now is to be shown.
                return results, path, str(exc)
    except KeyboardInterrupt as exc:
        msg = f"Interrupted; what was done is in {run.workspace.shown(path)}, and a new run finishes it."
        raise InterruptedRunError(msg) from exc
    return results, path, None


def _resume(run: Invocation, survey: Survey, replays: Sequence[Replay], journal: Journal) -> None:
    """Finish the runs that were killed or lost an answer, and say in their journals who did."""
    callers = {location.region: location.caller for location in survey.own_locations}
    alive = {image.image_id for image in survey.images}
    for replay in replays:
        finished = OrphanedSnapshots(survey, journal).resume(callers, replay.entries.values())
        with Journal(replay.path, is_new=False) as old:
            for image_id, outcomes in finished.items():
                old.write(Done(image_id=image_id, snapshots=outcome_texts(outcomes)))
            for image_id in sorted(alive & {key for key, entry in replay.entries.items() if entry.is_open}):
                old.write(Left(image_id=image_id))
            is_failed = any(outcome.is_failed for outcomes in finished.values() for outcome in outcomes.values())
            elsewhere = {entry.image.region for entry in replay.entries.values()} - set(callers)
            if not is_failed and not elsewhere:
                old.write(End(by=journal.path.name))
        run.console.say(f"Finished what {run.workspace.shown(replay.path)} had begun.")


def _finish(
    run: Invocation, plan: Plan, results: Sequence[Result], journal: str | None, refused: str | None = None
) -> None:
    document = plan.document()
    document |= {"applied": True, "results": [result.document() for result in results], "journal": journal}
    tables = [] if run.console.output == "json" else [*_plan_tables(plan), plan_tables.result_table(results, journal)]
    run.console.result(document, *tables)
    if refused:
        raise cut_short(refused, sum(result.is_done for result in results), len(results))
    failed = [result for result in results if result.is_failed]
    if failed:
        msg = f"{len(failed)} of {len(results)} failed, {failed[0].image_id} first: {failed[0].error}"
        raise PartialError(msg)


def _restore(run: Invocation, path: Path) -> None:
    replay = read(path)
    if run.options.dry_run:
        run.console.say(f"DRY RUN: would bring back {len(replay.entries)} AMIs of {path}.")
        return
    account = run.announce().account
    if replay.account != account:
        msg = f"{path} is of account {replay.account}, the credentials are for {account}: choose another --profile."
        raise SafetyError(msg)
    if not replay.entries and not replay.orphans:
        msg = f"{path} names no AMI or snapshot that `invoke cleanup` changed: there is nothing to bring back."
        raise UsageError(msg)
    with (
        only_one(run.workspace.logs, "cleanup"),
        Journal(path, is_new=False) as journal,
        run.console.step(f"bringing back {len(replay.entries)} AMIs"),
    ):
        results = restore(replay, journal, lambda region: Caller(run.access, region))
        refused = journal.refused
    document = {"account": account, "journal": str(path), "results": [result.document() for result in results]}
    run.console.result(document, plan_tables.restored_table(results))
    if refused:
        raise cut_short(refused, sum(result.status == "restored" for result in results), len(results))
    failed = [result for result in results if result.status == "failed"]
    if failed:
        msg = f"{len(failed)} of {len(results)} could not be brought back: {failed[0].error}"
        raise PartialError(msg)


def _file(run: Invocation, name: str) -> Path:
    """Return the file that the caller names, from where they are or, as our own messages say it, from the root."""
    return Path(name) if Path(name).exists() else run.workspace.root / name


def _price(region: str) -> Decimal | None:
    from gpu_ami.cost.price_table import load

    return load().rate(region, "snapshot_usd_per_gib_month").value
