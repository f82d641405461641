"""The journal of a bench: what a killed run made is in it, whatever the last line looks like."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.measure import bench_journal
from gpu_ami.measure.bench_journal import Journal, Whose

WHOSE = Whose(
    run_id="bench-20261130T120000Z-abc123",
    region="ap-northeast-2",
    account="123456789012",
    family="gpu-batch",
    began=datetime(2026, 11, 30, 12, tzinfo=timezone.utc),
    may_take_min=160,
)


def test_what_is_not_gone_is_found_again(tmp_path: Path) -> None:
    """By names that were written before AWS heard them; the tags to check come with them."""
    path = tmp_path / "logs" / f"{WHOSE.run_id}.jsonl"
    journal = Journal(path, WHOSE)
    journal.will("template", "gpu-ami-bench-abc123-plain")
    journal.will("environment", "gpu-ami-bench-abc123-1-plain")
    journal.will("queue", "gpu-ami-bench-abc123-1-plain")
    journal.gone("queue", "gpu-ami-bench-abc123-1-plain")
    journal.close()

    replay = bench_journal.read(path)

    assert replay.whose == WHOSE
    assert replay.names("environment") == ["gpu-ami-bench-abc123-1-plain"]
    assert replay.names("queue") == []
    assert replay.whose.tags["gpu-ami:began"] == "2026-11-30T12:00:00Z"
    assert not replay.is_ended
    assert [one.path for one in bench_journal.unfinished(path.parent)] == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_line_that_was_cut_off_says_nothing_and_swallows_nothing(tmp_path: Path) -> None:
    """`kill -9` may come in the middle of a line; the teardown goes on with the same file."""
    path = tmp_path / f"{WHOSE.run_id}.jsonl"
    Journal(path, WHOSE).close()
    with path.open("a") as file:
        file.write('{"event": "will", "kind": "queue", "na')

    journal = Journal(path)
    journal.will("queue", "gpu-ami-bench-abc123-1-plain")
    assert bench_journal.read(path).names("queue") == ["gpu-ami-bench-abc123-1-plain"]
    journal.end()
    journal.close()

    assert bench_journal.read(path).is_ended
    assert bench_journal.unfinished(tmp_path) == []


def test_a_name_that_no_bench_gives_is_not_taken_from_a_journal(tmp_path: Path) -> None:
    """A changed file must not be a way to delete production's queue."""
    path = tmp_path / f"{WHOSE.run_id}.jsonl"
    Journal(path, WHOSE).close()
    with path.open("a") as file:
        for event in ({"kind": "queue", "name": "gpu-batch"}, {"kind": "vpc", "name": "gpu-ami-bench-abc123"}, {}):
            file.write(json.dumps({"event": "will", **event}) + "\n[]\nnull\n")

    assert bench_journal.read(path).made == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        '{"format": "gpu-ami-bench-journal-2"}',
        (
            '{"format": "gpu-ami-bench-journal-1", "run": "build-1", "region": "r", "account": "1", "family": "f",'
            ' "began": "2026-11-30T12:00:00Z", "may_take_min": 1}'
        ),
        (
            '{"format": "gpu-ami-bench-journal-1", "run": "bench-1", "region": "r", "account": 1, "family": "f",'
            ' "began": "2026-11-30T12:00:00Z", "may_take_min": 1}'
        ),
        (
            '{"format": "gpu-ami-bench-journal-1", "run": "bench-1", "region": "r", "account": "1", "family": "f",'
            ' "began": "yesterday", "may_take_min": 1}'
        ),
        *(
            '{"format": "gpu-ami-bench-journal-1", "run": "bench-1", "region": "r", "account": "1", "family": "f",'
            f' "began": "2026-11-30T12:00:00Z", "may_take_min": {number}}}'
            for number in ("1e999", "-1e999", "NaN", "1e9", "0", "true", '"1"', "9" * 400, "null")
        ),
        "[" * 100_000,
        '{"format": 1e999}',
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    """With what to name instead; among the unfinished ones it is passed over."""
    path = tmp_path / "bench-other.jsonl"
    path.write_text(text)

    with pytest.raises(UsageError, match="is no journal of a bench"):
        bench_journal.read(path)
    assert bench_journal.unfinished(tmp_path) == []


def test_a_disk_that_refuses_stops_the_making(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in no journal must not be made; that something is gone may stay unsaid."""
    journal = Journal(tmp_path / f"{WHOSE.run_id}.jsonl", WHOSE)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device; nothing more is made"):
        journal.will("queue", "gpu-ami-bench-abc123-1-plain")
    journal.gone("queue", "gpu-ami-bench-abc123-1-plain")
    journal.close()
    with pytest.raises(UsageError, match="No space left on device"):
        Journal(tmp_path / "bench-2.jsonl", WHOSE)
    with pytest.raises(UsageError, match="cannot be written: File exists"):
        Journal(journal.path, WHOSE)
