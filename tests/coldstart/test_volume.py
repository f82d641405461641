"""How long volumes take: the fact sheet's own numbers."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gpu_ami.cost import coldstart


@pytest.mark.parametrize(("gib", "rate", "seconds"), [(28, 300, 96), (30, 100, 307), (30, 300, 102)])
def test_provisioned_initialization(gib: int, rate: int, seconds: int) -> None:
    """All data at a promised rate."""
    assert round(coldstart.hydration_s(Decimal(gib), Decimal(rate))) == seconds


@pytest.mark.parametrize(("gib", "mb_s", "minutes"), [(3, 9, 6), (3, 5, 11), (17, 9, 34), (17, 5, 61)])
def test_first_touch(gib: int, mb_s: int, minutes: int) -> None:
    """One reader of a cold volume: the reason why a plain bake can be slower than a pull."""
    assert round(coldstart.lazy_s(Decimal(gib), Decimal(mb_s)) / 60) == minutes


@pytest.mark.parametrize(("throughput", "seconds"), [(125, 139), (500, 35)])
def test_warm_read(throughput: int, seconds: int) -> None:
    """17 GiB of a warm volume."""
    assert round(coldstart.warm_s(Decimal(17), Decimal(throughput))) == seconds


@pytest.mark.parametrize(("gib", "bucket", "refill"), [(100, 10, 10), (512, 2, 2), (2048, 1, 0.5)])
def test_fast_snapshot_restore_credits(gib: int, bucket: int, refill: float) -> None:
    """Credits go by the volume's size: a large one drains at once."""
    assert coldstart.fsr_bucket(Decimal(gib)) == bucket
    assert float(coldstart.fsr_refill_per_hour(Decimal(gib))) == refill


def test_enabling_fast_snapshot_restore_takes_an_hour_for_a_tib() -> None:
    """Switching it on minutes before a burst is too late."""
    assert coldstart.fsr_enable_min(Decimal(1024)) == 60
