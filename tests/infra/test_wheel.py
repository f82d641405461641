"""The wheel holds all that a command needs: both packages, and the files beside their modules."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's files, as an installer lays them out."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert uv is not None, "uv is in the group infra: run `uv sync`"
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = {name.partition("/")[0] for name in packed.namelist()}
        assert {name for name in names if not name.endswith(".dist-info")} == {"gpu_ami", "gpu_ami_sandbox"}
        packed.extractall(folder / "site")
    return folder / "site"


def test_a_command_runs_from_the_wheel(site: Path, tmp_path: Path) -> None:
    """Without the checkout's own scripts/: a package that the wheel lacks is found here, not by its first user."""
    for name in ("tasks.py", "pipeline.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    env = {**os.environ, "PYTHONPATH": str(site), "GPU_AMI_SANDBOX": "1"}
    names = "import gpu_ami, gpu_ami_sandbox; print(gpu_ami.__file__, gpu_ami_sandbox.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", names], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert all(path.startswith(str(site)) for path in found.stdout.split())

    command = [sys.executable, "-m", "invoke", "cleanup", "--older-than", "30d", "--output", "json"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["totals"]["delete"] > 0


def test_the_guests_files_are_in_the_wheel(site: Path) -> None:
    """A build instance boots from them."""
    ours = {path.relative_to(ROOT / "scripts") for path in (ROOT / "scripts").rglob("*") if path.is_file()}
    expected = {path for path in ours if path.suffix != ".pyc" and path.parts[0].startswith("gpu_ami")}

    assert {path for path in expected if not (site / path).is_file()} == set()
