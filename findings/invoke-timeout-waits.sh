#!/usr/bin/env bash
# Invoke: run() with a timeout of 1 second comes back when the command's children end, not after the second.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check invoke==3.0.3
cat >run.py <<'END'
import time

import invoke

for command in ("sleep 5", "sleep 5; echo done", "sleep 5 | cat"):
    began = time.monotonic()
    try:
        invoke.Context().run(command, timeout=1, hide=True)
        how = "ended"
    except invoke.CommandTimedOut:
        how = "CommandTimedOut"
    took = time.monotonic() - began
    print(f"{command}: {how} after {'about 1 s' if took < 3 else 'all 5 s'}")
END
seen=$(venv/bin/python run.py)
echo "version:    invoke 3.0.3"
echo "good guess: CommandTimedOut after one second, whatever the shell's command line is"
printf 'seen:       %s\n' "${seen//$'\n'/; }"
want='sleep 5: CommandTimedOut after about 1 s
sleep 5; echo done: CommandTimedOut after all 5 s
sleep 5 | cat: CommandTimedOut after all 5 s'
[[ $seen == "$want" ]] || {
  echo "changed: a timeout ends what the shell started, too, or no command at all" >&2
  exit 1
}
