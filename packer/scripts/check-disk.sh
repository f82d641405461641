#!/usr/bin/env bash
# Stop before anything big is downloaded when image and models will not fit on the root volume.
#
# Inputs: ECR_ACCOUNT, ECR_REGION, ECR_REPOSITORY, IMAGE_TAG, IMAGE_DIGEST (or empty), MODELS_S3_BUCKET (or empty),
# AWS_DEFAULT_REGION, MIN_FREE_GIB.
set -euo pipefail

: "${ECR_ACCOUNT:?}" "${ECR_REGION:?}" "${ECR_REPOSITORY:?}" "${IMAGE_TAG:?}" "${MIN_FREE_GIB:?}"
readonly GIB=$((1024 * 1024 * 1024))
# Layers unpack to 2 to 3 times their size in ECR, and the compressed ones lie beside them while Docker unpacks.
readonly UNPACKED=4

say() { printf 'check-disk: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 1
}

# Print how large the image is in ECR, bytes.
image_bytes() {
  local id="imageTag=${IMAGE_TAG}"
  [[ -z ${IMAGE_DIGEST:-} ]] || id="imageDigest=${IMAGE_DIGEST}"
  aws ecr describe-images --region "$ECR_REGION" --registry-id "$ECR_ACCOUNT" --repository-name "$ECR_REPOSITORY" \
    --image-ids "$id" --query 'imageDetails[0].imageSizeInBytes' --output text
}

# Print how large the bucket's models are, bytes. `aws s3 ls` ends with 1 when there are none: that is 0 here, and
# download-models.sh has the words for it.
models_bytes() {
  [[ -n ${MODELS_S3_BUCKET:-} ]] || {
    echo 0
    return
  }
  { aws s3 ls "s3://${MODELS_S3_BUCKET}/models/" --recursive --summarize || true; } |
    awk '/Total Size:/ { size = $3 } END { print size + 0 }'
}

gib() { awk -v bytes="$1" -v gib="$GIB" 'BEGIN { printf "%.1f GiB", bytes / gib }'; }

image=$(image_bytes) || fail "ECR has no image ${IMAGE_DIGEST:-$IMAGE_TAG} in ${ECR_REPOSITORY}; was it pushed to ${ECR_REGION}?"
models=$(models_bytes)
free=$(df --output=avail --block-size=1 / | tail -n 1)
needed=$((image * UNPACKED + models + MIN_FREE_GIB * GIB))

say "image $(gib "$image") compressed, models $(gib "$models"), to stay free ${MIN_FREE_GIB} GiB: $(gib "$needed") needed, $(gib "$free") free"
((free >= needed)) || fail "the root volume is too small; raise volume_size_gib by $(((needed - free) / GIB + 1))"
say "done in ${SECONDS} s"
