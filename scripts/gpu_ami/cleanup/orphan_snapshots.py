"""Snapshots that deregistered AMIs left behind: found by their description, kept at the least doubt."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from gpu_ami.aws.images import Image, Snapshot
from gpu_ami.aws.references.source import Reference
from gpu_ami.cleanup.decide import Reason
from gpu_ami.cleanup.plan_document import Orphan
from gpu_ami.cleanup.policy import Policy
from gpu_ami.records.tags import KEEP_TAG
from gpu_ami.units import show_count

# What EC2 writes on the snapshots that it makes for an AMI.
_MADE_FOR = re.compile(
    r"^Created by CreateImage\(i-[0-9a-f]+\) for (?P<created>ami-[0-9a-f]+)"
    r"|^Copied for DestinationAmi (?P<copied>ami-[0-9a-f]+) from SourceAmi"
)
_SHOWN = 3


def made_for(snapshot: Snapshot) -> str | None:
    """Return the AMI for which EC2 made *snapshot*; None when it was made for something else."""
    match = _MADE_FOR.match(snapshot.description)
    return (match["created"] or match["copied"]) if match else None


def find_orphans(
    snapshots: Iterable[Snapshot],
    images: Sequence[Image],
    references: Mapping[str, Sequence[Reference]],
    in_bin: Mapping[str, Collection[str] | None],
    policy: Policy,
    now: datetime,
) -> list[Orphan]:
    """Return the verdict on each snapshot of the policy's scope whose AMI is not there any more.

    Args:
        snapshots: The account's own snapshots.
        images: All AMIs of the account, pending ones too.
        references: What needs an AMI or snapshot, by its id.
        in_bin: The AMIs in the Recycle Bin of each region; None where it could not be listed.
        policy: What to keep.
        now: The time.
    """
    alive = {image.image_id for image in images}
    used = {snapshot_id for image in images for snapshot_id in image.snapshot_ids}
    orphans = []
    for snapshot in snapshots:
        image_id = made_for(snapshot)
        if image_id is None or image_id in alive or snapshot.snapshot_id in used:
            continue
        if policy.scope.covers(snapshot.tags.get("Name", ""), snapshot.tags):
            reasons = tuple(_reasons(snapshot, image_id, references, in_bin.get(snapshot.region), policy, now))
            gone = (Reason("orphan", f"its AMI {image_id} is gone"),)
            orphans.append(Orphan(snapshot, image_id, "keep" if reasons else "delete", reasons or gone))
    return orphans


def _reasons(
    snapshot: Snapshot,
    image_id: str,
    references: Mapping[str, Sequence[Reference]],
    in_bin: Collection[str] | None,
    policy: Policy,
    now: datetime,
) -> Iterable[Reason]:
    if in_bin is None:
        yield Reason("bin-unknown", "the Recycle Bin could not be listed: its AMI may be there")
    elif image_id in in_bin:
        yield Reason("in-recycle-bin", f"its AMI {image_id} is in the Recycle Bin and needs it to come back")
    if snapshot.started is None:
        yield Reason("no-date", "EC2 gives no date")
    elif now - snapshot.started < policy.older_than:
        yield Reason("too-young", f"made {show_count((now - snapshot.started).days, 'day')} ago")
    if snapshot.state != "completed":
        yield Reason("not-finished", f"its state is {snapshot.state}")
    yield from tag_reasons(snapshot)
    needed = [*references.get(snapshot.snapshot_id, ()), *references.get(image_id, ())]
    for reference in needed[:_SHOWN]:
        yield Reason(reference.source, reference.detail)


def tag_reasons(snapshot: Snapshot) -> Iterable[Reason]:
    """Yield the reasons to keep *snapshot* that its tags give."""
    if KEEP_TAG in snapshot.tags:
        yield Reason("keep-tag", f"tagged {KEEP_TAG}={snapshot.tags[KEEP_TAG]}")
    if any(key.startswith(("aws:backup:", "aws:dlm:", "dlm:managed")) for key in snapshot.tags):
        yield Reason("managed", "managed by AWS Backup or a Data Lifecycle Manager policy")


def without_copies(orphans: Iterable[Orphan], elsewhere: Mapping[str, str]) -> list[Orphan]:
    """Return *orphans*, those that may be copies kept: a snapshot copied to another region still names its AMI.

    Args:
        orphans: The verdicts so far.
        elsewhere: Why an AMI may still live in a region that was not queried, by its id.
    """
    return [
        Orphan(orphan.snapshot, orphan.image_id, "keep", (Reason("alive-elsewhere", elsewhere[orphan.image_id]),))
        if orphan.action == "delete" and orphan.image_id in elsewhere
        else orphan
        for orphan in orphans
    ]


def without_shared(orphans: Iterable[Orphan], shared: Mapping[str, str | None]) -> list[Orphan]:
    """Return *orphans*, those that are shared, or of which that could not be read, kept.

    Args:
        orphans: The verdicts so far.
        shared: Of each snapshot that would go, why its sharing keeps it; None where it is not shared.
    """
    return [
        Orphan(orphan.snapshot, orphan.image_id, "keep", (Reason("shared", why),))
        if orphan.action == "delete" and (why := shared.get(orphan.snapshot.snapshot_id, "its sharing was not read"))
        else orphan
        for orphan in orphans
    ]
