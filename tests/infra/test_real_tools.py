"""The repository's own template and Terraform folder, judged by the real Packer and Terraform."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gpu_ami.tools import packer_tools, terraform_tools

ROOT = Path(__file__).parents[2]


def _run(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PACKER_PLUGIN_PATH": str(packer_tools().plugin_path), "CHECKPOINT_DISABLE": "1"}
    return subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_the_template_is_laid_out_as_packer_would() -> None:
    """One layout, no discussion."""
    done = _run(ROOT, str(packer_tools().packer.path), "fmt", "-check", "-diff", "-recursive", "packer/")

    assert (done.returncode, done.stdout) == (0, "")


def test_the_template_is_valid_with_the_example_values(tmp_path: Path) -> None:
    """Whoever copies the example and fills it in gets past validation."""
    folder = tmp_path / "packer"
    shutil.copytree(ROOT / "packer", folder, ignore=shutil.ignore_patterns("*.pkrvars.hcl"))
    shutil.copy2(folder / "variables.auto.pkrvars.hcl.example", folder / "variables.auto.pkrvars.hcl")

    done = _run(folder, str(packer_tools().packer.path), "validate", ".")

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_terraform_folder_is_laid_out_and_valid(tmp_path: Path) -> None:
    """fmt, init and validate on a copy: nobody's state, backend or variables take part."""
    folder = tmp_path / "terraform"
    ours = shutil.ignore_patterns(".terraform*", "backend.tf", "*.tfvars*", "*.tfstate*")
    shutil.copytree(ROOT / "terraform", folder, ignore=ours)
    tools = terraform_tools()
    terraform = str(tools.terraform.path)
    mirror = [f"-plugin-dir={tools.provider_mirror}"] if tools.provider_mirror else []

    for words in (
        ("fmt", "-check", "-diff", "-recursive"),
        ("init", "-backend=false", "-input=false", *mirror),
        ("validate", "-no-color"),
    ):
        done = _run(folder, terraform, *words)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("ami", "accepted"),
    [
        ("ami-0123456789abcdef0", True),
        ("ami-12345678", True),
        ("ami-0123456789ABCDEF0", False),
        ("ami-123", False),
        ("<html>", False),
        ("", False),
    ],
)
def test_the_root_module_takes_ami_ids_and_nothing_else(tmp_path: Path, ami: str, accepted: bool) -> None:
    """`terraform validate` accepts any value; the variable's own rule is what stops a wrong id at the plan."""
    shutil.copy2(ROOT / "terraform" / "variables.tf", tmp_path)
    terraform = str(terraform_tools().terraform.path)
    assert _run(tmp_path, terraform, "init", "-backend=false", "-input=false").returncode == 0

    done = _run(tmp_path, terraform, "plan", "-input=false", "-no-color", f"-var=gpu_ami_id={ami}")

    assert (done.returncode == 0) == accepted, done.stdout + done.stderr
    assert ("gpu_ami_id must be an AMI id" in done.stderr) != accepted
