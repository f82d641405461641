#!/usr/bin/env bash
# Runs two commands in one Invoke run() under a cd() to a folder that is not there.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check invoke==3.0.3
cd "$work"
"$work/venv/bin/python" - <<'PY'
import os
import sys

import invoke

context = invoke.Context()
with context.cd("build-that-is-missing"):
    result = context.run("true; pwd", hide=True, warn=True)
here = os.path.samefile(result.stdout.strip() or "/", os.getcwd())
print(f"invoke {invoke.__version__}")
print("a good guess: the folder is missing, so neither command runs and run() fails")
print(f"seen: the second command ran in the folder we came from {here}; exit status {result.exited}, ok {result.ok}")
if not (here and result.ok):
    sys.exit("the behaviour has changed: a missing folder stops the whole command")
PY
