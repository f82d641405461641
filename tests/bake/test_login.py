"""How to log in to a builder that waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpu_ami.bake.login import login_lines
from gpu_ami.bake.variables import typed


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"ssh_interface": "public_ip"},
            "ssh -i packer/ec2_gpu.pem ec2-user@ADDRESS   (Packer prints it as Public IP)",
        ),
        (
            {"ssh_interface": "private_ip"},
            "ssh -i packer/ec2_gpu.pem ec2-user@ADDRESS   (Packer prints it as Private IP)",
        ),
        ({"ssh_interface": "session_manager"}, "aws ssm start-session --target INSTANCE_ID"),
        ({"ssh_host": "127.0.0.1", "ssh_port": 2222}, "ssh -i packer/ec2_gpu.pem -p 2222 ec2-user@127.0.0.1"),
        ({"ssh_host": "10.0.0.7", "ssh_port": None}, "ssh -i packer/ec2_gpu.pem ec2-user@10.0.0.7"),
    ],
)
def test_the_line_to_paste_fits_the_way_in(values: dict[str, Any], line: str) -> None:
    """Key file and address, before Packer takes the terminal."""
    assert line in "\n".join(login_lines(typed(values), Path("packer")))
