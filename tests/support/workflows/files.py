"""The workflows as data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".github" / "workflows"
# The one in C takes a tenth of the time, and says the same.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NAMES = sorted(path.name for path in FOLDER.glob("*.yml"))


def load(path: Path) -> dict[str, Any]:
    """Return a workflow or action; the key ``on`` is a boolean to YAML 1.1 and a word to GitHub."""
    document: dict[Any, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    return {"on" if key is True else str(key): value for key, value in document.items()}


def workflow(name: str) -> dict[str, Any]:
    """Return the workflow in the file *name*."""
    return load(FOLDER / name)


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each job of each workflow as (file, job, body)."""
    for name in NAMES:
        for job, body in workflow(name)["jobs"].items():
            yield name, job, body


def action_steps() -> list[dict[str, Any]]:
    """Return the steps of the shared action."""
    steps: list[dict[str, Any]] = load(ROOT / ".github" / "actions" / "prepare" / "action.yml")["runs"]["steps"]
    return steps


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each step there is, with where it is."""
    for name, job, body in jobs():
        for step in body.get("steps", []):
            yield f"{name} {job}: {step['name']}", step
    for step in action_steps():
        yield f"prepare: {step['name']}", step
