#!/usr/bin/env bash
# Wait until the builder's first boot has ended, and make sure the ECS agent stays out of the bake.
set -euo pipefail

say() { printf 'wait-for-boot: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 1
}

wait_for_cloud_init() {
  local status=0
  cloud-init status --wait >/dev/null || status=$?
  case $status in
    0) say "cloud-init is done" ;;
    2) say "cloud-init is done, with errors it recovered from; see /var/log/cloud-init.log" ;;
    *) fail "cloud-init failed with status $status; is the user data a script it can run?" ;;
  esac
}

# User data has masked the agent. Where it could not, a running agent would write its state into the image.
mask_ecs() {
  if [[ $(systemctl is-enabled ecs.service 2>/dev/null || true) == masked ]]; then
    say "the ECS agent is masked"
  else
    systemctl mask --now ecs.service || fail "the ECS agent cannot be masked; is this an ECS-optimized AMI?"
    say "the ECS agent was not masked by user data; it is now"
  fi
}

wait_for_cloud_init
mask_ecs
say "done in ${SECONDS} s"
