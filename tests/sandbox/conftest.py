"""A local AWS per test: empty but for the AMI that builds start from."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami_sandbox.aws import batch_environments
from gpu_ami_sandbox.aws.ec2 import images
from gpu_ami_sandbox.aws.server import LocalAws

REGION = "ap-northeast-2"


@pytest.fixture(autouse=True)
def on_the_network(over_http: None) -> None:
    """Here the local AWS itself is tested, its server included."""


@pytest.fixture(autouse=True)
def no_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    """New AMIs, environments and queues are available at once: only a few tests are about the wait."""
    monkeypatch.setattr(images, "PENDING_S", 0.0)
    for name in ("CREATING_S", "UPDATING_S"):
        monkeypatch.setattr(batch_environments, name, 0.0)


@pytest.fixture
def aws(aws_server: LocalAws) -> LocalAws:
    """A local AWS as if just started."""
    aws_server.reset()
    return aws_server


@pytest.fixture
def access(aws: LocalAws) -> Access:
    """The way to it."""
    return Access(region=REGION, endpoint_url=aws.endpoint_url)


@pytest.fixture
def ec2(access: Access) -> Any:
    """A client of its EC2."""
    return access.client("ec2")
