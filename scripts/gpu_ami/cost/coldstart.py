"""How long a volume that was made from a snapshot takes to give its data.

Every block is read from S3 on its first touch; sources: EBS user guide, and public measurements of 5 to 9 MB/s for one
reader (5 in github-aws-runners issue 5163, 9 in alliance-genome's agr_pdf_extraction_service).
"""

from __future__ import annotations

from decimal import Decimal

_MIB_PER_GIB = Decimal(1024)
_MB_PER_GIB = Decimal("1073.7")


def hydration_s(written_gib: Decimal, rate_mib_s: Decimal) -> Decimal:
    """Return how long a provisioned rate (100 to 300 MiB/s) takes for all data of a snapshot."""
    return written_gib * _MIB_PER_GIB / rate_mib_s


def lazy_s(touched_gib: Decimal, reader_mb_s: Decimal) -> Decimal:
    """Return how long one reader waits for the first touch of *touched_gib* at the default rate."""
    return touched_gib * _MB_PER_GIB / reader_mb_s


def warm_s(touched_gib: Decimal, throughput_mib_s: Decimal) -> Decimal:
    """Return how long the same read takes on a volume that has its data."""
    return touched_gib * _MIB_PER_GIB / throughput_mib_s


def fsr_bucket(snapshot_gib: Decimal) -> Decimal:
    """Return how many volumes Fast Snapshot Restore makes at once; the bucket starts empty.

    The size is the volume's, not the data's.
    """
    return max(Decimal(1), min(Decimal(10), _MIB_PER_GIB / snapshot_gib))


def fsr_refill_per_hour(snapshot_gib: Decimal) -> Decimal:
    """Return how many volumes a zone's bucket gains in an hour."""
    return min(Decimal(10), _MIB_PER_GIB / snapshot_gib)


def fsr_enable_min(snapshot_gib: Decimal) -> Decimal:
    """Return how long enabling takes: an hour for each TiB."""
    return 60 * snapshot_gib / _MIB_PER_GIB
