"""The scratch machine that the tests of the provisioning scripts share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.box import Box


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """Return an empty scratch machine."""
    return Box(tmp_path)
