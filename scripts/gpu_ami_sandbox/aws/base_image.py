"""The AMI that builds start from: Amazon's ECS GPU image, and the public parameters that name it."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

NAME = "al2023-ami-ecs-gpu-hvm-2023.0.20260901-kernel-6.1-x86_64-ebs"
PARAMETER = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended"
# What the template reads where it is given an AMI: Packer reads a parameter in any case, and this one is everywhere.
AL2023_PARAMETER = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
AMAZON = "591542846629"
ROOT_GIB = 30
CREATED = datetime(2026, 9, 2, 18, 31, 7)  # noqa: DTZ001 - moto keeps naive UTC


def base_image_id(region: str) -> str:
    """Return the id of the base AMI in *region*: the same each time, another in each region."""
    return f"ami-{digits('image', region)}"


def base_parameters(region: str) -> dict[str, str]:
    """Return the public SSM parameters that name the base AMI, and the one that Packer may read instead, by name."""
    facts = {
        "ecs_agent_version": "1.106.2",
        "ecs_runtime_version": "Docker version 25.0.16",
        "image_id": base_image_id(region),
        "image_name": NAME,
        "image_version": "2023.0.20260901",
        "os": "Amazon Linux 2023",
        "schema_version": "1",
        "source_image_name": "al2023-ami-minimal-2023.9.20260828.0-kernel-6.1-x86_64",
    }
    whole = {PARAMETER: json.dumps(facts, separators=(",", ":")), AL2023_PARAMETER: base_image_id(region)}
    return whole | {f"{PARAMETER}/{key}": value for key, value in facts.items()}


def digits(*parts: str) -> str:
    """Return the 17 digits of the id of something that belongs to the base AMI."""
    return hashlib.sha256("/".join((NAME, *parts)).encode()).hexdigest()[:17]
