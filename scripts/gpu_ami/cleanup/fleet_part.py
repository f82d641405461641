"""The file that one shard of a fleet's survey writes and the merge reads: JSON Lines in gzip, whole or refused.

The first line is a header, then comes a line for each place (an account and a region), then a trailer with the number
of lines before it and their SHA-256. There are ids, names and counts in it, and no value of any parameter, variable or
text; but these are nobody's business either, so keep it out of public places.

A digest shows what was damaged, not who wrote it: whoever may write where the parts lie decides what is in them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import msgspec

from gpu_ami import __version__
from gpu_ami.aws.images import Image, Snapshot
from gpu_ami.aws.references.source import Reference
from gpu_ami.cleanup.decide import SourceReport, Status
from gpu_ami.cleanup.inventory import Location, SourceState
from gpu_ami.cleanup.plan_document import Bin
from gpu_ami.cleanup.policy import Policy
from gpu_ami.files import write_atomic
from gpu_ami.foreign_text import bare_reason
from gpu_ami.settings import Account, Region

FORMAT: Literal["gpu-ami-fleet-part-1"] = "gpu-ami-fleet-part-1"
ENDING = ".jsonl.gz"
_WHAT = "part of a fleet's survey"
_MIB = 1024 * 1024
# The part of 25 accounts that are all busy in 17 regions has a twentieth of that.
MOST_PACKED_BYTES = 128 * _MIB
MOST_UNPACKED_BYTES = 1024 * _MIB
MOST_LINE_BYTES = 256 * _MIB
_CHUNK = 256 * 1024
# zlib's words for a gzip file.
_GZIP = 31
_LEVEL = 6
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]
# By AMI who may launch it.
Permissions = dict[str, tuple[dict[str, str], ...]]


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="part"):
    """What the part belongs to.

    Attributes:
        format: What makes it one.
        run: The run of the workflow, or what was drawn by hand.
        attempt: Its attempt.
        repository: As ``owner/name``; empty outside of GitHub.
        list_sha256: The digest of the list that it goes by.
        shard: Which one of it, such as ``3/20``.
        code: See `code`.
        policy_sha256: See `policy_digest`.
        caller: The ARN of the hub's role or user, without the name of a session.
        began: When it began, as the machine has it.
        aws_time: The same moment, as AWS has it.
    """

    format: Literal["gpu-ami-fleet-part-1"] = FORMAT
    run: str
    attempt: int
    repository: str
    list_sha256: str
    shard: str
    code: str
    policy_sha256: str
    caller: str
    began: _Moment
    aws_time: _Moment


class SourcePart(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What one source showed in one place; see `SourceReport`.

    Attributes:
        status: How its query ended.
        calls: Requests sent.
        error: What went wrong, or why it was skipped.
        notes: What a reader should know.
        denied: The action that the credentials lack.
        principal: Who lacks it.
        references: What needs each AMI or snapshot, by its id.
        permissions: Who may launch each AMI that was asked about, of the source of launch permissions.
    """

    status: Status = "ok"
    calls: int = 0
    error: str | None = None
    notes: tuple[str, ...] = ()
    denied: str = ""
    principal: str = ""
    references: dict[str, tuple[str, ...]] | None = None
    permissions: Permissions | None = None


class PlacePart(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, tag_field="kind", tag="place"):
    """What was seen in one place.

    Attributes:
        account: The account.
        region: The region.
        aws_time: When it was read, as AWS has it; None where AWS never answered.
        trouble: Why nothing was read; None where it was.
        images: All AMIs that the account owns there.
        sources: What each source showed, by its name.
        asked: The AMIs that may go by this shard alone: the sources that AWS answers AMI by AMI were asked about these.
        snapshots: Their snapshots.
        bin: The Recycle Bin; None where no AMI may go.
    """

    account: Account
    region: Region
    aws_time: _Moment | None = None
    trouble: str | None = None
    images: tuple[Image, ...] = ()
    sources: dict[str, SourcePart] = {}
    asked: tuple[str, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    bin: Bin | None = None

    @property
    def place(self) -> tuple[str, str]:
        """The account and the region."""
        return self.account, self.region


class Trailer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="end"):
    """What was before it: so many lines, and their SHA-256."""

    lines: Annotated[int, msgspec.Meta(ge=1)]
    sha256: str


class PartError(Exception):
    """A part that is not to be believed, and why.

    Attributes:
        header: Its header, where that could be read.
    """

    def __init__(self, message: str, header: Header | None = None) -> None:
        super().__init__(message)
        self.header = header


class Part(msgspec.Struct, frozen=True):
    """A part that was read to its end, and is whole."""

    header: Header
    places: tuple[PlacePart, ...]


class Written(msgspec.Struct, frozen=True):
    """A part's file: its size and its SHA-256."""

    bytes: int
    sha256: str


@functools.lru_cache(maxsize=1)
def code() -> str:
    """Return which code reads and decides: the version, and a digest of the sources, as two commits may share one."""
    found = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        found.update(f"{path.relative_to(root).as_posix()}\0".encode())
        # git may have given them other line ends on Windows.
        found.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return f"{__version__}+{found.hexdigest()[:16]}"


def policy_digest(policy: Policy) -> str:
    """Return the SHA-256 of a policy, in hexadecimal."""
    return hashlib.sha256(json.dumps(policy.document(), sort_keys=True).encode()).hexdigest()


def source_part(name: str, state: SourceState) -> SourcePart:
    """Return what a survey knows of one source in one place."""
    report = state.report
    references: dict[str, list[str]] = {}
    for reference in state.references:
        assert reference.source == name, f"{reference.source} was found by {name}"
        references.setdefault(reference.target, []).append(reference.detail)
    return SourcePart(
        status=report.status,
        calls=report.calls,
        error=report.error,
        notes=tuple(report.notes),
        denied=report.denied,
        principal=report.principal,
        references={target: tuple(details) for target, details in references.items()} or None,
        permissions=dict(state.memory.get("permissions", {})) or None,
    )


def state_of(part: SourcePart, name: str, location: Location, *, is_use: bool) -> SourceState:
    """Return what a survey knew of the source *name* in one place, without what it kept for its next query."""
    references: Sequence[Reference] = ()
    if part.references is not None:
        references = [Reference(key, name, detail) for key, details in part.references.items() for detail in details]
    report = SourceReport(
        name,
        location.region,
        part.status,
        location.account,
        part.calls,
        len(references),
        part.error,
        part.notes,
        is_use and bool(references),
        part.denied,
        part.principal,
    )
    return SourceState(report, references, _NOTHING)


# Of hundreds of thousands of states none remembers anything.
_NOTHING: dict[str, Any] = {}


def write(path: Path, header: Header, places: Iterable[PlacePart]) -> Written:
    """Write a part, whole or not at all.

    Raises:
        UsageError: The file cannot be written.
    """
    content = packed(lines(header, places))
    write_atomic(path, content, what=_WHAT)
    return Written(len(content), hashlib.sha256(content).hexdigest())


def lines(header: Header, places: Iterable[PlacePart]) -> Iterator[bytes]:
    """Yield the lines of a part, each with its end."""
    found, count = hashlib.sha256(), 0
    for row in (header, *places):
        line = msgspec.json.encode(row) + b"\n"
        found.update(line)
        count += 1
        yield line
    yield msgspec.json.encode(Trailer(count, found.hexdigest())) + b"\n"


def packed(some: Iterable[bytes]) -> bytes:
    """Return *some* lines in gzip; the same lines are the same bytes at any time."""
    packing = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return b"".join([*(packing.compress(line) for line in some), packing.flush()])


def read(file: BinaryIO) -> Part:
    """Return the part in *file*, once all of it has proved to be whole.

    Raises:
        PartError: It is cut off, damaged, too large, or none at all.
    """
    header: Header | None = None
    try:
        reader = _Reader(file)
        header = reader.header()
        return Part(header, tuple(reader.places()))
    except OSError as exc:
        msg = f"it cannot be read: {exc.strerror}"
        raise PartError(msg, header) from exc
    except zlib.error as exc:
        msg = f"it is damaged, or no gzip file ({exc})"
        raise PartError(msg, header) from exc
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        msg = f"it has a line that makes no sense ({bare_reason(exc)})"
        raise PartError(msg, header) from exc
    except PartError as exc:
        exc.header = header
        raise


class _Reader:
    """Reads a part line by line, and counts on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._lines = _unpacked(file)
        self._digest = hashlib.sha256()
        self._count = 0

    def header(self) -> Header:
        line = next(self._lines, None)
        if line is None:
            msg = "it is empty"
            raise PartError(msg)
        self._take(line)
        return _HEADER.decode(line)

    def places(self) -> Iterator[PlacePart]:
        for line in self._lines:
            row = _ROW.decode(line)
            if isinstance(row, Trailer):
                self._end(row)
                return
            self._take(line)
            yield row
        msg = "it is cut off: the trailer is missing"
        raise PartError(msg)

    def _take(self, line: bytes) -> None:
        self._digest.update(line)
        self._count += 1

    def _end(self, trailer: Trailer) -> None:
        if trailer.lines != self._count:
            msg = f"its trailer says {trailer.lines} lines, it has {self._count}"
            raise PartError(msg)
        if trailer.sha256 != self._digest.hexdigest():
            msg = "its lines are not those of its trailer's SHA-256"
            raise PartError(msg)
        if next(self._lines, None) is not None:
            msg = "it goes on after its trailer"
            raise PartError(msg)


_HEADER = msgspec.json.Decoder(Header)
_ROW = msgspec.json.Decoder(PlacePart | Trailer)


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a gzip *file*, each with its end; a line that has none is cut off.

    Whatever it claims to be, no more of it is unpacked than a part may have: the size is counted on the way.
    """
    unpacking = zlib.decompressobj(_GZIP)
    packed_bytes = unpacked_bytes = 0
    pieces: list[bytes] = []
    held = 0
    while not unpacking.eof:
        chunk = file.read(_CHUNK)
        if not chunk:
            msg = "it is cut off"
            raise PartError(msg)
        packed_bytes += len(chunk)
        _check(packed_bytes, MOST_PACKED_BYTES, "packed")
        while chunk and not unpacking.eof:
            text = unpacking.decompress(chunk, _CHUNK)
            chunk = unpacking.unconsumed_tail
            unpacked_bytes += len(text)
            _check(unpacked_bytes, MOST_UNPACKED_BYTES, "unpacked")
            *whole, rest = text.split(b"\n")
            for line in whole:
                yield b"".join((*pieces, line, b"\n"))
                pieces, held = [], 0
            pieces.append(rest)
            held += len(rest)
            _check(held, MOST_LINE_BYTES, "unpacked in one line")
    if unpacking.unused_data or file.read(1):
        msg = "it goes on after the end of its gzip file"
        raise PartError(msg)
    if held:
        msg = "its last line is cut off"
        raise PartError(msg)


def _check(size: int, most: int, what: str) -> None:
    if size > most:
        msg = f"it is larger than {most // _MIB or f'{most / _MIB:.3f}'} MiB {what}: that is no part of ours"
        raise PartError(msg)
