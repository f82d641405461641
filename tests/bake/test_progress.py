"""What a person sees while Packer bakes."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from gpu_ami.bake.packer_events import Progress
from gpu_ami.bake.progress import LiveView, PlainView, build_view
from gpu_ami.console import Console

START = Progress(scripts=("update-system", "pull-image"))
FIRST = replace(START, phase="provisioning", step=1, tail=("Complete!",))
IMAGING = replace(START, phase="imaging", ami_id="ami-12345678")


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time set."""
        return self.now


def test_plain_lines_are_said_once_per_step_and_per_ten_percent() -> None:
    """A half-hour build fills a screen of log, not a thousand lines."""
    err, clock = io.StringIO(), Clock()
    view = PlainView(Console(err=err), clock)
    view.update(START)
    clock.now = 65
    view.update(FIRST)
    view.update(replace(FIRST, tail=("more",)))
    for percent in (0, 3, 9, 10, 12, 47, 100):
        view.snapshot(percent)

    assert [line.split(maxsplit=3)[-1].strip() for line in err.getvalue().splitlines()][
        1
    ] == "s  step 1 of 2: update-system"
    assert [line.strip().split("  ")[-1] for line in err.getvalue().splitlines()] == [
        "checking inputs",
        "step 1 of 2: update-system",
        "snapshot 0 %",
        "snapshot 10 %",
        "snapshot 47 %",
        "snapshot 100 %",
    ]


def test_the_live_view_shows_done_running_and_said() -> None:
    """Finished steps keep their times; the running one shows what it said last."""
    from rich.console import Console as RichConsole

    clock = Clock()
    view = LiveView(clock)
    empty = view.render()
    view.update(START)
    clock.now = 12
    view.update(FIRST)
    clock.now = 200
    page = RichConsole(file=io.StringIO(), width=100)
    page.print(empty, view.render())
    view.update(IMAGING)
    view.snapshot(37)
    page.print(view.render())

    shown = page.file.getvalue()  # type: ignore[attr-defined]
    assert "✓ checking inputs" in shown
    assert "step 1 of 2: update-system" in shown
    assert "Complete!" in shown
    assert "making the AMI, snapshot 37 %" in shown
    assert "3 m 20 s in all" in shown


def test_a_failed_scripts_last_words_stay_on_the_screen() -> None:
    """They are the reason; the log's path alone would send everybody searching."""
    plain = io.StringIO()
    PlainView(Console(err=plain)).failed(("no such digest",))

    assert plain.getvalue() == "          no such digest\n"


@pytest.mark.parametrize(("terminal", "kind"), [(False, PlainView), (True, LiveView)])
def test_the_terminal_decides(terminal: bool, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """CI logs get lines, people get a live view."""

    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    monkeypatch.setenv("TERM", "xterm")
    stream = Stream()
    with build_view(Console(err=stream)) as view:
        assert isinstance(view, kind)
        view.failed(("[bold] no such digest",))

    assert "    [bold] no such digest" in stream.getvalue()
