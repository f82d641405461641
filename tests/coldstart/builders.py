"""Results of a bench for the tests of coldstart/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AMI, OTHER = "ami-0123456789abcdef0", "ami-0fedcba9876543210"
T0 = 1_795_000_000.0
# Seconds after submission; a baked host pulls nothing.
STOCK = {
    "submitted": 0,
    "launched": 20,
    "kernel_up": 38,
    "registered": 90,
    "placed": 92,
    "pull_started": 93,
    "pull_stopped": 393,
    "started": 399,
    "first_line": 400,
    "imports_done": 420,
    "models_done": 450,
}
RATED = {
    "submitted": 0,
    "launched": 30,
    "kernel_up": 50,
    "registered": 120,
    "placed": 122,
    "started": 130,
    "first_line": 131,
    "imports_done": 171,
    "models_done": 201,
}


def host(arm: str, moments: Mapping[str, float], *, late: float = 1.0) -> dict[str, Any]:
    """Return a host of *arm* with *moments*, each *late* times as late."""
    return {
        "arm": arm,
        "round": 1,
        "moments": {
            name: {"at": T0 + seconds * late, "clock": "x", "source": "y", "resolution_s": 0.001, "missing": None}
            for name, seconds in moments.items()
        },
    }


def result(*hosts: dict[str, Any], ami: str = AMI) -> dict[str, Any]:
    """Return a bench's result with *hosts*."""
    arms = [{"arm": "stock", "ami_id": OTHER}, {"arm": "rated", "ami_id": ami}]
    return {"arms": arms, "pairs": [], "hosts": list(hosts), "phases": {}, "gate": {}}


def result_of_rated_hosts(ami: str) -> dict[str, Any]:
    """Return a whole result: three hosts of the AMI *ami* at a provisioned rate, 201 s each, every moment seen."""
    moments = {**RATED, "booted": 80, "pull_started": 123, "pull_stopped": 124}
    return result(*[host("rated", moments)] * 3, ami=ami)
