"""What the guest's emulated programs refuse, run by real Packer: one build whose step runs every row of every table."""

from __future__ import annotations

import base64
import importlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.tools import packer_tools
from gpu_ami.workspace import Workspace
from gpu_ami_sandbox.guest.programs.commands import COMMANDS
from gpu_ami_sandbox.guest.programs.system import Refusal
from gpu_ami_sandbox.packer_values import packer_values
from tests.e2e.conftest import Checkout

# Rows of two steps need an instance of their own; the sandbox's own tests run those.
ROWS: list[Refusal] = [
    row
    for name in sorted(set(COMMANDS.values()))
    for row in importlib.import_module(f"gpu_ami_sandbox.guest.programs.{name}").REFUSALS
    if ";" not in row.command
]
TEMPLATE = """\
packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "~> 1.8.1"
    }
  }
}
source "amazon-ebs" "guest" {
  ami_name                = "refusals"
  region                  = "REGION"
  source_ami              = "SOURCE"
  instance_type           = "c7i.4xlarge"
  subnet_id               = "SUBNET"
  security_group_id       = "GROUP"
  ssh_username            = "ec2-user"
  ssh_host                = "127.0.0.1"
  ssh_port                = PORT
  temporary_key_pair_type = "ed25519"
  run_tags                = { Name = "refusals" }
}
build {
  sources = ["source.amazon-ebs.guest"]
  provisioner "shell" {
    script = "${path.root}/ask.sh"
  }
}
"""


@pytest.fixture(scope="module")
def answers(shared: Checkout, live: Any, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str]]:
    """The status and the message of each row, as the guest gave them to Packer's script."""
    folder = tmp_path_factory.mktemp("refusals")
    values = packer_values(live, Workspace(shared.root, sandbox=True))
    text = TEMPLATE.replace("PORT", str(values["ssh_port"])).replace("REGION", live.access.region)
    text = text.replace("SUBNET", values["subnet_id"]).replace("GROUP", values["security_group_id"])
    (folder / "a.pkr.hcl").write_text(text.replace("SOURCE", live.account.source_ami_id))
    (folder / "ask.sh").write_text(_script())
    tools = packer_tools()
    env = live.access.child_environment({"PACKER_PLUGIN_PATH": str(tools.plugin_path), "CHECKPOINT_DISABLE": "1"})
    command = [str(tools.packer.path), "build", "."]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=200, check=False)
    # The script ends with 9 on purpose: no AMI is expected.
    assert "exit status: 9" in done.stdout, done.stdout + done.stderr
    reservations = live.access.client("ec2").describe_instances(Filters=[{"Name": "tag:Name", "Values": ["refusals"]}])[
        "Reservations"
    ]
    root: Path = live.guest_root(reservations[0]["Instances"][0]["InstanceId"])
    lines = (root / "home" / "ec2-user" / "answers").read_text().splitlines()
    return [(int(line.split()[0]), base64.b64decode("".join(line.split()[1:])).decode()) for line in lines]


def _script() -> str:
    commands = "\n".join(f"ask {base64.b64encode(row.command.encode()).decode()}" for row in ROWS)
    return f"""#!/bin/bash
# Ask each command and keep what it says and how it ends.
ask() {{
  said=$(bash -c "$(base64 -d <<<"$1")" 2>&1 </dev/null)
  printf '%s %s\\n' "$?" "$(base64 -w 0 <<<"$said")" >>/home/ec2-user/answers
}}
{commands}
exit 9
"""


def test_every_row_was_asked(answers: list[tuple[int, str]]) -> None:
    """An empty list of answers would agree with everything."""
    assert len(answers) == len(ROWS) > 50


@pytest.mark.parametrize("number", range(len(ROWS)), ids=lambda number: ROWS[number].command[:60])
def test_a_refusal_reaches_packers_script(answers: list[tuple[int, str]], number: int) -> None:
    """A provisioning script meets the same message and exit status as on a real instance."""
    status, said = answers[number]

    assert ROWS[number].says in said
    assert status == ROWS[number].status
