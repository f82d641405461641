"""The journal: written before each act, readable after any crash."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from gpu_ami.aws.images import Image, Snapshot
from gpu_ami.cleanup.journal import Journal, new_path, read, unfinished
from gpu_ami.cleanup.journal_events import (
    DELETED,
    AnyEvent,
    Begin,
    Done,
    End,
    Event,
    Failed,
    ImageRecord,
    Left,
    OrphanDone,
    SnapshotDone,
    SnapshotOutcome,
    SnapshotRecord,
    Unknown,
    Will,
    WillDeleteOrphan,
    from_line,
    to_line,
)
from gpu_ami.errors import UsageError

NOW = datetime(2026, 11, 23, tzinfo=timezone.utc)
IMAGE = Image(image_id="ami-1", region="r", name="gpu", created=NOW, tags={"a": "1"}, snapshot_ids=("snap-1", "snap-2"))
SNAPSHOT = Snapshot(snapshot_id="snap-1", region="r", description="of ami-1", tags={"b": "2"})


def _full(_handle: int) -> None:
    raise OSError(28, "No space left on device")


def _journal(path: Path, *events: Event) -> Path:
    journal = Journal(path)
    journal.write(Begin(account="1"))
    for event in events:
        journal.write(event)
    journal.close()
    return path


WILL = Will(
    mode="delete",
    image=ImageRecord.of(IMAGE),
    permissions=({"UserId": "2"},),
    snapshots=(SnapshotRecord.of(SNAPSHOT),),
)
SAMPLES = Path(__file__).parent / "samples"


@pytest.mark.parametrize("name", ["cleanup-1.jsonl", "sweep-1.jsonl"])
def test_a_journal_of_an_earlier_version_is_written_alike(name: str) -> None:
    """An older version may read what this one writes, and finish or undo its run: each line is the same to the byte."""
    texts = [text for text in (SAMPLES / name).read_text().split("\n") if text]
    lines = [json.loads(text) for text in texts]
    events = [from_line(line) for line in lines]

    assert {line["event"] for line in lines} <= {event.name for event in events if event is not None}
    assert [json.dumps(to_line(e, line["at"])) for e, line in zip(events, lines, strict=True) if e] == texts


def test_the_samples_have_every_kind_of_event() -> None:
    """A kind that no sample has could change its form unseen."""
    texts = [text for path in SAMPLES.glob("*.jsonl") for text in path.read_text().split("\n") if text]

    assert {type(from_line(json.loads(text))) for text in texts} == set(get_args(AnyEvent))


def test_a_journal_of_an_earlier_version_is_read() -> None:
    """Its AMIs can be brought back, and what it left behind can be finished."""
    replay = read(SAMPLES / "cleanup-1.jsonl")

    statuses = [entry.status for entry in replay.entries.values()]
    assert statuses == ["restored", "done", "failed", "left", "intended", "done"]
    first, second, *_ = replay.entries.values()
    assert first.permissions == ({"UserId": "210987654321"},)
    assert first.image.tags == {"gpu-ami:family": "gpu", "note": "a\u2028b \u00e9"}
    assert second.image.deprecated_at == datetime(2026, 11, 23, 8, 30, tzinfo=timezone.utc)
    assert list(second.snapshot_status.values()) == [SnapshotOutcome("kept", "used by ami-00000000000000009")]
    assert [str(outcome) for _, outcome in replay.orphans.values()] == ["restored"]
    assert (replay.account, replay.is_ended, replay.is_settled) == ("123456789012", True, False)


def test_a_sweeps_journal_has_nothing_to_bring_back() -> None:
    """What a sweep removed is gone for good; its AMIs are no clean-up's."""
    replay = read(SAMPLES / "sweep-1.jsonl")

    assert (replay.entries, replay.orphans, replay.is_ended) == ({}, {}, True)


@pytest.mark.parametrize("text", ["deleted", "left", "kept: used by ami-1", "failed: ec2: Code: why: more", "odd:word"])
def test_a_snapshots_outcome_is_one_text(text: str) -> None:
    """Results and journals have it as one string, whatever the reason holds."""
    outcome = SnapshotOutcome.parse(text)

    assert str(outcome) == text
    assert outcome.is_failed is text.startswith("failed")


def test_what_is_needed_to_undo_an_act_is_read_back(tmp_path: Path) -> None:
    """Tags and permissions are gone with the AMI; the journal is where they are left."""
    (entry,) = read(_journal(tmp_path / "j", WILL)).entries.values()

    assert entry.image == IMAGE
    assert entry.permissions == ({"UserId": "2"},)
    assert entry.snapshots == (SNAPSHOT,)
    assert (entry.mode, entry.status) == ("delete", "intended")


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x1e", "\x0c"])
@pytest.mark.parametrize("is_ascii", [True, False], ids=["as now", "as once written"])
def test_a_tag_never_ends_a_line(tmp_path: Path, mark: str, *, is_ascii: bool) -> None:
    """Python takes these for line ends: the AMI's way back was lost, and every later run stopped at the file."""
    tagged = msgspec.structs.replace(IMAGE, tags={"note": f"a{mark}b"})
    path = _journal(tmp_path / "j", msgspec.structs.replace(WILL, image=ImageRecord.of(tagged)))
    if not is_ascii:
        lines = [json.dumps(json.loads(line), ensure_ascii=False) for line in path.read_text().split("\n")[:-1]]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    assert path.read_bytes().isascii() or not is_ascii
    assert read(path).entries["ami-1"].image == tagged


def test_outcomes_follow_the_intention(tmp_path: Path) -> None:
    """The last known outcome of the AMI and of each snapshot."""
    path = _journal(
        tmp_path / "j",
        WILL,
        Done(image_id="ami-1", snapshots={"snap-1": "deleted", "snap-2": "left"}),
        SnapshotDone(image_id="ami-1", snapshot_id="snap-2", status="kept: used by ami-9"),
        WillDeleteOrphan(snapshot=SnapshotRecord.of(SNAPSHOT)),
        OrphanDone(snapshot_id="snap-1", status="deleted"),
        End(),
    )

    replay = read(path)

    assert replay.entries["ami-1"].status == "done"
    kept = SnapshotOutcome("kept", "used by ami-9")
    assert replay.entries["ami-1"].snapshot_status == {"snap-1": DELETED, "snap-2": kept}
    assert replay.orphans == {"snap-1": (SNAPSHOT, DELETED)}
    assert (replay.is_ended, replay.account) == (True, "1")


def test_a_kind_of_event_that_is_not_known_says_nothing(tmp_path: Path) -> None:
    """A later version may add one; what it does not change stays readable."""
    path = _journal(tmp_path / "j", WILL)
    with path.open("a") as file:
        file.write('{"event": "something-new", "image_id": "ami-9"}\n')

    assert list(read(path).entries) == ["ami-1"]


@pytest.mark.parametrize("line", ["{}", '{"event": "done"}', '{"event": "done", "image_id": "ami-9"}'])
def test_a_line_that_lacks_what_it_needs_is_damage(tmp_path: Path, line: str) -> None:
    """To pass over it would mean to bring back or to finish less than was done."""
    path = _journal(tmp_path / "j", WILL)
    with path.open("a") as file:
        file.write(f"{line}\n")

    with pytest.raises(UsageError, match="damaged: line 3"):
        read(path)


def test_a_line_that_was_cut_off_says_nothing(tmp_path: Path) -> None:
    """Kill -9 in the middle of a write; the next run's lines must still be read."""
    path = _journal(tmp_path / "j", WILL)
    with path.open("a") as file:
        file.write('{"event": "done", "image_id": "am')

    assert read(path).entries["ami-1"].status == "intended"
    again = Journal(path, is_new=False)
    again.write(Done(image_id="ami-1"))
    again.close()
    assert read(path).entries["ami-1"].status == "done"


def test_every_line_is_on_the_disk_when_the_call_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An act whose intention was still in a buffer could not be finished after a crash."""
    synced: list[str] = []
    path = tmp_path / "j"
    monkeypatch.setattr("os.fsync", lambda _handle: synced.append(path.read_text()))

    _journal(path, WILL)

    assert [text.count("\n") for text in synced] == [1, 2]


def test_a_journal_is_for_its_owner_only(tmp_path: Path) -> None:
    """It names accounts, tags and who AMIs are shared with."""
    assert _journal(tmp_path / "logs" / "j").stat().st_mode & 0o077 == 0


def test_an_existing_file_is_never_written_over(tmp_path: Path) -> None:
    """It would be another run's way back."""
    _journal(tmp_path / "j")

    with pytest.raises(UsageError, match="nothing was changed"):
        Journal(tmp_path / "j")


def test_a_full_disk_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No act without its line."""
    journal = Journal(tmp_path / "j")
    monkeypatch.setattr("os.fsync", _full)

    with pytest.raises(UsageError, match="No space left"):
        journal.write(WILL)
    journal.close()


def test_a_journal_on_a_full_disk_is_closed_without_a_word(tmp_path: Path) -> None:
    """The line that was refused is still in the file's buffer, and is refused once more at the end."""
    journal = Journal(tmp_path / "j")
    with Path("/dev/full").open("w") as full:
        os.dup2(full.fileno(), journal._file.fileno())

    assert "No space left on device; nothing more is changed." in str(journal.note(WILL))
    assert journal.refused is not None
    journal.close()


def test_lines_of_many_threads_wait_for_the_disk_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred waits of milliseconds, one after another, would be longer than all calls to AWS."""
    begun, go_on = threading.Event(), threading.Event()
    waits = []

    def slow(handle: int) -> None:
        waits.append(os.fstat(handle).st_size)
        begun.set()
        assert go_on.wait(60)

    journal = Journal(tmp_path / "j.jsonl")
    monkeypatch.setattr("os.fsync", slow)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(journal.write, End(by="one"))
        assert begun.wait(60)
        more = [pool.submit(journal.write, End(failed=number)) for number in range(8)]
        while journal._added < 9:
            pass
        go_on.set()
        for written in (first, *more):
            written.result()
    journal.close()

    assert len(waits) == 2
    assert waits[-1] == (tmp_path / "j.jsonl").stat().st_size


def test_a_disk_that_refused_once_is_never_trusted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may have dropped what it could not write, and would say of the next line that all is well."""
    journal = Journal(tmp_path / "j.jsonl")
    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", _full)
        with pytest.raises(UsageError, match="No space left"):
            journal.write(End(by="one"))

    with pytest.raises(UsageError, match="No space left"):
        journal.write(End(by="two"))
    journal.close()


@pytest.mark.parametrize("found", [2, "1", None])
def test_a_journal_of_another_format_is_refused(tmp_path: Path, found: object) -> None:
    """Another version's events may mean something else: what it deleted is not brought back by a guess."""
    (tmp_path / "x").write_text(json.dumps({"event": "begin", "format": found, "account": "1"}) + "\n")

    with pytest.raises(UsageError, match=f"is a clean-up journal of format {found!r}, this version reads 1"):
        read(tmp_path / "x")


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"event": "begin", "account": "1"}', "[1]\n"])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    """Restoring from a wrong file must say so, not restore nothing."""
    (tmp_path / "x").write_text(text)

    with pytest.raises(UsageError, match="not a journal"):
        read(tmp_path / "x")


def test_a_damaged_journal_says_where(tmp_path: Path) -> None:
    """What happened to an AMI that no readable line names cannot be told: neither undone nor finished."""
    _journal(tmp_path / "x", WILL, Done(image_id="ami-1"), End())
    lines = (tmp_path / "x").read_text().splitlines(keepends=True)
    (tmp_path / "x").write_text("".join([lines[0], lines[1][:40] + "\n", *lines[2:]]))

    with pytest.raises(UsageError, match="damaged: line 3"):
        read(tmp_path / "x")


def test_unfinished_runs_are_found(tmp_path: Path) -> None:
    """Only this account's, only those without an end or a lost answer; one without a whole line did nothing."""
    _journal(tmp_path / "cleanup-1.jsonl", WILL)
    for number, outcome in enumerate((Done, Failed, Left, Unknown), 10):
        _journal(tmp_path / f"cleanup-{number}.jsonl", WILL, outcome(image_id="ami-1"), End())
    (tmp_path / "cleanup-3.jsonl").write_text('{"event": "beg')
    (tmp_path / "cleanup-4.jsonl").write_text(json.dumps({"event": "begin", "format": 1, "account": "2"}) + "\n")
    (tmp_path / "other.jsonl").write_text("x\n")

    assert [replay.path.name for replay in unfinished(tmp_path, "1")] == ["cleanup-1.jsonl", "cleanup-13.jsonl"]


@pytest.mark.parametrize("kind", ["folder", "link to nothing"])
def test_what_only_has_a_journals_name_is_said(tmp_path: Path, kind: str) -> None:
    """It stops every run, so the run must say which file it is instead of showing a traceback."""
    path = tmp_path / "cleanup-1.jsonl"
    path.mkdir() if kind == "folder" else path.symlink_to(tmp_path / "none")

    with pytest.raises(UsageError, match=r"cleanup-1\.jsonl .* Move it away"):
        unfinished(tmp_path, "1")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("nonsense\n", "is not a journal of `invoke cleanup`"),
        (
            '{"event": "begin", "format": 1, "account": "1"}\n{"event": "done", "image_id": "ami-1"}\n',
            "damaged: line 2",
        ),
        ('{"event": "begin", "format": 9, "account": "1"}\n', "of format 9, this version reads 1"),
        ("\udcff\n", "is not UTF-8"),
    ],
)
def test_a_broken_journal_among_the_logs_is_to_be_moved_away(tmp_path: Path, text: str, wrong: str) -> None:
    """Nobody named it: to name another one, as a restore advises, helps nobody."""
    path = tmp_path / "cleanup-1.jsonl"
    path.write_bytes(text.encode(errors="surrogateescape"))

    with pytest.raises(UsageError, match=wrong) as caught:
        unfinished(tmp_path, "1")

    assert str(caught.value).startswith(("The clean-up journal ", str(path)))
    assert str(path) in str(caught.value)
    assert "name one of" not in str(caught.value)
    assert ". Move it away; should that run have left snapshots, `invoke cleanup --orphans` finds" in str(caught.value)


def test_journals_are_named_by_time_and_never_twice(tmp_path: Path) -> None:
    """Two runs in one second must not share a journal."""
    names = {new_path(tmp_path, NOW).name for _ in range(5)}

    assert len(names) == 5
    assert all(name.startswith("cleanup-20261123T000000Z-") for name in names)
    assert new_path(tmp_path, NOW, task="sweep").name.startswith("sweep-")
