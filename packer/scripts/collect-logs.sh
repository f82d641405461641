#!/usr/bin/env bash
# After a failed step: print what its cause may be read from, while the builder still exists.
#
# Everything goes to standard output, that is into Packer's log on the caller's machine; `invoke build` puts what is between
# begin and end into a file of its own. A command that fails here is passed over: the failure that matters has happened.
set -euo pipefail

readonly LINES_EACH=300

# Print the end of COMMAND's output under a heading; secrets in it are replaced.
show() {
  printf -- '--- %s\n' "$*"
  { timeout 20 "$@" 2>&1 || true; } | tail -n "$LINES_EACH" | without_secrets
}

# Query strings carry presigned URLs' signatures; the others are tokens and keys by their usual names and looks.
without_secrets() {
  sed -E -e 's/(https?:[^ ?"]*)\?[^ "]*/\1?.../g' \
    -e 's/((token|password|secret|authorization|signature|credential)[^ :=]*[:=] *"?)((bearer|basic) +)?[^ "]+/\1.../Ig' \
    -e 's/\b(AKIA|ASIA)[A-Z0-9]{16}\b/\1.../g' -e 's/("auth": *")[^"]+/\1.../g'
}

echo "collect-logs: begin"
show uptime
show df -h /
show free -m
show cloud-init status --long
show systemctl --no-pager --failed
show systemctl --no-pager status docker.service ecs.service
show docker image ls
show docker ps --all
show journalctl --no-pager --boot --priority warning --lines "$LINES_EACH"
show journalctl --no-pager --boot --unit docker.service --lines "$LINES_EACH"
show journalctl --no-pager --boot --dmesg --lines "$LINES_EACH"
show cat /var/log/cloud-init-output.log
show cat /var/log/cloud-init.log
show cat /var/log/dnf.log
show cat /var/log/ecs/ecs-agent.log
echo "collect-logs: end"
echo "collect-logs: done in ${SECONDS} s"
