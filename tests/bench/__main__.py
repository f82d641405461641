"""Run every bench, or those named: ``nox -s bench -- list build``."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.bench import applying, downloads, fleet, main_job, prewarm, sources, speedups, survey, throttling, verifying

BENCHES: dict[str, Callable[[], bool]] = {
    "list": main_job.listing,
    "sandbox": main_job.sandbox_start,
    "speedups": speedups.bench,
    "doctor": main_job.doctor,
    "build": main_job.build,
    "apply": applying.main,
    "cost": main_job.cost,
    "coldstart": main_job.coldstart,
    "diff": main_job.diff,
    "points": main_job.points,
    "downloads": downloads.bench,
    "fleet": fleet.main,
    "prewarm": prewarm.bench,
    "sources": sources.bench,
    "survey": survey.bench,
    "throttling": throttling.main,
    "verify": verifying.main,
}


def main(names: list[str]) -> int:
    """Run the benches *names* (all without names); 1 when one missed its bound."""
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"No bench {', '.join(unknown)}; there are {', '.join(BENCHES)}.", file=sys.stderr)  # noqa: T201
        return 2
    results = [BENCHES[name]() for name in names or BENCHES]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
