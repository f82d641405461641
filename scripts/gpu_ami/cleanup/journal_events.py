"""The events of a clean-up's or a sweep's journal: one type per kind of line, in the file's format 1.

A line is ``{"event": NAME, "at": TIME, …}``. The order of the fields here is their order in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import msgspec
from msgspec import UNSET, UnsetType

from gpu_ami.aws.images import Image, Snapshot, parse_time

FORMAT = 1


@dataclass(frozen=True)
class SnapshotOutcome:
    """What came of a snapshot. In JSON and in journals it is one text: ``STATUS`` or ``STATUS: REASON``.

    Attributes:
        status: ``deleted``, ``kept`` or ``failed``; ``left`` while EC2 left it where it was or its answer was lost. Of
            an orphan also ``intended`` before its deletion and ``restored`` after it.
        reason: Why it was kept or failed.
    """

    status: str
    reason: str | None = None

    def __str__(self) -> str:
        """Return the text for JSON, journals and tables."""
        return self.status if self.reason is None else f"{self.status}: {self.reason}"

    @classmethod
    def parse(cls, text: str) -> SnapshotOutcome:
        """Return the outcome of which *text* is the string."""
        status, colon, reason = text.partition(": ")
        return cls(status, reason if colon else None)

    @classmethod
    def kept(cls, reason: object) -> SnapshotOutcome:
        """Return the outcome of a snapshot that stays because of *reason*."""
        return cls("kept", str(reason))

    @classmethod
    def failed(cls, reason: object) -> SnapshotOutcome:
        """Return the outcome of a snapshot that could not be deleted because of *reason*."""
        return cls("failed", str(reason))

    @property
    def is_failed(self) -> bool:
        """Whether deleting the snapshot failed."""
        return self.status == "failed"


DELETED = SnapshotOutcome("deleted")
# Not final: the snapshot is still to be deleted.
LEFT = SnapshotOutcome("left")


def outcome_texts(outcomes: Mapping[str, SnapshotOutcome]) -> dict[str, str]:
    """Return the outcome of each snapshot as text, by its id."""
    return {snapshot_id: str(outcome) for snapshot_id, outcome in outcomes.items()}


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An AMI as a journal keeps it; times are ISO 8601 with their offset."""

    image_id: str
    region: str
    name: str
    state: str
    created: str | None
    deprecated_at: str | None
    tags: dict[str, str]
    snapshot_ids: tuple[str, ...]

    @classmethod
    def of(cls, image: Image) -> ImageRecord:
        """Return the record of *image*."""
        return cls(
            image_id=image.image_id,
            region=image.region,
            name=image.name,
            state=image.state,
            created=image.created.isoformat() if image.created else None,
            deprecated_at=image.deprecated_at.isoformat() if image.deprecated_at else None,
            tags=dict(image.tags),
            snapshot_ids=tuple(image.snapshot_ids),
        )

    def image(self) -> Image:
        """Return the AMI as it was."""
        return Image(
            image_id=self.image_id,
            region=self.region,
            name=self.name,
            state=self.state,
            created=parse_time(self.created),
            deprecated_at=parse_time(self.deprecated_at),
            tags=self.tags,
            snapshot_ids=self.snapshot_ids,
        )


class SnapshotRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot as a journal keeps it."""

    snapshot_id: str
    region: str
    description: str
    tags: dict[str, str]

    @classmethod
    def of(cls, snapshot: Snapshot) -> SnapshotRecord:
        """Return the record of *snapshot*."""
        return cls(
            snapshot_id=snapshot.snapshot_id,
            region=snapshot.region,
            description=snapshot.description,
            tags=dict(snapshot.tags),
        )

    def snapshot(self) -> Snapshot:
        """Return the snapshot as it was."""
        return Snapshot(snapshot_id=self.snapshot_id, region=self.region, description=self.description, tags=self.tags)


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """One line of a journal. A field that is UNSET is left out of it."""

    @property
    def name(self) -> str:
        """The event's name in the file, such as ``will-remove``."""
        return str(self.__struct_config__.tag)


class Begin(Event, frozen=True, kw_only=True, tag="begin"):
    """The first line: whose AMIs, and the policy of a clean-up or the age limit of a sweep."""

    format: int = FORMAT
    account: str
    policy: dict[str, Any] | UnsetType = UNSET
    older_than_s: int | UnsetType = UNSET


class Will(Event, frozen=True, kw_only=True, tag="will"):
    """An AMI is about to be deleted, disabled or deprecated (`mode`), and all that is needed to bring it back.

    `permissions` is None where nobody knows who could launch it.
    """

    mode: str
    image: ImageRecord
    permissions: tuple[dict[str, str], ...] | None
    snapshots: tuple[SnapshotRecord, ...]


class Done(Event, frozen=True, kw_only=True, tag="done"):
    """The AMI is deleted, disabled or deprecated; `snapshots` has the text of each one's outcome."""

    image_id: str
    snapshots: dict[str, str] = {}


class Failed(Event, frozen=True, kw_only=True, tag="failed"):
    """AWS refused: of a clean-up's AMI (`image_id`) or of a sweep's resource (`kind` and `id`)."""

    image_id: str | UnsetType = UNSET
    kind: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    error: str = ""


class Unknown(Event, frozen=True, kw_only=True, tag="unknown"):
    """No usable answer came: nobody knows what became of the AMI."""

    image_id: str
    error: str = ""


class Left(Event, frozen=True, kw_only=True, tag="left"):
    """A later run found an AMI of unknown fate still there; or gone, where it was to be set aside and no more."""

    image_id: str


class Restoring(Event, frozen=True, kw_only=True, tag="restoring"):
    """The AMI is about to be brought back."""

    image_id: str


class Restored(Event, frozen=True, kw_only=True, tag="restored"):
    """The AMI was brought back; `stays_private` where everybody could launch it, and nobody consented to that yet."""

    image_id: str
    stays_private: bool | UnsetType = UNSET


class SnapshotDone(Event, frozen=True, kw_only=True, tag="snapshot"):
    """The outcome of a snapshot that a deleted AMI left behind."""

    image_id: str
    snapshot_id: str
    status: str


class WillDeleteOrphan(Event, frozen=True, kw_only=True, tag="will-delete-orphan"):
    """A snapshot whose AMI is gone is about to be deleted."""

    snapshot: SnapshotRecord


class OrphanDone(Event, frozen=True, kw_only=True, tag="orphan"):
    """The outcome of a snapshot whose AMI is gone."""

    snapshot_id: str
    status: str


class WillRemove(Event, frozen=True, kw_only=True, tag="will-remove"):
    """A resource of an incomplete build is about to be removed; `image` when it is an AMI."""

    kind: str
    id: str
    region: str
    image: ImageRecord | None = None


class Removed(Event, frozen=True, kw_only=True, tag="removed"):
    """The resource is removed."""

    kind: str
    id: str


class Waited(Event, frozen=True, kw_only=True, tag="waited"):
    """Waiting for instances to terminate ended without success."""

    region: str
    error: str


class End(Event, frozen=True, kw_only=True, tag="end"):
    """The last line of a run: how much of it failed, or which later journal finished it (`by`)."""

    failed: int | UnsetType = UNSET
    by: str | UnsetType = UNSET


AnyEvent = (
    Begin
    | Will
    | Done
    | Failed
    | Unknown
    | Left
    | Restoring
    | Restored
    | SnapshotDone
    | WillDeleteOrphan
    | OrphanDone
    | WillRemove
    | Removed
    | Waited
    | End
)
_NAMES = frozenset(kind.__struct_config__.tag for kind in get_args(AnyEvent))


def to_line(event: Event, at: str) -> dict[str, Any]:
    """Return *event* as the line's JSON-ready values, with the time *at* behind its name."""
    fields = msgspec.to_builtins(event)
    return {"event": fields.pop("event"), "at": at, **fields}


def from_line(line: Mapping[str, Any]) -> AnyEvent | None:
    """Return the event that a line's values hold; None for a kind that a later version may have added.

    Raises:
        ValueError: A field is missing or of another type; and LookupError when the line names no event.
    """
    if line["event"] not in _NAMES:
        return None
    try:
        event: AnyEvent = msgspec.convert(line, AnyEvent)
    except msgspec.ValidationError as exc:
        # Which is no ValueError before msgspec 0.21.
        raise ValueError(str(exc)) from exc
    return event
