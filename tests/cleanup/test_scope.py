"""Whose AMIs are cleaned up: asked of STS, while EC2's client is made."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gpu_ami.aws.sts import Identity
from gpu_ami.cleanup import scope
from gpu_ami.errors import AwsError
from gpu_ami.invocation import Invocation


class Making:
    """An access that says when its clients were made."""

    region = "eu-west-1"

    def __init__(self) -> None:
        """Have made none."""
        self.made: list[str] = []
        self.ready = threading.Event()

    def client(self, service: str) -> None:
        """Make one for a single caller."""
        self.made.append(service)

    def prepare(self, service: str, region: str) -> None:
        """Make a shared one."""
        self.made.append(f"{service} in {region}")
        self.ready.set()


@pytest.mark.parametrize("announces", [True, False])
def test_ec2s_client_is_made_while_sts_answers(monkeypatch: pytest.MonkeyPatch, announces: bool) -> None:
    """Its model takes the processor as long as STS takes: one after the other, a plan waited for both."""
    access = Making()

    def answer(*_: Any) -> Identity:
        assert access.ready.wait(30)
        return Identity(account="123456789012", arn="arn")

    def alone(*_: Any) -> Identity:
        raise AssertionError

    monkeypatch.setattr(scope, "identify", alone if announces else answer)
    run = cast("Invocation", SimpleNamespace(access=access, announce=answer if announces else alone))

    assert scope.whose(run, announces=announces) == "123456789012"
    assert access.made == ["sts", "ec2 in eu-west-1"]


def test_credentials_that_do_not_work_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words for that, also where a setting such as AWS_ENDPOINT_URL lets no client be made."""
    access = Making()

    def no_client(_: str) -> None:
        msg = "Invalid endpoint: nowhere"
        raise ValueError(msg)

    def refuse(_: Any) -> Identity:
        msg = "No AWS credentials to say whose credentials these are"
        raise AwsError(msg)

    monkeypatch.setattr(scope, "identify", refuse)
    monkeypatch.setattr(access, "client", no_client)

    with pytest.raises(AwsError, match="No AWS credentials"):
        scope.whose(cast("Invocation", SimpleNamespace(access=access)), announces=False)
