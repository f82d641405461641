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

from gpu_ami.aws.images import Image, Snapshot, parse_time
from gpu_ami.errors import UsageError
from gpu_ami.files import read_text

FORMAT = 1
_WHAT = "clean-up journal"
_LIMIT_BYTES = 512 * 1024 * 1024


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
        snapshot_status: The last word on each snapshot.
    """

    image: Image
    mode: str
    permissions: tuple[dict[str, str], ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    status: str = "intended"
    snapshot_status: dict[str, str] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether nobody knows yet what became of the AMI."""
        return self.status in ("intended", "unknown")


@dataclass
class Story:
    """A journal as it reads.

    Attributes:
        path: The file.
        account: Whose AMIs.
        entries: By AMI id.
        orphans: Snapshots deleted without an AMI, and the last word on each.
        is_ended: Whether the run came to its end.
    """

    path: Path
    account: str
    entries: dict[str, Entry] = field(default_factory=dict)
    orphans: dict[str, tuple[Snapshot, str]] = field(default_factory=dict)
    is_ended: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to find out or to finish."""
        return self.is_ended and not any(entry.is_open for entry in self.entries.values())


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

    def write(self, event: str, **facts: Any) -> None:
        """Add a line and wait until the disk has it.

        Raises:
            UsageError: The disk refused.
        """
        at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        # ASCII only: nothing that a tag may hold looks like the end of a line to anything that reads this.
        line = json.dumps({"event": event, "at": at, **facts})
        try:
            with self._lock:
                self._file.write(f"{line}\n")
                self._added += 1
                number = self._added
            self._wait_for(number)
        except OSError as exc:
            msg = f"The {_WHAT} {self.path} cannot be written: {exc.strerror}; nothing more is changed."
            raise UsageError(msg) from exc

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

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def new_path(logs: Path, now: datetime, *, task: str = "cleanup") -> Path:
    """Return the path of a new journal of *task* in *logs*."""
    return logs / f"{task}-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}.jsonl"


def read(path: Path) -> Story:
    """Return what the journal *path* says; a last line that was cut off by a crash says nothing.

    Raises:
        UsageError: The file is not a journal, or one of another version's format.
    """
    # Not `splitlines`: for that, a line separator inside a tag ends a line too.
    lines = _text(path).split("\n")
    number = 1
    try:
        story = _begin(path, json.loads(lines[0]))
        for number, line in enumerate(lines[1:], 2):  # noqa: B007 - the message names it
            if line.strip() and (event := _event(line)) is not None:
                _follow(story, event)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as exc:
        if number == 1:
            msg = f"{path} is not a journal of `invoke cleanup`: name one of {path.parent}/cleanup-*.jsonl."
        else:
            msg = f"{path} is damaged: line {number} does not fit what stands before it. Put a whole copy in its place."
        raise UsageError(msg) from exc
    return story


def unfinished(logs: Path, account: str) -> list[Story]:
    """Return the journals in *logs* of runs in *account* that did not come to their end, or not to know theirs.

    Raises:
        UsageError: A file there is not a journal, or what has a journal's name cannot be read.
    """
    # Without a whole first line a run was killed before it did anything.
    written = (path for path in sorted(logs.glob("cleanup-*.jsonl")) if "\n" in _text(path))
    return [story for story in map(read, written) if story.account == account and not story.is_settled]


def image_record(image: Image) -> dict[str, Any]:
    """Return *image* as a journal keeps it."""
    return {
        "image_id": image.image_id,
        "region": image.region,
        "name": image.name,
        "state": image.state,
        "created": image.created.isoformat() if image.created else None,
        "deprecated_at": image.deprecated_at.isoformat() if image.deprecated_at else None,
        "tags": dict(image.tags),
        "snapshot_ids": list(image.snapshot_ids),
    }


def snapshot_record(snapshot: Snapshot) -> dict[str, Any]:
    """Return *snapshot* as a journal keeps it."""
    return {
        "snapshot_id": snapshot.snapshot_id,
        "region": snapshot.region,
        "description": snapshot.description,
        "tags": dict(snapshot.tags),
    }


def _text(path: Path) -> str:
    return read_text(path, what=_WHAT, limit_bytes=_LIMIT_BYTES)


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _begin(path: Path, event: Mapping[str, Any]) -> Story:
    if event["event"] != "begin":
        raise ValueError(event["event"])
    if (found := event["format"]) != FORMAT:
        msg = f"{path} is a {_WHAT} of format {found!r}, this version reads {FORMAT}: use the one that wrote it."
        raise UsageError(msg)
    return Story(path, str(event["account"]))


def _follow(story: Story, event: Mapping[str, Any]) -> None:
    kind = event["event"]
    if kind == "will":
        story.entries[event["image"]["image_id"]] = _entry(event)
    elif kind in ("done", "failed", "unknown", "left", "restoring", "restored") and "image_id" in event:
        entry = story.entries[event["image_id"]]
        entry.status = kind
        entry.snapshot_status.update(event.get("snapshots") or {})
    elif kind == "snapshot" and event.get("image_id") in story.entries:
        story.entries[event["image_id"]].snapshot_status[event["snapshot_id"]] = event["status"]
    elif kind == "will-delete-orphan":
        snapshot = _snapshot(event["snapshot"])
        story.orphans[snapshot.snapshot_id] = (snapshot, "intended")
    elif kind == "orphan" and event["snapshot_id"] in story.orphans:
        snapshot, _ = story.orphans[event["snapshot_id"]]
        story.orphans[snapshot.snapshot_id] = (snapshot, event["status"])
    elif kind == "end":
        story.is_ended = True


def _entry(event: Mapping[str, Any]) -> Entry:
    raw = event["image"]
    image = Image(
        image_id=raw["image_id"],
        region=raw["region"],
        name=raw["name"],
        state=raw["state"],
        created=parse_time(raw["created"]),
        deprecated_at=parse_time(raw["deprecated_at"]),
        tags=raw["tags"],
        snapshot_ids=tuple(raw["snapshot_ids"]),
    )
    return Entry(
        image=image,
        mode=event["mode"],
        permissions=tuple(event["permissions"] or ()),
        snapshots=tuple(_snapshot(each) for each in event["snapshots"]),
    )


def _snapshot(raw: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        snapshot_id=raw["snapshot_id"], region=raw["region"], description=raw["description"], tags=raw["tags"]
    )
