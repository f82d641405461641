"""The repository's tasks, loaded once in a process of tests."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from invoke.collection import Collection


@functools.cache
def tasks() -> Collection:
    """Return what `tasks.py` defines."""
    spec = importlib.util.spec_from_file_location("the_tasks", Path(__file__).parents[2] / "tasks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Collection.from_module(module)
