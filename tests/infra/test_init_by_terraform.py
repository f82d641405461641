"""`invoke init` as people run it, after a real `terraform apply`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_ami.bake.template import load_hcl
from gpu_ami.tools import terraform_tools

ROOT = Path(__file__).parents[2]
OUTPUTS = {
    "ecr_repository_url": "210987654321.dkr.ecr.ap-northeast-2.amazonaws.com/own",
    "subnet_id": "subnet-0123456789abcdef0",
    "security_group_id": "",
    "models_s3_bucket": "own-models",
    "iam_instance_profile": "gpu-batch-bake-1",
    "region": "ap-northeast-2",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose Terraform folder has been applied: outputs with a literal each, and no provider."""
    for name in ("tasks.py", "pipeline.yaml"):
        shutil.copy2(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "packer", tmp_path / "packer", ignore=shutil.ignore_patterns("*.auto.pkrvars.hcl"))
    folder = tmp_path / "terraform"
    folder.mkdir()
    text = "".join(f'output "{name}" {{\n  value = {json.dumps(value)}\n}}\n' for name, value in OUTPUTS.items())
    (folder / "outputs.tf").write_text(text)
    for arguments in (("init", "-input=false"), ("apply", "-input=false", "-auto-approve")):
        subprocess.run([str(terraform_tools().terraform.path), *arguments], cwd=folder, capture_output=True, check=True)
    return tmp_path


def init(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``invoke init ARGUMENTS``."""
    return subprocess.run(
        [sys.executable, "-m", "invoke", "init", *arguments],
        cwd=checkout,
        env={**os.environ, "GPU_AMI_SANDBOX": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_outputs_become_packers_variables(checkout: Path) -> None:
    """No typing between `terraform apply` and `invoke build`, and no second file the next time."""
    first = init(checkout)
    again = init(checkout, "--check", "--output", "json")

    assert first.returncode == 0, first.stderr
    values = load_hcl(checkout / "packer" / "variables.auto.pkrvars.hcl", what="file")
    assert {name: values[name] for name in OUTPUTS if name != "region"} == {
        name: value for name, value in OUTPUTS.items() if name != "region"
    }
    assert "region" not in values, "pipeline.yaml owns it"
    assert (again.returncode, json.loads(again.stdout)["changed"]) == (0, False)


def test_the_outputs_are_the_modules() -> None:
    """The names that `invoke init` asks for are those of our own root."""
    declared = {name for block in load_hcl(ROOT / "terraform" / "outputs.tf", what="x")["output"] for name in block}

    assert OUTPUTS.keys() <= declared


def test_values_set_by_hand_stay_until_somebody_says_yes(checkout: Path) -> None:
    """Exit 8 with the difference; the file as it was."""
    file = checkout / "packer" / "variables.auto.pkrvars.hcl"
    mine = f'# mine\necr_repository_url = "{OUTPUTS["ecr_repository_url"]}"\nsubnet_id = "subnet-11111111" # mine\n'
    file.write_text(mine)

    refused = init(checkout)

    assert refused.returncode == 8
    assert '-subnet_id = "subnet-11111111" # mine' in refused.stderr
    assert file.read_text() == mine
    assert init(checkout, "--yes").returncode == 0
    assert "# mine\n" in file.read_text()
    assert f'subnet_id = "{OUTPUTS["subnet_id"]}" # mine\n' in file.read_text()
