"""Calls: counted, paced, repeated when that is safe, and never taken for more than they say."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError, making_sense
from gpu_ami.aws.clock import ahead
from gpu_ami.errors import AwsError
from gpu_ami_sandbox.aws.gate import Fault
from gpu_ami_sandbox.aws.server import LocalAws
from tests.support.clock import Clock
from tests.support.fake_caller import FakeCaller

REGION = "ap-northeast-2"


@pytest.fixture
def aws(aws_server: LocalAws, over_http: None) -> LocalAws:
    """An empty local AWS, behind a network that can fail."""
    aws_server.reset()
    return aws_server


@pytest.fixture
def naps(clock: Clock) -> list[float]:
    """The seconds that were slept."""
    return clock.naps


@pytest.fixture
def caller(aws: LocalAws, clock: Clock) -> Caller:
    """A caller of the empty local AWS that sleeps in no time."""
    return Caller(Access(region=REGION, endpoint_url=aws.endpoint_url), REGION)


def test_a_call_is_answered_counted_and_timed(caller: Caller) -> None:
    """The plan shows the calls of each source, and AWS's time checks our clock."""
    assert caller.call("ec2", "describe_images", Owners=["self"])["Images"] == []

    assert caller.calls == 1
    assert caller.aws_time is not None
    assert abs((caller.aws_time - datetime.now(timezone.utc)).total_seconds()) < 60


@dataclass(frozen=True)
class _Dated(Access):
    """AWS as it is behind a proxy: each answer has this Date header."""

    said: str = ""

    @contextmanager
    def calling(self, service: str, region: str) -> Iterator[Any]:
        """Yield a client of STS."""
        answer = {"Account": "1", "ResponseMetadata": {"HTTPHeaders": {"date": self.said}}}
        yield SimpleNamespace(get_caller_identity=lambda: answer)


@pytest.mark.parametrize(
    ("said", "time"),
    [
        ("Mon, 30 Nov 2026 07:00:00 GMT", "2026-11-30T07:00:00+00:00"),
        ("Mon, 30 Nov 2026 08:00:00 +0100", "2026-11-30T07:00:00+00:00"),
        ("Mon, 30 Nov 2026 07:00:00 -0000", None),
        ("Mon, 30 Nov 2026 07:00:00", None),
        ("Mon, 30 Nov 2026 07:00:00 GMT, Mon, 30 Nov 2026 09:30:00 GMT", None),
        ("Mon, 30 Nov 2026 07:00:00 +0000, Mon, 30 Nov 2026 09:30:00 +0000", None),
        ("Fri, 31 Dec 9999 23:59:59 -1200", None),
        ("Mon, 99 Nov 2026 07:00:00 GMT", None),
        ("soon", None),
        ("", None),
    ],
)
def test_an_odd_date_is_no_time_of_awss(said: str, time: str | None) -> None:
    """A proxy adds its own, or spells it in its own way: `doctor` then says that AWS did not say, and goes on."""
    caller = Caller(_Dated("r", said=said))
    caller.call("sts", "get_caller_identity")

    assert (caller.aws_time.isoformat() if caller.aws_time else None) == time
    assert (ahead(caller) is None) == (time is None)


def test_each_source_counts_its_own_calls(caller: Caller) -> None:
    """Side by side, two sources must not count each other's calls."""
    other = caller.counting()
    other.call("ec2", "describe_images", Owners=["self"])

    assert (caller.calls, other.calls) == (0, 1)


@pytest.mark.parametrize("service", ["ec2", "batch", "ssm"])
def test_a_refusal_keeps_awss_code(aws: LocalAws, caller: Caller, service: str) -> None:
    """Whether a permission is missing decides what the user is told; it is not tried again."""
    aws.gate.deny(f"{service}:*")
    operation = {"ec2": "describe_images", "batch": "describe_compute_environments", "ssm": "describe_parameters"}

    with pytest.raises(RefusedError, match=r"not authorized") as caught:
        caller.call(service, operation[service])

    assert caught.value.is_denied
    assert caught.value.exit_code == 4
    assert caller.calls == 1


@pytest.mark.parametrize(
    ("service", "operation", "action"),
    [
        ("ec2", "describe_images", "ec2:DescribeImages"),
        ("ssm", "describe_parameters", "ssm:DescribeParameters"),
        ("emr", "list_clusters", "elasticmapreduce:ListClusters"),
    ],
)
def test_a_denial_names_the_action_as_a_policy_has_it(
    aws: LocalAws, caller: Caller, service: str, operation: str, action: str
) -> None:
    """Whoever pastes it into a policy must not have to know that EMR is called elasticmapreduce there."""
    aws.gate.deny(action)

    with pytest.raises(RefusedError) as caught:
        caller.call(service, operation)

    assert caught.value.action == action
    assert caught.value.principal.startswith("arn:aws:")


@pytest.mark.parametrize(
    ("message", "principal", "action"),
    [
        (
            "No. User: arn:aws:sts::1:assumed-role/plan/run is not authorized to perform: ec2:DescribeImages because",
            "arn:aws:sts::1:assumed-role/plan/run",
            "ec2:DescribeImages",
        ),
        # KMS is asked by the service, and is what is denied.
        (
            "User: arn:aws-us-gov:iam::1:user/path/bob is not authorized to perform: kms:Decrypt on resource: x",
            "arn:aws-us-gov:iam::1:user/path/bob",
            "kms:Decrypt",
        ),
        ("Access denied.", "", "ssm:DescribeParameters"),
        ("", "", "ssm:DescribeParameters"),
        ("User: nobody is not authorized to perform: everything", "", "ssm:DescribeParameters"),
        ("User: arn:aws:iam::1:" + "a" * 9000 + " is not", "", "ssm:DescribeParameters"),
    ],
)
def test_who_is_denied_what_is_read_from_awss_words(
    aws: LocalAws, caller: Caller, message: str, principal: str, action: str
) -> None:
    """Not every service says it; then the request itself says at least what was requested."""
    aws.gate.fail("AccessDeniedException", message, action="DescribeParameters")

    with pytest.raises(RefusedError) as caught:
        caller.call("ssm", "describe_parameters")

    assert (caught.value.principal, caught.value.action) == (principal, action)


def test_throttling_is_waited_out(aws: LocalAws, caller: Caller, naps: list[float]) -> None:
    """A thousand AMIs at five a second are a matter of patience, not a failure."""
    for number in range(6):
        aws.gate.fail("RequestLimitExceeded", action="DescribeImages", at=number + 1, status=503)

    assert caller.call("ec2", "describe_images", Owners=["self"])["Images"] == []
    assert caller.calls == 7
    # Half a second at the rate of a first throttling answer, and each time at less.
    assert naps[0] == 0.5
    assert 3 < sum(naps) < 30


def test_throttling_without_end_is_an_error(aws: LocalAws, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """After minutes without a single answer something else is wrong."""
    monkeypatch.setattr("gpu_ami.aws.caller._STARVED_S", 0.0)
    aws.gate.fail("RequestLimitExceeded", action="DescribeImages", status=503)

    with pytest.raises(RefusedError, match="RequestLimitExceeded"):
        caller.call("ec2", "describe_images")


@pytest.mark.parametrize("lost", [1, 3])
def test_a_lost_connection_is_tried_again(aws: LocalAws, caller: Caller, naps: list[float], lost: int) -> None:
    """Networks hiccup; three times in a row are still a hiccup."""
    for number in range(lost):
        aws.gate.cut(action="DescribeImages", at=number + 1)

    assert caller.call("ec2", "describe_images", Owners=["self"])["Images"] == []
    assert naps == [0.2, 0.4, 0.8][:lost]


def test_a_network_that_is_gone_is_said(aws: LocalAws, caller: Caller) -> None:
    """No answer is no empty answer."""
    aws.gate.cut(action="DescribeImages")

    with pytest.raises(UnansweredError, match="no answer"):
        caller.call("ec2", "describe_images")
    assert caller.calls == 4


def test_a_connection_that_does_not_come_about_is_tried_again(naps: list[float]) -> None:
    """One name that does not resolve for a moment must not end a run of hundreds of calls; nothing was sent."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        caller = Caller(Access(region=REGION, endpoint_url=nobody), REGION)

        with pytest.raises(UnansweredError, match="no answer"):
            caller.call("ec2", "describe_images")

    assert naps == [0.2, 0.4, 0.8]


def test_aws_failing_inside_is_tried_again(aws: LocalAws, caller: Caller) -> None:
    """A 500 is AWS's own trouble and passes."""
    aws.gate.fail("InternalError", action="DescribeImages", at=1, status=500)

    assert caller.call("ec2", "describe_images", Owners=["self"])["Images"] == []


def test_what_must_not_be_lost_sits_a_breakdown_out(aws: LocalAws, caller: Caller, naps: list[float]) -> None:
    """A receipt that is not completed for seconds of trouble in S3 would be called a run that was cut short."""
    for at in range(1, 8):
        aws.gate.fail("InternalError", action="DescribeImages", at=at, status=503)

    assert caller.patient().call("ec2", "describe_images", Owners=["self"])["Images"] == []
    assert len(naps) == 7
    assert sum(naps) > 20


def test_a_request_that_timed_out_is_sent_again(aws: LocalAws, caller: Caller) -> None:
    """S3 calls its own time-out a fault of the request, with 400."""
    aws.gate.fail("RequestTimeout", action="DescribeImages", at=1, status=400)

    assert caller.call("ec2", "describe_images", Owners=["self"])["Images"] == []


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_aws_failing_inside_without_end_is_no_refusal(aws: LocalAws, caller: Caller, status: int) -> None:
    """It may have done what was requested before it broke down; after a refusal the thing would certainly be there."""
    aws.gate.fail("InternalError", action="DeregisterImage", status=status)

    with pytest.raises(UnansweredError, match="InternalError"):
        caller.call("ec2", "deregister_image", ImageId="ami-1")
    assert caller.calls == 4


@pytest.mark.parametrize("body", [b"<DescribeImagesResponse><imagesSet><item>", b"not xml", b"\xff\xfe", b""])
def test_a_cut_off_answer_is_no_answer(aws: LocalAws, caller: Caller, body: bytes) -> None:
    """Half a list read as a whole one would make the other half deletable."""
    aws.gate.reply(body, action="DescribeImages")

    with pytest.raises(UnansweredError):
        list(caller.pages("ec2", "describe_images", "Images"))


@pytest.mark.parametrize("body", [b"{}", b'{"computeEnvironments": nul', b"<html>ok</html>", b"[]", b'{"a": 1}', b""])
def test_a_json_answer_without_its_list_is_no_empty_list(aws: LocalAws, caller: Caller, body: bytes) -> None:
    """Botocore reads JSON that does not parse as an answer without any key."""
    aws.gate.reply(body, service="batch")

    with pytest.raises(UnansweredError):
        list(caller.pages("batch", "describe_compute_environments", "computeEnvironments", page_key="nextToken"))


def test_credentials_that_are_missing_are_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Without credentials there is nothing to try again."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    caller = Caller(Access(region="eu-west-3"), "eu-west-3", sleep=lambda _: None)

    with pytest.raises(UnansweredError, match="credentials"):
        caller.call("ec2", "describe_images")
    assert caller.calls == 1


def test_all_pages_are_read() -> None:
    """An AMI in use on the last page is in use."""
    pages: list[Any] = [{"Rows": [{"n": n}], "NextToken": str(n)} for n in range(3)]
    caller = FakeCaller({"list": [*pages, {"Rows": [{"n": 3}], "NextToken": ""}]})

    assert [row["n"] for row in caller.pages("x", "list", "Rows", Size=1)] == [0, 1, 2, 3]
    assert [given.get("NextToken") for _, given in caller.requests] == [None, "0", "1", "2"]


@pytest.mark.parametrize(
    "answers",
    [
        [{"NextToken": "x"}],
        [{"Rows": None}],
        [{"Rows": ["a string"]}],
        [{"Rows": [], "NextToken": "1"}, {}],
        [{"Rows": [], "NextToken": "1"}, {"Rows": [], "NextToken": "1"}],
        [{"Rows": [{}], "IsTruncated": True}],
    ],
    ids=["no list", "null", "no rows", "second page without list", "token repeats", "more without a token"],
)
def test_a_listing_that_cannot_be_read_to_its_end_is_an_error(answers: list[Any]) -> None:
    """What was read so far is never returned as if it were all."""
    with pytest.raises(UnansweredError):
        list(FakeCaller({"list": answers}).pages("x", "list", "Rows"))


def test_pages_whose_token_has_two_names_are_all_read() -> None:
    """S3 and KMS give it under another name than they take it; S3 leaves out a list that is empty."""
    caller = FakeCaller({"list": [{"Rows": ["a"], "NextMarker": "1"}, {"NextMarker": "2"}, {"Rows": ["b"]}]})

    found = list(caller.whole_pages("x", "list", page_key="Marker", next_key="NextMarker", Size=1))

    assert [row for answer in found for row in answer.get("Rows", [])] == ["a", "b"]
    assert [given.get("Marker") for _, given in caller.requests] == [None, "1", "2"]


def test_an_error_says_what_could_not_be_done(aws: LocalAws, caller: Caller) -> None:
    """People of a check did not ask for ``DescribeImages``; programs still get AWS's code."""
    aws.gate.deny("ec2:*")
    with pytest.raises(RefusedError, match=r"^AWS refused to look up ami-1: UnauthorizedOperation: ") as caught:
        caller.call("ec2", "describe_images", doing="look up ami-1", ImageIds=["ami-1"])
    assert caught.value.is_denied
    aws.gate.clear()
    aws.gate.cut(action="DescribeImages")
    with pytest.raises(UnansweredError, match=r"^AWS could not be asked to look up ami-1: "):
        list(caller.pages("ec2", "describe_images", "Images", doing="look up ami-1"))
    aws.gate.clear()
    aws.gate.reply(b"not xml", action="DescribeImages")
    with pytest.raises(UnansweredError, match=r"^AWS was asked to look up ami-1, but its answer is cut off"):
        caller.call("ec2", "describe_images", doing="look up ami-1")


def test_a_refusal_has_awss_time_too(aws: LocalAws, caller: Caller) -> None:
    """A wrong clock is what AWS refuses everything for: that is when its time matters."""
    aws.gate.deny("ec2:*")

    with pytest.raises(RefusedError):
        caller.call("ec2", "describe_images")

    assert caller.aws_time is not None


def test_another_region_of_the_account_is_called_at_its_own_pace(aws: LocalAws, caller: Caller) -> None:
    """Throttled in one region says nothing about another; two callers of one region wait together."""
    there = caller.elsewhere("us-east-1")
    aws.gate.fail("RequestLimitExceeded", action="DescribeImages", at=1, status=503)

    there.call("ec2", "describe_images", Owners=["self"])
    caller.call("ec2", "describe_images", Owners=["self"])

    rates = {region: pace.rate_per_s for region, pace in caller._paces.items()}
    assert rates[REGION, "ec2", "describe_images"] is None
    assert rates["us-east-1", "ec2", "describe_images"] is not None
    assert caller.elsewhere("us-east-1")._paces is there._paces


@pytest.mark.parametrize("problem", [KeyError("State"), TypeError("x"), ValueError("x"), AttributeError("x")])
def test_stumbling_over_an_answer_is_one_error(problem: Exception) -> None:
    """A row without its state is a malformed answer, not a crash."""
    with pytest.raises(AwsError, match="malformed"), making_sense("instances"):
        raise problem


SECRET = "cGFzc3dvcmQ9aHVudGVyMg"
_VERSION = f"<item><launchTemplateData><userData>{SECRET}</userData></launchTemplateData></item>"
CUT = f"<DescribeLaunchTemplateVersionsResponse><launchTemplateVersionSet>{_VERSION * 900}<item>"
ODD = CUT[: -len("<item>")] + (
    f"<item><versionNumber>{SECRET}</versionNumber></item></launchTemplateVersionSet>"
    "</DescribeLaunchTemplateVersionsResponse>"
)


@pytest.mark.parametrize("body", [CUT, ODD, f"{SECRET} &", f"{SECRET}\xff"], ids=["cut", "odd", "text", "bytes"])
@pytest.mark.parametrize("doing", ["", "look up lt-1"])
def test_a_malformed_answer_is_not_shown(aws: LocalAws, caller: Caller, body: str, doing: str) -> None:
    """Launch templates hold user data and user data holds passwords; 98 kB of it also hide what is wrong."""
    aws.gate.reply(body.encode("latin-1"), action="DescribeLaunchTemplateVersions")

    with pytest.raises(UnansweredError, match="malformed") as caught:
        caller.call("ec2", "describe_launch_template_versions", doing=doing, LaunchTemplateId="lt-1")

    said = "".join(traceback.format_exception(caught.value))
    assert SECRET not in said
    assert len(str(caught.value)) < 300
    if body == CUT and not doing:
        assert "no element found: line 1, column" in str(caught.value)


@pytest.mark.parametrize("status", [403, 502])
@pytest.mark.parametrize("service", ["ec2", "batch"])
def test_a_page_in_awss_place_is_not_shown(aws: LocalAws, caller: Caller, service: str, status: int) -> None:
    """A proxy's page has no error code: botocore takes the whole of it for AWS's message."""
    page = f"<html><p>Ask {SECRET}{'x' * 40_000}".encode()
    aws.gate.add(Fault(lambda _call, _environ: (status, {"Content-Type": "text/html"}, page), service=service))
    operation = {"ec2": "describe_images", "batch": "describe_compute_environments"}[service]

    with pytest.raises(AwsError) as caught:
        caller.call(service, operation)

    assert SECRET not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_long_message_of_awss_is_shortened(aws: LocalAws, caller: Caller) -> None:
    """The line that says what to do next must not be a screen away; that something denies outright still counts."""
    aws.gate.fail("UnauthorizedOperation", f"explicit deny {'x' * 40_000} by p-1", action="DescribeImages")

    with pytest.raises(RefusedError, match=r"UnauthorizedOperation: explicit deny x+ \[…\] x+ by p-1$") as caught:
        caller.call("ec2", "describe_images")

    assert len(str(caught.value)) < 300
    assert caught.value.is_explicit


@pytest.mark.parametrize("doing", ["", "look up ami-1"])
def test_what_only_aws_can_decode_stays_whole(aws: LocalAws, caller: Caller, doing: str) -> None:
    """`aws sts decode-authorization-message` takes it as it is, or not at all."""
    encoded = "Aa1_-" * 200
    message = f"You are not authorized. Encoded authorization failure message: {encoded}"
    aws.gate.fail("UnauthorizedOperation", message, action="DescribeImages", status=403)

    with pytest.raises(RefusedError) as caught:
        caller.call("ec2", "describe_images", doing=doing)

    assert str(caught.value).endswith(f"UnauthorizedOperation: {message}")


def test_a_lack_of_room_is_a_refusal_whatever_its_status(aws: LocalAws, caller: Caller, naps: list[float]) -> None:
    """EC2 sends it with 500; taken for a breakdown it would be sent again, and the next zone never tried."""
    aws.gate.fail("InsufficientInstanceCapacity", action="RunInstances", status=500)

    with pytest.raises(RefusedError) as caught:
        caller.call("ec2", "run_instances", ImageId="ami-12345678", MinCount=1, MaxCount=1)

    assert caught.value.code == "InsufficientInstanceCapacity"
    assert (caller.calls, naps) == (1, [])
