#!/usr/bin/env bash
# Write down what the image consists of: /etc/gpu-ami-release.json, which stays in it and is downloaded to the caller.
#
# Inputs: RUN_ID, FAMILY, PIPELINE_VERSION, GIT_COMMIT, SOURCE_AMI, SOURCE_AMI_NAME, STARTED_AT (ISO 8601), MODELS_DIR,
# ECR_REGISTRY, ECR_REPOSITORY, IMAGE_TAG, MPS_PIPE (what validate-image.sh does about MPS with its pipe in /tmp/nvidia-mps).
set -euo pipefail

: "${RUN_ID:?}" "${FAMILY:?}" "${PIPELINE_VERSION:?}" "${GIT_COMMIT:?}" "${SOURCE_AMI:?}" "${STARTED_AT:?}" "${MODELS_DIR:?}"
: "${ECR_REGISTRY:?}" "${ECR_REPOSITORY:?}" "${IMAGE_TAG:?}" "${MPS_PIPE:?}"
readonly RELEASE=/etc/gpu-ami-release.json
readonly BEFORE=/run/gpu-ami/packages-before
readonly REPOSITORY_URL="${ECR_REGISTRY}/${ECR_REPOSITORY}"

say() { printf 'write-release: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 1
}

# Print the version of the installed package, or "none".
package() { rpm -q --queryformat '%{VERSION}-%{RELEASE}\n' "$1" 2>/dev/null | grep -v 'not installed' | head -n 1 || echo none; }

# Print the driver's version: of the packages where the module of this machine is not loaded.
driver() {
  rpm -qa --queryformat '%{NAME} %{VERSION}\n' | awk '$1 ~ /^(nvidia-driver|nvidia-kmod|kmod-nvidia|nvidia-open)/ { print $2 }' |
    sort -uV | tail -n 1 | grep . || echo none
}

# Print [{name, old, new}] of the packages that this bake has moved, added (old is null) or removed (new is null); null where
# update-system.sh did not note what was there. Of a package in several versions, a kernel say, all are named.
packages() {
  [[ -s $BEFORE ]] || {
    echo null
    return
  }
  rpm -qa --queryformat '%{NAME} %{VERSION}-%{RELEASE}\n' | jq --raw-input --slurp --rawfile before "$BEFORE" '
    def versions: split("\n") | map(select(. != "") | split(" ")) | group_by(.[0])
      | map({key: .[0][0], value: (map(.[1]) | unique | join(", "))}) | from_entries;
    ($before | versions) as $old | versions as $new
    | [($old + $new | keys_unsorted | unique)[] | select($old[.] != $new[.]) | {name: ., old: $old[.], new: $new[.]}]'
}

# Print {digest, size_bytes} of the baked image.
image() {
  docker image inspect "${REPOSITORY_URL}:${IMAGE_TAG}" |
    jq --arg prefix "${REPOSITORY_URL}@" \
      '.[0] | {digest: ([.RepoDigests[] | select(startswith($prefix))][0] // error("no digest") | ltrimstr($prefix)), size_bytes: .Size}'
}

# Print [{path, size_bytes, sha256}] of the models, paths from MODELS_DIR on.
models() {
  (cd "$MODELS_DIR" && find . -type f -printf '%P\0' | sort -z | while IFS= read -r -d '' path; do
    printf '%s\t%s\t%s\n' "$path" "$(stat -c %s "$path")" "$(sha256sum <"$path" | cut -d ' ' -f 1)"
  done) | jq --raw-input --slurp 'split("\n")[:-1] | map(split("\t") | {path: .[0], size_bytes: (.[1] | tonumber), sha256: .[2]})'
}

image=$(image) || fail "Docker does not have ${REPOSITORY_URL}:${IMAGE_TAG} with its digest; did pull-image.sh run?"
models=$(models)
# One digest for all models, of their checksums and paths, as the AMI's tag has it (models_digest in records/release.py).
digest=$(jq --raw-output --join-output '[.[] | "\(.sha256)  \(.path)"] | sort | join("\n")' <<<"$models" | sha256sum | cut -d ' ' -f 1)
packages=$(packages) || fail "the packages that have moved cannot be told; does rpm list what is installed?"
os=$(sed -n 's/^PRETTY_NAME="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' /etc/os-release)
used=$(df --output=used --block-size=1 / | tail -n 1)
took=$(($(date +%s) - $(date --date="$STARTED_AT" +%s)))

new=$(mktemp "${RELEASE}.XXXXXX")
# The lists go in as files: Linux takes no argument of more than 128 KiB, which is some 800 models. In ASCII: Packer, which
# signs the SHA-256 of this file, reads every text in Unicode's form C, and so another one where a path is in form D.
jq --null-input --ascii-output \
  --arg run_id "$RUN_ID" --arg family "$FAMILY" --arg version "$PIPELINE_VERSION" --arg commit "$GIT_COMMIT" \
  --arg source "$SOURCE_AMI" --arg source_name "${SOURCE_AMI_NAME:-}" --arg started "$STARTED_AT" --argjson took "$took" \
  --arg os "$os" --arg kernel "$(uname -r)" --arg driver "$(driver)" --arg docker "$(package docker)" \
  --arg agent "$(package ecs-init)" --arg toolkit "$(package nvidia-container-toolkit)" \
  --arg repository "$REPOSITORY_URL" --arg tag "$IMAGE_TAG" --argjson image "$image" \
  --arg models_dir "$MODELS_DIR" --arg models_digest "sha256:$digest" --slurpfile models <(printf '%s' "$models") --argjson used "$used" \
  --slurpfile packages <(printf '%s' "$packages") \
  --arg mps "$MPS_PIPE" \
  '{
    run_id: $run_id, family: $family, pipeline_version: $version, git_commit: $commit,
    started_at: $started, bake_seconds: $took,
    source_ami: {id: $source, name: $source_name},
    os: $os, kernel: $kernel, nvidia_driver: $driver, nvidia_container_toolkit: $toolkit, docker: $docker, ecs_agent: $agent,
    image: ({repository: $repository, tag: $tag} + $image),
    models: {dir: $models_dir, digest: $models_digest, files: $models[0]},
    used_bytes: $used,
    mps_pipe: $mps,
    packages_moved: $packages[0]
  }' >"$new"
chmod 0644 "$new"
mv -f "$new" "$RELEASE"

say "$(jq --raw-output 'if .packages_moved == null then "what dnf has moved is not known" else
  "\(.packages_moved | map(select(.old and .new)) | length) packages moved, \(.packages_moved | map(select(.old == null)) | length) came new" end' "$RELEASE")"
say "$(jq --raw-output '"\(.os), driver \(.nvidia_driver), ECS agent \(.ecs_agent), image \(.image.digest), \(.models.files | length) model files"' "$RELEASE")"
say "done in ${SECONDS} s"
