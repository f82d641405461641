"""The local EC2's instances start from their AMI's volumes and leave nothing behind."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami_sandbox.aws.ec2.instances import merge_mappings
from tests.support.resources import BASE, REGION, an_image, an_instance, refused, the_image


def ebs(device: str, **values: Any) -> dict[str, Any]:
    """Return one block device mapping."""
    return {"DeviceName": device, "Ebs": values}


@pytest.mark.parametrize(
    ("layers", "merged"),
    [
        ([[ebs("/a", VolumeSize=8)]], [ebs("/a", VolumeSize=8)]),
        ([[ebs("/a", VolumeSize=8, Iops=1)], [ebs("/a", VolumeSize=9)]], [ebs("/a", VolumeSize=9, Iops=1)]),
        ([[ebs("/a", Iops=1)], [ebs("/a", Iops=None)]], [ebs("/a", Iops=1)]),
        ([[ebs("/a")], [ebs("/b")]], [ebs("/a"), ebs("/b")]),
        ([[ebs("/a"), ebs("/b")], [{"DeviceName": "/b", "NoDevice": ""}]], [ebs("/a")]),
        ([[{"DeviceName": "/c", "VirtualName": "ephemeral0"}]], []),
    ],
    ids=["as the AMI", "one value changed", "not given", "one more", "left out", "instance store"],
)
def test_later_mappings_change_single_values(layers: list[list[Any]], merged: list[Any]) -> None:
    """A build that only sets the size keeps the AMI's snapshot, encryption and type."""
    assert merge_mappings(*layers) == merged


def test_an_instance_has_its_images_volume(ec2: Any) -> None:
    """Moto gives 8 GiB of gp2 to any instance."""
    instance = ec2.run_instances(ImageId=BASE, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]

    (volume,) = ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [instance]}])["Volumes"]

    assert (volume["Size"], volume["VolumeType"]) == (30, "gp3")
    assert (volume["Iops"], volume["Throughput"]) == (3000, 125)
    assert volume["SnapshotId"].startswith("snap-")


def test_the_requests_volume_wins_over_the_templates(ec2: Any) -> None:
    """Image, launch template, request: later ones win, value by value."""
    template = {"ImageId": BASE, "BlockDeviceMappings": [ebs("/dev/xvda", VolumeSize=60, VolumeType="gp3", Iops=4000)]}
    ec2.create_launch_template(LaunchTemplateName="template", LaunchTemplateData=template)

    instance = ec2.run_instances(
        LaunchTemplate={"LaunchTemplateName": "template"},
        MinCount=1,
        MaxCount=1,
        BlockDeviceMappings=[ebs("/dev/xvda", VolumeSize=70)],
    )["Instances"][0]

    (volume,) = ec2.describe_volumes()["Volumes"]
    assert (volume["Size"], volume["Iops"]) == (70, 4000)
    assert instance["ImageId"] == BASE


def test_a_volume_smaller_than_its_snapshot_is_refused(ec2: Any) -> None:
    """The commonest mistake in a launch mapping fails here as it does on EC2."""
    with refused("InvalidBlockDeviceMapping") as said:
        an_instance(ec2, gib=20)

    assert "expect size >= 30GB" in said.text


def test_other_volume_types_have_no_throughput(ec2: Any) -> None:
    """It is gp3's alone."""
    an_instance(ec2, ebs={"VolumeType": "gp2"})

    (volume,) = ec2.describe_volumes()["Volumes"]

    assert (volume["VolumeType"], volume.get("Throughput")) == ("gp2", None)


def test_terminating_leaves_no_volume_behind(ec2: Any) -> None:
    """Tests of an interrupted build assert on exactly this."""
    instance = an_instance(ec2)

    ec2.terminate_instances(InstanceIds=[instance])

    assert ec2.describe_volumes()["Volumes"] == []


def test_a_volume_that_is_to_stay_stays(ec2: Any) -> None:
    """`delete_on_termination = false` is how builds leak volumes."""
    instance = an_instance(ec2, ebs={"DeleteOnTermination": False})

    ec2.terminate_instances(InstanceIds=[instance])

    (volume,) = ec2.describe_volumes()["Volumes"]
    assert volume["State"] == "available"


@pytest.mark.parametrize("image_id", ["ami-00000000000000000", "nonsense"])
def test_an_unknown_image_cannot_be_launched(ec2: Any, image_id: str) -> None:
    """Moto starts instances of anything."""
    with refused("InvalidAMIID.NotFound" if image_id.startswith("ami-") else "InvalidAMIID.Malformed"):
        an_instance(ec2, image_id)


def test_an_image_must_be_named(ec2: Any) -> None:
    """Neither the request nor the template names one."""
    ec2.create_launch_template(LaunchTemplateName="template", LaunchTemplateData={"InstanceType": "c5.large"})

    with refused("MissingParameter"):
        ec2.run_instances(LaunchTemplate={"LaunchTemplateName": "template"}, MinCount=1, MaxCount=1)


def test_a_parameter_may_name_the_image(ec2: Any, access: Access) -> None:
    """`resolve:ssm:` works for own and for public parameters, and a missing one is refused."""
    access.client("ssm").put_parameter(Name="/gpu/ami-id", Value=an_image(ec2), Type="String")
    public = "resolve:ssm:/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"

    own = ec2.run_instances(ImageId="resolve:ssm:/gpu/ami-id", MinCount=1, MaxCount=1)["Instances"][0]
    amazons = ec2.run_instances(ImageId=public, MinCount=1, MaxCount=1)["Instances"][0]

    assert the_image(ec2, own["ImageId"])["OwnerId"] != the_image(ec2, amazons["ImageId"])["OwnerId"]
    assert amazons["ImageId"] == BASE
    with refused("InvalidParameterValue"):
        an_instance(ec2, "resolve:ssm:/gpu/none")


def test_instances_come_in_pages(ec2: Any) -> None:
    """All of them, once each, also when the one that the token belongs to is gone."""
    made = {an_instance(ec2) for _ in range(3)}

    pages = list(ec2.get_paginator("describe_instances").paginate(MaxResults=1))

    found = [i["InstanceId"] for p in pages for r in p["Reservations"] for i in r["Instances"]]
    assert len(pages) == len(found) == 3
    assert set(found) == made


def test_a_build_key_pair_can_be_made_and_read(ec2: Any) -> None:
    """The guest lets in whoever holds the private half of this."""
    made = ec2.create_key_pair(KeyName="packer_1", KeyType="ed25519")

    (shown,) = ec2.describe_key_pairs(KeyNames=["packer_1"], IncludePublicKey=True)["KeyPairs"]

    assert "PRIVATE KEY" in made["KeyMaterial"]
    assert shown["PublicKey"].startswith("ssh-ed25519 ")


def test_another_region_has_nothing_of_this_one(ec2: Any, access: Access) -> None:
    """Regions are apart, and each has its own base AMI."""
    an_image(ec2)
    there = access.client("ec2", region="us-east-1")

    assert there.describe_images(Owners=["self"])["Images"] == []
    (base,) = there.describe_images(Owners=["amazon"])["Images"]
    assert base["ImageId"] != BASE
    assert REGION != "us-east-1"


def test_a_fault_that_nobody_knows_is_refused(ec2: Any) -> None:
    """A misspelt one would leave the GPUs as they are, and what was to be seen failing would pass."""
    image = an_image(ec2)
    ec2.create_tags(Resources=[image], Tags=[{"Key": "sandbox:gpu", "Value": "driver-missmatch"}])

    with refused("InvalidParameterValue") as why:
        an_instance(ec2, image)

    assert "'driver-missmatch', none of missing, not-loaded, driver-mismatch" in why.text
    ec2.create_tags(Resources=[image], Tags=[{"Key": "sandbox:gpu", "Value": "missing"}])
    assert an_instance(ec2, image)
