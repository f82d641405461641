#!/usr/bin/env bash
# Cloud Custodian: "deregister" with delete-snapshots asks for no right to delete them, and says nothing when it may not.
set -euo pipefail

unset AWS_PROFILE AWS_ENDPOINT_URL
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check c7n==0.9.53 'moto[ec2,iam]==5.2.5'
cat >clean.py <<'END'
import json
import logging
import os

import boto3
import moto
from c7n.config import Config
from c7n.loader import PolicyLoader
from c7n.resources import load_resources
from moto.core import set_initial_no_auth_action_count

ZONE = "us-east-1"
logging.basicConfig(filename="clean.log", level=logging.WARNING)
with moto.mock_aws():
    ec2, iam = boto3.client("ec2", region_name=ZONE), boto3.client("iam")
    base = ec2.describe_images()["Images"][0]["ImageId"]
    instance = ec2.run_instances(ImageId=base, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    image = ec2.create_image(InstanceId=instance, Name="old")["ImageId"]
    snapshot = ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    load_resources(("aws.ami",))
    config = Config.empty(region=ZONE, regions=[ZONE], account_id="123456789012", output_dir="out", cache="memory", cache_period=0)
    action = {"type": "deregister", "delete-snapshots": True}
    policy = {"name": "old", "resource": "aws.ami", "filters": [{"ImageId": image}], "actions": [action]}
    (loaded,) = PolicyLoader(config).load_data({"policies": [policy]}, "policy.yml", validate=True)
    # A user with just the rights that the policy says it needs; from here on moto looks at rights.
    rights = sorted(loaded.get_permissions())
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": rights, "Resource": "*"}]}
    iam.create_user(UserName="cleaner")
    iam.put_user_policy(UserName="cleaner", PolicyName="rights", PolicyDocument=json.dumps(document))
    key = iam.create_access_key(UserName="cleaner")["AccessKey"]
    os.environ.update(AWS_ACCESS_KEY_ID=key["AccessKeyId"], AWS_SECRET_ACCESS_KEY=key["SecretAccessKey"])
    done = set_initial_no_auth_action_count(0)(loaded.run)()
    images = ec2.describe_images(Owners=["self"])["Images"]
    snapshots = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
    print(f"{len(done)} done, {len(images)} AMIs left, {len(snapshots)} snapshots left; rights", *rights)
END
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=us-east-1
seen=$(venv/bin/python clean.py 2>error.log) || { cat error.log >&2 && exit 2; }
log=$(grep -ciE 'snapshot|unauthorized' clean.log || true)
echo "versions:   c7n 0.9.53, moto 5.2.5"
echo "good guess: the rights it names let it delete the snapshots, or it fails or warns that it could not"
echo "seen:       $seen; $log lines of its log say so"
[[ $seen == "1 done, 0 AMIs left, 1 snapshots left; rights ec2:DeregisterImage ec2:DescribeImages" && $log == 0 ]] || {
  echo "changed: the rights it names, or what it says of the snapshots" >&2
  exit 1
}
