#!/usr/bin/env bash
# Make a CloudFormation stack in moto with an AMI's id from SSM and a NoEcho parameter, and read its parameters.
set -euo pipefail

unset AWS_PROFILE AWS_ENDPOINT_URL
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'moto[cloudformation,ssm,s3,ec2]==5.2.5' boto3==1.44.8 botocore==1.44.8
cat >stack.py <<'END'
import json

import boto3
import moto

TEMPLATE = {
    "Parameters": {
        "Image": {"Type": "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>", "Default": "/gpu/ami"},
        "Token": {"Type": "String", "NoEcho": True, "Default": "hidden"},
    },
    "Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}},
}
with moto.mock_aws():
    clients = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    ssm, stacks = boto3.client("ssm", **clients), boto3.client("cloudformation", **clients)
    ssm.put_parameter(Name="/gpu/ami", Type="String", Value="ami-0123456789abcdef0")
    stacks.create_stack(StackName="batch", TemplateBody=json.dumps(TEMPLATE))
    for row in stacks.describe_stacks()["Stacks"][0]["Parameters"]:
        print(row["ParameterKey"], row["ParameterValue"], "resolved:", row.get("ResolvedValue"))
END
seen=$(venv/bin/python -W ignore stack.py)
echo "version:    moto 5.2.5, boto3 1.44.8"
echo "good guess: Image is /gpu/ami, resolved ami-0123456789abcdef0; Token is ****, as CloudFormation shows them"
printf 'seen:       %s\n' "${seen//$'\n'/; }"
want='Image ami-0123456789abcdef0 resolved: None
Token hidden resolved: None'
[[ $seen == "$want" ]] || {
  echo "changed: moto shows a stack's parameters in another way" >&2
  exit 1
}
