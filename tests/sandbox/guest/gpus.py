"""Gives an instance of the guest GPUs and container images, as a real one has them on its file system."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from gpu_ami_sandbox.guest.programs.images import Store
from gpu_ami_sandbox.guest.programs.system import System

# What the guest's package libnvidia-ml says.
DRIVER = "580.159.03"


def add_gpus(root: Path, count: int = 1, *, loaded: str | None = DRIVER) -> None:
    """Put *count* NVIDIA devices on the bus of the instance *root*, and the driver *loaded* into its kernel."""
    for number in range(count):
        device = root / f"sys/bus/pci/devices/0000:00:{0x1B + number:x}.0"
        device.mkdir(parents=True)
        (device / "vendor").write_text("0x10de\n")
    if loaded is not None:
        (root / "sys/module/nvidia").mkdir(parents=True)
        (root / "sys/module/nvidia/version").write_text(f"{loaded}\n")


def add_image(root: Path, name: str, *env: str) -> None:
    """Add a container image whose environment is *env*; Docker's Python images have PYTHON_VERSION in theirs."""
    settings = {"Env": ["PATH=/usr/bin:/bin", *env], "Entrypoint": ["/app"]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": settings, "for": name}).encode()
    Store(System(root, env={})).add(config, f"sha256:{hashlib.sha256(config).hexdigest()}", [name], [])
