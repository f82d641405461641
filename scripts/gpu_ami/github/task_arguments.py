"""Translates a workflow's inputs to the arguments of an Invoke task."""

from __future__ import annotations

from collections.abc import Mapping

from gpu_ami.errors import UsageError

_TRUE, _FALSE = "true", ("false", "")


def invoke_arguments(task: str, env: Mapping[str, str]) -> list[str]:
    """Return the arguments after ``invoke`` that run *task*, ``doctor`` or ``build``, as the inputs in *env* request.

    An input arrives as ``INPUT_NAME``; an empty one was not given. Each value stays one argument, whatever is in it.

    Raises:
        UsageError: An input is not one of its choices.
    """
    arguments = [task]
    market = env.get("INPUT_MARKET") or "on-demand"
    if market not in {"on-demand", "spot"}:
        msg = f"market is {market!r}: give on-demand or spot."
        raise UsageError(msg)
    if market == "spot":
        arguments += ["--packer-var", "spot=true"]
    if tag := env.get("INPUT_IMAGE_TAG"):
        arguments += ["--packer-var", f"image_tag={tag}"]
    if task == "build":
        arguments += ["--incremental"] if _switch(env, "INPUT_INCREMENTAL") else []
        # Whoever requests a rebuild gets one, however fresh the live AMI is.
        arguments += [] if _switch(env, "INPUT_REBUILD") else ["--if-stale"]
        arguments += ["--dry-run"] if _switch(env, "INPUT_DRY_RUN") else []
        if limit := env.get("INPUT_MAX_USD"):
            arguments += ["--max-usd", limit]
    return arguments


def _switch(env: Mapping[str, str], name: str) -> bool:
    value = env.get(name, "")
    if value != _TRUE and value not in _FALSE:
        msg = f"{name} is {value!r}: give true or false."
        raise UsageError(msg)
    return value == _TRUE
