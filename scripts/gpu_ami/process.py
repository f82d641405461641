"""Runs other programs: captured, streamed or followed in a log, in clean environments."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from gpu_ami import scratch
from gpu_ami.errors import ToolError, UsageError

# What a child may know of the caller's environment when it must not reach AWS: no AWS_*, TF_*, PKR_VAR_*,
# PACKER_* or proxy variable is on the list, so none of them can lead it astray.
# The last two are how much memory Terraform and Packer, which are written in Go, may trade for time.
_HARMLESS = ("PATH", "LANG", "LC_ALL", "TERM", "TZ", "TMPDIR", "SYSTEMROOT", "PATHEXT", "GOGC", "GOMEMLIMIT")
# What asks a process to end: Ctrl-C, `kill`, a terminal that is closed, Ctrl-\. Windows has not all of them.
_INTERRUPTS = frozenset(
    number for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if (number := getattr(signal, name, None)) is not None
)

# How often the log of a followed program is read.
_POLL_EVERY_S = 0.05


@dataclass(frozen=True)
class Command:
    """One program run: the arguments, the folder and the child's whole environment.

    ``env`` None means this process's own environment; ``needs_us``, that it works in vain once this process is dead.
    """

    argv: tuple[str, ...]
    cwd: Path | None = None
    env: Mapping[str, str] | None = field(default=None, repr=False)
    needs_us: bool = False

    def __str__(self) -> str:
        """Return the command as a person would type it."""
        line = shlex.join(self.argv)
        return f"(cd {shlex.quote(str(self.cwd))} && {line})" if self.cwd else line


@dataclass(frozen=True)
class Finished:
    """What a captured run left: its exit status and both streams."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """The last line that says something, of stderr first, then of stdout."""
        lines = [line.strip() for line in (*self.stdout.splitlines(), *self.stderr.splitlines()) if line.strip()]
        return lines[-1] if lines else "no output"


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return an environment of the few harmless variables of ours and *extra*, nothing else."""
    return {name: os.environ[name] for name in _HARMLESS if name in os.environ} | dict(extra)


def find_program(name: str) -> Path | None:
    """Return where *name* is on PATH, or None."""
    found = shutil.which(name)
    return Path(found) if found else None


def run(command: Command, *, stdin: str | None = None, timeout_s: float | None = None) -> Finished:
    """Run *command* to its end and return what it printed; its exit status is the caller's to judge.

    Raises:
        ToolError: The program is not there, cannot be executed, or did not end within *timeout_s*.
    """
    with _explained(command, timeout_s):
        done = subprocess.run(
            command.argv,
            cwd=command.cwd,
            env=None if command.env is None else dict(command.env),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    return Finished(done.returncode, done.stdout, done.stderr)


def output(command: Command, *, timeout_s: float | None = None) -> bytes | None:
    """Return the very bytes that *command* prints, its line ends as they are; None when it fails.

    Raises:
        ToolError: As `run`.
    """
    with _explained(command, timeout_s):
        done = subprocess.run(
            command.argv,
            cwd=command.cwd,
            env=None if command.env is None else dict(command.env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    return done.stdout if done.returncode == 0 else None


@contextlib.contextmanager
def _explained(command: Command, timeout_s: float | None) -> Iterator[None]:
    """Turn a program that is not there or does not answer into one line."""
    try:
        yield
    except OSError as exc:
        raise _not_started(command, exc) from exc
    except subprocess.TimeoutExpired as exc:
        msg = f"{Path(command.argv[0]).name} did not answer within {timeout_s:.0f} s: {command}"
        raise ToolError(msg) from exc


def become(argv: tuple[str, ...]) -> NoReturn:
    """Go on as the program *argv*, as this very process: signals reach it and nobody in between."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvp(argv[0], argv)  # noqa: S606 - no shell is needed


@contextlib.contextmanager
def interruptible(*, once: bool = False) -> Iterator[None]:
    """Let each signal that asks this process to end raise KeyboardInterrupt meanwhile, as Ctrl-C does.

    Only the first one does. The others come in pairs by themselves: a terminal that is closed sends two, and a CI
    runner lets SIGTERM follow its SIGINT; what the first one has begun to tidy must not be cut off. Ctrl-C insists.

    Args:
        once: Whether even Ctrl-C insists only when the block is over, or what it has `shielded`. The first one then
            puts the shield up by itself, and every ``finally`` that it leads to is run whole.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _ENDING.is_asked = False
    act = _raise_one_interrupt if once else _raise_interrupt
    before = {number: signal.signal(number, act) for number in _heard()}
    try:
        yield
    finally:
        if once:
            SHIELD.is_up = SHIELD.has_come = False
            for number in before:
                signal.signal(number, _raise_interrupt)
        # One that was asked to end goes on tidying until it is gone.
        if not _ENDING.is_asked:
            for number, old in before.items():
                signal.signal(number, old)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Let nothing that asks this process to end cut the block off; what came meanwhile counts at its end.

    For what must not be left half done, such as ending an instance that costs: the block has to have an end of its own.
    Within `interruptible`, whoever sets `SHIELD.is_up` as the very first thing of a ``finally`` or ``except``, before
    entering this, is not cut off on the way in either: from 3.12 on Python looks at signals at calls and at jumps back,
    and not at a plain assignment. Up to 3.11 it may look before any instruction, that assignment too: there it takes
    ``interruptible(once=True)`` and a second ``finally`` around the first one that looks whether that came to its act.

    Raises:
        KeyboardInterrupt: This process was asked to end meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        SHIELD.is_up = False  # it holds the main thread's signals off, and nobody's else
        yield
        return
    SHIELD.is_up = True
    before = {number: signal.signal(number, _note_interrupt) for number in _heard()}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
        SHIELD.is_up = False
        # Taken together: between two statements another one may come.
        has_come, SHIELD.has_come = SHIELD.has_come, False
    if has_come:
        raise KeyboardInterrupt


class _Shield:
    """Whether what asks this process to end has to wait; whether something has."""

    is_up = False
    has_come = False


SHIELD = _Shield()


def _note_interrupt(_number: int, _frame: FrameType | None) -> None:
    SHIELD.has_come = True


class _Ending:
    """Whether this process was asked to end."""

    is_asked = False


_ENDING = _Ending()


def _raise_interrupt(number: int, _frame: FrameType | None) -> None:
    is_again, _ENDING.is_asked = _ENDING.is_asked, True
    if SHIELD.is_up:
        SHIELD.has_come = True
    elif number == signal.SIGINT or not is_again:
        raise KeyboardInterrupt


def _raise_one_interrupt(number: int, frame: FrameType | None) -> None:
    try:
        _raise_interrupt(number, frame)
    except KeyboardInterrupt:
        SHIELD.is_up = True
        raise


def _heard(*always: signal.Signals) -> list[signal.Signals]:
    """Return the interrupts that whoever started us has not told us to ignore, as `nohup` does, and *always*."""
    return [number for number in _INTERRUPTS if number in always or signal.getsignal(number) is not signal.SIG_IGN]


def foreground(command: Command) -> int:
    """Run *command* on the user's terminal, in our own process group, and return its exit status.

    For programs that ask questions (``packer build -debug``): the terminal sends Ctrl-C to them itself, so
    it is left to them to react and waited for. Any other interrupt is passed on, as SIGTERM.

    Raises:
        ToolError: The program is not there or cannot be executed.
        KeyboardInterrupt: The run was interrupted and has ended.
    """
    interrupts = _Interrupts(_send_end, sent_by_terminal=frozenset({signal.SIGINT}))
    with signals_to(interrupts.receive):
        try:
            env = None if command.env is None else dict(command.env)
            child = subprocess.Popen(command.argv, cwd=command.cwd, env=env, text=True)
        except OSError as exc:
            raise _not_started(command, exc) from exc
        interrupts.watch(child)
        with scratch.used_by(child.pid, needs_us=False):
            status = child.wait()
    if interrupts.received:
        raise KeyboardInterrupt
    return status


def stream(command: Command, on_line: Callable[[str], None], *, on_interrupt: Callable[[], None]) -> int:
    """Run *command* in a process group of its own, hand each line it prints to *on_line*, return its status.

    Ctrl-C, SIGTERM, SIGHUP and SIGQUIT reach this process alone. The first of them sends exactly one SIGINT to the
    child's group (Packer ignores one sent to its own process only, and treats a second one as "drop everything");
    *on_interrupt* is called before the next line, the child is waited for, however long its clean-up takes, and
    KeyboardInterrupt is raised.

    Raises:
        ToolError: The program is not there or cannot be executed.
        KeyboardInterrupt: The run was interrupted and has ended.
    """
    interrupts = _Interrupts()
    # Before there is a child, so that no moment is left in which Ctrl-C ends us and not the child.
    with signals_to(interrupts.receive):
        child = _start_streamed(command)
        interrupts.watch(child)
        if child.stdout is None:  # pragma: no cover - Popen was given a pipe
            msg = "no pipe"
            raise AssertionError(msg)
        with scratch.used_by(child.pid, needs_us=command.needs_us), child, child.stdout:
            try:
                told = False
                for line in child.stdout:
                    if interrupts.received and not told:
                        told = True
                        on_interrupt()
                    on_line(line.rstrip("\n"))
            except BaseException:
                # Our own reader failed. The child must neither run on unwatched nor die of a pipe that nobody reads
                # while it cleans up.
                interrupts.send()
                for _ in child.stdout:
                    pass
                raise
            status = child.wait()
    if interrupts.received:
        raise KeyboardInterrupt
    return status


def follow(command: Command, log: Path, on_line: Callable[[str], None], *, on_interrupt: Callable[[], None]) -> int:
    """Run *command* with its output in the file *log*, hand each line to *on_line*, return its exit status.

    For programs that must not end in the middle when this process does (Terraform loses what it has made but not yet
    noted): nobody needs to read for it to go on. Interrupts are passed on as in `stream`.

    Raises:
        ToolError: The program is not there or cannot be executed.
        UsageError: The log cannot be written.
        KeyboardInterrupt: The run was interrupted and has ended.
    """
    interrupts = _Interrupts()
    with signals_to(interrupts.receive):
        child = _start_logged(command, log)
        interrupts.watch(child)
        with scratch.used_by(child.pid, needs_us=command.needs_us):
            try:
                _tail(child, log, on_line, interrupts.once(on_interrupt))
            except BaseException:
                interrupts.send()
                child.wait()
                raise
    if interrupts.received:
        raise KeyboardInterrupt
    return child.returncode


@dataclass(frozen=True)
class Logged:
    """A program to run beside others.

    Attributes:
        command: What to run.
        out: The file for its standard output.
        log: The file for what it says on its standard error.
    """

    command: Command
    out: Path
    log: Path


class _Beside:
    """One program that runs beside others: reads its log as it grows."""

    def __init__(self, logged: Logged, interrupts: _Interrupts) -> None:
        self.interrupts = interrupts
        self.child = _start_beside(logged)
        # At once: an interrupt that has come meanwhile is for this one, too.
        interrupts.watch(self.child)
        self._open = contextlib.ExitStack()
        self._open.enter_context(scratch.used_by(self.child.pid, needs_us=logged.command.needs_us))
        self._file = self._open.enter_context(logged.log.open(encoding="utf-8", errors="replace"))
        self._unfinished = ""

    def read(self, *, to_its_end: bool) -> list[str]:
        """Return the lines that are new; with *to_its_end* what the program left unfinished is one, too."""
        *lines, self._unfinished = (self._unfinished + self._file.read()).split("\n")
        return [*lines, self._unfinished] if to_its_end and self._unfinished else lines

    def close(self) -> int:
        """Wait for its end and return its exit status."""
        status = self.child.wait()
        self._open.close()
        return status


class SideBySide:
    """Programs that run some at a time, each in a process group of its own.

    Args:
        programs: What to run, in this order.
        at_once: How many run at a time.
        on_line: Told of each line of a program's log, by the program's number.
        on_interrupt: Called once when this process was asked to end.
        on_end: Told of each program's number and status when it has ended.
    """

    def __init__(
        self,
        programs: Sequence[Logged],
        at_once: int,
        on_line: Callable[[int, str], None],
        *,
        on_interrupt: Callable[[], None],
        on_end: Callable[[int, int], None],
    ) -> None:
        self._waiting = list(enumerate(programs))
        self._at_once = at_once
        self._on_line, self._on_end = on_line, on_end
        self._interrupts = [_Interrupts() for _ in programs]
        self._tell = self._interrupts[0].once(on_interrupt)
        self._running: dict[int, _Beside] = {}
        self._statuses: list[int | None] = [None] * len(programs)

    @property
    def is_interrupted(self) -> bool:
        """Whether this process was asked to end meanwhile."""
        return self._interrupts[0].received

    def run(self) -> list[int | None]:
        """Run them and return their exit statuses.

        The first interrupt reaches each that runs as exactly one SIGINT to its group. It is waited for, and none is
        begun after it: such a one's status is None.

        Raises:
            ToolError: A program cannot be started; those that run were interrupted and have ended.
            UsageError: A log cannot be written; likewise.
        """
        with signals_to(self._receive):
            try:
                while self._start_some() or self._running:
                    self._tell()
                    for number in list(self._running):
                        self._follow(number)
                    time.sleep(_POLL_EVERY_S)
            finally:
                for program in self._running.values():
                    program.interrupts.send()
                for program in self._running.values():
                    program.close()
        return self._statuses

    def _receive(self, number: int, frame: FrameType | None) -> None:
        for interrupts in self._interrupts:
            interrupts.receive(number, frame)

    def _start_some(self) -> bool:
        """Start as many as there is room for; return whether one was."""
        has_started = False
        while self._waiting and len(self._running) < self._at_once and not self._interrupts[0].received:
            number, logged = self._waiting.pop(0)
            self._running[number] = _Beside(logged, self._interrupts[number])
            has_started = True
        return has_started

    def _follow(self, number: int) -> None:
        program = self._running[number]
        # Polled before the last read: what it wrote before it ended is read in the same turn.
        has_ended = program.child.poll() is not None
        for line in program.read(to_its_end=has_ended):
            self._on_line(number, line)
        if has_ended:
            self._statuses[number] = status = program.close()
            del self._running[number]
            self._on_end(number, status)


def _start_beside(logged: Logged) -> subprocess.Popen[str]:
    command = logged.command
    try:
        logged.log.parent.mkdir(parents=True, exist_ok=True)
        with logged.out.open("wb") as out, logged.log.open("wb") as log:
            return subprocess.Popen(
                command.argv,
                cwd=command.cwd,
                env=None if command.env is None else dict(command.env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                text=True,
                start_new_session=True,
            )
    except OSError as exc:
        if exc.filename is not None and Path(exc.filename) in (logged.log, logged.log.parent, logged.out):
            raise UsageError(no_log(Path(exc.filename), exc)) from exc
        raise _not_started(command, exc) from exc


def _tail(child: subprocess.Popen[str], log: Path, on_line: Callable[[str], None], between: Callable[[], None]) -> None:
    """Hand each line of *log* to *on_line* until the child has ended; *between* is called between two reads."""
    unfinished = ""
    with log.open(encoding="utf-8", errors="replace") as file:
        while True:
            # Polled before the last read: what the child wrote before it ended is read in the same turn.
            ended = child.poll() is not None
            between()
            *lines, unfinished = (unfinished + file.read()).split("\n")
            for line in lines:
                on_line(line)
            if ended:
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_POLL_EVERY_S)
    if unfinished:
        on_line(unfinished)


def _start_logged(command: Command, log: Path) -> subprocess.Popen[str]:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            return subprocess.Popen(
                command.argv,
                cwd=command.cwd,
                env=None if command.env is None else dict(command.env),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
    except OSError as exc:
        if exc.filename is not None and Path(exc.filename) in (log, log.parent):
            raise UsageError(no_log(log, exc)) from exc
        raise _not_started(command, exc) from exc


def _start_streamed(command: Command) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            env=None if command.env is None else dict(command.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            bufsize=1,
            start_new_session=True,
        )
    except OSError as exc:
        raise _not_started(command, exc) from exc


def no_log(log: Path, cause: OSError) -> str:
    """Return what to say of a *log* that cannot be written."""
    why = "is no folder" if isinstance(cause, (FileExistsError, NotADirectoryError)) else cause.strerror
    return f"The log {log} cannot be written: {why}. Make {log.parent} a folder that you can write to, with some space."


class _Interrupts:
    """Passes the first interrupt on to a child, exactly once.

    Args:
        send: Interrupts a child.
        sent_by_terminal: What a child on our terminal hears by itself.
    """

    def __init__(
        self,
        send: Callable[[subprocess.Popen[str]], None] | None = None,
        *,
        sent_by_terminal: frozenset[int] = frozenset(),
    ) -> None:
        self.received = False
        self._send, self._sent_by_terminal = send or _send_interrupt, sent_by_terminal
        self._unsent = [signal.SIGINT]  # popping is atomic: a handler cannot come between test and act
        self._child: subprocess.Popen[str] | None = None

    def watch(self, child: subprocess.Popen[str]) -> None:
        """Pass interrupts on to *child* from now on, one that has come before it included."""
        self._child = child
        if self.received:
            self.send()

    def once(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Return what calls *tell* the first time that it is called after an interrupt."""
        untold = [tell]
        return lambda: untold.pop()() if self.received and untold else None

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal; print nothing, because it may have cut a print of ours in half."""
        self.received = _ENDING.is_asked = True
        if number not in self._sent_by_terminal:
            self.send()

    def send(self) -> None:
        """Interrupt the child's group, unless that has been done."""
        if self._child is not None and self._unsent:
            with contextlib.suppress(IndexError):
                self._unsent.pop()
                self._send(self._child)


def _send_interrupt(child: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        if sys.platform == "win32":
            child.terminate()
        else:
            os.killpg(child.pid, signal.SIGINT)


def _send_end(child: subprocess.Popen[str]) -> None:
    # To a Packer of its own group's: the wrapper passes on SIGTERM alone.
    child.terminate()


@contextlib.contextmanager
def signals_to(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Route what asks this process to end to *handler* meanwhile; only the main thread may.

    That is Ctrl-C, SIGTERM, and unless they are ignored, as under `nohup`, SIGHUP and SIGQUIT. For each of them
    *handler* is called twice.

    Python runs a handler when the main thread next runs Python. A signal that comes right before that thread begins to
    wait for a line would be seen only with the line, minutes later perhaps. So a thread of its own hears of it at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, told = socket.socketpair()
    told.setblocking(False)
    listener = threading.Thread(target=_listen, args=(heard, handler), daemon=True, name="signals")
    listener.start()
    told_before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    # A build in a shell's background ignores Ctrl-C, of which its Packer must hear all the same.
    before = {number: signal.signal(number, handler) for number in _heard(signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
        signal.set_wakeup_fd(told_before)
        told.close()
        listener.join()
        heard.close()


def _listen(heard: socket.socket, handler: Callable[[int, FrameType | None], None]) -> None:
    while numbers := heard.recv(64):
        for number in set(numbers) & _INTERRUPTS:
            handler(number, None)


def _not_started(command: Command, cause: OSError) -> ToolError:
    program = command.argv[0]
    if isinstance(cause, FileNotFoundError):
        return ToolError(f"{program} is not installed: run `invoke setup`.")
    return ToolError(f"{program} cannot be started: {cause.strerror}.")


def allow_many_files(most: int = 16384) -> None:
    """Let this process have *most* files and connections open, or as many as the system allows it.

    Shells often give out 256 or 1,024, and allow more to whoever asks. A fleet has hundreds of connections; one more
    than allowed fails like a lost answer. Windows knows no such limit.
    """
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    # macOS says that nothing limits it and refuses more than the system's own limit.
    with contextlib.suppress(OSError, ValueError):
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
