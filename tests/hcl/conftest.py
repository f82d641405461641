"""Here the parser itself is tested."""

from __future__ import annotations

import pytest


@pytest.fixture
def parsed_once() -> None:
    """Every text is parsed, however often: what parses it is what these tests are about."""
