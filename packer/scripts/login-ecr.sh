#!/usr/bin/env bash
# Log Docker in to ECR, with the token kept in memory so that it cannot end up in the image.
#
# Inputs: ECR_REGISTRY, ECR_REGION. The login is for pull-image.sh, which ends it.
set -euo pipefail

: "${ECR_REGISTRY:?}" "${ECR_REGION:?}"
# /run is memory; Docker's own place, /root/.docker, is on the volume that becomes the snapshot.
export DOCKER_CONFIG=/run/gpu-ami/docker

say() { printf 'login-ecr: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 1
}

(umask 077 && mkdir -p "$DOCKER_CONFIG")
token=$(aws ecr get-login-password --region "$ECR_REGION") ||
  fail "ECR gave no token; may the builder's instance profile call ecr:GetAuthorizationToken (AmazonEC2ContainerRegistryReadOnly)?"

# By way of standard input: an argument would be visible to every process.
answer=$(printf '%s' "$token" | docker login --username AWS --password-stdin "$ECR_REGISTRY" 2>&1) ||
  fail "docker login to ${ECR_REGISTRY} failed: ${answer##*$'\n'}; is it the account and region of the repository?"

say "logged in to ${ECR_REGISTRY}"
say "done in ${SECONDS} s"
