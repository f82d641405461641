"""Receipts: the way back, so nothing in them may be lost, guessed or half-written."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from gpu_ami.cleanup.local_references import protected_by_receipts
from gpu_ami.errors import UsageError
from gpu_ami.records import receipt as receipts
from gpu_ami.records.receipt import Change, Receipt, StateIdentity, Status

A, B, C = (f"ami-{number:017x}" for number in range(1, 4))
NOON = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
PROD = StateIdentity(
    backend="s3",
    bucket="b",
    key="env:/prod/batch/gpu.tfstate",
    workspace="prod",
    account="1",
    region="eu-west-1",
    family="f",
)
STAGING = msgspec.structs.replace(PROD, key="env:/staging/batch/gpu.tfstate", workspace="staging")


class EarlierChange(msgspec.Struct, frozen=True, kw_only=True):
    """One address that moves, as version 0.1.0 (commit 4b13ee5) reads it."""

    address: Annotated[str, msgspec.Meta(min_length=1)]
    old: str | None = None
    new: str | None = None


class EarlierReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt, as version 0.1.0 (commit 4b13ee5) reads it: members and types are that version's."""

    when: datetime
    who: str
    account: str
    region: str
    changes: tuple[EarlierChange, ...]
    action: Literal["apply", "rollback", "publish"] = "apply"
    status: Literal["started", "applied", "failed"] = "applied"
    manifest: str | None = None
    git_commit: str | None = None
    plan_sha256: str | None = None
    ended: datetime | None = None
    note: str | None = None


def _receipt(*changes: tuple[str, str | None, str | None], **more: Any) -> Receipt:
    values: dict[str, Any] = {"when": NOON, "who": "arn:aws:iam::1:user/x", "account": "1", "region": "eu-west-1"}
    moved = tuple(Change(address=address, old=old, new=new) for address, old, new in changes)
    return Receipt(changes=moved, **(values | more))


def _stored(folder: Path, receipt: Receipt) -> Path:
    path = receipts.new_path(folder, receipt)
    receipts.write(path, receipt)
    return path


def test_a_receipt_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """What rollback reads is what apply knew."""
    receipt = _receipt(
        ("ce.a", None, A), manifest="packer/manifest.json", git_commit="abc", plan_sha256="0" * 64, status="started"
    )
    path = _stored(tmp_path, receipt)

    assert receipts.load(tmp_path) == (receipts.StoredReceipt(path, receipt),)


def test_the_file_has_the_documented_keys(tmp_path: Path) -> None:
    """Clean-up and people's own scripts read these names."""
    path = _stored(tmp_path, _receipt(("ce.a", A, B)))
    document = json.loads(path.read_text())

    assert document["when"] == "2026-11-24T12:00:00Z"
    (change,) = document["changes"]
    assert change.items() >= {"address": "ce.a", "old": A, "new": B}.items()
    # Where an environment was before it moved, and what keeps its name.
    assert change.keys() - {"address", "old", "new"} == {"name", "previous_address"}
    assert set(document) >= {"who", "account", "region", "manifest", "git_commit", "plan_sha256", "status", "action"}


def test_receipts_come_oldest_first_whatever_their_names(tmp_path: Path) -> None:
    """The history is in their times; a file may have been renamed by hand."""
    for name, minutes in (("a", 3), ("b", 1), ("c", 2)):
        receipts.write(tmp_path / f"{name}.json", _receipt(("x", A, B), when=NOON + timedelta(minutes=minutes)))

    assert [stored.path.stem for stored in receipts.load(tmp_path)] == ["b", "c", "a"]


def test_only_the_acts_on_a_state_are_its_own(tmp_path: Path) -> None:
    """Two workspaces share a folder; a receipt that does not say its state, and a publication, are of neither."""
    acts: list[dict[str, Any]] = [
        {"state": PROD},
        {"state": STAGING},
        {},
        {"action": "publish"},
        {"action": "rollback", "state": PROD},
    ]
    for number, more in enumerate(acts):
        receipts.write(tmp_path / f"{number}.json", _receipt(("x", A, B), when=NOON + timedelta(hours=number), **more))
    found = receipts.load(tmp_path)

    assert [stored.path.stem for stored in receipts.of_state(found, PROD)] == ["0", "4"]
    assert [stored.path.stem for stored in receipts.of_state(found, STAGING)] == ["1"]
    assert [stored.path.stem for stored in receipts.of_unknown_state(found)] == ["2"]


@pytest.mark.parametrize("member", StateIdentity.__struct_fields__)
def test_every_member_tells_states_apart(member: str) -> None:
    """The same key in another bucket, account or Region is another state, and so is another family's in one."""
    other = msgspec.structs.replace(PROD, **{member: "other"})
    stored = receipts.StoredReceipt(Path("x"), _receipt(("x", A, B), state=other))

    assert receipts.of_state([stored], PROD) == ()


def test_an_earlier_version_reads_a_receipt_with_a_state() -> None:
    """Other machines run version 0.1.0 beside this one: its clean-up must go on protecting what the receipt names."""
    text = receipts.encode(_receipt(("ce.a", A, B), state=PROD))

    found = msgspec.json.decode(text, type=EarlierReceipt)

    assert [(change.address, change.old, change.new) for change in found.changes] == [("ce.a", A, B)]
    assert (found.action, found.status) == ("apply", "applied")


def test_no_folder_is_no_history(tmp_path: Path) -> None:
    """The first apply has nothing behind it."""
    assert receipts.load(tmp_path / "receipts") == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"when": "yesterday"}',
        json.dumps({"when": "2026-11-24T12:00:00Z", "who": "x", "account": "1", "region": "r", "changes": {}}),
        json.dumps(
            {
                "when": "2026-11-24T12:00:00Z",
                "who": "x",
                "account": "1",
                "region": "r",
                "changes": [{"address": "a", "new": "ami-<script>"}],
            }
        ),
        json.dumps(
            {
                "when": "2026-11-24T12:00:00Z",
                "who": "x",
                "account": "1",
                "region": "r",
                "changes": [{"address": "a", "new": f"{A}\n"}],
            }
        ),
        "[" * 100_000,
    ],
)
def test_a_file_that_is_no_receipt_is_named(tmp_path: Path, text: str) -> None:
    """Leaving it out would make rollback go to another AMI than the one before."""
    (tmp_path / "bad.json").write_text(text)

    with pytest.raises(UsageError, match=r"bad\.json is not a receipt"):
        receipts.load(tmp_path)


@pytest.mark.parametrize("found", [2, "2", 0, None])
def test_a_receipt_of_another_format_is_refused(tmp_path: Path, found: object) -> None:
    """A later version says when its members mean something else; going back by a guess would move Batch wrongly."""
    path = _stored(tmp_path, _receipt(("a", None, A)))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": found}))

    with pytest.raises(UsageError, match=rf"is a receipt of format {found!r}, this version reads 1: use the one"):
        receipts.load(tmp_path)


def test_clean_up_keeps_every_ami_of_a_receipt_of_another_format(tmp_path: Path) -> None:
    """Which of its AMIs is live is not known, so none goes: not the older of two either."""
    _stored(tmp_path, _receipt(("ce", A, B)))
    path = _stored(tmp_path, _receipt(("ce", B, C), when=NOON + timedelta(hours=1)))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    texts = [(path.name, path.read_text()) for path in tmp_path.glob("*.json")]

    assert {reference.target for reference in protected_by_receipts(texts)} == {A, B, C}


def test_keys_of_a_later_version_do_not_matter(tmp_path: Path) -> None:
    """A colleague's newer checkout writes into the same folder."""
    path = _stored(tmp_path, _receipt(("a", None, A)))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"later": 1}))

    assert receipts.load(tmp_path)[0].receipt.changes[0].new == A


def test_a_receipt_that_never_ended_is_unfinished(tmp_path: Path) -> None:
    """Its run was killed: the next one must say so and query what is live."""
    path = _stored(tmp_path, _receipt(("a", A, B), status="started"))
    _stored(tmp_path, _receipt(("a", B, C)).finished("failed", at=NOON, note="no capacity"))

    assert [stored.path for stored in receipts.unfinished(receipts.load(tmp_path))] == [path]


@pytest.mark.parametrize("status", ["started", "failed"])
def test_clean_up_keeps_the_last_good_pair_beside_an_unsure_one(tmp_path: Path, status: Status) -> None:
    """After a failed move to C, B is still live and A is still what rollback goes to."""
    _stored(tmp_path, _receipt(("ce", A, B)))
    _stored(tmp_path, _receipt(("ce", B, C), when=NOON + timedelta(hours=1), status=status))
    texts = [(path.name, path.read_text()) for path in tmp_path.glob("*.json")]

    assert {reference.target for reference in protected_by_receipts(texts)} == {A, B, C}


def test_clean_up_lets_go_of_what_two_good_applies_left_behind(tmp_path: Path) -> None:
    """Two certain steps away, an AMI is history."""
    _stored(tmp_path, _receipt(("ce", A, B)))
    _stored(tmp_path, _receipt(("ce", B, C), when=NOON + timedelta(hours=1)))
    texts = [(path.name, path.read_text()) for path in tmp_path.glob("*.json")]

    assert {reference.target for reference in protected_by_receipts(texts)} == {B, C}
