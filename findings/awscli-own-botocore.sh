#!/usr/bin/env bash
# Looks for botocore after an install of version 1 of the AWS command line, which used to pin one exact botocore.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check awscli==1.46.3
"$work/venv/bin/python" - <<'PY'
import importlib.metadata
import importlib.util
import sys

needs = importlib.metadata.requires("awscli")
pins = [need for need in needs if need.startswith(("botocore", "s3transfer"))]
alone = importlib.util.find_spec("botocore") is not None
inside = importlib.util.find_spec("awscli.botocore") is not None
print(f"awscli {importlib.metadata.version('awscli')}")
print("a good guess: it needs one exact botocore, which a program in the same environment can import")
print(f"seen: requirements on botocore or s3transfer {pins}; botocore there {alone}; awscli.botocore there {inside}")
if pins or alone or not inside:
    sys.exit("the behaviour has changed: awscli brings or needs a botocore outside itself")
PY
