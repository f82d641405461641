"""Queries ECR: a repository's URL, and the image that a tag or digest names."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpu_ami.aws.caller import Caller, RefusedError
from gpu_ami.errors import UsageError

# A registry's hosts: plain or FIPS, by IPv4 (dkr.ecr.REGION.amazonaws…) or dual-stack (dkr-ecr.REGION.on.…), in the
# partitions aws, aws-us-gov, aws-cn and aws-eusc. The template and terraform/modules/bake have the same rule.
REPOSITORY_URL = re.compile(
    r"[0-9]{12}\."
    r"(dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.(com(\.cn)?|eu)"
    r"|dkr-ecr(-fips)?\.[a-z0-9-]+\.on\.(aws|amazonwebservices\.(com\.cn|eu)))"
    r"/[a-z0-9][a-z0-9._/-]*"
)


@dataclass(frozen=True)
class RepositoryUrl:
    """The parts of a repository's URL, such as ``ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME``."""

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
    if REPOSITORY_URL.fullmatch(url) is None:
        msg = (
            f"ecr_repository_url {url!r} is not an ECR repository: "
            "give ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME, without tag."
        )
        raise UsageError(msg)
    host, _, name = url.partition("/")
    parts = host.split(".")
    return RepositoryUrl(account=parts[0], region=parts[3] if parts[1] == "dkr" else parts[2], name=name)


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
