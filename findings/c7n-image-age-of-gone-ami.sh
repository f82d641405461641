#!/usr/bin/env bash
# Cloud Custodian: an instance whose AMI was deregistered runs, for image-age, an AMI of the year 2000.
set -euo pipefail

unset AWS_PROFILE AWS_ENDPOINT_URL
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check c7n==0.9.53 'moto[ec2]==5.2.5'
cat >ask.py <<'END'
import boto3
import moto
from c7n.config import Config
from c7n.loader import PolicyLoader
from c7n.resources import load_resources

ZONE = "us-east-1"
with moto.mock_aws():
    ec2 = boto3.client("ec2", region_name=ZONE)
    base = ec2.describe_images()["Images"][0]["ImageId"]
    builder = ec2.run_instances(ImageId=base, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    names = {}
    for name in ("there", "gone"):
        image = ec2.create_image(InstanceId=builder, Name=name)["ImageId"]
        names[ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]] = name
    ec2.deregister_image(ImageId=image)
    ec2.terminate_instances(InstanceIds=[builder])
    load_resources(("aws.ec2",))
    config = Config.empty(
        region=ZONE, regions=[ZONE], account_id="123456789012", output_dir="out", dryrun=True, cache="memory", cache_period=0
    )
    for days in (365, 3650):
        filters = [{"State.Name": "running"}, {"type": "image-age", "op": "ge", "days": days}]
        policy = {"name": "old", "resource": "aws.ec2", "filters": filters}
        (loaded,) = PolicyLoader(config).load_data({"policies": [policy]}, "policy.yml", validate=True)
        print(days, *(names[instance["InstanceId"]] for instance in loaded.run()))
END
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=us-east-1
seen=$(venv/bin/python ask.py 2>ask.log) || { cat ask.log >&2 && exit 2; }
echo "versions:   c7n 0.9.53, moto 5.2.5"
echo "good guess: of two AMIs made today, one of them deregistered, neither is 365 days old; what can't be told is no match"
echo "seen:       older than so many days: ${seen//$'\n'/; }"
[[ $seen == $'365 gone\n3650 gone' ]] || {
  echo "changed: how old an AMI is that is gone" >&2
  exit 1
}
