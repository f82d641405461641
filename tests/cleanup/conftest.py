"""An account per test, in one local AWS for all of them."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from gpu_ami.aws.calls import Caller
from gpu_ami.sandbox import images
from gpu_ami.sandbox.server import LocalAws
from tests.support.account import REGION, World, world


@pytest.fixture(scope="session")
def one_aws() -> Iterator[LocalAws]:
    """A local AWS that the tests empty and fill again: starting one takes time."""
    server = LocalAws(REGION)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def here(one_aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An account with nothing in it."""
    monkeypatch.setattr(images, "PENDING_S", 0.0)
    yield world(one_aws)
    # Bucket names are everybody's, and each file that imports these fixtures has a local AWS of its own.
    one_aws.reset()


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between two tries take no time."""
    hurried = functools.partial(Caller, sleep=lambda _seconds: None)
    monkeypatch.setattr("gpu_ami.cleanup.survey.Caller", hurried)
    monkeypatch.setattr("gpu_ami.jobs.cleaning.Caller", hurried)
    monkeypatch.setattr("gpu_ami.jobs.surveying.Caller", hurried)


@pytest.fixture
def no_long_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not in the Recycle Bin at once is not waited for."""
    monkeypatch.setattr("gpu_ami.cleanup.binproof._SHOWN_WITHIN_S", 0.0)
