"""Words for a terminal that is gone, results for a disk that is full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from invoke.exceptions import Exit

from gpu_ami.cli import friendly
from gpu_ami.console import Console

RESULT = """
import sys
from gpu_ami.cli import friendly
from gpu_ami.console import Console
from invoke.exceptions import Exit
try:
    with friendly():
        Console("json").result({"deleted": 3})
except Exit as end:
    sys.exit(end.code)
"""
TALK = """
from gpu_ami.console import Console
console = Console("json")
console.say("begins")
with console.step("works"):
    console.warn("goes on")
console.result({"is": "done"})
"""


def _run(code: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], text=True, check=False, **streams)


def test_talk_that_nobody_hears_stops_nothing() -> None:
    """`invoke build 2>&1 | head` closes it; before this the word that could not be said ended the build."""
    with subprocess.Popen(
        [sys.executable, "-c", TALK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        child.stderr.close()
        said = child.stdout.read() if child.stdout else ""

    assert (child.returncode, said) == (0, '{"is": "done"}\n')


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_result_that_does_not_fit_is_one_line() -> None:
    """`invoke cleanup --yes > file` on a full disk: what was done is done, and nothing fails a second time at exit."""
    with Path("/dev/full").open("w") as full:
        child = subprocess.run(
            [sys.executable, "-c", RESULT], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert child.returncode == 2
    assert child.stderr == ("error: The result cannot be written to standard output: No space left on device.\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_talk_that_does_not_fit_is_lost() -> None:
    """`invoke build 2> log` on a full disk goes on."""
    with Path("/dev/full").open("w") as full:
        child = subprocess.run(
            [sys.executable, "-c", TALK], stdout=subprocess.PIPE, stderr=full, text=True, check=False
        )

    assert (child.returncode, child.stdout) == (0, '{"is": "done"}\n')


def test_a_result_for_a_terminal_that_was_closed_is_a_reader_that_has_gone() -> None:
    """With `nohup` and a terminal nobody reads the result; the work is done all the same."""
    ours, theirs = os.openpty()
    child = subprocess.Popen([sys.executable, "-c", "input()\n" + RESULT], stdin=subprocess.PIPE, stdout=theirs)
    os.close(theirs)
    os.close(ours)

    child.communicate(b"\n", timeout=300)

    assert child.returncode == 0


def test_a_question_at_a_terminal_that_was_closed_has_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer that applies nothing."""

    class Closed:
        def readline(self) -> str:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("sys.stdin", Closed())

    assert Console("json").ask("Apply this plan?") == ""


@pytest.mark.parametrize(
    ("raised", "line", "status"),
    [
        (OSError(28, "No space left on device"), "No space left on device: free some space, then run it again.", 2),
        (
            OSError(30, "Read-only file system", "logs/x"),
            "logs/x: Read-only file system: make it a place that you can write to, then run it again.",
            2,
        ),
        (
            IsADirectoryError(21, "Is a directory", "a.tf"),
            "a.tf: Is a directory: look what is there, then run it again.",
            2,
        ),
        (ConnectionResetError(104, "Reset"), "Reset (ConnectionResetError): GPU_AMI_TRACEBACK=1 shows where.", 1),
    ],
)
def test_what_the_system_refuses_is_one_line_wherever_it_turns_up(
    raised: OSError, line: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not a traceback, which says everything but what to do."""
    with pytest.raises(Exit) as left, friendly():
        raise raised

    assert left.value.code == status
    assert capsys.readouterr().err == f"error: {line}\n"
