"""Parses Terraform's plan: what happens to each resource, and to the AMI of each compute environment.

The form is that of ``terraform show -json PLANFILE``, format version 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from packaging.version import Version

from gpu_ami.errors import TerraformError
from gpu_ami.foreign_text import bare_reason, visible

Action = Literal["create", "update", "replace", "delete", "forget", "read", "no-op"]
ENVIRONMENT = "aws_batch_compute_environment"
QUEUE = "aws_batch_job_queue"
# What Batch does on an update without a policy of its own.
DEFAULT_TIMEOUT_MINUTES = 30
# Batch changes these in place without touching instances; everything else replaces them.
_SCALING = frozenset({"min_vcpus", "max_vcpus", "desired_vcpus"})
_ACTIONS: dict[tuple[str, ...], Action] = {
    ("no-op",): "no-op",
    ("create",): "create",
    ("read",): "read",
    ("update",): "update",
    ("delete", "create"): "replace",
    ("create", "delete"): "replace",
    ("delete",): "delete",
    ("forget",): "forget",
    ("create", "forget"): "replace",
}


@dataclass(frozen=True, kw_only=True)
class ResourceChange:
    """What the plan does to one resource.

    Attributes:
        address: Terraform's address.
        type: Such as ``aws_batch_job_queue``.
        action: What happens.
        because: The attributes that force a replacement.
    """

    address: str
    type: str
    action: Action
    because: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EnvironmentChange(ResourceChange):
    """What the plan does to one compute environment.

    Attributes:
        name: Its name; None when Terraform will know it only after the apply.
        arn: Its ARN; None before it exists.
        cluster_arn: The ECS cluster of its instances; None before it exists.
        old_ami: The AMI its instances are launched from now; None for Batch's own.
        new_ami: The AMI then; None for Batch's own, or when it is not known before the apply.
        is_ami_known: Whether the plan says the AMI.
        strategy: Its allocation strategy then.
        timeout_minutes: How long running jobs may go on when its instances are replaced.
        terminates_jobs: Whether running jobs are ended at once instead.
        replaces_instances: Whether the change makes Batch replace the instances.
    """

    name: str | None = None
    arn: str | None = None
    cluster_arn: str | None = None
    old_ami: str | None = None
    new_ami: str | None = None
    is_ami_known: bool = True
    strategy: str | None = None
    timeout_minutes: int = DEFAULT_TIMEOUT_MINUTES
    terminates_jobs: bool = False
    replaces_instances: bool = False

    @property
    def moves_ami(self) -> bool:
        """Whether the AMI changes, or may."""
        return self.action != "no-op" and (not self.is_ami_known or self.old_ami != self.new_ami)

    def document(self) -> dict[str, Any]:
        """Return the change as the tasks print it in JSON."""
        return {
            "address": self.address,
            "name": self.name,
            "action": self.action,
            "old_ami": self.old_ami,
            "new_ami": self.new_ami,
        }


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One plan.

    Attributes:
        terraform_version: Who made it.
        variables: Root variables with their values; never printed, they may be secret.
        changes: Managed resources, in Terraform's order.
        outputs: Names of outputs that change.
    """

    terraform_version: str
    variables: Mapping[str, Any]
    changes: tuple[ResourceChange, ...]
    outputs: tuple[str, ...] = ()

    @property
    def environments(self) -> tuple[EnvironmentChange, ...]:
        """The compute environments, unchanged ones too."""
        return tuple(change for change in self.changes if isinstance(change, EnvironmentChange))

    @property
    def acts(self) -> tuple[ResourceChange, ...]:
        """The resources that something happens to."""
        return tuple(change for change in self.changes if change.action not in ("no-op", "read"))

    def count(self) -> dict[str, int]:
        """Return how many resources each action happens to."""
        kinds = ("create", "update", "replace", "delete")
        return {kind: sum(1 for change in self.changes if change.action == kind) for kind in kinds}


def read(text: str) -> Planned:
    """Return the plan in *text*, the output of ``terraform show -json PLANFILE``.

    Raises:
        TerraformError: It is cut off, incomplete or of a form that this version does not know.
    """
    try:
        document = json.loads(text)
        if Version(document["format_version"]).major != 1:
            msg = f"Terraform's plan has format {document['format_version']}, not 1.x: use a Terraform of series 1."
            raise TerraformError(msg)
        if document.get("errored") or document.get("complete") is False:
            msg = "Terraform's plan is not complete: run `terraform plan` in its folder to see what stops it."
            raise TerraformError(msg)
        return Planned(
            terraform_version=str(document["terraform_version"]),
            variables={name: given.get("value") for name, given in document.get("variables", {}).items()},
            changes=tuple(_change(row) for row in document.get("resource_changes", []) if row["mode"] == "managed"),
            outputs=tuple(
                name for name, change in document.get("output_changes", {}).items() if change["actions"] != ["no-op"]
            ),
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as exc:
        msg = f"Terraform's plan makes no sense ({bare_reason(exc)}): run `invoke plan` again."
        raise TerraformError(msg) from exc


def differences(text: str) -> str:
    """Return what the plan in *text* would change, an attribute a line, for a person: `plan -json` does not say it.

    Sensitive values are left out. *text* is one that `read` takes.
    """
    lines: list[str] = []
    for row in json.loads(text).get("resource_changes", []):
        action = _ACTIONS[tuple(row["change"]["actions"])]
        if action not in ("no-op", "read"):
            lines += ["", f"{action} {row['address']}", *_differing(row["change"])]
    return "".join(f"{visible(line)}\n" for line in lines)


def _differing(change: Mapping[str, Any]) -> Iterator[str]:
    before, after = (dict(_leaves(change.get(key))) for key in ("before", "after"))
    hidden = _marked(change.get("before_sensitive")) | _marked(change.get("after_sensitive"))
    coming = _marked(change.get("after_unknown"))
    for path in sorted({*before, *after, *coming}):
        old, new = before.get(path), after.get(path)
        if old == new and path not in coming:
            continue
        if any(not prefix or path == prefix or path.startswith((f"{prefix}.", f"{prefix}[")) for prefix in hidden):
            yield f"  {path}: (sensitive value)"
        else:
            shown = "(known after the apply)" if path in coming else json.dumps(new, ensure_ascii=False)
            yield f"  {path}: {json.dumps(old, ensure_ascii=False)} -> {shown}"


def _marked(value: Any) -> set[str]:
    """Return the paths that Terraform marks with ``true``: what is below one is meant too; "" is all there is."""
    return {path for path, leaf in _leaves(value) if leaf is True}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value that holds no others, with its path; nothing of what is empty."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{number}]")
    elif value is not None:
        yield path, value


def _change(row: Mapping[str, Any]) -> ResourceChange:
    change = row["change"]
    common: dict[str, Any] = {
        "address": str(row["address"]),
        "type": str(row["type"]),
        "action": _ACTIONS[tuple(change["actions"])],
        "because": tuple(".".join(map(str, path)) for path in change.get("replace_paths") or []),
    }
    if row["type"] != ENVIRONMENT:
        return ResourceChange(**common)
    before, after, unknown = (change.get(key) or {} for key in ("before", "after", "after_unknown"))
    then = after or before
    policy: Mapping[str, Any] = next(iter(then.get("update_policy") or []), {})
    return EnvironmentChange(
        **common,
        name=then.get("compute_environment_name") or then.get("name") or before.get("compute_environment_name"),
        arn=before.get("arn") or None,
        cluster_arn=before.get("ecs_cluster_arn"),
        old_ami=_ami(before),
        new_ami=_ami(after),
        is_ami_known=not _ami_is_unknown(unknown),
        strategy=_resources(then).get("allocation_strategy"),
        timeout_minutes=int(policy.get("job_execution_timeout_minutes") or DEFAULT_TIMEOUT_MINUTES),
        terminates_jobs=bool(policy.get("terminate_jobs_on_update")),
        replaces_instances=common["action"] in ("replace", "delete")
        or (common["action"] == "update" and _replaces_instances(before, after, unknown)),
    )


def _resources(values: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(iter(values.get("compute_resources") or []), {})
    return found


def _ami(values: Mapping[str, Any]) -> str | None:
    """Return the AMI that an environment names: the override of its image type goes before the old field."""
    resources = _resources(values)
    for configuration in resources.get("ec2_configuration") or []:
        if configuration.get("image_id_override"):
            return str(configuration["image_id_override"])
    return resources.get("image_id") or None


def _ami_is_unknown(unknown: Mapping[str, Any]) -> bool:
    if unknown.get("compute_resources") is True:
        return True
    resources = _resources(unknown)
    configurations = resources.get("ec2_configuration")
    if configurations is True:
        return True
    return any(
        configuration.get("image_id_override") is True
        for configuration in configurations or []
        if isinstance(configuration, dict)
    )


def _replaces_instances(before: Mapping[str, Any], after: Mapping[str, Any], unknown: Mapping[str, Any]) -> bool:
    old, new, later = _resources(before), _resources(after), unknown.get("compute_resources")
    if later is True:
        return True
    changed = {key for key in {*old, *new} if old.get(key) != new.get(key)}
    coming = {key for key, value in _resources(unknown).items() if _any_true(value)}
    return bool((changed | coming) - _SCALING)


def _any_true(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_any_true, value.values()))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(map(_any_true, value))
    return value is True
