"""Volumes as EBS fills them from a snapshot: the rate is checked, kept and shown, and their status tells how far it is.

Members and ranges: EC2's API reference (CreateVolume, VolumeStatusItem, InitializationStatusDetails). How fast a volume
without a rate fills, and the code of the refusal over the region's limit, are not documented: both are made up here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from moto.core.responses import ActionResult

from gpu_ami_sandbox.aws import clock
from gpu_ami_sandbox.aws.ec2.part import EC2Part
from gpu_ami_sandbox.aws.refusals import refuse

_MIB = 1024**2
_LOWEST, _HIGHEST = 100, 300
# All volumes of a region that are being filled at a rate, together (EBS guide).
_REGION_MIB_S = 5000
_USUAL_MIB_S = 40
# A volume fills so many times as fast as on AWS: nobody waits minutes for a sandbox.
HASTE = 30.0
# The status is this much behind, in the sandbox's hasty seconds; AWS's may be behind by five minutes.
LAG_S = 0.5


@dataclass(frozen=True)
class Filling:
    """How a volume is filled.

    Attributes:
        size: The snapshot's bytes.
        rate: MiB/s that were requested; None is as fast as it comes.
        began: Monotonic seconds.
        is_restored: The snapshot is enabled for fast restore: it is all there at once.
    """

    size: int
    rate: int | None
    began: float
    is_restored: bool = False

    def seconds_left(self, now: float) -> float:
        """Return how many of AWS's seconds are left at the monotonic time *now*."""
        if self.is_restored:
            return 0.0
        whole = self.size / _MIB / (self.rate or _USUAL_MIB_S)
        return max(0.0, whole - (now - self.began) * HASTE)

    def progress(self, now: float) -> int:
        """Return the per cent that are there."""
        whole = self.size / _MIB / (self.rate or _USUAL_MIB_S)
        return 100 if whole <= 0 else int(100 * (1 - self.seconds_left(now) / whole))


def filling_of(volume: Any) -> Filling | None:
    """Return how *volume* is filled; None for one that was made empty."""
    found: Filling | None = vars(volume).get("sandbox_filling")
    return found


def check_rates(backend: Any, requested: Iterable[tuple[Any, str | None]]) -> None:
    """Refuse volumes that EBS would not make.

    Args:
        backend: The region.
        requested: Of each volume the rate, None without one, and the snapshot that it is made from.
    """
    total = 0
    for rate, snapshot_id in requested:
        if rate is None:
            continue
        if not snapshot_id:
            refuse("InvalidParameterCombination", "VolumeInitializationRate is supported only with a snapshot.")
        if not _LOWEST <= int(rate) <= _HIGHEST:
            text = f"VolumeInitializationRate {rate} is not in the range of {_LOWEST} to {_HIGHEST} MiB/s."
            refuse("InvalidParameterValue", text)
        total += int(rate)
    now = clock.seconds()
    under_way = [filling for volume in backend.volumes.values() if (filling := filling_of(volume)) and filling.rate]
    total_now = total + sum(filling.rate or 0 for filling in under_way if filling.seconds_left(now) > 0)
    if total and total_now > _REGION_MIB_S:
        text = f"You have reached the limit of {_REGION_MIB_S} MiB/s for concurrent volume initialization."
        refuse("VolumeInitializationRateLimitExceeded", text)


def fill(backend: Any, volume: Any, rate: Any) -> None:
    """Begin to fill *volume* from its snapshot at *rate* MiB/s; show what EC2 shows of it."""
    snapshot = backend.snapshots.get(volume.snapshot_id) if volume.snapshot_id else None
    if snapshot is None:
        return
    zone = volume.zone.name if volume.zone else ""
    is_restored = rate is None and zone in vars(snapshot).get("fast_restore_zones", ())
    size = int(snapshot.full_snapshot_size_in_bytes)
    volume.sandbox_filling = Filling(size, None if rate is None else int(rate), clock.seconds(), is_restored)
    volume.volume_initialization_rate = None if rate is None else int(rate)
    volume.fast_restored = is_restored


class Volumes(EC2Part):
    """EC2's actions about volumes."""

    def create_volume(self) -> ActionResult:
        """Make a volume, and begin to fill it."""
        rate = self._get_param("VolumeInitializationRate")
        check_rates(self.ec2_backend, [(rate, self._get_param("SnapshotId"))])
        answer = super().create_volume()
        fill(self.ec2_backend, answer.result, rate)
        return answer

    def describe_volume_status(self) -> ActionResult:
        """Show how the volumes are, as it was a moment ago."""
        named = self._get_param("VolumeIds", [])
        volumes = self.ec2_backend.describe_volumes(volume_ids=named, filters={})
        return self._answer_page("VolumeStatuses", [_status(volume, clock.seconds() - LAG_S) for volume in volumes])


def _status(volume: Any, at: float) -> dict[str, Any]:
    details = [{"Name": "io-enabled", "Status": "passed"}, {"Name": "io-performance", "Status": "not-applicable"}]
    row: dict[str, Any] = {
        "VolumeId": volume.id,
        "AvailabilityZone": volume.zone.name if volume.zone else None,
        "Actions": [],
        "Events": [],
        "VolumeStatus": {"Status": "ok", "Details": details},
        "AttachmentStatuses": [],
    }
    filling = filling_of(volume)
    # What the lag hides has no status yet.
    if filling is not None and at >= filling.began:
        left = filling.seconds_left(at)
        details.append({"Name": "initialization-state", "Status": "initializing" if left > 0 else "completed"})
        kind = "provisioned-rate" if filling.rate else "default"
        row["InitializationStatusDetails"] = {"InitializationType": kind, "Progress": filling.progress(at)}
        if filling.rate:
            row["InitializationStatusDetails"]["EstimatedTimeToCompleteInSeconds"] = round(left)
    return row
