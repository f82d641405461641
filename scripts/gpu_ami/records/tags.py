"""The tags and identifier patterns that capabilities share."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gpu_ami.errors import UsageError

# EC2 gave out 8 hexadecimal digits until 2018 and gives out 17 since; both are alive.
AMI_ID = re.compile(r"ami-(?:[0-9a-f]{8}|[0-9a-f]{17})")
REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}")

# Every tag of ours begins so; the template writes the same names.
TAG_PREFIX = "gpu-ami:"
# On everything the pipeline makes: by the template's run_tags, Terraform's local.tags and `publish`.
PIPELINE_TAG = "gpu-ami:pipeline"
PIPELINE = "gpu-ami-pipeline"
FAMILY_TAG = "gpu-ami:family"
RUN_TAG = "gpu-ami:run"
# What the run of a verification begins with: its instance ends by itself, and so may be swept when its time is over.
VERIFICATION_RUN = "verify-"
# What the run of a bench begins with, and the names of all that it makes.
BENCH_RUN = "bench-"
BENCH_NAME = "gpu-ami-bench-"
# On all that a bench makes: when it began by AWS's clock, ISO 8601 in UTC. Batch does not say when a thing was made.
BEGAN_TAG = "gpu-ami:began"
# How many minutes the build itself was allowed; a bench, from `BEGAN_TAG` on.
MAY_TAKE_TAG = "gpu-ami:may-take"
# ``pending`` from the bake on, ``applied`` once Terraform has taken the AMI. Packer sets it on the finished AMI, not on
# the pending one; what fails later than that (a copy in another region, say) may leave an AMI with it.
HANDOVER_TAG = "gpu-ami:handover"
# ``false`` on what `invoke build` makes, from the start; ``true`` on an AMI, written last and by the pipeline itself,
# once Packer has ended well. What was made before there was this tag, or by hand, has none.
FINISHED_TAG = "gpu-ami:finished"
# How much data the AMI's snapshots hold, GiB: what EBS bills for filling a volume from them at a rate.
SNAPSHOT_GIB_TAG = "gpu-ami:snapshot-gib"
# ``TIME/TYPE``: when the AMI was verified, and on which instance type; ``TIME/TYPE/failed`` where a check failed. It
# lets nothing through an apply, but a failure that is newer than the record holds one up: another machine's records
# are not at hand. `build` goes by it both ways.
VERIFIED_TAG = "gpu-ami:verified"
# On an image usage report: a digest of who could launch its AMI when it was requested.
SHARED_TAG = "gpu-ami:shared-with"
# A person's: clean-up leaves alone what carries it.
KEEP_TAG = "gpu-ami:keep"
# What an AMI was made from.
SOURCE_AMI_TAG = "gpu-ami:source-ami"
SOURCE_AMI_NAME_TAG = "gpu-ami:source-ami-name"
# Of the release record, where the base AMI may start NVIDIA MPS with its pipe under /tmp: the bake has looked for that.
MPS_PIPE_TAG = "gpu-ami:mps-pipe"
IMAGE_TAG = "gpu-ami:image"
# Of the release record: what was found in the image, where nothing was looked up before.
IMAGE_DIGEST_TAG = "gpu-ami:image-digest"
# Of the release record: what the image has of them.
KERNEL_TAG = "gpu-ami:kernel"
DRIVER_TAG = "gpu-ami:nvidia-driver"
# Of the release record: one digest of all models' paths and checksums.
MODELS_DIGEST_TAG = "gpu-ami:models-digest"
# The SHA-256 of the file with the AMI's provenance, hexadecimal digits; written after the bake. An AMI with it is not
# used without that file.
PROVENANCE_TAG = "gpu-ami:provenance"
# Of the release record: how much models the bake has laid down.
MODELS_BYTES_TAG = "gpu-ami:models-bytes"
FINGERPRINT_PREFIX = "gpu-ami:fingerprint-"
# How many AMIs of ours there are between it and the base.
CHAIN_TAG = "gpu-ami:chain-length"


def is_unfinished(tags: Mapping[str, str]) -> bool:
    """Whether *tags* of an AMI say that its build has not come to its end; one that was applied counts all the same."""
    return tags.get(FINISHED_TAG) == "false" and tags.get(HANDOVER_TAG) != "applied"


def is_production(tags: Mapping[str, str], family: str) -> bool:
    """Whether *tags* of something in Batch are those of the family's production: what a bench makes carries a run, too.

    Terraform never sets one (terraform/main.tf).
    """
    return tags.get(FAMILY_TAG) == family and RUN_TAG not in tags


def is_finished(tags: Mapping[str, str]) -> bool:
    """Whether *tags* are those of an AMI whose build has come to its end."""
    return HANDOVER_TAG in tags and not is_unfinished(tags)


def finishing_command(region: str, ami_id: str) -> str:
    """Return the command by which a person calls an AMI finished whose build could not, so that no sweep takes it.

    It sets both tags that `is_finished` asks for: where the wait for the AMI failed, Packer has not set its own.
    """
    tags = f"Key={FINISHED_TAG},Value=true Key={HANDOVER_TAG},Value=pending"
    return f"aws ec2 create-tags --region {region} --resources {ami_id} --tags {tags}"


def checked_ami_id(text: str, *, name: str = "AMI id") -> str:
    """Return *text* when it is an AMI id.

    Raises:
        UsageError: It is something else.
    """
    if AMI_ID.fullmatch(text) is None:
        msg = f"{name} {text[:80]!r} is not an AMI id: give ami- and 8 or 17 hexadecimal digits."
        raise UsageError(msg)
    return text
