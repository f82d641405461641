"""Small builders for what the tests of the local AWS need to exist."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from gpu_ami_sandbox.aws.base_image import base_image_id
from gpu_ami_sandbox.aws.ec2.images import PENDING_S as PENDING_S

REGION = "ap-northeast-2"
BASE = base_image_id(REGION)
TAGS = [{"Key": "gpu-ami:run", "Value": "r1"}]


def an_instance(ec2: Any, image_id: str = BASE, gib: int = 80, **more: Any) -> str:
    """Start an instance with an encrypted root volume of *gib* and return its id."""
    ebs = {"VolumeSize": gib, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    mappings = [{"DeviceName": "/dev/xvda", "Ebs": ebs | more.pop("ebs", {})}]
    answer = ec2.run_instances(
        ImageId=image_id, MinCount=1, MaxCount=1, InstanceType="c5.large", BlockDeviceMappings=mappings, **more
    )
    return str(answer["Instances"][0]["InstanceId"])


def an_image(ec2: Any, name: str = "gpu-batch-1", **more: Any) -> str:
    """Make an AMI of a new instance and return its id."""
    return str(ec2.create_image(InstanceId=an_instance(ec2), Name=name, **more)["ImageId"])


def the_image(ec2: Any, image_id: str) -> dict[str, Any]:
    """Return what DescribeImages says of one AMI."""
    (found,) = ec2.describe_images(ImageIds=[image_id])["Images"]
    return dict(found)


def snapshot_of(ec2: Any, image_id: str) -> str:
    """Return the snapshot of the AMI's root volume."""
    return str(the_image(ec2, image_id)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"])


def tags_of(resource: dict[str, Any]) -> dict[str, str]:
    """Return a resource's tags as a dictionary."""
    return {tag["Key"]: tag["Value"] for tag in resource.get("Tags", [])}


@dataclass
class Refusal:
    """What AWS said when it refused; filled when the block of `refused` ends."""

    text: str = ""


@contextlib.contextmanager
def refused(code: str) -> Iterator[Refusal]:
    """Assert that AWS refuses the block with the error *code*."""
    said = Refusal()
    with pytest.raises(ClientError) as caught:
        yield said
    error = caught.value.response["Error"]
    said.text = error["Message"]
    assert error["Code"] == code, said.text
