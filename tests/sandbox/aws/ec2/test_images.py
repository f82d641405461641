"""The local EC2's AMIs behave as EC2's: what the build and the clean-up rely on, field by field."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami_sandbox.aws import paging
from gpu_ami_sandbox.aws.ec2 import images
from tests.support.resources import BASE, REGION, TAGS, an_image, an_instance, refused, snapshot_of, tags_of, the_image

UNKNOWN = "ami-00000000000000000"


def test_create_image_keeps_the_instances_volumes(ec2: Any) -> None:
    """The AMI's root volume is the build's, not a default: size, type, speed and encryption survive."""
    instance = an_instance(ec2, gib=90, ebs={"Iops": 6000, "Throughput": 500})

    image = the_image(ec2, ec2.create_image(InstanceId=instance, Name="made", Description="d")["ImageId"])

    (mapping,) = image["BlockDeviceMappings"]
    assert mapping["DeviceName"] == image["RootDeviceName"] == "/dev/xvda"
    snapshot_id = mapping["Ebs"].pop("SnapshotId")
    assert mapping["Ebs"] == {
        "VolumeSize": 90,
        "VolumeType": "gp3",
        "Iops": 6000,
        "Throughput": 500,
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    (snapshot,) = ec2.describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"]
    assert snapshot["Description"] == f"Created by CreateImage({instance}) for {image['ImageId']}"
    assert (snapshot["VolumeSize"], snapshot["Encrypted"]) == (90, True)
    assert 0 < snapshot["FullSnapshotSizeInBytes"] < 90 * 1024**3


def test_create_image_says_what_it_was_made_of(ec2: Any) -> None:
    """Lineage and facts that `status` and `cleanup` read are on the AMI."""
    instance = an_instance(ec2)

    image = the_image(ec2, ec2.create_image(InstanceId=instance, Name="made", Description="d")["ImageId"])

    assert image["SourceImageId"] == BASE
    assert image["SourceImageRegion"] == REGION
    assert image["SourceInstanceId"] == instance
    assert image["ImdsSupport"] == "v2.0"
    assert (image["Name"], image["Description"], image["Public"]) == ("made", "d", False)
    assert (image["Architecture"], image["VirtualizationType"], image["RootDeviceType"]) == ("x86_64", "hvm", "ebs")
    assert image["EnaSupport"] is True
    assert image["DeregistrationProtection"] == "disabled"


def test_create_image_tags_image_and_snapshots_apart(ec2: Any) -> None:
    """Packer sends run tags for both kinds in CreateImage; each must land where it belongs."""
    specifications = [
        {"ResourceType": "image", "Tags": [{"Key": "of", "Value": "image"}]},
        {"ResourceType": "snapshot", "Tags": [{"Key": "of", "Value": "snapshot"}]},
    ]

    image = an_image(ec2, TagSpecifications=specifications)

    assert tags_of(the_image(ec2, image)) == {"of": "image"}
    (snapshot,) = ec2.describe_snapshots(SnapshotIds=[snapshot_of(ec2, image)])["Snapshots"]
    assert tags_of(snapshot) == {"of": "snapshot"}


def test_create_image_refuses_a_name_that_is_taken(ec2: Any) -> None:
    """AMI names are unique in an account: a build must not believe it made a second one."""
    first = an_image(ec2, "same")

    with refused("InvalidAMIName.Duplicate") as said:
        an_image(ec2, "same")

    assert first in said.text


def test_create_image_refuses_an_instance_that_is_gone(ec2: Any) -> None:
    """An instance that is terminated has no volumes to snapshot."""
    instance = an_instance(ec2)
    ec2.terminate_instances(InstanceIds=[instance])

    with refused("IncorrectInstanceState"):
        ec2.create_image(InstanceId=instance, Name="made")


def test_a_new_image_is_pending_with_a_snapshot_that_fills(ec2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The progress display has something real to show."""
    monkeypatch.setattr(images, "PENDING_S", 60.0)

    image = an_image(ec2)

    (listed,) = ec2.describe_images(Owners=["self"])["Images"]
    assert (listed["ImageId"], listed["State"]) == (image, "pending")
    (snapshot,) = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert snapshot["State"] == "pending"
    assert 0 <= int(snapshot["Progress"].removesuffix("%")) < 100


def test_asking_for_a_pending_image_by_id_waits_until_it_is_ready(ec2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiter finds it available at its first query instead of sleeping for seconds."""
    monkeypatch.setattr(images, "PENDING_S", 0.2)
    image = an_image(ec2)

    assert the_image(ec2, image)["State"] == "available"
    (snapshot,) = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert (snapshot["State"], snapshot["Progress"]) == ("completed", "100%")


def test_deprecation_is_kept_to_the_minute_and_can_be_taken_back(ec2: Any) -> None:
    """`deprecate_at` of the template ends up where people read it."""
    image, moment = an_image(ec2), datetime.now(timezone.utc) + timedelta(days=90)

    ec2.enable_image_deprecation(ImageId=image, DeprecateAt=moment)
    kept = the_image(ec2, image)["DeprecationTime"]
    ec2.disable_image_deprecation(ImageId=image)

    assert kept == moment.strftime("%Y-%m-%dT%H:%M:00.000Z")
    assert "DeprecationTime" not in the_image(ec2, image)


def test_deprecation_in_the_past_is_refused(ec2: Any) -> None:
    """EC2 refuses it, so a template that computes it wrongly must fail here too."""
    with refused("InvalidParameterValue"):
        ec2.enable_image_deprecation(ImageId=an_image(ec2), DeprecateAt=datetime(2020, 1, 1, tzinfo=timezone.utc))


@pytest.mark.parametrize(
    ("cooldown", "shown"),
    [(True, "enabled-with-cooldown"), (False, "enabled-without-cooldown")],
    ids=["with cooldown", "without"],
)
def test_a_protected_image_is_not_deregistered(ec2: Any, cooldown: bool, shown: str) -> None:
    """Protection is enforced, not only shown."""
    image = an_image(ec2)

    ec2.enable_image_deregistration_protection(ImageId=image, WithCooldown=cooldown)

    assert the_image(ec2, image)["DeregistrationProtection"] == shown
    attribute = ec2.describe_image_attribute(ImageId=image, Attribute="deregistrationProtection")
    assert attribute["DeregistrationProtection"] == {"Value": shown}
    with refused("OperationNotPermitted"):
        ec2.deregister_image(ImageId=image)
    ec2.disable_image_deregistration_protection(ImageId=image)
    ec2.deregister_image(ImageId=image)


def test_disabling_hides_an_image_and_takes_its_permissions(ec2: Any) -> None:
    """`--mode disable` is refused for shared AMIs because of exactly this loss."""
    image = an_image(ec2)
    ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": "210987654321"}]})

    ec2.disable_image(ImageId=image)

    assert ec2.describe_images(Owners=["self"])["Images"] == []
    (hidden,) = ec2.describe_images(Owners=["self"], IncludeDisabled=True)["Images"]
    assert hidden["State"] == "disabled"
    assert ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")["LaunchPermissions"] == []
    with refused("InvalidAMIID.Unavailable"):
        an_instance(ec2, image)
    ec2.enable_image(ImageId=image)
    assert the_image(ec2, image)["State"] == "available"


def test_deregistering_with_snapshots_says_what_became_of_each(ec2: Any) -> None:
    """Shared and locked snapshots stay; the caller must read the answer to know."""
    image = an_image(ec2)
    own = snapshot_of(ec2, image)
    shared, locked = (ec2.create_snapshot(VolumeId=_a_volume(ec2))["SnapshotId"] for _ in range(2))
    ec2.register_image(Name="other", BlockDeviceMappings=[_mapping("/dev/xvda", shared)])
    mappings = [_mapping("/dev/xvda", own), _mapping("/dev/xvdb", shared), _mapping("/dev/xvdc", locked)]
    ec2.deregister_image(ImageId=image)
    three = ec2.register_image(Name="three", BlockDeviceMappings=mappings)["ImageId"]
    ec2.lock_snapshot(SnapshotId=locked, LockMode="governance", LockDuration=7)

    answer = ec2.deregister_image(ImageId=three, DeleteAssociatedSnapshots=True)

    assert answer["Return"] is True
    assert {r["SnapshotId"]: r["ReturnCode"] for r in answer["DeleteSnapshotResults"]} == {
        own: "success",
        shared: "skipped",
        locked: "client-error",
    }
    left = {s["SnapshotId"] for s in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}
    assert left == {shared, locked}


def test_deregistering_alone_leaves_the_snapshot(ec2: Any) -> None:
    """That is how orphans come to be; `cleanup --orphans` needs them to."""
    image = an_image(ec2)
    snapshot = snapshot_of(ec2, image)

    answer = ec2.deregister_image(ImageId=image)

    assert answer.get("DeleteSnapshotResults", []) == []
    assert len(ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]) == 1


def test_a_dry_run_deregisters_nothing(ec2: Any) -> None:
    """One emulator really deletes then."""
    image = an_image(ec2)

    with refused("DryRunOperation"):
        ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True, DryRun=True)

    assert the_image(ec2, image)["ImageId"] == image


def test_a_deregistered_image_is_unavailable_not_unknown(ec2: Any) -> None:
    """Twice is told apart from never; a query by id gives an empty list, as on EC2."""
    image = an_image(ec2)
    ec2.deregister_image(ImageId=image)

    with refused("InvalidAMIID.Unavailable"):
        ec2.deregister_image(ImageId=image)
    assert ec2.describe_images(ImageIds=[image])["Images"] == []
    with refused("InvalidAMIID.Unavailable"):
        an_instance(ec2, image)


@pytest.mark.parametrize(
    ("image_id", "code"),
    [(UNKNOWN, "InvalidAMIID.NotFound"), ("ami-nonsense", "InvalidAMIID.Malformed"), (BASE, "AuthFailure")],
    ids=["unknown", "malformed", "another owner's"],
)
def test_deregistering_what_is_not_ours_is_refused(ec2: Any, image_id: str, code: str) -> None:
    """Each mistake has EC2's own error code."""
    with refused(code):
        ec2.deregister_image(ImageId=image_id)


def test_an_image_of_aws_backup_is_refused(ec2: Any, aws: Any) -> None:
    """EC2 refuses these with a text that the clean-up shows."""
    image = an_image(ec2)
    ec2.create_tags(Resources=[image], Tags=[{"Key": "aws:backup:source-resource", "Value": "arn"}])

    with refused("AuthFailure") as said:
        ec2.deregister_image(ImageId=image)

    assert "managed by AWS Backup" in said.text


def test_register_image_keeps_its_mappings_and_completes_them(ec2: Any) -> None:
    """An AMI of two snapshots and an instance-store device can be built for tests."""
    first, second = (ec2.create_snapshot(VolumeId=_a_volume(ec2, gib))["SnapshotId"] for gib in (8, 9))
    mappings = [
        _mapping("/dev/xvda", first),
        {"DeviceName": "/dev/xvdb", "Ebs": {"SnapshotId": second, "VolumeSize": 20, "DeleteOnTermination": False}},
        {"DeviceName": "/dev/xvdc", "VirtualName": "ephemeral0"},
    ]

    image = ec2.register_image(
        Name="made",
        RootDeviceName="/dev/xvda",
        Architecture="arm64",
        VirtualizationType="hvm",
        ImdsSupport="v2.0",
        BlockDeviceMappings=mappings,
        TagSpecifications=[{"ResourceType": "image", "Tags": TAGS}],
    )["ImageId"]

    shown = the_image(ec2, image)
    assert [m.get("Ebs", {}).get("VolumeSize") for m in shown["BlockDeviceMappings"]] == [8, 20, None]
    assert shown["BlockDeviceMappings"][2]["VirtualName"] == "ephemeral0"
    assert [m["Ebs"]["DeleteOnTermination"] for m in shown["BlockDeviceMappings"][:2]] == [True, False]
    assert (shown["Architecture"], shown["ImdsSupport"], tags_of(shown)) == ("arm64", "v2.0", {"gpu-ami:run": "r1"})


@pytest.mark.parametrize(
    ("mappings", "code"),
    [
        ([], "InvalidRequest"),
        ([{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": "snap-00000000000000000"}}], "InvalidSnapshot.NotFound"),
    ],
    ids=["no mapping", "unknown snapshot"],
)
def test_register_image_refuses_what_it_cannot_be_made_of(ec2: Any, mappings: list[Any], code: str) -> None:
    """Moto accepts both and makes up a snapshot."""
    with refused(code):
        ec2.register_image(Name="made", BlockDeviceMappings=mappings)


def test_copy_image_copies_snapshots_into_its_own_region(ec2: Any, access: Access) -> None:
    """Multi-region builds: regions are apart, lineage and tags come along."""
    image = an_image(ec2, TagSpecifications=[{"ResourceType": "image", "Tags": TAGS}])
    there = access.client("ec2", region="us-east-1")

    copy = there.copy_image(SourceImageId=image, SourceRegion=REGION, Name="copy", CopyImageTags=True, Encrypted=True)

    shown = the_image(there, copy["ImageId"])
    assert (shown["SourceImageId"], shown["SourceImageRegion"]) == (image, REGION)
    assert tags_of(shown) == {"gpu-ami:run": "r1"}
    ebs = shown["BlockDeviceMappings"][0]["Ebs"]
    assert ebs["SnapshotId"] != snapshot_of(ec2, image)
    assert (ebs["Encrypted"], ebs["VolumeSize"]) == (True, 80)
    (snapshot,) = there.describe_snapshots(SnapshotIds=[ebs["SnapshotId"]])["Snapshots"]
    assert snapshot["Description"].startswith(f"Copied for DestinationAmi {copy['ImageId']} from SourceAmi {image}")
    assert image not in {i["ImageId"] for i in there.describe_images(Owners=["self"])["Images"]}


def test_copy_image_leaves_instance_store_devices_as_they_are(ec2: Any) -> None:
    """They have no snapshot to copy."""
    snapshot = ec2.create_snapshot(VolumeId=_a_volume(ec2))["SnapshotId"]
    ephemeral = {"DeviceName": "/dev/xvdc", "VirtualName": "ephemeral0"}
    mappings = [_mapping("/dev/xvda", snapshot), {"DeviceName": "/dev/xvdb", "Ebs": {"VolumeSize": 4}}, ephemeral]
    image = ec2.register_image(Name="source", BlockDeviceMappings=mappings)["ImageId"]

    copy = ec2.copy_image(SourceImageId=image, SourceRegion=REGION, Name="copy")["ImageId"]

    first, second, third = the_image(ec2, copy)["BlockDeviceMappings"]
    assert first["Ebs"]["SnapshotId"] != snapshot
    assert (second["Ebs"]["VolumeSize"], third) == (4, ephemeral)


@pytest.mark.parametrize(("minutes", "is_taken"), [(15, True), (2880, True), (0, False), (20, False), (2895, False)])
def test_a_copy_may_be_promised_in_quarters_of_an_hour(ec2: Any, minutes: int, *, is_taken: bool) -> None:
    """EC2's guide: 15 minutes to 48 hours, in steps of 15; the copy's snapshots show what was asked for."""
    request = {"SourceImageId": an_image(ec2), "SourceRegion": REGION, "Name": "copy"}
    if not is_taken:
        with refused("InvalidParameterValue"):
            ec2.copy_image(**request, SnapshotCopyCompletionDurationMinutes=minutes)
        return

    copy = ec2.copy_image(**request, SnapshotCopyCompletionDurationMinutes=minutes)["ImageId"]

    (snapshot,) = ec2.describe_snapshots(SnapshotIds=[snapshot_of(ec2, copy)])["Snapshots"]
    assert snapshot["CompletionDurationMinutes"] == minutes


def test_copy_image_refuses_an_unknown_source(ec2: Any) -> None:
    """A typing error in an id is told at once."""
    with refused("InvalidAMIID.NotFound"):
        ec2.copy_image(SourceImageId=UNKNOWN, SourceRegion=REGION, Name="copy")


def test_one_unknown_id_fails_the_whole_listing(ec2: Any) -> None:
    """Moto answers with the known one: a gone AMI would seem not to have been requested."""
    with refused("InvalidAMIID.NotFound"):
        ec2.describe_images(ImageIds=[an_image(ec2), UNKNOWN])


def test_images_come_in_pages_that_survive_a_deletion(ec2: Any) -> None:
    """Missing pages are the commonest way to delete an AMI that is in use."""
    images_ = {an_image(ec2, f"made-{number}") for number in range(5)}
    seen = []

    for answer in ec2.get_paginator("describe_images").paginate(Owners=["self"], MaxResults=2):
        seen += [image["ImageId"] for image in answer["Images"]]
        if len(seen) == 2:
            ec2.deregister_image(ImageId=seen[0])

    assert len(seen) == 5
    assert set(seen) == images_


def test_images_come_in_pages_unasked_when_there_are_many(ec2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that ignores NextToken must be caught by a small account too."""
    monkeypatch.setitem(paging.PAGE_SIZES, "DescribeImages", 1)
    an_image(ec2, "first")
    an_image(ec2, "second")

    answer = ec2.describe_images(Owners=["self"])

    assert len(answer["Images"]) == 1
    assert answer["NextToken"]


def test_owners_are_told_apart(ec2: Any) -> None:
    """`Owners=self` never shows Amazon's AMI; `amazon` never shows ours."""
    image = an_image(ec2)

    assert [i["ImageId"] for i in ec2.describe_images(Owners=["self"])["Images"]] == [image]
    (base,) = ec2.describe_images(Owners=["amazon"])["Images"]
    assert (base["ImageId"], base["ImageOwnerAlias"], base["Public"]) == (BASE, "amazon", True)


@pytest.mark.parametrize(
    ("name", "values", "finds"),
    [
        ("architecture", ["x86_64"], True),
        ("architecture", ["arm64"], False),
        ("block-device-mapping.delete-on-termination", ["true"], True),
        ("block-device-mapping.device-name", ["/dev/xvda"], True),
        ("block-device-mapping.encrypted", ["true"], True),
        ("block-device-mapping.volume-size", ["80"], True),
        ("block-device-mapping.volume-size", ["8"], False),
        ("block-device-mapping.volume-type", ["gp2", "gp3"], True),
        ("creation-date", ["20*"], True),
        ("creation-date", ["19*"], False),
        ("description", ["made for *"], True),
        ("hypervisor", ["xen"], True),
        ("image-type", ["machine"], True),
        ("is-public", ["false"], True),
        ("name", ["no", "gpu-*"], True),
        ("name", ["gpu"], False),
        ("owner-alias", ["amazon"], False),
        ("owner-id", ["591542846629"], False),
        ("platform", ["windows"], False),
        ("root-device-name", ["/dev/xvda"], True),
        ("root-device-type", ["ebs"], True),
        ("source-image-id", [BASE], True),
        ("source-image-region", [REGION], True),
        ("source-instance-id", ["i-*"], True),
        ("state", ["available"], True),
        ("state", ["pending"], False),
        ("tag:gpu-ami:run", ["r?"], True),
        ("tag:gpu-ami:run", ["x"], False),
        ("tag:other", ["*"], False),
        ("tag-key", ["gpu-ami:*"], True),
        ("tag-value", ["r1"], True),
        ("virtualization-type", ["hvm"], True),
    ],
)
def test_image_filters(ec2: Any, name: str, values: list[str], finds: bool) -> None:
    """Each filter takes any of its values, with wildcards; moto ignores or misreads several."""
    image = an_image(ec2, Description="made for tests", TagSpecifications=[{"ResourceType": "image", "Tags": TAGS}])
    the_image(ec2, image)  # wait until it is available

    found = ec2.describe_images(Owners=["self"], Filters=[{"Name": name, "Values": values}])["Images"]

    assert [i["ImageId"] for i in found] == ([image] if finds else [])


def test_images_are_found_by_any_of_several_snapshots(ec2: Any) -> None:
    """The clean-up asks which AMIs use one of these snapshots; moto wants all of them."""
    first, second = an_image(ec2, "first"), an_image(ec2, "second")
    expected = [snapshot_of(ec2, first), snapshot_of(ec2, second)]

    found = ec2.describe_images(Filters=[{"Name": "block-device-mapping.snapshot-id", "Values": expected}])["Images"]

    assert {i["ImageId"] for i in found} == {first, second}


def test_an_unknown_filter_is_refused(ec2: Any) -> None:
    """A misspelt filter must not silently find everything or nothing."""
    with refused("InvalidParameterValue") as said:
        ec2.describe_images(Filters=[{"Name": "colour", "Values": ["red"]}])

    assert "colour" in said.text


def test_attributes_that_moto_does_not_know(ec2: Any) -> None:
    """`lastLaunchedTime` is null until a launch, then a time."""
    image = an_image(ec2)

    before = ec2.describe_image_attribute(ImageId=image, Attribute="lastLaunchedTime")
    an_instance(ec2, image)
    after = ec2.describe_image_attribute(ImageId=image, Attribute="lastLaunchedTime")

    assert "Value" not in before["LastLaunchedTime"]
    assert after["LastLaunchedTime"]["Value"] == the_image(ec2, image)["LastLaunchedTime"]
    imds = ec2.describe_image_attribute(ImageId=image, Attribute="imdsSupport")
    assert imds["ImdsSupport"] == {"Value": "v2.0"}


def test_description_and_metadata_service_can_be_changed(ec2: Any) -> None:
    """Packer sets `imds_support` this way after CreateImage."""
    image = an_image(ec2)

    ec2.modify_image_attribute(ImageId=image, Description={"Value": "new"})
    ec2.modify_image_attribute(ImageId=image, ImdsSupport={"Value": "v2.0"})

    assert (the_image(ec2, image)["Description"], the_image(ec2, image)["ImdsSupport"]) == ("new", "v2.0")


def test_launch_permissions_are_kept_and_another_accounts_image_is_not_changed(ec2: Any) -> None:
    """Shared AMIs stay: the permission must be readable, and settable on own AMIs only."""
    image = an_image(ec2)
    ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": "210987654321"}, {"Group": "all"}]})

    shown = ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")["LaunchPermissions"]

    assert shown == [{"UserId": "210987654321"}, {"Group": "all"}]
    assert the_image(ec2, image)["Public"] is True
    with refused("AuthFailure"):
        ec2.modify_image_attribute(ImageId=BASE, LaunchPermission={"Add": [{"Group": "all"}]})


def test_images_of_another_account_show_only_when_shared(ec2: Any, access: Access) -> None:
    """An assumed role sees what was shared with its account, nothing else."""
    from gpu_ami.aws.sts import assume

    private, shared = an_image(ec2, "private"), an_image(ec2, "shared")
    ec2.modify_image_attribute(ImageId=shared, LaunchPermission={"Add": [{"UserId": "210987654321"}]})
    other = assume(access, "arn:aws:iam::210987654321:role/reader").client("ec2")

    assert other.describe_images(Owners=["self"])["Images"] == []
    with refused("InvalidAMIID.NotFound"):
        other.describe_images(ImageIds=[private])


def _a_volume(ec2: Any, gib: int = 8) -> str:
    return str(ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=gib)["VolumeId"])


def _mapping(device: str, snapshot_id: str) -> dict[str, Any]:
    return {"DeviceName": device, "Ebs": {"SnapshotId": snapshot_id}}
