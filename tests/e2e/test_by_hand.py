"""Packer by hand, as packer/README.md says, from both folders."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.tools import packer_tools
from gpu_ami.workspace import Workspace
from gpu_ami_sandbox.packer_values import packer_values
from tests.e2e.conftest import Checkout


def _hcl(values: dict[str, Any]) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


@pytest.mark.parametrize("folder", ["packer", "."], ids=["in packer/", "in the root"])
def test_packer_works_without_the_tasks(shared: Checkout, live: Any, tmp_path: Path, folder: str) -> None:
    """Nobody is locked in: init, validate and build with a variables file, the manifest beside the template."""
    values = packer_values(live, Workspace(shared.root, sandbox=True))
    for ours in ("manifest_path", "release_path"):
        del values[ours]
    variables = tmp_path / "variables.pkrvars.hcl"
    variables.write_text(_hcl(values))
    tools = packer_tools()
    template = "." if folder == "packer" else "packer/"
    env = live.access.child_environment({"PACKER_PLUGIN_PATH": str(tools.plugin_path)})

    def packer(*arguments: str) -> None:
        done = subprocess.run(
            [tools.packer.path, *arguments],
            cwd=shared.root / folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    packer("init", template)
    packer("validate", f"-var-file={variables}", template)
    packer("build", f"-var-file={variables}", template)

    manifest = json.loads((shared.root / "packer" / "manifest.json").read_text())
    (build,) = [entry for entry in manifest["builds"] if entry["packer_run_uuid"] == manifest["last_run_uuid"]]
    region, _, ami = build["artifact_id"].partition(":")
    assert region == live.access.region
    assert live.access.client("ec2").describe_images(ImageIds=[ami])["Images"][0]["State"] == "available"
