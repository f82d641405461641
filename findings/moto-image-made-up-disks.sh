#!/usr/bin/env bash
# Bake an AMI in moto from an instance with two encrypted volumes, and register one by a snapshot: whose disks has it?
set -euo pipefail

unset AWS_PROFILE AWS_ENDPOINT_URL
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'moto[ec2]==5.2.5' boto3==1.44.8 botocore==1.44.8
cat >bake.py <<'END'
import boto3
import moto


def disk(device, size):
    return {"DeviceName": device, "Ebs": {"VolumeSize": size, "VolumeType": "gp3", "Encrypted": True}}


def disks(image):
    rows = ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"]
    ids = [row["Ebs"]["SnapshotId"] for row in rows]
    encrypted = [row["Encrypted"] for row in ec2.describe_snapshots(SnapshotIds=ids)["Snapshots"]]
    return ids, ", ".join(f"{row['DeviceName']} {row['Ebs']['VolumeSize']} GiB {row['Ebs']['VolumeType']}" for row in rows), encrypted


with moto.mock_aws():
    ec2 = boto3.client("ec2", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    base = ec2.describe_images()["Images"][0]["ImageId"]
    mappings = [disk("/dev/xvda", 80), disk("/dev/sdb", 100)]
    instance = ec2.run_instances(ImageId=base, MinCount=1, MaxCount=1, BlockDeviceMappings=mappings)["Instances"][0]
    created = disks(ec2.create_image(InstanceId=instance["InstanceId"], Name="created")["ImageId"])
    print(created[1], "encrypted" if any(created[2]) else "not encrypted")
    volume = ec2.create_volume(Size=40, AvailabilityZone="us-east-1a", Encrypted=True)["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    mapping = {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot, "VolumeType": "gp3"}}
    ids, what, _ = disks(ec2.register_image(Name="registered", RootDeviceName="/dev/xvda", BlockDeviceMappings=[mapping])["ImageId"])
    print(what, "of the snapshot" if ids == [snapshot] else "of another snapshot")
    ec2.delete_snapshot(SnapshotId=snapshot)
    print("the snapshot of a registered AMI can be deleted")
END
seen=$(venv/bin/python -W ignore bake.py)
echo "version:    moto 5.2.5, boto3 1.44.8"
echo "good guess: /dev/xvda of 80 GiB and /dev/sdb of 100, encrypted gp3; /dev/xvda of 40 GiB, of the snapshot that was named and is in use now"
printf 'seen:       %s\n' "${seen//$'\n'/; }"
want='/dev/sda1 15 GiB standard not encrypted
/dev/sda1 15 GiB standard of another snapshot
the snapshot of a registered AMI can be deleted'
[[ $seen == "$want" ]] || {
  echo "changed: moto's AMIs have the disks that they were made from" >&2
  exit 1
}
