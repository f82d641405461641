"""The gate: what a test can see of the calls, and do to them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError

from gpu_ami.aws.access import Access
from gpu_ami_sandbox.aws.gate import Answer, Call, ConnectionCutError, Environ, Fault, read_call
from gpu_ami_sandbox.aws.server import LocalAws
from tests.support.resources import BASE, REGION, refused

# One operation of a service of each protocol, with what an explicit deny is called there.
PROTOCOLS = [
    ("ec2", "describe_images", {}, "DescribeImages", "UnauthorizedOperation", 403),
    ("sts", "get_caller_identity", {}, "GetCallerIdentity", "AccessDenied", 403),
    ("ssm", "describe_parameters", {}, "DescribeParameters", "AccessDeniedException", 400),
    ("batch", "describe_job_queues", {}, "DescribeJobQueues", "AccessDeniedException", 400),
    ("rbin", "list_rules", {"ResourceType": "EC2_IMAGE"}, "ListRules", "AccessDeniedException", 400),
    ("s3", "list_buckets", {}, "GET /", "AccessDenied", 403),
]
each_protocol = pytest.mark.parametrize(
    ("service", "method", "arguments", "action", "denial", "status"), PROTOCOLS, ids=[row[0] for row in PROTOCOLS]
)


def call(access: Access, service: str, method: str, arguments: dict[str, Any]) -> None:
    """Make one call, without retries."""
    getattr(access.client(service, retries=False), method)(**arguments)


@each_protocol
def test_a_call_is_noted_with_its_operation(
    access: Access,
    aws: LocalAws,
    service: str,
    method: str,
    arguments: dict[str, Any],
    action: str,
    denial: str,
    status: int,
) -> None:
    """Counting calls per operation is how the clean-up's speed is judged."""
    call(access, service, method, arguments)

    (noted,) = aws.gate.calls
    assert (noted.number, noted.service, noted.action, noted.region) == (1, service, action, REGION)
    assert arguments.items() <= dict(noted.parameters).items()


@each_protocol
def test_an_error_has_the_form_of_its_protocol(
    access: Access,
    aws: LocalAws,
    service: str,
    method: str,
    arguments: dict[str, Any],
    action: str,
    denial: str,
    status: int,
) -> None:
    """The SDK must understand a made-up failure as it would a real one."""
    aws.gate.fail("RequestLimitExceeded", "slow <down>", service=service, status=503)

    with pytest.raises(ClientError) as caught:
        call(access, service, method, arguments)

    assert caught.value.response["Error"]["Code"] == "RequestLimitExceeded"
    assert caught.value.response["Error"]["Message"] == "slow <down>"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503


@each_protocol
def test_a_denied_action_is_refused_as_iam_does(
    access: Access,
    aws: LocalAws,
    service: str,
    method: str,
    arguments: dict[str, Any],
    action: str,
    denial: str,
    status: int,
) -> None:
    """Code, status and the text `not authorized to perform`."""
    aws.gate.deny(f"{service}:{action.upper()}")  # IAM's actions know no case

    with pytest.raises(ClientError) as caught:
        call(access, service, method, arguments)

    assert caught.value.response["Error"]["Code"] == denial
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert f"not authorized to perform: {service}:{action}" in caught.value.response["Error"]["Message"]


def test_patterns_deny_only_what_they_match(ec2: Any, aws: LocalAws) -> None:
    """A policy that denies deleting still lets the clean-up query."""
    aws.gate.deny("ec2:Delete*")

    ec2.describe_images()

    with refused("UnauthorizedOperation"):
        ec2.delete_snapshot(SnapshotId="snap-00000000000000000")


def test_only_the_kth_call_fails(ec2: Any, aws: LocalAws) -> None:
    """`for every k of a run` needs exactly this."""
    fault = aws.gate.fail("InternalError", at=2, action="DescribeVolumes")

    ec2.describe_volumes()
    ec2.describe_images()
    with refused("InternalError"):
        ec2.describe_volumes()
    ec2.describe_volumes()

    assert fault.seen == 3
    assert [c.number for c in aws.gate.calls] == [1, 2, 3, 4]


def test_a_cut_connection_is_no_answer(access: Access, aws: LocalAws) -> None:
    """The SDK reports a closed connection, not an error of AWS."""
    aws.gate.cut(action="DescribeImages", at=1)

    with pytest.raises(ConnectionClosedError):
        call(access, "ec2", "describe_images", {})
    call(access, "ec2", "describe_images", {})


def test_a_fault_of_ones_own_may_cut_the_connection(access: Access, aws: LocalAws) -> None:
    """At once: a client that waits for its timeout would take a minute per call."""

    def cut(_call: Call, _environ: Environ) -> None:
        raise ConnectionCutError

    aws.gate.add(Fault(cut))
    began = time.monotonic()

    with pytest.raises(ConnectionClosedError):
        call(access, "ec2", "describe_images", {})
    assert time.monotonic() - began < 60


def test_any_bytes_can_be_the_answer(access: Access, aws: LocalAws) -> None:
    """Cut-off and malformed answers are one test each for every reader."""
    from botocore.parsers import ResponseParserError

    aws.gate.reply(b"<DescribeImagesResponse><imagesSet><item>", action="DescribeImages")

    with pytest.raises((ResponseParserError, HTTPClientError)):
        call(access, "ec2", "describe_images", {})


def test_a_fault_of_ones_own_may_let_calls_pass(ec2: Any, aws: LocalAws) -> None:
    """A throttle with buckets is written by its test."""
    seen: list[Call] = []

    def every_second(call: Call, _environ: Environ) -> Answer | None:
        seen.append(call)
        return (200, {}, b"<x/>") if len(seen) % 2 == 0 else None

    aws.gate.add(Fault(every_second, service="ec2"))
    ec2.describe_images()
    answer = ec2.describe_images()

    assert "Images" not in answer or answer["Images"] == []
    assert [c.action for c in seen] == ["DescribeImages", "DescribeImages"]


def test_each_call_can_take_its_time(ec2: Any, aws: LocalAws) -> None:
    """The bench adds 50 ms per call; a tenth shows here."""
    aws.gate.delay_s = 0.1
    began = time.monotonic()

    ec2.describe_images()

    assert time.monotonic() - began >= 0.1


def test_clearing_forgets_everything(ec2: Any, aws: LocalAws) -> None:
    """One test's faults are not the next one's."""
    aws.gate.fail("InternalError")
    aws.gate.deny("ec2:*")
    aws.gate.delay_s = 9.0

    aws.gate.clear()
    ec2.describe_images()

    assert [c.action for c in aws.gate.calls] == ["DescribeImages"]


def test_forms_are_noted_flat_and_json_as_it_is(access: Access, aws: LocalAws) -> None:
    """What a test reads from the log."""
    access.client("ec2").describe_images(ImageIds=[BASE])
    access.client("ssm").get_parameters(Names=["/a"], WithDecryption=True)

    form, document = (c.parameters for c in aws.gate.calls)
    assert form == {"ImageId.1": BASE}
    assert document == {"Names": ["/a"], "WithDecryption": True}


@pytest.mark.parametrize(
    ("environ", "action"),
    [
        ({"REQUEST_METHOD": "PUT", "PATH_INFO": "/bucket/key"}, "PUT /bucket/key"),
        ({"HTTP_AUTHORIZATION": "AWS4 Credential=k/d/r/nothing/aws4_request", "PATH_INFO": "/x"}, "GET /x"),
        ({"HTTP_AUTHORIZATION": "AWS4 Credential=k/d/r/batch/aws4_request", "PATH_INFO": "/x"}, "GET /x"),
    ],
    ids=["unsigned", "unknown service", "unknown path"],
)
def test_what_has_no_operation_shows_its_path(environ: Environ, action: str) -> None:
    """The log never fails on a request."""
    assert read_call(environ).action == action


@pytest.mark.parametrize("body", [b"[1]", b"{", b""], ids=["a list", "cut off", "empty"])
def test_a_body_that_is_no_document_has_no_parameters(body: bytes) -> None:
    """Nor on a body."""
    import io

    environ = {
        "HTTP_AUTHORIZATION": "AWS4 Credential=k/d/r/ssm/aws4_request",
        "HTTP_X_AMZ_TARGET": "AmazonSSM.GetParameter",
        "CONTENT_TYPE": "application/x-amz-json-1.1",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }

    found = read_call(environ)

    assert (found.action, found.parameters) == ("GetParameter", {})
    assert environ["wsgi.input"].read() == body  # type: ignore[attr-defined]
