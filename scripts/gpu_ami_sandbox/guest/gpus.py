"""The GPUs of an instance, as its kernel shows them: written before each boot, for the emulated driver to read.

No GPU is there. Names and memory are those that nvidia-smi prints on such hardware, as its users' logs in public
repositories have them; of models that are not in the table they are EC2's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpu_ami_sandbox.guest.builder import Gpus

# What the kernel has loaded, or one GPU says, in the faults with two versions: none that the AMI's packages have.
OTHER_DRIVER: Final = "570.172.08"

# Sorts behind every drop-in that a bake writes, zz-gpu-ami.conf among them.
_MPS_DROP_IN = "systemd/system/nvidia-mps.service.d/zzz-sandbox.conf"
_NVIDIA, _INTEL, _AMAZON = "0x10de", "0x8086", "0x1d0f"
# The slots of the PCI bus below which the GPUs end; nearly all types have eight at most.
_LAST_SLOT = 0x1E


@dataclass(frozen=True)
class _Model:
    name: str
    memory_mib: int


# By EC2's name and MiB of one GPU (DescribeInstanceTypes).
_MODELS = {
    ("A100", 40960): _Model("NVIDIA A100-SXM4-40GB", 40960),
    ("A100", 81920): _Model("NVIDIA A100-SXM4-80GB", 81920),
    ("A10G", 22888): _Model("NVIDIA A10G", 23028),
    ("B200", 183359): _Model("NVIDIA B200", 183359),
    ("B300", 275040): _Model("NVIDIA B300 SXM6 AC", 275040),
    ("H100", 81920): _Model("NVIDIA H100 80GB HBM3", 81559),
    ("H200", 144384): _Model("NVIDIA H200", 143771),
    ("L4", 22888): _Model("NVIDIA L4", 23034),
    ("L40S", 45776): _Model("NVIDIA L40S", 46068),
    ("T4", 16384): _Model("Tesla T4", 15360),
    ("T4g", 16384): _Model("NVIDIA T4G", 15360),
    ("V100", 32768): _Model("Tesla V100-SXM2-32GB", 32768),
}
# Those that can be cut into instances say whether they are.
_CAN_MIG = ("A100", "B200", "B300", "H100", "H200")


def make_sys(folder: Path, gpus: Gpus) -> None:
    """Make the new *folder* the instance's ``/sys``: what is on the PCI bus. The boot loads the driver."""
    devices = folder / "bus/pci/devices"
    for address, vendor in (("0000:00:00.0", _INTEL), ("0000:00:04.0", _AMAZON)):
        _device(devices / address, vendor)
    count = max(2, gpus.count) if gpus.fault == "two-drivers" else gpus.count
    for number in range(0 if gpus.fault == "missing" else count):
        device = devices / f"0000:00:{_LAST_SLOT + 1 - count + number:02x}.0"
        _device(device, _NVIDIA)
        is_last = number == count - 1
        # No real bus has this file: what the emulated driver says of its hardware.
        (device / "gpu.json").write_text(json.dumps(_facts(gpus, is_last=is_last)), encoding="utf-8")


def rig(run: Path, gpus: Gpus) -> None:
    """Put into the instance's new ``/run`` what its fault takes there."""
    if gpus.fault == "error-805":
        drop_in = run / _MPS_DROP_IN
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text("[Service]\nEnvironment=CUDA_MPS_PIPE_DIRECTORY=/tmp/nvidia-mps\n", encoding="utf-8")


def _device(folder: Path, vendor: str) -> None:
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n", encoding="utf-8")


def _facts(gpus: Gpus, *, is_last: bool) -> dict[str, str]:
    model = _MODELS.get((gpus.model, gpus.memory_mib), _Model(f"NVIDIA {gpus.model}", gpus.memory_mib))
    facts = {
        "name": model.name,
        "memory": f"{model.memory_mib} MiB",
        "mig": "Disabled" if gpus.model in _CAN_MIG else "[N/A]",
    }
    if gpus.fault == "driver-mismatch":
        facts["module"] = OTHER_DRIVER
    elif gpus.fault == "not-loaded":
        facts["module"] = ""
    elif gpus.fault == "two-drivers" and is_last:
        facts["driver"] = OTHER_DRIVER
    return facts
