#!/usr/bin/env bash
# Sends a shell script by SSM Run Command in moto: to no instance at all, by no document at all, and looks at once.
set -euo pipefail

unset AWS_PROFILE AWS_ENDPOINT_URL
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check 'moto[ec2,ssm]==5.2.5' boto3==1.44.8 botocore==1.44.8
"$work/venv/bin/python" - <<'PY'
import sys

import boto3
import moto

nobody = "i-0123456789abcdef0"
seen = {}
with moto.mock_aws():
    ssm = boto3.client("ssm", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    for document, command in (("AWS-RunShellScript", "exit 3"), ("No-Such-Document", "true")):
        sent = ssm.send_command(DocumentName=document, InstanceIds=[nobody], Parameters={"commands": [command]})
        row = ssm.get_command_invocation(CommandId=sent["Command"]["CommandId"], InstanceId=nobody)
        seen[document] = (row["Status"], row["ResponseCode"], row["StandardOutputContent"])

print(f"moto {moto.__version__}")
print("a good guess: InvalidInstanceId and InvalidDocument, as SSM refuses them; or at least not Success for `exit 3`")
for document, result in seen.items():
    print(f"seen: {document} on {nobody}, which does not exist: {result}")
if set(seen.values()) != {("Success", 0, "")}:
    sys.exit("the behaviour has changed: moto no longer calls every command a success")
PY
