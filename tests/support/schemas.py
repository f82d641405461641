"""The JSON schemas of what the tasks print, in docs/schemas/, and what a document has against its schema."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"
_ENDING = ".schema.json"


@functools.cache
def schemas() -> dict[str, dict[str, Any]]:
    """Return task to schema."""
    files = sorted(FOLDER.glob(f"*{_ENDING}"))
    return {file.name.removesuffix(_ENDING): json.loads(file.read_text(encoding="utf-8")) for file in files}


def problems(task: str, document: object) -> list[str]:
    """Return where *document* is not what *task* promises to print, and why."""
    errors = _validator(task).iter_errors(document)
    return sorted(f"{task} {error.json_path}: {error.message[:200]}" for error in errors)


@functools.cache
def _validator(task: str) -> Any:
    """Return what holds a document against the schema of *task*."""
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    every = [(schema["$id"], Resource.from_contents(schema)) for schema in schemas().values()]
    registry: Registry[Any] = Registry().with_resources(every)
    return Draft202012Validator(schemas()[task], registry=registry)


def problems_of_output(arguments: Sequence[str], printed: str) -> list[str]:
    """Return where the output of ``invoke ARGUMENTS`` breaks its tasks' schemas; none where it was not to be JSON."""
    if "json" not in arguments or "--query" in arguments:
        return []
    # A task that failed before it had a result printed nothing, and none ran after it.
    tasks = [argument for argument in arguments if argument in schemas()]
    lines = printed.splitlines()
    found = [problem for task, line in zip(tasks, lines, strict=False) for problem in problems(task, json.loads(line))]
    return found if len(lines) <= len(tasks) else [f"{len(lines)} documents of {len(tasks)} tasks", *found]


def objects(schema: object) -> Iterator[dict[str, Any]]:
    """Yield every schema of an object with members in *schema*, itself included."""
    if isinstance(schema, dict):
        if "properties" in schema and "required" in schema:
            yield schema
        for part in schema.values():
            yield from objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects(part)
