"""The local ECR's archive and lifecycle policies: what `doctor` relies on, as ECR's guide and API describe it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from moto.ecr.models import ecr_backends

from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.ecr import RepositoryUrl, active_images
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.demo.content import container_image
from tests.support.resources import REGION, refused

NAME = "batch-processor"
IMAGE = container_image()


@pytest.fixture
def ecr(aws: LocalAws, access: Access) -> Any:
    """A client, and a repository with one image."""
    backend = ecr_backends[aws.account_id][REGION]
    backend.create_repository(NAME, None, None, None, "MUTABLE", [])
    backend.put_image(NAME, IMAGE.manifest, "v1", IMAGE.media_type, IMAGE.digest)
    return access.client("ecr")


def move(ecr: Any, storage_class: str) -> str:
    """Move the image to another storage class and return the status that ECR answers."""
    answer = ecr.update_image_storage_class(
        repositoryName=NAME, imageId={"imageTag": "v1"}, targetStorageClass=storage_class
    )
    return str(answer["imageStatus"])


def test_an_image_is_pushed_under_the_digest_of_its_manifest(ecr: Any) -> None:
    """Whoever pulls it verifies that: with any other digest a new tag in the demo registry could not be baked."""
    manifest = IMAGE.manifest.replace("{", '{ "annotations": {},', 1)
    digest = f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
    named: dict[str, Any] = {"repositoryName": NAME, "imageManifest": manifest, "imageTag": "v2"}

    with refused("ImageDigestDoesNotMatchException"):
        ecr.put_image(**named, imageDigest=IMAGE.digest)
    pushed = ecr.put_image(**named)["image"]

    assert pushed["imageId"] == {"imageDigest": digest, "imageTag": "v2"}
    (found,) = ecr.batch_get_image(repositoryName=NAME, imageIds=[{"imageTag": "v2"}])["images"]
    assert (found["imageManifest"], found["imageId"]["imageDigest"]) == (manifest, digest)


def test_an_archived_image_is_shown_only_on_request(ecr: Any) -> None:
    """The API returns ACTIVE ones "if not specified": a plain look takes an archived image for gone."""
    named: dict[str, Any] = {"repositoryName": NAME, "imageIds": [{"imageTag": "v1"}]}
    (active,) = ecr.describe_images(**named)["imageDetails"]
    assert active["imageStatus"] == "ACTIVE"
    assert move(ecr, "ARCHIVE") == "ARCHIVED"

    with refused("ImageNotFoundException"):
        ecr.describe_images(**named)
    assert ecr.describe_images(repositoryName=NAME)["imageDetails"] == []
    for status in ("ANY", "ARCHIVED"):
        (shown,) = ecr.describe_images(**named, filter={"imageStatus": status})["imageDetails"]
        assert (shown["imageStatus"], shown["imageDigest"]) == ("ARCHIVED", IMAGE.digest)
        assert "lastArchivedAt" in shown

    assert move(ecr, "STANDARD") == "ACTIVATING"
    (back,) = ecr.describe_images(**named)["imageDetails"]
    assert back["imageStatus"] == "ACTIVE"
    assert back["lastActivatedAt"] >= back["lastArchivedAt"]


def test_images_come_in_pages(aws: LocalAws, access: Access, ecr: Any) -> None:
    """A repository has more images than a page."""
    backend = ecr_backends[aws.account_id][REGION]
    for number in range(5):
        manifest = json.dumps({"layers": [{"size": number}]})
        backend.put_image(NAME, manifest, f"n{number}", IMAGE.media_type, f"sha256:{number:064d}")

    pages = [ecr.describe_images(repositoryName=NAME, maxResults=4)]
    pages.append(ecr.describe_images(repositoryName=NAME, maxResults=4, nextToken=pages[0]["nextToken"]))

    assert [len(page["imageDetails"]) for page in pages] == [4, 2]
    assert "nextToken" not in pages[1]
    found = active_images(Caller(access), RepositoryUrl(aws.account_id, REGION, NAME))
    assert sorted(tag for image in found for tag in image.tags) == ["n0", "n1", "n2", "n3", "n4", "v1"]


def put(ecr: Any, action: dict[str, Any], **selection: Any) -> str:
    """Give the repository a policy of one rule and return what it then has."""
    rule = {"rulePriority": 1, "selection": {"tagStatus": "any", **selection}, "action": action}
    ecr.put_lifecycle_policy(repositoryName=NAME, lifecyclePolicyText=json.dumps({"rules": [rule]}))
    return str(ecr.get_lifecycle_policy(repositoryName=NAME)["lifecyclePolicyText"])


DELETE, ARCHIVE = {"type": "expire"}, {"type": "transition", "targetStorageClass": "archive"}
DAYS = {"countUnit": "days", "countNumber": 90}


@pytest.mark.parametrize(
    ("action", "selection"),
    [
        (DELETE, {"countType": "imageCountMoreThan", "countNumber": 5}),
        (DELETE, {"countType": "sinceImagePushed", **DAYS}),
        (ARCHIVE, {"countType": "sinceImagePushed", **DAYS, "storageClass": "standard"}),
        (ARCHIVE, {"countType": "sinceImagePulled", **DAYS}),
        (DELETE, {"countType": "sinceImageTransitioned", **DAYS, "storageClass": "archive"}),
    ],
)
def test_a_policy_stays_as_it_was_written(ecr: Any, action: dict[str, Any], selection: dict[str, Any]) -> None:
    """Of the archive and of pulls, too, of which moto knows nothing."""
    (rule,) = json.loads(put(ecr, action, **selection))["rules"]

    assert rule == {"rulePriority": 1, "selection": {"tagStatus": "any", **selection}, "action": action}


@pytest.mark.parametrize(
    ("action", "selection"),
    [
        (DELETE, {"countType": "sinceImagePulled", **DAYS}),
        (DELETE, {"countType": "sinceImageTransitioned", **DAYS}),
        (DELETE, {"countType": "sinceImageTransitioned", **DAYS, "storageClass": "archive", "countNumber": 89}),
        (ARCHIVE, {"countType": "sinceImageTransitioned", **DAYS, "storageClass": "archive"}),
        (DELETE, {"countType": "sinceImagePushed", **DAYS, "storageClass": "archive"}),
        ({"type": "transition"}, {"countType": "sinceImagePulled", **DAYS}),
        ({**DELETE, "targetStorageClass": "archive"}, {"countType": "sinceImagePushed", **DAYS}),
        (DELETE, {"countType": "sinceImageScanned", **DAYS}),
    ],
)
def test_a_policy_that_ecr_refuses(ecr: Any, action: dict[str, Any], selection: dict[str, Any]) -> None:
    """Each kind of rule has one storage class, and those that it may do."""
    with refused("InvalidParameterException"):
        put(ecr, action, **selection)
    with refused("LifecyclePolicyNotFoundException"):
        ecr.get_lifecycle_policy(repositoryName=NAME)


def test_a_text_that_is_no_policy(ecr: Any) -> None:
    """Refused, not kept."""
    with refused("InvalidParameterException"):
        ecr.put_lifecycle_policy(repositoryName=NAME, lifecyclePolicyText="x" * 100)
