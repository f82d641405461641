#!/usr/bin/env bash
# Fail the bake unless the image is clean and complete. Runs last, prints every check, and changes nothing but MPS's pipe.
#
# Inputs: ECR_REGISTRY, ECR_REPOSITORY, IMAGE_TAG, IMAGE_DIGEST (or empty), ECS_IMAGE_PULL_BEHAVIOR,
# ECS_CONTAINER_START_TIMEOUT, ECS_CONTAINER_CREATE_TIMEOUT, ECS_IMAGE_PULL_INACTIVITY_TIMEOUT,
# ECS_ENABLE_SPOT_INSTANCE_DRAINING, ECS_EXTRA_CONFIG (a JSON object, or empty), MODELS_DIR, MIN_FREE_GIB, RUN_ID, PREWARM (1
# or 0), PREWARM_READERS, PREWARM_SECONDS, PREWARM_PATHS (a JSON list), MPS_PIPE (repair or fail, where the base AMI starts
# NVIDIA MPS with its pipe in /tmp/nvidia-mps).
set -euo pipefail
shopt -s nullglob dotglob

: "${ECR_REGISTRY:?}" "${ECR_REPOSITORY:?}" "${IMAGE_TAG:?}" "${ECS_IMAGE_PULL_BEHAVIOR:?}" "${MODELS_DIR:?}" "${MIN_FREE_GIB:?}"
: "${ECS_CONTAINER_START_TIMEOUT:?}" "${ECS_CONTAINER_CREATE_TIMEOUT:?}" "${ECS_IMAGE_PULL_INACTIVITY_TIMEOUT:?}"
: "${ECS_ENABLE_SPOT_INSTANCE_DRAINING:?}"
: "${RUN_ID:?}" "${PREWARM:?}" "${PREWARM_READERS:?}" "${PREWARM_SECONDS:?}" "${PREWARM_PATHS:?}" "${MPS_PIPE:?}"
readonly RELEASE=/etc/gpu-ami-release.json
readonly REPOSITORY_URL="${ECR_REGISTRY}/${ECR_REPOSITORY}"
readonly MPS_UNIT=nvidia-mps.service
readonly MPS_VARIABLE=CUDA_MPS_PIPE_DIRECTORY
# Where MPS has its pipe when nobody says otherwise, and where the base AMIs after 20260820 have it (amazon-ecs-ami #771).
readonly MPS_DEFAULT=/tmp/nvidia-mps MPS_MOVED=/run/mps-ecs
# Behind every other drop-in of the unit.
readonly MPS_DROP_IN=/etc/systemd/system/${MPS_UNIT}.d/zz-gpu-ami.conf

checks=0
failures=0

# Run COMMAND, which prints what is wrong, and print its row of the table. A command that fails, a missing program for
# one, has not checked anything: that is a failed check too.
check() {
  local name=$1 wrong status=0
  shift
  checks=$((checks + 1))
  set +e
  wrong=$(
    set -e
    "$@" 2>&1
  )
  status=$?
  set -e
  if ((status != 0)); then
    wrong="could not be checked (status ${status}) ${wrong}"
  fi
  if [[ -z $wrong ]]; then
    printf 'validate-image: ok    %s\n' "$name"
  else
    failures=$((failures + 1))
    printf 'validate-image: FAIL  %s: %s\n' "$name" "${wrong//$'\n'/, }"
  fi
}

# Each function below prints what is wrong, nothing when all is well.

# Print those of the paths that exist; a pattern without a match is no path.
existing() {
  local path
  for path in "$@"; do
    [[ ! -e $path && ! -L $path ]] || echo "$path"
  done
}

# Print those of the paths that do not exist.
existing_not() {
  local path
  for path in "$@"; do
    [[ -e $path ]] || echo "$path is missing"
  done
}

# Print those of the files that hold something.
filled() {
  local path
  for path in "$@"; do
    [[ ! -s $path ]] || echo "$path"
  done
}

machine_id() {
  [[ -f /etc/machine-id ]] || echo "/etc/machine-id is missing; it must be an empty file"
  [[ ! -s /etc/machine-id ]] || echo "/etc/machine-id has an id; each instance would have the same one"
}

# The builder's own (user data) lives in memory; one on the volume would end every instance.
scheduled_shutdown() {
  local command='\b(shutdown|poweroff|halt)\b'
  grep -rlE "$command" /etc/crontab /etc/anacrontab /etc/cron.* /var/spool/cron /var/spool/at /etc/rc.local /etc/rc.d/rc.local \
    /var/lib/cloud/scripts 2>/dev/null || true
  grep -rlE "^Exec[A-Za-z]*=.*$command" /etc/systemd/system 2>/dev/null || true
}

logs() {
  local name
  for name in messages secure cron maillog wtmp btmp audit/audit.log cloud-init.log cloud-init-output.log; do
    filled "/var/log/$name"
  done
}

registry_login() {
  existing /root/.docker /home/*/.docker /run/gpu-ami/docker
  grep -l '^ECS_ENGINE_AUTH_' /etc/ecs/ecs.config /var/lib/ecs/ecs.config 2>/dev/null || true
}

# Print the value of KEY that the agent will see: /etc/ecs/ecs.config goes before /var/lib/ecs/ecs.config, and within a
# file the last line counts.
ecs_setting() {
  { cat /var/lib/ecs/ecs.config /etc/ecs/ecs.config 2>/dev/null || true; } | sed -n "s/^$1=//p" | tail -n 1
}

# Print the settings that must be effective, KEY=VALUE, a line each.
ecs_wanted() {
  local key
  echo ECS_ENABLE_GPU_SUPPORT=true
  for key in ECS_IMAGE_PULL_BEHAVIOR ECS_CONTAINER_START_TIMEOUT ECS_CONTAINER_CREATE_TIMEOUT ECS_IMAGE_PULL_INACTIVITY_TIMEOUT \
    ECS_ENABLE_SPOT_INSTANCE_DRAINING; do
    echo "${key}=${!key}"
  done
  jq --raw-output '(. // {}) | to_entries[] | "\(.key)=\(.value)"' <<<"${ECS_EXTRA_CONFIG:-null}"
}

ecs_config() {
  [[ -f /var/lib/ecs/ecs.config ]] || echo "/var/lib/ecs/ecs.config is missing; GPU support comes from it"
  [[ -d /var/lib/ecs/deps ]] || echo "/var/lib/ecs/deps is missing; ECS Exec needs it"
  local wanted pair is
  wanted=$(ecs_wanted)
  while IFS= read -r pair; do
    is=$(ecs_setting "${pair%%=*}")
    [[ $is == "${pair#*=}" ]] || echo "${pair%%=*} is '$is', not '${pair#*=}'"
  done <<<"$wanted"
  [[ $wanted == *$'\nECS_CLUSTER='* || -z $(ecs_setting ECS_CLUSTER) ]] ||
    echo "ECS_CLUSTER is baked in; Batch sets it at boot"
}

ecs_unit() {
  local state
  state=$(systemctl is-enabled ecs.service 2>/dev/null || true)
  [[ $state == enabled ]] || echo "ecs.service is '${state:-unknown}'; instances would never join their cluster"
}

# The digest that must be there: the given one, else the one that the release record noted.
digest() { echo "${IMAGE_DIGEST:-$(jq --raw-output '.image.digest' "$RELEASE" 2>/dev/null || true)}"; }

image() {
  local wanted
  wanted=$(digest)
  [[ $wanted == sha256:* ]] || {
    echo "nothing says which digest to expect"
    return
  }
  docker image inspect "${REPOSITORY_URL}:${IMAGE_TAG}" 2>/dev/null |
    jq --exit-status --arg ref "${REPOSITORY_URL}@${wanted}" '.[0].RepoDigests | index($ref) != null' >/dev/null ||
    echo "${REPOSITORY_URL}:${IMAGE_TAG} is not there with ${wanted}"
}

containers() { docker ps --all --quiet; }

release() {
  [[ $(jq --raw-output '.run_id' "$RELEASE" 2>/dev/null) == "$RUN_ID" ]] || echo "$RELEASE is missing or of another bake"
}

# Compare every model with what the release record noted when it was written.
models() {
  local listed
  listed=$(jq --raw-output '.models.files[] | "\(.sha256)  \(.path)"' "$RELEASE" 2>/dev/null) || {
    echo "$RELEASE lists no models"
    return
  }
  [[ -z $listed || -d $MODELS_DIR ]] || {
    echo "$MODELS_DIR is missing"
    return
  }
  [[ -d $MODELS_DIR ]] || return 0
  cd "$MODELS_DIR"
  [[ -z $listed ]] || sha256sum --check --quiet - <<<"$listed" 2>/dev/null | sed 's/: FAILED.*/ is not as recorded/' || true
  find . -type f -printf '%P\n' | { grep -vxFf <(cut -c 67- <<<"$listed") || true; } | sed 's/$/ is not recorded/'
}

writable_models() { [[ ! -d /opt/ml ]] || find /opt/ml -perm -0002 ! -type l; }

# Print the versions of the installed packages whose name matches, where it looks like one of a driver or a toolkit: a
# package that only names a repository (nvidia-release) counts its own way.
versions() {
  rpm -qa --queryformat '%{NAME} %{VERSION}\n' |
    awk -v names="$1" -v but="$2" -v like="$3" '$1 ~ names && (but == "" || $1 !~ but) && $2 ~ like { print $2 }' | sort -u
}

# All parts of the driver must have one version, and so must those of the container toolkit.
nvidia_packages() {
  local driver toolkit
  driver=$(versions '^(nvidia|libnvidia|kmod-nvidia)' '^(nvidia-container|libnvidia-container)' '^[0-9][0-9][0-9][.][0-9]')
  toolkit=$(versions '^(nvidia-container|libnvidia-container)' '' '.')
  [[ -n $driver ]] || echo "no package of the driver is installed; is the base AMI a GPU one?"
  (($(wc -w <<<"$driver") <= 1)) || echo "driver packages of several versions: $driver"
  (($(wc -w <<<"$toolkit") <= 1)) || echo "container toolkit packages of several versions: $toolkit"
}

# Print the folder in which MPS will have its pipe, nothing where no boot starts MPS. An EnvironmentFile goes before
# Environment, and in each the last value counts (systemd.exec).
mps_pipe() {
  local state files file words word pipe=
  state=$(systemctl is-enabled "$MPS_UNIT" 2>/dev/null || true)
  [[ -n $state && $state != disabled && $state != masked* && $state != not-found ]] || return 0
  words=$(systemctl show "$MPS_UNIT" --property=Environment --value | tr ' ' '\n') || return
  files=$(systemctl show "$MPS_UNIT" --property=EnvironmentFiles --value) || return
  while IFS= read -r file; do
    words+=$'\n'$(cat "${file%% (ignore_errors=*}" 2>/dev/null || true)
  done <<<"$files"
  while IFS= read -r word; do
    word=${word#[\"\']}
    [[ $word != "${MPS_VARIABLE}="* ]] || pipe=$(tr -d "\"'" <<<"${word#*=}")
  done <<<"$words"
  realpath --canonicalize-missing -- "${pipe:-$MPS_DEFAULT}"
}

# NVIDIA's runtime puts /tmp/nvidia-mps of the host, and no other folder, into every container with a GPU
# (nvidia-container-toolkit, pkg/nvcdi), where CUDA finds the pipe and makes the job a client of MPS whether it asked for that
# or not (amazon-ecs-ami #771).
mps() {
  local pipe advice='take a base AMI after 20260820, or mps_pipe = "repair"'
  pipe=$(mps_pipe) || return
  [[ $pipe == "$(realpath --canonicalize-missing -- "$MPS_DEFAULT")" ]] || return 0
  [[ $MPS_PIPE != repair ]] || advice="${MPS_DROP_IN} says otherwise; which EnvironmentFile of the unit says so?"
  echo "$MPS_UNIT has its pipe in $pipe, which makes every GPU job a client of MPS; $advice"
}

# Have the base AMI's MPS as the newer base AMIs have it. What could not be judged is left alone: the check says so. Only the
# host's half moves: an agent that mounts the old folder for tasks that share a GPU (amazon-ecs-agent #5082, until #5102) finds
# no pipe there. GPU sharing by ECS: take a newer base.
repair_mps() {
  local wrong
  wrong=$(mps 2>&1) || return 0
  [[ -n $wrong ]] || return 0
  mkdir -p "${MPS_DROP_IN%/*}"
  printf '[Service]\nEnvironment=%s=%s\n' "$MPS_VARIABLE" "$MPS_MOVED" >"$MPS_DROP_IN"
  chmod 0644 "$MPS_DROP_IN"
  # Without it systemd goes on showing the old value, and the check fails.
  systemctl daemon-reload || true
  printf 'validate-image: %s is to have its pipe in %s\n' "$MPS_UNIT" "$MPS_MOVED"
}

prewarm() {
  local unit=gpu-ami-prewarm.service script=/usr/local/libexec/gpu-ami/prewarm.py config=/etc/gpu-ami/prewarm.json state
  if [[ $PREWARM != 1 ]]; then
    existing "/etc/systemd/system/$unit" "/etc/systemd/system/${unit}.d" "$config" "$script"
    return
  fi
  existing_not "/etc/systemd/system/$unit" "/etc/systemd/system/${unit}.d/limit.conf" "$script"
  state=$(systemctl is-enabled "$unit" 2>/dev/null || true)
  [[ $state == enabled ]] || echo "$unit is '${state:-unknown}'; instances would not read ahead"
  jq --exit-status --argjson readers "$PREWARM_READERS" --argjson seconds "$PREWARM_SECONDS" --argjson paths "$PREWARM_PATHS" \
    '. == {readers: $readers, seconds: $seconds, paths: $paths}' "$config" >/dev/null 2>&1 || echo "$config is not as set"
}

free_space() {
  local free
  free=$(df --output=avail --block-size=1M / | tail -n 1)
  ((free >= MIN_FREE_GIB * 1024)) || echo "only $((free)) MiB free, wanted ${MIN_FREE_GIB} GiB; raise volume_size_gib"
}

if [[ $MPS_PIPE == repair ]]; then repair_mps; fi

check "no AWS credentials" existing /root/.aws /home/*/.aws
check "no SSM registration" existing /var/lib/amazon/ssm/registration
check "no Docker login" registry_login
check "no login keys" filled /root/.ssh/authorized_keys* /home/*/.ssh/authorized_keys* /root/.ssh/id_* /home/*/.ssh/id_*
check "no SSH host keys" existing /etc/ssh/ssh_host_*
check "no shell history" existing /root/.*_history /home/*/.*_history
check "empty machine id" machine_id
check "no host name" filled /etc/hostname
check "no cloud-init state" existing /var/lib/cloud/instance /var/lib/cloud/instances/* /var/lib/cloud/sem/* /var/lib/cloud/data/*
check "no scheduled shutdown" scheduled_shutdown
check "empty logs" logs
check "no ECS agent state" existing /var/lib/ecs/data/* /var/lib/ecs/gpu/nvidia-gpu-info.json
check "ECS agent configured" ecs_config
check "ECS agent enabled" ecs_unit
check "no Docker identity" existing /var/lib/docker/engine-id /etc/docker/key.json
check "container image by digest" image
check "no containers" containers
check "release record" release
check "models as recorded" models
check "models not writable for all" writable_models
check "one NVIDIA driver version" nvidia_packages
check "no MPS pipe in $MPS_DEFAULT" mps
check "reading ahead as set" prewarm
check "free space" free_space

if ((failures > 0)); then
  printf 'validate-image: %d of %d checks failed; no AMI is made of this\n' "$failures" "$checks" >&2
  exit 1
fi
printf 'validate-image: all %d checks passed in %d s\n' "$checks" "$SECONDS"
