"""Whether the root volume is large enough for what the bake will put on it."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.variables import BuildVariables

GIB = 1024**3
# As scripts/check-disk.sh in the build instance has it: layers unpack to 2 to 3 times their size in ECR, and the
# compressed ones lie beside them while Docker unpacks. A test keeps the two alike.
UNPACKED = 4
# What the ECS GPU AMI itself takes of its 30 GiB, drivers and all; check-disk.sh sees the true figure.
BASE_USED_GIB = 12


def disk(variables: BuildVariables, *, image_bytes: int, models_bytes: int, base_gib: int) -> Check:
    """Judge the root volume.

    Args:
        variables: The bake's variables.
        image_bytes: The container image, compressed.
        models_bytes: The bucket's models.
        base_gib: Size of the base AMI's root volume, GiB; EC2 makes none that is smaller.
    """
    volume = variables.volume_size_gib
    image, models = image_bytes * UNPACKED / GIB, models_bytes / GIB
    needed = min(base_gib or BASE_USED_GIB, BASE_USED_GIB) + image + models + variables.min_free_gib
    parts = f"base {BASE_USED_GIB}, image {image:.1f} unpacked and staged, models {models:.1f}"
    if variables.model_downloads:
        # Nobody knows their size before they are there.
        parts += f", {variables.model_downloads} to download not counted"
    said = f"{needed:.1f} of {volume:.0f} GiB ({parts}, to stay free {variables.min_free_gib:.0f})"
    if volume < base_gib:
        return Check(
            "disk space",
            "fail",
            f"{volume:.0f} GiB is less than the base AMI's own root volume of {base_gib} GiB",
            f"Set volume_size_gib in the Packer variables to {max(base_gib, math.ceil(needed))} or more.",
        )
    if volume < needed:
        return Check(
            "disk space",
            "fail",
            said,
            f"Set volume_size_gib in the Packer variables to {math.ceil(needed)} or more, or make the image smaller.",
        )
    return Check("disk space", "ok", said)


def host(folder: Path, variables: BuildVariables, *, image_bytes: int, models_bytes: int) -> Check:
    """Judge the disk of this machine, which is the sandbox's builder's root volume.

    Args:
        folder: The sandbox's.
        variables: The bake's variables.
        image_bytes: The container image, compressed.
        models_bytes: The bucket's models.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free / GIB
    needed = (image_bytes * UNPACKED + models_bytes) / GIB + variables.min_free_gib
    said = f"{free:.1f} GiB free where {folder} is, on this machine; the sandbox's builder needs {needed:.1f}"
    if free < needed:
        fix = f"Free {math.ceil(needed - free)} GiB there, or make {folder} a link to a folder on a larger disk."
        return Check("host disk", "fail", said, fix)
    return Check("host disk", "ok", said)
