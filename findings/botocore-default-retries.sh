#!/usr/bin/env bash
# Counts the requests of an EC2 call to a closed port, with no retry setting at all, in two releases of botocore.
set -euo pipefail

unset AWS_PROFILE AWS_RETRY_MODE AWS_MAX_ATTEMPTS AWS_DEFAULTS_MODE
export AWS_CONFIG_FILE=/dev/null
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cat >"$work/count.py" <<'PY'
import socket

import botocore.session
from botocore.exceptions import EndpointConnectionError

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
session = botocore.session.get_session()
session.set_credentials("a", "b")
ec2 = session.create_client("ec2", region_name="us-east-1", endpoint_url=f"http://127.0.0.1:{port}")
requests = []
ec2.meta.events.register("before-send.ec2", lambda **_: requests.append(1))
try:
    ec2.describe_images()
except EndpointConnectionError:
    print(ec2.meta.config.retries["mode"], len(requests))
PY
python3 -m venv "$work/venv"
pip=("$work/venv/bin/pip" install -q --disable-pip-version-check)
"${pip[@]}" botocore==1.42.94
before="$("$work/venv/bin/python" "$work/count.py")"
"${pip[@]}" botocore==1.44.8
after="$("$work/venv/bin/python" "$work/count.py")"
echo "botocore 1.42.94 and 1.44.8"
echo "a good guess: both use the legacy mode by default, with five requests; a minor release changes no default"
echo "seen (mode, requests): 1.42.94 $before; 1.44.8 $after"
if [[ "$before, $after" != "legacy 5, standard 3" ]]; then
  echo "the behaviour has changed" >&2
  exit 1
fi
