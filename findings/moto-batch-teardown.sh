#!/usr/bin/env bash
# Takes an AWS Batch environment and its queue apart in the wrong order in moto: enabled, in use, with jobs coming in.
set -euo pipefail

unset AWS_PROFILE AWS_ENDPOINT_URL
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check 'moto[batch,ec2,iam]==5.2.5' boto3==1.44.8 botocore==1.44.8
"$work/venv/bin/python" - <<'PY'
import json
import sys

import boto3
import moto
from botocore.exceptions import ClientError

keys = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
# Without the setting moto would look for Docker.
config = {"batch": {"use_docker": False}}


def taken(call, **parameters):
    try:
        call(**parameters)
    except ClientError as exc:
        return exc.response["Error"]["Code"]
    return "taken"


seen = {}
with moto.mock_aws(config=config):
    iam, ec2, batch = (boto3.client(name, **keys) for name in ("iam", "ec2", "batch"))
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    role = iam.create_role(RoleName="r", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    profile = iam.create_instance_profile(InstanceProfileName="p")["InstanceProfile"]["Arn"]
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    resources = {"type": "EC2", "minvCpus": 0, "maxvCpus": 4, "instanceTypes": ["c5.large"], "instanceRole": profile}
    resources |= {"subnets": [subnet], "securityGroupIds": [group]}
    batch.create_compute_environment(
        computeEnvironmentName="environment", type="MANAGED", state="ENABLED", computeResources=resources, serviceRole=role
    )
    order = [{"order": 1, "computeEnvironment": "environment"}]
    batch.create_job_queue(jobQueueName="queue", state="DISABLED", priority=1, computeEnvironmentOrder=order)
    container = {"image": "i", "vcpus": 1, "memory": 128}
    batch.register_job_definition(jobDefinitionName="definition", type="container", containerProperties=container)
    seen["SubmitJob to a DISABLED queue"] = taken(batch.submit_job, jobName="job", jobQueue="queue", jobDefinition="definition")
    name = "DeleteComputeEnvironment, ENABLED and in a queue"
    seen[name] = taken(batch.delete_compute_environment, computeEnvironment="environment")
    batch.update_job_queue(jobQueue="queue", state="ENABLED")
    seen["DeleteJobQueue, ENABLED"] = taken(batch.delete_job_queue, jobQueue="queue")

print(f"moto {moto.__version__}")
print("a good guess: each is refused with ClientException, as AWS documents: disable first, then delete")
for what, result in seen.items():
    print(f"seen: {what}: {result}")
if set(seen.values()) != {"taken"}:
    sys.exit("the behaviour has changed: moto refuses some of it now")
PY
