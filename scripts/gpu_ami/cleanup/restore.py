"""Undoes a clean-up from its journal: snapshots first, then the AMI, then its tags and permissions.

A journal is a file that can be edited: who may launch an AMI changes only where a restore has brought it back or
enabled it, and the world may launch it again only with consent of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import UNSET

from gpu_ami.aws import image_changes, images, recycle_bin
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.images import Image, Snapshot
from gpu_ami.cleanup import journal_events as events
from gpu_ami.cleanup.journal import Entry, Journal, Replay
from gpu_ami.errors import AwsError

_THERE = "it is there"
# Why launch permissions that are in the journal were not given.
_NOT_GIVEN = {
    "withheld": "everybody could launch it before: --make-public lets them again",
    "left": "its launch permissions are not the journal's: those get only AMIs that a restore brings back or enables",
}
# What a journal says last of an AMI that its run, or a restore, may have changed.
_CHANGED = ("done", "unknown", "restoring", "restored")
_FOUND_AGAIN = "is not there and not in the Recycle Bin: it is gone for good"


@dataclass(frozen=True)
class Restored:
    """What came of bringing one AMI (or orphan snapshot) back.

    Attributes:
        image_id: The AMI, or the snapshot when it had none.
        region: Where.
        status: restored, unchanged or failed.
        error: Why it failed.
        reason: Why nothing was to do, or what was left as it is.
        stays_private: Whether everybody could launch the AMI before, and cannot until the caller consents.
    """

    image_id: str
    region: str
    status: str
    error: str | None = None
    reason: str | None = None
    stays_private: bool = False

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


def restore(
    replay: Replay, journal: Journal, caller_of: Callable[[str], Caller], *, make_public: bool = False
) -> list[Restored]:
    """Bring back what the journal says was deleted, disabled or deprecated; one failure never stops the rest.

    Args:
        replay: What the journal says.
        journal: The same journal, to be continued.
        caller_of: Returns the caller of a region.
        make_public: Whether an AMI that everybody could launch may be such a one again.

    Raises:
        AwsError: What is in a region could not be listed.
    """
    regions = {name: _region(replay, caller_of(name)) for name in sorted(_region_names(replay))}
    for entry in replay.entries.values():
        image = entry.image
        if _is_brought_back(entry, regions[image.region]):
            # Should this run end here, the next one must not take the snapshots for left behind, and has to finish.
            journal.write(events.Restoring(image_id=image.image_id))
    entries = replay.entries.values()
    results = [_image(entry, regions[entry.image.region], journal, make_public=make_public) for entry in entries]
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


def _is_its_doing(entry: Entry) -> bool:
    """Return whether it may be the doing of the journal's run that the AMI is gone or set aside."""
    return entry.status not in ("failed", "left")


def _is_brought_back(entry: Entry, region: Region) -> bool:
    """Return whether this restore takes the AMI out of the bin, or enables it."""
    if not _is_its_doing(entry):
        return False
    image_id = entry.image.image_id
    if entry.mode == "delete":
        return not region.has(image_id)
    return entry.mode == "disable" and image_id in region.images and region.images[image_id].state == "disabled"


def _image(entry: Entry, region: Region, journal: Journal, *, make_public: bool) -> Restored:
    image = entry.image
    try:
        back = _bring_back(entry, region) if entry.mode == "delete" else _set_free(entry, region)
        changed = _add_tags(entry, region, back) or back
        shared, not_given = _share(entry, region, back, make_public=make_public)
        if back and entry.mode == "delete":
            _disable_again(entry, region)
    except AwsError as exc:
        return Restored(image.image_id, image.region, "failed", str(exc))
    withheld, remark = not_given == "withheld", _NOT_GIVEN.get(not_given)
    error = None
    if changed or shared or entry.status == "restoring":
        # It is back, whether or not the disk takes the word; the others are to come back as well. From now on only the
        # world's permission may still be given: others may have been taken away on purpose.
        over = events.Restored(image_id=image.image_id, stays_private=withheld or UNSET)
        error = journal.note(over)
    if not changed and not shared:
        reason = _THERE if image.image_id in region.images else "the run of this journal did not delete it"
        reason = f"{reason}; {remark}" if remark else reason
        return Restored(image.image_id, image.region, "unchanged", error, reason=reason, stays_private=withheld)
    return Restored(image.image_id, image.region, "restored", error, reason=remark, stays_private=withheld)


def _bring_back(entry: Entry, region: Region) -> bool:
    image = entry.image
    if not _is_brought_back(entry, region):
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
    if _is_brought_back(entry, region):
        image_changes.enable(region.caller, now.image_id)
        return True
    if entry.mode == "deprecate" and _is_its_doing(entry) and now.deprecated_at is not None:
        image_changes.deprecate(region.caller, now.image_id, None)
        return True
    return False


def _add_tags(entry: Entry, region: Region, back: bool) -> bool:
    """Put back the tags that are missing; a second restore after a failure finishes the first.

    Args:
        entry: What the journal says.
        region: Where.
        back: Whether this restore has changed the AMI.
    """
    caller, image = region.caller, entry.image
    if not back and entry.status not in _CHANGED:
        return False
    now = {found.image_id: found for found in images.some_images(caller, [image.image_id])}
    added = _add_missing(caller, image.image_id, image.tags, now[image.image_id].tags if now else {})
    snapshots_now = images.snapshots(caller, image.snapshot_ids)
    for snapshot in entry.snapshots:
        if snapshot.snapshot_id in snapshots_now:
            tags = snapshots_now[snapshot.snapshot_id].tags
            added = _add_missing(caller, snapshot.snapshot_id, snapshot.tags, tags) or added
    return added


def _share(
    entry: Entry, region: Region, back: bool, *, make_public: bool
) -> tuple[bool, Literal["", "withheld", "left"]]:
    """Give the launch permissions that are missing to an AMI that this restore, or one cut short, has brought back.

    Only what was in the bin or disabled can have lost them; of any other AMI they may have been taken away on purpose,
    or never been given: then the journal was edited. Where a restore has given all but the world's, that one is left.

    Returns:
        Whether some were given, and why others were not: ``withheld`` are the world's, which may be given with consent.
    """
    if not entry.permissions or not (back or entry.status in _CHANGED):
        return False, ""
    caller, image_id = region.caller, entry.image.image_id
    now = images.launch_permissions(caller, image_id)
    missing = [permission for permission in entry.permissions if permission not in now]
    if not missing:
        return False, ""
    due: list[dict[str, str]] = []
    if entry.mode != "deprecate":
        is_under_way = back or entry.status == "restoring"
        due = [who for who in missing if is_under_way or (entry.stays_private and "Group" in who)]
    given = [who for who in due if make_public or "Group" not in who]
    image_changes.share(caller, image_id, given)
    if given != due:
        return bool(given), "withheld"
    return bool(given), "" if due == missing else "left"


def _disable_again(entry: Entry, region: Region) -> None:
    """Disable an AMI that was disabled before it was deleted."""
    image = entry.image
    if image.state != "disabled":
        return
    now = {found.image_id: found for found in images.some_images(region.caller, [image.image_id])}
    if now and now[image.image_id].state != "disabled":
        image_changes.disable(region.caller, image.image_id)


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
