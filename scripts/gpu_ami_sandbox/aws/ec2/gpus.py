"""The GPUs of an instance: its type's, as EC2 describes it, with the fault that its AMI's tag asks for."""

from __future__ import annotations

from typing import Any, Final

from moto.ec2.models.instance_types import INSTANCE_TYPES

from gpu_ami_sandbox.aws.refusals import refuse
from gpu_ami_sandbox.guest.builder import FAULTS, Gpus

# On an AMI of the sandbox: how the GPUs of its instances fail, one of `FAULTS`.
FAULT_TAG: Final = "sandbox:gpu"


def fault_of(image: Any) -> str:
    """Return how the GPUs of instances of moto's *image* fail; empty where they work or the image is gone."""
    tags = {tag["key"]: tag["value"] for tag in image.get_tags()} if image is not None else {}
    return str(tags.get(FAULT_TAG, ""))


def check_fault(image: Any) -> None:
    """Refuse to launch an AMI whose tag names no fault: its GPUs would work, and a test of them would pass."""
    fault = fault_of(image)
    if fault and fault not in FAULTS:
        refuse("InvalidParameterValue", f"The tag {FAULT_TAG} of {image.id} is '{fault}', none of {', '.join(FAULTS)}.")


def gpus_of(instance_type: str, image: Any) -> Gpus | None:
    """Return the NVIDIA GPUs of an instance of *image*; None for a type without, g4ad with AMD's among them."""
    rows = INSTANCE_TYPES.get(instance_type, {}).get("GpuInfo", {}).get("Gpus", [])
    for row in rows:
        if row["Manufacturer"] == "NVIDIA":
            # Types with a part of a GPU, such as g6f, have a count of 0.
            count = int(row["Count"] or row.get("LogicalGpuCount") or 1)
            return Gpus(str(row["Name"]), int(row["MemoryInfo"]["SizeInMiB"]), count, fault_of(image))
    return None
