"""Checks and completes the release record after the bake; tags the AMI and its copies with it, and as finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from gpu_ami.aws import images
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.image_changes import NOT_YET, add_tags, mark_finished
from gpu_ami.errors import AwsError, BuildError
from gpu_ami.files import read_text, write_atomic
from gpu_ami.invocation import Invocation
from gpu_ami.records import manifest_file as manifests
from gpu_ami.records import release as releases
from gpu_ami.records.tags import FINISHED_TAG, MPS_PIPE_TAG, TAG_PREFIX

if TYPE_CHECKING:
    from gpu_ami.bake.job import Baked

# EC2's limit for one AMI, which the template's tags and twenty of the user's own nearly reach.
_MOST_TAGS = 50
# Left out first, the last one before the others: gpu-ami:fingerprint-image begins with the same as image-tag; without
# MPS's `status` may warn; how many models there are, nobody but people reads.
_SPARE = (f"{TAG_PREFIX}models-count", MPS_PIPE_TAG, f"{TAG_PREFIX}image-tag")


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """An AMI that was made.

    Attributes:
        image: The AMI of the pipeline's region.
        snapshot_gib: Data written in its snapshots; None when EC2 does not say.
        release: The release record.
        text: The same as the builder wrote it, byte for byte.
        tags: What it and its copies are to be tagged with after the bake.
    """

    image: images.Image
    snapshot_gib: float | None
    release: releases.Release
    text: str
    tags: Mapping[str, str]


def record(
    run: Invocation, baked: Baked, made: manifests.Build, *, first: Mapping[str, str] = MappingProxyType({})
) -> Recorded:
    """Check the release record of what was made and complete it; return the AMI, and the tags that it is to get.

    Args:
        run: This invocation.
        baked: The bake.
        made: What it made.
        first: More tags, which go before these where there is no room for all.

    Raises:
        BuildError: The record is missing, of another build or not what a bake writes: what else in the image is not?
        AwsError: EC2 does not say what was made.
    """
    path = Path(baked.job.variables.release_path or run.workspace.release)
    path = path if path.is_absolute() else baked.job.packer.folder / path
    release = releases.load(path, run_id=baked.job.run_id)
    caller = Caller(run.access, run.access.region)
    image = images.describe(caller, made.amis[run.access.region])
    snapshot_gib = images.written_gib(caller, image)
    text = read_text(path, what="release record", limit_bytes=releases.LIMIT_BYTES)
    completed = releases.completed(text, snapshot_gib=snapshot_gib)
    write_atomic(path, completed, what="release record")
    tags = _fitting({**first, **releases.tags(release, snapshot_gib=snapshot_gib)}, image.tags)
    return Recorded(image=image, snapshot_gib=snapshot_gib, release=release, text=text, tags=tags)


def _fitting(tags: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    """Return those of *tags* for which there is room beside those *present*: EC2 would refuse all of them at once."""
    room = max(0, _MOST_TAGS - len(set(present) - set(tags)))
    kept_first = sorted(tags.items(), key=lambda tag: _SPARE.index(tag[0]) if tag[0] in _SPARE else -1)
    return dict(kept_first[:room])


def tag(run: Invocation, made: manifests.Build, recorded: Recorded) -> frozenset[str]:
    """Tag the AMI and its copies with what Packer cannot know; return those of which EC2 refused it.

    That is a warning: an AMI is as good without, and whoever needs one of these facts says so. An AMI that EC2 does not
    know yet, most likely a copy, is waited for: nothing writes the tags later.
    """
    refused: set[str] = set()
    for region, ami in made.amis.items():
        try:
            add_tags(Caller(run.access, region).expecting(*NOT_YET), ami, recorded.tags)
        except AwsError as exc:
            refused.add(ami)
            run.console.warn(f"{ami} in {region} has no tags with its release facts: {exc}")
    return frozenset(refused)


def finish(run: Invocation, made: manifests.Build) -> dict[str, images.Image]:
    """Tag every AMI of the build as finished, the one of the pipeline's region last: `--if-stale` and sweep go by it.

    Returns:
        Each as EC2 described it before that, by its region.

    Raises:
        BuildError: EC2 refused. An AMI that looks like a failed build's must not be handed over: a sweep would take it.
    """
    home, found = run.access.region, {}
    for region, ami in sorted(made.amis.items(), key=lambda pair: (pair[0] == home, pair)):
        caller = Caller(run.access, region).expecting(*NOT_YET)
        try:
            found[region] = images.describe(caller, ami)
            mark_finished(caller, found[region])
        except AwsError as exc:
            msg = (
                f"{ami} in {region} could not be tagged {FINISHED_TAG}=true ({str(exc).rstrip('.')}): a sweep "
                "takes it for a failed build's."
            )
            raise BuildError(msg) from exc
    return found
