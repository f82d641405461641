"""The AMIs of one family in one region, and what a new one would be made from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from gpu_ami.aws.access import Access, aws_errors
from gpu_ami.aws.calls import Caller
from gpu_ami.aws.images import Image, images_with
from gpu_ami.ids import FAMILY_TAG, HANDOVER_TAG, PIPELINE_TAG

_LONG_AGO = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class ModelObject:
    """An object under the bucket's models/: its key below that, its size in bytes and its ETag."""

    key: str
    size_bytes: int
    etag: str


def newest(caller: Caller, family: str) -> Image | None:
    """Return the newest finished AMI of ours in *family* that can be launched; None when there is none.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    filters = {f"tag:{FAMILY_TAG}": family, "tag-key": HANDOVER_TAG, "state": "available"}
    finished = [image for image in images_with(caller, filters) if PIPELINE_TAG in image.tags and not image.problems]
    return max(finished, key=lambda image: (image.created or _LONG_AGO, image.image_id), default=None)


def model_objects(access: Access, bucket: str, *, prefix: str = "models/") -> list[ModelObject]:
    """Return what lies under s3://*bucket*/*prefix*, folders left out.

    Raises:
        AwsError: S3 refused, or there is no such bucket.
    """
    found: list[ModelObject] = []
    with aws_errors(f"list s3://{bucket}/{prefix}"):
        pages = access.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for entry in (entry for page in pages for entry in page.get("Contents", [])):
            if not entry["Key"].endswith("/"):
                found.append(ModelObject(entry["Key"].removeprefix(prefix), int(entry["Size"]), str(entry["ETag"])))
    return found
