"""Snapshots as EC2 keeps them: filling up, owned, sized, locked, needed by AMIs."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.ec2.exceptions import InvalidSnapshotInUse
from moto.ec2.models.elastic_block_store import Snapshot
from moto.ec2.utils import random_snapshot_id

from gpu_ami_sandbox.aws.ec2.part import EC2Part, matches, tag_values
from gpu_ami_sandbox.aws.ec2.recycle_bin import recycle_bin
from gpu_ami_sandbox.aws.refusals import refuse

_GIB = 1024**3
# Of a volume, this share is assumed to be written: what a build with a 17 GB image leaves on 80 GiB.
_WRITTEN_PER_CENT = 35
_FILTERS = {
    "description": lambda s: [s.description or ""],
    "encrypted": lambda s: [str(bool(s.encrypted)).lower()],
    "owner-id": lambda s: [s.owner_id],
    "progress": lambda s: [s.progress],
    "snapshot-id": lambda s: [s.id],
    "start-time": lambda s: [s.start_time.strftime("%Y-%m-%dT%H:%M:%S.000Z")],
    "status": lambda s: [s.status],
    "storage-tier": lambda s: [s.storage_tier],
    "volume-id": lambda s: [s.volume_id],
    "volume-size": lambda s: [str(s.volume_size)],
}


class SandboxSnapshot(Snapshot):
    """A snapshot that takes a moment to complete and knows how much was written.

    Attributes:
        began_at: The monotonic time at which it was started.
        ready_at: The monotonic time from which on it is complete.
        completion_duration_minutes: Of a copy, how long it was to take at most; None without such a promise.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Take what moto's snapshot takes; complete at once."""
        self._status = "completed"
        self.began_at = self.ready_at = time.monotonic()
        self.lock: dict[str, Any] | None = None
        self.completion_duration_minutes: int | None = None
        super().__init__(*arguments, **named)
        self.full_snapshot_size_in_bytes = self.volume_size * _GIB * _WRITTEN_PER_CENT // 100

    @property
    def status(self) -> str:
        """What AWS calls the snapshot's state; pending turns into completed by itself."""
        return "pending" if self._status == "completed" and time.monotonic() < self.ready_at else self._status

    @status.setter
    def status(self, value: str) -> None:
        self._status = value

    @property
    def state(self) -> str:
        """The same under the name of the API's answer."""
        return self.status

    @property
    def progress(self) -> str:
        """How much is done, such as ``42%``."""
        whole = self.ready_at - self.began_at
        done = 1.0 if whole <= 0 else min(1.0, (time.monotonic() - self.began_at) / whole)
        return f"{done:.0%}"


def new_snapshot(backend: Any, volume: Any, description: str, *, ready_at: float | None = None) -> SandboxSnapshot:
    """Add a snapshot of *volume* to *backend*, complete from the monotonic time *ready_at* on."""
    snapshot = SandboxSnapshot(
        backend, random_snapshot_id(), volume, description, encrypted=volume.encrypted, owner_id=backend.account_id
    )
    if ready_at is not None:
        snapshot.ready_at = ready_at
    if volume.encrypted:
        snapshot.kms_key_id = volume.kms_key_id
    backend.snapshots[snapshot.id] = snapshot
    return snapshot


def image_using(backend: Any, snapshot_id: str) -> str | None:
    """Return the id of an AMI that needs the snapshot, or None."""
    for image in backend.amis.values():
        for mapping in image.mappings:
            if mapping.get("Ebs", {}).get("SnapshotId") == snapshot_id:
                return str(image.id)
    return None


def remove_snapshot(backend: Any, snapshot_id: str) -> None:
    """Delete a snapshot; a matching Recycle Bin rule keeps it restorable."""
    recycle_bin(backend).keep_snapshot(backend, backend.snapshots.pop(snapshot_id))


class Snapshots(EC2Part):
    """EC2's snapshot actions."""

    def create_snapshot(self) -> ActionResult:
        """Start a snapshot of one volume."""
        self.error_on_dryrun()
        backend = self.ec2_backend
        volume = backend.get_volume(self._get_param("VolumeId"))
        snapshot = new_snapshot(backend, volume, self._get_param("Description", ""))
        snapshot.add_tags(self._parse_tag_specification().get("snapshot", {}))
        return ActionResult(snapshot)

    def copy_snapshot(self) -> ActionResult:
        """Copy a snapshot, size and all, from another region (or this one)."""
        answer = super().copy_snapshot()
        backend = self.ec2_backend
        plain = backend.snapshots[answer.result["SnapshotId"]]
        copy = new_snapshot(backend, plain.volume, plain.description)
        backend.snapshots.pop(copy.id)
        copy.id, copy.encrypted, copy.kms_key_id = plain.id, plain.encrypted, plain.kms_key_id
        backend.snapshots[copy.id] = copy
        return answer

    def delete_snapshot(self) -> ActionResult:
        """Delete a snapshot that no AMI needs and nothing locks."""
        self.error_on_dryrun()
        backend, snapshot_id = self.ec2_backend, self._get_param("SnapshotId")
        snapshot = self._known_snapshot(snapshot_id)
        if snapshot.owner_id != self.current_account:
            refuse("AuthFailure", f"Not authorized for snapshot:{snapshot_id}")
        if user := image_using(backend, snapshot_id):
            raise InvalidSnapshotInUse(snapshot_id, user)
        if snapshot.lock is not None:
            refuse("SnapshotLocked", f"The snapshot '{snapshot_id}' is locked and cannot be deleted.")
        remove_snapshot(backend, snapshot_id)
        return EmptyResult()

    def describe_snapshots(self) -> ActionResult:
        """List snapshots: every requested id must exist, by owner, in pages."""
        self.error_on_dryrun()
        requested: list[str] = self._get_param("SnapshotIds", [])
        snapshots = self.ec2_backend.snapshots
        rows = [self._known_snapshot(i) for i in requested] if requested else list(snapshots.values())
        if owners := self._get_param("OwnerIds", []):
            expected = {self.current_account if owner == "self" else owner for owner in owners}
            rows = [s for s in rows if s.owner_id in expected or ("amazon" in expected and self._is_amazons(s))]
        if users := self._get_param("RestorableByUserIds", []):
            rows = [s for s in rows if "self" in users or matches([s.owner_id, *_shared_with(s)], users)]
        return self._answer_page("Snapshots", self._filtered(rows, self._snapshot_values))

    def lock_snapshot(self) -> ActionResult:
        """Protect a snapshot from deletion for a number of days."""
        self.error_on_dryrun()
        snapshot = self._known_snapshot(self._get_param("SnapshotId"))
        now: datetime = utcnow()
        days = self._get_param("LockDuration")
        snapshot.lock = {
            "OwnerId": snapshot.owner_id,
            "SnapshotId": snapshot.id,
            "LockState": self._get_param("LockMode"),
            "LockDuration": days,
            "CoolOffPeriod": self._get_param("CoolOffPeriod"),
            "LockCreatedOn": now,
            "LockDurationStartTime": now,
            "LockExpiresOn": self._get_param("ExpirationDate") or now + timedelta(days=int(days or 1)),
        }
        return ActionResult(snapshot.lock)

    def unlock_snapshot(self) -> ActionResult:
        """Take a snapshot's lock away."""
        self.error_on_dryrun()
        snapshot = self._known_snapshot(self._get_param("SnapshotId"))
        snapshot.lock = None
        return ActionResult({"SnapshotId": snapshot.id})

    def describe_locked_snapshots(self) -> ActionResult:
        """List the locks that hold."""
        requested = self._get_param("SnapshotIds", [])
        locks = [lock for s in self.ec2_backend.snapshots.values() if (lock := getattr(s, "lock", None))]
        return self._answer_page(
            "Snapshots", [lock for lock in locks if not requested or lock["SnapshotId"] in requested]
        )

    def _known_snapshot(self, snapshot_id: str) -> Any:
        snapshot = self.ec2_backend.snapshots.get(snapshot_id)
        if snapshot is None:
            refuse("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
        return snapshot

    def _is_amazons(self, snapshot: Any) -> bool:
        return bool(snapshot.owner_id != self.current_account)

    def _snapshot_values(self, snapshot: Any, name: str) -> list[str] | None:
        values = _FILTERS.get(name)
        return values(snapshot) if values else tag_values(self._tags_of(snapshot.id), name)


def _shared_with(snapshot: Any) -> list[str]:
    return [*snapshot.create_volume_permission_groups, *snapshot.create_volume_permission_userids]
