"""Whether the installed botocore knows what a source reads: an older one drops new members without a word."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from gpu_ami.aws.service_models import service_models

_READ = re.compile(r"(?P<service>[\w-]+):(?P<operation>\w+) (?P<path>\S+)")
_STEP = re.compile(r"(?P<name>[^.\[\]{}]+)|(?P<list>\[\])|(?P<map>\{\})")

_Shape = Mapping[str, Any]


def unknown(reads: Iterable[str]) -> list[str]:
    """Return those of *reads* (see `Source.reads`) that the installed botocore has no model of."""
    return [read for read in reads if not _is_known(read)]


@functools.cache
def _is_known(read: str) -> bool:
    from botocore.exceptions import BotoCoreError

    match = _READ.fullmatch(read)
    if match is None:
        msg = f"not a member of an answer: {read}"
        raise ValueError(msg)
    try:
        # The document itself: botocore makes an object of each of its shapes, which takes longer than a listing. Asked
        # for in the words of a client's maker the loader has it already.
        model = service_models().load_service_model(match["service"], "service-2", api_version=None)
    except BotoCoreError:
        return False
    operation = model["operations"].get(match["operation"], {})
    member = operation.get("output")
    for step in _STEP.finditer(match["path"]):
        if member is None:
            return False
        member = _inside(model["shapes"][member["shape"]], step)
    return member is not None


def _inside(shape: _Shape, step: re.Match[str]) -> _Shape | None:
    """Return the reference to a shape that *step* leads to inside of *shape*; None when it leads nowhere."""
    found: _Shape | None
    if step["list"]:
        found = shape.get("member") if shape["type"] == "list" else None
    elif step["map"]:
        found = shape.get("value") if shape["type"] == "map" else None
    else:
        found = shape.get("members", {}).get(step["name"]) if shape["type"] == "structure" else None
    return found
