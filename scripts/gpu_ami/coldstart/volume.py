"""How a volume that was made from a snapshot gives its data: seconds and MB/s from GiB, MiB/s and readers.

Every block is read from S3 on its first touch, unless the snapshot has Fast Snapshot Restore or the volume a
provisioned rate (EBS user guide, "Initialize Amazon EBS volumes"). A reader waits for one block at a time, so that more
readers help as far as they find something to read: files of a few MB hold few blocks, and the last large file has one
reader.
"""

from __future__ import annotations

import math

MB_PER_GIB = 1073.741824
MIB_PER_GIB = 1024.0
_MB_PER_MIB = 1.048576
# Fast Snapshot Restore gives its full benefit up to this (EBS user guide).
FSR_LIMIT_MIB_S = 1000.0
# What all provisioned initializations of a Region may take together; a launch beyond it fails (EBS user guide).
REGION_LIMIT_MIB_S = 5000.0


def hydration_s(written_gib: float, rate_mib_s: float) -> float:
    """Return how long a provisioned rate (100 to 300 MiB/s) takes for all data of a snapshot."""
    return written_gib * MIB_PER_GIB / rate_mib_s


def lazy_s(touched_gib: float, mb_s: float) -> float:
    """Return how long the first touch of *touched_gib* takes at *mb_s*."""
    return touched_gib * MB_PER_GIB / mb_s


def warm_s(read_gib: float, throughput_mib_s: float) -> float:
    """Return how long the same read takes on a volume that has its data."""
    return read_gib * MIB_PER_GIB / throughput_mib_s


def together_mb_s(reader_mb_s: float, readers: float, gain: float, throughput_mib_s: float) -> float:
    """Return what *readers* side by side get of a cold volume.

    Args:
        reader_mb_s: What one gets.
        readers: How many there are.
        gain: The power of their number that counts: 1 when each always has a block to wait for.
        throughput_mib_s: The volume gives no more.
    """
    return min(reader_mb_s * math.pow(max(readers, 1.0), gain), throughput_mib_s * _MB_PER_MIB)


def fsr_bucket(volume_gib: float) -> float:
    """Return how many volumes Fast Snapshot Restore makes at once; the bucket starts empty.

    The size is the volume's, not the data's.
    """
    return max(1.0, min(10.0, MIB_PER_GIB / volume_gib))


def fsr_refill_per_hour(volume_gib: float) -> float:
    """Return how many volumes a zone's bucket gains in an hour."""
    return min(10.0, MIB_PER_GIB / volume_gib)


def waves(volumes: float, rate_mib_s: float) -> int:
    """Return after how many rounds *volumes* that are wanted at once have all been made at *rate_mib_s*.

    The Region's limit lets only so many initialize at a time, and refuses the others, which are launched again.
    """
    at_once = max(1, math.floor(REGION_LIMIT_MIB_S / rate_mib_s))
    return max(1, math.ceil(volumes / at_once))
