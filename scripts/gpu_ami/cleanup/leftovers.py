"""Snapshots that stay behind when their AMI is deregistered: deleted, or explained."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from gpu_ami.aws.calls import Caller, RefusedError
from gpu_ami.aws.changes import delete_snapshot
from gpu_ami.aws.images import Image, Snapshot, snapshot_is_shared, snapshots
from gpu_ami.cleanup.decide import by_target
from gpu_ami.cleanup.journal import Entry, Journal
from gpu_ami.cleanup.orphans import made_for, tag_reasons
from gpu_ami.cleanup.survey import Survey
from gpu_ami.errors import AwsError

DELETED = "deleted"
# Not a last word: EC2 left the snapshot where it was, or its answer was lost.
LEFT = "left"


class Leftovers:
    """Looks after the snapshots of deregistered AMIs.

    Args:
        survey: Knows which AMIs use a snapshot, and what else needs one.
        journal: Where each outcome is written down.
    """

    def __init__(self, survey: Survey, journal: Journal) -> None:
        """Note who uses which snapshot."""
        self._survey = survey
        self._journal = journal
        self._users: dict[str, list[str]] = {}
        for image in survey.images:
            for snapshot_id in image.snapshot_ids:
                self._users.setdefault(snapshot_id, []).append(image.image_id)

    @staticmethod
    def first_words(image: Image, codes: Mapping[str, str]) -> dict[str, str]:
        """Return what EC2's answer to the deregistration says about each snapshot."""
        return {each: DELETED if codes.get(each) == "success" else LEFT for each in image.snapshot_ids}

    def finish(self, caller: Caller, image: Image, words: Mapping[str, str], gone: Collection[str]) -> dict[str, str]:
        """Delete the snapshots of *image* that were left; return the last word on each of them.

        Args:
            caller: Where they are.
            image: The AMI that is gone.
            words: What is known of each snapshot.
            gone: All AMIs that are gone by now: two of them may have shared a snapshot.
        """
        final = {}
        for snapshot_id in (each for each in image.snapshot_ids if words.get(each, LEFT) == LEFT):
            others = [other for other in self._users.get(snapshot_id, ()) if other not in {*gone, image.image_id}]
            final[snapshot_id] = f"kept: used by {', '.join(others)}" if others else self.delete(caller, snapshot_id)
            self._journal.write("snapshot", image_id=image.image_id, snapshot_id=snapshot_id, status=final[snapshot_id])
        return final

    def keep(self, image: Image, words: Mapping[str, str], why: str) -> dict[str, str]:
        """Write down that the snapshots of *image* that were left stay, and *why*; return the last word on each."""
        final = {each: f"kept: {why}" for each in image.snapshot_ids if words.get(each, LEFT) == LEFT}
        for snapshot_id, word in final.items():
            self._journal.write("snapshot", image_id=image.image_id, snapshot_id=snapshot_id, status=word)
        return final

    @staticmethod
    def delete(caller: Caller, snapshot_id: str) -> str:
        """Delete a snapshot; return ``deleted``, ``kept: WHY`` or ``failed: WHY``."""
        try:
            delete_snapshot(caller, snapshot_id)
        except RefusedError as exc:
            return f"kept: {exc}" if exc.code == "InvalidSnapshot.InUse" else f"failed: {exc}"
        except AwsError as exc:
            return f"failed: {exc}"
        return DELETED

    def resume(self, callers: Mapping[str, Caller], entries: Iterable[Entry]) -> dict[str, dict[str, str]]:
        """Finish what a run that was killed left undone; return the last word on each snapshot, by AMI.

        An AMI that is still there, or is being brought back, is left alone. Snapshots that something needs stay, and so
        do those of which EC2 does not say that they were made for the AMI: a journal is a file that can be edited.
        """
        needed = by_target(self._survey.references)
        finished: dict[str, dict[str, str]] = {}
        for entry in to_finish(entries, self._survey.images):
            image = entry.image
            if image.region not in callers:
                continue
            words = {
                each: f"kept: {needed[each][0].detail}" if each in needed else entry.snapshot_status.get(each, LEFT)
                for each in image.snapshot_ids
            }
            left = [each for each, word in words.items() if word == LEFT]
            words.update(self._settled(callers[image.region], image.image_id, left))
            words.update(self.finish(callers[image.region], image, words, {image.image_id}))
            finished[image.image_id] = words
        return finished

    @staticmethod
    def _settled(caller: Caller, image_id: str, left: Sequence[str]) -> dict[str, str]:
        """Return the last word on those of the snapshots *left* that are not to be deleted: they are gone, or stay."""
        try:
            found = snapshots(caller, left)
            why = {each: why_kept(caller, snapshot, image_id) for each, snapshot in found.items()}
        except AwsError as exc:
            return dict.fromkeys(left, f"failed: {exc}")
        gone = {each: DELETED for each in left if each not in found}
        return gone | {each: f"kept: {reason}" for each, reason in why.items() if reason}


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
