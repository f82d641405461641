"""What a bake needs to exist before it starts, looked up without changing anything."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_ami.aws.access import Access, aws_errors, error_code
from gpu_ami.errors import UsageError


@dataclass(frozen=True)
class RepositoryUrl:
    """The parts of ``ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME``."""

    account: str
    region: str
    name: str


@dataclass(frozen=True)
class ContainerImage:
    """An image in ECR: its immutable digest and its compressed size in bytes."""

    digest: str
    size_bytes: int


@dataclass(frozen=True)
class Prefix:
    """What lies under an S3 prefix: number of objects and bytes in total."""

    objects: int
    size_bytes: int


def parse_repository_url(url: str) -> RepositoryUrl:
    """Return the parts of an ECR repository URL.

    Raises:
        UsageError: *url* is not one.
    """
    host, _, name = url.partition("/")
    parts = host.split(".")
    if len(parts) < 6 or parts[1:3] != ["dkr", "ecr"] or not parts[0].isdigit() or not name:
        msg = (
            f"ecr_repository_url {url!r} is not an ECR repository: "
            "give ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME, without tag."
        )
        raise UsageError(msg)
    return RepositoryUrl(account=parts[0], region=parts[3], name=name)


def container_image(access: Access, repository: RepositoryUrl, *, tag: str, digest: str) -> ContainerImage | None:
    """Return the image that *digest*, or without one *tag*, names; None when ECR has no such image.

    Raises:
        AwsError: ECR refused for another reason.
    """
    wanted = {"imageDigest": digest} if digest else {"imageTag": tag}
    client = access.client("ecr", region=repository.region)
    with aws_errors(f"look up the image {digest or tag} of {repository.name}"):
        try:
            answer = client.describe_images(
                registryId=repository.account, repositoryName=repository.name, imageIds=[wanted]
            )
        except client.exceptions.ClientError as exc:
            if error_code(exc) in {"ImageNotFoundException", "RepositoryNotFoundException"}:
                return None
            raise
    detail = answer["imageDetails"][0]
    return ContainerImage(digest=detail["imageDigest"], size_bytes=int(detail.get("imageSizeInBytes", 0)))


def models_prefix(access: Access, bucket: str, *, prefix: str = "models/") -> Prefix | None:
    """Return how much lies under s3://*bucket*/*prefix*; None when there is no such bucket.

    Raises:
        AwsError: S3 refused.
    """
    client = access.client("s3")
    objects = size = 0
    with aws_errors(f"list s3://{bucket}/{prefix}"):
        try:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for entry in page.get("Contents", []):
                    if not entry["Key"].endswith("/"):
                        objects += 1
                        size += int(entry["Size"])
        except client.exceptions.ClientError as exc:
            if error_code(exc) == "NoSuchBucket":
                return None
            raise
    return Prefix(objects=objects, size_bytes=size)


def parameter(access: Access, name: str) -> str | None:
    """Return the value of the SSM parameter *name*; None when there is none.

    Raises:
        AwsError: SSM refused.
    """
    client = access.client("ssm")
    with aws_errors(f"read the parameter {name}"):
        try:
            return str(client.get_parameter(Name=name)["Parameter"]["Value"])
        except client.exceptions.ClientError as exc:
            if error_code(exc) in {"ParameterNotFound", "ParameterVersionNotFound"}:
                return None
            raise
