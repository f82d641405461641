"""The variables of a bake, to vary in one value."""

from __future__ import annotations

from typing import Any

from gpu_ami.bake.variables import BuildVariables, typed

VALUES: dict[str, Any] = {
    "ecr_repository_url": "123456789012.dkr.ecr.ap-northeast-2.amazonaws.com/batch-processor",
    "image_tag": "v1",
    "subnet_id": "subnet-1",
    "security_group_id": "sg-1",
    "models_s3_bucket": "models",
    "instance_type": "c7i.4xlarge",
    "volume_size_gib": 80,
    "min_free_gib": 5,
    "family": "gpu-batch",
    "poll_delay_seconds": 15,
    "poll_max_attempts": 480,
}


def a_bake(**changed: Any) -> BuildVariables:
    """Return the variables of a bake, some of them changed."""
    return typed(VALUES | changed)
