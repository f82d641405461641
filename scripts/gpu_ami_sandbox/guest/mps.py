"""NVIDIA MPS on the ECS GPU AMI as each release has it: not at all, with its pipe under /tmp, or with it under /run."""

from __future__ import annotations

import re
from pathlib import Path

_UNIT = "etc/systemd/system/nvidia-mps.service"
_WANTED = "etc/systemd/system/multi-user.target.wants/nvidia-mps.service"
_PIPE = "Environment=CUDA_MPS_PIPE_DIRECTORY=/run/mps-ecs\n"
# amazon-ecs-ami: #744 brought the unit with release 20260721; #771, merged behind release 20260820, moved its pipe.
_FIRST, _LAST_UNDER_TMP = "20260721", "20260820"
_NAME = re.compile(r"al2023-ami-ecs-gpu-hvm-2023\.0\.([0-9]{8})-")


def install(root: Path, base: str) -> None:
    """Leave the unit in the new file system *root* as the base AMI of the name *base* has it; of others as the newest.

    Nothing of the guest has run yet: no link in *root* can lead elsewhere.
    """
    name = _NAME.match(base)
    release = name[1] if name else "99999999"
    unit = root / _UNIT
    if release < _FIRST:
        unit.unlink()
        return
    if release <= _LAST_UNDER_TMP:
        unit.write_text(unit.read_text(encoding="utf-8").replace(_PIPE, ""), encoding="utf-8")
    (root / _WANTED).symlink_to(f"/{_UNIT}")
