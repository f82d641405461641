"""The instance's GPUs as its programs find them: on the bus, behind the loaded driver, beside the daemon of MPS.

A guest has none of its own. One whose ``/sys`` shows devices has: an instance of a GPU type gets them there.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from gpu_ami_sandbox.guest.programs.packages import installed
from gpu_ami_sandbox.guest.programs.system import System
from gpu_ami_sandbox.guest.programs.units import Units

# NVML's numbers and texts (nvml.h, nvmlErrorString); nvidia-smi ends with the number.
NOT_LOADED = (9, "Driver Not Loaded")
MISMATCH = (18, "Driver/library version mismatch")

_BUS = "/sys/bus/pci/devices"
_NVIDIA = "0x10de"
# The version of the module that the kernel runs.
_MODULE = "/sys/module/nvidia/version"
# The package that has libnvidia-ml.so.1 and says the version of the other libraries too.
_LIBRARY = "libnvidia-ml"
# The package that has the module which a boot loads, and the unit that does.
_KERNEL = "nvidia-kmod-common"
_LOADER = "nvidia-kmod-load.service"
_MPS = "nvidia-mps.service"
_PIPE = "CUDA_MPS_PIPE_DIRECTORY="
MPS_DEFAULT = "/tmp/nvidia-mps"  # noqa: S108 - MPS's own (docs.nvidia.com/deploy/mps)


class Device(NamedTuple):
    """One GPU on the bus, with what the emulated driver says of it.

    Attributes:
        uuid: Its UUID.
        name: Its model.
        memory: Its memory, with the unit.
        mig: Whether it is cut into instances; ``[N/A]`` where it cannot be.
        driver: The version that it says, where that is not the loaded one's.
        module: The version of the module that the kernel has for it, where that is not the packages'; empty for none.
    """

    uuid: str
    name: str = "NVIDIA A10G"
    memory: str = "23028 MiB"
    mig: str = "[N/A]"
    driver: str | None = None
    module: str | None = None


def devices(system: System) -> list[Device]:
    """Return the GPUs on the bus, in the order of their addresses."""
    vendors = sorted(system.path(_BUS).glob("*/vendor"))
    found: list[Device] = []
    for path in vendors:
        if path.read_text(encoding="utf-8").strip() == _NVIDIA:
            facts = path.with_name("gpu.json")
            known = json.loads(facts.read_text(encoding="utf-8")) if facts.exists() else {}
            found.append(Device(uuid=f"GPU-0f3b1e62-5c1d-4a77-9d2e-{len(found):012x}", **known))
    return found


def uuids(system: System) -> list[str]:
    """Return the UUIDs of the GPUs on the bus, in the order of their addresses."""
    return [device.uuid for device in devices(system)]


def boot(system: System) -> None:
    """Load the driver that the AMI has for the GPUs on the bus, as a boot does; without a GPU there is none to load."""
    found = devices(system)
    if not found or Units(system).is_enabled(_LOADER) != "enabled":
        return
    package = installed(system).get(_KERNEL)
    packaged = package.version if package else ""
    version = packaged if found[0].module is None else found[0].module
    if version:
        path = system.path(_MODULE)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{version}\n", encoding="utf-8")


def loaded(system: System) -> str:
    """Return the version of the driver that the kernel has loaded; empty without one."""
    path = system.path(_MODULE)
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def library(system: System) -> str:
    """Return the version of the driver's libraries; empty without them."""
    package = installed(system).get(_LIBRARY)
    return package.version if package else ""


def problem(system: System) -> tuple[int, str] | None:
    """Return the number and text of what NVML refuses with; None when it works."""
    if not loaded(system):
        return NOT_LOADED
    return None if loaded(system) == library(system) else MISMATCH


def mps_pipe(system: System) -> str | None:
    """Return the folder in which the daemon of MPS has its pipe; None when it does not run."""
    units = Units(system)
    if not units.is_active(_MPS):
        return None
    values = [word.strip("\"'") for word in units.setting(_MPS, "Service", "Environment")]
    for file in units.setting(_MPS, "Service", "EnvironmentFile"):
        path = system.path(file.removeprefix("-"))
        values += path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    folders = [value.removeprefix(_PIPE) for value in values if value.startswith(_PIPE)]
    return folders[-1] if folders else MPS_DEFAULT
