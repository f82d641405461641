"""The real pipeline in a checkout of its own: real Packer, real Terraform, real scripts, local AWS."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.console import Console
from gpu_ami.workspace import Workspace
from gpu_ami_sandbox.session import Sandbox, open_sandbox, running_session
from tests.support.schemas import problems_of_output

ROOT = Path(__file__).parents[2]
PARTS = ("packer", "tasks.py", "pipeline.yaml")
_LEFT_OUT = shutil.ignore_patterns(
    "*.auto.pkrvars.hcl", "*.auto.tfvars.json", ".terraform*", "manifest.json", "release.json"
)


@dataclass(frozen=True)
class Checkout:
    """A copy of the repository in which tasks run as a user runs them.

    Attributes:
        root: The copy.
        env: Variables on top of this process's.
    """

    root: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def popen(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """Start ``invoke ARGUMENTS`` in a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "invoke", *arguments],
            cwd=self.root,
            env={**os.environ, "GPU_AMI_SANDBOX": "", **self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def invoke(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run ``invoke ARGUMENTS`` to its end; the JSON that it prints is what docs/schemas/ promises."""
        with self.popen(*arguments, **env) as child:
            try:
                out, err = child.communicate(timeout=300)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                raise
        assert problems_of_output(arguments, out) == []
        return subprocess.CompletedProcess(arguments, child.returncode, out, err)

    def document(self, *arguments: str) -> Any:
        """Run a task that must succeed and return its JSON."""
        done = self.invoke(*arguments, "--output", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def sandbox(self) -> Iterator[Sandbox]:
        """Keep ``invoke sandbox`` running meanwhile and yield the way to its local AWS."""
        child = self.popen("sandbox")
        workspace = Workspace(root=self.root, sandbox=True)
        console = Console(err=io.StringIO())
        try:
            end = time.monotonic() + 300
            while running_session(workspace) is None:
                assert child.poll() is None, child.communicate()[1]
                assert time.monotonic() < end, "invoke sandbox did not come up"
                time.sleep(0.1)
            with open_sandbox(workspace, region="ap-northeast-2", console=console, with_guest=True) as sandbox:
                yield sandbox
        finally:
            child.send_signal(signal.SIGINT)
            child.communicate(timeout=120)


def make_checkout(folder: Path, *, root_module: bool = True) -> Checkout:
    """Return a copy of what the tasks need under *folder*.

    Args:
        folder: Where the copy goes.
        root_module: Whether the Terraform folder is the repository's own. Else it only declares the variable that AMIs
            are handed over in, word for word: each build validates the folder, and nine tenths of the processor time of
            that go to the aws provider and its schema. `test_apply.py`, `test_apply_slow.py`, `test_off_loopback.py`
            and `test_workflows.py` build and apply with the whole of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        _copy(name, folder)
    if root_module:
        _copy("terraform", folder)
    else:
        (folder / "terraform").mkdir(exist_ok=True)
        (folder / "terraform" / "variables.tf").write_text(_handed_over())
    return Checkout(folder)


def _copy(name: str, folder: Path) -> None:
    """Copy a file or folder of the repository into *folder*."""
    source = ROOT / name
    if source.is_dir():
        shutil.copytree(source, folder / name, ignore=_LEFT_OUT)
    else:
        shutil.copy2(source, folder / name)


@contextlib.contextmanager
def with_root_module(checkout: Checkout) -> Iterator[None]:
    """Let the Terraform folder of *checkout* be the repository's own meanwhile."""
    folder = checkout.root / "terraform"
    before = folder.rename(checkout.root / "terraform-before")
    try:
        _copy("terraform", checkout.root)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        before.rename(folder)


def _handed_over() -> str:
    """Return the block of the variable that AMIs are handed over in."""
    text = (ROOT / "terraform" / "variables.tf").read_text()
    return text[(start := text.index('variable "gpu_ami_id" {')) : text.index("\n}\n", start) + 3]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A fresh copy for one test that needs no root module."""
    return make_checkout(tmp_path / "checkout", root_module=False)


@pytest.fixture
def whole_checkout(tmp_path: Path) -> Checkout:
    """A fresh copy for one test, the root module too."""
    return make_checkout(tmp_path / "checkout")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """One copy for tests that only read one successful build."""
    return make_checkout(tmp_path_factory.mktemp("shared") / "checkout", root_module=False)


@pytest.fixture(scope="session")
def live(shared: Checkout) -> Iterator[Sandbox]:
    """A running sandbox of the shared checkout."""
    with shared.sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def built(shared: Checkout, live: Any) -> dict[str, Any]:
    """The result of one `invoke build --sandbox` against the running sandbox."""
    document: dict[str, Any] = shared.document("build", "--sandbox")
    return document


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Checkout, Any]]:
    """A checkout whose scripts the tests break, and its running sandbox."""
    checkout = make_checkout(tmp_path_factory.mktemp("spoilt") / "checkout", root_module=False)
    with checkout.sandbox() as sandbox:
        yield checkout, sandbox


@pytest.fixture
def scene(spoilt: tuple[Checkout, Any]) -> Iterator[tuple[Checkout, Any]]:
    """The spoilt checkout with whole sources again."""
    checkout, _ = spoilt
    yield spoilt
    shutil.rmtree(checkout.root / "packer")
    fresh = make_checkout(checkout.root.parent / f"fresh-{time.monotonic_ns()}", root_module=False)
    shutil.move(fresh.root / "packer", checkout.root / "packer")
    shutil.rmtree(fresh.root)
