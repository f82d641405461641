"""What Terraform prints as JSON, cut down to what is read: plans of `show -json`, messages of the other commands."""

from __future__ import annotations

import json
from typing import Any

A, B, C = (f"ami-{number:017x}" for number in range(1, 4))
SPOT = 'module.pipeline.aws_batch_compute_environment.this["spot"]'
ON_DEMAND = 'module.pipeline.aws_batch_compute_environment.this["on_demand"]'
QUEUE = "module.pipeline.aws_batch_job_queue.this[0]"
CLUSTER = "arn:aws:ecs:ap-northeast-2:123456789012:cluster/one"
ARN = "arn:aws:batch:ap-northeast-2:123456789012:compute-environment/gpu-spot"


def values(
    ami: str | None = A, *, name: str | None = "gpu-spot", minutes: int | None = 60, **more: Any
) -> dict[str, Any]:
    """An environment's attributes; *more* goes into its compute resources, or replaces top-level ones it has."""
    resources = {
        "allocation_strategy": "SPOT_CAPACITY_OPTIMIZED",
        "max_vcpus": 16,
        "min_vcpus": 0,
        "image_id": "",
        "launch_template": [{"launch_template_id": "lt-1", "version": "1"}],
        "ec2_configuration": [{"image_type": "ECS_AL2023_NVIDIA", "image_id_override": ami}],
    }
    top: dict[str, Any] = {
        "compute_environment_name": name,
        "arn": ARN,
        "ecs_cluster_arn": CLUSTER,
        "update_policy": []
        if minutes is None
        else [{"job_execution_timeout_minutes": minutes, "terminate_jobs_on_update": False}],
    }
    inner = {key: value for key, value in more.items() if key not in top}
    return top | {key: more[key] for key in more if key in top} | {"compute_resources": [resources | inner]}


def change(
    address: str = SPOT,
    actions: tuple[str, ...] = ("update",),
    *,
    kind: str = "aws_batch_compute_environment",
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    unknown: dict[str, Any] | None = None,
    because: list[list[Any]] | None = None,
    mode: str = "managed",
    **row: Any,
) -> dict[str, Any]:
    """One row of resource_changes; *row* goes into it, `importing` into its change."""
    importing = {"importing": row.pop("importing")} if "importing" in row else {}
    return row | {
        "address": address,
        "mode": mode,
        "type": kind,
        "change": {
            "actions": list(actions),
            "before": before,
            "after": after,
            "after_unknown": unknown or {},
            **({"replace_paths": because} if because else {}),
            **importing,
        },
    }


def template(rate: int | None = 300, *, id: str | None = "lt-1", **row: Any) -> dict[str, Any]:
    """The launch template of `values`, whose row a plan has also where nothing happens to it."""
    volumes = [{"device_name": "/dev/xvda", "ebs": [{"volume_initialization_rate": rate}]}]
    after = {"id": id, "latest_version": 1, "update_default_version": True, "block_device_mappings": volumes}
    given = {"before": after, "after": after, "actions": ("no-op",)} | row
    return change("aws_launch_template.gpu", kind="aws_launch_template", **given)


def by_type(**amis: str | None) -> list[dict[str, Any]]:
    """The blocks of an environment with several image types."""
    return [{"image_type": name, "image_id_override": ami} for name, ami in amis.items()]


def move(old: str | None = A, new: str | None = B, address: str = SPOT, **more: Any) -> dict[str, Any]:
    """An environment that moves from one AMI to another in place."""
    return change(address, before=values(old, **more), after=values(new, **more))


def document(*changes: dict[str, Any], ami: Any = B, **more: Any) -> dict[str, Any]:
    """A whole plan."""
    return {
        "format_version": "1.2",
        "terraform_version": "1.11.4",
        "variables": {"gpu_ami_id": {"value": ami}},
        "resource_changes": list(changes),
        "complete": True,
        "errored": False,
    } | more


def plan_text(*changes: dict[str, Any], **more: Any) -> str:
    """The text of a plan."""
    return json.dumps(document(*changes, **more))


def complaint(summary: str, detail: str = "", *, severity: str = "error", at: str | None = None, **more: Any) -> str:
    """One line of `plan -json` or `apply -json` that complains about the resource *at*."""
    diagnostic = {"severity": severity, "summary": summary, "detail": detail} | ({"address": at} if at else {}) | more
    text = f"{severity.capitalize()}: {summary}"
    return json.dumps({"@level": severity, "@message": text, "diagnostic": diagnostic, "type": "diagnostic"}) + "\n"


def message(text: str, kind: str = "log", **more: Any) -> str:
    """One line of `plan -json` or `apply -json` that says something."""
    return json.dumps({"@level": "info", "@message": text, "type": kind} | more) + "\n"
