"""At which rate a plan has the volumes of a compute environment's instances filled: its launch template's, then.

A launch template that the same plan makes or changes has its id and its version only after the apply; what it will say
is in its own row of the plan, under ``block_device_mappings[].ebs[].volume_initialization_rate``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpu_ami.terraform import plan_references
from gpu_ami.terraform.plan_references import Configuration

TEMPLATE = "aws_launch_template"
_NAMED = re.compile(rf"{TEMPLATE}\.([^.\[]+)")
_DEFAULT, _LATEST = "$Default", "$Latest"


@dataclass(frozen=True)
class PlannedRate:
    """A rate, MiB/s; None where volumes are filled without one."""

    mib_s: int | None


@dataclass(frozen=True)
class Start:
    """How instances would be started.

    Attributes:
        rate: The rate; None where the plan does not say it.
        template: Id or name, and version, of the launch template; None where the plan does not say which it is.
    """

    rate: PlannedRate | None = None
    template: tuple[str, str] | None = None


def start_of(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], configuration: Configuration | None) -> Start:
    """Return how the instances of the environment in *row* would be started.

    Args:
        row: Its row of ``resource_changes``.
        rows: All rows.
        configuration: What the plan was made from; None when it does not say.

    Raises:
        TypeError, LookupError, AttributeError, ValueError: A row is of another form.
    """
    after = row["change"].get("after") or {}
    resources, unknown = _first(after.get("compute_resources")), row["change"].get("after_unknown") or {}
    later = _later(unknown, "compute_resources", "launch_template")
    block = _first(resources.get("launch_template"))
    if not block and not later:
        return Start(rate=PlannedRate(None))
    named = str(block.get("launch_template_id") or block.get("launch_template_name") or "")
    version = str(block.get("version") or "")
    is_version_known = later is not True and not later.get("version")
    templates = [
        one for one in rows if one["type"] == TEMPLATE and one["change"].get("after") and not one.get("deposed")
    ]
    if not named:
        return Start(rate=_common([_rate(one) for one in _referred(row, templates, configuration)]))
    for one in templates:
        values = [one["change"].get(key) or {} for key in ("before", "after")]
        if any(named in (value.get("id"), value.get("name")) for value in values) and (
            not is_version_known or _is_newest(version, one["change"]["after"])
        ):
            return Start(rate=_rate(one))
    return Start(template=(named, version or _DEFAULT) if is_version_known else None)


def _referred(
    row: Mapping[str, Any], templates: Sequence[Mapping[str, Any]], configuration: Configuration | None
) -> Sequence[Mapping[str, Any]]:
    """Return the rows of the template that an environment's configuration names; all where that cannot be followed."""
    module = str(row.get("module_address") or "")
    names = set[str]()
    if configuration is not None:
        arguments = configuration.expressions(module, str(row["type"]), str(row.get("name")))
        for resources in plan_references.blocks(arguments, "compute_resources"):
            for block in plan_references.blocks(resources, "launch_template"):
                for expression in (block.get(key) or {} for key in ("launch_template_id", "launch_template_name")):
                    found = (_NAMED.match(reference) for reference in expression.get("references") or [])
                    names |= {one[1] for one in found if one}
    ours = [one for one in templates if one.get("module_address", "") == module and one.get("name") in names]
    return ours or templates


def _common(rates: Sequence[PlannedRate | None]) -> PlannedRate | None:
    return rates[0] if rates and len({*rates}) == 1 else None


def _is_newest(version: str, template: Mapping[str, Any]) -> bool:
    """Whether *version* is the one that the template's row is about."""
    newest = template.get("latest_version")
    if version in ("", _DEFAULT):
        is_moved = bool(template.get("update_default_version"))
        return is_moved or (newest is not None and template.get("default_version") == newest)
    return version == _LATEST or (newest is not None and version == str(newest))


def _rate(row: Mapping[str, Any]) -> PlannedRate | None:
    """Return the rate in a template's row.

    Where the configuration gives none, the provider (5.100.0) calls it known only after the apply: EC2 is to choose,
    and it chooses none. One that another resource gave only then would look the same; to take it for none is to let no
    record of a rate pass for it.
    """
    change = row["change"]
    if (change.get("after_unknown") or {}).get("block_device_mappings") is True:
        return None
    volumes = [_first(one.get("ebs")) for one in change["after"].get("block_device_mappings") or []]
    rates = [volume.get("volume_initialization_rate") for volume in volumes]
    return PlannedRate(next((int(rate) for rate in rates if rate), None))


def _later(unknown: Any, *path: str) -> Any:
    """Return what is known only after the apply of the block at *path*: True for all of it, or the marks in it."""
    for name in path:
        unknown = unknown.get(name) if isinstance(unknown, Mapping) else unknown
        if isinstance(unknown, list):
            unknown = unknown[0] if unknown else {}
        if unknown is True:
            return True
    return unknown or {}


def _first(values: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(iter(values or []), {})
    return found
