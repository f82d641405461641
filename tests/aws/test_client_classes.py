"""Clients of one service in many regions: their class is made once, and each calls its own region."""

from __future__ import annotations

import copy
import random
import threading
from typing import Any

import boto3
import botocore.hooks
import botocore.session
import pytest
from botocore.credentials import Credentials

from gpu_ami.aws import access
from gpu_ami.aws.access import Access
from gpu_ami.aws.client_classes import SharedTrie
from gpu_ami.errors import AwsError

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
        assert let_go.wait(60)
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
        asked.join(30)
        assert made == [there]
    finally:
        let_go.set()
        for thread in makers:
            thread.join()
    assert made[1] is made[2]


def test_shapes_are_made_once_for_all_regions() -> None:
    """What botocore makes of each answer's model is megabytes, and the same everywhere."""
    here, there = (ACCESS.client("ec2", region=region, retries=False) for region in ("eu-west-1", "us-east-2"))

    assert here.meta.service_model is there.meta.service_model


@pytest.mark.parametrize("seed", range(5))
def test_handlers_are_found_as_botocore_finds_them(seed: int) -> None:
    """Copies share what none of them changes; each finds, in the same order, what botocore's own copy would."""
    chance = random.Random(seed)
    pairs = [(botocore.hooks._PrefixTrie(), SharedTrie())]  # type: ignore[attr-defined]
    keys = [".".join(chance.choices("ab*c", k=chance.randint(1, 3))) for _ in range(12)]

    for step in range(120):
        plain, shared = chance.choice(pairs)
        key, value = chance.choice(keys), chance.randint(0, 5)
        if chance.random() < 0.2:
            pairs.append((copy.copy(plain), copy.copy(shared)))
        elif chance.random() < 0.7:
            section = chance.randint(0, 2)
            plain.append_item(key, value, section)
            shared.append_item(key, value, section)
        else:
            ended = []
            for one in (plain, shared):
                try:
                    ended.append(one.remove_item(key, value))
                except (ValueError, AttributeError, TypeError) as exc:
                    ended.append(type(exc))
            assert ended[0] == ended[1], step
        for one, other in pairs:
            for asked in ("a", "a.b", "a.b.c", "c.a.b", "b.b"):
                assert list(one.prefix_search(asked)) == list(other.prefix_search(asked))


def test_what_cannot_be_made_ahead_is_said_by_the_first_call() -> None:
    """A client is made ahead by whoever could not say for whom, or what the plan is to make of it."""
    ACCESS.prepare("no-such-service", "eu-west-1")

    with pytest.raises(AwsError, match="no-such-service"), ACCESS.calling("no-such-service", "eu-west-1"):
        pass


def test_what_was_made_ahead_is_what_calls_use() -> None:
    """Another key would make it twice."""
    ACCESS.prepare("pcs", "eu-west-1")
    made = dict(access._clients)

    with ACCESS.calling("pcs", "eu-west-1") as client:
        assert client in made.values()
    assert access._clients == made


def test_a_botocore_that_names_its_retries_otherwise_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its names are not promised; without them a call computes a little more, and must not fail."""
    monkeypatch.delattr("botocore.handlers.add_retry_headers")

    with Access(region="eu-west-2", credentials=ACCESS.credentials).calling("pcs", "eu-west-2") as client:
        assert client.meta.service_model.service_name == "pcs"
