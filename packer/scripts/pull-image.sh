#!/usr/bin/env bash
# Pull the container image by digest, unless it is there, drop what an earlier bake left of it, and log Docker out again.
#
# Inputs: ECR_REGISTRY, ECR_ACCOUNT, ECR_REGION, ECR_REPOSITORY, IMAGE_TAG, IMAGE_DIGEST (or empty: looked up by tag).
# login-ecr.sh has logged in.
set -euo pipefail

: "${ECR_REGISTRY:?}" "${ECR_ACCOUNT:?}" "${ECR_REGION:?}" "${ECR_REPOSITORY:?}" "${IMAGE_TAG:?}"
export DOCKER_CONFIG=/run/gpu-ami/docker
readonly REPOSITORY_URL="${ECR_REGISTRY}/${ECR_REPOSITORY}"
readonly RELEASE=/etc/gpu-ami-release.json
readonly LAYERS=/run/gpu-ami/layers
readonly DROP_IN=/run/systemd/system/docker.service.d/gpu-ami-layers.conf
readonly MIB=$((1024 * 1024))
readonly PULL_ATTEMPTS=3

say() { printf 'pull-image: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 1
}

# Print digest and compressed size, bytes, of the wanted image; in one call, since a tag may move between two.
look_up() {
  local id="imageTag=${IMAGE_TAG}"
  [[ -z ${IMAGE_DIGEST:-} ]] || id="imageDigest=${IMAGE_DIGEST}"
  aws ecr describe-images --region "$ECR_REGION" --registry-id "$ECR_ACCOUNT" --repository-name "$ECR_REPOSITORY" \
    --image-ids "$id" --query 'imageDetails[0].[imageDigest, imageSizeInBytes]' --output text
}

# Let the daemon stage the compressed layers in memory. On the volume they would be written and deleted again, and a
# snapshot holds deleted blocks too: they would cost hydration time at every start. BYTES is what has to fit.
stage_in_memory() {
  local bytes=$1 free_mib
  free_mib=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
  local wanted_mib=$((bytes / MIB + 512))
  if ((free_mib < wanted_mib + 2048)); then
    say "staging layers on the volume: ${wanted_mib} MiB do not fit in ${free_mib} MiB of free memory"
    return
  fi
  mkdir -p "$LAYERS"
  if ! mount -t tmpfs -o "size=${wanted_mib}m,mode=0700" gpu-ami-layers "$LAYERS" 2>/dev/null; then
    rmdir "$LAYERS"
    say "staging layers on the volume: no memory file system can be mounted here"
    return
  fi
  mkdir -p "${DROP_IN%/*}"
  printf '[Service]\nEnvironment=DOCKER_TMPDIR=%s\n' "$LAYERS" >"$DROP_IN"
  restart_docker || fail "Docker did not restart with DOCKER_TMPDIR; see journalctl -u docker"
  say "staging layers in ${wanted_mib} MiB of memory"
}

# Undo stage_in_memory; does nothing where nothing was staged.
unstage() {
  [[ -d $LAYERS ]] || return 0
  rm -f "$DROP_IN"
  restart_docker || fail "Docker did not restart after the pull; see journalctl -u docker"
  umount "$LAYERS" || fail "the layers' memory file system at ${LAYERS} is still in use"
  rmdir "$LAYERS"
}

# Restart Docker with what its drop-ins say now. Its unit allows three starts a minute; those of the boot and of a
# system update count.
restart_docker() {
  systemctl daemon-reload
  systemctl reset-failed docker.service 2>/dev/null || true
  systemctl restart docker.service
}

pull() {
  local attempt
  for ((attempt = 1; attempt <= PULL_ATTEMPTS; attempt++)); do
    ! docker pull "$1" || return 0
    say "pull attempt ${attempt} of ${PULL_ATTEMPTS} failed" >&2
    ((attempt == PULL_ATTEMPTS)) || sleep $((attempt * 2))
  done
  return 1
}

is_there() { docker image inspect "$1" >/dev/null 2>&1; }

# Stage, pull, unstage.
bring() {
  stage_in_memory "$bytes"
  say "pulling ${REPOSITORY_URL}@${digest}, $((bytes / MIB)) MiB compressed"
  pull "${REPOSITORY_URL}@${digest}" ||
    fail "docker pull failed; is the disk full (volume_size_gib), and can the subnet reach ECR and S3 on port 443?"
  unstage
}

# Remove what a bake on top of an earlier image has left over: other images of this repository or of the one that was
# baked before, and other tags of this image.
remove_others() {
  local wanted repository id tag
  wanted=$(docker image inspect --format '{{.Id}}' "${REPOSITORY_URL}@${digest}")
  for repository in "$REPOSITORY_URL" "$(jq --raw-output '.image.repository // empty' "$RELEASE" 2>/dev/null || true)"; do
    [[ -n $repository ]] || continue
    for id in $(docker image ls --no-trunc --quiet "$repository"); do
      [[ $id != "$wanted" ]] || continue
      docker image rm --force "$id" >/dev/null
      say "removed ${id} of ${repository}, which an earlier bake had left"
    done
  done
  for tag in $(docker image inspect "$wanted" | jq --raw-output '.[0].RepoTags[]?'); do
    [[ $tag != "${REPOSITORY_URL}:${IMAGE_TAG}" ]] || continue
    docker image rm "$tag" >/dev/null
    say "removed the name ${tag}"
  done
}

found=$(look_up) ||
  fail "ECR has no image ${IMAGE_DIGEST:-$IMAGE_TAG} in ${ECR_REPOSITORY}; was it pushed to ${ECR_REGION}?"
read -r digest bytes <<<"$found"
[[ $digest == sha256:* ]] || fail "ECR names no digest for ${REPOSITORY_URL}:${IMAGE_TAG}"

unstage # what a broken run of this step has left
if is_there "${REPOSITORY_URL}@${digest}"; then
  say "${REPOSITORY_URL}@${digest} is there already; nothing to pull"
else
  bring
fi

# Job definitions name the tag: the agent looks for exactly that name before it pulls.
docker tag "${REPOSITORY_URL}@${digest}" "${REPOSITORY_URL}:${IMAGE_TAG}"
remove_others

docker logout "$ECR_REGISTRY" >/dev/null 2>&1 || true
rm -rf "$DOCKER_CONFIG"
say "baked in ${REPOSITORY_URL}:${IMAGE_TAG} (${digest})"
say "done in ${SECONDS} s"
