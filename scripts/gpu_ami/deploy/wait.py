"""Waits for the Batch updates that an apply has started; running jobs may hold one up for hours."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set

from gpu_ami.aws import batch
from gpu_ami.aws.caller import Caller
from gpu_ami.deploy import live_environments, root_module
from gpu_ami.deploy.live_environments import Live
from gpu_ami.deploy.root_module import Root
from gpu_ami.errors import AwsError, InterruptedRunError, TerraformError, UsageError
from gpu_ami.units import show_duration

_POLL_S = 10.0
_LATER = "`invoke status` shows how it ends; `invoke apply` then completes the receipt."
# Beside the time that the environment gives its running jobs: for Batch to start instances and to end the old ones.
_MARGIN_S = 30 * 60.0
_ENDED = ("VALID", "INVALID")
# Of --wait, in minutes: nearly two years.
_MOST_DIGITS = 6


class OutcomeUnknownError(TerraformError):
    """The wait for a Batch update timed out; its outcome is unknown."""


def minutes(text: str | None) -> int | None:
    """Return the number of minutes that ``--wait`` gives; None when it was not given.

    Raises:
        UsageError: It is no number.
    """
    if text is not None and not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        msg = f"--wait {text[:20]!r} is no number of minutes: give for example --wait 90."
        raise UsageError(msg)
    return None if text is None else int(text)


def until_ended(
    root: Root, live: Sequence[Live], wait_minutes: int | None, *, only: Set[str] | None = None
) -> Sequence[Live]:
    """Wait until Batch has ended the updates under way, and return the environments' state then.

    Args:
        root: The root module.
        live: The environments' state now.
        wait_minutes: How long to wait; None takes what the environments give running jobs, and a margin.
        only: The addresses that matter; None for all.

    Raises:
        OutcomeUnknownError: The wait timed out, or Batch cannot be queried any more.
        InterruptedRunError: Interrupted meanwhile.
    """
    run = root.run
    ours = [current for current in live if only is None or current.address in only]
    busy = [current.environment for current in ours if current.environment and not is_ended(current)]
    if not busy:
        return live
    caller = Caller(run.access, run.settings.region)
    names = ", ".join(environment.name for environment in busy)
    limit_s = max(map(allowed_s, busy)) if wait_minutes is None else wait_minutes * 60.0
    run.console.say(f"Batch replaces the instances of {names} as their jobs end: {show_duration(limit_s)} at most.")
    try:
        with run.console.step("waiting for Batch") as note:
            wait_until_ended(
                caller,
                [environment.name for environment in busy],
                note=note,
                poll_s=run.target.poll_s(_POLL_S),
                limit_s=limit_s,
            )
        return live_environments.query(caller, root_module.state(root))
    except KeyboardInterrupt as exc:
        msg = f"Interrupted while Batch still replaced the instances of {names}: it goes on by itself. {_LATER}"
        raise InterruptedRunError(msg) from exc
    except AwsError as exc:
        why = str(exc).rstrip(".")
        msg = f"Batch still replaced the instances of {names} when it could not be queried any more ({why}). {_LATER}"
        raise OutcomeUnknownError(msg) from exc


def is_ended(live: Live) -> bool:
    """Whether Batch has nothing under way there."""
    return live.environment is None or live.environment.status in _ENDED


def allowed_s(environment: batch.Environment) -> float:
    """Return how long an update of it may take: the time that it gives running jobs, and a margin."""
    return _MARGIN_S + (0 if environment.terminates_jobs else environment.timeout_minutes * 60)


def wait_until_ended(
    caller: Caller,
    names: Sequence[str],
    *,
    note: Callable[[str], None],
    poll_s: float,
    limit_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until Batch has carried the update of the environments out, or given up on it.

    Raises:
        AwsError: Batch refused or cannot be reached.
        OutcomeUnknownError: It takes longer than *limit_s*.
    """
    began = clock()
    while True:
        busy = [environment for environment in batch.environments(caller, names) if environment.status not in _ENDED]
        if not busy:
            return
        note(", ".join(f"{environment.name} is {environment.status}" for environment in busy))
        if clock() - began >= limit_s:
            msg = (
                f"{busy[0].name} is still {busy[0].status} after {show_duration(clock() - began)} of waiting: Batch "
                "goes on by itself. `invoke status` shows how it ends; `invoke apply` then completes the receipt."
            )
            raise OutcomeUnknownError(msg)
        sleep(poll_s)
