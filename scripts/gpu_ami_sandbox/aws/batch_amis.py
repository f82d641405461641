"""Which AMI the hosts of a Batch environment start from, whether it holds an image, and what its tags let go wrong."""

from __future__ import annotations

from typing import Any

from moto.core.exceptions import ServiceException
from moto.ecr.models import ecr_backends
from werkzeug.exceptions import HTTPException

from gpu_ami_sandbox.aws.base_image import base_image_id
from gpu_ami_sandbox.aws.batch_faults import faults_of, rigged, slowness_of
from gpu_ami_sandbox.aws.refusals import RefusalError, refuse

# What says no to something: a refusal of ours or of moto's.
REFUSALS = (ServiceException, HTTPException)
_DIGEST_TAG = "gpu-ami:image-digest"


def image_of(backend: Any, environment: Any) -> Any:
    """Return moto's AMI that hosts of *environment* start from; None when there is none by that id."""
    resources = environment.compute_resources
    override = next((entry.get("imageIdOverride") for entry in resources.get("ec2Configuration") or []), None)
    image_id = override or resources.get("imageId")
    if not image_id:
        try:
            image_id = template_data(backend, environment).get("ImageId") or base_image_id(backend.region_name)
        except REFUSALS:
            return None
    return backend.ec2_backend.amis.get(image_id)


def holds(image: Any, digest: str) -> bool:
    """Return whether *image* is an AMI that holds the container image *digest*."""
    tags = {tag["key"]: tag["value"] for tag in image.get_tags()}
    return bool(digest) and tags.get(_DIGEST_TAG) == digest


def digest_of(backend: Any, reference: str) -> str:
    """Return the digest of the container image *reference*: its own, or the one that its tag has in ECR now."""
    name, _, digest = reference.partition("@")
    if digest:
        return digest
    repository, _, tag = name.partition("/")[2].rpartition(":")
    found = ecr_backends[backend.account_id][backend.region_name].repositories.get(repository)
    images = found.images if found is not None else []
    return next((str(image.image_digest) for image in images if tag in image.image_tags), "")


def template_data(backend: Any, environment: Any) -> dict[str, Any]:
    """Return what the launch template of *environment* says; nothing without one.

    Raises:
        Exception: One of `REFUSALS`: there is no such template, or version of it.
    """
    named = environment.compute_resources.get("launchTemplate") or {}
    keys = {"launchTemplateId": "LaunchTemplateId", "launchTemplateName": "LaunchTemplateName", "version": "Version"}
    given = {theirs: named[ours] for ours, theirs in keys.items() if named.get(ours)}
    if (number := given.get("LaunchTemplateId")) and number not in backend.ec2_backend.launch_templates:
        text = f"The specified launch template, with template ID {number}, does not exist."
        refuse("InvalidLaunchTemplateId.NotFound", text)
    data: dict[str, Any] = backend.ec2_backend._get_template_from_args(given).data if given else {}
    return data


def faults_on(backend: Any, environment: Any) -> frozenset[str]:
    """Return the faults that befall *environment* and its jobs: asked for by a test, or by its AMI's tag."""
    asked = rigged(backend, environment.name)
    image = image_of(backend, environment)
    return asked if wrong_tags(image) else asked | faults_of(image)


def wrong_tags(image: Any) -> str:
    """Return why the tags of moto's *image* say nothing known; empty where they do, or say nothing."""
    try:
        faults_of(image)
        slowness_of(image)
    except RefusalError as wrong:
        return str(wrong.message)
    return ""
