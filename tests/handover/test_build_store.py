"""Archives of builds beside the state in S3: another machine reads them, and no receipt is among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami.errors import AwsError, UsageError
from gpu_ami.handover.build_store import BuildStore
from gpu_ami.handover.receipt_store import ReceiptStore
from gpu_ami.records.archive import BILL, LIMITS, PROVENANCE, RELEASE
from tests.support.account import REGION, World

BUCKET = "builds-state"
AMI = "ami-0123456789abcdef0"
OTHER = "ami-0123456789abcdef1"
FILES = {RELEASE: '{"run_id": "é"}', BILL: "{}"}


def _backend(terraform: Path, key: str) -> None:
    file = terraform / ".terraform" / "terraform.tfstate"
    file.parent.mkdir(parents=True)
    config = {"bucket": BUCKET, "key": key, "region": REGION}
    file.write_text(json.dumps({"version": 3, "backend": {"type": "s3", "config": config}}))


def _s3(here: World) -> Any:
    client = here.access.client("s3")
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    return client


@pytest.mark.parametrize("key", ["gpu/terraform.tfstate", "terraform.tfstate"])
def test_another_machine_reads_what_one_has_kept(here: World, tmp_path: Path, key: str) -> None:
    """Under builds/ beside receipts/: earlier versions refuse every receipt for one file there that is none."""
    s3, (ours, theirs) = _s3(here), (tmp_path / "ours", tmp_path / "theirs")
    for folder in (ours, theirs):
        _backend(folder, key)
    prefix = key.removesuffix("terraform.tfstate")

    BuildStore(ours / "builds", ours, here.access).keep(AMI, FILES)
    found = BuildStore(theirs / "builds", theirs, here.access)

    keys = [row["Key"] for row in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert keys == [f"{prefix}builds/{AMI}/{name}" for name in sorted(FILES)]
    read = found.read(AMI)
    assert (read.files, read.where) == (FILES, f"s3://{BUCKET}/{prefix}builds/{AMI}/")
    assert found.read(OTHER).files == {}
    # What the tree has counts, and is not looked for elsewhere.
    here.aws.gate.deny("s3:*")
    read = BuildStore(ours / "builds", ours, here.access).read(AMI, FILES)
    assert (read.files, read.where) == (FILES, str(ours / "builds" / AMI))
    here.aws.gate.clear()
    assert ReceiptStore(theirs, here.access).all() == ()


def test_what_the_bucket_holds_is_judged_as_a_file_is(here: World, tmp_path: Path) -> None:
    """Whoever may write there may write anything: 100 MB are not read, and what is no text is one line."""
    s3 = _s3(here)
    _backend(tmp_path, "t")
    store = BuildStore(tmp_path / "builds", tmp_path, here.access)
    s3.put_object(Bucket=BUCKET, Key=f"builds/{AMI}/{PROVENANCE}", Body=b" " * (LIMITS[PROVENANCE] + 2))
    s3.put_object(Bucket=BUCKET, Key=f"builds/{AMI}/{BILL}", Body=b"\xff")

    with pytest.raises(UsageError, match=rf"s3://{BUCKET}/builds/{AMI}/provenance\.json is larger than 4 MiB"):
        store.read(AMI, [PROVENANCE])
    with pytest.raises(UsageError, match=rf"{AMI}/bill\.cdx\.json is not UTF-8"):
        store.read(AMI, [BILL])
    with pytest.raises(UsageError, match="no file of an archive"):
        store.share(AMI, {"1.json": "{}"})


def test_a_bucket_that_cannot_be_used_is_said(here: World, tmp_path: Path) -> None:
    """What is in the tree stays there; that it is in no bucket must not pass unnoticed."""
    _backend(tmp_path, "t")
    store = BuildStore(tmp_path / "builds", tmp_path, here.access)

    with pytest.raises(AwsError, match=f"write s3://{BUCKET}/builds/{AMI}/release.json"):
        store.keep(AMI, FILES)
    with pytest.raises(AwsError, match=f"read s3://{BUCKET}/builds/{AMI}/provenance.json"):
        store.read(AMI)

    assert store.read(AMI, FILES).files == FILES


def test_without_a_state_in_s3_the_tree_is_all_there_is(here: World, tmp_path: Path) -> None:
    """Nothing is asked of AWS."""
    store = BuildStore(tmp_path / "builds", tmp_path, Access(region=REGION, endpoint_url="http://127.0.0.1:1"))

    store.keep(AMI, FILES)

    assert store.read(AMI).files == FILES
    assert store.url(AMI) is None
