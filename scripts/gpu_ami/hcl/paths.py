"""Parses and prints paths to values inside a file: ``resource.aws_batch_job_queue.gpu.tags["Name"]``."""

from __future__ import annotations

import re

from gpu_ami.errors import UsageError

# A name (of an attribute, a block type, a label or a key) or the number of a repeated block or list element, from 0.
Step = str | int
Path = tuple[Step, ...]

_NAME = r"[^\s.\[\]\"]+"
_STEP = re.compile(rf'\.?(?:(?P<name>{_NAME})|"(?P<label>[^"]*)"|\[(?P<index>[0-9]{{1,6}})\]|\["(?P<key>[^"]*)"\])')
_PLAIN = re.compile(rf"{_NAME}\Z")


def parse_path(text: str) -> Path:
    """Return the steps that *text* names.

    Raises:
        UsageError: It is no path.
    """
    steps: list[Step] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        # A name follows a dot, but at the start; an index or key follows a name without one.
        dotted = match is not None and match[0].startswith(".")
        if match is None or dotted != (bool(steps) and not match[0].startswith("[")):
            break
        steps.append(int(match["index"]) if match["index"] else match["name"] or match["label"] or match["key"] or "")
        position = match.end()
    if not steps or position < len(text) or isinstance(steps[0], int):
        msg = (
            f"{text[:200]!r} is not a variable or a path to a value: write gpu_ami_id, "
            'resource.TYPE.NAME.block.attribute, block[1].attribute or map["key"].'
        )
        raise UsageError(msg)
    return tuple(steps)


def show_path(path: Path) -> str:
    """Return *path* as a person would write it."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
        elif _PLAIN.match(step):
            shown += f".{step}" if shown else step
        else:
            shown += f'["{step}"]' if shown else f'"{step}"'
    return shown
