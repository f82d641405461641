"""What the name of an ECS GPU-optimized AMI says: its release, and what is known of that release."""

from __future__ import annotations

import re

# Amazon names them so (al2023gpu.pkr.hcl of amazon-ecs-ami).
_NAME = re.compile(r"al2023-ami-ecs-gpu-hvm-2023\.0\.([0-9]{8})-[\w.-]{1,100}", re.ASCII)
# The releases whose nvidia-mps.service has its pipe in /tmp/nvidia-mps: from the one that brought the unit (#744) to
# the last before the pipe was moved (#771).
FIRST_MPS_UNDER_TMP, LAST_MPS_UNDER_TMP = "20260721", "20260820"


def release_of(name: str) -> str | None:
    """Return the release, ``YYYYMMDD``, of the ECS GPU-optimized AMI *name*; None for any other name."""
    found = _NAME.fullmatch(name)
    return found[1] if found else None


def has_mps_under_tmp(name: str) -> bool | None:
    """Whether the base AMI *name* starts NVIDIA MPS with its pipe under /tmp; None when the name tells nothing."""
    release = release_of(name)
    return None if release is None else FIRST_MPS_UNDER_TMP <= release <= LAST_MPS_UNDER_TMP
