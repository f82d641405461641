#!/usr/bin/env bash
# Asks Invoke for a dry run with --dry after the name of a task that has a required argument.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check invoke==3.0.3
cd "$work"
cat >tasks.py <<'PY'
from invoke import task


@task
def bake(context, region):
    context.run(f"echo baked in {region} >>baked.txt")
PY
touch baked.txt
status=0
venv/bin/invoke bake --dry >/dev/null 2>&1 || status=$?
after="$(cat baked.txt)"
venv/bin/invoke --dry bake eu-west-1 >/dev/null 2>&1
before="$(tail -n +2 baked.txt)"
venv/bin/invoke --version
echo "a good guess: a dry run, or a complaint about the missing region; in no case a real run"
echo "seen: --dry after the task: status $status, $after; --dry before it ran: ${before:-nothing}"
if [[ "$status $after $before" != "0 baked in --dry " ]]; then
  echo "the behaviour has changed: --dry is no value of the task's argument any more" >&2
  exit 1
fi
