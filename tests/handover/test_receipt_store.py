"""Receipts beside the state in S3: other machines read them, and nothing is done that they could not know of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.deploy import apply, rollback
from gpu_ami.errors import AwsError, DifferenceError, TerraformError, UsageError
from gpu_ami.handover.receipt_store import Bucket, bucket_of
from gpu_ami.status import status
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

    assert bucket_of(tmp_path, {}) == expected


@pytest.mark.parametrize("text", ["", "{", "[]", '{"backend": null}', '{"backend": {"type": "s3"}}'])
def test_without_a_backend_there_is_no_bucket(tmp_path: Path, text: str) -> None:
    """A local state has its receipts beside the code only."""
    assert bucket_of(tmp_path, {}) is None
    (tmp_path / ".terraform").mkdir()
    (tmp_path / ".terraform" / "terraform.tfstate").write_text(text)
    assert bucket_of(tmp_path, {}) is None


# --- two states that share a folder of receipts


class _Killed(BaseException):
    """What no handler of ours catches, as no handler catches SIGKILL."""


def _in(workspace: str, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("TF_WORKSPACE", workspace)


def _statuses(s3: Any) -> list[tuple[str, str]]:
    return sorted((receipt["state"]["workspace"], receipt["status"]) for receipt in _objects(s3).values())


def test_a_rollback_goes_where_its_own_state_was(
    terraform: FakeTerraform, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staging tried a bad AMI between prod's two: prod must not go there."""
    _in("prod", monkeypatch)
    first = _apply(terraform, 9)
    _in("staging", monkeypatch)
    _apply(terraform, 8)
    _in("prod", monkeypatch)
    _apply(terraform, 7)

    done = task(terraform.here, terraform.folder.parent)
    rollback.run(done.run, rollback.Request(yes=True))

    assert set(terraform.live().values()) == {first}
    assert done.document["state"] == {
        "backend": "s3",
        "bucket": BUCKET,
        "key": "env:/prod/gpu/terraform.tfstate",
        "workspace": "prod",
        "account": terraform.here.account,
        "region": REGION,
        "family": done.run.settings.family,
    }
    assert "s3://state/env:/prod/gpu/terraform.tfstate, workspace prod by TF_WORKSPACE" in done.err.getvalue()
    assert {key.rpartition("/")[0] for key in _objects(s3)} == {PREFIX.rstrip("/")}


def test_a_new_environment_is_offered_nobody_elses_ami(
    terraform: FakeTerraform, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first apply has nothing behind it, whatever the other environment had."""
    _in("prod", monkeypatch)
    _apply(terraform, 9)
    _apply(terraform, 8)
    _in("staging", monkeypatch)
    terraform.hand_over(terraform.here.image(7).id)
    done = task(terraform.here, terraform.folder.parent, output="table")
    apply.run(done.run, apply.Request(yes=True))

    assert "goes back to" not in done.out.getvalue()
    with pytest.raises(
        UsageError, match=r"No receipt of this state knows .* name one with `invoke rollback --to AMI`\.$"
    ):
        rollback.run(task(terraform.here, terraform.folder.parent).run, rollback.Request(yes=True))


def test_an_apply_under_way_elsewhere_is_left_alone(
    terraform: FakeTerraform, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staging's open receipt says nothing of prod; only staging's next apply can complete it."""
    _in("staging", monkeypatch)

    def kill() -> None:
        raise _Killed

    terraform.during = kill
    with pytest.raises(_Killed):
        _apply(terraform, 9)
    terraform.during = lambda: None
    _in("prod", monkeypatch)
    _apply(terraform, 8)
    _apply(terraform, 8)

    assert _statuses(s3) == [("prod", "applied"), ("prod", "applied"), ("staging", "started")]

    _in("staging", monkeypatch)
    _apply(terraform, 7)
    assert _statuses(s3)[2:] == [("staging", "applied"), ("staging", "failed")]


def test_status_speaks_of_its_own_state_only(
    terraform: FakeTerraform, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed apply of staging is no difference of prod's."""
    _in("prod", monkeypatch)
    _apply(terraform, 9)
    _in("staging", monkeypatch)
    terraform.stops_after = 0
    with pytest.raises(TerraformError):
        _apply(terraform, 9)

    def found(workspace: str) -> set[str]:
        _in(workspace, monkeypatch)
        done = task(terraform.here, terraform.folder.parent)
        with pytest.raises(DifferenceError):
            status.run(done.run, status.Request())
        assert f"workspace {workspace}" in done.err.getvalue()
        assert done.document["state"]["workspace"] == workspace
        return {difference["code"] for difference in done.document["drift"]}

    assert "apply-failed" not in found("prod")
    assert "apply-failed" in found("staging")


def test_receipts_of_an_unknown_state_are_not_followed_silently(terraform: FakeTerraform, s3: Any) -> None:
    """Version 0.1.0 wrote them: they may be another workspace's. The person is told what they name, and chooses."""
    first = _apply(terraform, 9)
    second = _apply(terraform, 8)
    for key, document in _objects(s3).items():
        del document["state"]
        s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(document).encode())

    with pytest.raises(UsageError, match=rf"those of an unknown state.* name {first}: .* --to {first}"):
        rollback.run(task(terraform.here, terraform.folder.parent).run, rollback.Request(yes=True))

    assert set(terraform.live().values()) == {second}
    rollback.run(task(terraform.here, terraform.folder.parent).run, rollback.Request(yes=True, to=first))
    assert set(terraform.live().values()) == {first}


def test_an_open_receipt_of_an_unknown_state_is_named_and_left(terraform: FakeTerraform, s3: Any) -> None:
    """What is live here proves nothing about it."""
    _apply(terraform, 9)
    ((key, document),) = _objects(s3).items()
    text = json.dumps({**document, "status": "started", "state": None})
    s3.put_object(Bucket=BUCKET, Key=key, Body=text.encode())
    terraform.hand_over(terraform.here.image(8).id)
    done = task(terraform.here, terraform.folder.parent)

    apply.run(done.run, apply.Request(yes=True))

    assert "does not say in which state: it stays as it is" in done.err.getvalue()
    assert sorted(receipt["status"] for receipt in _objects(s3).values()) == ["applied", "started"]


def test_the_bucket_is_found_where_terraform_keeps_its_notes(
    terraform: FakeTerraform, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TF_DATA_DIR the receipt silently did not go beside the state."""
    (terraform.folder / ".terraform").rename(terraform.folder / ".terraform-prod")
    monkeypatch.setenv("TF_DATA_DIR", ".terraform-prod")

    _apply(terraform)

    assert len(_objects(s3)) == 1
    assert bucket_of(terraform.folder, {}) is None
