#!/usr/bin/env bash
# Stop before anything big is downloaded when image and models will not fit on the root volume.
#
# Inputs: ECR_REGISTRY, ECR_ACCOUNT, ECR_REGION, ECR_REPOSITORY, IMAGE_TAG, IMAGE_DIGEST (or empty), MODELS_DIR,
# MODELS_S3_BUCKET (or empty), AWS_DEFAULT_REGION, MIN_FREE_GIB.
set -euo pipefail

: "${ECR_REGISTRY:?}" "${ECR_ACCOUNT:?}" "${ECR_REGION:?}" "${ECR_REPOSITORY:?}" "${IMAGE_TAG:?}" "${MODELS_DIR:?}"
: "${MIN_FREE_GIB:?}"
readonly GIB=$((1024 * 1024 * 1024))
# Layers unpack to 2 to 3 times their size in ECR, and the compressed ones lie beside them while Docker unpacks.
readonly UNPACKED=4

say() { printf 'check-disk: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 1
}

# Print digest and compressed size, bytes, of the image in ECR.
look_up() {
  local id="imageTag=${IMAGE_TAG}"
  [[ -z ${IMAGE_DIGEST:-} ]] || id="imageDigest=${IMAGE_DIGEST}"
  aws ecr describe-images --region "$ECR_REGION" --registry-id "$ECR_ACCOUNT" --repository-name "$ECR_REPOSITORY" \
    --image-ids "$id" --query 'imageDetails[0].[imageDigest, imageSizeInBytes]' --output text
}

# Print how much of the bucket's models is not on the volume yet, bytes. `aws s3 ls` ends with 1 when there are none: that
# is 0 here, and download-models.sh has the words for it, as for the listed downloads.
models_bytes() {
  local all there
  [[ -n ${MODELS_S3_BUCKET:-} ]] || {
    echo 0
    return
  }
  all=$({ aws s3 ls "s3://${MODELS_S3_BUCKET}/models/" --recursive --summarize || true; } |
    awk '/Total Size:/ { size = $3 } END { print size + 0 }')
  there=$({ du --summarize --block-size=1 "$MODELS_DIR" 2>/dev/null || true; } | awk '{ size = $1 } END { print size + 0 }')
  echo $((all > there ? all - there : 0))
}

gib() { awk -v bytes="$1" -v gib="$GIB" 'BEGIN { printf "%.1f GiB", bytes / gib }'; }

found=$(look_up) || fail "ECR has no image ${IMAGE_DIGEST:-$IMAGE_TAG} in ${ECR_REPOSITORY}; was it pushed to ${ECR_REGION}?"
read -r digest image <<<"$found"
to_pull=$image
if docker image inspect "${ECR_REGISTRY}/${ECR_REPOSITORY}@${digest}" >/dev/null 2>&1; then
  to_pull=0
  say "the image is there already, of an earlier bake"
fi
models=$(models_bytes)
free=$(df --output=avail --block-size=1 / | tail -n 1)
needed=$((to_pull * UNPACKED + models + MIN_FREE_GIB * GIB))

say "image $(gib "$image") compressed, models to copy $(gib "$models"), to stay free ${MIN_FREE_GIB} GiB: $(gib "$needed") needed, $(gib "$free") free"
((free >= needed)) || fail "the root volume is too small; raise volume_size_gib by $(((needed - free) / GIB + 1))"
say "done in ${SECONDS} s"
