#!/usr/bin/env bash
# After a failed step: print what its cause may be read from, while the builder still exists.
#
# Everything goes to standard output, that is into Packer's log on the caller's machine. A command that fails here is
# passed over: the failure that matters has happened already.
set -euo pipefail

readonly LINES_EACH=80

# Print the end of COMMAND's output under a heading; secrets in it are replaced.
show() {
  printf -- '--- %s\n' "$*"
  { timeout 20 "$@" 2>&1 || true; } | tail -n "$LINES_EACH" | without_secrets
}

# Query strings carry presigned URLs' signatures; the others are tokens and keys by their usual names.
without_secrets() {
  sed -E -e 's/(https?:[^ ?"]*)\?[^ "]*/\1?.../g' \
    -e 's/((token|password|secret|authorization|signature)[^ :=]*[:=] *)[^ ]+/\1.../Ig'
}

show df -h /
show free -m
show cloud-init status --long
show systemctl --no-pager --failed
show systemctl --no-pager status docker.service ecs.service
show docker image ls
show docker ps --all
show journalctl --no-pager --boot --priority warning --lines "$LINES_EACH"
show journalctl --no-pager --boot --unit docker.service --lines "$LINES_EACH"
show cat /var/log/cloud-init-output.log
show cat /var/log/ecs/ecs-agent.log
echo "collect-logs: done in ${SECONDS} s"
