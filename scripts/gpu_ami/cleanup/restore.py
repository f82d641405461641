"""Undoes a clean-up from its journal: snapshots first, then the AMI, then its tags and permissions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpu_ami.aws import image_changes, images, recycle_bin
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.images import Image, Snapshot
from gpu_ami.cleanup import journal_events as events
from gpu_ami.cleanup.journal import Entry, Journal, Replay
from gpu_ami.errors import AwsError

_THERE = "it is there"
_FOUND_AGAIN = "is not there and not in the Recycle Bin: it is gone for good"


@dataclass(frozen=True)
class Restored:
    """What came of bringing one AMI (or orphan snapshot) back.

    Attributes:
        image_id: The AMI, or the snapshot when it had none.
        region: Where.
        status: restored, unchanged or failed.
        error: Why it failed.
        reason: Why nothing was to do.
    """

    image_id: str
    region: str
    status: str
    error: str | None = None
    reason: str | None = None

    def document(self) -> dict[str, Any]:
        """Return the result as the JSON has it."""
        return dataclasses.asdict(self)


@dataclass
class Region:
    """What is in a region when a restore begins.

    Attributes:
        caller: Calls it.
        images: The AMIs that are there, by id.
        snapshots: Those of the journal's snapshots that are there.
        binned_images: The AMIs in the Recycle Bin.
        binned_snapshots: The snapshots in the Recycle Bin.
    """

    caller: Caller
    images: dict[str, Image] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    binned_images: set[str] = field(default_factory=set)
    binned_snapshots: set[str] = field(default_factory=set)

    def has(self, image_id: str) -> bool:
        """Return whether the AMI is there; for a while EC2 may still list one that is in the bin already."""
        return image_id in self.images and image_id not in self.binned_images


def restore(replay: Replay, journal: Journal, caller_of: Callable[[str], Caller]) -> list[Restored]:
    """Bring back what the journal says was deleted, disabled or deprecated; one failure never stops the rest.

    Args:
        replay: What the journal says.
        journal: The same journal, to be continued.
        caller_of: Returns the caller of a region.

    Raises:
        AwsError: What is in a region could not be listed.
    """
    regions = {name: _region(replay, caller_of(name)) for name in sorted(_region_names(replay))}
    for entry in replay.entries.values():
        image = entry.image
        if _was_deleted(entry) and not regions[image.region].has(image.image_id):
            # Should this run end here, the next one must not take the snapshots for left behind.
            journal.write(events.Restoring(image_id=image.image_id))
    results = [_image(entry, regions[entry.image.region], journal) for entry in replay.entries.values()]
    return results + [_orphan(snapshot, regions[snapshot.region], journal) for snapshot, _ in replay.orphans.values()]


def _region_names(replay: Replay) -> set[str]:
    of_images = {entry.image.region for entry in replay.entries.values()}
    return of_images | {snapshot.region for snapshot, _ in replay.orphans.values()}


def _region(replay: Replay, caller: Caller) -> Region:
    snapshot_ids = [
        snapshot_id
        for entry in replay.entries.values()
        if entry.image.region == caller.region
        for snapshot_id in entry.image.snapshot_ids
    ]
    snapshot_ids += [orphan.snapshot_id for orphan, _ in replay.orphans.values() if orphan.region == caller.region]
    deletes = bool(replay.orphans) or any(entry.mode == "delete" for entry in replay.entries.values())
    return Region(
        caller=caller,
        images={image.image_id: image for image in images.own_images(caller, replay.account)},
        snapshots=images.snapshots(caller, snapshot_ids),
        binned_images=set(recycle_bin.images_in_bin(caller)) if deletes else set(),
        binned_snapshots=set(recycle_bin.snapshots_in_bin(caller)) if deletes else set(),
    )


def _was_deleted(entry: Entry) -> bool:
    """Return whether it may be this run's doing that the AMI is gone."""
    return entry.mode == "delete" and entry.status not in ("failed", "left")


def _image(entry: Entry, region: Region, journal: Journal) -> Restored:
    image = entry.image
    try:
        changed = _bring_back(entry, region) if entry.mode == "delete" else _set_free(entry, region)
        changed = _complete(entry, region, changed)
    except AwsError as exc:
        return Restored(image.image_id, image.region, "failed", str(exc))
    if not changed:
        reason = _THERE if image.image_id in region.images else "the run of this journal did not delete it"
        return Restored(image.image_id, image.region, "unchanged", reason=reason)
    # It is back, whether or not the disk takes the word; the others are to come back as well.
    return Restored(image.image_id, image.region, "restored", journal.note(events.Restored(image_id=image.image_id)))


def _bring_back(entry: Entry, region: Region) -> bool:
    image = entry.image
    if region.has(image.image_id) or not _was_deleted(entry):
        return False
    missing = [snapshot_id for snapshot_id in image.snapshot_ids if snapshot_id not in region.snapshots]
    for snapshot_id in missing:
        if snapshot_id not in region.binned_snapshots:
            msg = f"{image.image_id} cannot come back: its snapshot {snapshot_id} {_FOUND_AGAIN}"
            raise AwsError(msg)
    if image.image_id not in region.binned_images:
        msg = f"{image.image_id} {_FOUND_AGAIN}"
        raise AwsError(msg)
    for snapshot_id in missing:
        recycle_bin.restore_snapshot(region.caller, snapshot_id)
        region.binned_snapshots.discard(snapshot_id)
        region.snapshots[snapshot_id] = Snapshot(snapshot_id=snapshot_id, region=image.region)
    recycle_bin.restore_image(region.caller, image.image_id)
    return True


def _set_free(entry: Entry, region: Region) -> bool:
    now = region.images.get(entry.image.image_id)
    if now is None:
        msg = f"{entry.image.image_id} {_FOUND_AGAIN}"
        raise AwsError(msg)
    if entry.mode == "disable" and now.state == "disabled":
        image_changes.enable(region.caller, now.image_id)
        return True
    if entry.mode == "deprecate" and now.deprecated_at is not None:
        image_changes.deprecate(region.caller, now.image_id, None)
        return True
    return False


def _complete(entry: Entry, region: Region, changed: bool) -> bool:
    """Put back the tags and permissions that are missing; a second restore after a failure finishes the first."""
    caller, image = region.caller, entry.image
    if not changed and entry.status not in ("done", "unknown", "restoring", "restored"):
        return False
    now = {found.image_id: found for found in images.some_images(caller, [image.image_id])}
    added = _add_missing(caller, image.image_id, image.tags, now[image.image_id].tags if now else {})
    snapshots_now = images.snapshots(caller, image.snapshot_ids)
    for snapshot in entry.snapshots:
        if snapshot.snapshot_id in snapshots_now:
            tags = snapshots_now[snapshot.snapshot_id].tags
            added = _add_missing(caller, snapshot.snapshot_id, snapshot.tags, tags) or added
    if entry.permissions and images.launch_permissions(caller, image.image_id) != entry.permissions:
        image_changes.share(caller, image.image_id, entry.permissions)
        added = True
    if changed and image.state == "disabled" and now and now[image.image_id].state != "disabled":
        image_changes.disable(caller, image.image_id)
    return changed or added


def _add_missing(caller: Caller, resource_id: str, tags: Mapping[str, str], now: Mapping[str, str]) -> bool:
    missing = {key: value for key, value in tags.items() if key not in now and not key.startswith("aws:")}
    image_changes.add_tags(caller, resource_id, missing)
    return bool(missing)


def _orphan(snapshot: Snapshot, region: Region, journal: Journal) -> Restored:
    identifier = snapshot.snapshot_id
    if identifier in region.snapshots:
        return Restored(identifier, snapshot.region, "unchanged", reason=_THERE)
    try:
        if identifier not in region.binned_snapshots:
            msg = f"{identifier} {_FOUND_AGAIN}"
            raise AwsError(msg)
        recycle_bin.restore_snapshot(region.caller, identifier)
        now = images.snapshots(region.caller, [identifier])
        _add_missing(region.caller, identifier, snapshot.tags, now[identifier].tags if identifier in now else {})
    except AwsError as exc:
        return Restored(identifier, snapshot.region, "failed", str(exc))
    return Restored(
        identifier,
        snapshot.region,
        "restored",
        journal.note(events.OrphanDone(snapshot_id=identifier, status="restored")),
    )
