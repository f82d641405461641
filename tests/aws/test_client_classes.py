"""Clients of one service in many regions: their class is made once, and each calls its own region."""

from __future__ import annotations

import threading
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.credentials import Credentials

from gpu_ami.aws import access
from gpu_ami.aws.access import Access

ACCESS = Access(region="eu-west-1", credentials=Credentials("AKIDEXAMPLE", "key", "token"))


@pytest.mark.parametrize("service", ["ec2", "ecs", "s3", "stepfunctions"])
def test_a_class_is_made_once_for_all_regions(service: str) -> None:
    """A clean-up of seventeen regions would make it seventeen times, and thirty such classes in each."""
    here, there = (ACCESS.client(service, region=region, retries=False) for region in ("eu-west-1", "us-east-2"))

    assert here is not there
    assert type(here) is type(there)
    assert (here.meta.region_name, there.meta.region_name) == ("eu-west-1", "us-east-2")
    assert "eu-west-1" in here.meta.endpoint_url
    assert "us-east-2" in there.meta.endpoint_url


def test_handlers_of_one_client_are_no_other_s() -> None:
    """What is registered on a client, such as its signer, must not sign for another region."""
    here, there = (ACCESS.client("ec2", region=region, retries=False) for region in ("eu-west-1", "us-east-2"))
    heard: list[str] = []
    here.meta.events.register("provide-client-params.ec2.DescribeImages", lambda **_: heard.append("here"))

    there.meta.events.emit("provide-client-params.ec2.DescribeImages")
    assert heard == []
    here.meta.events.emit("provide-client-params.ec2.DescribeImages")
    assert heard == ["here"]


def test_what_boto3_adds_to_a_class_is_there() -> None:
    """Its handlers run when a class is made: one made without them has no `upload_file`."""
    for region in ("eu-west-1", "us-east-2"):
        assert callable(ACCESS.client("s3", region=region).upload_file)


def test_sessions_of_others_are_left_alone() -> None:
    """Moto and the AWS command line open their own, with handlers of their own."""
    ACCESS.client("ec2")
    plain = botocore.session.Session()
    plain.set_credentials("a", "b")
    classes = {type(plain.create_client("ec2", region_name=region)) for region in ("eu-west-1", "us-east-2")}

    assert len(classes) == 2
    assert not hasattr(plain.create_client("s3", region_name="eu-west-1"), "upload_file")
    assert hasattr(boto3.Session(botocore_session=plain).client("s3", region_name="eu-west-1"), "upload_file")


def test_a_client_that_is_there_is_not_waited_for_while_another_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan makes seventeen while its first source could call EC2 already: in turn it took a fifth longer."""
    there = ACCESS.client("ec2")
    begun, let_go = threading.Event(), threading.Event()
    made: list[Any] = []

    def slowly(*_: object) -> object:
        begun.set()
        assert let_go.wait(30)
        return object()

    monkeypatch.setattr(access, "_clients", dict(access._clients))
    monkeypatch.setattr(access, "_client", slowly)
    makers = [threading.Thread(target=lambda: made.append(ACCESS.client("a-service"))) for _ in range(2)]
    for maker in makers:
        maker.start()
    try:
        assert begun.wait(30)
        asked = threading.Thread(target=lambda: made.append(ACCESS.client("ec2")))
        asked.start()
        asked.join(5)
        assert made == [there]
    finally:
        let_go.set()
        for thread in makers:
            thread.join()
    assert made[1] is made[2]
