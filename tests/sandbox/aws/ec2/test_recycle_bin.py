"""The Recycle Bin: what a rule keeps can be listed and brought back, and nothing else can."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from moto.ec2.models import ec2_backends

from gpu_ami.aws.access import Access
from gpu_ami_sandbox.aws.ec2.recycle_bin import IMAGE, SNAPSHOT, VOLUME, RecycleBin, recycle_bin
from tests.support.resources import REGION, TAGS, an_image, an_instance, refused, snapshot_of, tags_of, the_image

BOTH = [{"ResourceType": "image", "Tags": TAGS}, {"ResourceType": "snapshot", "Tags": TAGS}]


def a_rule(access: Access, kind: str, days: int = 7, **more: Any) -> str:
    """Make a rule and return its identifier."""
    period = {"RetentionPeriodValue": days, "RetentionPeriodUnit": "DAYS"}
    return str(access.client("rbin").create_rule(ResourceType=kind, RetentionPeriod=period, **more)["Identifier"])


def tag(key: str, value: str) -> dict[str, str]:
    """Return a tag as rbin writes it."""
    return {"ResourceTagKey": key, "ResourceTagValue": value}


@pytest.mark.parametrize(
    ("rule", "tags", "days"),
    [
        ({}, {}, 7),
        ({"ResourceTags": [tag("a", "1")]}, {"a": "1"}, 7),
        ({"ResourceTags": [tag("a", "1")]}, {"a": "2"}, 0),
        ({"ResourceTags": [tag("a", "1"), tag("b", "1")]}, {"b": "1"}, 7),
        ({"ResourceTags": [{"ResourceTagKey": "a"}]}, {"a": "any"}, 7),
        ({"ResourceTags": [tag("a", "1")]}, {}, 0),
        ({"ExcludeResourceTags": [tag("a", "1")]}, {"a": "1"}, 0),
        ({"ExcludeResourceTags": [tag("a", "1")]}, {"a": "2"}, 7),
        ({"ResourceType": SNAPSHOT}, {}, 0),
    ],
    ids=["region", "tag", "other value", "one of two", "any value", "untagged", "excluded", "not", "other type"],
)
def test_which_rule_keeps_what(rule: dict[str, Any], tags: dict[str, str], days: int) -> None:
    """An AMI may only be called recoverable where a rule really matches."""
    bin_ = RecycleBin()
    period = {"RetentionPeriodValue": 7, "RetentionPeriodUnit": "DAYS"}
    bin_.add_rule({"ResourceType": IMAGE, "RetentionPeriod": period} | rule, "arn")

    assert bin_.retention_days(IMAGE, tags) == days


def test_an_image_and_its_snapshot_come_back_as_they_were(ec2: Any, access: Access) -> None:
    """Snapshots first, then the AMI; tags and volumes survive."""
    a_rule(access, IMAGE, 14)
    a_rule(access, SNAPSHOT, 14)
    image = an_image(ec2, TagSpecifications=BOTH)
    snapshot = snapshot_of(ec2, image)
    before = the_image(ec2, image)
    ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)

    (kept,) = ec2.list_images_in_recycle_bin()["Images"]
    (kept_snapshot,) = ec2.list_snapshots_in_recycle_bin(SnapshotIds=[snapshot])["Snapshots"]
    with refused("InvalidSnapshot.NotFound"):
        ec2.restore_image_from_recycle_bin(ImageId=image)
    restored = ec2.restore_snapshot_from_recycle_bin(SnapshotId=snapshot)
    assert ec2.restore_image_from_recycle_bin(ImageId=image)["Return"] is True

    assert (kept["ImageId"], kept["Name"]) == (image, before["Name"])
    assert kept["RecycleBinExitTime"] - kept["RecycleBinEnterTime"] == timedelta(days=14)
    assert kept_snapshot["SnapshotId"] == restored["SnapshotId"] == snapshot
    assert the_image(ec2, image) == before
    (shown,) = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
    assert tags_of(shown) == {"gpu-ami:run": "r1"}
    assert ec2.list_images_in_recycle_bin()["Images"] == ec2.list_snapshots_in_recycle_bin()["Snapshots"] == []


def test_without_a_rule_nothing_is_kept(ec2: Any) -> None:
    """`--permanent` is about exactly this."""
    image = an_image(ec2)
    snapshot = snapshot_of(ec2, image)
    ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)

    assert ec2.list_images_in_recycle_bin()["Images"] == []
    with refused("InvalidAMIID.NotFound"):
        ec2.restore_image_from_recycle_bin(ImageId=image)
    with refused("InvalidSnapshot.NotFound"):
        ec2.restore_snapshot_from_recycle_bin(SnapshotId=snapshot)


def test_what_is_past_its_time_is_gone(ec2: Any, access: Access, aws: Any) -> None:
    """A restore after the retention fails even if nobody has emptied the bin."""
    a_rule(access, IMAGE, 1)
    image = an_image(ec2)
    ec2.deregister_image(ImageId=image)
    bin_ = recycle_bin(ec2_backends[aws.account_id][REGION])

    later = datetime.now(timezone.utc).replace(tzinfo=None) + timedelta(days=2)  # moto keeps naive UTC
    bin_.clock = lambda: later

    assert ec2.list_images_in_recycle_bin()["Images"] == []
    with refused("InvalidAMIID.NotFound"):
        ec2.restore_image_from_recycle_bin(ImageId=image)


def test_rules_can_be_read_changed_and_removed(access: Access) -> None:
    """Each field of a rule reads back."""
    rbin = access.client("rbin")
    made = a_rule(access, IMAGE, 7, Description="ours", ResourceTags=[tag("gpu-ami:family", "gpu-batch")])
    a_rule(access, SNAPSHOT)

    (listed,) = rbin.list_rules(ResourceType=IMAGE)["Rules"]
    rule = rbin.get_rule(Identifier=made)
    changed = rbin.update_rule(
        Identifier=made, RetentionPeriod={"RetentionPeriodValue": 9, "RetentionPeriodUnit": "DAYS"}
    )
    by_tag = rbin.list_rules(ResourceType=IMAGE, ResourceTags=[tag("gpu-ami:family", "other")])["Rules"]
    rbin.delete_rule(Identifier=made)

    assert (listed["Identifier"], listed["Description"]) == (made, "ours")
    assert listed["RetentionPeriod"] == {"RetentionPeriodValue": 7, "RetentionPeriodUnit": "DAYS"}
    assert (rule["ResourceType"], rule["Status"], rule["LockState"]) == (IMAGE, "available", "unlocked")
    assert rule["ResourceTags"] == [tag("gpu-ami:family", "gpu-batch")]
    assert rule["RuleArn"].endswith(f"rule/{made}")
    assert changed["RetentionPeriod"]["RetentionPeriodValue"] == 9
    assert by_tag == []
    assert rbin.list_rules(ResourceType=IMAGE)["Rules"] == []
    with refused("ResourceNotFoundException"):
        rbin.get_rule(Identifier=made)


def test_a_locked_rule_says_so(access: Access) -> None:
    """The lock state is part of what a plan shows."""
    delay = {"UnlockDelay": {"UnlockDelayValue": 7, "UnlockDelayUnit": "DAYS"}}

    made = a_rule(access, IMAGE, LockConfiguration=delay)

    assert access.client("rbin").get_rule(Identifier=made)["LockState"] == "locked"


def test_rules_come_in_pages(access: Access) -> None:
    """All of them, once each."""
    made = {a_rule(access, IMAGE) for _ in range(3)}

    pages = list(access.client("rbin").get_paginator("list_rules").paginate(ResourceType=IMAGE, MaxResults=2))

    assert [len(p["Rules"]) for p in pages] == [2, 1]
    assert {r["Identifier"] for p in pages for r in p["Rules"]} == made


def test_volumes_go_to_the_bin_by_themselves_and_with_their_instance(ec2: Any, access: Access) -> None:
    """Both ways they are billed for some more days, and the longest of the rules that match counts."""
    a_rule(access, VOLUME, 2)
    a_rule(access, VOLUME, 7, ResourceTags=[tag("a", "1")])
    zone = ec2.describe_subnets()["Subnets"][0]["AvailabilityZone"]
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "1"}]}]
    free = ec2.create_volume(AvailabilityZone=zone, Size=8, TagSpecifications=tags)["VolumeId"]
    instance = an_instance(ec2)
    wanted = [{"Name": "attachment.instance-id", "Values": [instance]}]
    (attached,) = ec2.describe_volumes(Filters=wanted)["Volumes"]
    assert [row["DeleteOnTermination"] for row in attached["Attachments"]] == [True]

    ec2.delete_volume(VolumeId=free)
    ec2.terminate_instances(InstanceIds=[instance])

    rows = {row["VolumeId"]: row for row in ec2.list_volumes_in_recycle_bin()["Volumes"]}
    kept = {key: row["RecycleBinExitTime"] - row["RecycleBinEnterTime"] for key, row in rows.items()}
    assert kept == {free: timedelta(days=7), attached["VolumeId"]: timedelta(days=2)}
    assert ec2.describe_volumes()["Volumes"] == []


def test_a_volume_that_no_rule_keeps_is_gone(ec2: Any, access: Access) -> None:
    """As before there were such rules; one for snapshots is none."""
    a_rule(access, SNAPSHOT)
    a_rule(access, VOLUME, 7, ExcludeResourceTags=[tag("gpu-ami:run", "r1")])
    zone = ec2.describe_subnets()["Subnets"][0]["AvailabilityZone"]
    tags = [{"ResourceType": "volume", "Tags": TAGS}]
    volume = ec2.create_volume(AvailabilityZone=zone, Size=8, TagSpecifications=tags)["VolumeId"]

    ec2.delete_volume(VolumeId=volume)

    assert ec2.list_volumes_in_recycle_bin()["Volumes"] == []
