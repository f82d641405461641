"""The probe: its real source, run here, says what the bench reads."""

from __future__ import annotations

import builtins
import contextlib
import io
import json
import os
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.measure import probe

METADATA = "http://169.254.170.2/v4/abc"
ANSWERS = {
    "http://169.254.169.254/latest/api/token": "t",
    "http://169.254.169.254/latest/meta-data/instance-id": "i-0abc",
    f"{METADATA}/task": json.dumps(
        {
            "PullStartedAt": "2026-11-30T12:00:00.5Z",
            "PullStoppedAt": "2026-11-30T12:05:00.25Z",
            "Containers": [{"CreatedAt": "2026-11-30T12:05:01Z", "StartedAt": "2026-11-30T12:05:02Z"}],
        }
    ),
}


class Way:
    """What answers the probe's requests."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers

    def open(self, request: urllib.request.Request, timeout: float) -> io.BytesIO:
        """Answer, or fail as a closed port does."""
        assert timeout <= 2
        if request.full_url not in self.answers:
            raise OSError(111, "refused")
        if request.full_url.endswith("instance-id"):
            assert request.get_header("X-aws-ec2-metadata-token") == "t"
        return io.BytesIO(self.answers[request.full_url].encode())


def run_probe(
    monkeypatch: pytest.MonkeyPatch, imports: list[str], models: list[str], answers: dict[str, str]
) -> tuple[list[str], int]:
    """Run the probe's source as its interpreter would; return its lines and its exit code."""
    command = probe.command("python3", imports, models)
    assert command[:2] == ["python3", "-c"]
    monkeypatch.setattr(sys, "argv", ["-c", command[3]])
    monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", METADATA)
    monkeypatch.setattr(urllib.request, "build_opener", lambda *_: Way(answers))
    out, code = io.StringIO(), 0
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(command[2], "probe", "exec"), {})
        except SystemExit as exc:
            code = int(str(exc.code))
    return out.getvalue().splitlines(), code


def test_it_says_what_the_bench_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Marks, host, boot, the agent's pull times, and how much was read: the whole way from source to figures."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "weights.bin").write_bytes(b"x" * 1000)
    (tmp_path / "one.bin").write_bytes(b"x" * 24)
    models = [str(tmp_path / "a"), str(tmp_path / "one.bin"), str(tmp_path / "not there")]

    lines, code = run_probe(monkeypatch, ["json", "xml.dom"], models, ANSWERS)
    found = probe.parse(["a module prints", *lines, "{}", '{"gpu_ami_bench": 1}', "[1]"])

    assert code == 0
    assert [json.loads(line)["mark"] for line in lines] == ["first_line", "imports_done", "models_done"]
    assert json.loads(lines[0])["probe_s"] == 0
    assert found.is_whole
    assert (found.instance_id, found.models_bytes, found.failed) == ("i-0abc", 1024, "")
    assert found.boot_id
    assert found.knows_task
    assert found.pull_times == ("2026-11-30T12:00:00.5Z", "2026-11-30T12:05:00.25Z")
    assert found.at["first_line"] <= found.at["imports_done"] <= found.at["models_done"]
    assert found.kernel_up is not None
    assert found.kernel_up < found.at["first_line"]
    assert len(probe.SOURCE) < 4096


def test_importing_the_library_is_the_jobs_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a volume that is filled block by block its first touch takes seconds, which any job waits for, too."""
    now = iter([100.0, 130.0, 131.0, *[140.0] * 9])
    monkeypatch.setattr(time, "time", lambda: next(now))
    lines, _ = run_probe(monkeypatch, [], [], ANSWERS)

    found = probe.parse(lines)

    assert found.at["first_line"] == 100.0
    assert found.at["imports_done"] == 139.0


def test_models_are_read_as_they_are_stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache of models links to each file; a link to nowhere, a pipe or a closed folder must not end the host."""
    blobs, shown, outside = tmp_path / "m" / "blobs", tmp_path / "m" / "shown", tmp_path / "outside"
    for folder in (blobs, shown, outside, tmp_path / "m" / "closed"):
        folder.mkdir(parents=True)
    (blobs / "a").write_bytes(b"x" * 1000)
    (outside / "b").write_bytes(b"x" * 50)
    (shown / "weights").symlink_to("../blobs/a")
    (shown / "again").hardlink_to(blobs / "a")
    (shown / "loop").symlink_to(tmp_path / "m")
    (shown / "other").symlink_to(outside)
    (shown / "nowhere").symlink_to("nothing")
    os.mkfifo(shown / "pipe")
    listed, opened = os.scandir, builtins.open

    def scandir(path: str) -> Any:
        if path.endswith("closed"):
            raise PermissionError(13, "denied", path)
        return listed(path)

    def opening(name: Any, *more: Any, **rest: Any) -> Any:
        if str(name).endswith("unreadable"):
            raise PermissionError(13, "denied", name)
        return opened(name, *more, **rest)

    (shown / "unreadable").write_bytes(b"x")
    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(builtins, "open", opening)

    lines, code = run_probe(monkeypatch, [], [str(tmp_path / "m"), str(blobs)], ANSWERS)
    found = probe.parse(lines)

    assert code == 0
    assert (found.models_bytes, found.models_skipped) == (1000, 3)


def test_a_module_that_is_not_there_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip in `bench.imports` must not look like a slow host; without metadata it still measures."""
    lines, code = run_probe(monkeypatch, ["no_such_module"], [], {})
    found = probe.parse(lines)

    assert code == 1
    assert found.failed == "ModuleNotFoundError: No module named 'no_such_module'"
    assert found.is_whole
    assert (found.instance_id, found.knows_task) == ("", False)
    assert list(found.at) == ["first_line"]


def test_its_own_seconds_are_taken_off() -> None:
    """What it asked the metadata for is no part of the imports."""

    def line(mark: str, t: Any, own: float = 0.0) -> str:
        return json.dumps({"gpu_ami_bench": 1, "mark": mark, "t": t, "up": 30.0, "probe_s": own})

    found = probe.parse([line("first_line", 1000.0), line("imports_done", 1012.5, 2.5), line("models_done", "soon")])

    assert found.at == {"first_line": 1000.0, "imports_done": 1010.0}
    assert found.kernel_up == 970.0
    assert not found.is_whole


@pytest.mark.parametrize("line", ["", "{", "null", '{"gpu_ami_bench": 2, "mark": "first_line", "t": 1}', "[" * 100_000])
def test_lines_that_are_not_the_probes_say_nothing(line: str) -> None:
    """Whatever the image prints."""
    assert probe.parse([line]) == probe.Probed()


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e400", "NaN", "-1e300", "true", '"5"'])
def test_a_number_that_there_cannot_be_is_none(number: str) -> None:
    """What is in a log is whatever the image prints: a moment that makes no sense is missing, and nothing breaks."""
    lines = [
        f'{{"gpu_ami_bench": 1, "mark": "first_line", "t": {number}, "up": 1, "probe_s": 0}}',
        f'{{"gpu_ami_bench": 1, "mark": "models_done", "t": 5, "up": 1, "probe_s": 0, "models_bytes": {number}}}',
    ]

    found = probe.parse(lines)

    assert ("first_line" in found.at, found.models_bytes) == (False, None)
