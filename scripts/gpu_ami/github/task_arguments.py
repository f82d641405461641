"""Translates a workflow's inputs to the arguments of an Invoke task."""

from __future__ import annotations

from collections.abc import Mapping

from gpu_ami.errors import UsageError

# Each of them starts GPU hosts of an AMI that is there.
MEASURING = ("verify", "bench")
_SHARDS = "20"
_LIMITS = {"verify": "GPU_AMI_VERIFY_MAX_USD", "bench": "GPU_AMI_BENCH_MAX_USD"}
# Of survey and merge these have to be the same: a part that was read for another policy counts for nothing.
_OF_A_FLEET = ("fleet", "survey", "cleanup")
TASKS = ("doctor", "build", "matrix", *MEASURING, *_OF_A_FLEET)
_TRUE, _FALSE = "true", ("false", "")


def invoke_arguments(task: str, env: Mapping[str, str]) -> list[str]:
    """Return the arguments after ``invoke`` that run *task* as the inputs in *env* request.

    An input arrives as ``INPUT_NAME``; an empty one was not given. Each value stays one argument, whatever is in it.

    Args:
        task: One of `TASKS`.
        env: The step's environment.

    Raises:
        UsageError: An input is not one of its choices, or one that the task needs is not there.
    """
    if task in MEASURING:
        return _measuring(task, env)
    if task in _OF_A_FLEET:
        return _of_a_fleet(task, env)
    if task == "matrix":
        return _matrix(env)
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


def _measuring(task: str, env: Mapping[str, str]) -> list[str]:
    """Return the arguments of a task that measures; nobody is there to be asked what that may cost.

    A bench that refuses the AMI ends the job, and nothing is proposed.
    """
    ami, limit = env.get("INPUT_AMI", ""), env.get("INPUT_MAX_USD", "")
    if not limit:
        msg = f"Set the variable {_LIMITS[task]}: the most that `invoke {task}` may cost, in dollars."
        raise UsageError(msg)
    more = ["--gate"] if task == "bench" else []
    if task == "bench" and (within := env.get("INPUT_WITHIN_MIN")):
        more += ["--within-min", within]
    return [task, "--ami", ami, *more, "--yes", "--max-usd", limit]


def _of_a_fleet(task: str, env: Mapping[str, str]) -> list[str]:
    if task == "fleet":
        regions = _joined(env.get("INPUT_REGIONS", ""))
        named = ["--regions", regions] if regions else []
        return [task, "--shards", env.get("INPUT_SHARDS") or _SHARDS, *named]
    return [task, *(["--include-shared"] if _switch(env, "INPUT_INCLUDE_SHARED") else [])]


def _joined(text: str) -> str:
    return ",".join(word.strip() for word in text.split(",") if word.strip())


def _matrix(env: Mapping[str, str]) -> list[str]:
    """Return the arguments of ``invoke matrix``: a list of families or regions comes joined by commas."""
    families, regions = (_joined(env.get(name, "")) for name in ("INPUT_FAMILIES", "INPUT_REGIONS"))
    named = [word for name in families.split(",") if name for word in ("--family", name)]
    return ["matrix", *named, *(["--regions", regions] if regions else [])]


def _switch(env: Mapping[str, str], name: str) -> bool:
    value = env.get(name, "")
    if value != _TRUE and value not in _FALSE:
        msg = f"{name} is {value!r}: give true or false."
        raise UsageError(msg)
    return value == _TRUE
