"""The instance's GPUs as its programs find them: on the bus, behind the loaded driver, beside the daemon of MPS.

A guest has none of its own. One whose ``/sys`` shows devices and a loaded module, as a test writes them there, has.
"""

from __future__ import annotations

from gpu_ami_sandbox.guest.programs.packages import installed
from gpu_ami_sandbox.guest.programs.system import System
from gpu_ami_sandbox.guest.programs.units import Units

NAME = "NVIDIA A10G"
# NVML's numbers and texts (nvml.h, nvmlErrorString); nvidia-smi ends with the number.
NOT_LOADED = (9, "Driver Not Loaded")
MISMATCH = (18, "Driver/library version mismatch")

_BUS = "/sys/bus/pci/devices"
_NVIDIA = "0x10de"
# The version of the module that the kernel runs.
_MODULE = "/sys/module/nvidia/version"
# The package that has libnvidia-ml.so.1 and says the version of the other libraries too.
_LIBRARY = "libnvidia-ml"
_MPS = "nvidia-mps.service"
_PIPE = "CUDA_MPS_PIPE_DIRECTORY="
MPS_DEFAULT = "/tmp/nvidia-mps"  # noqa: S108 - MPS's own (docs.nvidia.com/deploy/mps)


def uuids(system: System) -> list[str]:
    """Return the UUIDs of the GPUs on the bus, in the order of their addresses."""
    vendors = sorted(system.path(_BUS).glob("*/vendor"))
    found = [path for path in vendors if path.read_text(encoding="utf-8").strip() == _NVIDIA]
    return [f"GPU-0f3b1e62-5c1d-4a77-9d2e-{number:012x}" for number in range(len(found))]


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
