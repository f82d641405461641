"""Carries the clean-up plan of one account out: first what earlier runs left undone, then the plan, all journalled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from gpu_ami.aws.caller import Caller
from gpu_ami.cleanup.execute import Apply, Result
from gpu_ami.cleanup.inventory import Survey
from gpu_ami.cleanup.journal import Journal, JournalError, Replay, all_unfinished, cut_short, new_path
from gpu_ami.cleanup.journal_events import LEFT, Begin, Done, End, Left, SnapshotOutcome, outcome_texts
from gpu_ami.cleanup.plan_document import Plan
from gpu_ami.cleanup.snapshots import OrphanedSnapshots, to_finish
from gpu_ami.errors import InterruptedRunError, PartialError, UsageError
from gpu_ami.invocation import Invocation
from gpu_ami.units import show_count


def callers_of(survey: Survey) -> dict[str, Caller]:
    """Return what may change the one account of *survey*, by region."""
    return {location.region: location.caller for location in survey.own_locations}


def tell_unfinished(run: Invocation, survey: Survey) -> None:
    """Say what `--yes` would do beside the plan: the snapshots of AMIs that a killed run deleted go, too."""
    here = {location.place for location in survey.own_locations}
    try:
        replays = all_unfinished(run.workspace.logs)
    except UsageError as exc:
        run.console.warn(f"{exc} Until then --yes is refused.")
        return
    for replay in replays:
        entries = to_finish(replay.entries.values(), survey.images)
        left = [entry for entry in entries if (replay.account, entry.image.region) in here]
        if left:
            what = f"AMIs whose snapshots it left: {len(left)}"
            name = run.workspace.shown(replay.path)
            run.console.warn(f"{name} is of a run that was cut off: --yes finishes it first ({what}).")


def act(
    run: Invocation,
    plan: Plan,
    survey: Survey,
    replays: Sequence[Replay],
    callers: Mapping[str, Caller],
    *,
    must_recover: bool,
) -> tuple[list[Result], Path | None, PartialError | None]:
    """Carry the plan of one account out; return what came of it, the journal, and the error where that failed.

    Args:
        run: The invocation.
        plan: What to do.
        survey: What the plan was made from; it is queried again.
        replays: Earlier runs in this account that are to be finished first.
        callers: By region, what may change it.
        must_recover: Whether what goes first by a Recycle Bin rule must be seen in the bin before anything else does.

    Raises:
        InterruptedRunError: Somebody interrupted it.
    """
    selected, orphans = plan.decision.selected, plan.selected_orphans
    if not selected and not orphans and not replays:
        return [], None, None
    path = new_path(run.workspace.logs, plan.made_at)
    try:
        with Journal(path) as journal:
            journal.write(Begin(account=plan.account, policy=plan.policy.document()))
            results: list[Result] = []
            try:
                finisher = _Finisher(survey, callers, _readers_of(survey, plan.account), must_recover=must_recover)
                results += _resume(run, finisher, replays, journal)
                apply = Apply(
                    plan,
                    survey,
                    journal,
                    callers,
                    now=lambda: datetime.now(timezone.utc),
                    must_recover=must_recover,
                )
                with run.console.step(f"{plan.policy.mode} {show_count(len(selected), 'AMI')}") as step:
                    results += [*apply.images(selected), *apply.orphans(orphans)]
                    if results and all(result.is_failed for result in results):
                        step.fail()
                journal.write(End(failed=sum(result.is_failed for result in results)))
            except _NotBegunError as exc:
                return [], path, exc
            except JournalError as exc:
                # What has gone by now is to be shown.
                return results, path, cut_short(str(exc), sum(result.is_done for result in results), len(results))
    except KeyboardInterrupt as exc:
        msg = f"Interrupted; what was done is in {run.workspace.shown(path)}, and a new run finishes it."
        raise InterruptedRunError(msg) from exc
    return results, path, None


def _readers_of(survey: Survey, account: str) -> dict[str, Caller]:
    """Return what reads *account*, by region: of a fleet another role than the one that may change it."""
    return {location.region: location.caller for location in survey.own_locations if location.account == account}


class _NotBegunError(PartialError):
    """A journal could not be written while an earlier run was finished: this plan's turn did not come."""


@dataclass(frozen=True)
class _Finisher:
    """What finishes earlier runs in one account.

    Attributes:
        survey: Knows what needs what they have left.
        callers: By region, what may change the account.
        readers: By region, what reads it.
        must_recover: Whether what no rule of the Recycle Bin keeps stays.
    """

    survey: Survey
    callers: Mapping[str, Caller]
    readers: Mapping[str, Caller]
    must_recover: bool

    def finish(self, replay: Replay, journal: Journal) -> tuple[str | None, list[Result]]:
        """Finish one run; return why it is not finished, None where it is, and the AMIs of which something failed."""
        entries = replay.entries.values()
        finished = OrphanedSnapshots(self.survey, journal).resume(
            self.callers, entries, readers=self.readers, must_recover=self.must_recover
        )
        if journal.refused:
            # The rest of the snapshots was left for the next run: the earlier journal must not say that it is finished.
            raise JournalError(journal.refused)
        with Journal(replay.path, is_new=False) as old:
            for image_id, outcomes in finished.items():
                old.write(Done(image_id=image_id, snapshots=outcome_texts(outcomes)))
            # It is there still; or it was to be set aside, and somebody has deleted it since.
            read = {
                key for key, entry in replay.entries.items() if entry.is_open and entry.image.region in self.callers
            }
            for image_id in sorted(read - finished.keys()):
                old.write(Left(image_id=image_id))
            open_ = [
                f"{key}: {outcome.reason or outcome.status}"
                for outcomes in finished.values()
                for key, outcome in outcomes.items()
                if outcome.is_failed or outcome == LEFT
            ]
            open_ += [
                f"{name} was not read" for name in sorted({entry.image.region for entry in entries} - set(self.callers))
            ]
            if not open_:
                old.write(End(by=journal.path.name))
        results = [
            Result(key, replay.entries[key].image.region, "failed", outcomes, _first_reason(outcomes.values()))
            for key, outcomes in finished.items()
        ]
        return open_[0] if open_ else None, [result for result in results if result.error]


def _first_reason(outcomes: Iterable[SnapshotOutcome]) -> str | None:
    return next((outcome.reason for outcome in outcomes if outcome.is_failed), None)


def _resume(run: Invocation, finisher: _Finisher, replays: Sequence[Replay], journal: Journal) -> list[Result]:
    """Finish the runs that were killed or lost an answer, and say in their journals who did; return what failed.

    Raises:
        _NotBegunError: The journal of one of them, or this run's own, cannot be written.
    """
    results: list[Result] = []
    for replay in replays:
        shown = run.workspace.shown(replay.path)
        try:
            unfinished_because, failed = finisher.finish(replay, journal)
        except UsageError as exc:
            msg = (
                f"{exc} That was while finishing {shown}; nothing of this plan was begun. Free some space, then run it "
                "again: it goes on from there."
            )
            raise _NotBegunError(msg) from exc
        if unfinished_because is None:
            run.console.say(f"Finished what {shown} had begun.")
        else:
            run.console.warn(f"What {shown} had begun is not finished: {unfinished_because}")
        results += failed
    return results
