"""Emulates `nvidia-smi`: without a GPU it refuses, on an instance that shows some it reads what they are."""

from __future__ import annotations

from gpu_ami_sandbox.guest.programs import gpu
from gpu_ami_sandbox.guest.programs.system import Refusal, System

_TEXT = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running."
)

REFUSALS = (
    Refusal("nvidia-smi", _TEXT, 9),
    Refusal("nvidia-smi -L", _TEXT, 9),
    Refusal("nvidia-smi --query-gpu=driver_version --format=csv,noheader", _TEXT, 9),
)

_FIELDS = {
    "memory.total": "23028 MiB",
    "mig.mode.current": "[N/A]",
    "name": gpu.NAME,
    "persistence_mode": "Enabled",
}


def main(argv: list[str], system: System) -> int:
    """Say what the driver says, or that there is none that answers."""
    if (refused := refusal(system)) is not None:
        system.say(*refused[1])
        return refused[0]
    found = gpu.uuids(system)
    if argv[1:] == ["-L"]:
        system.say(*(f"GPU {index}: {gpu.NAME} (UUID: {uuid})" for index, uuid in enumerate(found)))
        return 0
    query = next((word for word in argv[1:] if word.startswith("--query-gpu=")), None)
    if query is not None:
        return _query(query.partition("=")[2].split(","), len(found), system)
    versions = (f"NVIDIA-SMI {gpu.library(system)}", f"Driver Version: {gpu.loaded(system)}", "CUDA Version: 13.0")
    system.say(f"| {'    '.join(versions)} |")
    return 0


def refusal(system: System) -> tuple[int, list[str]] | None:
    """Return the status and the lines of a driver that does not answer; None when it does.

    With libraries of another version than the kernel's module it says so, as in nvidia-container-toolkit #171.
    """
    problem = gpu.problem(system)
    if problem == gpu.MISMATCH:
        version = gpu.library(system).rpartition(".")[0]
        return problem[0], [f"Failed to initialize NVML: {problem[1]}", f"NVML library version: {version}"]
    return None if problem is None else (problem[0], [_TEXT, ""])


def _query(fields: list[str], count: int, system: System) -> int:
    for index in range(count):
        known = _FIELDS | {"index": str(index), "driver_version": gpu.loaded(system)}
        unknown = [field for field in fields if field not in known]
        if unknown:
            system.say(f'Field "{unknown[0]}" is not a valid field to query.', "")
            return 2
        system.say(", ".join(known[field] for field in fields))
    return 0
