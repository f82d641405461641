#!/usr/bin/env bash
# botocore: operations that answer in pages and have no paginator, while their neighbours have one.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
unset AWS_PROFILE AWS_ENDPOINT_URL
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=us-east-1
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check boto3==1.44.8
cat >ask.py <<'END'
import boto3

PAIRS = (
    ("ec2", "describe_snapshots", "describe_locked_snapshots"),
    ("autoscaling", "describe_auto_scaling_groups", "describe_instance_refreshes"),
    ("ecr", "describe_images", "list_image_referrers"),
    ("stepfunctions", "list_state_machines", "list_state_machine_versions"),
    ("savingsplans", None, "describe_savings_plans"),
)
for service, neighbour, name in PAIRS:
    client = boto3.client(service)
    operation = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[name])
    for shape in (operation.input_shape, operation.output_shape):
        assert "nexttoken" in {member.lower() for member in shape.members}, f"{name} has no pages"
    print(f"{service}.{name}", client.can_paginate(name), *([] if neighbour is None else [client.can_paginate(neighbour)]))
END
seen=$(venv/bin/python ask.py)
echo "version:    boto3 1.44.8"
echo "good guess: what takes and gives a NextToken has a paginator"
echo "seen:       (the operation, whether it has one, whether its neighbour has)"
echo "            ${seen//$'\n'/$'\n'            }"
[[ $seen == "ec2.describe_locked_snapshots False True
autoscaling.describe_instance_refreshes False True
ecr.list_image_referrers False True
stepfunctions.list_state_machine_versions False True
savingsplans.describe_savings_plans False" ]] || {
  echo "changed: which of them have a paginator" >&2
  exit 1
}
