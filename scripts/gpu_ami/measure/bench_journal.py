"""The journal of a bench: each name is on the disk before AWS is asked to make it, so a killed run can be undone."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, get_args

from gpu_ami.errors import UsageError
from gpu_ami.files import read_text
from gpu_ami.measure.bench_plan import tags_of
from gpu_ami.records.tags import BENCH_NAME, BENCH_RUN

FORMAT = "gpu-ami-bench-journal-1"
Kind = Literal["template", "definition", "environment", "queue", "job"]
_WHAT = "bench journal"
_LIMIT_BYTES = 16 * 1024 * 1024
# The longest that a bench of 20 rounds, each a wave, may take is a day and a bit.
_LONGEST_MIN = 7 * 24 * 60


@dataclass(frozen=True, kw_only=True)
class Whose:
    """What a bench is found by.

    Attributes:
        run_id: Its run.
        region: Where.
        account: Whose.
        family: Of which AMIs.
        began: When it began, by AWS's clock.
        may_take_min: When it is over, minutes after that.
    """

    run_id: str
    region: str
    account: str
    family: str
    began: datetime
    may_take_min: int

    @property
    def tags(self) -> dict[str, str]:
        """The tags of all that it has made."""
        return tags_of(self.run_id, self.family, self.began, self.may_take_min)


@dataclass
class Replay:
    """What a journal's lines add up to.

    Attributes:
        path: The file.
        whose: Whose bench it is.
        made: What AWS was asked to make, and is not known to be gone, by kind and name in that order.
        is_ended: Whether the bench saw that nothing of it was left.
    """

    path: Path
    whose: Whose
    made: dict[tuple[Kind, str], None] = field(default_factory=dict)
    is_ended: bool = False

    def names(self, kind: Kind) -> list[str]:
        """Return the names of one kind."""
        return [name for which, name in self.made if which == kind]


class Journal:
    """Writes a journal; each line is on the disk before the call returns. Threads may share one.

    Args:
        path: The file.
        whose: Whose bench it is; None goes on with a file that is there.
    """

    def __init__(self, path: Path, whose: Whose | None = None) -> None:
        """Open the file, and begin it where it is new.

        Raises:
            UsageError: It cannot be made, or written.
        """
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | (os.O_CREAT | os.O_EXCL if whose else 0)
            self._file = os.fdopen(os.open(path, flags, 0o600), "a", encoding="utf-8")
            if whose is None:
                # A line that a killed run left half-written must not swallow the next one.
                self._file.write("\n")
        except OSError as exc:
            raise self._error(exc) from exc
        if whose is not None:
            began = whose.began.strftime("%Y-%m-%dT%H:%M:%SZ")
            rest = {"run": whose.run_id, "region": whose.region, "account": whose.account, "family": whose.family}
            try:
                self._write("begin", format=FORMAT, **rest, began=began, may_take_min=whose.may_take_min)
            except UsageError:
                self.close()
                raise

    def will(self, kind: Kind, name: str) -> None:
        """Note that AWS is asked next to make something.

        Raises:
            UsageError: The disk refused: it must not be made.
        """
        self._write("will", kind=kind, name=name)

    def gone(self, kind: Kind, name: str) -> None:
        """Note that something is gone; a disk that refuses does no harm: the next teardown finds nothing there."""
        self._note("gone", kind=kind, name=name)

    def end(self) -> None:
        """Note that nothing is left."""
        self._note("end")

    def close(self) -> None:
        """Close the file; what it still held was refused already."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _note(self, event: str, **rest: Any) -> None:
        try:
            self._write(event, **rest)
        except UsageError:
            return

    def _write(self, event: str, **rest: Any) -> None:
        at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        line = json.dumps({"at": at, "event": event, **rest})
        try:
            with self._lock:
                self._file.write(f"{line}\n")
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as exc:
            raise self._error(exc) from exc

    def _error(self, cause: OSError) -> UsageError:
        return UsageError(f"The {_WHAT} {self.path} cannot be written: {cause.strerror}; nothing more is made.")


def read(path: Path) -> Replay:
    """Return what a journal says; a last line that was cut off says nothing.

    Raises:
        UsageError: The file is no journal of a bench.
    """
    hint = f"Each bench leaves one: logs/{BENCH_RUN}*.jsonl, in the sandbox .sandbox/logs/{BENCH_RUN}*.jsonl."
    first, *lines = read_text(path, what=_WHAT, limit_bytes=_LIMIT_BYTES, hint=hint).split("\n")
    try:
        begin = json.loads(first)
        if begin["format"] != FORMAT:
            raise ValueError(begin["format"])
        replay = Replay(path, _whose(begin))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as exc:
        msg = f"{path} is no journal of a bench: name one of {path.parent}/{BENCH_RUN}*.jsonl."
        raise UsageError(msg) from exc
    for line in lines:
        _follow(replay, _event(line))
    return replay


def unfinished(logs: Path) -> list[Replay]:
    """Return the journals of benches that have not seen their end; a file that is no journal is none of them."""
    found = []
    for path in sorted(logs.glob(f"{BENCH_RUN}*.jsonl")):
        try:
            replay = read(path)
        except UsageError:
            continue
        if not replay.is_ended:
            found.append(replay)
    return found


def _whose(begin: dict[str, Any]) -> Whose:
    names = [begin[key] for key in ("run", "region", "account", "family")]
    if not all(isinstance(name, str) and name for name in names) or not begin["run"].startswith(BENCH_RUN):
        raise ValueError(names)
    began = datetime.strptime(begin["began"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    run_id, region, account, family = names
    may_take_min = begin["may_take_min"]
    # A flag is an int in Python; and JSON's 1e999 is read as infinity, which no int() takes.
    if isinstance(may_take_min, bool) or not isinstance(may_take_min, int) or not 0 < may_take_min <= _LONGEST_MIN:
        raise ValueError(may_take_min)
    return Whose(
        run_id=run_id,
        region=region,
        account=account,
        family=family,
        began=began,
        may_take_min=may_take_min,
    )


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _follow(replay: Replay, event: dict[str, Any]) -> None:
    name = str(event.get("name"))
    kind: Kind | None = next((one for one in get_args(Kind) if one == event.get("kind")), None)
    match event.get("event"):
        case "will" if kind and name.startswith(BENCH_NAME):
            replay.made[kind, name] = None
            replay.is_ended = False
        case "gone" if kind:
            replay.made.pop((kind, name), None)
        case "end":
            replay.is_ended = True
