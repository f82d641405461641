"""Judges what goes into the image: the base AMI, the container image and the models."""

from __future__ import annotations

from datetime import datetime, timedelta

from gpu_ami.aws.ecr import ContainerImage, RepositoryUrl
from gpu_ami.aws.images import Image
from gpu_ami.aws.s3 import Prefix
from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.variables import BuildVariables
from gpu_ami.units import show_bytes, show_count

# AWS makes new ECS AMIs about every other week.
_OLD = timedelta(days=180)
# ECR's name for the status of an image that can be pulled.
_PULLABLE = "ACTIVE"


def no_parameter(name: str, region: str) -> Check:
    """Return the verdict on a parameter that names no AMI."""
    return Check(
        "base AMI",
        "fail",
        f"{name} names no AMI in {region}",
        "Set source_ami in the Packer variables to an ECS GPU AMI of this region.",
    )


def base_ami(
    variables: BuildVariables,
    image_id: str,
    found: Image | None,
    recommended: str | None,
    *,
    account: str,
    now: datetime,
) -> Check:
    """Judge the AMI that the bake starts from.

    Args:
        variables: The bake's variables.
        image_id: The AMI's id.
        found: What EC2 has of it.
        recommended: The AMI that the public parameter names; None when it names none.
        account: The caller's account.
        now: What time it is.
    """

    def say(status: str, detail: str, fix: str = "") -> Check:
        return Check("base AMI", "fail" if status == "fail" else "warn" if status == "warn" else "ok", detail, fix)

    if found is None:
        text = f"EC2 has no AMI {image_id} in this region"
        return say(
            "fail", text, "Fix source_ami, or leave it empty; the line `Allowed AMIs` says whether EC2 hides it."
        )
    created = found.created or now
    age = f"{show_count(max(0, (now - created).days), 'day')} old"
    said = f"{image_id} ({found.name}, {age})"
    if found.state != "available":
        return say("fail", f"{said} is {found.state}", "Set source_ami to an AMI that is available, or leave it empty.")
    if not found.is_amazons and not variables.source_ami:
        text = f"{said} belongs to account {found.account}, not to Amazon"
        return say("fail", text, "Fix base_ami_parameter, or name the AMI in source_ami to say that you trust it.")
    if not found.is_amazons and found.account != account:
        text = f"{said} belongs to account {found.account}"
        return say("warn", text, "Make sure that you know its owner: the image will hold whatever is in it.")
    if found.deprecated_at is not None and found.deprecated_at < now:
        return say("warn", f"{said} is deprecated", "Leave source_ami empty to start from the recommended one.")
    if variables.source_ami and now - created > _OLD:
        newer = f"; {recommended} is recommended now" if recommended not in (None, image_id) else ""
        return say("warn", f"{said}{newer}", "Name a newer AMI in source_ami: this one lacks months of security fixes.")
    return say("ok", f"{said}, {'as source_ami says' if variables.source_ami else 'the recommended ECS GPU AMI'}")


def container_image(variables: BuildVariables, repository: RepositoryUrl, found: ContainerImage | None) -> Check:
    """Judge the container image: is it there, which digest has the tag, how large is it."""
    if found is None:
        return Check(
            "container image",
            "fail",
            f"{repository.name} in {repository.region} has no image {variables.image_digest or variables.image_tag}",
            "Push it, or set image_tag / image_digest in the Packer variables to one that is there.",
        )
    tag = "" if variables.image_digest else f"{variables.image_tag} is "
    said = f"{repository.name}: {tag}{found.digest}, {show_bytes(found.size_bytes)} compressed"
    if found.status not in ("", _PULLABLE):
        return _not_pullable(said, repository, found)
    if not variables.image_digest and variables.image_tag == "latest":
        return Check(
            "container image",
            "warn",
            said,
            "Name an immutable tag or the digest: the AMI keeps what `latest` names now, jobs do not see it move.",
        )
    return Check("container image", "ok", said)


def _not_pullable(said: str, repository: RepositoryUrl, found: ContainerImage) -> Check:
    """Return the verdict on an image that a pull does not get: ECR answers 404 (its guide, Archiving an image)."""
    name, text = "container image", f"{said}, is {found.status}"
    if found.status == "ACTIVATING":
        back = f"{text}: it is on its way back from the archive and cannot be pulled yet"
        return Check(name, "fail", back, "Wait: ECR's guide says up to 20 minutes.")
    if found.status != "ARCHIVED":
        return Check(name, "warn", f"{text}, which this version does not know", "Make sure that it can be pulled.")
    restore = (
        f"`aws ecr update-image-storage-class --registry-id {repository.account} --repository-name {repository.name} "
        f"--region {repository.region} --image-id imageDigest={found.digest} --target-storage-class STANDARD`"
    )
    fix = f"Bring it back (up to 20 minutes): {restore}, or push it again, which does so at once."
    return Check(name, "fail", f"{text}: in the archive it cannot be pulled", fix)


def models(variables: BuildVariables, found: Prefix | None) -> Check:
    """Judge the bucket's models."""
    bucket = variables.models_s3_bucket
    if not bucket:
        return Check("models", "skip", "models_s3_bucket is not set; only the listed downloads bring models")
    if found is None or not found.objects:
        what = "does not exist" if found is None else "has nothing under models/"
        return Check(
            "models",
            "fail",
            f"the bucket {bucket} {what}",
            f"Upload the models to s3://{bucket}/models/, or leave models_s3_bucket empty.",
        )
    files = show_count(found.objects, "file")
    return Check("models", "ok", f"{files}, {show_bytes(found.size_bytes)} in s3://{bucket}/models/")
