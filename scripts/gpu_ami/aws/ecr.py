"""Queries ECR: a repository's URL, its images, the one that a tag or digest names, its lifecycle policy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, making_sense
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


# Whether there is such an image is what is asked for; that there is none is an answer.
_ABSENT = frozenset({"ImageNotFoundException", "RepositoryNotFoundException"})
_PAGE = 1000


@dataclass(frozen=True)
class ContainerImage:
    """An image in ECR.

    Attributes:
        digest: Its immutable digest.
        size_bytes: Its compressed size.
        tags: Its tags.
        status: ``ACTIVE``, ``ARCHIVED`` or, on its way back, ``ACTIVATING``; empty when ECR says nothing.
        pushed_at: When it was pushed; None when ECR gives no date, as in the following ones.
        pulled_at: When it was last pulled, up to a day late; None for never, too.
        activated_at: When it was last brought back from the archive.
        archived_at: When it was last archived.
    """

    digest: str
    size_bytes: int
    tags: tuple[str, ...] = ()
    status: str = ""
    pushed_at: datetime | None = None
    pulled_at: datetime | None = None
    activated_at: datetime | None = None
    archived_at: datetime | None = None


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

    One in the archive is an image too, with its status: DescribeImages shows it only where its filter asks for it
    ("If not specified, only images with ACTIVE status are returned", the API's own words).

    Raises:
        AwsError: ECR refused for another reason, or gave no usable answer.
    """
    found = _look_up(caller, repository, tag=tag, digest=digest)
    if found is not None:
        return found
    try:
        return _look_up(caller, repository, tag=tag, digest=digest, filter={"imageStatus": "ANY"})
    except RefusedError as exc:
        # An ECR that does not know the filter has no archive.
        if exc.code in {"InvalidParameterException", "ValidationException"}:
            return None
        raise


def _look_up(caller: Caller, repository: RepositoryUrl, *, tag: str, digest: str, **how: Any) -> ContainerImage | None:
    try:
        answer = caller.elsewhere(repository.region).call(
            "ecr",
            "describe_images",
            doing=f"look up the image {digest or tag} of {repository.name}",
            imageIds=[{"imageDigest": digest} if digest else {"imageTag": tag}],
            **_named(repository),
            **how,
        )
    except RefusedError as exc:
        if exc.code in _ABSENT:
            return None
        raise
    with making_sense(f"ecr:DescribeImages in {repository.region}"):
        rows = answer["imageDetails"]
        return _image(rows[0]) if rows else None


def active_images(caller: Caller, repository: RepositoryUrl) -> list[ContainerImage]:
    """Return every image of the repository that can be pulled.

    Raises:
        AwsError: ECR refused, or the list could not be read to its end.
    """
    rows = caller.elsewhere(repository.region).pages(
        "ecr",
        "describe_images",
        "imageDetails",
        page_key="nextToken",
        doing=f"list the images of {repository.name}",
        maxResults=_PAGE,
        **_named(repository),
    )
    with making_sense(f"ecr:DescribeImages in {repository.region}"):
        return [_image(row) for row in rows]


def lifecycle_policy(caller: Caller, repository: RepositoryUrl) -> str | None:
    """Return the text of the repository's lifecycle policy; None when it has none, or there is no such repository.

    Raises:
        AwsError: ECR refused for another reason, or gave no usable answer.
    """
    doing = f"read the lifecycle policy of {repository.name}"
    try:
        answer = caller.elsewhere(repository.region).call(
            "ecr", "get_lifecycle_policy", doing=doing, **_named(repository)
        )
    except RefusedError as exc:
        if exc.code in {"LifecyclePolicyNotFoundException", "RepositoryNotFoundException"}:
            return None
        raise
    with making_sense(f"ecr:GetLifecyclePolicy in {repository.region}"):
        return str(answer["lifecyclePolicyText"])


def _named(repository: RepositoryUrl) -> dict[str, str]:
    return {"registryId": repository.account, "repositoryName": repository.name}


def _image(row: Mapping[str, Any]) -> ContainerImage:
    return ContainerImage(
        digest=row["imageDigest"],
        size_bytes=int(row.get("imageSizeInBytes", 0)),
        tags=tuple(row.get("imageTags") or ()),
        status=row.get("imageStatus") or "",
        pushed_at=row.get("imagePushedAt"),
        pulled_at=row.get("lastRecordedPullTime"),
        activated_at=row.get("lastActivatedAt"),
        archived_at=row.get("lastArchivedAt"),
    )
