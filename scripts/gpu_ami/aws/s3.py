"""Lists objects in S3, and reads and writes small texts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpu_ami.aws.access import aws_errors
from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError

_LARGEST_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Prefix:
    """What lies under an S3 prefix: number of objects and bytes in total."""

    objects: int
    size_bytes: int


@dataclass(frozen=True)
class ModelObject:
    """An object under the bucket's models/: its key below that, its size in bytes and its ETag."""

    key: str
    size_bytes: int
    etag: str


def put_text(caller: Caller, bucket: str, key: str, text: str) -> None:
    """Write *text* to an object, encrypted at rest as the bucket says.

    Raises:
        AwsError: S3 refused or cannot be reached.
    """
    written = {"Bucket": bucket, "Key": key, "Body": text.encode(), "ContentType": "application/json"}
    caller.call("s3", "put_object", doing=f"write s3://{bucket}/{key}", **written)


def get_bytes(caller: Caller, bucket: str, key: str, *, limit_bytes: int) -> bytes | None:
    """Return an object's content, of a larger one *limit_bytes* and one byte more; None where there is no such object.

    Who may not list the bucket is denied an object that is not there, too (S3's reference of GetObject: 403 instead of
    404 without s3:ListBucket).

    Raises:
        AwsError: S3 refused or cannot be reached.
    """
    doing = f"read s3://{bucket}/{key}"
    try:
        answer = caller.call("s3", "get_object", doing=doing, Bucket=bucket, Key=key)
    except RefusedError as exc:
        if exc.code == "NoSuchKey":
            return None
        raise
    with aws_errors(doing), contextlib.closing(answer["Body"]) as body:
        content: bytes = body.read(limit_bytes + 1)
    return content


def list_texts(caller: Caller, bucket: str, prefix: str) -> dict[str, str]:
    """Return the JSON objects directly under *prefix*, by their names without it.

    An object too large to be one of ours is left to the caller as an empty text.

    Raises:
        AwsError: S3 refused or cannot be reached.
    """
    doing = f"read s3://{bucket}/{prefix}"
    found: dict[str, str] = {}
    for row in objects(caller, bucket, prefix, doing=doing, Delimiter="/"):
        if not row["Key"].endswith(".json"):
            continue
        body = b""
        if row["Size"] <= _LARGEST_BYTES:
            answer = caller.call("s3", "get_object", doing=doing, Bucket=bucket, Key=row["Key"])
            with aws_errors(doing):
                body = answer["Body"].read()
        found[row["Key"].removeprefix(prefix)] = body.decode("utf-8", "replace")
    return found


def objects(caller: Caller, bucket: str, prefix: str, *, doing: str, **parameters: Any) -> Iterator[dict[str, Any]]:
    """Yield S3's row of each object under *prefix*; see `Caller.call` for *doing* and the *parameters*.

    Raises:
        RefusedError: S3 refused, such as with the code ``NoSuchBucket``.
        AwsError: S3 cannot be reached.
    """
    # S3 leaves the list out of a page without objects.
    for answer in caller.whole_pages(
        "s3",
        "list_objects_v2",
        page_key="ContinuationToken",
        next_key="NextContinuationToken",
        doing=doing,
        Bucket=bucket,
        Prefix=prefix,
        **parameters,
    ):
        if "IsTruncated" not in answer:
            msg = f"Could not {doing}: S3's answer does not say whether it is whole: it is cut off or malformed."
            raise UnansweredError(msg)
        yield from answer.get("Contents", [])


def models_prefix(caller: Caller, bucket: str, *, prefix: str = "models/") -> Prefix | None:
    """Return how much lies under s3://*bucket*/*prefix*; None when there is no such bucket.

    Raises:
        AwsError: S3 refused.
    """
    try:
        rows = list(objects(caller, bucket, prefix, doing=f"list s3://{bucket}/{prefix}"))
    except RefusedError as exc:
        if exc.code == "NoSuchBucket":
            return None
        raise
    sizes = [int(row["Size"]) for row in rows if not row["Key"].endswith("/")]
    return Prefix(objects=len(sizes), size_bytes=sum(sizes))


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
