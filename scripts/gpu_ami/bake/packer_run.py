"""Runs one `packer build`: follows its output, logs it, and turns a failure into one line."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Protocol

from gpu_ami import process
from gpu_ami.bake.builder_logs import BuilderLogs
from gpu_ami.bake.packer_events import Progress, advance, failure, parse_line
from gpu_ami.bake.placement import shortage
from gpu_ami.bake.secret_values import redact
from gpu_ami.errors import BuildError, UsageError
from gpu_ami.foreign_text import visible
from gpu_ami.process import Command


class FailedBuildError(BuildError):
    """Packer ended without an AMI.

    Attributes:
        shortage: EC2's code where only the room for the builder was lacking; None otherwise.
        script: The provisioning script that failed; empty when it was none, as after the last one has passed.
        progress: How far it came.
    """

    def __init__(self, message: str, progress: Progress, logs: str = "") -> None:
        super().__init__(" ".join(filter(None, (message, logs))))
        self.progress = progress
        self.shortage = shortage(progress)
        # Packer says that "provisioning had errors" of whatever fails once there is a builder.
        is_script = bool(progress.script_tail and progress.step and not progress.part)
        self.script = progress.scripts[progress.step - 1] if is_script else ""
        self._message, self._logs = message, logs

    def say_left(self, left: str) -> None:
        """Add what the build has left in the account to the message, before the logs."""
        self.args = (" ".join(filter(None, (self._message, left, self._logs))),)


class View(Protocol):
    """Something that shows a build's progress."""

    def update(self, progress: Progress) -> None:
        """Show *progress*; called for every line that Packer prints."""

    def snapshot(self, percent: int) -> None:
        """Show how far the AMI's snapshot is."""

    def failed(self, script_tail: tuple[str, ...]) -> None:
        """Show the last lines of the script that failed."""


def bake(
    command: Command,
    *,
    scripts: tuple[str, ...],
    log: Path,
    view: View,
    percent: Callable[[str], int | None],
    poll_s: float,
) -> Progress:
    """Run the machine-readable build *command* to its end and return what it made.

    Args:
        command: ``packer build -machine-readable …``.
        scripts: The template's provisioning scripts, in order.
        log: The file that gets every line that Packer printed, without secrets and with what a terminal would obey made
            visible. The builder's logs go beside it, to
            ``*.builder.log``, when a step has failed.
        view: Told about each line.
        percent: How far the snapshot of a pending AMI is, queried every *poll_s* seconds while EC2 makes it.
        poll_s: Seconds between two queries.

    Raises:
        FailedBuildError: Packer ended with another status than 0; the line names the step or what came after the steps,
            the first reason and the log.
        BuildError: The log could not be written on; Packer was interrupted and has cleaned up.
        KeyboardInterrupt: The build was cancelled and Packer has cleaned up.
    """
    follower = _Follower(Progress(scripts=scripts), view, BuilderLogs(log.with_suffix(".builder.log")))
    with _open_log(log) as file, _watching(follower, percent, poll_s):

        def on_line(line: str) -> None:
            # A script may print what the builder was told by somebody else; tabs are no harm.
            line = visible(redact(line), keep="\t")
            file.write(f"{line}\n")
            file.flush()
            follower.feed(line)

        try:
            status = process.stream(command, on_line, on_interrupt=follower.cancel)
        except OSError as exc:
            msg = f"The build was cancelled: its log {log} cannot be written: {exc.strerror}."
            raise BuildError(msg) from exc
    progress = follower.progress
    follower.logs.close()
    if status != 0:
        view.failed(progress.script_tail or progress.tail)
        message = f"The build failed at {progress.place}: {failure(progress).rstrip('.')}."
        builder = follower.logs.path
        logs = f"The builder's own logs are in {builder}. " if builder else ""
        raise FailedBuildError(message, progress, f"{logs}The whole log is in {log}.")
    return progress


class _Follower:
    """Folds Packer's lines into progress and shows each change."""

    def __init__(self, progress: Progress, view: View, logs: BuilderLogs) -> None:
        self.progress = progress
        self.logs = logs
        self._view = view

    def feed(self, line: str) -> None:
        event = parse_line(line)
        self.logs.feed(event)
        if event is None:
            # Not an event: Packer itself said something, a panic for example. Keep it for the error.
            if line.strip():
                self.progress = _with_tail(self.progress, line.strip())
        else:
            self.progress = advance(self.progress, event)
        self._view.update(self.progress)

    def cancel(self) -> None:
        self.progress = replace(self.progress, phase="cancelling")
        self._view.update(self.progress)

    def watch(self, percent: Callable[[str], int | None]) -> None:
        if self.progress.phase == "imaging" and self.progress.ami_id:
            done = percent(self.progress.ami_id)
            if done is not None:
                self._view.snapshot(done)


def _with_tail(progress: Progress, line: str) -> Progress:
    return replace(progress, tail=(*progress.tail[-11:], line))


@contextlib.contextmanager
def _watching(follower: _Follower, percent: Callable[[str], int | None], poll_s: float) -> Iterator[None]:
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(poll_s):
            follower.watch(percent)

    watcher = threading.Thread(target=watch, daemon=True, name="snapshot-watch")
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@contextlib.contextmanager
def _open_log(log: Path) -> Iterator[IO[str]]:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("w", encoding="utf-8")
    except OSError as exc:
        msg = f"The build log {log} cannot be written: {exc.strerror}."
        raise UsageError(msg) from exc
    with file:
        yield file
