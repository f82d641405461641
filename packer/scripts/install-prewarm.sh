#!/usr/bin/env bash
# Install the unit that reads the baked files ahead at each boot; where PREWARM is 0, take it out again.
#
# Inputs: PREWARM (1 or 0), PREWARM_READERS, PREWARM_SECONDS, PREWARM_PATHS (a JSON list), ROOTFS (where the files are that
# Packer has uploaded; their paths from there on are the image's).
set -euo pipefail

: "${PREWARM:?}" "${PREWARM_READERS:?}" "${PREWARM_SECONDS:?}" "${PREWARM_PATHS:?}" "${ROOTFS:?}"
readonly UNIT=gpu-ami-prewarm.service
readonly CONFIG=/etc/gpu-ami/prewarm.json
readonly SCRIPT=/usr/local/libexec/gpu-ami/prewarm.py
readonly LIMIT=/etc/systemd/system/${UNIT}.d/limit.conf
# Seconds after its own limit at which systemd ends it.
readonly GRACE=5

say() { printf 'install-prewarm: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 1
}

# Print the paths of ROOTFS's files, as they are in the image.
files() { (cd "$ROOTFS" && find . -type f -printf '/%P\n'); }

remove() {
  local path
  systemctl disable "$UNIT" >/dev/null 2>&1 || true
  for path in $(files) "$CONFIG" "$LIMIT"; do rm -f "$path"; done
  rmdir "${LIMIT%/*}" "${CONFIG%/*}" "${SCRIPT%/*}" 2>/dev/null || true
  systemctl daemon-reload
}

install_files() {
  local path new
  for path in $(files); do
    mkdir -p "${path%/*}"
    cp "${ROOTFS}${path}" "$path"
    chmod 0644 "$path"
  done
  mkdir -p "${CONFIG%/*}" "${LIMIT%/*}"
  new=$(jq --null-input --argjson readers "$PREWARM_READERS" --argjson seconds "$PREWARM_SECONDS" --argjson paths "$PREWARM_PATHS" \
    '{readers: $readers, seconds: $seconds, paths: $paths}')
  printf '%s\n' "$new" >"$CONFIG"
  # Its own limit cannot be trusted where a read hangs.
  printf '[Service]\nRuntimeMaxSec=%s\n' "$((PREWARM_SECONDS + GRACE))" >"$LIMIT"
  chmod 0644 "$CONFIG" "$LIMIT"
}

[[ -d $ROOTFS ]] || fail "${ROOTFS} is missing; did Packer upload packer/rootfs?"
if [[ $PREWARM == 1 ]]; then
  install_files
  /usr/bin/python3 -I "$SCRIPT" --check "$CONFIG" || fail "the image's Python cannot run ${SCRIPT} with ${CONFIG}"
  systemctl daemon-reload
  systemctl enable "$UNIT" >/dev/null 2>&1 || fail "${UNIT} cannot be enabled"
  say "instances will read ahead with ${PREWARM_READERS} readers for at most ${PREWARM_SECONDS} s: $(jq --raw-output 'join(" ")' <<<"$PREWARM_PATHS")"
else
  remove
  say "instances will not read ahead (prewarm = false)"
fi
rm -rf "$ROOTFS"
say "done in ${SECONDS} s"
