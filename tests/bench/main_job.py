"""The main job against the same programs run bare, and the start-up of the command line."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gpu_ami.coldstart.points import COLUMNS
from gpu_ami.records import archive
from gpu_ami.tools import packer_tools, terraform_tools
from gpu_ami.workspace import Workspace
from gpu_ami_sandbox.packer_values import packer_values
from gpu_ami_sandbox.session import Sandbox
from tests.bench.measure import in_turn, say, seconds
from tests.e2e.conftest import Checkout, make_checkout
from tests.records.test_image_comparison import archived

ROOT = Path(__file__).parents[2]
EMPTY_TASKS = '''\
from invoke.tasks import task


@task
def nothing(c):
    """Do nothing."""
'''


def listing() -> bool:
    """`invoke --list` here over `invoke --list` beside one empty task: at most 1.25."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tasks.py").write_text(EMPTY_TASKS)

        def run(cwd: Path) -> None:
            subprocess.run([sys.executable, "-m", "invoke", "--list"], cwd=cwd, stdout=subprocess.DEVNULL, check=True)

        pair = in_turn(lambda: run(ROOT), lambda: run(Path(folder)))
    return say("invoke --list / with one empty task (at most 1.25)", str(pair), good=pair.ratio <= 1.25)


def cost() -> bool:
    """`invoke cost` without AWS over `invoke --list`: below 2."""

    def run(task: str) -> None:
        subprocess.run([sys.executable, "-m", "invoke", task], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)

    pair = in_turn(lambda: run("cost"), lambda: run("--list"))
    return say("invoke cost / invoke --list (below 2)", str(pair), good=pair.ratio < 2)


def coldstart() -> bool:
    """`invoke coldstart` over `invoke --list`: at most 1.3."""

    def run(task: str) -> None:
        subprocess.run([sys.executable, "-m", "invoke", task], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)

    pair = in_turn(lambda: run("coldstart"), lambda: run("--list"))
    return say("invoke coldstart / invoke --list (at most 1.3)", str(pair), good=pair.ratio <= 1.3)


def diff() -> bool:
    """`invoke diff` of two archived builds with 800 packages each, without AWS, over `invoke --list`: at most 1.5."""
    first, second = (f"ami-{number:017x}" for number in (1, 2))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("tasks.py", "pipeline.yaml"):
            shutil.copy2(ROOT / name, folder)
        for number, ami in enumerate((first, second)):
            packages = {f"package-{at}": f"1.{number if at % 20 == 0 else 0}-1" for at in range(800)}
            archive.keep(Path(folder, "packer", "builds"), ami, archived(ami, f"run-{number}", packages=packages))

        def run(*arguments: str) -> None:
            # 9 says that they differ.
            subprocess.run([sys.executable, "-m", "invoke", *arguments], cwd=folder, capture_output=True, check=False)

        pair = in_turn(lambda: run("diff", "--from", first, "--to", second), lambda: run("--list"))
    return say("invoke diff of 800 packages / invoke --list (at most 1.5)", str(pair), good=pair.ratio <= 1.5)


def points() -> bool:
    """Seconds of `invoke coldstart --points` of 10,000 rows: at most 2."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "points.csv"
        rows = [",".join((f"p{number}", "plain", *[""] * (len(COLUMNS) - 2))) for number in range(10_000)]
        path.write_text("\n".join((",".join(COLUMNS), *rows)) + "\n")
        command = [sys.executable, "-m", "invoke", "coldstart", "--points", str(path), "--output", "json"]
        taken = min(
            seconds(lambda: subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)) for _ in range(3)
        )
    return say("10,000 points (at most 2 s)", f"{taken:.2f} s", good=taken <= 2)


def sandbox_start() -> bool:
    """Seconds until the local AWS and the guest answer: at most 4."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = make_checkout(Path(folder) / "checkout")

        def start() -> None:
            with checkout.sandbox():
                pass

        taken = min(seconds(start) for _ in range(3))
    return say("sandbox start, process included (at most 4 s)", f"{taken:.1f} s", good=taken <= 4)


def doctor() -> bool:
    """Seconds of `invoke doctor --sandbox` with a sandbox of its own: at most 5."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = make_checkout(Path(folder) / "checkout")
        taken = min(seconds(lambda: checkout.document("doctor", "--sandbox")) for _ in range(3))
    return say("doctor in the sandbox, its start included (at most 5 s)", f"{taken:.1f} s", good=taken <= 5)


def build() -> bool:
    """`invoke build --sandbox` over packer and terraform fmt, validate and build run bare: at most 1.15."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = make_checkout(Path(folder) / "checkout")
        with checkout.sandbox() as sandbox:
            alone = seconds(lambda: checkout.document("doctor", "--sandbox"))
            pair = in_turn(lambda: checkout.document("build", "--sandbox"), lambda: _bare(checkout, sandbox))
    say("doctor alone", f"{alone:.2f} s", good=True)
    return say("invoke build / the same programs bare (at most 1.15)", str(pair), good=pair.ratio <= 1.15)


def _bare(checkout: Checkout, sandbox: Sandbox) -> None:
    """Run what `invoke build` runs, one after another, on the same local AWS and guest."""
    workspace = Workspace(checkout.root, sandbox=True)
    tools, infra = packer_tools(), terraform_tools()
    env = sandbox.access.child_environment({"PACKER_PLUGIN_PATH": str(tools.plugin_path), "CHECKPOINT_DISABLE": "1"})
    values = packer_values(sandbox, workspace)
    variables = [f"-var={name}={_literal(value)}" for name, value in values.items()]
    packer, terraform = str(tools.packer.path), str(infra.terraform.path)
    mirror = [f"-plugin-dir={infra.provider_mirror}"] if infra.provider_mirror else []
    for command, cwd in (
        ([packer, "fmt", "-check", "-recursive", "."], workspace.packer),
        ([packer, "validate", *variables, "."], workspace.packer),
        ([terraform, "fmt", "-check", "-recursive"], workspace.terraform),
        ([terraform, "init", "-backend=false", "-input=false", *mirror], workspace.terraform),
        ([terraform, "validate"], workspace.terraform),
        ([packer, "build", "-machine-readable", *variables, "."], workspace.packer),
    ):
        subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL, check=True)


def _literal(value: object) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)
