"""Parses Terraform's state: its compute environments, what each was given, job definitions and outputs.

The form is that of ``terraform state pull``, version 4.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpu_ami.errors import TerraformError
from gpu_ami.foreign_text import bare_reason, limited
from gpu_ami.records.batch_images import Images, Kind, in_terraform, kind_of
from gpu_ami.terraform.plan_changes import ENVIRONMENT

_TEMPLATE = "aws_launch_template"
_DEFINITION = "aws_batch_job_definition"


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A compute environment in the state.

    Attributes:
        address: Terraform's address.
        name: Its name on AWS.
        ami_id: The AMI that it was given; None for Batch's own. Of several image types, a GPU's.
        template_id: Its launch template; None without one.
        images: Every AMI that it was given.
        kind: What it runs on.
    """

    address: str
    name: str
    ami_id: str | None
    template_id: str | None
    images: Images = field(default_factory=Images)
    kind: Kind = "EC2"


def environments(state: Mapping[str, Any]) -> tuple[Recorded, ...]:
    """Return the compute environments of *state*, in its order; none of an empty state.

    Raises:
        TerraformError: The state is of a form that this version does not know.
    """
    found = []
    for address, values in _instances(state, ENVIRONMENT):
        resources = _first(values.get("compute_resources"))
        images = in_terraform(resources)
        found.append(
            Recorded(
                address=address,
                name=str(values.get("compute_environment_name") or values.get("name") or values["arn"].split("/")[-1]),
                ami_id=images.main(),
                template_id=_first(resources.get("launch_template")).get("launch_template_id") or None,
                images=images,
                kind=kind_of(values.get("type"), resources.get("type"), has_eks=bool(values.get("eks_configuration"))),
            )
        )
    return tuple(found)


def rates(state: Mapping[str, Any]) -> dict[str, int]:
    """Return the volume initialization rate that Terraform gave each launch template, MiB/s; not those without one.

    Raises:
        TerraformError: The state is of a form that this version does not know.
    """
    found: dict[str, int] = {}
    for _, values in _instances(state, _TEMPLATE):
        volumes = [_first(mapping.get("ebs")) for mapping in values.get("block_device_mappings") or []]
        given = [
            int(volume["volume_initialization_rate"]) for volume in volumes if volume.get("volume_initialization_rate")
        ]
        found |= {str(values["id"]): rate for rate in given[:1]}
    return found


def job_definitions(state: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the job definitions in *state*.

    Raises:
        TerraformError: The state is of a form that this version does not know.
    """
    return tuple(dict.fromkeys(str(values["name"]) for _, values in _instances(state, _DEFINITION)))


def _instances(state: Mapping[str, Any], kind: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return address and attributes of each instance of the managed resources of one type."""
    if not state:
        return []
    try:
        if state["version"] != 4:
            found = limited(state["version"], 20)
            msg = f"The Terraform state has version {found}, not 4: use a Terraform of series 1."
            raise TerraformError(msg)
        return [
            (_address(resource, instance.get("index_key")), instance["attributes"])
            for resource in state["resources"]
            if resource["mode"] == "managed" and resource["type"] == kind
            for instance in resource["instances"]
            if "deposed" not in instance
        ]
    except (LookupError, TypeError, AttributeError) as exc:
        msg = f"The Terraform state makes no sense ({bare_reason(exc)}): run `terraform state list` in its folder."
        raise TerraformError(msg) from exc


def _address(resource: Mapping[str, Any], key: Any) -> str:
    prefix = f"{resource['module']}." if resource.get("module") else ""
    suffix = "" if key is None else f"[{json.dumps(key)}]"
    return f"{prefix}{resource['type']}.{resource['name']}{suffix}"


def _first(values: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = values[0] if values else {}
    return found


def parse_outputs(text: str) -> dict[str, str]:
    """Return name to value of the outputs that are strings; secret ones and those without a value are left out.

    Raises:
        TerraformError: *text* is not what Terraform prints.
    """
    try:
        document = json.loads(text)
        rows = {name: (row["value"], row.get("sensitive", False)) for name, row in document.items()}
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as exc:
        msg = f"`terraform output -json` printed {text[:60]!r}, which are no outputs: run it there to see why."
        raise TerraformError(msg) from exc
    return {name: value for name, (value, secret) in rows.items() if isinstance(value, str) and not secret}
