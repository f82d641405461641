"""What an instance of Batch runs at boot: parts that Batch takes, and settings that win."""

from __future__ import annotations

import email
import json
import subprocess
import sys
from email.message import Message
from pathlib import Path

import pytest

from gpu_ami.tools import terraform_tools
from tests.infra.box import Box

TEMPLATE = Path(__file__).parents[2] / "terraform" / "modules" / "pipeline" / "user-data.mime.tftpl"
# Captured from instances of Batch; the last line without an end, as a person's own user data may leave it.
BATCH = "ECS_CLUSTER=AWSBatch-x\nECS_DISABLE_IMAGE_CLEANUP=false\nECS_IMAGE_MINIMUM_CLEANUP_AGE=10m"


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The shell part, as Terraform renders it."""
    settings = '{ECS_DISABLE_IMAGE_CLEANUP = "true", ECS_INSTANCE_ATTRIBUTES = "{\\"tier\\":\\"$gpu`x`\\"}"}'
    expression = f'jsonencode(templatefile("{TEMPLATE}", {{settings = {settings}}}))\n'
    terraform = str(terraform_tools().terraform.path)
    folder = tmp_path_factory.mktemp("console")
    done = subprocess.run(
        [terraform, "console"], input=expression, cwd=folder, capture_output=True, encoding="utf-8", check=True
    )
    (part,) = parts(email.message_from_string(json.loads(json.loads(done.stdout))))
    return part


def parts(message: Message) -> list[str]:
    """Return the shell scripts of a MIME message, which must be what Batch merges with its own."""
    assert message.get_content_type() == "multipart/mixed"
    payloads = message.get_payload()
    assert isinstance(payloads, list)
    found = []
    for part in payloads:
        assert isinstance(part, Message)
        assert part.get_content_type() == "text/x-shellscript"
        found.append(str(part.get_payload()))
    return found


def effective(config: str) -> dict[str, str]:
    """Return what the agent makes of its file: the last line of a key wins."""
    return dict(line.split("=", 1) for line in config.splitlines())


@pytest.mark.parametrize("before", [BATCH, f"{BATCH}\n", ""])
def test_the_settings_win_over_batchs(box: Box, script: str, before: str) -> None:
    """Batch switches image clean-up on again, and the baked image may then be removed after ten minutes."""
    box.write("/etc/ecs/ecs.config", before)

    result = box.bash(script)

    assert (result.status, result.said) == (0, "")
    assert effective(box.read("/etc/ecs/ecs.config")) == effective(before) | {
        "ECS_DISABLE_IMAGE_CLEANUP": "true",
        "ECS_INSTANCE_ATTRIBUTES": '{"tier":"$gpu`x`"}',
    }


def test_the_script_is_a_script(script: str, tmp_path: Path) -> None:
    """It runs as root at each boot; it meets the bar of the others."""
    file = tmp_path / "user-data.sh"
    file.write_text(script)
    beside = Path(sys.executable).parent

    assert script.startswith("#!/bin/bash\n# ")
    assert "set -euo pipefail" in script
    for command in ((str(beside / "shellcheck"),), (str(beside / "shfmt"), "-d", "-i", "2", "-ci")):
        done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
