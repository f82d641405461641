"""Instant fleets of the local EC2: how Packer starts a Spot builder."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import BASE, TAGS, refused, tags_of

TYPES = ["c7i.4xlarge", "c6i.4xlarge"]


def _template(ec2: Any) -> str:
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = str(ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"])
    group = ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc)["GroupId"]
    ec2.create_key_pair(KeyName="k")
    data = {
        "ImageId": BASE,
        "KeyName": "k",
        "UserData": "IyEvYmluL3NoCg==",
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 80, "VolumeType": "gp3"}}],
        "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": subnet, "Groups": [group], "DeleteOnTermination": True}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": TAGS} for kind in ("instance", "volume")],
        "InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": {}},
    }
    ec2.create_launch_template(LaunchTemplateName="packer", LaunchTemplateData=data)
    return subnet


def _fleet(ec2: Any, kind: str = "instant", capacity: str = "spot", templates: int = 1) -> dict[str, Any]:
    config = {
        "LaunchTemplateSpecification": {"LaunchTemplateName": "packer", "Version": "1"},
        "Overrides": [{"InstanceType": name} for name in TYPES],
    }
    return dict(
        ec2.create_fleet(
            LaunchTemplateConfigs=[config] * templates,
            TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": capacity},
            SpotOptions={"AllocationStrategy": "price-capacity-optimized"},
            Type=kind,
            TagSpecifications=[{"ResourceType": "fleet", "Tags": TAGS}],
        )
    )


def _instance(ec2: Any, fleet: dict[str, Any]) -> dict[str, Any]:
    (made,) = fleet["Instances"]
    (reservation,) = ec2.describe_instances(InstanceIds=made["InstanceIds"])["Reservations"]
    return dict(reservation["Instances"][0])


def test_a_spot_instance_is_what_its_template_says(ec2: Any) -> None:
    """Moto's has no volume of the requested size, no network and no user data: the bake would not be the same one."""
    subnet = _template(ec2)

    instance = _instance(ec2, _fleet(ec2))

    assert (instance["InstanceType"], instance["SubnetId"], instance["KeyName"]) == (TYPES[0], subnet, "k")
    assert instance["InstanceLifecycle"] == "spot"
    assert tags_of(instance) == {"gpu-ami:run": "r1"}
    (volume,) = ec2.describe_volumes()["Volumes"]
    assert (volume["Size"], tags_of(volume)) == (80, {"gpu-ami:run": "r1"})
    data = ec2.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="userData")
    assert data["UserData"]["Value"] == "IyEvYmluL3NoCg=="


def test_a_spot_instance_names_its_request_which_takes_tags(ec2: Any) -> None:
    """Packer tags the request by the id that DescribeInstances gives; without one its plugin crashes."""
    _template(ec2)
    instance = _instance(ec2, _fleet(ec2))
    request_id = instance["SpotInstanceRequestId"]

    ec2.create_tags(Resources=[request_id], Tags=TAGS)

    (request,) = ec2.describe_spot_instance_requests()["SpotInstanceRequests"]
    assert (request["SpotInstanceRequestId"], request["InstanceId"]) == (request_id, instance["InstanceId"])
    assert (request["State"], request["Type"], tags_of(request)) == ("active", "one-time", {"gpu-ami:run": "r1"})


def test_the_request_ends_with_its_instance(ec2: Any) -> None:
    """An open request counts as a use of its AMI: clean-up would keep the AMI for ever."""
    _template(ec2)
    instance = _instance(ec2, _fleet(ec2))

    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])

    (request,) = ec2.describe_spot_instance_requests()["SpotInstanceRequests"]
    assert request["State"] == "closed"


def test_an_instant_fleet_is_listed_by_its_id_only(ec2: Any) -> None:
    """As on EC2: it has done all that it will do."""
    _template(ec2)
    fleet = _fleet(ec2)

    assert ec2.describe_fleets()["Fleets"] == []
    (found,) = ec2.describe_fleets(FleetIds=[fleet["FleetId"]])["Fleets"]
    assert tags_of(found) == {"gpu-ami:run": "r1"}


def test_an_on_demand_fleet_has_no_request(ec2: Any) -> None:
    """The other kind of capacity."""
    _template(ec2)

    instance = _instance(ec2, _fleet(ec2, capacity="on-demand"))

    assert "SpotInstanceRequestId" not in instance
    assert ec2.describe_spot_instance_requests()["SpotInstanceRequests"] == []


def test_other_fleets_stay_moto_s(ec2: Any) -> None:
    """The demo account has one that clean-up must see."""
    _template(ec2)

    fleet = _fleet(ec2, kind="request")

    assert [row["FleetId"] for row in ec2.describe_fleets()["Fleets"]] == [fleet["FleetId"]]


@pytest.mark.parametrize("templates", [2])
def test_what_the_sandbox_cannot_start_is_refused(ec2: Any, templates: int) -> None:
    """An answer that ignores half of the request would be worse."""
    _template(ec2)

    with refused("InvalidFleetConfiguration"):
        _fleet(ec2, templates=templates)
