"""Says which volumes that a sweep deletes go to a Recycle Bin, where they are billed for some more days."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gpu_ami.aws.build_resources import BuildResource, volumes_of
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.recycle_bin import VOLUME, Rule, rules
from gpu_ami.cleanup.inventory import in_parallel
from gpu_ami.cleanup.plan_document import iso
from gpu_ami.errors import AwsError
from gpu_ami.units import show_count

_INSTANCE, _FREE_VOLUME = "instance", "volume"


@dataclass(frozen=True, kw_only=True)
class BinnedVolume:
    """A volume that goes to the bin.

    Attributes:
        volume_id: The volume.
        instance_id: The instance that it goes with; None for one that goes by itself.
        billed_until: When it leaves the bin if it is deleted now.
    """

    volume_id: str
    instance_id: str | None = None
    billed_until: datetime


@dataclass(frozen=True, kw_only=True)
class VolumeBin:
    """What is known of a region's Recycle Bin for volumes.

    Attributes:
        region: Where.
        rules: How many of its rules keep volumes by now.
        volumes: Those of the sweep that go to it.
        error: Why it is not known which do.
    """

    region: str
    rules: int = 0
    volumes: tuple[BinnedVolume, ...] = ()
    error: str | None = None

    def text(self) -> str | None:
        """Return what a person should know; None where the volumes are simply gone."""
        if self.error is not None:
            what = f"Whether deleted volumes go to a Recycle Bin in {self.region}, and are billed there, is not known"
            return f"{what}: {self.error}"
        if not self.volumes:
            return None
        until = max(volume.billed_until for volume in self.volumes)
        named = ", ".join(sorted(volume.volume_id for volume in self.volumes))
        verb = "goes" if len(self.volumes) == 1 else "go"
        return (
            f"{show_count(len(self.volumes), 'volume')} {verb} to the Recycle Bin of {self.region} when deleted, and "
            f"cost as before until {until:%Y-%m-%d %H:%M} UTC at the latest: {named}"
        )

    def document(self) -> dict[str, Any]:
        """Return it as the sweep's JSON has it."""
        return {
            "region": self.region,
            "rules": self.rules,
            "error": self.error,
            "volumes": [
                {
                    "volume_id": volume.volume_id,
                    "instance_id": volume.instance_id,
                    "billed_until": iso(volume.billed_until),
                }
                for volume in self.volumes
            ],
        }


def volume_bins(callers: Mapping[str, Caller], going: Collection[BuildResource], now: datetime) -> list[VolumeBin]:
    """Return what becomes of the volumes among *going* and of those of its instances, by region.

    Nothing is asked where neither goes. It decides nothing: what cannot be read is said to be unknown.
    """
    by_region = {
        region: some
        for region in callers
        if (some := [one for one in going if one.region == region and one.kind in (_INSTANCE, _FREE_VOLUME)])
    }
    return in_parallel(list(by_region), lambda region: _volume_bin(callers[region], by_region[region], now))


def _volume_bin(caller: Caller, going: Sequence[BuildResource], now: datetime) -> VolumeBin:
    try:
        active = [rule for rule in rules(caller, VOLUME) if rule.is_active]
        attached = volumes_of(caller, (one.identifier for one in going if one.kind == _INSTANCE)) if active else []
    except AwsError as exc:
        return VolumeBin(region=caller.region, error=str(exc))
    free = [
        BinnedVolume(volume_id=one.identifier, billed_until=now + kept)
        for one in going
        if one.kind == _FREE_VOLUME and (kept := _retention(active, one.tags)) is not None
    ]
    with_instance = [
        BinnedVolume(volume_id=one.volume_id, instance_id=one.instance_id, billed_until=now + kept)
        for one in attached
        if (kept := _retention(active, one.tags)) is not None
    ]
    return VolumeBin(region=caller.region, rules=len(active), volumes=(*free, *with_instance))


def _retention(active: Sequence[Rule], tags: Mapping[str, str]) -> timedelta | None:
    """Return how long the bin keeps a volume: the longest matching rule counts; None when none matches."""
    return max((rule.retention for rule in active if rule.keeps(VOLUME, tags)), default=None)
