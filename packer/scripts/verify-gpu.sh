#!/usr/bin/env bash
# Check the GPU stack where there is a GPU; say so and pass where there is none. Reads only, sets nothing.
#
# Inputs: REQUIRE_GPU (1 fails without a GPU; default 0), TEST_IMAGE (a local image to start as the ECS agent starts a job,
# or empty), MPS_PIPE (repair or fail: what validate-image.sh does about NVIDIA MPS with its pipe in /tmp/nvidia-mps),
# CONTAINER_SECONDS (after so long a container is taken for one that hangs; default 300).
set -euo pipefail

readonly REQUIRE_GPU=${REQUIRE_GPU:-0}
readonly TEST_IMAGE=${TEST_IMAGE:-}
readonly MPS_PIPE=${MPS_PIPE:-fail}
readonly CONTAINER_SECONDS=${CONTAINER_SECONDS:-300}
readonly CONTAINER=gpu-ami-verify-gpu
readonly MPS_UNIT=nvidia-mps.service
# A container has nothing there, so CUDA finds no pipe of MPS.
readonly NO_MPS=CUDA_MPS_PIPE_DIRECTORY=/run/mps-ecs
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

# Make a CUDA context on each GPU, as a job does first: only then do a driver of another version and error 805 show, which
# nvidia-smi does not ask for. For Python 2 and 3; ends with 3 where CUDA refuses and with 4 where this Python has no ctypes.
readonly NO_CTYPES=4
readonly CUDA_PROGRAM='
import sys
try:
    import ctypes
except ImportError:
    sys.exit(4)
try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError as problem:
    print("libcuda.so.1 cannot be loaded: %s" % problem)
    sys.exit(3)
def call(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code:
        text = ctypes.c_char_p()
        cuda.cuGetErrorString(code, ctypes.byref(text))
        print("%s: error %d (%s)" % (name, code, (text.value or b"unknown").decode()))
        sys.exit(3)
count = ctypes.c_int()
call("cuInit", 0)
call("cuDeviceGetCount", ctypes.byref(count))
if not count.value:
    print("CUDA sees no GPU")
    sys.exit(3)
for index in range(count.value):
    device, context = ctypes.c_int(), ctypes.c_void_p()
    call("cuDeviceGet", ctypes.byref(device), index)
    call("cuCtxCreate_v2", ctypes.byref(context), 0, device)
    call("cuCtxDestroy_v2", context)
print("CUDA contexts made: %d" % count.value)
'

# Start a container as the ECS agent starts a job's: this runtime and this variable, no --gpus (agent/api/task/task.go). One
# that hangs is ended, with 124. Docker's client only passes a milder signal on, which the first process of a container ignores.
start() {
  local status=0 began=$SECONDS
  timeout --signal=KILL "$CONTAINER_SECONDS" docker run --rm --pull never --name "$CONTAINER" --runtime nvidia \
    --env NVIDIA_VISIBLE_DEVICES=all "$@" || status=$?
  # 137 as well where the kernel ran out of memory; this clock has whole seconds.
  if ((status == 137 && SECONDS - began >= CONTAINER_SECONDS - 1)); then
    timeout --signal=KILL 60 docker rm --force "$CONTAINER" >/dev/null 2>&1 || true
    echo "the container did not end within ${CONTAINER_SECONDS} s"
    status=124
  fi
  return "$status"
}

# Run CUDA_PROGRAM in TEST_IMAGE, with more options of `docker run`; ends with 127 where the image has no Python.
run_cuda() {
  local python status=127
  for python in python3 python; do
    status=0
    start "$@" --entrypoint "$python" "$TEST_IMAGE" -c "$CUDA_PROGRAM" 2>&1 || status=$?
    ((status == 127)) || break
  done
  return "$status"
}

# Whether the base AMI starts MPS, whose pipe validate-image.sh moves.
is_repaired_later() { [[ $MPS_PIPE == repair ]] && systemctl is-enabled "$MPS_UNIT" >/dev/null 2>&1; }

# What a job meets at the pipe of a daemon outside its container is not only error 805: reports have errors 46 (nvidia-docker
# #419) and 205 (enroot #206), a crash (nvidia-docker #1396) and a hang (nvidia-container-toolkit #831). So CUDA is tried
# without the pipe whatever it was.
explain() {
  local status=$1 said=$2
  say "${said:-nothing was said} (status ${status})" >&2
  if run_cuda --env "$NO_MPS" >/dev/null; then
    is_repaired_later || fail "a job would be a client of NVIDIA MPS and could not use CUDA; see \"MPS client failed to connect\" in docs/troubleshooting.md"
    say "that is the base AMI's ${MPS_UNIT}, whose pipe validate-image.sh moves; without it CUDA works"
  elif [[ $said == *"error 80"[5-9]* ]]; then
    fail "a job would be a client of NVIDIA MPS and could not connect; see \"MPS client failed to connect\" in docs/troubleshooting.md"
  else
    fail "a job could not use CUDA in ${TEST_IMAGE}; do the driver's packages and its kernel module have one version?"
  fi
}

check_cuda() {
  local said status=0
  said=$(run_cuda) || status=$?
  case $status in
    0) say "${said##*$'\n'}, in a container of ${TEST_IMAGE}" ;;
    127) say "no Python in ${TEST_IMAGE}: whether a job can make a CUDA context was not tried" ;;
    "$NO_CTYPES") say "the Python in ${TEST_IMAGE} has no ctypes: whether a job can make a CUDA context was not tried" ;;
    *) explain "$status" "$said" ;;
  esac
}

# The way from Docker to the GPU, with the image that was baked in: another one would be pulled into the AMI.
check_containers() {
  if [[ -z $TEST_IMAGE ]]; then
    say "no image was named to try containers with"
    return
  fi
  docker image inspect "$TEST_IMAGE" >/dev/null 2>&1 || fail "${TEST_IMAGE} is not there to try the GPU with; did pull-image.sh run?"
  # The capabilities only for nvidia-smi itself, which a runtime in legacy mode does not give to an image for compute alone;
  # CUDA must do with the image's.
  start --env NVIDIA_DRIVER_CAPABILITIES=compute,utility --entrypoint nvidia-smi "$TEST_IMAGE" -L ||
    fail "a container does not see the GPU; is the NVIDIA runtime in /etc/docker-runtimes.d, and can ${TEST_IMAGE} run?"
  say "a container of ${TEST_IMAGE} sees the GPU"
  check_cuda
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
