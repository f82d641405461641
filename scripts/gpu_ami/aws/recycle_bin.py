"""Queries the Recycle Bin's rules and content, and restores images and snapshots from it.

It takes volumes, too, for 1 to 7 days: those that are deleted by themselves and those that go with their instance. They
are billed, and count towards quotas, until they leave it. Of several rules that match the longest one counts.
https://docs.aws.amazon.com/ebs/latest/userguide/recycle-bin-factors.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from gpu_ami.aws.caller import Caller, making_sense
from gpu_ami.aws.images import parse_time

Kind = Literal["EC2_IMAGE", "EBS_SNAPSHOT", "EBS_VOLUME"]
IMAGE: Kind = "EC2_IMAGE"
SNAPSHOT: Kind = "EBS_SNAPSHOT"
VOLUME: Kind = "EBS_VOLUME"


@dataclass(frozen=True)
class Rule:
    """A retention rule.

    Attributes:
        identifier: Its id.
        kind: What it keeps.
        retention: For how long.
        is_active: Whether it keeps anything yet.
        tags: Pairs of which a resource must carry one; a value of None is any value. Empty: the rule is for the Region.
        excluded: Pairs that take a resource out of a rule for the Region.
    """

    identifier: str
    kind: Kind
    retention: timedelta
    is_active: bool = True
    tags: tuple[tuple[str, str | None], ...] = ()
    excluded: tuple[tuple[str, str | None], ...] = ()

    def keeps(self, kind: Kind, tags: Mapping[str, str]) -> bool:
        """Return whether a deleted resource of *kind* with *tags* goes to the bin because of this rule."""
        if not self.is_active or self.kind != kind:
            return False
        if self.tags:
            return _carries(tags, self.tags)
        return not _carries(tags, self.excluded)


def _carries(tags: Mapping[str, str], pairs: Iterable[tuple[str, str | None]]) -> bool:
    return any(key in tags and value in (None, tags[key]) for key, value in pairs)


def rules(caller: Caller, *kinds: Kind) -> tuple[Rule, ...]:
    """Return the region's rules for *kinds*; for AMIs and snapshots where none are named.

    Raises:
        AwsError: AWS refused, or a list could not be read to its end.
    """
    found = []
    for kind in kinds or (IMAGE, SNAPSHOT):
        for row in caller.pages("rbin", "list_rules", "Rules", ResourceType=kind):
            with making_sense(f"rbin:GetRule in {caller.region}"):
                found.append(_rule(caller.call("rbin", "get_rule", Identifier=row["Identifier"])))
    return tuple(found)


def _rule(answer: Mapping[str, Any]) -> Rule:
    period = answer["RetentionPeriod"]
    return Rule(
        identifier=answer["Identifier"],
        kind=answer["ResourceType"],
        retention=timedelta(days=int(period["RetentionPeriodValue"])),
        is_active=answer["Status"] == "available",
        tags=_pairs(answer.get("ResourceTags")),
        excluded=_pairs(answer.get("ExcludeResourceTags")),
    )


def _pairs(rows: Iterable[Mapping[str, str]] | None) -> tuple[tuple[str, str | None], ...]:
    return tuple((row["ResourceTagKey"], row.get("ResourceTagValue")) for row in rows or ())


def images_in_bin(caller: Caller) -> dict[str, datetime | None]:
    """Return the AMIs in the bin and until when they are there.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    rows = caller.pages("ec2", "list_images_in_recycle_bin", "Images", MaxResults=1000)
    with making_sense(f"ec2:ListImagesInRecycleBin in {caller.region}"):
        return {row["ImageId"]: parse_time(row.get("RecycleBinExitTime")) for row in rows}


def snapshots_in_bin(caller: Caller) -> dict[str, datetime | None]:
    """Return the snapshots in the bin and until when they are there.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    rows = caller.pages("ec2", "list_snapshots_in_recycle_bin", "Snapshots", MaxResults=1000)
    with making_sense(f"ec2:ListSnapshotsInRecycleBin in {caller.region}"):
        return {row["SnapshotId"]: parse_time(row.get("RecycleBinExitTime")) for row in rows}


def restore_snapshot(caller: Caller, snapshot_id: str) -> None:
    """Bring a snapshot back from the bin.

    Raises:
        AwsError: EC2 refused, or nobody knows.
    """
    caller.call("ec2", "restore_snapshot_from_recycle_bin", SnapshotId=snapshot_id)


def restore_image(caller: Caller, image_id: str) -> None:
    """Bring an AMI back from the bin; its snapshots must be there already.

    Raises:
        AwsError: EC2 refused, or nobody knows.
    """
    caller.call("ec2", "restore_image_from_recycle_bin", ImageId=image_id)
