#!/usr/bin/env bash
# Write down what the image consists of: /etc/gpu-ami-release.json, which stays in it and is downloaded to the caller.
#
# Inputs: GIT_COMMIT, STARTED_AT (ISO 8601), MPS_PIPE (what validate-image.sh does about MPS with its pipe in
# /tmp/nvidia-mps), BILL_SHA256 (of the bill of materials, or empty where none was composed), and what list-contents.sh has
# listed.
set -euo pipefail

: "${GIT_COMMIT:?}" "${STARTED_AT:?}" "${MPS_PIPE:?}"
readonly RELEASE=/etc/gpu-ami-release.json
readonly BEFORE=/run/gpu-ami/packages-before
readonly CONTENTS=/run/gpu-ami/contents.json

say() { printf 'write-release: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 1
}

# Print [{name, old, new}] of the packages that this bake has moved, added (old is null) or removed (new is null); null where
# update-system.sh did not note what was there. Of a package in several versions, a kernel say, all are named.
moved() {
  [[ -s $BEFORE ]] || {
    echo null
    return
  }
  jq --rawfile before "$BEFORE" '
    def versions: group_by(.[0]) | map({key: .[0][0], value: (map(.[1]) | unique | join(", "))}) | from_entries;
    ($before | split("\n") | map(select(. != "") | split(" ")) | versions) as $old
    | ([.packages[] | [.name, "\(.version)-\(.release)"]] | versions) as $new
    | [($old + $new | keys_unsorted | unique)[] | select($old[.] != $new[.]) | {name: ., old: $old[.], new: $new[.]}]' "$CONTENTS"
}

[[ -s $CONTENTS ]] || fail "${CONTENTS} is not there; did list-contents.sh run?"
moved=$(moved)
used=$(df --output=used --block-size=1 / | tail -n 1)
took=$(($(date +%s) - $(date --date="$STARTED_AT" +%s)))

new=$(mktemp "${RELEASE}.XXXXXX")
# The lists go in as files: Linux takes no argument of more than 128 KiB, which is some 800 models. In ASCII: Packer, which
# signs the SHA-256 of this file, reads every text in Unicode's form C, and so another one where a path is in form D.
jq --ascii-output --arg commit "$GIT_COMMIT" --argjson took "$took" --argjson used "$used" --slurpfile moved <(printf '%s' "$moved") \
  --arg mps "$MPS_PIPE" --arg bill "${BILL_SHA256:-}" \
  '{
    run_id, family, pipeline_version, git_commit: $commit,
    started_at, bake_seconds: $took,
    source_ami,
    os, kernel, nvidia_driver, nvidia_container_toolkit, docker, containerd, ecs_agent,
    image,
    models,
    used_bytes: $used,
    mps_pipe: $mps,
    packages_moved: $moved[0],
    bill_sha256: (if $bill == "" then null else $bill end)
  }' "$CONTENTS" >"$new"
chmod 0644 "$new"
mv -f "$new" "$RELEASE"

say "$(jq --raw-output 'if .packages_moved == null then "what dnf has moved is not known" else
  "\(.packages_moved | map(select(.old and .new)) | length) packages moved, \(.packages_moved | map(select(.old == null)) | length) came new" end' "$RELEASE")"
say "$(jq --raw-output '"\(.os), driver \(.nvidia_driver), ECS agent \(.ecs_agent), image \(.image.digest), \(.models.files | length) model files"' "$RELEASE")"
say "done in ${SECONDS} s"
