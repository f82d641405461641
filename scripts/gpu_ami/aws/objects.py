"""Small texts in S3."""

from __future__ import annotations

from gpu_ami.aws.access import Access, aws_errors

_LARGEST_BYTES = 1024 * 1024


def put_text(access: Access, bucket: str, key: str, text: str, region: str | None = None) -> None:
    """Write *text* to an object, encrypted at rest as the bucket says.

    Raises:
        AwsError: S3 refused or cannot be reached.
    """
    with aws_errors(f"write s3://{bucket}/{key}"):
        access.client("s3", region=region).put_object(
            Bucket=bucket, Key=key, Body=text.encode(), ContentType="application/json"
        )


def list_texts(access: Access, bucket: str, prefix: str, region: str | None = None) -> dict[str, str]:
    """Return the JSON objects directly under *prefix*, by their names without it.

    An object too large to be one of ours is left to the caller as an empty text.

    Raises:
        AwsError: S3 refused or cannot be reached.
    """
    client = access.client("s3", region=region)
    found: dict[str, str] = {}
    with aws_errors(f"read s3://{bucket}/{prefix}"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
            for row in page.get("Contents", []):
                if not row["Key"].endswith(".json"):
                    continue
                body = b""
                if row["Size"] <= _LARGEST_BYTES:
                    body = client.get_object(Bucket=bucket, Key=row["Key"])["Body"].read()
                found[row["Key"].removeprefix(prefix)] = body.decode("utf-8", "replace")
    return found
