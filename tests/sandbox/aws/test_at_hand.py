"""The tests' short way to the local AWS answers, refuses and breaks down as the way over HTTP does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami_sandbox.aws.gate import Fault, Gate
from gpu_ami_sandbox.aws.server import LocalAws
from tests.support.account import REGION
from tests.support.at_hand import over_http


def _broken(*_: object) -> None:
    raise LookupError


CALLS: dict[str, Callable[[Access], Any]] = {
    "ec2": lambda access: access.client("ec2", retries=False).describe_images(Owners=["self", "amazon"]),
    "query": lambda access: access.client("autoscaling", retries=False).describe_auto_scaling_groups(MaxRecords=3),
    "json": lambda access: access.client("ssm", retries=False).get_parameters(Names=["/naïve/ü"]),
    "rest": lambda access: access.client("lambda", retries=False).list_functions(MaxItems=2),
    "a path": lambda access: access.client("imagebuilder", retries=False).get_image_recipe(
        imageRecipeArn="arn:aws:imagebuilder:eu-west-1:123456789012:image-recipe/a b/1.0.0"
    ),
    "what is not there": lambda access: access.client("ec2", retries=False).describe_images(ImageIds=["ami-12345678"]),
}
SPOILT: dict[str, Callable[[Gate], object]] = {
    "whole": lambda _gate: None,
    "denied": lambda gate: gate.deny("*"),
    "failed": lambda gate: gate.fail("InternalError", status=500),
    "a page": lambda gate: gate.reply(b"<html>log in</html>"),
    "cut": lambda gate: gate.cut(),
    "broken": lambda gate: gate.add(Fault(_broken)),
}


@pytest.fixture(autouse=True)
def on_the_network() -> None:
    """Not here: both ways are compared."""


def _outcome(call: Callable[[Access], Any], access: Access) -> object:
    """Return the answer without what differs each time, or the error, its cause's details aside."""
    try:
        answer: dict[str, Any] = call(access)
    except Exception as exc:  # noqa: BLE001 - whatever botocore makes of it
        response = getattr(exc, "response", None) or {}
        return type(exc), str(exc), response.get("Error"), response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    metadata = answer.pop("ResponseMetadata")
    return answer, metadata["HTTPStatusCode"], sorted(metadata["HTTPHeaders"])


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_both_ways_end_alike(
    aws_server: LocalAws, call: Callable[[Access], Any], spoil: Callable[[Gate], object]
) -> None:
    """Else a test would pass that fails on a network."""
    aws_server.reset()
    access = Access(region=REGION, endpoint_url=aws_server.endpoint_url)
    spoil(aws_server.gate)

    at_hand = _outcome(call, access)
    called = aws_server.gate.calls[-1]
    with over_http():
        assert _outcome(call, access) == at_hand

    again = aws_server.gate.calls[-1]
    assert (again.service, again.action, again.region, again.parameters) == (
        called.service,
        called.action,
        called.region,
        called.parameters,
    )


def test_the_short_way_needs_no_port(aws_server: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proof that the comparison above compares two ways."""
    aws_server.reset()
    access = Access(region=REGION, endpoint_url=aws_server.endpoint_url)
    sent: list[object] = []
    monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", lambda _self, request: sent.append(request))

    assert access.client("ec2", retries=False).describe_images(Owners=["self"])["Images"] == []
    assert sent == []
