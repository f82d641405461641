#!/usr/bin/env bash
# Which EC2 requests botocore makes safe to repeat by filling in a ClientToken of its own.
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
from botocore.awsrequest import AWSResponse

session = botocore.session.get_session()
session.set_credentials("a", "b")
ec2 = session.create_client("ec2", region_name="us-east-1")
sent = {}


class Body:
    def stream(self, **_):
        yield b"<Answer/>"


def answer(request, event_name, **_):
    sent[event_name.rsplit(".", 1)[1]] = "ClientToken=" in request.body
    return AWSResponse(request.url, 200, {}, Body())


ec2.meta.events.register("before-send.ec2", answer)
ec2.run_instances(MinCount=1, MaxCount=1)
ec2.copy_image(Name="gpu", SourceImageId="ami-1", SourceRegion="us-east-1")
ec2.create_capacity_reservation(InstanceType="p5.48xlarge", InstancePlatform="Linux/UNIX", InstanceCount=1)
ec2.allocate_hosts(AvailabilityZone="us-east-1a", InstanceType="g5.metal", Quantity=1)
ec2.import_snapshot(Description="gpu")
print(f"botocore {botocore.__version__}")
print("a good guess: every request that has a ClientToken gets one, so botocore's own retries never do a thing twice")
print(f"seen: ClientToken sent: {sent}")
unsafe = {"CreateCapacityReservation", "AllocateHosts", "ImportSnapshot"}
if sent != {name: name not in unsafe for name in ("RunInstances", "CopyImage", *unsafe)}:
    sys.exit("the behaviour has changed: other requests get a token")
PY
