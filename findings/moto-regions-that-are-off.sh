#!/usr/bin/env bash
# moto: DescribeRegions lists the regions that are switched off, too; a shared AMI does not exist for whom it is shared with.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'moto[ec2,sts]==5.2.5' boto3==1.44.8
cat >ask.py <<'END'
import os

os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "MOTO_EC2_LOAD_DEFAULT_AMIS": "false"}
import boto3
from botocore.exceptions import ClientError
from moto import mock_aws

with mock_aws():
    ec2 = boto3.client("ec2", region_name="us-east-1")
    states = [row["OptInStatus"] for row in ec2.describe_regions()["Regions"]]
    print("not-opted-in" in states, len(states) == len(ec2.describe_regions(AllRegions=True)["Regions"]))
    image = ec2.register_image(Name="gpu", RootDeviceName="/dev/xvda")["ImageId"]
    other = "222222222222"
    ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": other}]})
    sts = boto3.client("sts", region_name="us-east-1")
    keys = sts.assume_role(RoleArn=f"arn:aws:iam::{other}:role/none", RoleSessionName="grantee")["Credentials"]
    names = {"aws_access_key_id": "AccessKeyId", "aws_secret_access_key": "SecretAccessKey", "aws_session_token": "SessionToken"}
    theirs = boto3.client("ec2", region_name="us-east-1", **{ours: keys[name] for ours, name in names.items()})
    try:
        print(len(theirs.describe_images(ImageIds=[image])["Images"]))
    except ClientError as exc:
        print(exc.response["Error"]["Code"])
END
seen=$(venv/bin/python -W ignore ask.py | paste -sd' ' -)
echo "version:    moto 5.2.5, boto3 1.44.8"
echo "good guess: as EC2 documents it, without AllRegions only regions that are enabled; who may launch an AMI sees it; a role has to exist"
echo "seen:       lists regions that are off, as many as with AllRegions, then what the grantee sees, entered by a role that nobody made: $seen"
[[ $seen == "True True InvalidAMIID.NotFound" ]] || {
  echo "changed: moto answers otherwise now" >&2
  exit 1
}
