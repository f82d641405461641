"""Whether the installed botocore knows what a source reads: an older one drops new members without a word."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any

from gpu_ami.aws.service_models import service_models

_READ = re.compile(r"(?P<service>[\w-]+):(?P<operation>\w+) (?P<path>\S+)")
_STEP = re.compile(r"(?P<name>[^.\[\]{}]+)|(?P<list>\[\])|(?P<map>\{\})")


def unknown(reads: Iterable[str]) -> list[str]:
    """Return those of *reads* (see `Source.reads`) that the installed botocore has no model of."""
    return [read for read in reads if not _is_known(read)]


@functools.cache
def _is_known(read: str) -> bool:
    from botocore.exceptions import BotoCoreError
    from botocore.model import OperationNotFoundError

    match = _READ.fullmatch(read)
    if match is None:
        msg = f"not a member of an answer: {read}"
        raise ValueError(msg)
    try:
        shape = _model(match["service"]).operation_model(match["operation"]).output_shape
    except (BotoCoreError, OperationNotFoundError):
        return False
    for step in _STEP.finditer(match["path"]):
        shape = _inside(shape, step)
        if shape is None:
            return False
    return True


def _inside(shape: Any, step: re.Match[str]) -> Any:
    if step["list"]:
        return shape.member if shape.type_name == "list" else None
    if step["map"]:
        return shape.value if shape.type_name == "map" else None
    return shape.members.get(step["name"]) if shape is not None and shape.type_name == "structure" else None


@functools.cache
def _model(service: str) -> Any:
    from botocore.model import ServiceModel

    return ServiceModel(service_models().load_service_model(service, "service-2"), service)
