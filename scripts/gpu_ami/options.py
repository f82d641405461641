"""The flags that hold for a whole invocation, wherever on the command line they are given.

Invoke gives a flag only to the task before it. ``invoke build apply --sandbox`` must never build on AWS, so
the common flags are read from the command line before the first task runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gpu_ami.errors import UsageError

Output = Literal["table", "json", "markdown"]
OUTPUTS: tuple[Output, ...] = ("table", "json", "markdown")
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"", "0", "false", "no", "off"}
_REGION = "GPU_AMI_REGION"
_OF_ENVIRONMENT = "GPU_AMI_FAMILY"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The common flags: what the caller requested of every task of this invocation.

    ``families_by`` is what named the families, and ``region_by`` what named the region, for messages.
    """

    region: str | None = None
    region_by: str = "--region"
    profile: str | None = None
    sandbox: bool = False
    output: Output = "table"
    query: str | None = None
    dry_run: bool = False
    families: tuple[str, ...] = ()
    families_by: str = "--family"
    all_families: bool = False


def options_from(argv: Sequence[str], env: Mapping[str, str]) -> Options:
    """Return the common options of the command line *argv* and the environment *env*.

    Arguments after ``--`` belong to another program and are left alone. ``-R``/``--dry`` is Invoke's own dry run.

    Raises:
        UsageError: A flag without its value, the same flag with two values, or an unknown output form.
    """
    arguments = _ours(argv)
    given = {name: _value(arguments, f"--{name}") for name in ("region", "profile", "output", "query")}
    output = given["output"] or "table"
    if output not in OUTPUTS:
        msg = f"--output {output!r} is not known: give one of {', '.join(OUTPUTS)}."
        raise UsageError(msg)
    if _switch(env) not in _TRUE | _FALSE:
        msg = f"GPU_AMI_SANDBOX={_switch(env)!r} is neither on nor off: set it to 1 or 0."
        raise UsageError(msg)
    families = families_in(argv, env)
    return Options(
        region=given["region"] or env.get(_REGION) or None,
        region_by=_REGION if not given["region"] and env.get(_REGION) else "--region",
        profile=given["profile"],
        sandbox=wants_sandbox(argv, env),
        output=output,
        query=given["query"],
        dry_run=any(argument in arguments for argument in ("--dry", "-R", "--dry-run")),
        families=families,
        families_by=_OF_ENVIRONMENT if families and not _values(arguments, "--family") else "--family",
        all_families="--all-families" in arguments,
    )


def wants_sandbox(argv: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether *argv* or *env* chooses the sandbox, also where other options make no sense; what is no switch is off."""
    return "--sandbox" in _ours(argv) or _switch(env) in _TRUE


def families_in(argv: Sequence[str], env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the families that *argv* names, each once, else the one that ``GPU_AMI_FAMILY`` names; none is all.

    Raises:
        UsageError: A flag is without its name.
    """
    arguments = _ours(argv)
    named = tuple(dict.fromkeys(_values(arguments, "--family")))
    of_environment = (
        () if "--all-families" in arguments else tuple(filter(None, [env.get(_OF_ENVIRONMENT, "").strip()]))
    )
    return named or of_environment


def _ours(argv: Sequence[str]) -> list[str]:
    return list(argv[: argv.index("--")] if "--" in argv else argv)


def _switch(env: Mapping[str, str]) -> str:
    return env.get("GPU_AMI_SANDBOX", "").strip().lower()


def _value(arguments: Sequence[str], flag: str) -> str | None:
    found = _values(arguments, flag)
    if len(set(found)) > 1:
        msg = f"{flag} is given twice, as {' and '.join(map(repr, found))}: it holds for every task, give it once."
        raise UsageError(msg)
    return found[0] if found else None


def _values(arguments: Sequence[str], flag: str) -> list[str]:
    found: list[str] = []
    for position, argument in enumerate(arguments):
        if argument == flag:
            value = arguments[position + 1] if position + 1 < len(arguments) else ""
        elif argument.startswith(f"{flag}="):
            value = argument.partition("=")[2]
        else:
            continue
        if not value or value.startswith("-"):
            msg = f"{flag} needs a value: write {flag} VALUE."
            raise UsageError(msg)
        found.append(value)
    return found
