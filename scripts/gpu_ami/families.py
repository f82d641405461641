"""Carries a task out for each of the families that it is about: one, some or all of those in the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from gpu_ami.errors import DifferenceError, InterruptedRunError, PartialError, PipelineError, UsageError
from gpu_ami.invocation import Invocation, Readings
from gpu_ami.workspace import SETTINGS_FILE

# How a task takes several families: none is about none of them, or does it itself; one has to be given which; each is
# carried out for all that are named, or for all; any knows more where there is one, and needs none.
Takes = Literal["none", "any", "one", "each"]


def carry_out(run: Invocation, takes: Takes, act: Callable[[Invocation], None]) -> None:
    """Carry *act* out for the families of *run*; where the settings have one only, with *run* itself.

    Raises:
        UsageError: A family that was named does not exist, or one has to be named.
        PipelineError: See `each`.
    """
    found = [run] if takes == "none" else chosen(run)
    if takes == "any":
        found = found if len(found) == 1 else [run]
    elif takes == "one":
        _check_one(found)
    readings = Readings() if len(found) > 1 else None
    for one in found:
        one.readings = readings
    try:
        each(found, act)
    finally:
        run.readings = None
        for one in found:
            one.forget_readings()


def chosen(run: Invocation) -> list[Invocation]:
    """Return one invocation for each family that was named, or for all; *run* itself where there is one only.

    Raises:
        UsageError: One that was named does not exist.
    """
    names = _names(run)
    if not names:
        return [run]
    return [run.of_family(name, beside=[other for other in names if other != name]) for name in names]


def _check_one(found: Sequence[Invocation]) -> None:
    if len(found) > 1:
        names = ", ".join(str(run.family) for run in found)
        msg = f"This is about one family: name it, --family NAME with one of {names}."
        raise UsageError(msg)


def named(run: Invocation, what: str) -> list[Invocation]:
    """Return what `chosen` does, for a task that must not be carried out for all unless that was said.

    Args:
        run: The invocation.
        what: What would be done for each, for the message.

    Raises:
        UsageError: There are several families, and neither was one named nor all were asked for.
    """
    found, options = chosen(run), run.options
    if len(found) > 1 and not (options.families or options.all_families):
        names = ", ".join(str(one.family) for one in found)
        msg = f"{SETTINGS_FILE} has the families {names}: say which to {what} with --family NAME, or --all-families."
        raise UsageError(msg)
    return found


def refuse_beside(run: Invocation, flags: Mapping[str, bool]) -> None:
    """Refuse flags that are about one family, or name one file, where the task is carried out for several.

    Args:
        run: The invocation of one of them.
        flags: Which flags were given.

    Raises:
        UsageError: One was.
    """
    given = next((flag for flag, is_given in flags.items() if is_given), None)
    if given is not None and run.beside:
        names = ", ".join(sorted((str(run.family), *run.beside)))
        msg = f"{given} is for one family at a time: name it, --family NAME with one of {names}."
        raise UsageError(msg)


def each(runs: Sequence[Invocation], act: Callable[[Invocation], None]) -> None:
    """Carry *act* out for each of *runs*, one after the other: what fails for one family does not stop the others.

    Raises:
        InterruptedRunError: It was interrupted; what comes after that family is not begun.
        PipelineError: It failed for some; which is said in its line, why above it.
    """
    if len(runs) == 1:
        act(runs[0])
        return
    failed: dict[str, int] = {}
    for run in runs:
        run.console.say(f"Family {run.family}")
        try:
            act(run)
        except InterruptedRunError:
            raise
        except PipelineError as exc:
            run.console.fail(str(exc))
            failed[str(run.family)] = exc.exit_code
    raise_failed(failed, len(runs))


def raise_failed(failed: Mapping[str, int], count: int) -> None:
    """End with an error where a task failed for some of *count* families.

    The exit code is the families' own where all have the same; a difference is one wherever it is; else some failed.

    Args:
        failed: The exit codes of those for which it failed.
        count: For how many it was carried out.

    Raises:
        PipelineError: There are some.
    """
    if not failed:
        return
    shown = ", ".join(f"{name} (exit code {code})" for name, code in failed.items())
    codes = set(failed.values())
    is_one = len(codes) == 1 and (len(failed) == count or codes == {DifferenceError.exit_code})
    error = PipelineError(f"{len(failed)} of {count} families did not end well: {shown}. Each says above why.")
    error.exit_code = codes.pop() if is_one else PartialError.exit_code
    raise error


def _names(run: Invocation) -> tuple[str, ...]:
    """Return the families that are meant; none where the settings are those of one."""
    from gpu_ami.settings import chosen_names

    options = run.options
    try:
        settings = run.settings
    except PipelineError:
        # A task that needs no settings goes on without; what needs them says the same.
        if options.families or options.all_families:
            raise
        return ()
    names = chosen_names(settings, options)
    return names if settings.families else ()
