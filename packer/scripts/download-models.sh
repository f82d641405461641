#!/usr/bin/env bash
# Make the models folder what is wanted: the models listed below, those in MODEL_DOWNLOADS and the S3 bucket's, nothing else.
#
# Inputs: MODELS_DIR, MODELS_S3_BUCKET (or empty), AWS_DEFAULT_REGION, MIN_FREE_GIB, MODEL_DOWNLOADS (a JSON list of {url,
# path, sha256}, or empty), PARALLEL_DOWNLOADS, DOWNLOAD_ATTEMPTS, DOWNLOAD_PAUSE_S (base of the growing pause between two
# attempts).
set -euo pipefail

MODEL_DIR=$(realpath -m "${MODELS_DIR:-/opt/ml/models}")
readonly MODEL_DIR
readonly PARALLEL_DOWNLOADS=${PARALLEL_DOWNLOADS:-8}
readonly DOWNLOAD_ATTEMPTS=${DOWNLOAD_ATTEMPTS:-5}
readonly DOWNLOAD_PAUSE_S=${DOWNLOAD_PAUSE_S:-2}
# What has to stay free beside the models, bytes.
readonly RESERVED=$((${MIN_FREE_GIB:-0} * 1024 * 1024 * 1024))
# Which address each model came from, as checksums: a bake on top of this image sees when one has changed.
readonly SOURCES=/var/lib/gpu-ami/model-sources

# Your own models. download_if_missing URL PATH NAME [SHA256] starts a download beside the others; a line that needs the
# file itself calls wait_for_downloads first. The URL may be s3://BUCKET/KEY. Examples:
#
#   download_if_missing \
#     "https://github.com/ultralytics/assets/releases/download/v0.0.0/yolov8n.pt" \
#     "$MODEL_DIR/yolov8n.pt" \
#     "YOLOv8 Nano"
#
#   aws s3 cp "s3://your-bucket/models/custom-model.pth" "$MODEL_DIR/custom-model.pth" --no-progress
#
# What this run does not write and nothing wants is removed; a file that is there in another way needs keep PATH.
my_models() {
  :
}

say() { printf 'download-models: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 1
}

declare -A wanted=() # the paths that stay
PENDING=$(mktemp -d) # what each running download still has to bring
readonly PENDING
downloads=() # process ids of the running ones
failed=0

# Let PATH stay in the models folder.
keep() { wanted[$(realpath -ms "$1")]=1; }

# Start to download URL to PATH unless it is there already; NAME is for people, SHA256 is checked when given.
download_if_missing() {
  keep "$2"
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
  if [[ -s $path ]] && is_correct "$path" "$sha256" && { [[ -n $sha256 ]] || is_from "$url" "$path"; }; then
    say "${name}: already there (${path})"
    return
  fi
  mkdir -p "${path%/*}"
  check_space "$url" "$part" "$name"
  for ((attempt = 1; attempt <= DOWNLOAD_ATTEMPTS; attempt++)); do
    ((attempt == 1)) || sleep $((DOWNLOAD_PAUSE_S * (1 << (attempt - 2))))
    transfer "$url" "$part" "$name" || continue
    if is_correct "$part" "$sha256"; then
      brought
      chmod 0644 "$part"
      mv -f "$part" "$path"
      note_source "$url" "$path"
      say "${name}: $(stat -c %s "$path") bytes in ${path}"
      return
    fi
    say "${name}: ${path} has the wrong SHA-256 (wanted ${sha256}, got $(sum_of "$part"))" >&2
    rm -f "$part" # a resumed file may be wrong in its first half: the next attempt starts over
    ((attempt < 2)) || break
  done
  brought
  say "${name}: gave up on ${path} from $(shown "$url")" >&2
  return 1
}

# Transfer URL to PART, going on behind what is there.
transfer() {
  local url=$1 part=$2 name=$3 status=0
  if [[ $url == s3://* ]]; then
    aws s3 cp "$url" "$part" --no-progress --only-show-errors 2>"${part}.err" || status=$?
  else
    ask "$url" --fail --speed-limit 1024 --speed-time 60 --continue-at - --output "$part" 2>"${part}.err" || status=$?
  fi
  case $status in
    0) ;;
    33 | 36) rm -f "$part" ;; # the server cannot resume
    *)
      say "${name}: the transfer ended with ${status}: $(tail -n 1 "${part}.err")" >&2
      # 416: nothing is behind what is there, so it is of another file by now.
      ! grep -q 'error: 416' "${part}.err" || rm -f "$part"
      ;;
  esac
  rm -f "${part}.err"
  return "$status"
}

# Run curl with OPTIONS on URL. It is given by standard input and never printed whole: the query of a presigned one is a
# secret, and every process may read an argument.
ask() {
  local url=$1
  shift
  printf 'url = "%s"\n' "$url" |
    curl --config - --silent --show-error --location --proto '=https,http' --proto-redir '=https,http' --connect-timeout 20 "$@"
}

# Print how large the file at URL is, bytes; 0 where nobody says. A presigned URL is for GET alone, so one byte is asked
# for; of a server that would send everything nothing is taken.
remote_size() {
  if [[ $1 == s3://* ]]; then
    { aws s3 ls "$1" 2>/dev/null || true; } | awk -v name="${1##*/}" '$4 == name { size = $3 } END { print size + 0 }'
    return
  fi
  { ask "$1" --fail --range 0-0 --max-filesize 1 --max-time 30 --output /dev/null --dump-header - 2>/dev/null || true; } | tr -d '\r' |
    awk -F '[ /]' 'tolower($1) == "content-range:" { size = $NF } tolower($1) == "content-length:" && $2 > 1 { size = $2 } END { print size + 0 }'
}

# Fail when the file at URL, of which PART may hold the beginning, does not fit beside what the other downloads bring.
check_space() {
  local size there free coming=0 other part
  size=$(remote_size "$1")
  exec 9>"${PENDING}/lock"
  flock 9
  printf '%s %s\n' "$size" "$2" >"${PENDING}/${BASHPID}"
  while read -r other part; do
    there=$(stat -c %s "$part" 2>/dev/null || echo 0)
    ((there >= other)) || coming=$((coming + other - there))
  done < <(cat "$PENDING"/[0-9]*)
  free=$(df --output=avail --block-size=1 "${2%/*}" | tail -n 1)
  exec 9>&-
  ((coming <= free - RESERVED)) || {
    brought
    fail "${3}: ${2%.part} does not fit: $((size >> 20)) MiB, with all downloads $((coming >> 20)) MiB to come, $((free >> 20)) MiB free, ${MIN_FREE_GIB:-0} GiB to stay free; raise volume_size_gib"
  }
}

# This download brings nothing any more.
brought() { rm -f "${PENDING}/${BASHPID}"; }

# Print URL without its query and its user, either of which may be a secret.
shown() { sed -E 's|\?.*||; s|://[^/@]*@|://|' <<<"$1"; }

# The checksum of an address without its query, which is another one each time for a presigned URL.
source_of() { sha256sum <<<"${1%%\?*}" | cut -d ' ' -f 1; }

note_source() {
  mkdir -p "${SOURCES%/*}"
  printf '%s %s\n' "$(source_of "$1")" "$2" >>"$SOURCES"
}

# Whether PATH came from URL; a file that nobody noted is taken as it is.
is_from() {
  local noted
  noted=$(awk -v path="$2" 'substr($0, 66) == path { from = $1 } END { print from }' "$SOURCES" 2>/dev/null || true)
  [[ -z $noted || $noted == "$(source_of "$1")" ]]
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
    [[ $path != /* && /$path/ != */../* ]] || fail "${path}: a path in model_downloads or models.yaml leads out of ${MODEL_DIR}"
    download_if_missing "$url" "${MODEL_DIR}/${path}" "${path##*/}" "$sha256"
  done < <(jq --raw-output '(. // [])[] | [.url, .path, .sha256 // ""] | @tsv' <<<"${MODEL_DOWNLOADS:-null}")
}

# Copy everything under the bucket's models/ that is not there as it is there. SHA256SUMS among it is checked.
sync_bucket() {
  local from="s3://${MODELS_S3_BUCKET}/models/" listing date time size key missing=0 free
  listing=$(aws s3 ls "$from" --recursive | grep -v '/$') ||
    fail "there is nothing under ${from} or it cannot be listed; is the bucket right, and may the builder read it?"
  while read -r date time size key; do
    : "$date" "$time"
    keep "${MODEL_DIR}/${key#models/}"
    [[ $(stat -c %s "${MODEL_DIR}/${key#models/}" 2>/dev/null) == "$size" ]] || missing=$((missing + size))
  done <<<"$listing"
  free=$(df --output=avail --block-size=1 "$MODEL_DIR" | tail -n 1)
  ((missing <= free - RESERVED)) ||
    fail "${from} does not fit: $((missing >> 20)) MiB to copy, $((free >> 20)) MiB free, ${MIN_FREE_GIB:-0} GiB to stay free; raise volume_size_gib"
  # Without --exact-timestamps a file of the same size is taken for the same, however much newer the bucket's is: new
  # weights of an old model have its size.
  aws s3 sync "$from" "$MODEL_DIR" --exact-timestamps --no-progress --only-show-errors ||
    fail "the copy of ${from} failed; see the lines above"
  say "${from} is in ${MODEL_DIR}"
  [[ -f $MODEL_DIR/SHA256SUMS ]] || return 0
  (cd "$MODEL_DIR" && sha256sum --check --quiet SHA256SUMS) || fail "files above differ from ${from}SHA256SUMS; upload them again"
  say "all files agree with SHA256SUMS"
}

# Remove what an earlier bake of this volume brought and nothing wants any more. What this run has written in a way of its
# own, `aws s3 cp` in my_models, is newer than STAMP and stays.
remove_unwanted() {
  local path
  while IFS= read -r -d '' path; do
    [[ -z ${wanted[$path]:-} ]] || continue
    rm -f "$path"
    say "removed ${path}: nothing wants it any more"
  done < <(find "$MODEL_DIR" ! -type d ! -cnewer "$1" -print0)
  find "$MODEL_DIR" -mindepth 1 -type d -empty -delete
}

main() {
  local stamp
  stamp=$(mktemp)
  sleep 0.02 # one tick of the file system's clock: what comes now is newer
  mkdir -p "$MODEL_DIR"
  my_models
  download_listed
  wait_for_downloads
  [[ -z ${MODELS_S3_BUCKET:-} ]] || sync_bucket
  remove_unwanted "$stamp"
  rm -rf "$stamp" "$PENDING"
  # Jobs read the models under any user; nobody but root may change them.
  chmod -R u=rwX,go=rX "$MODEL_DIR"
  say "$(find "$MODEL_DIR" -type f | wc -l) files, $(du -sh "$MODEL_DIR" | cut -f 1)"
  say "done in ${SECONDS} s"
}

# Sourced by tests for its functions; executed by Packer.
[[ ${BASH_SOURCE[0]} != "$0" ]] || main
