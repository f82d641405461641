"""The inputs of a workflow, as the words of a task."""

from __future__ import annotations

from collections.abc import Mapping

from gpu_ami.errors import UsageError

_TRUE, _FALSE = "true", ("false", "")


def task_words(task: str, env: Mapping[str, str]) -> list[str]:
    """Return the words after ``invoke`` that run *task*, ``doctor`` or ``build``, as the inputs in *env* ask.

    An input arrives as ``INPUT_NAME``; an empty one was not given. Each value stays one word, whatever is in it.

    Raises:
        UsageError: An input is not one of its choices.
    """
    words = [task]
    market = env.get("INPUT_MARKET") or "on-demand"
    if market not in {"on-demand", "spot"}:
        msg = f"market is {market!r}: give on-demand or spot."
        raise UsageError(msg)
    if market == "spot":
        words += ["--var", "spot=true"]
    if tag := env.get("INPUT_IMAGE_TAG"):
        words += ["--var", f"image_tag={tag}"]
    if task == "build":
        words += ["--incremental"] if _switch(env, "INPUT_INCREMENTAL") else []
        # Whoever asks for a rebuild gets one, however fresh the live AMI is.
        words += [] if _switch(env, "INPUT_REBUILD") else ["--if-stale"]
        words += ["--dry-run"] if _switch(env, "INPUT_DRY_RUN") else []
    return words


def _switch(env: Mapping[str, str], name: str) -> bool:
    value = env.get(name, "")
    if value != _TRUE and value not in _FALSE:
        msg = f"{name} is {value!r}: give true or false."
        raise UsageError(msg)
    return value == _TRUE
