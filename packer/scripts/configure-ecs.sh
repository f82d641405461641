#!/usr/bin/env bash
# Set the ECS agent's options for a baked GPU image, key by key: other lines of the file stay as they are.
#
# Inputs: ECS_IMAGE_PULL_BEHAVIOR, ECS_CONTAINER_START_TIMEOUT, ECS_CONTAINER_CREATE_TIMEOUT,
# ECS_IMAGE_PULL_INACTIVITY_TIMEOUT, ECS_ENABLE_SPOT_INSTANCE_DRAINING, ECS_EXTRA_CONFIG (a JSON object, or empty).
set -euo pipefail

: "${ECS_IMAGE_PULL_BEHAVIOR:?}" "${ECS_CONTAINER_START_TIMEOUT:?}" "${ECS_CONTAINER_CREATE_TIMEOUT:?}"
: "${ECS_IMAGE_PULL_INACTIVITY_TIMEOUT:?}" "${ECS_ENABLE_SPOT_INSTANCE_DRAINING:?}"
readonly CONFIG=/etc/ecs/ecs.config

say() { printf 'configure-ecs: %s\n' "$*"; }

# Set KEY to VALUE, once; the file is replaced in one go, so a reader never sees half of it.
set_key() {
  local key=$1 value=$2 new
  new=$(mktemp "${CONFIG}.XXXXXX")
  { grep -v "^${key}=" "$CONFIG" || true; } >"$new"
  printf '%s=%s\n' "$key" "$value" >>"$new"
  chmod 0644 "$new"
  mv -f "$new" "$CONFIG"
  say "${key}=${value}"
}

mkdir -p "${CONFIG%/*}"
touch "$CONFIG"

# prefer-cached alone lets a baked image start without a pull, and it keeps the image: Batch's own user data turns image
# clean-up back on at boot (ECS_DISABLE_IMAGE_CLEANUP=false), and only prefer-cached switches it off in the agent itself.
set_key ECS_IMAGE_PULL_BEHAVIOR "$ECS_IMAGE_PULL_BEHAVIOR"
set_key ECS_ENABLE_GPU_SUPPORT true
# A cold volume reads a few MB/s at first touch: the agent's defaults (3 and 4 minutes) end a start that would succeed.
set_key ECS_CONTAINER_START_TIMEOUT "$ECS_CONTAINER_START_TIMEOUT"
set_key ECS_CONTAINER_CREATE_TIMEOUT "$ECS_CONTAINER_CREATE_TIMEOUT"
set_key ECS_IMAGE_PULL_INACTIVITY_TIMEOUT "$ECS_IMAGE_PULL_INACTIVITY_TIMEOUT"
set_key ECS_ENABLE_SPOT_INSTANCE_DRAINING "$ECS_ENABLE_SPOT_INSTANCE_DRAINING"

while IFS= read -r pair; do
  set_key "${pair%%=*}" "${pair#*=}"
done < <(jq --raw-output '(. // {}) | to_entries[] | "\(.key)=\(.value)"' <<<"${ECS_EXTRA_CONFIG:-null}")

say "done in ${SECONDS} s"
