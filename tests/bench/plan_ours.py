"""The plan of `invoke cleanup` on a local AWS: ``python -m tests.bench.plan_ours URL FOLDER REGIONS SKIPPED``."""

from __future__ import annotations

import sys
from pathlib import Path

from gpu_ami import collector
from gpu_ami.aws.access import Access
from gpu_ami.cleanup import cleanup
from gpu_ami.cleanup.policy import Flags
from gpu_ami.console import Console
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options
from gpu_ami.settings import EMBEDDED


def main(url: str, folder: str, regions: str, skipped: str) -> None:
    """Plan with all sources but those *skipped*, by their names with commas between."""
    collector.spare()  # as the command line does
    run = Invocation(Path(folder), Options(output="json"), Console("json"))
    run.__dict__["access"] = Access(region=regions.partition(",")[0], endpoint_url=url)
    run.__dict__["settings"] = EMBEDDED
    flags = Flags(keep="0", skip_source=tuple(name for name in skipped.split(",") if name))
    cleanup.run(run, cleanup.Request(flags=flags, regions=(regions,)))


if __name__ == "__main__":
    main(*sys.argv[1:])
