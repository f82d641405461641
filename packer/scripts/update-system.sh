#!/usr/bin/env bash
# Bring the operating system up to date and install what the later steps need: the AWS CLI and jq.
set -euo pipefail

say() { printf 'update-system: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 1
}

readonly NETWORK_HINT="can the subnet reach the internet or an S3 gateway endpoint, and does the security group let port 443 out?"

# Amazon Linux 2023 is locked to the release of its AMI: without --releasever there is next to nothing to update.
# Kernel and NVIDIA driver stay as they are: the base AMI holds them with `dnf versionlock`.
dnf -y --quiet --releasever=latest update || fail "dnf could not update the system; ${NETWORK_HINT}"
say "the system is up to date"

# The ECS AMI is built from the minimal one and has neither.
dnf -y --quiet --releasever=latest install awscli-2 jq || fail "dnf could not install awscli-2 and jq; ${NETWORK_HINT}"
say "installed $(aws --version 2>&1 | cut -d ' ' -f 1) and $(jq --version)"
say "done in ${SECONDS} s"
