"""`invoke cleanup --yes` on a running local AWS: ``python -m tests.bench.cleanup_ours URL FOLDER REGIONS AGE``."""

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


def main(url: str, folder: str, regions: str, age: str) -> None:
    """Delete what nothing needs, however few are left of its family, as the other tools are told to."""
    collector.spare()  # as the command line does
    run = Invocation(Path(folder), Options(output="json"), Console("json"))
    first = regions.partition(",")[0]
    run.__dict__["access"] = Access(region=first, endpoint_url=url)
    run.__dict__["settings"] = EMBEDDED
    flags = Flags(older_than=age, keep="0")
    cleanup.run(run, cleanup.Request(flags=flags, yes=True, permanent=True, regions=(regions,)))


if __name__ == "__main__":
    main(*sys.argv[1:])
