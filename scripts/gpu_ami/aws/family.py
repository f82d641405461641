"""The AMIs of one family in one region, and what a new one would be made from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.images import Image, images_with
from gpu_ami.aws.s3 import objects
from gpu_ami.records.tags import FAMILY_TAG, HANDOVER_TAG, PIPELINE_TAG

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


def model_objects(caller: Caller, bucket: str, *, prefix: str = "models/") -> list[ModelObject]:
    """Return what lies under s3://*bucket*/*prefix*, folders left out.

    Raises:
        AwsError: S3 refused, or there is no such bucket.
    """
    return [
        ModelObject(row["Key"].removeprefix(prefix), int(row["Size"]), str(row["ETag"]))
        for row in objects(caller, bucket, prefix, doing=f"list s3://{bucket}/{prefix}")
        if not row["Key"].endswith("/")
    ]
