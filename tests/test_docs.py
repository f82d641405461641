"""The troubleshooting page knows every check."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gpu_ami.aws.access import Access
from gpu_ami.bake import variables
from gpu_ami.bake.checks import catalog
from gpu_ami.bake.checks.lookups import Lookups
from gpu_ami_sandbox.aws import batch_faults
from gpu_ami_sandbox.aws.ec2.gpus import FAULT_TAG
from gpu_ami_sandbox.guest.builder import FAULTS

ROOT = Path(__file__).parents[1]
TROUBLE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def test_the_troubleshooting_page_explains_every_check() -> None:
    """Who looks up a failing line finds it by its name."""
    values = {"ssh_interface": "session_manager", "subnet_id": "subnet-1"}
    bake = variables.typed(values)
    lookups = Lookups(Access(region="ap-northeast-2"), bake)
    on_aws = catalog.on_aws(lookups, None, sandbox=True, folder=Path())
    rows = (*catalog.on_this_machine(bake, sandbox=True), *on_aws)
    names = {spec.name for spec in rows} - {"permissions"}
    table = " ".join(re.findall(r"^\| (`.+?) \|", TROUBLE, re.MULTILINE))

    assert sorted(name for name in names if f"`{name}`" not in table) == []
    assert "`permissions: …`" in table


@pytest.mark.parametrize(
    ("heading", "line"),
    [
        ("ECR login failed", "ECR login"),
        ("Network errors", "network"),
        ("GPU not detected", "GPU"),
        ("Disk space insufficient", "disk space"),
    ],
)
def test_each_classic_failure_has_its_line(heading: str, line: str) -> None:
    """The four cases that people met first, each with the check that shows it and a command."""
    section = re.search(rf"^### \d+\. {heading}\n(.*?)^### ", TROUBLE, re.MULTILINE | re.DOTALL)

    assert section is not None
    assert re.search(rf"lines? `{line}`", section[1])
    assert "```console\n$ invoke " in section[1]


def test_every_fault_of_the_sandbox_is_told() -> None:
    """Nobody guesses the value of a tag."""
    section = TROUBLE[TROUBLE.index("## In the sandbox") :]
    rows = dict(re.findall(r"^\| `(.+?)` \| (.+?) \|$", section, re.MULTILINE))

    assert {name: text.replace("`", "") for name, text in rows.items()} == FAULTS | batch_faults.FAULTS
    assert f"Key={FAULT_TAG},Value=driver-mismatch" in section
    assert f"Key={batch_faults.FAULT_TAG},Value=second-host" in section
    assert f"Key={batch_faults.SLOW_TAG},Value=2" in section
