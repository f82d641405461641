"""The result of `invoke build`, for a new AMI or one that was up to date, and its JSON document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from gpu_ami.aws import capacity, images
from gpu_ami.aws.caller import Caller
from gpu_ami.bake import lineage, packer_bake
from gpu_ami.bake.staleness import Difference
from gpu_ami.handover import change as changes
from gpu_ami.invocation import Invocation
from gpu_ami.records import manifest_file as manifests
from gpu_ami.records.tags import SOURCE_AMI_TAG

if TYPE_CHECKING:
    from gpu_ami.bake.job import Baked
    from gpu_ami.bake.release_tags import Recorded


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """What a build made; `document` is the contract with scripts.

    Attributes:
        built: Whether anything was built; otherwise everything is about the AMI that there is.
        differences: What was new compared with the family's last AMI.
        chain_length: How many incremental bakes lie between the AMI and a full one; None when it does not say.
        attempts: How many placements were tried for the builder.
    """

    ami_id: str
    region: str
    amis: Mapping[str, str]
    name: str
    source_ami_id: str
    snapshot_gib: float | None
    duration_s: float
    manifest: str
    tfvars: str
    build_cost_usd: Decimal | None
    cost_line: str
    sandbox: bool
    built: bool = True
    differences: Sequence[Difference] = ()
    chain_length: int | None = 0
    attempts: int = 1

    def document(self) -> dict[str, Any]:
        """Return the result as JSON-ready values; an unknown figure is null."""
        return {
            "ami_id": self.ami_id,
            "region": self.region,
            "amis": dict(self.amis),
            "name": self.name,
            "source_ami_id": self.source_ami_id,
            "snapshot_gib": self.snapshot_gib,
            "duration_s": round(self.duration_s, 1),
            "manifest": self.manifest,
            "tfvars": self.tfvars,
            "build_cost_usd": None if self.build_cost_usd is None else float(self.build_cost_usd),
            "sandbox": self.sandbox,
            "built": self.built,
            "differences": [difference.document() for difference in self.differences],
            "chain_length": self.chain_length,
            "attempts": self.attempts,
        }


def unchanged(run: Invocation, live: images.Image) -> BuildResult:
    """Return the result of a build that had nothing to do: the data of the AMI that there is.

    Raises:
        AwsError: EC2 does not say what its snapshots hold.
    """
    caller = Caller(run.access, run.access.region)
    snapshot_gib = images.written_gib(caller, images.describe(caller, live.image_id))
    return BuildResult(
        ami_id=live.image_id,
        region=run.access.region,
        amis={run.access.region: live.image_id},
        name=live.name,
        source_ami_id=live.tags.get(SOURCE_AMI_TAG, ""),
        snapshot_gib=snapshot_gib,
        duration_s=0.0,
        manifest=run.workspace.shown(run.workspace.manifest),
        tfvars=run.workspace.shown(run.workspace.state / run.settings.handover.file),
        build_cost_usd=Decimal(0),
        cost_line="nothing was built",
        sandbox=run.target.is_sandbox,
        built=False,
        chain_length=lineage.chain_length(live),
        attempts=0,
    )


def made(
    run: Invocation,
    baked: Baked,
    build: manifests.Build,
    recorded: Recorded,
    change: changes.Change,
    duration_s: float,
    differences: Sequence[Difference],
) -> BuildResult:
    """Return the result of a build that made *build*, priced."""
    from gpu_ami.cost import build_line

    variables = baked.job.variables
    # EC2 picks a Spot builder's type.
    caller = Caller(run.access, run.access.region)
    ran = capacity.type_of_instance(caller, baked.progress.instance_id) if baked.progress else None
    price = build_line(
        duration_s=duration_s,
        region=run.access.region,
        instance_type=ran or variables.instance_type,
        market="spot" if variables.spot else "on-demand",
        volume_gib=recorded.image.volume_gib,
        volume_iops=variables.volume_iops,
        volume_mib_s=variables.volume_throughput_mib_s,
        snapshot_gib=recorded.snapshot_gib,
    )
    return BuildResult(
        ami_id=build.amis[run.access.region],
        region=run.access.region,
        amis=build.amis,
        name=recorded.image.name,
        # EC2 names an intermediary AMI, gone by now, where a copy with a named key made the plugin rework the AMI.
        source_ami_id=(build.custom_data or {}).get("source_ami", "") or recorded.image.source_ami_id,
        snapshot_gib=recorded.snapshot_gib,
        duration_s=duration_s,
        manifest=run.workspace.shown(packer_bake.manifest_of(run, baked.job)),
        tfvars=run.workspace.shown(change.file),
        build_cost_usd=price.build_cost_usd,
        cost_line=price.line,
        sandbox=run.target.is_sandbox,
        differences=differences,
        chain_length=variables.chain_length,
        attempts=baked.attempts,
    )
