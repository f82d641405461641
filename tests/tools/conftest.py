"""What the tests of the tools share: a machine with nothing installed."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpu_ami.console import Console
from gpu_ami.tools import provider
from tests.tools.machine import Machine


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with nothing installed, no network and nobody's settings."""
    for folder in ("bin", "home", "stock"):
        (tmp_path / folder).mkdir()
    for name in [*os.environ]:
        if name.startswith(("PACKER_", "TF_", "GPU_AMI_", "GO", "XDG_", "UV")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STOCK", str(tmp_path / "stock"))
    monkeypatch.setenv("GPU_AMI_CACHE_DIR", str(tmp_path / "cache"))
    # Port 9 discards: nothing listens there, and the answer is immediate.
    monkeypatch.setenv("GPU_AMI_RELEASES_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "share"))
    monkeypatch.setattr(provider, "SHARED", tmp_path / "opt")
    monkeypatch.setattr(sys, "platform", "linux")
    said = io.StringIO()
    return Machine(tmp_path, said, Console(err=said))


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test is not run as root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test is run as root."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def notes() -> tuple[list[str], Callable[[str], None]]:
    """A list and the function that appends progress notes to it."""
    taken: list[str] = []
    return taken, taken.append
