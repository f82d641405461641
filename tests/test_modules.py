"""Each module of the two packages, loaded."""

from __future__ import annotations

import importlib
import pkgutil

import gpu_ami
import gpu_ami_sandbox


def test_every_module_can_be_loaded() -> None:
    """Many are loaded inside functions: on a Python that has something no longer, or not yet, a user would find out."""
    names = [
        module.name
        for package in (gpu_ami, gpu_ami_sandbox)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not module.name.endswith(".__main__")
    ]

    loaded = {name: importlib.import_module(name) for name in names}

    assert len(loaded) > 300
    assert all(module.__doc__ for module in loaded.values())
