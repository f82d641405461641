"""Turns plain functions into Invoke tasks with the common flags and one-line errors.

Every task gets the common flags, an `Invocation` as its first argument, and errors of one line with an exit
code of their own.
"""

from __future__ import annotations

import contextlib
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

from gpu_ami.errors import InterruptedRunError, PipelineError
from gpu_ami.invocation import Invocation, current

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

        body.__doc__ = _help_text(body)

        @functools.wraps(body)
        def call(context: Context, **given: Any) -> None:
            arguments = {p.name: tuple(given[p.name]) if isinstance(p.default, tuple) else given[p.name] for p in own}
            with friendly():
                # Invoke knows its dry run in forms that the command line does not show: -eR, INVOKE_RUN_DRY.
                body(current(root, dry_run=bool(context.config.run.dry)), **arguments)

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


def _help_text(body: Callable[..., None]) -> str | None:
    """Return a task's docstring, which is its help text; from its source where ``python -OO`` has dropped it."""
    if body.__doc__ is not None:
        return body.__doc__
    import ast
    import textwrap

    (function,) = ast.parse(textwrap.dedent(inspect.getsource(body))).body
    assert isinstance(function, ast.FunctionDef)
    return ast.get_docstring(function)


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
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise Exit(code=0) from None
    except KeyboardInterrupt as exc:
        _leave("interrupted.", InterruptedRunError(str(exc)))


def _leave(message: str, error: PipelineError) -> None:
    if os.environ.get("GPU_AMI_TRACEBACK") == "1":
        raise error
    from gpu_ami.console import Console

    Console(sandbox="--sandbox" in sys.argv).fail(message)
    raise Exit(code=error.exit_code) from error


__all__ = ["COMMON_HELP", "Invocation", "friendly", "pipeline_task"]
