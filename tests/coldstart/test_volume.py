"""How long volumes take: the fact sheet's own numbers."""

from __future__ import annotations

import pytest

from gpu_ami.coldstart import volume


@pytest.mark.parametrize(("gib", "rate", "seconds"), [(28, 300, 96), (30, 100, 307), (30, 300, 102)])
def test_provisioned_initialization(gib: int, rate: int, seconds: int) -> None:
    """All data at a promised rate."""
    assert round(volume.hydration_s(gib, rate)) == seconds


@pytest.mark.parametrize(("gib", "mb_s", "minutes"), [(3, 9, 6), (3, 5, 11), (17, 9, 34), (17, 5, 61)])
def test_first_touch(gib: int, mb_s: int, minutes: int) -> None:
    """One reader of a cold volume: the reason why a plain bake can be slower than a pull."""
    assert round(volume.lazy_s(gib, mb_s) / 60) == minutes


@pytest.mark.parametrize(("throughput", "seconds"), [(125, 139), (500, 35)])
def test_warm_read(throughput: int, seconds: int) -> None:
    """17 GiB of a warm volume."""
    assert round(volume.warm_s(17, throughput)) == seconds


@pytest.mark.parametrize(("gib", "bucket", "refill"), [(100, 10, 10), (512, 2, 2), (2048, 1, 0.5)])
def test_fast_snapshot_restore_credits(gib: int, bucket: int, refill: float) -> None:
    """Credits go by the volume's size: a large one drains at once."""
    assert volume.fsr_bucket(gib) == bucket
    assert volume.fsr_refill_per_hour(gib) == refill


@pytest.mark.parametrize(
    ("readers", "gain", "throughput", "mb_s"),
    [(1, 0.5, 125, 7), (16, 0.5, 125, 28), (64, 1, 1000, 448), (64, 1, 125, 131.072), (0.5, 1, 125, 7)],
)
def test_readers_help_until_the_volume_gives_no_more(
    readers: float, gain: float, throughput: float, mb_s: float
) -> None:
    """Sixty-four readers of large files got 470 MB/s of a volume of 1,000; of one of 125 nobody can."""
    assert volume.together_mb_s(7, readers, gain, throughput) == pytest.approx(mb_s)


@pytest.mark.parametrize(
    ("volumes", "rate", "waves"), [(1, 300, 1), (16, 300, 1), (17, 300, 2), (100, 300, 7), (50, 100, 1)]
)
def test_the_region_initializes_so_many_at_once(volumes: int, rate: int, waves: int) -> None:
    """5,000 MiB/s are sixteen volumes at 300: a hundred launches at once are refused for the most part."""
    assert volume.waves(volumes, rate) == waves
