"""Compute environments as Batch describes them, for tests that need no Batch."""

from __future__ import annotations

from typing import Any

from gpu_ami.aws import batch

A = "ami-0123456789abcdef0"


def environment(status: str = "VALID", **more: Any) -> batch.Environment:
    """Return an environment on the AMI `A`, but for what is said otherwise."""
    values: dict[str, Any] = {
        "name": "gpu",
        "arn": "arn",
        "state": "ENABLED",
        "status": status,
        "reason": "",
        "ami_id": A,
        "template": "lt-1",
        "version": "1",
        "cluster_arn": None,
        "tags": {},
    }
    return batch.Environment(**(values | more))
