"""Pins a build to the inputs that were looked up, on the base AMI or on top of the family's last one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gpu_ami.bake import lineage
from gpu_ami.bake.staleness import Fingerprints
from gpu_ami.handover import attested
from gpu_ami.invocation import Invocation

if TYPE_CHECKING:
    from gpu_ami.bake.compare import Comparison
    from gpu_ami.bake.job import Job


def full(job: Job, expected: Fingerprints) -> Job:
    """Return *job* made of exactly what was looked up, with the fingerprints that say so.

    Without the pins a base AMI or a tag that moves meanwhile would be baked under the fingerprint of the old one. What
    could not be looked up is not pinned; the template finds it, or its absence, itself.
    """
    # Not in `prepare`: the commands of a dry run may be run by hand, and nobody would then call the AMI finished.
    pins = {"fingerprints": json.dumps(dict(expected.values), sort_keys=True), "finished": "false"}
    if "base" in expected.values:
        pins["source_ami"] = expected.values["base"]
    if "image" in expected.values:
        pins["image_digest"] = expected.values["image"].rpartition("@")[2]
    return job.given(**pins)


def on_parent(run: Invocation, job: Job, compared: Comparison) -> Job | None:
    """Return the full build *job* as one on top of the family's last AMI; None, and says why, where it must not be.

    Raises:
        AwsError: AWS or its KMS refused to say whose signature the AMI's provenance has.
    """
    parent = compared.live
    limit = run.settings.build.chain_limit
    volume_gib = int(job.variables.volume_size_gib)
    refusal = lineage.why_not(parent, compared.expected, limit=limit, volume_gib=volume_gib)
    if parent is not None and compared.has_failed:
        refusal = f"{parent.image_id} failed its verification"
    if parent is not None and refusal is None and (why := attested.shown(run, parent)).state == "refused":
        # What is in it would be signed anew, with the child.
        refusal = why.detail.rstrip(".")
    if refusal is not None or parent is None:
        run.console.say(f"A full bake: {refusal}.")
        return None
    length = (lineage.chain_length(parent) or 0) + 1
    run.console.say(f"An incremental bake on {parent.image_id}, number {length} of at most {limit} on a full one.")
    return job.given(source_ami=parent.image_id, chain_length=str(length))
