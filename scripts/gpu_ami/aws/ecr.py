"""Queries ECR: a repository's URL, and the image that a tag or digest names."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_ami.aws.caller import Caller, RefusedError
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


def container_image(caller: Caller, repository: RepositoryUrl, *, tag: str, digest: str) -> ContainerImage | None:
    """Return the image that *digest*, or without one *tag*, names; None when ECR has no such image.

    Raises:
        AwsError: ECR refused for another reason.
    """
    try:
        answer = caller.elsewhere(repository.region).call(
            "ecr",
            "describe_images",
            doing=f"look up the image {digest or tag} of {repository.name}",
            registryId=repository.account,
            repositoryName=repository.name,
            imageIds=[{"imageDigest": digest} if digest else {"imageTag": tag}],
        )
    except RefusedError as exc:
        if exc.code in {"ImageNotFoundException", "RepositoryNotFoundException"}:
            return None
        raise
    detail = answer["imageDetails"][0]
    return ContainerImage(digest=detail["imageDigest"], size_bytes=int(detail.get("imageSizeInBytes", 0)))
