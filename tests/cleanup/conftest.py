"""What the tests of the clean-up share."""

from __future__ import annotations

import pytest


@pytest.fixture
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not in the Recycle Bin at once is not waited for."""
    monkeypatch.setattr("gpu_ami.cleanup.recycle_bin_check._SHOWN_WITHIN_S", 0.0)
