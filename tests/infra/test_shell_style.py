"""The provisioning scripts meet the house style, and the template and they agree on their inputs."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.bake.template import load_hcl, template_scripts
from gpu_ami.measure.power_off import boothook
from tests.infra.box import PACKER, SCRIPTS

ALL = sorted(SCRIPTS.glob("*.sh"))


def tool(name: str) -> str:
    """Return the linter *name* of this environment."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is missing: uv sync --group infra"
    return found


@pytest.fixture
def scripts(tmp_path: Path) -> list[str]:
    """All scripts, and the one in the user data of instances that are measured."""
    hook = tmp_path / "power-off.sh"
    hook.write_text(boothook(45).removeprefix("#cloud-boothook\n"), encoding="utf-8")
    return [*map(str, ALL), str(hook)]


def test_shellcheck_finds_nothing(scripts: list[str]) -> None:
    """A quoting mistake in a script that deletes things as root is not found in review."""
    done = subprocess.run([tool("shellcheck"), *scripts], capture_output=True, encoding="utf-8", check=False)

    assert done.stdout == ""
    assert done.returncode == 0


def test_shfmt_changes_nothing(scripts: list[str]) -> None:
    """One layout for all scripts: two blanks, indented case branches."""
    command = [tool("shfmt"), "-i", "2", "-ci", "-d", *scripts]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)

    assert done.stdout == ""


@pytest.mark.parametrize("script", ALL, ids=lambda path: path.stem)
def test_script_opens_as_the_house_style_says(script: Path) -> None:
    """Line 2 tells a reader the one job; strict mode keeps a failed command from being passed over."""
    lines = script.read_text(encoding="utf-8").splitlines()

    assert lines[0] == "#!/usr/bin/env bash"
    assert re.fullmatch(r"# [A-Z].{20,118}[.:]", lines[1]) or lines[1].endswith(".")
    assert "set -euo pipefail" in lines[:12]
    assert script.stat().st_mode & stat.S_IXUSR


def test_no_step_boots_the_builder_anew() -> None:
    """Its own end, of the user data, lives in memory, so that it is not in the image: a reboot would forget it."""
    template = (PACKER / "aws-gpu-ami.pkr.hcl").read_text(encoding="utf-8")
    assert "shutdown -h +${var.max_build_minutes}" in template

    for text in (template, *(script.read_text(encoding="utf-8") for script in ALL)):
        commands = "\n".join(line.partition("#")[0] for line in text.splitlines())
        assert not re.search(r"\breboot\b|\bkexec\b|shutdown (-r|--reboot)|expect_disconnect", commands)


@pytest.mark.parametrize("script", ALL, ids=lambda path: path.stem)
def test_script_says_how_long_it_took(script: Path) -> None:
    """The build log shows where the minutes go."""
    text = script.read_text(encoding="utf-8")

    assert re.search(r"(done|passed).* in .*SECONDS|in %d s.*SECONDS", text)


def provisioners() -> dict[str, dict[str, Any]]:
    """Return the shell provisioners of the template by script name, the one after errors too."""
    found: dict[str, dict[str, Any]] = {}
    for build in load_hcl(PACKER / "aws-gpu-ami.pkr.hcl", what="template")["build"]:
        blocks = [*build["provisioner"], *build["error-cleanup-provisioner"]]
        shells = [block["shell"] for block in blocks if "shell" in block]
        found |= {Path(script).stem: shell for shell in shells for script in shell.get("scripts") or [shell["script"]]}
    return found


def test_every_script_is_a_step_and_every_step_a_script() -> None:
    """A script that nothing runs is dead code; a step without its script fails only on AWS."""
    assert sorted(provisioners()) == [path.stem for path in ALL]


def test_validation_is_the_last_step_and_cleanup_the_one_before() -> None:
    """What is checked must be what the snapshot will hold."""
    assert template_scripts(PACKER)[-2:] == ("cleanup", "validate-image")


IMAGE_ENV = {"ECR_REGISTRY", "ECR_ACCOUNT", "ECR_REGION", "ECR_REPOSITORY", "IMAGE_TAG", "IMAGE_DIGEST"}
TUNABLES = {"PARALLEL_DOWNLOADS", "DOWNLOAD_ATTEMPTS", "DOWNLOAD_PAUSE_S", "CONTAINER_SECONDS"}


def shared_environments() -> dict[str, set[str]]:
    """Return the names in each of the template's locals whose name ends in _env."""
    blocks = load_hcl(PACKER / "aws-gpu-ami.pkr.hcl", what="template")["locals"]
    return {name: set(value) for block in blocks for name, value in block.items() if name.endswith("_env")}


def environment(script: str) -> tuple[set[str], set[str]]:
    """Return what the template gives to *script*: names written there, and those of the shared environments."""
    env = provisioners()[script].get("env", {})
    if isinstance(env, dict):
        return set(env), set()
    shared = shared_environments()
    # What several steps get is no mistake where one of them does not need all of it; what is for one step is.
    named = set().union(*(shared[name] for name in re.findall(r"local\.(\w+_env)", env)), set())
    return set(re.findall(r"\b([A-Z][A-Z0-9_]+) =", env)), named


def test_the_image_s_environment_is_what_the_scripts_think() -> None:
    """Four scripts read these names."""
    assert shared_environments()["image_env"] == IMAGE_ENV


@pytest.mark.parametrize("script", ALL, ids=lambda path: path.stem)
def test_template_and_script_agree_on_the_inputs(script: Path) -> None:
    """An input that the template forgets is an unbound variable 20 minutes into a bake; one too many misleads."""
    header = script.read_text(encoding="utf-8").partition("set -euo")[0].partition("Inputs:")[2]
    named = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", header)) - TUNABLES
    written, shared = environment(script.stem)
    # Of scripts that have one provisioner each gets all.
    body = provisioners()[script.stem]
    beside = [SCRIPTS / Path(name).name for name in body.get("scripts", [])]
    headers = [path.read_text(encoding="utf-8").partition("set -euo")[0] for path in beside]

    assert named <= written | shared
    assert written <= set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", "\n".join([header, *headers])))
