"""Carries a plan out: checks again, writes the journal, acts, and believes only what AWS says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gpu_ami.aws import image_changes as ec2
from gpu_ami.aws.caller import Caller, RefusedError
from gpu_ami.aws.images import Image, snapshots
from gpu_ami.cleanup.decide import Verdict
from gpu_ami.cleanup.inventory import Survey
from gpu_ami.cleanup.journal import Journal
from gpu_ami.cleanup.journal_events import (
    DELETED,
    LEFT,
    Done,
    Failed,
    ImageRecord,
    OrphanDone,
    SnapshotOutcome,
    SnapshotRecord,
    Unknown,
    Will,
    WillDeleteOrphan,
    outcome_texts,
)
from gpu_ami.cleanup.plan_document import Orphan, Plan
from gpu_ami.cleanup.recheck import Guard
from gpu_ami.cleanup.recycle_bin_check import BinProof, Claim
from gpu_ami.cleanup.snapshots import OrphanedSnapshots, why_kept
from gpu_ami.errors import AwsError, SafetyError

_WORKERS_PER_REGION = 32
# EC2 refuses a deprecation date in the past and cuts off the seconds.
_DEPRECATE_AFTER = timedelta(minutes=5)
_DONE = {"delete": "deleted", "disable": "disabled", "deprecate": "deprecated"}


@dataclass
class Result:
    """What came of one AMI.

    Attributes:
        image_id: The AMI.
        region: Where it is or was.
        status: deleted, disabled, deprecated, kept or failed.
        snapshots: What came of each of its snapshots, by its id.
        error: Why it was kept or failed.
        is_lost: Whether it is gone for good although it was to be recoverable; `error` says why.
        is_blocked: Whether it was kept because the last check found that nothing may be changed at all.
    """

    image_id: str
    region: str
    status: str
    snapshots: dict[str, SnapshotOutcome] = field(default_factory=dict)
    error: str | None = None
    is_lost: bool = False
    is_blocked: bool = False

    @property
    def is_done(self) -> bool:
        """Whether AWS was changed as planned."""
        return self.status in _DONE.values()

    @property
    def is_failed(self) -> bool:
        """Whether something of it failed, a snapshot included."""
        is_broken = any(outcome.is_failed for outcome in self.snapshots.values())
        return self.status == "failed" or self.is_lost or is_broken

    def document(self) -> dict[str, Any]:
        """Return the result as the JSON has it."""
        listed = [{"snapshot_id": key, "status": text} for key, text in outcome_texts(self.snapshots).items()]
        return {
            "image_id": self.image_id,
            "region": self.region,
            "status": self.status,
            "snapshots": listed,
            "error": self.error,
        }


class Apply:
    """One run that changes AWS.

    Args:
        plan: What to do.
        survey: The survey that the plan was made from; it is queried again.
        journal: Where every act is written down first.
        callers: By region, what may change the plan's account.
        now: Says what time it is.
        told: Called with the number of AMIs done.
        must_recover: Whether what goes first by a Recycle Bin rule must be seen in the bin before anything else does.
    """

    def __init__(
        self,
        plan: Plan,
        survey: Survey,
        journal: Journal,
        callers: Mapping[str, Caller],
        *,
        now: Callable[[], datetime],
        told: Callable[[int], None] = lambda _done: None,
        must_recover: bool = False,
    ) -> None:
        """Change nothing yet."""
        self._plan = plan
        self._journal = journal
        self._now = now
        self._told = told
        self._callers = callers
        self._survey = survey
        self._guard = Guard(survey, plan, now=now)
        self._snapshots = OrphanedSnapshots(survey, journal)
        self._bin = BinProof(self._callers, plan.bins, is_required=must_recover, clock=survey.clock)
        self._stop = threading.Event()
        self._done = 0
        self._lock = threading.Lock()

    def images(self, verdicts: Sequence[Verdict]) -> list[Result]:
        """Delete, disable or deprecate the AMIs of *verdicts*, then the snapshots that they left behind.

        One AMI's failure never stops the others. An interrupt lets acts under way end and starts no other, and so does
        a journal that cannot be written any more.
        """
        waiting = list(verdicts)
        results: list[Result] = []
        images = {verdict.image.image_id: verdict.image for verdict in verdicts}
        while samples := self._samples(waiting):
            done = self._all(samples)
            for result in _deleted(done):
                claims = self._claims(images[result.image_id]).items()
                gone = {result.image_id, *(key for key, outcome in result.snapshots.items() if outcome == DELETED)}
                self._prove(result, {key: claim for key, claim in claims if key in gone})
            results += done
            tried = {result.image_id for result in done}
            waiting = [verdict for verdict in waiting if verdict.image.image_id not in tried]
        results += self._all(waiting)
        self._delete_left_behind(results, images)
        return results

    def _samples(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Return the first AMIs to go by each rule of the Recycle Bin that has not been seen to work yet."""
        found: list[Verdict] = []
        covered: set[Claim] = set()
        for verdict in verdicts:
            if verdict.action == "delete" and (due := self._bin.due(self._claims(verdict.image).values()) - covered):
                found.append(verdict)
                covered |= due
        return found

    def _claims(self, image: Image) -> dict[str, Claim]:
        """Return what the ways back of an AMI and of its snapshots rest on, by id; nothing where none is required."""
        if not self._bin.is_required:
            return {}
        known = {key: self._plan.snapshots[key] for key in image.snapshot_ids if key in self._plan.snapshots}
        return {image.image_id: self._bin.of_image(image)} | {
            key: self._bin.of_snapshot(snapshot) for key, snapshot in known.items()
        }

    def _prove(self, result: Result, gone: Mapping[str, Claim]) -> None:
        """Check that the bin has what is *gone*, unless its rules are known to work; say so in *result* if not."""
        self._bin.judge(gone)
        if why := self._bin.why_not(gone.values()):
            result.is_lost, result.error = True, why

    def _all(self, verdicts: Sequence[Verdict]) -> list[Result]:
        workers = _WORKERS_PER_REGION * max(1, len({verdict.image.region for verdict in verdicts}))
        with ThreadPoolExecutor(max_workers=workers) as pool:
            waiting = [pool.submit(self._one, verdict) for verdict in verdicts]
            try:
                return [future.result() for future in waiting]
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def orphans(self, orphans: Iterable[Orphan]) -> list[Result]:
        """Delete orphan snapshots; each is a result without an AMI."""
        results = []
        for orphan in orphans:
            snapshot, is_blocked = orphan.snapshot, False
            claim = self._bin.of_snapshot(snapshot)
            if why_not := self._journal.refused:
                outcome = SnapshotOutcome.kept(why_not)
            elif why_not := self._bin.why_not([claim]):
                outcome = SnapshotOutcome.failed(why_not)
            elif reason := self._guard.keeps_snapshot(snapshot.snapshot_id, orphan.image_id) or self._why_kept(orphan):
                is_blocked = self._guard.is_blocked
                outcome = SnapshotOutcome.kept(reason)
            elif why_not := self._journal.note(WillDeleteOrphan(snapshot=SnapshotRecord.of(snapshot))):
                outcome = SnapshotOutcome.failed(why_not)
            else:
                outcome = self._snapshots.delete(self._callers[snapshot.region], snapshot.snapshot_id)
                self._journal.note(OrphanDone(snapshot_id=snapshot.snapshot_id, status=str(outcome)))
            outcomes = {snapshot.snapshot_id: outcome}
            result = Result(
                orphan.image_id, snapshot.region, outcome.status, outcomes, outcome.reason, is_blocked=is_blocked
            )
            if outcome == DELETED:
                self._prove(result, {snapshot.snapshot_id: claim})
            results.append(result)
        return results

    def _why_kept(self, orphan: Orphan) -> str | None:
        """Return why an orphan must stay after all: it may have been tagged or shared since the plan."""
        caller, identifier = self._callers[orphan.snapshot.region], orphan.snapshot.snapshot_id
        try:
            found = snapshots(caller, [identifier])
            return why_kept(caller, found[identifier], orphan.image_id) if found else "it is gone already"
        except AwsError as exc:
            return f"it could not be read again: {exc}"

    def _one(self, verdict: Verdict) -> Result:
        image = verdict.image
        if self._stop.is_set():
            return Result(image.image_id, image.region, "kept", error="the run was interrupted")
        if why_not := self._journal.refused:
            return Result(image.image_id, image.region, "kept", error=why_not)
        if why_not := self._bin.why_not(self._claims(image).values()):
            return Result(image.image_id, image.region, "failed", error=why_not)
        if reason := self._guard.keeps(image):
            is_blocked = self._guard.is_blocked
            return Result(image.image_id, image.region, "kept", error=reason, is_blocked=is_blocked)
        permissions = self._survey.permissions(image)
        if permissions is None and not self._may_be_unread(verdict):
            return Result(image.image_id, image.region, "kept", error="its launch permissions were not read")
        known = [self._plan.snapshots[key] for key in image.snapshot_ids if key in self._plan.snapshots]
        will = Will(
            mode=verdict.action,
            image=ImageRecord.of(image),
            permissions=permissions,
            snapshots=tuple(map(SnapshotRecord.of, known)),
        )
        if why_not := self._journal.note(will):
            return Result(image.image_id, image.region, "failed", error=why_not)
        result = self._act(verdict)
        with self._lock:
            self._done += 1
            self._told(self._done)
        return result

    def _may_be_unread(self, verdict: Verdict) -> bool:
        """Return whether the caller gave up knowing who may launch the AMI; disabling it would lose that for good."""
        return verdict.action != "disable" and "launch-permissions" in self._plan.policy.skip_sources

    def _act(self, verdict: Verdict) -> Result:
        image, caller = verdict.image, self._callers[verdict.image.region]
        try:
            if verdict.action == "delete":
                outcomes = self._snapshots.first_outcomes(image, ec2.deregister(caller, image.image_id))
            else:
                outcomes = {}
                self._set_aside(verdict, caller)
        except RefusedError as exc:
            self._journal.note(Failed(image_id=image.image_id, error=str(exc)))
            return Result(image.image_id, image.region, "failed", error=str(exc))
        except AwsError as exc:
            self._journal.note(Unknown(image_id=image.image_id, error=str(exc)))
            error = f"nobody knows whether it was done, run it again: {exc}"
            return Result(image.image_id, image.region, "failed", error=error)
        unnoted = self._journal.note(Done(image_id=image.image_id, snapshots=outcome_texts(outcomes)))
        return Result(image.image_id, image.region, _DONE[verdict.action], outcomes, unnoted)

    def _set_aside(self, verdict: Verdict, caller: Caller) -> None:
        if verdict.action == "disable":
            ec2.disable(caller, verdict.image.image_id)
        else:
            ec2.deprecate(caller, verdict.image.image_id, self._now() + _DEPRECATE_AFTER)

    def _delete_left_behind(self, results: Sequence[Result], images: Mapping[str, Image]) -> None:
        gone = {result.image_id for result in _deleted(results)}
        for result in _deleted(results):
            if self._journal.refused:
                return
            caller, image = self._callers[result.region], images[result.image_id]
            claims = {key: claim for key, claim in self._claims(image).items() if result.snapshots.get(key) == LEFT}
            if why := self._bin.why_not(claims.values()):
                result.snapshots |= self._snapshots.keep(image, result.snapshots, why)
                continue
            outcomes = self._snapshots.finish(caller, image, result.snapshots, gone)
            result.snapshots |= outcomes
            if errors := [outcome.reason for outcome in result.snapshots.values() if outcome.is_failed]:
                result.error = errors[0]
            self._prove(result, {key: claim for key, claim in claims.items() if outcomes.get(key) == DELETED})


def blocked(results: Sequence[Result]) -> SafetyError | None:
    """Return the error of a run whose last check found that nothing may be changed; None where it found no such thing.

    What had been done before that check is done; a job must not look well all the same.
    """
    kept = [result for result in results if result.is_blocked]
    if not kept:
        return None
    what = "Everything" if len(kept) == len(results) else f"What was left, {len(kept)} of {len(results)},"
    return SafetyError(f"{what} is kept: {kept[0].error}")


def _deleted(results: Iterable[Result]) -> list[Result]:
    """Return those of *results* whose AMI is gone."""
    return [result for result in results if result.status == "deleted"]
