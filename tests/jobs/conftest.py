"""An account, and a Terraform for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cleanup.conftest import here, no_waits, one_aws
from tests.cleanup.world import World
from tests.jobs.terraform_world import FakeTerraform

__all__ = ["here", "no_waits", "one_aws"]


@pytest.fixture
def terraform(here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTerraform:
    """A root module with two environments in a repository of its own."""
    return FakeTerraform(here, tmp_path / "terraform").install(monkeypatch)
