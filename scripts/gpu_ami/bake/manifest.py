"""`invoke manifest`: shows the builds in Packer's manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_ami import families
from gpu_ami.bake.build_tables import builds_table
from gpu_ami.errors import PipelineError
from gpu_ami.handover import attested
from gpu_ami.handover.attested import Verdict
from gpu_ami.invocation import Invocation
from gpu_ami.records import manifest_file
from gpu_ami.records.manifest_file import Build


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
    families.refuse_beside(run, {"--file": request.file is not None})
    path = Path(request.file) if request.file else run.workspace.manifest
    found = manifest_file.load_of(run.workspace, path)
    builds = found.builds if request.all else found.last_run
    gone = _gone(run, builds)
    kept = run.target.is_lasting if run.target.is_sandbox else None
    proven = [_provenance(run, build) for build in builds]
    documents = [
        build.document()
        | {"gone": sorted({*build.amis.values()} & gone), "provenance": verdict.document() if verdict else None}
        for build, verdict in zip(builds, proven, strict=True)
    ]
    states = [verdict.state if verdict else "" for verdict in proven]
    run.console.result(documents, builds_table(builds, path, gone=gone, kept=kept, provenance=states))


def _provenance(run: Invocation, build: Build) -> Verdict | None:
    return attested.in_tree(run, build.amis, (build.custom_data or {}).get("run_id")) if build.amis else None


def _gone(run: Invocation, builds: Sequence[Build]) -> frozenset[str]:
    """Return the AMIs that went with the sandbox that made them: its file stays. On AWS nobody is asked."""
    made = {(region, ami) for build in builds for region, ami in build.amis.items()}
    if not (made and run.target.is_sandbox):
        return frozenset()
    if not run.target.is_lasting:
        return frozenset(ami for _, ami in made)
    from gpu_ami.aws import images
    from gpu_ami.aws.caller import Caller

    try:
        return frozenset(ami for region, ami in made if images.look_up(Caller(run.access, region), ami) is None)
    except PipelineError as exc:
        run.console.warn(f"Whether the AMIs are still there is not known. {exc}")
        return frozenset()
