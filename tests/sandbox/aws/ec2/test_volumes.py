"""The local EC2 fills volumes from snapshots at the rate that was requested, and says how far it is."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami_sandbox.aws import clock
from gpu_ami_sandbox.aws.ec2 import volumes
from tests.support.resources import BASE, refused


def ebs(rate: int | None = None, **values: Any) -> list[dict[str, Any]]:
    """Return the root volume of an instance."""
    given = {} if rate is None else {"VolumeInitializationRate": rate}
    return [{"DeviceName": "/dev/xvda", "Ebs": given | values}]


def launch(ec2: Any, mappings: list[dict[str, Any]], count: int = 1) -> list[str]:
    """Start instances from the base AMI; return their root volumes."""
    instances = ec2.run_instances(ImageId=BASE, MinCount=count, MaxCount=count, BlockDeviceMappings=mappings)
    ids = [row["InstanceId"] for row in instances["Instances"]]
    rows = ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": ids}])["Volumes"]
    return [row["VolumeId"] for row in rows]


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the test say what time it is for volumes; no time passes by itself."""
    moments = type("Moments", (), {"now": 1000.0})()
    monkeypatch.setattr(clock, "seconds", lambda: moments.now)
    monkeypatch.setattr(volumes, "HASTE", 1.0)
    monkeypatch.setattr(volumes, "LAG_S", 300.0)
    return moments


def status(ec2: Any, volume: str) -> tuple[dict[str, Any], str | None]:
    """Return the details of a volume's status and its state of initialization."""
    (row,) = ec2.describe_volume_status(VolumeIds=[volume])["VolumeStatuses"]
    states = {detail["Name"]: detail["Status"] for detail in row["VolumeStatus"]["Details"]}
    return row.get("InitializationStatusDetails", {}), states.get("initialization-state")


def test_the_rate_of_a_launch_is_kept_and_shown(ec2: Any) -> None:
    """A rate that is dropped on the way is what verify looks for; moto drops it always."""
    (rated,) = launch(ec2, ebs(300, VolumeSize=40))
    (plain,) = launch(ec2, ebs(VolumeSize=40))

    shown = {row["VolumeId"]: row.get("VolumeInitializationRate") for row in ec2.describe_volumes()["Volumes"]}

    assert (shown[rated], shown[plain]) == (300, None)


def test_a_templates_rate_reaches_the_volume(ec2: Any) -> None:
    """That is how the pipeline sets it."""
    template = {"ImageId": BASE, "BlockDeviceMappings": ebs(200)}
    ec2.create_launch_template(LaunchTemplateName="rated", LaunchTemplateData=template)
    ec2.run_instances(LaunchTemplate={"LaunchTemplateName": "rated"}, MinCount=1, MaxCount=1)

    assert [row["VolumeInitializationRate"] for row in ec2.describe_volumes()["Volumes"]] == [200]


def test_a_volume_by_itself_is_filled_too(ec2: Any) -> None:
    """From a snapshot; an empty one has nothing to fill and no such status."""
    snapshot = ec2.describe_images(ImageIds=[BASE])["Images"][0]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    zone = ec2.describe_availability_zones()["AvailabilityZones"][0]["ZoneName"]
    full = ec2.create_volume(SnapshotId=snapshot, AvailabilityZone=zone, VolumeInitializationRate=100)
    empty = ec2.create_volume(Size=8, AvailabilityZone=zone)

    assert full["VolumeInitializationRate"] == 100
    assert status(ec2, empty["VolumeId"]) == ({}, None)


@pytest.mark.parametrize("rate", [99, 301, 0])
def test_rates_out_of_range_are_refused(ec2: Any, rate: int) -> None:
    """EBS takes 100 to 300 MiB/s; moto takes anything."""
    with refused("InvalidParameterValue"):
        ec2.run_instances(ImageId=BASE, MinCount=1, MaxCount=1, BlockDeviceMappings=ebs(rate))

    assert not ec2.describe_volumes()["Volumes"]


def test_a_rate_without_a_snapshot_is_refused(ec2: Any) -> None:
    """There is nothing to fill the volume from."""
    zone = ec2.describe_availability_zones()["AvailabilityZones"][0]["ZoneName"]

    with refused("InvalidParameterCombination"):
        ec2.create_volume(Size=8, AvailabilityZone=zone, VolumeInitializationRate=100)


def test_a_regions_volumes_share_a_limit(ec2: Any, moments: Any) -> None:
    """5,000 MiB/s: a hundred hosts at 300 do not all start; when the first are filled, others may."""
    launch(ec2, ebs(300), count=16)

    with refused("VolumeInitializationRateLimitExceeded"):
        ec2.run_instances(ImageId=BASE, MinCount=1, MaxCount=1, BlockDeviceMappings=ebs(300))
    assert len(launch(ec2, ebs())) == 1

    moments.now += 3600
    assert len(launch(ec2, ebs(300))) == 1


def test_the_status_is_behind_and_ends_completed(ec2: Any, moments: Any) -> None:
    """Up to five minutes late: a look right after the launch says nothing."""
    (volume,) = launch(ec2, ebs(100))
    assert status(ec2, volume) == ({}, None)

    moments.now += 300 + 54
    details, state = status(ec2, volume)
    assert (state, details["InitializationType"], details["Progress"]) == ("initializing", "provisioned-rate", 50)
    assert details["EstimatedTimeToCompleteInSeconds"] == 54

    moments.now += 60
    assert status(ec2, volume)[0]["Progress"] == 100
    assert status(ec2, volume)[1] == "completed"


def test_without_a_rate_there_is_no_estimate(ec2: Any, moments: Any) -> None:
    """EBS makes none for a volume that is filled as it is read."""
    (volume,) = launch(ec2, ebs())

    moments.now += 301
    details, state = status(ec2, volume)

    assert (state, details["InitializationType"]) == ("initializing", "default")
    assert "EstimatedTimeToCompleteInSeconds" not in details
