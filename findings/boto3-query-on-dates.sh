#!/usr/bin/env bash
# Queries on a snapshot's StartTime, a usual thing with the AWS command line, run on boto3's own answer.
set -euo pipefail

unset AWS_PROFILE AWS_ENDPOINT_URL
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check boto3==1.44.8 botocore==1.44.8 jmespath==1.1.0
"$work/venv/bin/python" - <<'PY'
import datetime
import sys

import boto3
import jmespath
from botocore.stub import Stubber

ec2 = boto3.client("ec2", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
utc = datetime.timezone.utc
rows = [{"SnapshotId": f"snap-{year}", "StartTime": datetime.datetime(year, 1, 1, tzinfo=utc)} for year in (2026, 2024)]


def query(expression):
    with Stubber(ec2) as stub:
        stub.add_response("describe_snapshots", {"Snapshots": rows})
        pages = ec2.get_paginator("describe_snapshots").paginate()
        try:
            return list(pages.search(expression))
        except jmespath.exceptions.JMESPathError as error:
            return type(error).__name__


older = query("Snapshots[?StartTime < '2025'].SnapshotId")
newer = query("Snapshots[?StartTime >= '2025'].SnapshotId")
newest = query("sort_by(Snapshots, &StartTime)[-1].SnapshotId")
print(f"boto3 {boto3.__version__}, jmespath {jmespath.__version__}")
print("a good guess: one snapshot is older than 2025, one is not, and sort_by() puts the newest last, as in `aws --query`")
print(f"seen: older {older}, not older {newer}, newest {newest}")
if (older, newer, newest) != ([], [], "JMESPathTypeError"):
    sys.exit("the behaviour has changed: boto3's dates can be compared in a query")
PY
