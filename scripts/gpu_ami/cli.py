"""Turns plain functions into Invoke tasks with the common flags and one-line errors.

Every task gets the common flags, an `Invocation` as its first argument, and errors of one line with an exit
code of their own. Invoke itself runs each call of a line, equal ones too, and says what a misspelt word is near to.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit, ParseError
from invoke.main import program
from invoke.parser.context import ParserContext
from invoke.program import Program
from invoke.tasks import Task, task

from gpu_ami import families
from gpu_ami.console import Console
from gpu_ami.errors import InterruptedRunError, PipelineError, UsageError
from gpu_ami.files import CLOSED, FULL, is_of_files
from gpu_ami.invocation import Invocation, current
from gpu_ami.options import families_in, wants_sandbox
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
    "family": "One of several families in pipeline.yaml; repeatable.",
    "all-families": "Every family in pipeline.yaml.",
}
_COMMON_DEFAULTS: dict[str, Any] = {
    "region": None,
    "profile": None,
    "sandbox": False,
    "output": None,
    "query": None,
    "dry_run": False,
    "family": [],
    "all_families": False,
}


# What need not be told of builds that were cut off: the one shows what is left of them, the other begins anew.
_ABOUT_LEFTOVERS = ("sweep", "sandbox")
_UNKNOWN = re.compile(r"No idea what (.+) is!", re.DOTALL)
# Invoke names the flag as Python shows an Argument: by its first name, and its other ones in brackets.
_NO_VALUE = re.compile(r"Flag <Argument: ([^ >]+).*> needed value and was not given one!", re.DOTALL)
# What `--var`, which each of them may still be given as, is to a task that has the parameter.
_VAR = {
    "packer_var": "a Packer variable",
    "terraform_var": "a Terraform variable",
    "variable": "the name of the variable that takes the AMI",
}


class PipelineProgram(Program):
    """Invoke's command line, with what this pipeline needs of it; `program` becomes one below."""

    # The tasks of the line that have not begun yet.
    coming: tuple[str, ...] = ()

    def parse_tasks(self) -> None:
        """Read tasks and flags; a word that is neither is an error that says what it is near to."""
        with self._hinting():
            super().parse_tasks()
        self.coming = tuple(str(call.name) for call in self.tasks)
        with friendly():
            _check_var(self.tasks)

    def begin(self, task: str) -> tuple[str, ...]:
        """Return the tasks of the line that come after *task*, which begins now."""
        if task in self.coming:
            self.coming = self.coming[self.coming.index(task) + 1 :]
        return self.coming

    def parse_cleanup(self) -> None:
        """Carry out ``--help TASK``, ``--list`` and the like, with the same errors; a reader may have read enough."""
        with self._hinting(), friendly():
            super().parse_cleanup()

    def no_tasks_given(self) -> None:
        """List the tasks, and say where to begin: Invoke would show its own flags, and none of what there is to do."""
        self.list_tasks()
        Console().say(_BEGIN)
        raise Exit

    def update_config(self, merge: bool = True) -> None:
        """Read the configuration, and run equal calls of one line each, in order.

        Of ``invoke build apply build apply --sandbox`` Invoke would leave the second build out, in silence.
        """
        super().update_config(merge)
        self.config.tasks.dedupe = False

    @contextlib.contextmanager
    def _hinting(self) -> Iterator[None]:
        try:
            yield
        except ParseError as exc:
            tasks: Mapping[str, ParserContext] = self.parser.contexts
            context = exc.context or self.initial_context
            hint = _hint(str(exc), context, tasks, self.initial_context.flags, self.argv)
            # Said as every other error is; Invoke would print it as it is, broken anywhere.
            Console().fail(f"{_said(str(exc))} {hint}")
            raise Exit(code=1) from exc


# What somebody who has typed `invoke` and nothing else may want to know next.
_BEGIN = "`invoke setup build --sandbox` needs no AWS account and costs nothing; `invoke --help TASK` explains a task."


# The program that is running: `invoke` and `python -m invoke` make it, before they read the tasks.
program.__class__ = PipelineProgram


def _hint(
    problem: str, context: ParserContext, tasks: Mapping[str, ParserContext], core: Iterable[str], argv: Iterable[str]
) -> str:
    """Return what to do about *problem*, one of Invoke's parser, in the *context* of a task or of the line's start."""
    unknown = _UNKNOWN.fullmatch(problem)
    lists = f"`invoke --help {context.name or 'TASK'}` lists the flags{'' if context.name else ' of a task'}."
    if unknown is None:
        return lists
    word = _typed(str(ast.literal_eval(unknown[1])), argv)
    if switch := _switch_before(word, argv, [*_flags(context), *core]):
        return f"{switch} takes no value: leave out ={word}. {lists}"
    if not word.startswith("-"):
        near = _near(word, tasks)
        explains = f"Did you mean {_either(near)}? `invoke --help {near[0]}` explains it." if near else ""
        return explains or f"There is no such task: `invoke --list` lists them, {lists}"
    if owners := [name for name, other in tasks.items() if word in _flags(other)]:
        of = "every task" if len(owners) == len(tasks) else _either(owners)
        return f"It is a flag of {of}, given behind the task: {lists}"
    flags = [*_flags(context), *core] if context.name else [flag for other in tasks.values() for flag in _flags(other)]
    near = _near(word, flags)
    return f"Did you mean {_either(near)}? {lists}" if near else lists


def _check_var(calls: Iterable[ParserContext]) -> None:
    """Refuse a ``--var`` that an earlier task of the line, without one, would have taken for something else.

    Of ``invoke build apply --var image_tag=v2`` Terraform would be given the tag, after the bake.

    Raises:
        UsageError: There is one.
    """
    without: dict[str, str] = {}
    for call in calls:
        own = next((name for name in _VAR if _flag(name) in call.flags), None)
        if own is None:
            continue
        other = next((name for name in without if name != own), None)
        if other is not None and call.flags["--var"].got_value:
            msg = (
                f"--var behind {call.name} could be meant for {without[other]}, to which it is {_VAR[other]} and not "
                f"{_VAR[own]}: give {_flag(other)} behind {without[other]}, or {_flag(own)} behind {call.name}."
            )
            raise UsageError(msg)
        if not (call.flags["--var"].got_value or call.flags[_flag(own)].got_value):
            without[own] = str(call.name)


def _flag(parameter: str) -> str:
    # As Invoke has it: `from_` is --from, a word that Python keeps for itself.
    return f"--{parameter.strip('_').replace('_', '-')}"


def _typed(token: str, argv: Iterable[str]) -> str:
    """Return the flag as it was typed, where Invoke took the letters of ``-older-than`` for a flag each."""
    typed = (word for word in argv if len(word) > 2 and word.startswith(token) and not word.startswith("--"))
    return next(typed, token) if re.fullmatch("-[^-]", token) else token


def _said(problem: str) -> str:
    """Return *problem*, one of Invoke's parser, with the flag that lacks its value named as it is typed."""
    flag = _NO_VALUE.fullmatch(problem)
    return problem if flag is None else f"{_flag(flag[1])} needs a value, and none was given."


def _switch_before(word: str, argv: Iterable[str], flags: Iterable[str]) -> str:
    """Return the flag that takes no value and was given *word* as one, ``--sandbox=1``; empty where there is none."""
    known = set(flags)
    given = (argument.partition("=") for argument in argv)
    return next((flag for flag, sign, value in given if sign and value == word and flag in known), "")


def _flags(context: ParserContext) -> list[str]:
    return [*context.flags, *context.inverse_flags]


def _near(word: str, names: Iterable[str]) -> list[str]:
    import difflib

    return difflib.get_close_matches(word.replace("_", "-"), sorted(set(names)), n=3, cutoff=0.7)


def _either(names: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def pipeline_task(
    root: Path, *, takes: families.Takes = "one", **flags: str
) -> Callable[[Callable[..., None]], Task[Callable[..., None]]]:
    """Return a decorator that makes a task of a function ``(run, *, flag=default, …)``.

    Args:
        root: The repository: the folder of tasks.py.
        takes: How the task takes several families.
        flags: The help text of each parameter. A parameter whose default is a tuple can be repeated on the
            command line. Every parameter needs a default: Invoke takes ``--help`` for the value of a missing
            positional argument and runs the task. One that `_VAR` names is also taken as ``--var``.
    """

    def decorate(body: Callable[..., None]) -> Task[Callable[..., None]]:
        own = list(inspect.signature(body).parameters.values())[1:]
        # The earlier name of one of them, as a parameter of the same kind.
        renamed = {p.name: p.replace(name="var") for p in own if p.name in _VAR}
        declared = [*own, *renamed.values()]

        body.__doc__ = _help_text(body)

        @functools.wraps(body)
        def call(context: Context, **given: Any) -> None:
            arguments = {p.name: tuple(given[p.name]) if isinstance(p.default, tuple) else given[p.name] for p in own}
            from gpu_ami.process import interruptible

            with interruptible(), friendly():
                for name in renamed:
                    arguments[name] = _merged(name, arguments[name], given["var"])
                # Invoke knows its dry run in forms that the command line does not show: -eR, INVOKE_RUN_DRY.
                run = current(root, dry_run=bool(context.config.run.dry))
                run.coming = _begin(body.__name__.replace("_", "-"))
                if body.__name__ not in _ABOUT_LEFTOVERS:
                    run.tell_cut_off_builds()
                families.carry_out(run, takes, lambda one: body(one, **arguments))

        first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        common = [_parameter(name, default) for name, default in _COMMON_DEFAULTS.items()]
        mine = [_parameter(p.name, [] if isinstance(p.default, tuple) else p.default) for p in declared]
        call.__signature__ = inspect.Signature([first, *mine, *common])  # type: ignore[attr-defined]
        made: Task[Callable[..., None]] = task(
            help={_flag(name)[2:]: text for name, text in flags.items()}
            | {old.name: f"What {_flag(name)} was called before; the same." for name, old in renamed.items()}
            | COMMON_HELP,
            iterable=[*(p.name for p in declared if isinstance(p.default, tuple)), "family"],
            auto_shortflags=False,
            positional=[],
        )(call)
        return made

    return decorate


def _begin(task: str) -> tuple[str, ...]:
    """Return the tasks of the command line that come after *task*; none where nothing was read by Invoke's program."""
    return program.begin(task) if isinstance(program, PipelineProgram) else ()


def _merged(name: str, value: Any, old: Any) -> Any:
    """Return what was given for the parameter *name* by its name, *value*, and by ``--var``, *old*.

    Raises:
        UsageError: It takes one value and both were given.
    """
    if isinstance(value, tuple):
        return (*value, *old)
    if value is not None and old is not None:
        msg = f"{_flag(name)} {value!r} and --var {old!r} are the same flag: give one of them."
        raise UsageError(msg)
    return old if value is None else value


def _help_text(body: Callable[..., None]) -> str | None:
    """Return a task's docstring, which is its help text; from its source where ``python -OO`` has dropped it."""
    if body.__doc__ is not None:
        return body.__doc__
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
        to_nowhere(sys.stdout)
        raise Exit(code=0) from None
    except OSError as exc:
        _leave(*_explained(exc))
    except KeyboardInterrupt as exc:
        _leave("interrupted.", InterruptedRunError(str(exc)))


def _explained(exc: OSError) -> tuple[str, PipelineError]:
    """Return the line and the error for what the system refused and nobody has words for."""
    why = exc.strerror or str(exc) or type(exc).__name__
    if not is_of_files(exc):
        return f"{why} ({type(exc).__name__}): GPU_AMI_TRACEBACK=1 shows where.", PipelineError(why)
    where = f"{exc.filename}: " if exc.filename is not None else ""
    closed = "make it a place that you can write to" if exc.errno in CLOSED else "look what is there"
    advice = "free some space" if exc.errno in FULL else closed
    msg = f"{where}{why}: {advice}, then run it again."
    return msg, UsageError(msg)


def _leave(message: str, error: PipelineError) -> None:
    if os.environ.get("GPU_AMI_TRACEBACK") == "1":
        raise error
    Console(sandbox=wants_sandbox(sys.argv[1:], os.environ), family=_family()).fail(message)
    raise Exit(code=error.exit_code) from error


def _family() -> str | None:
    """Return the family that commands in messages are to be about; None where none is named, or several are."""
    try:
        named = families_in(sys.argv[1:], os.environ)
    except UsageError:
        return None
    return named[0] if len(named) == 1 else None


__all__ = ["COMMON_HELP", "Invocation", "friendly", "pipeline_task"]
