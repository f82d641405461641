"""Snapshots that stay behind when their AMI is deregistered: deleted, or explained."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from gpu_ami.aws import recycle_bin
from gpu_ami.aws.caller import Caller, RefusedError
from gpu_ami.aws.image_changes import delete_snapshot
from gpu_ami.aws.images import Image, Snapshot, snapshot_is_shared, snapshots
from gpu_ami.cleanup.decide import by_target
from gpu_ami.cleanup.inventory import Survey
from gpu_ami.cleanup.journal import Entry, Journal
from gpu_ami.cleanup.journal_events import DELETED, LEFT, SnapshotDone, SnapshotOutcome
from gpu_ami.cleanup.orphan_snapshots import made_for, tag_reasons
from gpu_ami.cleanup.plan_document import Bin
from gpu_ami.errors import AwsError

_NO_WAY_BACK = SnapshotOutcome.failed(
    "an earlier run left it, and no rule of the Recycle Bin keeps it: make one for EBS_SNAPSHOT, or add --permanent"
)


class OrphanedSnapshots:
    """Deletes the snapshots of deregistered AMIs, or says why they stay.

    Args:
        survey: Knows which AMIs use a snapshot, and what else needs one.
        journal: Where each outcome is written down.
    """

    def __init__(self, survey: Survey, journal: Journal) -> None:
        self._survey = survey
        self._journal = journal
        self._users: dict[str, list[str]] = {}
        for image in survey.images:
            for snapshot_id in image.snapshot_ids:
                self._users.setdefault(snapshot_id, []).append(image.image_id)

    @staticmethod
    def first_outcomes(image: Image, codes: Mapping[str, str]) -> dict[str, SnapshotOutcome]:
        """Return what EC2's answer to the deregistration says about each snapshot."""
        return {key: DELETED if codes.get(key) == "success" else LEFT for key in image.snapshot_ids}

    def finish(
        self, caller: Caller, image: Image, known: Mapping[str, SnapshotOutcome], gone: Collection[str]
    ) -> dict[str, SnapshotOutcome]:
        """Delete the snapshots of *image* that were left; return the outcome of each of them.

        With a journal that cannot be written any more the others stay as they are.

        Args:
            caller: Where they are.
            image: The AMI that is gone.
            known: What is known of each snapshot.
            gone: All AMIs that are gone by now: two of them may have shared a snapshot.
        """
        final = {}
        for snapshot_id in _left(image, known):
            if self._journal.refused:
                break
            others = [other for other in self._users.get(snapshot_id, ()) if other not in {*gone, image.image_id}]
            is_used = bool(others)
            final[snapshot_id] = (
                SnapshotOutcome.kept(f"used by {', '.join(others)}") if is_used else self.delete(caller, snapshot_id)
            )
            self._note(image, snapshot_id, final[snapshot_id])
        return final

    def keep(self, image: Image, known: Mapping[str, SnapshotOutcome], why: str) -> dict[str, SnapshotOutcome]:
        """Write down that the snapshots of *image* that were left stay, and *why*; return the outcome of each."""
        final = dict.fromkeys(_left(image, known), SnapshotOutcome.kept(why))
        for snapshot_id, outcome in final.items():
            self._note(image, snapshot_id, outcome)
        return final

    def _note(self, image: Image, snapshot_id: str, outcome: SnapshotOutcome) -> None:
        self._journal.note(SnapshotDone(image_id=image.image_id, snapshot_id=snapshot_id, status=str(outcome)))

    @staticmethod
    def delete(caller: Caller, snapshot_id: str) -> SnapshotOutcome:
        """Delete a snapshot; return what came of it: deleted, kept or failed."""
        try:
            delete_snapshot(caller, snapshot_id)
        except RefusedError as exc:
            return SnapshotOutcome.kept(exc) if exc.code == "InvalidSnapshot.InUse" else SnapshotOutcome.failed(exc)
        except AwsError as exc:
            return SnapshotOutcome.failed(exc)
        return DELETED

    def resume(
        self,
        callers: Mapping[str, Caller],
        entries: Iterable[Entry],
        *,
        readers: Mapping[str, Caller] | None = None,
        must_recover: bool = False,
    ) -> dict[str, dict[str, SnapshotOutcome]]:
        """Finish what a run that was killed left undone; return the outcome of each snapshot, by AMI.

        An AMI that is still there, or is being brought back, is left alone. Snapshots that something needs stay, and so
        do those of which EC2 does not say that they were made for the AMI: a journal is a file that can be edited.

        Args:
            callers: What may change the account, by region.
            entries: What the journal says.
            readers: What reads it, by region; None for the same.
            must_recover: Whether one that no rule of the Recycle Bin keeps stays: its AMI may be in the bin, and could
                not come back without it. It has failed then, so that a run with ``--permanent`` comes back to it.
        """
        needed = by_target(self._survey.references)
        finished: dict[str, dict[str, SnapshotOutcome]] = {}
        for entry in to_finish(entries, self._survey.images):
            image = entry.image
            if image.region not in callers:
                continue
            before = {key: entry.snapshot_status.get(key, LEFT) for key in image.snapshot_ids}
            # What has failed is tried again: as long as it is there, the run is not finished.
            outcomes = {
                key: SnapshotOutcome.kept(needed[key][0].detail) if key in needed else LEFT if one.is_failed else one
                for key, one in before.items()
            }
            left = _left(image, outcomes)
            reader = (callers if readers is None else readers)[image.region]
            outcomes |= self._settled(reader, image.image_id, left, must_recover=must_recover)
            outcomes |= self.finish(callers[image.region], image, outcomes, {image.image_id})
            finished[image.image_id] = outcomes
        return finished

    @staticmethod
    def _settled(
        reader: Caller, image_id: str, left: Sequence[str], *, must_recover: bool
    ) -> dict[str, SnapshotOutcome]:
        """Return the outcome of those of the snapshots *left* that are not to be deleted: they are gone, or stay."""
        try:
            found = snapshots(reader, left)
            why = {key: why_kept(reader, snapshot, image_id) for key, snapshot in found.items()}
            lost = _lost(reader, found.values()) if must_recover else []
        except AwsError as exc:
            return dict.fromkeys(left, SnapshotOutcome.failed(exc))
        gone = {key: DELETED for key in left if key not in found} | dict.fromkeys(lost, _NO_WAY_BACK)
        return gone | {key: SnapshotOutcome.kept(reason) for key, reason in why.items() if reason}


def _lost(reader: Caller, some: Collection[Snapshot]) -> list[str]:
    """Return those of *some* that no rule of the Recycle Bin keeps.

    Raises:
        AwsError: The rules could not be read.
    """
    bin_ = Bin(recycle_bin.rules(reader, recycle_bin.SNAPSHOT) if some else ())
    return [one.snapshot_id for one in some if bin_.retention(recycle_bin.SNAPSHOT, one.tags) is None]


def _left(image: Image, known: Mapping[str, SnapshotOutcome]) -> list[str]:
    """Return the snapshots of *image* that are still to be deleted, as far as is *known*."""
    return [snapshot_id for snapshot_id in image.snapshot_ids if known.get(snapshot_id, LEFT) == LEFT]


def to_finish(entries: Iterable[Entry], images: Iterable[Image]) -> list[Entry]:
    """Return those of *entries* whose AMI a run deleted and nobody brings back: its snapshots may still be there."""
    alive = {image.image_id for image in images}
    over = ("failed", "left", "restoring", "restored")
    return [
        entry
        for entry in entries
        if entry.mode == "delete" and entry.status not in over and entry.image.image_id not in alive
    ]


def why_kept(caller: Caller, snapshot: Snapshot, image_id: str) -> str | None:
    """Return why a snapshot, as it is now, must outlive the AMI for which it was made; None when it may go.

    Raises:
        AwsError: Whether it is shared could not be read.
    """
    if made_for(snapshot) != image_id:
        return f"it was not made for {image_id}"
    for reason in tag_reasons(snapshot):
        return reason.detail
    return "shared with another account" if snapshot_is_shared(caller, snapshot.snapshot_id) else None
