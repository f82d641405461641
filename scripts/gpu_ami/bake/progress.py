"""What a person sees while Packer bakes: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from gpu_ami.bake.packer_events import PHASE_TITLES, POST_PROCESSING, Progress
from gpu_ami.bake.packer_run import View
from gpu_ami.console import Console
from gpu_ami.units import show_duration

if TYPE_CHECKING:
    from rich.live import Live

_SAY_EVERY_PERCENT = 10


@contextlib.contextmanager
def build_view(console: Console) -> Iterator[View]:
    """Yield the view that suits the terminal; it is closed when the block ends."""
    if not console.is_terminal:
        yield PlainView(console)
        return
    from rich.live import Live

    view = LiveView()
    with Live(get_renderable=view.render, console=console.rich(), refresh_per_second=8, transient=False) as live:
        view.live = live
        has_failed = True
        try:
            yield view
            has_failed = False
        finally:
            view.end(has_failed=has_failed)


class PlainView:
    """One line per step, with the time since the start: what a log file can hold."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Start counting now."""
        self._console = console
        self._clock = clock
        self._started = clock()
        self._title = ""
        self._percent = -1

    def update(self, progress: Progress) -> None:
        """Say the step when it is a new one."""
        if progress.title != self._title:
            self._title = progress.title
            self._say(progress.title)

    def snapshot(self, percent: int) -> None:
        """Say the percentage when it has grown by ten or the snapshot is complete."""
        if percent // _SAY_EVERY_PERCENT > self._percent // _SAY_EVERY_PERCENT:
            self._percent = percent
            self._say(f"snapshot {percent} %")

    def failed(self, script_tail: tuple[str, ...]) -> None:
        """Say the script's last lines, set in."""
        for line in script_tail:
            self._console.say(f"          {line}")

    def _say(self, text: str) -> None:
        self._console.say(f"{show_duration(self._clock() - self._started):>8}  {text}")


class LiveView:
    """Finished steps with their times, the one at fault marked; the running one with what it said last."""

    live: Live | None = None

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start counting now."""
        self._clock = clock
        self._started = self._since = clock()
        self._finished: list[tuple[str, float]] = []
        self._progress: Progress | None = None
        self._percent: int | None = None
        self._spinner: Any = None
        self._interrupted = ""
        self._has_failed = self._has_ended = False

    def update(self, progress: Progress) -> None:
        """Take *progress*; a changed title closes the step before it."""
        before = self._progress
        if before is not None and before.title != progress.title:
            self._close(before)
            if progress.phase == "cancelling":
                self._interrupted = before.title
        self._progress = progress

    def end(self, *, has_failed: bool) -> None:
        """Close the last step: nothing runs any more."""
        self._has_failed, self._has_ended = has_failed, True
        if self._progress is not None:
            self._close(self._progress)

    def _close(self, progress: Progress) -> None:
        now = self._clock()
        self._finished.append((progress.title, now - self._since))
        self._since = now

    def snapshot(self, percent: int) -> None:
        """Take the snapshot's percentage."""
        self._percent = percent

    def failed(self, script_tail: tuple[str, ...]) -> None:
        """Keep the script's last lines on the screen, above the steps."""
        if self.live is not None:
            for line in script_tail:
                self.live.console.print(f"    {line}", markup=False, style="red", soft_wrap=True)

    def render(self) -> Any:
        """Return the view as it is now, for rich."""
        from rich.console import Group
        from rich.padding import Padding
        from rich.spinner import Spinner
        from rich.text import Text

        at_fault = self._at_fault()
        lines: list[Any] = [
            Text.assemble(
                ("  ✗ ", "red") if title == at_fault else ("  ✓ ", "green"),
                f"{title:<44}",
                (show_duration(taken), "dim"),
            )
            for title, taken in self._finished
        ]
        progress = self._progress
        if progress is not None and not self._has_ended:
            label = progress.title
            if progress.phase == "imaging" and self._percent is not None:
                label = f"{label}, snapshot {self._percent} %"
            running = Text.assemble(f"{label:<44}", (show_duration(self._clock() - self._since), "dim"))
            self._spinner = self._spinner or Spinner("dots")
            self._spinner.update(text=running)
            lines.append(Padding(self._spinner, (0, 0, 0, 2)))
            if progress.tail:
                last = Text(f"    {progress.tail[-1]}", style="dim", no_wrap=True, overflow="ellipsis")
                lines.append(last)
        total = show_duration(self._clock() - self._started)
        lines.append(Text(f"  {total} in all", style="bold"))
        return Group(*lines)

    def _at_fault(self) -> str:
        """Return the title of the step that failed or was interrupted; empty while none did."""
        progress = self._progress
        if self._interrupted or progress is None or not (progress.script_tail or self._has_failed):
            return self._interrupted
        # What Packer does after the scripts has no title of its own.
        after = progress.title if progress.part == POST_PROCESSING else PHASE_TITLES["imaging"]
        title = after if progress.part else progress.place
        shown = [title for title, _ in self._finished]
        return title if title in shown or not self._has_ended else shown[-1]
