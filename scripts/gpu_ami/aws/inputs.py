"""What a bake needs to exist before it starts, looked up without changing anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gpu_ami.aws.access import Access, aws_errors, error_code
from gpu_ami.aws.calls import Caller, RefusedError
from gpu_ami.aws.objects import objects
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


def parameter(caller: Caller, name: str) -> str | None:
    """Return the value of the SSM parameter *name*; None when there is none.

    Raises:
        AwsError: SSM refused.
    """
    try:
        answer = caller.call("ssm", "get_parameter", doing=f"read the parameter {name}", Name=name)
    except RefusedError as exc:
        if exc.code in {"ParameterNotFound", "ParameterVersionNotFound"}:
            return None
        raise
    return str(answer["Parameter"]["Value"])


@dataclass(frozen=True)
class BaseImage:
    """The AMI to start from.

    Attributes:
        image_id: Its id.
        name: Its name.
        owner: Account that owns it.
        is_amazons: Whether that is Amazon.
        state: ``available``, …
        architecture: ``x86_64`` or ``arm64``.
        root_gib: Size of its root volume, GiB.
        created: When it was made.
        deprecated: When EC2 lets it count as deprecated; None never.
    """

    image_id: str
    name: str
    owner: str
    is_amazons: bool
    state: str
    architecture: str
    root_gib: int
    created: datetime
    deprecated: datetime | None


def base_image(access: Access, image_id: str) -> BaseImage | None:
    """Return the AMI *image_id*, deprecated ones too; None when EC2 does not know it.

    Raises:
        AwsError: EC2 refused for another reason.
    """
    client = access.client("ec2")
    with aws_errors(f"look up the AMI {image_id}"):
        try:
            images = client.describe_images(ImageIds=[image_id], IncludeDeprecated=True)["Images"]
        except client.exceptions.ClientError as exc:
            if not error_code(exc).startswith("InvalidAMIID"):
                raise
            images = []
    if not images:
        return None
    found = images[0]
    devices = {entry["DeviceName"]: entry.get("Ebs", {}) for entry in found.get("BlockDeviceMappings", [])}
    deprecated = found.get("DeprecationTime")
    return BaseImage(
        image_id=image_id,
        name=found.get("Name", ""),
        owner=found["OwnerId"],
        is_amazons=found.get("ImageOwnerAlias") == "amazon",
        state=found["State"],
        architecture=found["Architecture"],
        root_gib=int(devices.get(found.get("RootDeviceName", ""), {}).get("VolumeSize", 0)),
        created=_moment(found["CreationDate"]),
        deprecated=_moment(deprecated) if deprecated else None,
    )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
