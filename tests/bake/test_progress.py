"""What a person sees while Packer bakes."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import pytest

from gpu_ami.bake.packer_events import POST_PROCESSING, Progress
from gpu_ami.bake.progress import LiveView, PlainView, build_view
from gpu_ami.console import Console
from gpu_ami.errors import BuildError

START = Progress(scripts=("update-system", "pull-image"))
FIRST = replace(START, phase="provisioning", step=1, tail=("Complete!",))
IMAGING = replace(START, phase="imaging", ami_id="ami-12345678")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


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


def _rows(view: LiveView) -> list[str]:
    from rich.console import Console as RichConsole

    page = RichConsole(file=io.StringIO(), width=100)
    page.print(view.render())
    return [line.strip() for line in page.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def _marks(view: LiveView) -> dict[str, str]:
    return {row[2:46].strip(): row[0] for row in _rows(view) if row[0] in "✓✗"}


ENDING = replace(FIRST, phase="finishing", is_ending=True, script_tail=("no such digest",))


def test_the_last_step_gets_its_tick() -> None:
    """A spinner that stands still looks as if the build had been given up."""
    view = LiveView(Clock())
    for progress in (START, FIRST, replace(START, phase="finishing", tail=("gone",))):
        view.update(progress)
    view.end(has_failed=False)

    steps = ["checking inputs", "step 1 of 2: update-system", "ending the builder"]
    assert _marks(view) == dict.fromkeys(steps, "✓")
    assert len(_rows(view)) == len(steps) + 1


def test_a_step_that_failed_gets_no_tick() -> None:
    """Neither when the script has failed nor at the end; Packer's clean-up after it is another step."""
    view = LiveView(Clock())
    for progress in (START, FIRST, ENDING):
        view.update(progress)
    assert _marks(view) == {"checking inputs": "✓", "step 1 of 2: update-system": "✗"}
    view.end(has_failed=True)

    assert _marks(view) == {"checking inputs": "✓", "step 1 of 2: update-system": "✗", "ending the builder": "✓"}


@pytest.mark.parametrize(
    ("last", "at_fault"),
    [
        ([START], "checking inputs"),
        ([START, replace(START, phase="launching"), replace(START, phase="finishing")], "launching the builder"),
        (
            [IMAGING, replace(IMAGING, phase="finishing", part="tagging the AMI ami-12345678", is_ending=True)],
            "making the AMI",
        ),
        ([IMAGING, replace(IMAGING, phase="finishing", part=POST_PROCESSING)], "ending the builder"),
        ([START, FIRST, replace(FIRST, phase="cancelling")], "step 1 of 2: update-system"),
    ],
)
def test_what_a_failed_build_was_at_is_marked(last: list[Progress], at_fault: str) -> None:
    """Whatever it was: just one step, and the one that the error names."""
    view = LiveView(Clock())
    for progress in last:
        view.update(progress)
    view.end(has_failed=True)

    assert [title for title, mark in _marks(view).items() if mark == "✗"] == [at_fault]


@pytest.mark.parametrize("fails", [False, True])
def test_the_view_ends_as_the_build_does(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays on the terminal says how it went."""
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with contextlib.suppress(BuildError), build_view(Console(err=stream)) as view:
        view.update(START)
        if fails:
            raise BuildError

    assert ("✗" if fails else "✓") in stream.getvalue()
    assert ("✓" if fails else "✗") not in stream.getvalue()


def test_a_failed_scripts_last_words_stay_on_the_screen() -> None:
    """They are the reason; the log's path alone would send everybody searching."""
    plain = io.StringIO()
    PlainView(Console(err=plain)).failed(("no such digest",))

    assert plain.getvalue() == "          no such digest\n"


@pytest.mark.parametrize(("terminal", "kind"), [(False, PlainView), (True, LiveView)])
def test_the_terminal_decides(terminal: bool, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """CI logs get lines, people get a live view."""
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal() if terminal else io.StringIO()
    with build_view(Console(err=stream)) as view:
        assert isinstance(view, kind)
        view.failed(("[bold] no such digest",))

    assert "    [bold] no such digest" in stream.getvalue()
