#!/usr/bin/env bash
# Bring the models into the image: the ones listed below, the ones in MODEL_DOWNLOADS and the ones in the S3 bucket.
#
# Inputs: MODELS_DIR, MODELS_S3_BUCKET (or empty), AWS_DEFAULT_REGION, MODEL_DOWNLOADS (a JSON list of {url, path, sha256},
# or empty), PARALLEL_DOWNLOADS, DOWNLOAD_ATTEMPTS, DOWNLOAD_PAUSE_S (base of the growing pause between two attempts).
set -euo pipefail

MODEL_DIR=${MODELS_DIR:-/opt/ml/models}
readonly MODEL_DIR
readonly PARALLEL_DOWNLOADS=${PARALLEL_DOWNLOADS:-8}
readonly DOWNLOAD_ATTEMPTS=${DOWNLOAD_ATTEMPTS:-5}
readonly DOWNLOAD_PAUSE_S=${DOWNLOAD_PAUSE_S:-2}

# Your own models. download_if_missing URL PATH NAME [SHA256] starts a download beside the others; a line that needs the
# file itself calls wait_for_downloads first. Examples:
#
#   download_if_missing \
#     "https://github.com/ultralytics/assets/releases/download/v0.0.0/yolov8n.pt" \
#     "$MODEL_DIR/yolov8n.pt" \
#     "YOLOv8 Nano"
#
#   aws s3 cp "s3://your-bucket/models/custom-model.pth" "$MODEL_DIR/custom-model.pth" --no-progress
my_models() {
  :
}

say() { printf 'download-models: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 1
}

downloads=() # process ids of the running ones
failed=0

# Start to download URL to PATH unless it is there already; NAME is for people, SHA256 is checked when given.
download_if_missing() {
  while (($(jobs -rp | wc -l) >= PARALLEL_DOWNLOADS)); do
    sleep 0.1 # not `wait -n`: it would take the status that wait_for_downloads asks for
  done
  fetch "$@" &
  downloads+=("$!")
}

# Wait for every download that was started; fail when one of them did.
wait_for_downloads() {
  local pid
  for pid in "${downloads[@]}"; do
    wait "$pid" || failed=$((failed + 1))
  done
  downloads=()
  ((failed == 0)) || fail "${failed} download(s) failed; the lines above name the files"
}

# Download one file: resumed where a broken attempt ended, moved into place only when complete and correct.
fetch() {
  local url=$1 path=$2 name=$3 sha256=${4:-}
  local part="${path}.part" attempt
  [[ $url != *[[:space:]\"\\]* ]] || fail "${name}: the URL has blanks, quotes or backslashes; encode them with %20, %22, %5C"
  if [[ -s $path ]] && is_correct "$path" "$sha256"; then
    say "${name}: already there (${path})"
    return
  fi
  mkdir -p "${path%/*}"
  for ((attempt = 1; attempt <= DOWNLOAD_ATTEMPTS; attempt++)); do
    ((attempt == 1)) || sleep $((DOWNLOAD_PAUSE_S * (1 << (attempt - 2))))
    transfer "$url" "$part" "$name" || continue
    if is_correct "$part" "$sha256"; then
      chmod 0644 "$part"
      mv -f "$part" "$path"
      say "${name}: $(stat -c %s "$path") bytes in ${path}"
      return
    fi
    say "${name}: ${path} has the wrong SHA-256 (wanted ${sha256}, got $(sum_of "$part"))" >&2
    rm -f "$part" # a resumed file may be wrong in its first half: the next attempt starts over
    ((attempt < 2)) || break
  done
  say "${name}: gave up on ${path} from ${url%%\?*}" >&2
  return 1
}

# Transfer URL to PART, going on behind what is there. The URL is given by standard input and never printed whole: the
# query of a presigned one is a secret.
transfer() {
  local url=$1 part=$2 name=$3 status=0
  printf 'url = "%s"\n' "$url" |
    curl --config - --fail --silent --show-error --location --proto '=https,http' --proto-redir '=https,http' --connect-timeout 20 \
      --speed-limit 1024 --speed-time 60 --continue-at - --output "$part" 2>"${part}.err" || status=$?
  case $status in
    0) ;;
    33 | 36) rm -f "$part" ;; # the server cannot resume
    *)
      say "${name}: curl ended with ${status}: $(tail -n 1 "${part}.err")" >&2
      # 416: nothing is behind what is there, so it is of another file by now.
      ! grep -q 'error: 416' "${part}.err" || rm -f "$part"
      ;;
  esac
  rm -f "${part}.err"
  return "$status"
}

sum_of() { sha256sum "$1" | cut -d ' ' -f 1; }

# Whether FILE has the SHA256; with none to compare, whether it has anything.
is_correct() {
  if [[ -n $2 ]]; then [[ $(sum_of "$1") == "$2" ]]; else [[ -s $1 ]]; fi
}

# Start what MODEL_DOWNLOADS lists.
download_listed() {
  local url path sha256
  while IFS=$'\t' read -r url path sha256; do
    download_if_missing "$url" "${MODEL_DIR}/${path}" "${path##*/}" "$sha256"
  done < <(jq --raw-output '(. // [])[] | [.url, .path, .sha256 // ""] | @tsv' <<<"${MODEL_DOWNLOADS:-null}")
}

# Copy everything under the bucket's models/ that is not there yet. SHA256SUMS among it is checked.
sync_bucket() {
  local from="s3://${MODELS_S3_BUCKET}/models/"
  aws s3 ls "$from" --recursive | grep -cv '/$' >/dev/null ||
    fail "there is nothing under ${from} or it cannot be listed; is the bucket right, and may the builder read it?"
  aws s3 sync "$from" "$MODEL_DIR" --no-progress --only-show-errors || fail "the copy of ${from} failed; see the lines above"
  say "${from} is in ${MODEL_DIR}"
  [[ -f $MODEL_DIR/SHA256SUMS ]] || return 0
  (cd "$MODEL_DIR" && sha256sum --check --quiet SHA256SUMS) || fail "files above differ from ${from}SHA256SUMS; upload them again"
  say "all files agree with SHA256SUMS"
}

main() {
  mkdir -p "$MODEL_DIR"
  my_models
  download_listed
  wait_for_downloads
  [[ -z ${MODELS_S3_BUCKET:-} ]] || sync_bucket
  # Jobs read the models under any user; nobody but root may change them.
  chmod -R u=rwX,go=rX "$MODEL_DIR"
  say "$(find "$MODEL_DIR" -type f | wc -l) files, $(du -sh "$MODEL_DIR" | cut -f 1)"
  say "done in ${SECONDS} s"
}

# Sourced by tests for its functions; executed by Packer.
[[ ${BASH_SOURCE[0]} != "$0" ]] || main
