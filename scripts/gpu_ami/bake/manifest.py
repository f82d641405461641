"""`invoke manifest`: shows the builds in Packer's manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpu_ami.bake.build_tables import builds_table
from gpu_ami.invocation import Invocation
from gpu_ami.records import manifest_file


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke manifest`` requested.

    Attributes:
        file: Another manifest than the last build's.
        all: Whether every run is shown, not only the last.
    """

    file: str | None = None
    all: bool = False


def run(run: Invocation, request: Request) -> None:
    """Show the builds of a manifest.

    Raises:
        UsageError: The manifest cannot be used.
    """
    path = Path(request.file) if request.file else run.workspace.manifest
    found = manifest_file.load(path)
    builds = found.builds if request.all else found.last_run
    run.console.result([build.document() for build in builds], builds_table(builds, path))
