"""`invoke build` of several families: one after the other, or with ``--jobs N`` side by side, a process each.

A process each, because a build is asked to end by a signal, reads the template with a parser that is not made for two
at once, and has its say to itself in its log.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gpu_ami import families, process
from gpu_ami.bake import build
from gpu_ami.errors import InterruptedRunError, PipelineError, UsageError, then_raised
from gpu_ami.foreign_text import limited, visible
from gpu_ami.invocation import Invocation
from gpu_ami.process import Command, Logged
from gpu_ami.units import show_duration

if TYPE_CHECKING:
    from gpu_ami.console import Console

_MOST = 64
_DIGITS = 4
_ERROR = "error: "


@dataclass(frozen=True, kw_only=True)
class Request(build.Request):
    """What the caller of ``invoke build`` requested, where it may be for several families.

    Attributes:
        max_usd: What a verification may cost; None asks.
        jobs: How many builds run at a time.
    """

    max_usd: str | None = None
    jobs: str | None = None


def run(run: Invocation, request: Request, bake: Callable[[Invocation, build.Request], None]) -> None:
    """Build each family that was named, or with ``--all-families`` all; where the settings have one, that one.

    Args:
        run: This invocation.
        request: What was requested.
        bake: Builds one family.

    Raises:
        UsageError: It was not said which families to build, or flags do not go together.
        InterruptedRunError: The builds were interrupted; each has ended what it had started, or says what is left.
        PipelineError: A build failed; the line says of which families, and the exit code is their own, or 7 where some
            were built.
    """
    jobs = _jobs(request.jobs)
    found = families.named(run, "build")
    if len(found) > 1:
        _check(request, jobs)
    one = build.Request(**{field.name: getattr(request, field.name) for field in dataclasses.fields(build.Request)})
    if min(jobs, len(found)) == 1 or run.options.dry_run:
        families.each(found, lambda family: bake(family, one))
        return
    with run.target.lent():
        _build_beside(run, found, request, jobs)


def _jobs(text: str | None) -> int:
    if text is None:
        return 1
    # Python takes no number of thousands of digits.
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and 1 <= int(text) <= _MOST):
        given = limited(repr(text))
        msg = f"--jobs {given} is not a whole number from 1 to {_MOST}: say how many builds may run at a time."
        raise UsageError(msg)
    return int(text)


def _check(request: Request, jobs: int) -> None:
    """Refuse what several builds cannot share.

    Raises:
        UsageError: It was requested.
    """
    if request.debug and jobs > 1:
        msg = "--debug asks at each step, on one terminal: leave --jobs out, or name one --family."
        raise UsageError(msg)
    for pair in request.variables:
        if (name := pair.partition("=")[0]) in ("manifest_path", "release_path"):
            msg = f"--packer-var {name} is for one family at a time: name one with --family."
            raise UsageError(msg)


class _View(Protocol):
    """Something that shows builds that run side by side."""

    def said(self, number: int, line: str) -> None: ...

    def ended(self, number: int, status: int) -> None: ...

    def interrupted(self) -> None: ...


def _build_beside(run: Invocation, found: Sequence[Invocation], request: Request, jobs: int) -> None:
    names = [str(one.family) for one in found]
    folder = run.private_folder()
    programs = [_program(run, one, request, folder) for one in found]
    for name, program in zip(names, programs, strict=True):
        run.console.say(f"Family {name}: its log is {run.workspace.shown(program.log)}")
    with _view(run.console, names) as view:
        beside = process.SideBySide(programs, jobs, view.said, on_interrupt=view.interrupted, on_end=view.ended)
        statuses = beside.run()
    ended = [None if status is None else _exit_code(status) for status in statuses]
    # What became of the builds counts for more than what became of their reports.
    with then_raised(_error(beside.is_interrupted, dict(zip(names, ended, strict=True)))):
        _tell_all(zip(found, programs, ended, strict=True))


def _exit_code(status: int) -> int:
    """Return a process's *status* as a shell shows it: of one that a signal ended, 128 and the signal's number."""
    return 128 - status if status < 0 else status


def _error(is_interrupted: bool, ended: Mapping[str, int | None]) -> PipelineError | None:
    """Return what the builds end with, by their families' exit codes; None where all went well."""
    if is_interrupted:
        return InterruptedRunError(_interrupted(ended))
    try:
        families.raise_failed({name: code for name, code in ended.items() if code}, len(ended))
    except PipelineError as exc:
        return exc
    return None


def _tell_all(builds: Iterable[tuple[Invocation, Logged, int | None]]) -> None:
    """Print what each build printed, or why it failed; one that cannot be shown does not keep the others back.

    Raises:
        UsageError: One cannot be shown; the first of them.
    """
    problems: list[UsageError] = []
    for one, program, status in builds:
        try:
            _tell(one, program, status)
        except UsageError as exc:
            problems.append(exc)
    if problems:
        raise problems[0]


def _interrupted(statuses: Mapping[str, int | None]) -> str:
    """Return what became of builds that were interrupted, by their families' names."""
    words = {None: "not begun", 0: "done before it heard of it"}
    ended = [f"{name} ({words.get(status, f'exit code {status}')})" for name, status in statuses.items()]
    return f"The builds were interrupted: {', '.join(ended)}."


def _program(run: Invocation, one: Invocation, request: Request, folder: Path) -> Logged:
    """Return the build of the family of *one* as a program of its own."""
    options = run.options
    command: list[str] = [sys.executable, "-m", "invoke", "build", "--family", str(one.family)]
    for variable in request.variables:
        command += ["--packer-var", variable]
    command += ["--max-usd", request.max_usd] if request.max_usd is not None else []
    flags = {"--incremental": request.incremental, "--if-stale": request.if_stale, "--sandbox": options.sandbox}
    command += [flag for flag, is_given in flags.items() if is_given]
    for flag, value in {"--region": options.region, "--profile": options.profile}.items():
        command += [flag, value] if value is not None else []
    command += ["--output", "json" if _wants_document(run) else options.output]
    # The rest of the command line's tasks and what GPU_AMI_FAMILY names are ours, not the child's.
    environment = {name: value for name, value in os.environ.items() if name != "GPU_AMI_FAMILY"}
    begun = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}"
    return Logged(
        Command(tuple(command), cwd=run.workspace.root, env=environment),
        out=folder / f"{one.family}.out",
        log=run.workspace.logs / f"build-{begun}-{os.getpid()}-{one.family}.log",
    )


def _wants_document(run: Invocation) -> bool:
    return run.options.output == "json" or run.options.query is not None


def _tell(one: Invocation, program: Logged, status: int | None) -> None:
    """Print what a build printed, or why it failed."""
    if status:
        why = last_error(program.log.read_text(encoding="utf-8", errors="replace"))
        one.console.fail(f"{one.family}: {why} Its log is {one.workspace.shown(program.log)}.")
    if status is None:
        return
    text = program.out.read_text(encoding="utf-8", errors="replace")
    if not text.strip():
        return
    if _wants_document(one):
        one.console.result(_document(one, text))
    else:
        one.console.relay(text)


def _document(one: Invocation, text: str) -> Any:
    try:
        return json.loads(text.strip().splitlines()[-1])
    except ValueError as exc:
        manifest = one.workspace.shown(one.workspace.manifest)
        msg = f"What the build of {one.family} printed is cut off: {manifest} names its AMI if it made one."
        raise UsageError(msg) from exc


def last_error(text: str) -> str:
    """Return the last line of an error in the log *text*, else the last line of all."""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
    return visible([*lines, *errors][-1]) if lines else "it said nothing."


@contextlib.contextmanager
def _view(console: Console, names: Sequence[str]) -> Iterator[_View]:
    if not console.is_terminal:
        yield Lines(console, names)
        return
    from rich.live import Live

    rows = Rows(names)
    with Live(get_renderable=rows.render, console=console.rich(), refresh_per_second=4):
        yield rows


class Lines:
    """Each line of each build, with its family in front: what a log file can hold."""

    def __init__(self, console: Console, names: Sequence[str]) -> None:
        self._console, self._names = console, names
        self._width = max(map(len, names))

    def said(self, number: int, line: str) -> None:
        """Print *line* of the build *number*."""
        self._console.say(f"{self._names[number]:<{self._width}}  {line}")

    def ended(self, number: int, status: int) -> None:
        """Say that the build has ended."""
        self.said(number, "done" if status == 0 else f"failed with exit code {_exit_code(status)}")

    def interrupted(self) -> None:
        """Say what is waited for."""
        self._console.say("Interrupted: the builds that are under way end what they started.")


class Rows:
    """A row for each build: how it is, since when, and what it said last."""

    def __init__(self, names: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._names, self._clock = names, clock
        self._began: dict[int, float] = {}
        self._took: dict[int, float] = {}
        self._status: dict[int, int] = {}
        self._last = dict.fromkeys(range(len(names)), "waits")
        self._is_interrupted = False

    def said(self, number: int, line: str) -> None:
        """Take *line* of the build *number*."""
        self._began.setdefault(number, self._clock())
        if line.strip():
            self._last[number] = visible(line.strip())

    def ended(self, number: int, status: int) -> None:
        """Take the build's end."""
        self._status[number] = status
        self._took[number] = self._clock() - self._began.setdefault(number, self._clock())

    def interrupted(self) -> None:
        """Take it that the builds are ending."""
        self._is_interrupted = True

    def render(self) -> Any:
        """Return the rows as they are now, for rich."""
        from rich.console import Group
        from rich.text import Text

        width = max(map(len, self._names))
        lines = []
        for number, name in enumerate(self._names):
            status = self._status.get(number)
            mark, style = {None: ("·", "cyan"), 0: ("✓", "green")}.get(status, ("✗", "red"))
            taken = self._took.get(number, self._clock() - self._began[number]) if number in self._began else 0.0
            line = Text.assemble((f"  {mark} ", style), f"{name:<{width}}  ", (f"{show_duration(taken):>8}  ", "dim"))
            line.append(self._last[number], style="dim")
            line.no_wrap, line.overflow = True, "ellipsis"
            lines.append(line)
        if self._is_interrupted:
            lines.append(Text("  interrupted: what is under way ends what it started", style="bold"))
        return Group(*lines)
