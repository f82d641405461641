"""Turns plain functions into Invoke tasks with the common flags and one-line errors.

Every task gets the common flags, an `Invocation` as its first argument, and errors of one line with an exit
code of their own.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import Task, task

from gpu_ami.console import Console
from gpu_ami.errors import InterruptedRunError, PipelineError, UsageError
from gpu_ami.invocation import Invocation, current
from gpu_ami.process import interruptible
from gpu_ami.streams import to_nowhere

# Invoke keeps Python from writing bytecode, and without it each command compiles moto and botocore anew: two seconds.
# What the user says with -B or PYTHONDONTWRITEBYTECODE stays.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)

# Read from the whole command line by options.py; declared here so that Invoke accepts them after any task.
COMMON_HELP = {
    "region": "AWS region; beats pipeline.yaml.",
    "profile": "AWS profile; beats pipeline.yaml and AWS_PROFILE.",
    "sandbox": "Work on the local AWS and guest; nothing reaches AWS.",
    "output": "table, json or markdown.",
    "query": "JMESPath over the result's JSON, as in the AWS CLI.",
    "dry-run": "Say what would be done and do nothing; same as Invoke's --dry.",
}
_COMMON_DEFAULTS: dict[str, Any] = {
    "region": None,
    "profile": None,
    "sandbox": False,
    "output": None,
    "query": None,
    "dry_run": False,
}


# What need not be told of builds that were cut off: the one shows what is left of them, the other begins anew.
_ABOUT_LEFTOVERS = ("sweep", "sandbox")


def pipeline_task(root: Path, **flags: str) -> Callable[[Callable[..., None]], Task[Callable[..., None]]]:
    """Return a decorator that makes a task of a function ``(run, *, flag=default, …)``.

    Args:
        root: The repository: the folder of tasks.py.
        flags: The help text of each parameter. A parameter whose default is a tuple can be repeated on the
            command line. Every parameter needs a default: Invoke takes ``--help`` for the value of a missing
            positional argument and runs the task.
    """

    def decorate(body: Callable[..., None]) -> Task[Callable[..., None]]:
        own = list(inspect.signature(body).parameters.values())[1:]

        @functools.wraps(body)
        def call(context: Context, **given: Any) -> None:
            arguments = {p.name: tuple(given[p.name]) if isinstance(p.default, tuple) else given[p.name] for p in own}
            with interruptible(), friendly():
                # Invoke knows its dry run in forms that the command line does not show: -eR, INVOKE_RUN_DRY.
                run = current(root, dry_run=bool(context.config.run.dry))
                if body.__name__ not in _ABOUT_LEFTOVERS:
                    run.tell_cut_off_builds()
                body(run, **arguments)

        first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        common = [_parameter(name, default) for name, default in _COMMON_DEFAULTS.items()]
        mine = [_parameter(p.name, [] if isinstance(p.default, tuple) else p.default) for p in own]
        call.__signature__ = inspect.Signature([first, *mine, *common])  # type: ignore[attr-defined]
        made: Task[Callable[..., None]] = task(
            help={name.replace("_", "-"): text for name, text in flags.items()} | COMMON_HELP,
            iterable=[p.name for p in own if isinstance(p.default, tuple)],
            auto_shortflags=False,
            positional=[],
        )(call)
        return made

    return decorate


def _parameter(name: str, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)


@contextlib.contextmanager
def friendly() -> Iterator[None]:
    """Turn the pipeline's errors and Ctrl-C inside the block into one line and an exit code.

    ``GPU_AMI_TRACEBACK=1`` lets the exception through, with its traceback.
    """
    try:
        yield
    except PipelineError as exc:
        _leave(str(exc), exc)
    except BrokenPipeError:
        # `invoke cost | head`: whoever read the result has read enough, and the work itself is done.
        to_nowhere(sys.stdout)
        raise Exit(code=0) from None
    except OSError as exc:
        _leave(*_explained(exc))
    except KeyboardInterrupt as exc:
        _leave("interrupted.", InterruptedRunError(str(exc)))


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_CLOSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
# What a disk or a file refuses, wherever it turns up; anything else, as of the network, nobody expected here.
_OF_FILES = _FULL | _CLOSED | {errno.EFBIG, errno.EIO}


def _explained(exc: OSError) -> tuple[str, PipelineError]:
    """Return the line and the error for what the system refused and nobody has words for."""
    why = exc.strerror or str(exc) or type(exc).__name__
    if exc.filename is None and exc.errno not in _OF_FILES:
        return f"{why} ({type(exc).__name__}): GPU_AMI_TRACEBACK=1 shows where.", PipelineError(why)
    where = f"{exc.filename}: " if exc.filename is not None else ""
    closed = "make it a place that you can write to" if exc.errno in _CLOSED else "look what is there"
    advice = "free some space" if exc.errno in _FULL else closed
    msg = f"{where}{why}: {advice}, then run it again."
    return msg, UsageError(msg)


def _leave(message: str, error: PipelineError) -> None:
    if os.environ.get("GPU_AMI_TRACEBACK") == "1":
        raise error
    Console(sandbox="--sandbox" in sys.argv).fail(message)
    raise Exit(code=error.exit_code) from error


__all__ = ["COMMON_HELP", "Invocation", "friendly", "pipeline_task"]
