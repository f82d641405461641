"""The local AWS as a server: gaps are loud and fast, several live side by side, ids repeat."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami.aws.sts import assume, identify
from gpu_ami_sandbox.account import ALIVE_PATH, TOKEN_HEADER
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.demo.factory import DemoLocation, Maker
from tests.support.resources import REGION, an_image, refused


def access_to(aws: LocalAws) -> Access:
    """Return the way to a local AWS."""
    return Access(region=REGION, endpoint_url=aws.endpoint_url)


@pytest.fixture
def another() -> Iterator[LocalAws]:
    """A second local AWS in the same process."""
    server = LocalAws(REGION)
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("service", "method", "arguments", "named"),
    [
        ("ec2", "describe_bundle_tasks", {}, "DescribeBundleTasks"),
        ("sts", "get_session_token", {}, None),
        ("iam", "simulate_custom_policy", {"PolicyInputList": ["{}"], "ActionNames": ["a:b"]}, "SimulateCustomPolicy"),
        ("cloudtrail", "lookup_events", {}, "LookupEvents"),
        ("dlm", "get_lifecycle_policies", {}, "dlm"),
        ("backup", "list_protected_resources", {}, "ListProtectedResources"),
        ("rbin", "lock_rule", {"Identifier": "a" * 11, "LockConfiguration": {"UnlockDelay": {
            "UnlockDelayValue": 7, "UnlockDelayUnit": "DAYS"}}}, "LockRule"),
        ("pricing", "list_price_lists", {"ServiceCode": "AmazonEC2", "EffectiveDate": 0, "CurrencyCode": "USD"},
         "ListPriceLists"),
    ],
    ids=["action", "answered", "query", "json", "service", "path", "our service", "our json"],
)  # fmt: skip
def test_what_it_cannot_do_it_refuses_at_once(
    access: Access,
    aws: LocalAws,
    capsys: pytest.CaptureFixture[str],
    service: str,
    method: str,
    arguments: Any,
    named: str | None,
) -> None:
    """Moto answers 500 and HTML, which SDKs retry for two minutes; and it prints."""
    client = access.client(service)
    if named is None:
        getattr(client, method)(**arguments)
        return

    with refused("UnsupportedOperation") as said:
        getattr(client, method)(**arguments)

    assert named in said.text
    assert len(aws.gate.calls) == 1  # the SDK did not try again
    assert capsys.readouterr() == ("", "")


def test_it_listens_on_loopback_only(aws: LocalAws) -> None:
    """Nobody else on the network may use it."""
    assert aws.endpoint_url == f"http://127.0.0.1:{aws.port}"


def test_a_server_that_was_not_started_has_no_port() -> None:
    """Rather than port 0."""
    with pytest.raises(RuntimeError, match="not started"):
        LocalAws(REGION).port  # noqa: B018


def test_stopping_twice_is_fine(another: LocalAws) -> None:
    """Clean-up code may run after clean-up code."""
    another.stop()
    another.stop()


@pytest.mark.parametrize(("token", "status"), [("right", 200), ("wrong", 403), ("", 403)])
def test_it_proves_who_it_is(aws: LocalAws, token: str, status: int) -> None:
    """Another program on a recycled port must not pass for the sandbox."""
    connection = http.client.HTTPConnection("127.0.0.1", aws.port, timeout=60)
    connection.request("GET", ALIVE_PATH, headers={TOKEN_HEADER: aws.token if token == "right" else token})

    answered = connection.getresponse().status
    connection.close()

    assert answered == status


def test_ids_repeat(aws: LocalAws) -> None:
    """What a newcomer sees is what the documentation shows; polls in between change nothing."""
    ec2 = access_to(aws).client("ec2")
    first = an_image(ec2)

    aws.reset()
    for _ in range(3):
        ec2.describe_images()
    second = an_image(ec2)

    assert first == second


def test_two_have_nothing_in_common(aws: LocalAws, another: LocalAws) -> None:
    """Tests share a process: the reset of one must leave the other alone."""
    mine, other = access_to(aws), access_to(another)
    image = an_image(mine.client("ec2"))
    mine.client("s3").create_bucket(Bucket="mine", CreateBucketConfiguration={"LocationConstraint": REGION})

    assert identify(mine).account != identify(other).account
    assert other.client("ec2").describe_images(Owners=["self"])["Images"] == []
    assert other.client("s3").list_buckets()["Buckets"] == []
    mine.client("s3").put_object(Bucket="mine", Key="key", Body=b"content")
    another.reset()
    assert mine.client("s3").get_object(Bucket="mine", Key="key")["Body"].read() == b"content"
    assert [i["ImageId"] for i in mine.client("ec2").describe_images(Owners=["self"])["Images"]] == [image]
    aws.reset()
    assert mine.client("s3").list_buckets()["Buckets"] == []
    assert mine.client("ec2").describe_images(Owners=["self"])["Images"] == []


def test_an_assumed_role_is_in_its_own_account(access: Access, aws: LocalAws) -> None:
    """References of other accounts are read this way."""
    an_image(access.client("ec2"))

    other = assume(access, "arn:aws:iam::210987654321:role/reader")

    assert identify(other).account == "210987654321"
    assert other.client("ec2").describe_images(Owners=["self"])["Images"] == []
    assert identify(access).account == aws.account_id


def test_bytes_go_through_s3_unchanged(access: Access) -> None:
    """Uploads are larger than what the gate reads."""
    s3, content = access.client("s3"), bytes(range(256)) * 20000
    s3.create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": REGION})

    s3.put_object(Bucket="models", Key="a/b", Body=content)

    assert s3.get_object(Bucket="models", Key="a/b")["Body"].read() == content


def test_the_time_of_a_listing_grows_with_the_images_not_with_their_square(aws: LocalAws) -> None:
    """Moto looks through all tags for each row: four times the AMIs would take sixteen times as long."""
    ec2 = access_to(aws).client("ec2")
    make = Maker(DemoLocation(aws.account_id, REGION, "subnet-1", "sg-1", "profile"), datetime(2026, 11, 1))  # noqa: DTZ001

    ec2.describe_images()

    def listing_s(images: int) -> float:
        while len(make.ec2.amis) <= images:  # the base AMI is one more
            make.image(len(make.ec2.amis))
        return min(once_s(images) for _ in range(3))

    def once_s(images: int) -> float:
        began = time.process_time()  # this process's own, whatever else the machine does
        assert len(ec2.describe_images(Owners=["self"])["Images"]) == images
        return time.process_time() - began

    few, many = listing_s(200), listing_s(800)

    assert many / few < 10
