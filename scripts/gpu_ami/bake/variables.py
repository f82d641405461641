"""`BuildVariables`: the template's variables with its types, whichever way each was given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gpu_ami.aws.capacity import has_gpu
from gpu_ami.errors import UsageError

BASE_AMI_PARAMETER = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"


@dataclass(frozen=True, kw_only=True)
class BuildVariables:
    """What a build will make: the variables that this package reads itself, by the template's names and with its types.

    Attributes:
        model_downloads: How many models are downloaded; those in models.yaml only after `with_listed`.
        subnet_ids: The builder's subnet, then those to fall back to.
        instance_types: The builder's type, then those to fall back to; for a Spot builder all that it may have.
        instance_type: The builder's type alone; of a Spot builder only what a build without Spot would have.
        snapshot_copy_duration_minutes: Within how long EC2 is to finish each copy; 0 for no promise.
        is_protected: Whether EC2 is to refuse to deregister the AMI; an action of its own.
        ssh_host: Where the sandbox's guest takes the builder's place; empty on AWS.
        ssh_port: Its port; 0 for SSH's own.
        release_path: Where the release record is written; empty for the template's own choice.
        chain_length: How many incremental bakes lie between the AMI and a full one.
        ecs_extra_keys: The ECS agent's settings that are added by name.
        poll_delay_seconds: One factor of the time that Packer gives each wait, seconds.
        poll_max_attempts: The other factor.
    """

    ecr_repository_url: str
    image_tag: str
    image_digest: str
    models_s3_bucket: str
    model_downloads: int
    base_ami_parameter: str
    source_ami: str
    subnet_ids: tuple[str, ...]
    security_group_id: str
    caller_cidrs: tuple[str, ...]
    ssh_interface: str
    ssh_host: str
    ssh_port: int
    iam_instance_profile: str
    instance_type: str
    instance_types: tuple[str, ...]
    spot: bool
    require_gpu: bool
    volume_size_gib: float
    volume_iops: float
    volume_throughput_mib_s: float
    min_free_gib: float
    kms_key_id: str
    deprecate_after_days: float
    is_protected: bool
    ami_regions: tuple[str, ...]
    snapshot_copy_duration_minutes: float
    is_shared: bool
    family: str
    release_path: str
    chain_length: int
    ecs_extra_keys: tuple[str, ...]
    poll_delay_seconds: float
    poll_max_attempts: float

    @property
    def is_reached_directly(self) -> bool:
        """Whether Packer logs in to the builder itself: not where the sandbox's guest takes its place."""
        return not self.ssh_host

    def with_listed(self, models: int) -> BuildVariables:
        """Return these variables with the *models* that models.yaml lists, which the template puts behind its own."""
        return replace(self, model_downloads=self.model_downloads + models)


def typed(values: Mapping[str, Any]) -> BuildVariables:
    """Return the variables *values* with their types.

    Args:
        values: The template's variables.

    Raises:
        UsageError: A value has another type than the template's variable.
    """
    kinds = (_text, _number, _whole, _flag, _texts, _names)
    text, number, whole, flag, texts, names = (_Reader(values, kind) for kind in kinds)
    spot = flag("spot")
    types = texts("spot_instance_types") if spot else _in_turn(text("instance_type"), texts("fallback_instance_types"))
    return BuildVariables(
        ecr_repository_url=text("ecr_repository_url"),
        image_tag=text("image_tag"),
        image_digest=text("image_digest"),
        models_s3_bucket=text("models_s3_bucket"),
        model_downloads=_count(values.get("model_downloads")),
        base_ami_parameter=text("base_ami_parameter") or BASE_AMI_PARAMETER,
        source_ami=text("source_ami"),
        subnet_ids=_unique(text("subnet_id"), *texts("fallback_subnet_ids")),
        security_group_id=text("security_group_id"),
        caller_cidrs=texts("caller_cidrs"),
        ssh_interface=text("ssh_interface") or "public_ip",
        ssh_host=text("ssh_host"),
        ssh_port=whole("ssh_port"),
        iam_instance_profile=text("iam_instance_profile"),
        instance_type=text("instance_type"),
        instance_types=_unique(*types),
        spot=spot,
        require_gpu=flag("require_gpu"),
        volume_size_gib=number("volume_size_gib"),
        volume_iops=number("volume_iops"),
        volume_throughput_mib_s=number("volume_throughput_mib_s"),
        min_free_gib=number("min_free_gib"),
        kms_key_id=text("kms_key_id"),
        deprecate_after_days=number("deprecate_after_days"),
        is_protected=text("deregistration_protection") not in ("", "off"),
        ami_regions=texts("ami_regions"),
        snapshot_copy_duration_minutes=number("snapshot_copy_duration_minutes"),
        is_shared=any(texts(name) for name in ("ami_users", "ami_org_arns", "ami_ou_arns")),
        family=text("family"),
        release_path=text("release_path"),
        chain_length=whole("chain_length"),
        ecs_extra_keys=names("ecs_extra_config"),
        poll_delay_seconds=number("poll_delay_seconds"),
        poll_max_attempts=number("poll_max_attempts"),
    )


class _Reader:
    """Reads variables of one type; `--packer-var` gives each as text."""

    def __init__(self, values: Mapping[str, Any], kind: Any) -> None:
        self._values, self._kind = values, kind

    def __call__(self, name: str) -> Any:
        given = self._values.get(name)
        try:
            return self._kind(given)
        except (TypeError, ValueError, OverflowError) as exc:
            what = _KINDS.get(self._kind, "a text")
            msg = (
                f"The Packer variable {name} is {given!r}, not {what}: fix it in the variables file or in --packer-var."
            )
            raise UsageError(msg) from exc


def _text(given: Any) -> str:
    if given is not None and not isinstance(given, str):
        raise TypeError
    return given or ""


def _number(given: Any) -> float:
    if isinstance(given, bool):
        raise TypeError
    return float(given) if given not in (None, "") else 0.0


def _whole(given: Any) -> int:
    return int(_number(given))


def _flag(given: Any) -> bool:
    return {"true": True, "false": False, "none": False}[str(given).lower()] if _is_flag(given) else _wrong()


def _is_flag(given: Any) -> bool:
    return str(given).lower() in ("true", "false", "none")


def _wrong() -> bool:
    raise ValueError


def _texts(given: Any) -> tuple[str, ...]:
    listed = json.loads(given) if isinstance(given, str) else given
    if listed is None:
        return ()
    if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
        raise TypeError
    return tuple(listed)


def _names(given: Any) -> tuple[str, ...]:
    """Return the names in a map."""
    entries = json.loads(given) if isinstance(given, str) else given
    if entries is not None and not isinstance(entries, dict):
        raise TypeError
    return tuple(entries or ())


def _count(given: Any) -> int:
    """Return how many entries a list of objects has; what is no list is Packer's to refuse."""
    try:
        listed = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        return 0
    return len(listed) if isinstance(listed, list) else 0


def _in_turn(first: str, others: tuple[str, ...]) -> tuple[str, ...]:
    """Return the types that a build tries: fall-backs of another kind (GPU or not) than the first are left out."""
    return (first, *(name for name in others if has_gpu(name) == has_gpu(first)))


def _unique(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, names)))


_KINDS = {
    _number: "a number",
    _whole: "a whole number",
    _flag: "true or false",
    _texts: "a list of texts",
    _names: "a map",
}
