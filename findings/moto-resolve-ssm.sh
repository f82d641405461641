#!/usr/bin/env bash
# Launch an instance in moto by resolve:ssm:NAME, alone and by a launch template: which AMI does it say that it runs?
set -euo pipefail

unset AWS_PROFILE AWS_ENDPOINT_URL
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'moto[ec2,ssm]==5.2.5' boto3==1.44.8 botocore==1.44.8
cat >launch.py <<'END'
import boto3
import moto

ALIAS = "resolve:ssm:/gpu/ami"


def launched(**how):
    identity = ec2.run_instances(MinCount=1, MaxCount=1, **how)["Instances"][0]["InstanceId"]
    return ec2.describe_instances(InstanceIds=[identity])["Reservations"][0]["Instances"][0]["ImageId"]


with moto.mock_aws():
    clients = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    ec2, ssm = boto3.client("ec2", **clients), boto3.client("ssm", **clients)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    ssm.put_parameter(Name="/gpu/ami", Type="String", DataType="aws:ec2:image", Value=image)
    ec2.create_launch_template(LaunchTemplateName="jobs", LaunchTemplateData={"ImageId": ALIAS})
    versions = ec2.describe_launch_template_versions(LaunchTemplateName="jobs", Versions=["$Latest"], ResolveAlias=True)
    print("instance:", launched(ImageId=ALIAS))
    print("by the template:", launched(LaunchTemplate={"LaunchTemplateName": "jobs"}))
    print("ResolveAlias:", versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]["ImageId"])
    found = ec2.describe_instances(Filters=[{"Name": "image-id", "Values": [image]}])["Reservations"]
    print("instances found by the AMI's id:", len(found))
END
seen=$(venv/bin/python -W ignore launch.py)
echo "version:    moto 5.2.5, boto3 1.44.8"
echo "good guess: the AMI's id three times, as EC2 resolves it, and two instances; or the alias is refused as no AMI id"
printf 'seen:       %s\n' "${seen//$'\n'/; }"
want='instance: resolve:ssm:/gpu/ami
by the template: resolve:ssm:/gpu/ami
ResolveAlias: resolve:ssm:/gpu/ami
instances found by the AMI'"'"'s id: 0'
[[ $seen == "$want" ]] || {
  echo "changed: moto resolves the alias somewhere, or refuses it" >&2
  exit 1
}
