"""An account, and a Terraform for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.account import World
from tests.support.fake_terraform import FakeTerraform


@pytest.fixture
def terraform(here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTerraform:
    """A root module with two environments in a repository of its own."""
    return FakeTerraform(here, tmp_path / "terraform").install(monkeypatch)
