#!/usr/bin/env bash
# Launch in moto from an AMI that is disabled, and from one that was deregistered with its snapshots.
set -euo pipefail

unset AWS_PROFILE AWS_ENDPOINT_URL
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'moto[ec2]==5.2.5' boto3==1.44.8 botocore==1.44.8
cat >launch.py <<'END'
import boto3
import moto


def launch(image):
    return ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]


with moto.mock_aws():
    ec2 = boto3.client("ec2", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    builder = launch(ec2.describe_images()["Images"][0]["ImageId"])["InstanceId"]
    first = ec2.create_image(InstanceId=builder, Name="gpu")["ImageId"]
    second = ec2.create_image(InstanceId=builder, Name="gpu")["ImageId"]
    print("one name, AMIs:", len({first, second}))
    ec2.disable_image(ImageId=first)
    shown = ec2.describe_images(ImageIds=[first])["Images"][0]["State"]
    print(f"{shown}, and launches:", launch(first)["ImageId"] == first)
    snapshot = ec2.describe_images(ImageIds=[second])["Images"][0]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    ec2.deregister_image(ImageId=second, DeleteAssociatedSnapshots=True)
    print("AMIs with the deregistered id:", len(ec2.describe_images(ImageIds=[second])["Images"]), "and launches:", launch(second)["ImageId"] == second)
    print("snapshots to be deleted with it that are there:", len(ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]))
END
seen=$(venv/bin/python -W ignore launch.py)
echo "version:    moto 5.2.5, boto3 1.44.8"
echo "good guess: InvalidAMIName.Duplicate; neither AMI can be launched any more; the snapshot went with its AMI"
printf 'seen:       %s\n' "${seen//$'\n'/; }"
want='one name, AMIs: 2
disabled, and launches: True
AMIs with the deregistered id: 0 and launches: True
snapshots to be deleted with it that are there: 1'
[[ $seen == "$want" ]] || {
  echo "changed: moto refuses one of these, or deletes the snapshot" >&2
  exit 1
}
