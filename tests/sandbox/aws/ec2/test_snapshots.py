"""The local EC2's snapshots behave as EC2's: owners, pages, locks, and AMIs that need them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from gpu_ami_sandbox.aws.ec2.snapshots import SandboxSnapshot
from tests.support.resources import BASE, REGION, TAGS, an_image, refused, snapshot_of, tags_of

UNKNOWN = "snap-00000000000000000"


def a_snapshot(ec2: Any, gib: int = 8, **more: Any) -> str:
    """Make a snapshot of a new volume and return its id."""
    volume = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=gib)["VolumeId"]
    return str(ec2.create_snapshot(VolumeId=volume, **more)["SnapshotId"])


def test_a_snapshot_keeps_its_tags_and_sizes(ec2: Any) -> None:
    """`FullSnapshotSizeInBytes` is what savings are counted from."""
    specification = [{"ResourceType": "snapshot", "Tags": TAGS}]
    snapshot = a_snapshot(ec2, 10, Description="mine", TagSpecifications=specification)

    (shown,) = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]

    assert (shown["Description"], shown["VolumeSize"], tags_of(shown)) == ("mine", 10, {"gpu-ami:run": "r1"})
    assert shown["FullSnapshotSizeInBytes"] == 10 * 1024**3 * 35 // 100
    assert (shown["State"], shown["Progress"]) == ("completed", "100%")


def test_a_snapshot_that_an_image_needs_is_not_deleted(ec2: Any) -> None:
    """EC2 names the AMI that needs it."""
    image = an_image(ec2)

    with refused("InvalidSnapshot.InUse") as said:
        ec2.delete_snapshot(SnapshotId=snapshot_of(ec2, image))

    assert image in said.text


def test_a_snapshot_shared_by_two_images_outlives_the_first(ec2: Any) -> None:
    """Moto only knows the AMI that a snapshot was made for."""
    snapshot = a_snapshot(ec2)
    mappings = [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}]
    first = ec2.register_image(Name="first", BlockDeviceMappings=mappings)["ImageId"]
    second = ec2.register_image(Name="second", BlockDeviceMappings=mappings)["ImageId"]
    ec2.deregister_image(ImageId=first)

    with refused("InvalidSnapshot.InUse"):
        ec2.delete_snapshot(SnapshotId=snapshot)

    ec2.deregister_image(ImageId=second)
    ec2.delete_snapshot(SnapshotId=snapshot)


def test_another_owners_snapshot_is_not_deleted(ec2: Any) -> None:
    """Amazon's snapshots are visible, not ours."""
    (base,) = ec2.describe_images(ImageIds=[BASE])["Images"]

    with refused("AuthFailure"):
        ec2.delete_snapshot(SnapshotId=base["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"])


def test_an_unknown_snapshot_is_named(ec2: Any) -> None:
    """Moto's text is empty."""
    for action in (ec2.delete_snapshot, lambda SnapshotId: ec2.describe_snapshots(SnapshotIds=[SnapshotId])):  # noqa: N803
        with refused("InvalidSnapshot.NotFound") as said:
            action(SnapshotId=UNKNOWN)
        assert said.text == f"The snapshot '{UNKNOWN}' does not exist."


def test_a_locked_snapshot_stays_until_it_is_unlocked(ec2: Any) -> None:
    """Locks are a reason to keep an AMI."""
    snapshot = a_snapshot(ec2)

    ec2.lock_snapshot(SnapshotId=snapshot, LockMode="governance", LockDuration=30)

    (lock,) = ec2.describe_locked_snapshots()["Snapshots"]
    assert (lock["SnapshotId"], lock["LockState"], lock["LockDuration"]) == (snapshot, "governance", 30)
    assert (lock["LockExpiresOn"] - lock["LockCreatedOn"]).days == 30
    assert ec2.describe_locked_snapshots(SnapshotIds=[UNKNOWN])["Snapshots"] == []
    with refused("SnapshotLocked"):
        ec2.delete_snapshot(SnapshotId=snapshot)
    ec2.unlock_snapshot(SnapshotId=snapshot)
    ec2.delete_snapshot(SnapshotId=snapshot)


def test_a_lock_can_end_at_a_date(ec2: Any) -> None:
    """The second way that EC2 offers."""
    end = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=400)

    answer = ec2.lock_snapshot(SnapshotId=a_snapshot(ec2), LockMode="compliance", ExpirationDate=end)

    assert answer["LockExpiresOn"] == end


def test_owners_are_told_apart(ec2: Any) -> None:
    """Moto ignores OwnerIds: everything would seem ours."""
    own = a_snapshot(ec2)

    def ids(**arguments: Any) -> set[str]:
        return {s["SnapshotId"] for s in ec2.describe_snapshots(**arguments)["Snapshots"]}

    assert ids(OwnerIds=["self"]) == {own}
    assert ids(OwnerIds=["999999999999"]) == set()
    assert len(ids(OwnerIds=["amazon"])) == 1
    assert own not in ids(OwnerIds=["amazon"])
    assert ids(RestorableByUserIds=["self"]) > {own}
    assert ids(RestorableByUserIds=["999999999999"]) == set()

    public, given = a_snapshot(ec2), a_snapshot(ec2)
    share = {"Attribute": "createVolumePermission", "OperationType": "add"}
    ec2.modify_snapshot_attribute(SnapshotId=public, GroupNames=["all"], **share)
    ec2.modify_snapshot_attribute(SnapshotId=given, UserIds=["999999999999"], **share)
    assert ids(OwnerIds=["self"], RestorableByUserIds=["all"]) == {public}
    assert ids(OwnerIds=["self"], RestorableByUserIds=["999999999999"]) == {given}


def test_snapshots_come_in_pages(ec2: Any) -> None:
    """All of them, once each."""
    made = {a_snapshot(ec2) for _ in range(5)}

    pages = list(ec2.get_paginator("describe_snapshots").paginate(OwnerIds=["self"], MaxResults=2))

    assert [len(p["Snapshots"]) for p in pages] == [2, 2, 1]
    assert {s["SnapshotId"] for p in pages for s in p["Snapshots"]} == made


@pytest.mark.parametrize(
    ("name", "value", "finds"),
    [
        ("description", "mi*", True),
        ("encrypted", "false", True),
        ("encrypted", "true", False),
        ("progress", "100%", True),
        ("snapshot-id", "snap-*", True),
        ("start-time", "20*", True),
        ("status", "completed", True),
        ("status", "pending", False),
        ("storage-tier", "standard", True),
        ("tag:gpu-ami:run", "r1", True),
        ("tag:gpu-ami:run", "r2", False),
        ("volume-id", "vol-*", True),
        ("volume-size", "8", True),
        ("owner-id", "999999999999", False),
    ],
)
def test_snapshot_filters(ec2: Any, name: str, value: str, finds: bool) -> None:
    """Each filter of the clean-up finds what it should and nothing else."""
    specification = [{"ResourceType": "snapshot", "Tags": TAGS}]
    snapshot = a_snapshot(ec2, Description="mine", TagSpecifications=specification)

    found = ec2.describe_snapshots(OwnerIds=["self"], Filters=[{"Name": name, "Values": [value]}])["Snapshots"]

    assert [s["SnapshotId"] for s in found] == ([snapshot] if finds else [])


def test_copy_snapshot_keeps_what_it_copies(ec2: Any) -> None:
    """A copy has its own id, its source's size and the given tags."""
    source = a_snapshot(ec2, 12)
    specification = [{"ResourceType": "snapshot", "Tags": TAGS}]

    copy = ec2.copy_snapshot(
        SourceSnapshotId=source, SourceRegion=REGION, Description="copy", TagSpecifications=specification
    )["SnapshotId"]

    (shown,) = ec2.describe_snapshots(SnapshotIds=[copy])["Snapshots"]
    assert copy != source
    assert (shown["VolumeSize"], shown["Description"], tags_of(shown)) == (12, "copy", {"gpu-ami:run": "r1"})
    assert shown["FullSnapshotSizeInBytes"] == 12 * 1024**3 * 35 // 100


def test_there_are_no_fast_snapshot_restores(ec2: Any) -> None:
    """The action exists and says so."""
    assert ec2.describe_fast_snapshot_restores()["FastSnapshotRestores"] == []


def test_a_snapshot_can_be_in_a_state_of_its_own(ec2: Any, aws: Any) -> None:
    """Tests of failed snapshots set it; completion must not overwrite it."""
    from moto.ec2.models import ec2_backends

    snapshot = ec2_backends[aws.account_id][REGION].snapshots[a_snapshot(ec2)]
    assert isinstance(snapshot, SandboxSnapshot)

    snapshot.status = "error"

    (shown,) = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert shown["State"] == "error"
