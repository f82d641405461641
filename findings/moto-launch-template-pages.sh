#!/usr/bin/env bash
# Lists launch templates and versions through boto3's paginators against moto, which then looks complete and is not.
set -euo pipefail

unset AWS_PROFILE AWS_ENDPOINT_URL
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check 'moto[ec2]==5.2.5' boto3==1.44.8 botocore==1.44.8
"$work/venv/bin/python" - <<'PY'
import sys

import boto3
import moto

data = {"ImageId": "ami-1"}
with moto.mock_aws():
    ec2 = boto3.client("ec2", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    for number in range(25):
        ec2.create_launch_template(LaunchTemplateName=f"gpu-{number}", LaunchTemplateData=data)
    for _ in range(24):
        ec2.create_launch_template_version(LaunchTemplateName="gpu-0", LaunchTemplateData=data)

    def listed(operation, key, **request):
        pages = list(ec2.get_paginator(operation).paginate(**request))
        return sum(len(page[key]) for page in pages), len(pages)

    templates = listed("describe_launch_templates", "LaunchTemplates")
    versions = listed("describe_launch_template_versions", "LaunchTemplateVersions", LaunchTemplateName="gpu-0")
print(f"moto {moto.__version__}")
print("a good guess: a paginator finds all 25 templates and all 25 versions")
print(f"seen: {templates[0]} templates in {templates[1]} page, {versions[0]} versions in {versions[1]} page")
if (templates, versions) != ((15, 1), (15, 1)):
    sys.exit("the behaviour has changed: moto lists more, or in more pages")
PY
