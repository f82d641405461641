"""Hand-over receipts: what is live, and what there is to roll back to, is never lost to a receipt from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpu_ami.cleanup.local_receipts import protected_by_receipts
from gpu_ami.cleanup.local_references import scan
from gpu_ami.errors import TerraformError
from tests.cleanup.test_local_references import A, B, C, D, named, scanned, tree_of


def _receipt(when: str, *changes: tuple[str, str | None, str], account: str = "1", region: str = "here") -> str:
    listed = [{"address": address, "old": old, "new": new} for address, old, new in changes]
    return json.dumps({"when": when, "account": account, "region": region, "changes": listed})


def test_of_receipts_the_newest_of_each_address_counts() -> None:
    """Live and the one to roll back to; older ones are history. The clock's zone must not matter."""
    texts = [
        ("3", _receipt("2026-01-01T00:30:00+09:00", ("a", C, D))),
        ("1", _receipt("2026-01-01T00:00:00Z", ("a", None, A), ("b", None, C))),
        ("2", _receipt("2026-02-01T00:00:00Z", ("a", A, B))),
    ]

    references = protected_by_receipts(texts)

    assert {(r.target, r.detail) for r in references} == {
        (B, "live at a by 2"),
        (A, "the one to roll back to at a by 2"),
        (C, "live at b by 1"),
    }


@pytest.mark.parametrize(
    "text",
    [
        f"{{cut {A} {B}",
        json.dumps({"when": "soon", "changes": [{"address": "a", "new": f"{A} {B}"}]}),
        json.dumps({"when": "2026-01-01T00:00:00Z", "changes": [], "x": f"{A} {B}"}),
        json.dumps({"when": "2026-01-01T00:00:00Z", "changes": [{"address": 3, "new": f"{A} {B}"}]}),
        json.dumps({"when": "2026-01-01T00:00:00Z", "changes": [{"address": "a", "new": None, "old": f"{A} {B}"}]}),
        json.dumps([A, B]),
    ],
)
def test_a_receipt_that_cannot_be_understood_protects_every_id_in_it(text: str) -> None:
    """It may be the newest one."""
    assert {r.target for r in protected_by_receipts([("x", text)])} == {A, B}


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("receipts/2", {"region": "there"}),
        ("receipts/2", {"account": "2"}),
        ("dev/receipts/2", {}),
        ("s3://bucket/dev/2", {}),
    ],
    ids=["region", "account", "root module", "bucket prefix"],
)
def test_a_receipt_from_elsewhere_is_no_newer_one_of_the_same_address(name: str, other: dict[str, str]) -> None:
    """The module has the same address everywhere; one region's hand-over must not give up another's way back."""
    older = _receipt("2026-01-01T00:00:00Z", ("a", A, B))
    newer = _receipt("2026-02-01T00:00:00Z", ("a", C, D), **other)

    assert {r.target for r in protected_by_receipts([("receipts/1", older), (name, newer)])} == {A, B, C, D}


def test_receipts_of_one_folder_are_one_history(tmp_path: Path) -> None:
    """Else every AMI that was ever handed over would stay."""
    older = _receipt("2026-01-01T00:00:00Z", ("a", A, B))
    newer = _receipt("2026-02-01T00:00:00Z", ("a", C, D))

    found = scan(tree_of(tmp_path, **{"x/receipts/1.json": older, "x/receipts/2.json": newer}), state=lambda: None)

    assert {reference.target for source in found for reference in source.references} == {C, D}


def test_receipts_beside_the_state_count_too(tmp_path: Path) -> None:
    """A CI checkout has none of its own; whether the checkout's are of the same module is not known, so both count."""
    tree = tree_of(tmp_path, **{"terraform/receipts/1.json": _receipt("2026-01-01T00:00:00Z", ("a", None, A))})

    found = scanned(tree, receipts=lambda: [("s3://b/2.json", _receipt("2026-02-01T00:00:00Z", ("a", B, C)))])

    assert named(found["receipts"]) == {A, B, C}
    assert "live at a by s3://b/2.json" in {reference.detail for reference in found["receipts"].references}


def test_receipts_beside_the_state_that_cannot_be_read_fail(tmp_path: Path) -> None:
    """The AMI to roll back to may be in one of them."""

    def fail() -> list[tuple[str, str]]:
        msg = "AccessDenied"
        raise TerraformError(msg)

    found = scanned(tree_of(tmp_path, **{"receipts/1.json": "{}"}), receipts=fail)

    assert (found["receipts"].report.status, found["receipts"].report.error) == ("failed", "AccessDenied")


def test_receipts_are_found_in_their_folder(tmp_path: Path) -> None:
    """Committed beside the Terraform code."""
    found = scanned(
        tree_of(tmp_path, **{"terraform/receipts/1.json": _receipt("2026-01-01T00:00:00Z", ("a", None, A))})
    )

    assert named(found["receipts"]) == {A}
    assert found["manifests"].report.status == "skipped"
