"""The checks that must pass before an instance is paid for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

from gpu_ami.aws import inputs
from gpu_ami.aws.access import Access, identify
from gpu_ami.errors import PipelineError
from gpu_ami.ids import AMI_ID
from gpu_ami.units import show_bytes

Status = Literal["ok", "warn", "fail", "skip"]

BASE_AMI_PARAMETER = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"


@dataclass(frozen=True)
class Check:
    """What one check found, and what to do about it.

    Attributes:
        check: Its name.
        status: Only ``fail`` keeps a build from starting.
        detail: What was found, with the value.
        fix: What to do; empty when there is nothing to do.
    """

    check: str
    status: Status
    detail: str
    fix: str = ""

    def document(self) -> dict[str, str]:
        """Return the check as the ``doctor`` task prints it."""
        return asdict(self)


def run_checks(access: Access, values: Mapping[str, Any], *, account: str | None) -> list[Check]:
    """Return the result of every check, in a fixed order; they run side by side and change nothing.

    Args:
        access: Where the build would run.
        values: The template's variables as the build would see them.
        account: The account that the settings insist on, if any.
    """
    checks: tuple[tuple[str, Callable[[], Check]], ...] = (
        ("credentials", lambda: _credentials(access, account)),
        ("base AMI", lambda: _base_ami(access, values)),
        ("container image", lambda: _container_image(access, values)),
        ("models", lambda: _models(access, values)),
        ("network", lambda: _network(access, values)),
    )
    with ThreadPoolExecutor(max_workers=len(checks)) as pool:
        return list(pool.map(lambda named: _judged(*named), checks))


def failed(checks: Sequence[Check]) -> list[Check]:
    """Return the checks that keep a build from starting."""
    return [check for check in checks if check.status == "fail"]


def _judged(name: str, check: Callable[[], Check]) -> Check:
    # A check that could not be made is a failed check: nothing is assumed to be fine.
    try:
        return check()
    except PipelineError as exc:
        return Check(name, "fail", str(exc), "Mend this first; nothing was started.")


def _credentials(access: Access, account: str | None) -> Check:
    who = identify(access)
    if account is not None and who.account != account:
        return Check(
            "credentials",
            "fail",
            f"these are for account {who.account}, pipeline.yaml says {account}",
            "Choose another profile with --profile, or mend `account` in pipeline.yaml.",
        )
    return Check("credentials", "ok", f"{who.arn} in {access.region}")


def _base_ami(access: Access, values: Mapping[str, Any]) -> Check:
    given = str(values.get("source_ami") or "")
    if given:
        return Check("base AMI", "ok", f"{given}, as source_ami says")
    name = str(values.get("base_ami_parameter") or BASE_AMI_PARAMETER)
    found = inputs.parameter(access, name)
    if found is None or AMI_ID.fullmatch(found) is None:
        return Check(
            "base AMI",
            "fail",
            f"{name} names no AMI in {access.region}",
            "Set source_ami in the Packer variables to an ECS GPU AMI of this region.",
        )
    return Check("base AMI", "ok", f"{found}, the recommended ECS GPU AMI")


def _container_image(access: Access, values: Mapping[str, Any]) -> Check:
    repository = inputs.parse_repository_url(str(values.get("ecr_repository_url") or ""))
    tag, digest = str(values.get("image_tag") or ""), str(values.get("image_digest") or "")
    image = inputs.container_image(access, repository, tag=tag, digest=digest)
    if image is None:
        return Check(
            "container image",
            "fail",
            f"{repository.name} in {repository.region} has no image {digest or tag}",
            "Push it, or set image_tag / image_digest in the Packer variables to one that is there.",
        )
    return Check(
        "container image", "ok", f"{repository.name}@{image.digest}, {show_bytes(image.size_bytes)} compressed"
    )


def _models(access: Access, values: Mapping[str, Any]) -> Check:
    bucket = str(values.get("models_s3_bucket") or "")
    if not bucket:
        return Check("models", "skip", "models_s3_bucket is not set; only download-models.sh brings models")
    found = inputs.models_prefix(access, bucket)
    if found is None or not found.objects:
        what = "does not exist" if found is None else "has nothing under models/"
        return Check(
            "models",
            "fail",
            f"the bucket {bucket} {what}",
            f"Upload the models to s3://{bucket}/models/, or leave models_s3_bucket empty.",
        )
    files = "1 file" if found.objects == 1 else f"{found.objects} files"
    return Check("models", "ok", f"{files}, {show_bytes(found.size_bytes)} in s3://{bucket}/models/")


def _network(access: Access, values: Mapping[str, Any]) -> Check:
    subnet, group = (str(values.get(name) or "") for name in ("subnet_id", "security_group_id"))
    if not subnet:
        return Check(
            "network", "fail", "subnet_id is not set", "Set subnet_id in the Packer variables, or run `invoke init`."
        )
    missing = inputs.missing_network(access, subnet_id=subnet, security_group_id=group)
    if missing:
        return Check(
            "network",
            "fail",
            f"{' and '.join(missing)} not found in {access.region}",
            "Mend subnet_id / security_group_id in the Packer variables: is the region right?",
        )
    return Check("network", "ok", f"{subnet}, {group or 'a temporary security group'}")
