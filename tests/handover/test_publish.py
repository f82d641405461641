"""`invoke publish`: an AMI in an SSM parameter, proved by reading it back."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpu_ami.aws import parameters
from gpu_ami.aws.references.source import ids_in
from gpu_ami.cleanup.local_references import protected_by_receipts
from gpu_ami.errors import AwsError, PartialError, SafetyError, UsageError
from gpu_ami.handover import publish
from gpu_ami.records import receipt
from gpu_ami.records.receipt import Change, StoredReceipt
from gpu_ami.settings import Handover
from gpu_ami_sandbox.aws import ssm
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from tests.support.account import OTHER_REGION, REGION, Task, World, other_region, task

NAME = "/gpu-ami/gpu-batch/ami-id"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The local SSM checks AMIs before it answers."""
    monkeypatch.setattr(ssm, "VALIDATION_S", 0.0)


@pytest.fixture
def image(here: World) -> SandboxAmi:
    """A fresh AMI of ours."""
    return here.image(0)


def _publish(here: World, root: Path, **arguments: Any) -> Task:
    done = task(here, root, **arguments.pop("settings", {}))
    sleep = arguments.pop("sleep", lambda _seconds: None)
    publish.run(done.run, publish.Request(**arguments), sleep=sleep)
    return done


def _receipts(root: Path) -> tuple[StoredReceipt, ...]:
    return receipt.load(root / "terraform" / "receipts")


def _value(here: World, name: str = NAME, region: str = REGION) -> dict[str, Any]:
    return dict(here.access.client("ssm", region=region).get_parameter(Name=name)["Parameter"])


def test_a_new_parameter_is_made(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """Of the data type that EC2 and CloudFormation resolve, with tags, and with a receipt."""
    done = _publish(here, tmp_path, ami=image.id)

    assert (_value(here)["Value"], _value(here)["DataType"]) == (image.id, "aws:ec2:image")
    client = here.access.client("ssm")
    tags = client.list_tags_for_resource(ResourceType="Parameter", ResourceId=NAME)["TagList"]
    assert {"Key": "gpu-ami:family", "Value": "gpu-batch"} in tags
    (stored,) = _receipts(tmp_path)
    row = {
        "parameter": NAME,
        "region": REGION,
        "old": None,
        "new": image.id,
        "changed": True,
        "version": 1,
        "receipt": str(stored.path.relative_to(tmp_path)),
    }
    assert done.document == {**row, "regions": [row]}


def test_the_value_before_is_in_the_receipt(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """It is the way back, and clean-up keeps that AMI."""
    before = here.image(10)
    _publish(here, tmp_path, ami=before.id)

    done = _publish(here, tmp_path, ami=image.id)

    assert (done.document["old"], done.document["version"]) == (before.id, 2)
    _, stored = _receipts(tmp_path)
    assert stored.receipt.changes == (Change(address=f"ssm:{REGION}:{NAME}", old=before.id, new=image.id),)
    assert (stored.receipt.action, stored.receipt.status) == ("publish", "applied")
    kept = protected_by_receipts((stored.path.name, stored.path.read_text()) for stored in _receipts(tmp_path))
    assert {reference.target for reference in kept} == {before.id, image.id}


def test_an_equal_value_is_left_alone(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """No new version, no receipt."""
    _publish(here, tmp_path, ami=image.id)
    done = _publish(here, tmp_path, ami=image.id)

    assert (done.document["changed"], done.document["version"], done.document["receipt"]) == (False, 1, None)
    assert len(_receipts(tmp_path)) == 1
    assert "already; left alone" in done.err.getvalue()


def test_a_dry_run_changes_nothing(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """It says what would be done."""
    done = _publish(here, tmp_path, ami=image.id, settings={"dry_run": True})

    assert f"DRY RUN: would set {NAME} in {REGION} to {image.id}" in done.err.getvalue()
    assert done.document["changed"]
    assert _receipts(tmp_path) == ()
    assert "PutParameter" not in here.calls()


def test_each_region_of_a_manifest_gets_its_ami(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """Under the same name, with a receipt each."""
    other = other_region(here).image(0)
    artifact = f"{REGION}:{image.id},{OTHER_REGION}:{other.id}"
    build = {"builder_type": "amazon-ebs", "artifact_id": artifact, "packer_run_uuid": "r"}
    (tmp_path / "m.json").write_text(json.dumps({"builds": [build], "last_run_uuid": "r"}))

    done = _publish(here, tmp_path, manifest=str(tmp_path / "m.json"), parameter="/golden")

    assert _value(here, "/golden")["Value"] == image.id
    assert _value(here, "/golden", OTHER_REGION)["Value"] == other.id
    assert [row["region"] for row in done.document["regions"]] == [REGION, OTHER_REGION]
    assert done.document["new"] == image.id
    assert {stored.receipt.changes[0].address for stored in _receipts(tmp_path)} == {
        f"ssm:{REGION}:/golden",
        f"ssm:{OTHER_REGION}:/golden",
    }
    assert {stored.receipt.manifest for stored in _receipts(tmp_path)} == {"m.json"}


def test_every_region_is_looked_at_before_one_is_changed(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """Half a publication is the worst of all."""
    other = other_region(here)
    other.parameter("/golden", "v1")
    artifact = f"{REGION}:{image.id},{OTHER_REGION}:{other.image(0).id}"
    build = {"builder_type": "amazon-ebs", "artifact_id": artifact, "packer_run_uuid": "r"}
    (tmp_path / "m.json").write_text(json.dumps({"builds": [build], "last_run_uuid": "r"}))

    with pytest.raises(SafetyError, match=f"/golden in {OTHER_REGION} holds 'v1', no AMI id"):
        _publish(here, tmp_path, manifest=str(tmp_path / "m.json"), parameter="/golden")

    assert "PutParameter" not in here.calls()


@pytest.mark.parametrize(("refused", "region", "ours"), [(1, REGION, OTHER_REGION), (2, OTHER_REGION, REGION)])
def test_a_region_that_fails_leaves_the_others_published(
    here: World, tmp_path: Path, image: SandboxAmi, refused: int, region: str, ours: str
) -> None:
    """Exit 7, and both in the result: exit 4 alone read as if nothing had been set anywhere."""
    ids = {REGION: image.id, OTHER_REGION: other_region(here).image(0).id}
    artifact = ",".join(f"{name}:{ami}" for name, ami in ids.items())
    build = {"builder_type": "amazon-ebs", "artifact_id": artifact, "packer_run_uuid": "r"}
    (tmp_path / "m.json").write_text(json.dumps({"builds": [build], "last_run_uuid": "r"}))
    done = task(here, tmp_path)
    here.aws.gate.fail("AccessDeniedException", action="PutParameter", at=refused)

    with pytest.raises(PartialError, match=rf"Published in {ours}, but not in {region} \({region}: .*AccessDenied"):
        publish.run(done.run, publish.Request(manifest=str(tmp_path / "m.json")), sleep=lambda _seconds: None)

    assert _value(here, region=ours)["Value"] == ids[ours]
    rows = {row["region"]: row for row in done.document["regions"]}
    assert (rows[ours]["changed"], rows[region]["changed"]) == (True, False)
    assert "error" not in rows[ours]
    assert "AccessDenied" in rows[region]["error"]
    told = {stored.receipt.region: stored for stored in _receipts(tmp_path)}
    assert {name: stored.receipt.status for name, stored in told.items()} == {ours: "applied", region: "failed"}
    assert rows[region]["receipt"] == str(told[region].path.relative_to(tmp_path))
    assert f"in {region} failed: " in done.err.getvalue()


@pytest.mark.parametrize(
    ("refused", "says"), [(None, "Published, but the receipt .*No space left"), (2, "Published in .*, but not in ")]
)
def test_a_disk_that_is_full_after_the_act_hides_nothing(
    here: World, tmp_path: Path, image: SandboxAmi, monkeypatch: pytest.MonkeyPatch, refused: int | None, says: str
) -> None:
    """Exit 7, and every region in the result: with 2 and no result it read as if nothing had been set anywhere."""
    ids = {REGION: image.id, OTHER_REGION: other_region(here).image(0).id}
    artifact = ",".join(f"{name}:{ami}" for name, ami in ids.items())
    build = {"builder_type": "amazon-ebs", "artifact_id": artifact, "packer_run_uuid": "r"}
    (tmp_path / "m.json").write_text(json.dumps({"builds": [build], "last_run_uuid": "r"}))
    write = receipt.write

    def full(path: Path, act: receipt.Receipt) -> None:
        if act.status != "started":
            msg = f"The receipt {path} was not written: No space left on device."
            raise UsageError(msg)
        write(path, act)

    monkeypatch.setattr(receipt, "write", full)
    done = task(here, tmp_path)
    if refused is not None:
        here.aws.gate.fail("AccessDeniedException", action="PutParameter", at=refused)

    with pytest.raises(PartialError, match=says):
        publish.run(done.run, publish.Request(manifest=str(tmp_path / "m.json")), sleep=lambda _seconds: None)

    assert [row["changed"] for row in done.document["regions"]] == [True, refused is None]
    assert [stored.receipt.status for stored in _receipts(tmp_path)] == ["started", "started"]
    assert refused is None or "No space left" in done.err.getvalue()
    # What the parameters show completes them.
    monkeypatch.setattr(receipt, "write", write)
    _publish(here, tmp_path, manifest=str(tmp_path / "m.json"))
    assert "started" not in {stored.receipt.status for stored in _receipts(tmp_path)}


def test_where_every_region_fails_it_is_the_first_ones_error(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """Nothing was set, so it is not partly done."""
    artifact = f"{REGION}:{image.id},{OTHER_REGION}:{other_region(here).image(0).id}"
    build = {"builder_type": "amazon-ebs", "artifact_id": artifact, "packer_run_uuid": "r"}
    (tmp_path / "m.json").write_text(json.dumps({"builds": [build], "last_run_uuid": "r"}))
    here.aws.gate.deny("ssm:PutParameter")

    with pytest.raises(AwsError, match=REGION):
        _publish(here, tmp_path, manifest=str(tmp_path / "m.json"))

    assert [stored.receipt.status for stored in _receipts(tmp_path)] == ["failed", "failed"]


def test_an_ami_that_would_not_do_is_not_published(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """The same check as for the Terraform variable."""
    image._state = "pending"

    with pytest.raises(SafetyError, match="is still pending"):
        _publish(here, tmp_path, ami=image.id)

    assert "PutParameter" not in here.calls()


def test_a_value_that_ssm_drops_is_an_error(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """Its answer was a success; the receipt says that nothing came of it, and clean-up keeps the old one."""
    _publish(here, tmp_path, ami=image.id)

    with pytest.raises(AwsError, match=f"still shows {image.id}: it drops in silence"):
        _publish(here, tmp_path, ami="ami-0123456789abcdef0", verified=False)

    _, stored = _receipts(tmp_path)
    assert (stored.receipt.status, "drops in silence" in str(stored.receipt.note)) == ("failed", True)
    kept = protected_by_receipts((stored.path.name, stored.path.read_text()) for stored in _receipts(tmp_path))
    assert image.id in {reference.target for reference in kept}


def test_a_killed_run_leaves_a_receipt_that_says_so(
    here: World, tmp_path: Path, image: SandboxAmi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was written before the act: whoever comes next sees what may have happened."""

    def killed(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ssm, "VALIDATION_S", 3600.0)

    with pytest.raises(KeyboardInterrupt):
        _publish(here, tmp_path, ami=image.id, sleep=killed)

    (stored,) = _receipts(tmp_path)
    assert stored.receipt.status == "started"
    assert ids_in(stored.path.read_text()) == {image.id}


@pytest.mark.parametrize(("seconds", "status"), [(0.0, "applied"), (3600.0, "failed")])
def test_the_next_run_completes_a_killed_ones_receipt(
    here: World, tmp_path: Path, image: SandboxAmi, monkeypatch: pytest.MonkeyPatch, seconds: float, status: str
) -> None:
    """By what the parameter shows now, so that clean-up knows for certain again."""

    def killed(*_arguments: object, **_more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ssm, "VALIDATION_S", seconds)
    with monkeypatch.context() as patch:
        patch.setattr(parameters, "wait_for", killed)
        with pytest.raises(KeyboardInterrupt):
            _publish(here, tmp_path, ami=image.id)
    monkeypatch.setattr(ssm, "VALIDATION_S", 0.0)

    _publish(here, tmp_path, ami=image.id)

    first, *others = _receipts(tmp_path)
    assert first.receipt.status == status
    assert "cut short" in str(first.receipt.note)
    assert [stored.receipt.status for stored in others] == ([] if status == "applied" else ["applied"])


def test_what_another_account_shows_completes_no_receipt(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """One repository publishes to staging and to production, and the parameter has one name in both."""
    _publish(here, tmp_path, ami=image.id)
    (stored,) = _receipts(tmp_path)
    other = msgspec.structs.replace(stored.receipt, account="999999999999", status="started", ended=None)
    receipt.write(stored.path, other)

    _publish(here, tmp_path, ami=image.id)

    assert [one.receipt.status for one in _receipts(tmp_path)] == ["started"]


def test_a_stacks_parameter_is_published_with_a_warning(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """Its next update puts the old value back."""
    _publish(here, tmp_path, ami=here.image(10).id)
    tag = {"aws:cloudformation:stack-name": "network"}
    here.maker.ssm.add_tags_to_resource("Parameter", NAME, tag)

    done = _publish(here, tmp_path, ami=image.id)

    assert f"{NAME} in {REGION} belongs to the stack network" in done.err.getvalue()
    assert _value(here)["Value"] == image.id


def test_the_settings_name_the_parameter(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """A team that has one already keeps it."""
    _publish(here, tmp_path, ami=image.id, settings={"handover": Handover(parameter="/team/gpu")})

    assert _value(here, "/team/gpu")["Value"] == image.id


def test_the_wrong_account_is_refused(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """Before anything is looked up or put."""
    with pytest.raises(SafetyError, match=r"pipeline\.yaml says 999999999999"):
        _publish(here, tmp_path, ami=image.id, settings={"account": "999999999999"})

    assert "PutParameter" not in here.calls()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [({"ami": "ami-1"}, "is not an AMI id"), ({"ami": "ami-12345678", "parameter": "/aws/x"}, "is no parameter name")],
)
def test_bad_usage_is_refused_before_any_call(
    here: World, tmp_path: Path, arguments: dict[str, str], problem: str
) -> None:
    """Neither the network nor credentials are needed to see a slip."""
    before = here.calls()
    with pytest.raises(UsageError, match=problem):
        _publish(here, tmp_path, **arguments)
    assert here.calls() == before


@pytest.fixture
def bucket(here: World, tmp_path: Path) -> Any:
    """A client of S3; Terraform's state is in a bucket."""
    client = here.access.client("s3")
    client.create_bucket(Bucket="state", CreateBucketConfiguration={"LocationConstraint": REGION})
    config = {"bucket": "state", "key": "gpu/terraform.tfstate", "region": REGION}
    file = tmp_path / "terraform" / ".terraform" / "terraform.tfstate"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"version": 3, "backend": {"type": "s3", "config": config}}))
    return client


def test_the_receipt_reaches_the_bucket(here: World, tmp_path: Path, image: SandboxAmi, bucket: Any) -> None:
    """Clean-up on another machine protects what was published, and the AMI before it, by the bucket's copy."""
    _publish(here, tmp_path, ami=image.id)

    (stored,) = _receipts(tmp_path)
    text = bucket.get_object(Bucket="state", Key=f"gpu/receipts/{stored.path.name}")["Body"].read().decode()
    assert text == stored.path.read_text()
    assert json.loads(text)["status"] == "applied"


def test_a_bucket_that_refuses_holds_nothing_up(here: World, tmp_path: Path, image: SandboxAmi, bucket: Any) -> None:
    """The next job starts from the parameter; that others cannot see the receipt is exit 7, with what to grant."""
    here.aws.gate.deny("s3:PUT*", "s3:PutObject*")

    with pytest.raises(PartialError, match="s3:PutObject"):
        _publish(here, tmp_path, ami=image.id)

    assert _value(here)["Value"] == image.id
    (stored,) = _receipts(tmp_path)
    assert stored.receipt.status == "applied"
    assert "Contents" not in bucket.list_objects_v2(Bucket="state")


@pytest.mark.parametrize(("age", "status"), [(timedelta(hours=1), "applied"), (timedelta(minutes=1), "started")])
def test_a_killed_runs_receipt_is_completed_in_the_bucket(
    here: World,
    tmp_path: Path,
    image: SandboxAmi,
    bucket: Any,
    monkeypatch: pytest.MonkeyPatch,
    age: timedelta,
    status: str,
) -> None:
    """It may have been another machine's run, whose file is not here; a young one may still be under way there."""

    def killed(*_arguments: object, **_more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(parameters, "wait_for", killed)
        with pytest.raises(KeyboardInterrupt):
            _publish(here, tmp_path, ami=image.id)
    (stored,) = _receipts(tmp_path)
    stored.path.unlink()
    key = f"gpu/receipts/{stored.path.name}"
    older = msgspec.structs.replace(stored.receipt, when=stored.receipt.when - age)
    bucket.put_object(Bucket="state", Key=key, Body=receipt.encode(older).encode())

    _publish(here, tmp_path, ami=image.id)

    text = bucket.get_object(Bucket="state", Key=key)["Body"].read().decode()
    assert json.loads(text)["status"] == status


def test_what_else_lies_beside_the_receipts_holds_nothing_up(
    here: World, tmp_path: Path, image: SandboxAmi, bucket: Any
) -> None:
    """A receipt of a later version, or somebody's file: the parameter is what the next job needs."""
    bucket.put_object(Bucket="state", Key="gpu/receipts/x.json", Body=b'{"format": 9}')

    _publish(here, tmp_path, ami=image.id)

    assert _value(here)["Value"] == image.id
