"""How to log in to the builder while `packer build -debug` waits."""

from __future__ import annotations

import shlex
from pathlib import Path

from gpu_ami.bake.variables import BuildVariables

# The plugin's name for the key of the source "gpu", in the folder where Packer runs.
KEY_FILE = "ec2_gpu.pem"
USER = "ec2-user"


def login_lines(variables: BuildVariables, folder: Path) -> list[str]:
    """Return what to tell a person about to debug a build step by step.

    Args:
        variables: The template's variables.
        folder: Where Packer runs, as a person would type it.
    """
    key = shlex.quote(str(folder / KEY_FILE))
    lines = [
        "Packer waits for Enter after each of its own steps, and asks what to do when a script fails.",
        "Once it has connected you can log in from another terminal:",
    ]
    if variables.ssh_host:
        port = f" -p {variables.ssh_port}" if variables.ssh_port else ""
        lines.append(f"  ssh -i {key}{port} {USER}@{variables.ssh_host}")
    elif variables.ssh_interface == "session_manager":
        lines.append("  aws ssm start-session --target INSTANCE_ID   (Packer prints it as Instance ID)")
    else:
        kind = "Private IP" if variables.ssh_interface == "private_ip" else "Public IP"
        lines.append(f"  ssh -i {key} {USER}@ADDRESS   (Packer prints it as {kind})")
    return [*lines, f"Packer removes {KEY_FILE} when the build ends; it opens the builder, so keep it to yourself."]
