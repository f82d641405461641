#!/usr/bin/env bash
# Take out of the image what belongs to this one machine or to this one bake; container images and models stay.
#
# Never `rm -rf /var/lib/ecs`: ecs.config in it turns GPU support on, deps is what ECS Exec needs.
set -euo pipefail
shopt -s nullglob dotglob

say() { printf 'cleanup: %s\n' "$*"; }

# The agent writes its state when it stops, the loggers hold their files open: all must be down before their files go.
stop_writers() {
  local unit
  for unit in ecs.service rsyslog.service crond.service; do
    systemctl stop "$unit" 2>/dev/null || true
  done
  systemctl kill auditd.service 2>/dev/null || true # it refuses to be stopped by name
  say "stopped the ECS agent and the loggers"
}

clean_docker() {
  docker rm --force ecs-agent >/dev/null 2>&1 || true
  docker container prune --force >/dev/null
  docker volume prune --force >/dev/null
  # Docker gives each machine its own at the next start.
  rm -f /var/lib/docker/engine-id /etc/docker/key.json
  rm -rf /run/gpu-ami
  say "removed containers and volumes, kept images"
}

clean_ecs_agent() {
  rm -rf /var/lib/ecs/data/* /var/log/ecs/*
  # GPU ids of the builder; instances without a device would believe them.
  rm -f /var/lib/ecs/gpu/nvidia-gpu-info.json
  say "removed the ECS agent's state"
}

clean_credentials() {
  local home keys
  for home in /root /home/*; do
    rm -rf "$home/.docker" "$home/.aws" "$home/.cache"
    rm -f "$home"/.*_history "$home/.lesshst" "$home/.viminfo" "$home/.wget-hsts"
    # Emptied, not removed: Packer still looks into it for its own key.
    for keys in "$home"/.ssh/authorized_keys*; do : >"$keys"; done
  done
  rm -f /etc/ssh/ssh_host_*
  rm -rf /var/lib/amazon/ssm/registration /var/lib/amazon/ssm/i-*
  say "removed credentials, login keys, host keys and shell histories"
}

clean_packages() {
  dnf clean all >/dev/null
  rm -rf /var/cache/dnf/* /var/lib/dnf/history*
  say "removed package caches"
}

# What makes an instance think that it has booted before, or that it is this builder.
clean_identity() {
  cloud-init clean --logs >/dev/null
  rm -rf /var/lib/cloud/instance /var/lib/cloud/instances /var/lib/cloud/data /var/lib/cloud/sem
  rm -rf /var/lib/dhclient/* /var/lib/NetworkManager/*.lease /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
  rm -f /etc/hostname
  # Empty, not missing: systemd makes a new id only then, and a missing file makes each boot a "first" one.
  : >/etc/machine-id
  say "removed cloud-init's state, leases, host name and machine id"
}

clean_logs() {
  journalctl --rotate >/dev/null 2>&1 || true
  journalctl --vacuum-time=1s >/dev/null 2>&1 || true
  rm -rf /var/log/journal/* /var/log/amazon/ssm/* /var/log/sa/* /var/lib/rsyslog/*
  find /var/log -type f \( -name '*.gz' -o -name '*.old' -o -name '*.[0-9]' -o -name '*-[0-9]*' \) -delete
  # Services expect the others to exist with the owner and mode they have.
  find /var/log -type f -exec truncate --size 0 {} +
  say "emptied the logs"
}

clean_temporary_files() {
  # This script's own file among them; bash keeps it open.
  find /tmp /var/tmp -xdev -mindepth 1 -delete 2>/dev/null || true
  say "emptied /tmp and /var/tmp"
}

stop_writers
clean_docker
clean_ecs_agent
clean_credentials
clean_packages
clean_logs
clean_identity
clean_temporary_files

# Instances of the image do start the agent.
systemctl unmask ecs.service
systemctl enable ecs.service
sync
say "done in ${SECONDS} s"
