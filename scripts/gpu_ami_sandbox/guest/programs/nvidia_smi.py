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


def main(argv: list[str], system: System) -> int:
    """Say what the driver says, or that there is none that answers."""
    if (refused := refusal(system)) is not None:
        system.say(*refused[1])
        return refused[0]
    found = gpu.devices(system)
    if argv[1:] == ["-L"]:
        system.say(*(f"GPU {index}: {device.name} (UUID: {device.uuid})" for index, device in enumerate(found)))
        return 0
    query = next((word for word in argv[1:] if word.startswith("--query-gpu=")), None)
    if query is not None:
        return _query(query.partition("=")[2].split(","), found, system)
    system.say(*_table(found, system))
    return 0


def _table(found: list[gpu.Device], system: System) -> list[str]:
    """Return the table without arguments: the versions, and one line for each GPU."""
    versions = (f"NVIDIA-SMI {gpu.library(system)}", f"Driver Version: {gpu.loaded(system)}", "CUDA Version: 13.0")
    rows = [f"{index:>3}  {device.name:<38} On {device.memory:>33}" for index, device in enumerate(found)]
    edge, line = f"+{'-' * 86}+", f"|{'=' * 86}|"
    return [edge, f"| {'    '.join(versions):<84} |", line, *(f"| {row:<84} |" for row in rows), edge]


def refusal(system: System) -> tuple[int, list[str]] | None:
    """Return the status and the lines of a driver that does not answer; None when it does.

    With libraries of another version than the kernel's module it says so, as in nvidia-container-toolkit #171.
    """
    problem = gpu.problem(system)
    if problem == gpu.MISMATCH:
        version = gpu.library(system).rpartition(".")[0]
        return problem[0], [f"Failed to initialize NVML: {problem[1]}", f"NVML library version: {version}"]
    return None if problem is None else (problem[0], [_TEXT, ""])


def _query(fields: list[str], found: list[gpu.Device], system: System) -> int:
    for index, device in enumerate(found):
        known = {
            "driver_version": gpu.loaded(system) if device.driver is None else device.driver,
            "index": str(index),
            "memory.total": device.memory,
            "mig.mode.current": device.mig,
            "name": device.name,
            "persistence_mode": "Enabled",
        }
        unknown = [field for field in fields if field not in known]
        if unknown:
            system.say(f'Field "{unknown[0]}" is not a valid field to query.', "")
            return 2
        system.say(", ".join(known[field] for field in fields))
    return 0
