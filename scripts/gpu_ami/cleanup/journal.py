"""The journal of a clean-up: every act is written down before it is done, and what came of it after."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from msgspec import UNSET

from gpu_ami.aws.images import Image, Snapshot
from gpu_ami.cleanup.journal_events import (
    FORMAT,
    AnyEvent,
    Begin,
    Done,
    End,
    Event,
    Failed,
    Left,
    OrphanDone,
    Restored,
    Restoring,
    SnapshotDone,
    SnapshotOutcome,
    Unknown,
    Will,
    WillDeleteOrphan,
    from_line,
    to_line,
)
from gpu_ami.errors import PartialError, UsageError
from gpu_ami.files import read_text

_WHAT = "clean-up journal"
_LIMIT_BYTES = 512 * 1024 * 1024


class _BrokenError(UsageError):
    """A file that is no journal, or not a whole one: *what* is wrong with it, and what whoever named it is to do."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"{what}{advice}")
        self.what = what


@dataclass
class Entry:
    """What a journal says about one AMI.

    Attributes:
        image: The AMI as it was.
        mode: What was to be done: delete, disable or deprecate.
        permissions: Who could launch it.
        snapshots: Its snapshots as they were.
        status: ``intended`` until the outcome is known, then ``done``, ``failed`` or ``unknown``. ``restoring`` from
            the moment that a restore begins, ``restored`` later; ``left`` when a later run found an AMI of unknown
            fate still there.
        snapshot_status: The last known outcome of each snapshot, by its id.
        stays_private: Whether a restore has brought it back but for the world's permission to launch it.
    """

    image: Image
    mode: str
    permissions: tuple[dict[str, str], ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    status: str = "intended"
    snapshot_status: dict[str, SnapshotOutcome] = field(default_factory=dict)
    stays_private: bool = False

    @property
    def is_open(self) -> bool:
        """Whether nobody knows yet what became of the AMI."""
        return self.status in ("intended", "unknown")

    @property
    def is_to_restore(self) -> bool:
        """Whether a restore has something to bring back, as far as the journal knows."""
        return self.status not in ("failed", "left", "restored")

    @property
    def would_be_public(self) -> bool:
        """Whether a restore, with consent, would let everybody launch the AMI; a deprecated one never lost that."""
        is_due = (self.is_to_restore and self.mode != "deprecate") or self.stays_private
        return is_due and any("Group" in who for who in self.permissions)


@dataclass
class Replay:
    """What a journal's events add up to.

    Attributes:
        path: The file.
        account: Whose AMIs.
        entries: By AMI id.
        orphans: Snapshots deleted without an AMI, and the last known outcome of each, by id.
        is_ended: Whether the run came to its end.
    """

    path: Path
    account: str
    entries: dict[str, Entry] = field(default_factory=dict)
    orphans: dict[str, tuple[Snapshot, SnapshotOutcome]] = field(default_factory=dict)
    is_ended: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to find out or to finish."""
        return self.is_ended and not any(entry.is_open for entry in self.entries.values())


class JournalError(UsageError):
    """The disk refused a line: nothing more may be changed."""


class Journal:
    """Writes a journal; each line is on the disk before the call returns.

    One wait for the disk does for all lines that other threads have added meanwhile.

    Args:
        path: The file; made with its folder, readable by its owner only.
        is_new: Whether it must not be there yet.
    """

    def __init__(self, path: Path, *, is_new: bool = True) -> None:
        """Open the file.

        Raises:
            UsageError: The file cannot be made.
        """
        self.path = path
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._added = self._safe = 0
        self._refused: OSError | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | (os.O_CREAT | os.O_EXCL if is_new else 0)
            self._file = os.fdopen(os.open(path, flags, 0o600), "a", encoding="utf-8")
            if not is_new:
                # A line that a killed run left half-written must not swallow the next one.
                self._file.write("\n")
        except OSError as exc:
            msg = f"The {_WHAT} {path} cannot be written: {exc.strerror}; nothing was changed."
            raise UsageError(msg) from exc

    @property
    def refused(self) -> str | None:
        """Why nothing more may be changed: the disk has refused a line; None while it has not."""
        return None if self._refused is None else str(self._error(self._refused))

    def note(self, event: Event) -> str | None:
        """Add the line of *event*, as `write`; return why it could not be, for what has been done already."""
        try:
            self.write(event)
        except JournalError as exc:
            return str(exc)
        return None

    def write(self, event: Event) -> None:
        """Add the line of *event* and wait until the disk has it.

        Raises:
            JournalError: The disk refused.
        """
        if self._refused is not None:
            # Not even into the file's buffer: the end would write it out, and say that the run had come to its end.
            raise self._error(self._refused)
        at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        # ASCII only: nothing that a tag may hold could end a line for anything that reads this.
        line = json.dumps(to_line(event, at))
        try:
            with self._lock:
                self._file.write(f"{line}\n")
                self._added += 1
                number = self._added
            self._wait_for(number)
        except OSError as exc:
            self._refused = exc
            raise self._error(exc) from exc

    def _wait_for(self, number: int) -> None:
        """Wait until the disk has line *number*."""
        with self._turn:
            if self._refused is not None:
                # The system may have dropped what it could not write; it would say that the next attempt went well.
                raise self._refused
            if self._safe >= number:
                return
            try:
                with self._lock:
                    self._file.flush()
                    added = self._added
                os.fsync(self._file.fileno())
            except OSError as exc:
                self._refused = exc
                raise
            self._safe = added

    def _error(self, cause: OSError) -> JournalError:
        return JournalError(f"The {_WHAT} {self.path} cannot be written: {cause.strerror}; nothing more is changed.")

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        except OSError as exc:
            # What waits in the file's buffer is written at the end, and refused once more.
            if self._refused is None:
                raise self._error(exc) from exc

    def __enter__(self) -> Journal:
        """Return the journal itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the file, however the block ended."""
        self.close()


def cut_short(refused: str, done: int, total: int) -> PartialError:
    """Return the error of a run whose journal could not be written any more when *done* of *total* were done."""
    msg = f"{refused} Done before that: {done} of {total}. Free some space, then run it again: it goes on from there."
    return PartialError(msg)


def new_path(logs: Path, now: datetime, *, task: str = "cleanup") -> Path:
    """Return the path of a new journal of *task* in *logs*."""
    return logs / f"{task}-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}.jsonl"


def read(path: Path) -> Replay:
    """Return what the journal *path* says; a last line that was cut off by a crash says nothing.

    Raises:
        UsageError: The file is not a journal, or one of another version's format.
    """
    # Not `splitlines`: for that, a line separator inside a tag ends a line too.
    lines = _text(path).split("\n")
    number = 1
    try:
        replay = _begin(path, json.loads(lines[0]))
        for number, line in enumerate(lines[1:], 2):  # noqa: B007 - the message names it
            if line.strip() and (event := _event(line)) is not None:
                _follow(replay, event)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as exc:
        if number == 1:
            what = f"{path} is not a journal of `invoke cleanup`"
            raise _BrokenError(what, f": name one of {path.parent}/cleanup-*.jsonl.") from exc
        what = f"{path} is damaged: line {number} does not fit the lines before it"
        raise _BrokenError(what, ". Put a whole copy in its place.") from exc
    return replay


def unfinished(logs: Path, account: str) -> list[Replay]:
    """Return the journals in *logs* of runs in *account* that did not come to their end, or not to know theirs.

    Raises:
        UsageError: A file there is not a journal, or what has a journal's name cannot be read.
    """
    return [replay for replay in all_unfinished(logs) if replay.account == account]


def all_unfinished(logs: Path) -> list[Replay]:
    """Return what `unfinished` does, of every account: of hundreds each file is read once.

    Raises:
        UsageError: A file there is not a journal, or what has a journal's name cannot be read.
    """
    replays = []
    for path in sorted(logs.glob("cleanup-*.jsonl")):
        try:
            # Without a whole first line a run was killed before it did anything.
            if "\n" in _text(path):
                replays.append(read(path))
        except UsageError as exc:
            what = exc.what if isinstance(exc, _BrokenError) else str(exc).rstrip(".")
            msg = f"{what}. Move it away; should that run have left snapshots, `invoke cleanup --orphans` finds them."
            raise UsageError(msg) from exc
    return [replay for replay in replays if not replay.is_settled]


def _text(path: Path) -> str:
    hint = "Each run leaves one: logs/cleanup-*.jsonl, in the sandbox .sandbox/logs/cleanup-*.jsonl."
    return read_text(path, what=_WHAT, limit_bytes=_LIMIT_BYTES, hint=hint)


def _event(text: str) -> AnyEvent | None:
    """Return the event of a line; None for a line that was cut off, and for a kind that is not known."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return from_line(line) if isinstance(line, dict) else None


def _begin(path: Path, line: Mapping[str, Any]) -> Replay:
    if line["event"] == "begin" and (found := line["format"]) != FORMAT:
        msg = f"{path} is a {_WHAT} of format {found!r}, this version reads {FORMAT}: use the one that wrote it."
        raise UsageError(msg)
    event = from_line(line)
    if not isinstance(event, Begin):
        raise ValueError(line["event"])
    return Replay(path, event.account)


def _follow(replay: Replay, event: AnyEvent) -> None:
    """Apply one event to *replay*. What a sweep removed cannot be brought back: its events change nothing here.

    Raises:
        LookupError: The event is about an AMI that no earlier line names.
    """
    match event:
        case Will():
            replay.entries[event.image.image_id] = _entry(event)
        case Done() | Failed() | Unknown() | Left() | Restoring() | Restored():
            _follow_image(replay, event)
        case SnapshotDone() if event.image_id in replay.entries:
            outcome = SnapshotOutcome.parse(event.status)
            replay.entries[event.image_id].snapshot_status[event.snapshot_id] = outcome
        case WillDeleteOrphan():
            replay.orphans[event.snapshot.snapshot_id] = (event.snapshot.snapshot(), SnapshotOutcome("intended"))
        case OrphanDone() if event.snapshot_id in replay.orphans:
            snapshot, _ = replay.orphans[event.snapshot_id]
            replay.orphans[event.snapshot_id] = (snapshot, SnapshotOutcome.parse(event.status))
        case End():
            replay.is_ended = True


def _follow_image(replay: Replay, event: Done | Failed | Unknown | Left | Restoring | Restored) -> None:
    if event.image_id is UNSET:
        return
    entry = replay.entries[event.image_id]
    entry.status = event.name
    entry.stays_private = isinstance(event, Restored) and event.stays_private is True
    if isinstance(event, Done):
        entry.snapshot_status |= {key: SnapshotOutcome.parse(text) for key, text in event.snapshots.items()}


def _entry(event: Will) -> Entry:
    return Entry(
        image=event.image.image(),
        mode=event.mode,
        permissions=event.permissions or (),
        snapshots=tuple(record.snapshot() for record in event.snapshots),
    )
