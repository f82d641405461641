#!/usr/bin/env bash
# What botocore's waiter for an AMI does when the AMI can never become available.
set -euo pipefail

unset AWS_PROFILE AWS_ENDPOINT_URL
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check botocore==1.44.8
"$work/venv/bin/python" - <<'PY'
import sys

import botocore
import botocore.session
from botocore.exceptions import WaiterError
from botocore.stub import Stubber

session = botocore.session.get_session()
session.set_credentials("a", "b")
ec2 = session.create_client("ec2", region_name="us-east-1")
waiter = ec2.get_waiter("image_available")
minutes = waiter.config.delay * waiter.config.max_attempts / 60
asked = {}
for state in ("failed", "error", "invalid", "deregistered", "disabled"):
    with Stubber(ec2) as stub:
        for _ in range(5):
            stub.add_response("describe_images", {"Images": [{"ImageId": "ami-1", "State": state}]})
        try:
            waiter.wait(ImageIds=["ami-1"], WaiterConfig={"Delay": 0, "MaxAttempts": 5})
        except WaiterError:
            asked[state] = 5 - len(stub._queue)
print(f"botocore {botocore.__version__}")
print("a good guess: each of these states ends the wait at the first answer")
print(f"seen: answers read, of 5 at most: {asked}; without a limit of one's own it asks for {minutes:.0f} minutes")
if asked != {"failed": 1, "error": 5, "invalid": 5, "deregistered": 5, "disabled": 5} or minutes != 10:
    sys.exit("the behaviour has changed: other states end the wait")
PY
