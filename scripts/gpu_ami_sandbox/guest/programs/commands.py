"""The module that emulates each command."""

COMMANDS = {
    "chown": "chown",
    "cloud-init": "cloud_init",
    "dnf": "dnf",
    "docker": "docker",
    "hostname": "identity",
    "id": "identity",
    "journalctl": "journalctl",
    "mount": "mount",
    "nvidia-smi": "nvidia_smi",
    "poweroff": "shutdown",
    "reboot": "shutdown",
    "rpm": "rpm",
    "shutdown": "shutdown",
    "sudo": "sudo",
    "sync": "kernel",
    "systemctl": "systemctl",
    "systemd-analyze": "systemd_analyze",
    "umount": "mount",
    "whoami": "identity",
}
