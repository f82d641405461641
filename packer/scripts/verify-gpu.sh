#!/usr/bin/env bash
# Check the GPU stack where there is a GPU; say so and pass where there is none. Reads only, sets nothing.
#
# Inputs: REQUIRE_GPU (1 fails without a GPU; default 0), TEST_IMAGE (a local image to start with --gpus all, or empty).
set -euo pipefail

readonly REQUIRE_GPU=${REQUIRE_GPU:-0}
readonly TEST_IMAGE=${TEST_IMAGE:-}
readonly NVIDIA_VENDOR=0x10de

say() { printf 'verify-gpu: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 1
}

# Whether the machine has an NVIDIA device on its PCI bus, driver or not.
has_gpu() {
  local vendor
  for vendor in /sys/bus/pci/devices/*/vendor; do
    [[ ! -r $vendor || $(<"$vendor") != "$NVIDIA_VENDOR" ]] || return 0
  done
  return 1
}

# Print FIELDS of every GPU, one line each.
query() { nvidia-smi --query-gpu="$1" --format=csv,noheader; }

# Print the CUDA version that the driver offers; nvidia-smi has no query for it.
cuda() { nvidia-smi | sed -n 's/.*CUDA[^:]*Version: *\([0-9.]*\).*/\1/p' | head -n 1 | grep . || echo unknown; }

# Driver and GPUs, as the host sees them.
check_driver() {
  local driver gpus gpu
  command -v nvidia-smi >/dev/null || fail "nvidia-smi is missing; is the base AMI a GPU one?"
  nvidia-smi -L || fail "there is a GPU but its driver does not answer; see dmesg | grep -i nvidia"
  driver=$(query driver_version | sort -u | paste -sd ,) || fail "the driver does not say its version; see dmesg | grep -i nvidia"
  [[ -n $driver && $driver != *,* ]] || fail "the GPUs have drivers of several versions or of none: '${driver}'"
  gpus=$(query index,name,memory.total,mig.mode.current,persistence_mode) || fail "the driver does not describe its GPUs; see dmesg | grep -i nvidia"
  say "driver ${driver}, CUDA $(cuda)"
  while IFS= read -r gpu; do say "GPU (index, name, memory, MIG, persistence): ${gpu}"; done <<<"$gpus"
}

# The way from Docker to the GPU, with the image that was baked in: another one would be pulled into the AMI.
check_containers() {
  if [[ -z $TEST_IMAGE ]]; then
    say "no image was named to try containers with"
    return
  fi
  docker image inspect "$TEST_IMAGE" >/dev/null 2>&1 || fail "${TEST_IMAGE} is not there to try the GPU with; did pull-image.sh run?"
  docker run --rm --pull never --gpus all --env NVIDIA_DRIVER_CAPABILITIES=compute,utility --entrypoint nvidia-smi "$TEST_IMAGE" -L ||
    fail "a container does not see the GPU; is the NVIDIA runtime in /etc/docker-runtimes.d, and can ${TEST_IMAGE} run?"
  say "a container of ${TEST_IMAGE} sees the GPU"
}

if ! has_gpu; then
  [[ $REQUIRE_GPU != 1 ]] || fail "this builder has no NVIDIA device; choose an instance_type with a GPU, such as g5.xlarge"
  say "this builder has no GPU, which is fine: the driver loads on the GPU instances that start from the image"
  say "done in ${SECONDS} s"
  exit 0
fi

check_driver
check_containers
say "done in ${SECONDS} s"
