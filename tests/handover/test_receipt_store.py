"""Receipts beside the state in S3: other machines read them, and nothing is done that they could not know of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.deploy import apply, rollback
from gpu_ami.errors import AwsError, TerraformError, UsageError
from gpu_ami.handover.receipt_store import Bucket, bucket_of
from tests.support.account import REGION, task
from tests.support.fake_terraform import FakeTerraform

BUCKET = "state"
PREFIX = "gpu/receipts/"


def _backend(folder: Path, kind: str = "s3", **config: Any) -> None:
    file = folder / ".terraform" / "terraform.tfstate"
    file.parent.mkdir(parents=True, exist_ok=True)
    values = {"bucket": BUCKET, "key": "gpu/terraform.tfstate", "region": REGION}
    file.write_text(json.dumps({"version": 3, "backend": {"type": kind, "config": values | config}}))


@pytest.fixture
def s3(terraform: FakeTerraform) -> Any:
    """A client of S3; the state is in a bucket."""
    client = terraform.here.access.client("s3")
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    _backend(terraform.folder)
    return client


def _apply(terraform: FakeTerraform, age: int = 5) -> str:
    ami: str = terraform.here.image(age).id
    terraform.hand_over(ami)
    apply.run(task(terraform.here, terraform.folder.parent).run, apply.Request(yes=True))
    return ami


def _objects(s3: Any) -> dict[str, dict[str, Any]]:
    rows = s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return {row["Key"]: json.loads(s3.get_object(Bucket=BUCKET, Key=row["Key"])["Body"].read()) for row in rows}


def test_a_receipt_is_in_both_places(terraform: FakeTerraform, s3: Any) -> None:
    """The same text under the same name."""
    _apply(terraform)

    ((key, document),) = _objects(s3).items()
    (file,) = (terraform.folder / "receipts").glob("*.json")
    assert key == f"{PREFIX}{file.name}"
    assert document == json.loads(file.read_text())
    assert document["status"] == "applied"


def test_the_bucket_knows_before_the_act(terraform: FakeTerraform, s3: Any) -> None:
    """A runner that dies takes its files along."""
    seen: list[str] = []
    terraform.during = lambda: seen.extend(receipt["status"] for receipt in _objects(s3).values())

    _apply(terraform)

    assert seen == ["started"]


def test_a_bucket_that_cannot_be_written_stops_the_act(terraform: FakeTerraform, s3: Any) -> None:
    """Others would roll back to the wrong AMI."""
    s3.delete_bucket(Bucket=BUCKET)

    with pytest.raises(AwsError, match="s3://state/gpu/receipts/"):
        _apply(terraform)

    assert terraform.live() == {}


def test_a_receipt_that_cannot_be_completed_hides_nothing(terraform: FakeTerraform, s3: Any) -> None:
    """The apply's own failure is the news; the receipt stays open for the next run."""
    _apply(terraform)
    terraform.stops_after = 0
    terraform.during = lambda: terraform.here.aws.gate.deny("s3:PUT*", "s3:PutObject*")

    with pytest.raises(TerraformError, match="no capacity"):
        _apply(terraform, 4)

    terraform.here.aws.gate.clear()
    assert sorted(receipt["status"] for receipt in _objects(s3).values()) == ["applied", "started"]


def test_rollback_reads_what_another_machine_filed(terraform: FakeTerraform, s3: Any) -> None:
    """A fresh checkout has no receipts of its own."""
    first = _apply(terraform)
    _apply(terraform, 4)
    for file in (terraform.folder / "receipts").glob("*.json"):
        file.unlink()

    rollback.run(task(terraform.here, terraform.folder.parent).run, rollback.Request(yes=True))

    assert terraform.live()["spot"] == first


def test_other_objects_there_do_not_matter_and_broken_ones_do(terraform: FakeTerraform, s3: Any) -> None:
    """A folder of notes is nobody's receipt; a receipt that cannot be read is a hole in the history."""
    s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}README.md", Body=b"hello")
    s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}deeper/1.json", Body=b"{")
    _apply(terraform)

    s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}0.json", Body=b"\xff{")
    with pytest.raises(UsageError, match=r"s3://state/gpu/receipts/0\.json is not a receipt"):
        _apply(terraform, 4)

    s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}0.json", Body=b" " * 2_000_000)
    with pytest.raises(UsageError, match="is not a receipt"):
        _apply(terraform, 4)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, Bucket(BUCKET, REGION, PREFIX)),
        ({"key": "terraform.tfstate"}, Bucket(BUCKET, REGION, "receipts/")),
        ({"region": None}, Bucket(BUCKET, None, PREFIX)),
        ({"kind": "azurerm"}, None),
    ],
)
def test_where_the_bucket_is(tmp_path: Path, config: dict[str, Any], expected: Bucket | None) -> None:
    """As `terraform init` noted it: the code alone may hold only half of the backend."""
    _backend(tmp_path, config.pop("kind", "s3"), **config)

    assert bucket_of(tmp_path) == expected


@pytest.mark.parametrize("text", ["", "{", "[]", '{"backend": null}', '{"backend": {"type": "s3"}}'])
def test_without_a_backend_there_is_no_bucket(tmp_path: Path, text: str) -> None:
    """A local state has its receipts beside the code only."""
    assert bucket_of(tmp_path) is None
    (tmp_path / ".terraform").mkdir()
    (tmp_path / ".terraform" / "terraform.tfstate").write_text(text)
    assert bucket_of(tmp_path) is None
