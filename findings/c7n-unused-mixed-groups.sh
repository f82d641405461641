#!/usr/bin/env bash
# Cloud Custodian: an AMI that an Auto Scaling group starts by an override of its mixed instances policy counts as unused.
set -euo pipefail

unset AWS_PROFILE AWS_ENDPOINT_URL
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check c7n==0.9.53 'moto[ec2,autoscaling]==5.2.5'
cat >ask.py <<'END'
import boto3
import moto
from c7n.config import Config
from c7n.loader import PolicyLoader
from c7n.resources import load_resources

ZONE = "us-east-1"
with moto.mock_aws():
    ec2, groups = boto3.client("ec2", region_name=ZONE), boto3.client("autoscaling", region_name=ZONE)
    base = ec2.describe_images()["Images"][0]["ImageId"]
    instance = ec2.run_instances(ImageId=base, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    images = {}
    for name in ("main", "override", "nobody"):
        images[name] = ec2.create_image(InstanceId=instance, Name=name)["ImageId"]
        ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={"ImageId": images[name]})
    override = {"InstanceType": "g5g.xlarge", "LaunchTemplateSpecification": {"LaunchTemplateName": "override", "Version": "$Latest"}}
    template = {"LaunchTemplateSpecification": {"LaunchTemplateName": "main", "Version": "$Latest"}, "Overrides": [override]}
    groups.create_auto_scaling_group(
        AutoScalingGroupName="workers", MinSize=0, MaxSize=4, AvailabilityZones=[f"{ZONE}a"],
        MixedInstancesPolicy={"LaunchTemplate": template},
    )
    load_resources(("aws.ami",))
    config = Config.empty(
        region=ZONE, regions=[ZONE], account_id="123456789012", output_dir="out", dryrun=True, cache="memory", cache_period=0
    )
    policy = {"name": "unused", "resource": "aws.ami", "filters": [{"type": "unused", "value": True}]}
    (loaded,) = PolicyLoader(config).load_data({"policies": [policy]}, "policy.yml", validate=True)
    found = {image["ImageId"] for image in loaded.run()}
    print(*(name for name, image in images.items() if image in found))
END
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=us-east-1
seen=$(venv/bin/python ask.py 2>ask.log) || { cat ask.log >&2 && exit 2; }
echo "version:    c7n 0.9.53, moto 5.2.5"
echo "good guess: filter 'unused' knows the AMIs of an Auto Scaling group's launch templates, so it finds the one AMI that no group has"
echo "seen:       of main, override and nobody it finds as unused: $seen"
[[ $seen == "override nobody" ]] || {
  echo "changed: c7n reads the overrides of a mixed instances policy now, or another AMI counts as used" >&2
  exit 1
}
