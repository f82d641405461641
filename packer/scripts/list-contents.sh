#!/usr/bin/env bash
# List what the image consists of: /run/gpu-ami/contents.json, which is downloaded to the caller and does not stay.
#
# The record that write-release.sh writes is made of it, and the bill of materials that is composed where Packer runs.
# Packages inside the container image are not among it: the image counts as one part, by its digest.
#
# Inputs: RUN_ID, FAMILY, PIPELINE_VERSION, SOURCE_AMI, SOURCE_AMI_NAME, STARTED_AT (ISO 8601), MODELS_DIR, ECR_REGISTRY,
# ECR_REPOSITORY, IMAGE_TAG.
set -euo pipefail

: "${RUN_ID:?}" "${FAMILY:?}" "${PIPELINE_VERSION:?}" "${SOURCE_AMI:?}" "${STARTED_AT:?}" "${MODELS_DIR:?}"
: "${ECR_REGISTRY:?}" "${ECR_REPOSITORY:?}" "${IMAGE_TAG:?}"
readonly CONTENTS=/run/gpu-ami/contents.json
readonly REPOSITORY_URL="${ECR_REGISTRY}/${ECR_REPOSITORY}"

say() { printf 'list-contents: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 1
}

# Print [{name, epoch, version, release, arch, license}] of the packages that rpm has installed, in order. What rpm has as
# a licence is text of the packager's.
packages() {
  rpm -qa --queryformat '%{NAME}\t%{EPOCHNUM}\t%{VERSION}\t%{RELEASE}\t%{ARCH}\t%{LICENSE}\n' | sort -u |
    jq --raw-input --slurp 'split("\n") | map(select(. != "") | split("\t")
      | {name: .[0], epoch: .[1], version: .[2], release: .[3], arch: .[4], license: .[5]})'
}

# Print {digest, size_bytes} of the baked image.
image() {
  docker image inspect "${REPOSITORY_URL}:${IMAGE_TAG}" |
    jq --arg prefix "${REPOSITORY_URL}@" \
      '.[0] | {digest: ([.RepoDigests[] | select(startswith($prefix))][0] // error("no digest") | ltrimstr($prefix)), size_bytes: .Size}'
}

# Print [{path, size_bytes, sha256}] of the models, paths from MODELS_DIR on. The one time that they are read for this.
models() {
  # A bucket's key, so a name, may have a tab, a line break or a dash at its beginning. A line break travels as //n: no
  # path has two slashes in a row, and jq 1.6 does not read NUL.
  local path newline=//n
  (cd "$MODELS_DIR" && find . -type f -printf '%P\0' | sort -z | while IFS= read -r -d '' path; do
    printf '%s %s %s\n' "$(stat -c %s -- "$path")" "$(sha256sum <"$path" | cut -d ' ' -f 1)" "${path//$'\n'/$newline}"
  done) | jq --raw-input --slurp 'split("\n")[:-1] | map(split(" ")
      | {path: (.[2:] | join(" ") | split("//n") | join("\n")), size_bytes: (.[0] | tonumber), sha256: .[1]})'
}

# Print the value of KEY in /etc/os-release.
os() { sed -n "s/^$1=\"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" /etc/os-release; }

image=$(image) || fail "Docker does not have ${REPOSITORY_URL}:${IMAGE_TAG} with its digest; did pull-image.sh run?"
models=$(models)
# One digest for all models, of their checksums and paths, as the AMI's tag has it (models_digest in records/release.py).
digest=$(jq --raw-output --join-output '[.[] | "\(.sha256)  \(.path)"] | sort | join("\n")' <<<"$models" | sha256sum | cut -d ' ' -f 1)
packages=$(packages) || fail "what is installed cannot be told; does rpm list it?"

# The caller's user fetches it, also where a hardened base has given root another umask: what is secret there has a folder
# of its own.
mkdir -p "${CONTENTS%/*}"
chmod 0755 "${CONTENTS%/*}"
new=$(mktemp "${CONTENTS}.XXXXXX")
# The lists go in as files: Linux takes no argument of more than 128 KiB, which is some 800 models.
jq --null-input \
  --arg run_id "$RUN_ID" --arg family "$FAMILY" --arg version "$PIPELINE_VERSION" --arg started "$STARTED_AT" \
  --arg source "$SOURCE_AMI" --arg source_name "${SOURCE_AMI_NAME:-}" \
  --arg os "$(os PRETTY_NAME)" --arg os_id "$(os ID)" --arg os_version "$(os VERSION_ID)" --arg kernel "$(uname -r)" \
  --arg repository "$REPOSITORY_URL" --arg tag "$IMAGE_TAG" --argjson image "$image" \
  --arg models_dir "$MODELS_DIR" --arg models_digest "sha256:$digest" --slurpfile models <(printf '%s' "$models") \
  --slurpfile packages <(printf '%s' "$packages") \
  'def version(name): [$packages[0][] | select(.name == name) | "\(.version)-\(.release)"] | last // "none";
  # Of the packages, where the module of this machine is not loaded. As numbers: 580.9 comes before 580.10.
  def driver: [$packages[0][] | select(.name | test("^(nvidia-driver|nvidia-kmod|kmod-nvidia|nvidia-open)")) | .version]
    | sort_by(split(".") | map(tonumber? // 0)) | last // "none";
  {
    run_id: $run_id, family: $family, pipeline_version: $version, started_at: $started,
    source_ami: {id: $source, name: $source_name},
    os: $os, os_id: $os_id, os_version: $os_version, kernel: $kernel, nvidia_driver: driver,
    nvidia_container_toolkit: version("nvidia-container-toolkit"), docker: version("docker"),
    containerd: version("containerd"), ecs_agent: version("ecs-init"),
    image: ({repository: $repository, tag: $tag} + $image),
    models: {dir: $models_dir, digest: $models_digest, files: $models[0]},
    packages: $packages[0]
  }' >"$new"
chmod 0644 "$new"
mv -f "$new" "$CONTENTS"

say "$(jq --raw-output '"\(.packages | length) packages, \(.models.files | length) model files, image \(.image.digest)"' "$CONTENTS")"
say "done in ${SECONDS} s"
