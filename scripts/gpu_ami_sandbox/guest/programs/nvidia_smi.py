"""Emulates `nvidia-smi` on a machine without a GPU: it always refuses."""

from __future__ import annotations

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


def main(_argv: list[str], system: System) -> int:
    """Say that there is no driver that answers."""
    system.say(_TEXT, "")
    return 9
