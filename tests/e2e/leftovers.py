"""Lists the resources that a build must not leave in the account."""

from __future__ import annotations

from typing import Any


def left_resources(sandbox: Any, run_id: str) -> list[str]:
    """Return what of the build *run_id* is still there beside a finished AMI and its snapshot.

    The demo account has an incomplete build of its own, for `invoke sweep`: that is not ours.
    """
    ec2, demo = sandbox.access.client("ec2"), set(sandbox.account.leftovers.values())
    pairs = [key for key in ec2.describe_key_pairs()["KeyPairs"] if key["KeyPairId"] not in demo]
    mine = [{"Name": "tag:gpu-ami:run", "Values": [run_id]}]
    unfinished = [*mine, {"Name": "tag:gpu-ami:finished", "Values": ["false"]}]
    reservations = ec2.describe_instances(Filters=mine)["Reservations"]
    instances = [i for reservation in reservations for i in reservation["Instances"]]
    found = [
        *(i["InstanceId"] for i in instances if i["State"]["Name"] != "terminated"),
        *(key["KeyName"] for key in pairs if key["KeyName"].startswith("packer_")),
        *(group["GroupId"] for group in ec2.describe_security_groups(Filters=mine)["SecurityGroups"]),
        *(volume["VolumeId"] for volume in ec2.describe_volumes(Filters=mine)["Volumes"]),
        *(image["ImageId"] for image in ec2.describe_images(Owners=["self"], Filters=unfinished)["Images"]),
    ]
    return [name for name in found if name not in demo]


def all_left_resources(sandbox: Any) -> list[str]:
    """Return what any build of these tests left; the demo account's own incomplete build is not one of them."""
    ec2 = sandbox.access.client("ec2")
    instances = [{"Name": "resource-type", "Values": ["instance"]}, {"Name": "key", "Values": ["gpu-ami:run"]}]
    tags = ec2.describe_tags(Filters=instances)["Tags"]
    runs = {tag["Value"] for tag in tags if tag["ResourceId"] != sandbox.account.leftovers["instance"]}
    return [name for run in runs for name in left_resources(sandbox, run)]
