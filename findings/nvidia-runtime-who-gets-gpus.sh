#!/usr/bin/env bash
# NVIDIA's container runtime with CDI: CUDA_VERSION alone gives a container every GPU, and NVIDIA_VISIBLE_DEVICES=none ends it.
set -euo pipefail

command -v go >/dev/null || {
  echo "go not found on PATH" >&2
  exit 2
}
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
export GOFLAGS="-mod=mod -buildvcs=false"
version=v1.20.2
go mod init finding >/dev/null 2>&1
go mod edit -require "github.com/NVIDIA/nvidia-container-toolkit@$version"
go build -o runtime github.com/NVIDIA/nvidia-container-toolkit/cmd/nvidia-container-runtime >build.log 2>&1 || { cat build.log >&2 && exit 2; }
mkdir -p cdi bundle/rootfs
cat >cdi/nvidia.yaml <<'END'
cdiVersion: 0.6.0
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits: {env: ["GOT=0"]}
- name: all
  containerEdits: {env: ["GOT=all"]}
END
cat >config.toml <<END
[nvidia-container-runtime]
mode = "cdi"
runtimes = ["$work/runc"]
[nvidia-container-runtime.modes.cdi]
spec-dirs = ["$work/cdi"]
END
# In place of runc, which would start the container: the runtime has changed its config.json by then.
printf '#!/bin/sh\n' >runc
chmod +x runc
export NVIDIA_CTK_CONFIG_FILE_PATH=$work/config.toml

# Print what a container with these variables gets.
gets() {
  printf '{"ociVersion": "1.0.2", "process": {"env": [%s], "args": ["job"], "cwd": "/"}, "root": {"path": "rootfs"}}' "$1" >bundle/config.json
  if ./runtime create --bundle "$work/bundle" job >create.log 2>&1; then
    grep -oE 'GOT=[a-z0-9]+' bundle/config.json || echo nothing
  else
    grep -oE -m 1 'unresolvable CDI devices [^ "\\]+' create.log
  fi
}
seen=$(
  for env in '"NVIDIA_VISIBLE_DEVICES=0"' '"NAME=value"' '"CUDA_VERSION=12.4.1"' '"CUDA_VERSION=12.4.1", "NVIDIA_VISIBLE_DEVICES=void"' '"NVIDIA_VISIBLE_DEVICES=none"'; do
    echo "$env: $(gets "$env")"
  done
)
want='"NVIDIA_VISIBLE_DEVICES=0": GOT=0
"NAME=value": nothing
"CUDA_VERSION=12.4.1": GOT=all
"CUDA_VERSION=12.4.1", "NVIDIA_VISIBLE_DEVICES=void": nothing
"NVIDIA_VISIBLE_DEVICES=none": unresolvable CDI devices nvidia.com/gpu=none'
echo "version:    nvidia-container-toolkit $version"
echo "good guess: who does not name NVIDIA_VISIBLE_DEVICES gets no GPU; with none in it a container starts without one"
printf 'seen:       %s\n' "${seen//$'\n'/$'\n'            }"
[[ $seen == "$want" ]] || {
  echo "changed: who gets GPUs from NVIDIA's runtime" >&2
  exit 1
}
