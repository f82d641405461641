"""The queries that a bake makes of AWS: answers that are odd, late or missing."""

from __future__ import annotations

import http.client
import io
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta, timezone
from typing import Any, cast

import boto3
import pytest
from botocore.stub import Stubber

from gpu_ami.aws import clock, iam, vpc
from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller, UnansweredError
from gpu_ami.aws.capacity import architectures, quota, vcpus_in_use
from gpu_ami.aws.sts import Identity
from gpu_ami.errors import AwsError
from gpu_ami_sandbox.session import Sandbox
from tests.support.fake_caller import FakeCaller

NOW = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)


class Answers:
    """A way to AWS whose one client gives the answers of a stubber."""

    region = "ap-northeast-2"

    def __init__(self, service: str) -> None:
        """Prepare a client that calls nobody."""
        keys = {"aws_access_key_id": "sandbox", "aws_secret_access_key": "sandbox"}
        self._client = boto3.Session().client(service, region_name=self.region, **keys)  # type: ignore[call-overload]
        self.stub = Stubber(self._client)
        self.stub.activate()

    def calling(self, _service: str, _region: str) -> AbstractContextManager[Any]:
        """Return the client."""
        return nullcontext(self._client)

    @property
    def caller(self) -> Caller:
        """A caller that gets these answers."""
        return Caller(cast("Access", self))


def an_identity(**headers: str) -> dict[str, Any]:
    """Return an answer of STS with these headers."""
    return {
        "Account": "1",
        "Arn": "arn:aws:iam::1:user/ann",
        "UserId": "u",
        "ResponseMetadata": {"HTTPHeaders": headers},
    }


@pytest.mark.parametrize(
    ("headers", "ahead"),
    [
        ({"date": "Sun, 01 Nov 2026 11:59:00 GMT"}, timedelta(seconds=59.5)),
        ({"date": "Sun, 01 Nov 2026 12:01:00 GMT"}, timedelta(seconds=-60.5)),
        ({"date": "yesterday"}, None),
        ({}, None),
    ],
)
def test_the_clock_is_read_from_the_date_header(headers: dict[str, str], ahead: timedelta | None) -> None:
    """A header that is missing or no date says nothing."""
    aws = Answers("sts")
    aws.stub.add_response("get_caller_identity", an_identity(**headers))

    assert clock.ahead(aws.caller, lambda: NOW) == ahead


class Connection:
    """Answers as checkip.amazonaws.com would."""

    said: bytes | Exception = b""

    def __init__(self, host: str, timeout: float) -> None:
        """Take what HTTPSConnection takes."""
        assert host == "checkip.amazonaws.com"

    def request(self, method: str, path: str) -> None:
        """Fail, where that is the answer."""
        if isinstance(self.said, Exception):
            raise self.said

    def getresponse(self) -> io.BytesIO:
        """Return the body."""
        assert isinstance(self.said, bytes)
        return io.BytesIO(self.said)

    def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("said", "address"),
    [
        (b"203.0.113.7\n", "203.0.113.7"),
        (b"2001:db8::1\n", "2001:db8::1"),
        (b"<html>sign in to the hotel's network</html>", None),
        (b"\xff\xfe", None),
        (b"", None),
        (OSError("unreachable"), None),
        (http.client.BadStatusLine("x"), None),
    ],
)
def test_our_own_address_is_an_address_or_unknown(
    monkeypatch: pytest.MonkeyPatch, said: bytes | Exception, address: str | None
) -> None:
    """It ends up in a command that people paste: nothing but an address may."""
    monkeypatch.setattr(Connection, "said", said)
    monkeypatch.setattr(http.client, "HTTPSConnection", Connection)

    assert vpc.public_address() == address


@pytest.mark.parametrize(
    ("arn", "principal"),
    [
        ("arn:aws:iam::1:user/path/ann", "arn:aws:iam::1:user/path/ann"),
        ("arn:aws:iam::1:root", None),
        ("arn:aws:sts::1:federated-user/ann", None),
    ],
)
def test_only_users_and_roles_can_be_simulated(arn: str, principal: str | None) -> None:
    """IAM refuses all others."""
    assert iam.principal(Answers("iam").caller, Identity("1", arn)) == principal


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("AccessDenied", "arn:aws-cn:iam::1:role/baker"),
        ("NoSuchEntity", "arn:aws-cn:iam::1:role/baker"),
        ("ServiceFailure", None),
    ],
)
def test_a_role_that_may_not_be_looked_up_has_its_plain_arn(code: str, found: str | None) -> None:
    """Right for roles without a path; any other refusal is an error, not a guess."""
    aws = Answers("iam")
    aws.stub.add_client_error("get_role", code)
    who = Identity("1", "arn:aws-cn:sts::1:assumed-role/baker/session")

    if found is None:
        with pytest.raises(AwsError, match="ServiceFailure"):
            iam.principal(aws.caller, who)
    else:
        assert iam.principal(aws.caller, who) == found


def test_a_simulation_that_fails_otherwise_is_an_error() -> None:
    """Only where IAM may not be called do dry runs answer instead."""
    aws = Answers("iam")
    aws.stub.add_client_error("simulate_principal_policy", "ServiceFailure")

    with pytest.raises(AwsError, match="ServiceFailure"):
        iam.simulate(aws.caller, "arn:aws:iam::123456789012:user/a", ["ec2:RunInstances"], "*", {})


LAUNCH = iam.Launch("ami-1", "subnet-1", "vpc-1", "c7i.4xlarge", "", 80, {"a": "b"})


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("DryRunOperation", "allowed"),
        ("UnauthorizedOperation", "unknown"),
        ("InvalidInstanceID.NotFound", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_dry_run_decides_only_by_its_two_answers(code: str | None, answer: str) -> None:
    """EC2 may search for the object first; and a call that simply succeeds was no dry run."""
    aws = Answers("ec2")
    if code is None:
        aws.stub.add_response("stop_instances", {})
    else:
        aws.stub.add_client_error("stop_instances", code)

    assert iam.dry_run(aws.caller, "ec2:StopInstances", LAUNCH) == answer


@pytest.mark.parametrize("action", ["iam:PassRole", "kms:Decrypt", "ec2:EnableImageDeprecation"])
def test_what_has_no_dry_run_is_unknown(action: str) -> None:
    """Nothing is called for it."""
    assert iam.dry_run(Answers("ec2").caller, action, LAUNCH) == "unknown"


@pytest.mark.parametrize(
    ("action", "said", "answer"),
    [
        ("ec2:StopInstances", "because no identity-based policy allows the action", "unknown"),
        ("ec2:StopInstances", "with an explicit deny in a service control policy", "denied"),
        ("ec2:RunInstances", "because no identity-based policy allows the action", "denied"),
        ("ec2:DescribeImages", "", "denied"),
    ],
)
def test_a_refusal_about_nothing_proves_little(action: str, said: str, answer: str) -> None:
    """What is not there has no tags, which a policy may go by."""
    aws = Answers("ec2")
    method = {"S": "stop_instances", "R": "run_instances", "D": "describe_images"}[action[4]]
    aws.stub.add_client_error(method, "UnauthorizedOperation", said)

    assert iam.dry_run(aws.caller, action, LAUNCH) == answer


def test_every_dry_run_is_one(local_aws: Sandbox) -> None:
    """Each action that can be tried is, in the form that EC2 takes, and changes nothing."""
    gate = local_aws.gate
    assert gate is not None
    before = len(gate.calls)
    account = local_aws.account
    launch = iam.Launch(
        account.source_ami_id,
        account.subnet_id,
        account.vpc_id,
        "c7i.4xlarge",
        account.instance_profile,
        80,
        {"gpu-ami:run": "doctor"},
    )

    caller = Caller(local_aws.access)
    answers = {name: iam.dry_run(caller, f"ec2:{name}", launch) for name in iam._REQUESTS}

    # This one searches for the AMI before it reads DryRun, as EC2 may.
    assert {name for name, answer in answers.items() if answer != "allowed"} == {"ModifyImageAttribute"}
    assert "denied" not in answers.values()
    assert {call.parameters.get("DryRun") for call in gate.calls[before:]} == {"true"}


def test_a_quota_that_the_region_has_not(local_aws: Sandbox) -> None:
    """Not an error, and not a value."""
    assert quota(Caller(local_aws.access), "L-00000000") is None


def test_vcpus_are_counted_by_the_instances_own_cores() -> None:
    """Hyper-threading may be switched off at launch; a type without options has its default."""
    aws = Answers("ec2")
    halved = {"InstanceType": "c7i.4xlarge", "CpuOptions": {"CoreCount": 8, "ThreadsPerCore": 1}}
    spot = {"InstanceType": "c7i.4xlarge", "InstanceLifecycle": "spot"}
    other, plain = {"InstanceType": "g5.xlarge"}, {"InstanceType": "c7i.large"}
    running = {"Reservations": [{"Instances": [halved, spot, other]}, {"Instances": [plain, plain]}]}
    kind = {
        "InstanceType": "c7i.large",
        "VCpuInfo": {"DefaultVCpus": 2},
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
    }
    aws.stub.add_response("describe_instances", running)
    aws.stub.add_response("describe_instance_types", {"InstanceTypes": [kind]})

    assert vcpus_in_use(aws.caller, "standard", "on-demand") == 8 + 2 * 2


def test_an_instance_type_has_its_architectures() -> None:
    """Some run two."""
    row = {"InstanceType": "x", "ProcessorInfo": {"SupportedArchitectures": ["i386", "x86_64"]}}
    assert architectures(FakeCaller({"describe_instance_types": [{"InstanceTypes": [row]}]}), "x") == ("i386", "x86_64")
    with pytest.raises(UnansweredError):
        architectures(FakeCaller({"describe_instance_types": [{"InstanceTypes": []}]}), "x")
