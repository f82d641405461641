"""What keeps an AMI although nothing launches it: sharing, backups, life-cycle policies, protection, locks."""

from __future__ import annotations

from decimal import Decimal

from gpu_ami.aws.caller import Caller, RefusedError
from gpu_ami.aws.images import Image, is_gone, launch_permissions, public_snapshots
from gpu_ami.aws.references.source import Found, Reference, SourceQuery, members, side_by_side
from gpu_ami.units import show_usd

_WORKERS = 32
_FAST_RESTORE_OVER = frozenset({"disabling", "disabled"})
# As AWS counts a month in its prices.
_HOURS_PER_MONTH = 730


class LaunchPermissions:
    """Sharing: whoever may launch an AMI may need it, and nobody can see whether."""

    name = "launch-permissions"
    service = "ec2"
    is_essential = False
    is_use = False
    reads = members("ec2:DescribeImageAttribute", "LaunchPermissions[].UserId")

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the public AMIs, and of those that would go the shared ones; one call each, public or not.

        The permissions themselves stay in the memory: the journal keeps them.
        """
        public = {image.image_id for image in query.images if image.public}
        references = [Reference(ami, self.name, "public: every account may launch it") for ami in sorted(public)]
        seen: dict[str, tuple[dict[str, str], ...]] = query.memory.setdefault("permissions", {})
        unread = sorted(set(query.selected) - set(seen))
        read = side_by_side(lambda image_id: _permissions(caller, image_id), unread, query, workers=_WORKERS)
        seen.update(zip(unread, read, strict=True))
        for image_id in sorted((set(query.selected) & set(seen)) - public):
            if seen[image_id]:
                who = ", ".join(sorted(value for entry in seen[image_id] for value in entry.values()))
                references.append(Reference(image_id, self.name, f"shared with {who}"))
        return Found(references)


def _permissions(caller: Caller, image_id: str) -> tuple[dict[str, str], ...]:
    try:
        return launch_permissions(caller, image_id)
    except RefusedError as exc:
        if is_gone(caller, image_id, exc):
            return ()
        raise


class _Marked:
    """What the account's own AMIs show by themselves: nothing is called."""

    name = ""
    service = ""
    is_essential = False
    is_use = False
    reads: tuple[str, ...] = ()

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the AMIs that show why they stay."""
        del caller
        told = ((image.image_id, self._why(image)) for image in query.images)
        return Found([Reference(image_id, self.name, why) for image_id, why in told if why])

    def _why(self, image: Image) -> str:
        """Return why the AMI stays; empty when it shows nothing."""
        raise NotImplementedError


class AwsBackup(_Marked):
    """AMIs that AWS Backup made: EC2 refuses to deregister them, and a restore needs them."""

    name = "aws-backup"

    def _why(self, image: Image) -> str:
        is_its = image.name.startswith("AwsBackup_") or any(key.startswith("aws:backup:") for key in image.tags)
        return "managed by AWS Backup: delete its recovery point instead" if is_its else ""


class LifecycleManager(_Marked):
    """AMIs that a Data Lifecycle Manager policy made and will delete itself."""

    name = "lifecycle-manager"

    def _why(self, image: Image) -> str:
        is_its = any(key.startswith(("aws:dlm:", "dlm:managed")) for key in image.tags)
        return "managed by a Data Lifecycle Manager policy" if is_its else ""


class DeregistrationProtection(_Marked):
    """AMIs that somebody protected from being deregistered, the cool-down after it included."""

    name = "deregistration-protection"

    def _why(self, image: Image) -> str:
        is_off = image.protection in ("", "disabled")
        return "" if is_off else f"deregistration protection is {image.protection}"


class SnapshotLocks:
    """Snapshots that somebody locked: deregistering their AMI would leave them behind."""

    name = "snapshot-locks"
    service = "ec2"
    is_essential = False
    is_use = False
    reads = members("ec2:DescribeLockedSnapshots", "Snapshots[].SnapshotId")

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the snapshots with a lock that holds."""
        del query
        rows = caller.pages("ec2", "describe_locked_snapshots", "Snapshots", MaxResults=1000)
        return Found(
            [
                Reference(row["SnapshotId"], self.name, f"snapshot {row['SnapshotId']} is locked ({row['LockState']})")
                for row in rows
                if row["LockState"] != "expired"
            ]
        )


class PublicSnapshots:
    """Snapshots that everybody may make volumes of: they go with their AMI, and nobody can see who needs them.

    A snapshot is shared by itself, whoever may launch its AMI. EC2 lists those that are public in one call; which ones
    single accounts were given it tells only snapshot by snapshot.
    """

    name = "public-snapshots"
    service = "ec2"
    is_essential = False
    is_use = False
    reads = members("ec2:DescribeSnapshots", "Snapshots[].SnapshotId")

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the account's own public snapshots."""
        del query
        found = public_snapshots(caller)
        return Found([Reference(snapshot, self.name, f"snapshot {snapshot} is public") for snapshot in found])


class FastRestores:
    """Snapshots with fast snapshot restore: somebody pays by the hour for volumes that are fast from their first block.

    Each account sees what it has switched on itself, for snapshots that others share with it, too (EBS user guide);
    where a snapshot is deleted, its fast restore ends in every account. One that is being switched off is none: whoever
    did that does not want it any more.
    """

    name = "fast-snapshot-restore"
    service = "ec2"
    is_essential = False
    is_use = False
    reads = members("ec2:DescribeFastSnapshotRestores", "FastSnapshotRestores[].SnapshotId")

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return each snapshot, with its zones and what those cost a month; one call."""
        zones: dict[str, list[str]] = {}
        for row in caller.pages("ec2", "describe_fast_snapshot_restores", "FastSnapshotRestores", MaxResults=200):
            if row["State"] not in _FAST_RESTORE_OVER:
                zone = row.get("AvailabilityZone") or row["AvailabilityZoneId"]
                zones.setdefault(row["SnapshotId"], []).append(zone)
        hourly = query.fast_restore_usd_per_hour() if zones else None
        return Found(
            [
                Reference(
                    snapshot,
                    self.name,
                    f"fast snapshot restore of {snapshot} in {', '.join(sorted(some))}, {_monthly(hourly, len(some))}",
                )
                for snapshot, some in sorted(zones.items())
            ]
        )


def _monthly(hourly: Decimal | None, zones: int) -> str:
    if hourly is None:
        return "at a price that is not known"
    return f"{show_usd(hourly * zones * _HOURS_PER_MONTH)} a month"


class AllowedImages:
    """The account's Allowed AMIs setting, which can hide AMIs from a listing."""

    name = "allowed-images"
    service = "ec2"
    is_essential = False
    is_use = False
    reads = members("ec2:GetAllowedImagesSettings", "State")

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return no reference, but a note when the setting is on."""
        del query
        state = caller.call("ec2", "get_allowed_images_settings")["State"]
        if state == "disabled":
            return Found()
        return Found(notes=[f"Allowed AMIs is {state}: AMIs of other accounts that it does not allow are hidden here"])
