"""The tables of `invoke build` and `invoke manifest`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_ami.console import Table
from gpu_ami.handover.eligibility import WHERE_GONE
from gpu_ami.units import show_duration

if TYPE_CHECKING:
    from gpu_ami.bake.result import BuildResult
    from gpu_ami.records.manifest_file import Build


def built_table(built: BuildResult, *, kept: bool | None = None, coming: Collection[str] = ()) -> Table:
    """Return what a build made, and what to do next.

    Args:
        built: What it made.
        kept: Whether the sandbox outlives this command; None on AWS.
        coming: The tasks that the same command line goes on with.
    """
    size = "unknown" if built.snapshot_gib is None else f"{built.snapshot_gib:.2f} GiB"
    rows = [
        ("AMI", built.ami_id),
        ("name", built.name),
        ("region", built.region),
        *((f"copy in {region}", ami) for region, ami in built.amis.items() if region != built.region),
        ("source AMI", built.source_ami_id or "unknown"),
        ("snapshot", size),
        ("duration", show_duration(built.duration_s)),
        ("cost", built.cost_line),
        ("manifest", built.manifest),
        ("Terraform variable", built.tfvars),
    ]
    following = _following(built, kept, is_applied_next="apply" in coming)
    return Table(columns=("built" if built.built else "live", ""), rows=rows, footer=following)


def _following(built: BuildResult, kept: bool | None, *, is_applied_next: bool) -> tuple[str, ...]:
    if not built.built:
        return ("Nothing was built: this AMI is what a build would make.",)
    real = "or a real AMI fill in pipeline.yaml and leave --sandbox out."
    if kept is False:
        return ("This AMI ends with the command: `invoke sandbox` in another terminal keeps the next one.", f"F{real}")
    if built.sandbox:
        return (f"F{real}" if is_applied_next else f"Next: `invoke apply --sandbox`; f{real}",)
    return () if is_applied_next else (f"Next: review and commit {built.tfvars}, then run `invoke apply`.",)


def builds_table(
    builds: Sequence[Build],
    path: Path,
    *,
    gone: Collection[str] = (),
    kept: bool | None = None,
    provenance: Sequence[str] = (),
) -> Table:
    """Return the builds of a manifest, one row per AMI.

    Args:
        builds: The builds.
        path: The manifest.
        gone: The AMIs that went with the sandbox that made them.
        kept: Whether there is a sandbox that outlives this command; None on AWS.
        provenance: What this tree has of each build's provenance; empty for a build of something else.
    """
    states = provenance or [""] * len(builds)
    rows = [
        (
            build.name or "unnamed",
            build.builder_type,
            build.document()["build_time"] or "unknown",
            region,
            f"{artifact} (gone)" if artifact in gone else artifact,
            state,
        )
        for build, state in zip(builds, states, strict=True)
        for region, artifact in (build.amis or {"": build.artifact_id}).items()
    ]
    footer = () if rows else (f"The last run in {path} has no builds.",)
    if gone:
        footer = (f"(gone): {WHERE_GONE[kept]}",)
    columns = ("build", "builder", "built at", "region", "artifact", "provenance")
    return Table(columns=columns, rows=rows, footer=footer)
