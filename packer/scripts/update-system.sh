#!/usr/bin/env bash
# Bring the operating system up to date and install what the later steps need: the AWS CLI and jq.
#
# Inputs: UPDATE_CONTAINER_STACK (1 lets Docker, containerd, runc and the ECS agent move as well; default 0).
set -euo pipefail

readonly UPDATE_CONTAINER_STACK=${UPDATE_CONTAINER_STACK:-0}
# What the base AMI installs in one version and does not lock (install-docker.sh and install-ecs-init.sh of amazon-ecs-ami).
readonly CONTAINER_STACK=docker,containerd,runc,ecs-init
# In memory; write-release.sh compares it with what is installed then.
readonly BEFORE=/run/gpu-ami/packages-before

say() { printf 'update-system: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 1
}

readonly NETWORK_HINT="can the subnet reach the internet or an S3 gateway endpoint, and does the security group let port 443 out?"

# A second run of this step must not take what the first one installed for the base AMI's.
note_packages() {
  [[ ! -s $BEFORE ]] || return 0
  mkdir -p "${BEFORE%/*}"
  rpm -qa --queryformat '%{NAME} %{VERSION}-%{RELEASE}\n' | sort >"$BEFORE" || fail "rpm does not list what is installed"
}

options=(-y --quiet --releasever=latest)
if [[ $UPDATE_CONTAINER_STACK == 1 ]]; then
  say "Docker, containerd, runc and the ECS agent may move (update_container_stack = true)"
else
  options+=("--exclude=${CONTAINER_STACK}")
fi
note_packages

# Amazon Linux 2023 is locked to the release of its AMI: without --releasever there is next to nothing to update.
# Kernel and NVIDIA driver stay as they are: the base AMI holds them with `dnf versionlock`.
dnf "${options[@]}" update || fail "dnf could not update the system; ${NETWORK_HINT}"
say "the system is up to date"

# The ECS AMI is built from the minimal one and has neither.
dnf "${options[@]}" install awscli-2 jq || fail "dnf could not install awscli-2 and jq; ${NETWORK_HINT}"
say "installed $(aws --version 2>&1 | cut -d ' ' -f 1) and $(jq --version)"
say "done in ${SECONDS} s"
