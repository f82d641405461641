"""Builds of several families: which are built, and those side by side; the processes are played."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gpu_ami import process
from gpu_ami.bake import build, side_by_side
from gpu_ami.console import Console
from gpu_ami.errors import InterruptedRunError, PipelineError, UsageError
from gpu_ami.invocation import Invocation
from gpu_ami.process import Logged
from tests.support.clock import Clock
from tests.test_families import TWO, invocation, said

AMI = "ami-0123456789abcdef0"


class Played:
    """The builds' processes, played: what each says, prints and ends with; None where it is not begun."""

    def __init__(self, *ends: tuple[str, str, int | None]) -> None:
        """End them so, in turn."""
        self.ends, self.programs, self.at_once = ends, [], 0  # type: ignore[var-annotated]

    def __call__(
        self,
        programs: Sequence[Logged],
        at_once: int,
        on_line: Callable[[int, str], None],
        *,
        on_interrupt: Callable[[], None],
        on_end: Callable[[int, int], None],
    ) -> Played:
        """Play them."""
        self.programs, self.at_once = list(programs), at_once
        for number, (program, (line, printed, status)) in enumerate(zip(programs, self.ends, strict=True)):
            if status is None:
                on_interrupt()
                continue
            program.log.parent.mkdir(exist_ok=True)
            program.log.write_text(f"a step\n{line}\n")
            program.out.write_text(printed)
            on_line(number, line)
            on_end(number, status)
        return self

    @property
    def is_interrupted(self) -> bool:
        """Whether one was."""
        return any(status in (130, None) for _, _, status in self.ends)

    def run(self) -> list[int | None]:
        """Return how they ended."""
        return [status for _, _, status in self.ends]


def _never(run: Invocation, _request: build.Request) -> None:
    pytest.fail(f"{run.family} is built in this process")


def _beside(
    run: Invocation, monkeypatch: pytest.MonkeyPatch, *ends: tuple[str, str, int | None], **more: Any
) -> Played:
    played = Played(*ends)
    monkeypatch.setattr(process, "SideBySide", played)
    try:
        side_by_side.run(run, side_by_side.Request(jobs="2", **more), _never)
    finally:
        run.close()
    return played


def test_each_build_is_the_command_that_a_person_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the flags of the whole line, its own log, and nothing of GPU_AMI_FAMILY, which is one."""
    monkeypatch.setenv("GPU_AMI_FAMILY", "video")
    ends = [("done", json.dumps({"ami_id": f"ami-{number:017x}"}), 0) for number in range(2)]

    run = invocation(tmp_path, all_families=True, region="us-east-1", profile="team")
    played = _beside(run, monkeypatch, *ends, variables=("a=b",), if_stale=True, max_usd="1")

    first = played.programs[0].command
    assert first.argv == (
        *(sys.executable, "-m", "invoke", "build", "--family", "video", "--packer-var", "a=b", "--max-usd", "1"),
        *("--if-stale", "--region", "us-east-1", "--profile", "team", "--output", "json"),
    )
    assert (first.cwd, "GPU_AMI_FAMILY" in (first.env or {}), played.at_once) == (tmp_path, False, 2)
    assert [program.log.name.rpartition("-")[2] for program in played.programs] == ["video.log", "training.log"]
    assert isinstance(run.console.out, io.StringIO)
    documents = [json.loads(line) for line in run.console.out.getvalue().splitlines()]
    assert documents == [
        {"family": "video", "ami_id": "ami-00000000000000000"},
        {"family": "training", "ami_id": "ami-00000000000000001"},
    ]
    assert "video     done" in said(run)


def test_a_build_that_fails_is_named_with_its_reason_and_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is built, and its result printed as it is."""
    ends = ("error: Packer refused.", "", 5), ("done", "  built\n  AMI  ami-1\n", 0)

    run = invocation(tmp_path, all_families=True, output="table")
    with pytest.raises(PipelineError, match=r"1 of 2 families did not end well: video \(exit code 5\)") as failed:
        _beside(run, monkeypatch, *ends)

    assert failed.value.exit_code == 7
    log = next((tmp_path / "logs").glob("build-*-video.log")).relative_to(tmp_path)
    assert f"error: video: Packer refused. Its log is {log}." in said(run)
    assert isinstance(run.console.out, io.StringIO)
    assert run.console.out.getvalue() == "Family training\n  built\n  AMI  ami-1\n"


@pytest.mark.parametrize(
    ("printed", "query", "problem"),
    [('{"ami_id": "ami-', None, "What the build of video printed is cut off"), ('{"a": "x"}', "abs(a)", "--query")],
)
def test_a_report_that_cannot_be_shown_hides_no_other_and_no_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, query: str | None, problem: str
) -> None:
    """A build that the kernel killed has half a document; the other's AMI costs, and must be named."""
    run = invocation(tmp_path, all_families=True, query=query)
    run.console = Console("json", query, out=io.StringIO(), err=io.StringIO())

    with pytest.raises(PipelineError, match=r"^1 of 2 families .*: video \(exit code 137\)") as failed:
        _beside(run, monkeypatch, ("a step", printed, -9), ("done", '{"a": -1}', 0))

    assert (failed.value.exit_code, problem in str(failed.value)) == (7, True)
    assert "failed with exit code 137" in said(run)
    assert isinstance(run.console.out, io.StringIO)
    assert json.loads(run.console.out.getvalue()) == (1 if query else {"family": "training", "a": -1})


def test_an_interrupt_is_told_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which have ended, and which were not begun; the exit code is that of an interrupt."""
    ends = ("error: The build was interrupted; what it had started is ended.", "", 130), ("", "", None)

    with pytest.raises(InterruptedRunError) as interrupted:
        _beside(invocation(tmp_path, all_families=True), monkeypatch, *ends)

    assert str(interrupted.value) == "The builds were interrupted: video (exit code 130), training (not begun)."


@pytest.mark.parametrize(
    ("request_", "named", "expected"),
    [
        (side_by_side.Request(), ("training",), ["training"]),
        (side_by_side.Request(jobs="1"), ("training", "video"), ["video", "training"]),
        (side_by_side.Request(jobs="5", debug=True), ("video",), None),
        (side_by_side.Request(jobs="5"), ("video",), ["video"]),
    ],
)
def test_one_build_at_a_time_is_done_here(
    tmp_path: Path, request_: side_by_side.Request, named: tuple[str, ...], expected: list[str] | None
) -> None:
    """With the live view, and somebody who can be asked."""
    seen: list[str | None] = []

    side_by_side.run(invocation(tmp_path, TWO, *named), request_, lambda run, _request: seen.append(run.family))

    assert seen == (expected or list(named))


@pytest.mark.parametrize(
    ("request_", "options", "problem"),
    [
        (side_by_side.Request(), {}, "say which to build"),
        (side_by_side.Request(jobs="65"), {"all_families": True}, "--jobs '65' is not a whole number from 1 to 64"),
        (side_by_side.Request(jobs="-1"), {"all_families": True}, "--jobs '-1' is not a whole number"),
        (side_by_side.Request(jobs="1e9"), {"all_families": True}, "--jobs '1e9' is not a whole number"),
        (side_by_side.Request(jobs="9" * 5000), {"all_families": True}, "--jobs '999.* is not a whole number"),
        (side_by_side.Request(jobs=""), {"all_families": True}, "--jobs '' is not a whole number"),
        (side_by_side.Request(jobs="2", debug=True), {"all_families": True}, "--debug asks at each step"),
        (
            side_by_side.Request(variables=("a=b", "manifest_path=x")),
            {"all_families": True},
            "--packer-var manifest_path is for one family at a time",
        ),
    ],
)
def test_what_several_builds_cannot_share_is_refused(
    tmp_path: Path, request_: side_by_side.Request, options: dict[str, Any], problem: str
) -> None:
    """Before the first of them costs anything."""
    with pytest.raises(UsageError, match=problem):
        side_by_side.run(invocation(tmp_path, **options), request_, _never)


def test_a_terminal_has_a_row_for_each_build() -> None:
    """How it is, how long it takes and what it said last; an escape code of a program's is no colour of ours."""
    from rich.console import Console as RichConsole

    clock = Clock()
    rows = side_by_side.Rows(["video", "training"], clock)

    def shown() -> list[str]:
        out = io.StringIO()
        RichConsole(file=out, width=80).print(rows.render())
        return [" ".join(line.split()) for line in out.getvalue().splitlines()]

    rows.said(0, "  12 s  provisioning \x1b[2J")
    clock.now += 65
    assert shown() == ["· video 1 m 05 s 12 s provisioning \\x1b[2J", "· training 0.0 s waits"]
    rows.said(1, "error: no")
    rows.said(1, "")
    rows.ended(1, 5)
    rows.ended(0, 0)
    clock.now += 60
    rows.interrupted()
    assert shown() == [
        "✓ video 1 m 05 s 12 s provisioning \\x1b[2J",
        "✗ training 0.0 s error: no",
        "interrupted: what is under way ends what it started",
    ]


@pytest.mark.parametrize(
    ("log", "expected"),
    [("a\nerror: b\nc\n", "b"), ("a\nTraceback\nKeyError: x\n", "KeyError: x"), ("", "it said nothing.")],
)
def test_why_a_build_failed_is_its_own_last_error(log: str, expected: str) -> None:
    """What comes behind it is talk; a build that was killed has none."""
    assert side_by_side.last_error(log) == expected
