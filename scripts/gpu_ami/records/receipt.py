"""Receipts: who moved which address from which AMI to which, written before the act and completed after it.

One JSON file per act in ``terraform/receipts/``, committed beside the code. They are the way back (`invoke rollback`)
and keep clean-up from removing an AMI that is live or may be needed again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from gpu_ami.errors import UsageError
from gpu_ami.files import read_text, write_atomic
from gpu_ami.foreign_text import reason
from gpu_ami.records.tags import AMI_ID

_WHAT = "receipt"
FOLDER = "receipts"
# A receipt without the member `format` is of this one; a later format says so, and is not guessed at.
FORMAT = 1
Action = Literal["apply", "rollback", "publish"]
Status = Literal["started", "applied", "failed"]
_Ami = Annotated[str, msgspec.Meta(pattern=rf"^{AMI_ID.pattern}\Z")]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One address that moves.

    Attributes:
        address: Terraform's address of a compute environment, or ``ssm:REGION:NAME`` of a parameter.
        old: The AMI before; None when there was none.
        new: The AMI after; None when the resource goes.
        name: The environment's name on AWS, which a new address leaves as it is; None before it had one.
        previous_address: Terraform's address of it before this act; None when that is the same.
    """

    address: Annotated[str, msgspec.Meta(min_length=1)]
    old: _Ami | None = None
    new: _Ami | None = None
    name: str | None = None
    previous_address: str | None = None


class ResourceAct(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to a resource that does not stay what and where it was.

    Attributes:
        action: ``replace``, ``delete``, ``delete-deposed``, ``forget``, ``move`` or ``import``; ``update`` of one that
            moves as well.
        address: Terraform's address.
        name: Its name on AWS; None when it has none, or nobody knows it yet.
        previous_address: The address that it had before; None when it keeps its own.
    """

    action: str
    address: str
    name: str | None = None
    previous_address: str | None = None


class StateIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """The Terraform state that an act is about: acts of two states may lie in one folder, under equal addresses.

    Attributes:
        backend: Terraform's name of the backend; ``local`` without one.
        bucket: What holds the state, such as an S3 bucket; None for ``local``.
        key: The state in it, that of the workspace: an object's key, or a path seen from the root module.
        workspace: The workspace.
        account: AWS account.
        region: AWS region that the pipeline works in.
        family: The family of AMIs.
    """

    backend: str
    bucket: str | None = None
    key: str | None = None
    workspace: str
    account: str
    region: str
    family: str

    def document(self) -> dict[str, str | None]:
        """Return it as the tasks print it in JSON."""
        return msgspec.structs.asdict(self)

    def shown_beside(self, other: StateIdentity) -> str:
        """Return what people call it, and what else tells it from *other*."""
        inside = "/".join(part for part in (self.bucket, self.key) if part)
        where = f"s3://{inside}" if self.backend == "s3" else f"{self.backend} {inside}".strip()
        rest = [
            f"{name} {value}"
            for name in ("account", "region", "family")
            if (value := getattr(self, name)) != getattr(other, name)
        ]
        return ", ".join([where, f"workspace {self.workspace}", *rest])


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """One act on the infrastructure.

    Attributes:
        when: When it began, UTC.
        who: ARN of the credentials.
        account: AWS account.
        region: AWS region.
        changes: What moves; empty when the act changes no AMI.
        action: What was requested.
        status: ``started`` until the act has ended; a receipt that stays so is one of a run that was killed, or that
            ended before Batch did.
        manifest: The manifest that the new AMI came from, as a person would type it.
        git_commit: The commit of the working tree.
        plan_sha256: Digest of the plan file that was applied.
        ended: When it ended, UTC.
        note: What a person must know, such as why it failed.
        state: The state that it is about; None when that is unknown, as in the receipts of earlier versions, or when it
            is about none, as a publication.
        resources: What is replaced, deleted, let go of, moved or imported; empty in receipts of earlier versions.
    """

    when: datetime
    who: str
    account: str
    region: str
    changes: tuple[Change, ...]
    action: Action = "apply"
    status: Status = "applied"
    manifest: str | None = None
    git_commit: str | None = None
    plan_sha256: str | None = None
    ended: datetime | None = None
    note: str | None = None
    state: StateIdentity | None = None
    resources: tuple[ResourceAct, ...] = ()

    def finished(self, status: Status, *, at: datetime, note: str | None = None) -> Receipt:
        """Return the receipt as it is after the act."""
        return msgspec.structs.replace(self, status=status, ended=_utc(at), note=note or self.note)

    def noted(self, note: str) -> Receipt:
        """Return the receipt with what a person must know, still open."""
        return msgspec.structs.replace(self, note=note)


class _Versioned(msgspec.Struct, frozen=True):
    """The one member that every format of a receipt has."""

    format: int | str | None = FORMAT


class StoredReceipt(msgspec.Struct, frozen=True):
    """A receipt of the receipt store, with its path."""

    path: Path
    receipt: Receipt


def folder_of(terraform: Path) -> Path:
    """Return where the receipts of the root module in the folder *terraform* lie."""
    return terraform / FOLDER


def new_path(folder: Path, receipt: Receipt) -> Path:
    """Return a name in *folder* that nobody has, sorted by time among the others."""
    return folder / f"{_utc(receipt.when):%Y%m%dT%H%M%S%fZ}-{receipt.action}-{secrets.token_hex(3)}.json"


def write(path: Path, receipt: Receipt) -> None:
    """Write *receipt* to *path*, whole or not at all.

    Raises:
        UsageError: The file cannot be written.
    """
    fixed = msgspec.structs.replace(receipt, when=_utc(receipt.when), ended=receipt.ended and _utc(receipt.ended))
    write_atomic(path, encode(fixed), what=_WHAT)


def encode(receipt: Receipt) -> str:
    """Return the text of a receipt's file."""
    return msgspec.json.format(msgspec.json.encode(receipt), indent=2).decode() + "\n"


def decode(text: str, *, source: str) -> Receipt:
    """Return the receipt in *text*; *source* names it in errors.

    Raises:
        UsageError: It is not a receipt, or one of another version's format.
    """
    try:
        found = msgspec.json.decode(text, type=_Versioned).format
        if found != FORMAT:
            msg = f"{source} is a receipt of format {found!r}, this version reads {FORMAT}: use the one that wrote it."
            raise UsageError(msg)
        receipt = msgspec.json.decode(text, type=Receipt)
    except (msgspec.DecodeError, RecursionError) as exc:
        msg = f"{source} is not a receipt ({reason(exc)}): restore it from git; nothing is guessed from the others."
        raise UsageError(msg) from exc
    return msgspec.structs.replace(receipt, when=_utc(receipt.when))


def load(folder: Path) -> tuple[StoredReceipt, ...]:
    """Return every receipt in *folder*, the oldest first; none when there is no folder.

    Raises:
        UsageError: One of them cannot be read: what is live and what was before would be a guess.
    """
    found = [
        StoredReceipt(path, decode(read_text(path, what=_WHAT), source=str(path)))
        for path in sorted(folder.glob("*.json"))
    ]
    return tuple(sorted(found, key=lambda stored: (stored.receipt.when, stored.path.name)))


def unfinished(stored: Iterable[StoredReceipt]) -> tuple[StoredReceipt, ...]:
    """Return those whose run was killed before it could say how it ended."""
    return tuple(act for act in stored if act.receipt.status == "started")


def environment_acts(stored: Iterable[StoredReceipt]) -> tuple[StoredReceipt, ...]:
    """Return those that are about a Terraform state: all but publications."""
    return tuple(act for act in stored if act.receipt.action != "publish")


def of_state(stored: Iterable[StoredReceipt], state: StateIdentity) -> tuple[StoredReceipt, ...]:
    """Return the acts on *state*; one of an unknown state may be another's, so it is none of them."""
    return tuple(act for act in environment_acts(stored) if act.receipt.state == state)


def maybe_of_state(stored: Iterable[StoredReceipt], state: StateIdentity | None) -> tuple[StoredReceipt, ...]:
    """Return the acts that may be on *state*: its own, and those of an unknown one; all, if *state* is not known."""
    acts = environment_acts(stored)
    return tuple(act for act in acts if state is None or act.receipt.state in (None, state))


def other_states(stored: Iterable[StoredReceipt], state: StateIdentity) -> tuple[StateIdentity, ...]:
    """Return the known states but *state* that there are acts on, that of the newest act first."""
    acts = [act.receipt.state for act in environment_acts(stored)][::-1]
    return tuple(other for other in dict.fromkeys(acts) if other is not None and other != state)


def of_unknown_state(stored: Iterable[StoredReceipt]) -> tuple[StoredReceipt, ...]:
    """Return the acts that do not say which state they are about: earlier versions wrote them."""
    return tuple(act for act in environment_acts(stored) if act.receipt.state is None)


def _utc(moment: datetime) -> datetime:
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return zoned.astimezone(timezone.utc)
