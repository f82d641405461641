"""Files that version 0.1.0 wrote (commit 4b13ee5, tests/data/v0/) read today as they read then.

They were made by real runs on the local AWS. They are not named as the pipeline names its files, because clean-up reads
every receipt and manifest in the working tree.
"""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest

from gpu_ami.cleanup import journal, local_references, plan_document
from gpu_ami.cleanup.journal_events import SnapshotOutcome
from gpu_ami.cleanup.local_references import protected_by_receipts
from gpu_ami.cost import price_table
from gpu_ami.deploy import history
from gpu_ami.records import manifest_file, receipt, release
from tests.support.schemas import problems

DATA = Path(__file__).parent / "data" / "v0"
ACCOUNT, REGION = "123456789012", "ap-northeast-2"
COMMIT = "4b13ee5"
# In the order in which they were live.
FIRST, SECOND, THIRD = "ami-8aec5473349c871eb", "ami-6c1a1fbfaedf09774", "ami-4c4246e957b8cf842"
SPOT, ON_DEMAND = (f'aws_batch_compute_environment.gpu["{market}"]' for market in ("spot", "on_demand"))
PARAMETER = f"ssm:{REGION}:/gpu-ami/gpu-batch/ami-id"
# Whole runs; what they say while they are under way is in receipt-*-started.json.
ENDED = (
    "apply-applied-first",
    "apply-applied",
    "apply-failed",
    "rollback-applied",
    "publish-applied",
    "publish-failed",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The receipts of one root module."""
    made = tmp_path / "terraform" / "receipts"
    made.mkdir(parents=True)
    for name in ENDED:
        shutil.copy(DATA / f"receipt-{name}.json", made / f"{name}.json")
    return made


def test_receipts_tell_the_same_history(folder: Path) -> None:
    """They are the way back, and are committed: years of them lie in other people's repositories."""
    found = receipt.load(folder)

    assert [(stored.receipt.action, stored.receipt.status) for stored in found] == [
        ("apply", "applied"),
        ("apply", "applied"),
        ("apply", "failed"),
        ("rollback", "applied"),
        ("publish", "applied"),
        ("publish", "failed"),
    ]
    second = found[1].receipt
    assert {(change.address, change.old, change.new) for change in second.changes} == {
        (SPOT, FIRST, SECOND),
        (ON_DEMAND, FIRST, SECOND),
    }
    assert (second.account, second.region, second.who) == (ACCOUNT, REGION, f"arn:aws:iam::{ACCOUNT}:user/sandbox")
    assert second.when == datetime(2026, 11, 30, 4, 44, 47, 642512, tzinfo=timezone.utc)
    assert second.ended == datetime(2026, 11, 30, 4, 44, 47, 873502, tzinfo=timezone.utc)
    assert second.git_commit is not None
    assert second.git_commit.startswith(COMMIT)
    assert second.plan_sha256 is not None
    assert "has moved to ami-4c4246e957b8cf842 and is VALID" in str(found[2].receipt.note)
    assert found[4].receipt.changes == (receipt.Change(address=PARAMETER, old=None, new=FIRST),)
    assert receipt.unfinished(found) == ()


def test_rollback_goes_where_it_went(folder: Path) -> None:
    """Back on the second AMI after a rollback, the one before it is the first."""
    steps = history.steps_back(receipt.load(folder), {SPOT: SECOND, ON_DEMAND: SECOND})

    assert {(step.address, step.back) for step in steps} == {(SPOT, FIRST), (ON_DEMAND, FIRST)}


@pytest.mark.parametrize("action", ["apply", "rollback", "publish"])
def test_a_receipt_of_a_killed_run_is_still_open(folder: Path, action: str) -> None:
    """The next run has to find out what became of it."""
    shutil.copy(DATA / f"receipt-{action}-started.json", folder / "open.json")

    (left,) = receipt.unfinished(receipt.load(folder))

    assert (left.path.name, left.receipt.action, left.receipt.ended) == ("open.json", action, None)


def test_clean_up_keeps_what_they_name(folder: Path) -> None:
    """What is live, what may be, and what a rollback goes to."""
    texts = [(file.name, file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]

    assert {reference.target for reference in protected_by_receipts(texts)} >= {FIRST, SECOND, THIRD}


def test_a_whole_journal_can_still_be_undone() -> None:
    """Tags and snapshots are gone with the AMI; nothing but the journal has them."""
    replay = journal.read(DATA / "journal-complete.jsonl")

    assert (replay.account, replay.is_settled) == (ACCOUNT, True)
    assert [(entry.mode, entry.status) for entry in replay.entries.values()] == [("delete", "done")] * 2
    entry = replay.entries["ami-4c4246e957b8cf842"]
    assert (entry.image.region, entry.image.name) == (REGION, "gpu-batch-20260514012450")
    assert entry.image.created == datetime(2026, 5, 14, 1, 24, 50, tzinfo=timezone.utc)
    assert entry.image.tags["note"] == "a\u2028b"
    assert entry.image.snapshot_ids == ("snap-84be7f7356fcf5616",)
    assert entry.snapshot_status == {"snap-84be7f7356fcf5616": SnapshotOutcome("deleted")}
    assert entry.snapshots[0].tags["gpu-ami:family"] == "gpu-batch"


def test_a_journal_that_was_cut_short_is_finished_by_the_next_run(tmp_path: Path) -> None:
    """Half a line says nothing; the intention before it does."""
    shutil.copy(DATA / "journal-cut-short.jsonl", tmp_path / "cleanup-20261130T044453Z-abcdef.jsonl")

    (replay,) = journal.unfinished(tmp_path, ACCOUNT)

    assert [(key, entry.is_open) for key, entry in replay.entries.items()] == [("ami-4c4246e957b8cf842", True)]


def test_a_restored_journal_says_so() -> None:
    """A second restore has nothing to do."""
    replay = journal.read(DATA / "journal-restored.jsonl")

    assert {entry.status for entry in replay.entries.values()} == {"restored"}


def test_a_plan_can_still_be_carried_out() -> None:
    """It is reviewed on one day by one person and applied by another's newer checkout."""
    made = datetime(2026, 11, 30, 4, 44, 50, tzinfo=timezone.utc)
    saved = plan_document.load(DATA / "cleanup-plan.json", account=ACCOUNT, now=made + timedelta(hours=1))

    assert (saved.account, saved.regions, saved.roles, saved.orphans) == (ACCOUNT, (REGION,), (), frozenset())
    assert saved.images == {(REGION, "ami-4c4246e957b8cf842"), (REGION, "ami-5d20c3442b521eff4")}
    assert (saved.policy.keep, saved.policy.older_than, saved.policy.mode) == (1, timedelta(days=30), "delete")
    assert problems("cleanup", json.loads((DATA / "cleanup-plan.json").read_text(encoding="utf-8"))) == []


def test_a_manifest_and_a_release_record_are_those_of_the_build() -> None:
    """What `update-tfvars`, `publish`, `cost` and `status` start from."""
    (build,) = manifest_file.load(DATA / "builds.json").last_run
    record = release.load(DATA / "bake.json", run_id=(build.custom_data or {})["run_id"])

    assert build.amis == {REGION: "ami-189b9b028dde91c56"}
    assert (build.name, build.builder_type) == ("gpu", "amazon-ebs")
    assert (build.custom_data or {})["git_commit"].startswith(COMMIT)
    assert record.source_ami.id == (build.custom_data or {})["source_ami"]
    assert [model.path for model in record.models.files] == ["detector.pt", "ocr/recognizer.bin", "tracker.onnx"]
    assert (record.bake_seconds, record.image.size_bytes, record.used_bytes) == (60, 3420489, 28065406976)


def test_a_price_table_is_read_to_the_cent() -> None:
    """The sandbox keeps one in .sandbox/prices.yaml."""
    prices = price_table.load(DATA / "prices.yaml")

    assert prices.rate(REGION, "snapshot_usd_per_gib_month").value == Decimal("0.05")
    assert prices.hourly(REGION, "g5.xlarge", "on-demand").mid.value == Decimal("1.237")


def test_clean_up_of_this_repository_does_not_take_them_for_its_own() -> None:
    """An AMI that a sample names would never be removed in the sandbox."""
    for source in local_references.scan(DATA.parent, state=lambda: None):
        assert (source.report.status, source.references) == ("skipped", ()), source.report.name
