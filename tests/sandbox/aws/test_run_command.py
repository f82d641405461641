"""Run Command: who is online, what is refused, how a command goes on, and what of its output is shown."""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami_sandbox.aws import clock, run_command
from gpu_ami_sandbox.aws.run_command import Invocation
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.guest.script import Ran, Script
from tests.support.resources import an_instance, refused

AGENT = ["ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:OpenControlChannel"]
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@dataclass
class Scripts:
    """Takes scripts, and lets the test end them."""

    texts: list[str] = field(default_factory=list)
    futures: list[concurrent.futures.Future[Ran]] = field(default_factory=list)

    def start(self, region: str, instance_id: str, script: str) -> Script:
        """Note the script; it runs until the test ends it."""
        del region, instance_id
        self.texts.append(script)
        self.futures.append(concurrent.futures.Future())
        return Script(self.futures[-1])

    def end(self, status: int = 0, output: str = "", errors: str = "") -> None:
        """Let the last script end."""
        self.futures[-1].set_result(Ran(status, output, errors))


@pytest.fixture
def scripts(aws: LocalAws) -> Iterator[Scripts]:
    """What runs scripts in the account."""
    run_command.RUNNERS[aws.account_id] = Scripts()
    yield run_command.RUNNERS[aws.account_id]  # type: ignore[misc]
    del run_command.RUNNERS[aws.account_id]


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the test say how time goes on."""
    given = type("Moments", (), {"now": 1000.0})()
    monkeypatch.setattr(clock, "seconds", lambda: given.now)
    return given


@pytest.fixture
def ssm(access: Access) -> Any:
    """A client of SSM."""
    return access.client("ssm")


def profile(access: Access, name: str, actions: list[str]) -> str:
    """Make an instance profile whose role may do *actions*."""
    iam = access.client("iam")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps(document))
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return name


@pytest.fixture
def instance(access: Access, ec2: Any, ssm: Any, scripts: Scripts, moments: Any) -> str:
    """An instance whose agent is online."""
    del scripts
    made = an_instance(ec2, IamInstanceProfile={"Name": profile(access, "reports", AGENT)})
    assert online(ssm) == []
    moments.now += 1
    assert online(ssm) == [made]
    return made


def online(ssm: Any) -> list[str]:
    """Return the instances that SSM reaches."""
    return [row["InstanceId"] for row in ssm.describe_instance_information()["InstanceInformationList"]]


def send(ssm: Any, instance: str, *, commands: tuple[str, ...] = ("true",), **more: Any) -> str:
    """Send a command; return its id."""
    parameters = {"commands": list(commands), **more.pop("parameters", {})}
    answer = ssm.send_command(DocumentName="AWS-RunShellScript", InstanceIds=[instance], Parameters=parameters, **more)
    return str(answer["Command"]["CommandId"])


def seen(ssm: Any, command: str, instance: str) -> tuple[str, str, int]:
    """Return status, details and response code of an invocation."""
    row = ssm.get_command_invocation(CommandId=command, InstanceId=instance)
    return row["Status"], row["StatusDetails"], row["ResponseCode"]


def test_only_an_instance_that_may_report_comes_online(
    access: Access, ec2: Any, ssm: Any, scripts: Scripts, moments: Any
) -> None:
    """A profile without the agent's rights is the commonest reason why SSM never sees an instance."""
    del scripts
    an_instance(ec2)
    an_instance(ec2, IamInstanceProfile={"Name": profile(access, "half", AGENT[:1])})
    reached = an_instance(ec2, IamInstanceProfile={"Name": profile(access, "whole", AGENT)})
    online(ssm)
    moments.now += 60

    assert online(ssm) == [reached]
    filters = [{"Key": "InstanceIds", "Values": ["i-0123456789abcdef0"]}]
    assert ssm.describe_instance_information(Filters=filters)["InstanceInformationList"] == []

    ec2.terminate_instances(InstanceIds=[reached])
    assert online(ssm) == []


def test_without_a_guest_nothing_comes_online(access: Access, ec2: Any, ssm: Any, moments: Any) -> None:
    """Nobody is there to run anything; moto says Success."""
    made = an_instance(ec2, IamInstanceProfile={"Name": profile(access, "reports", AGENT)})
    online(ssm)
    moments.now += 60

    assert online(ssm) == []
    with refused("InvalidInstanceId"):
        send(ssm, made)


def test_what_cannot_be_sent_is_refused(ssm: Any, instance: str) -> None:
    """Moto takes any document and any id."""
    with refused("InvalidInstanceId"):
        send(ssm, "i-0123456789abcdef0")
    with refused("InvalidDocument"):
        ssm.send_command(DocumentName="AWS-RunPowerShell", InstanceIds=[instance])
    with refused("InvalidCommandId"):
        seen(ssm, UNKNOWN, instance)
    with refused("InvalidCommandId"):
        ssm.cancel_command(CommandId=UNKNOWN)


def test_a_command_is_unknown_for_a_moment_and_silent_until_its_end(
    ssm: Any, instance: str, scripts: Scripts, moments: Any
) -> None:
    """A program that asks at once must ask again; one that waits for output sees none before the end."""
    command = send(ssm, instance, commands=("#!/bin/bash", "nvidia-smi"))
    with refused("InvocationDoesNotExist"):
        seen(ssm, command, instance)
    assert ssm.list_command_invocations(CommandId=command)["CommandInvocations"] == []

    moments.now += 1
    assert seen(ssm, command, instance) == ("InProgress", "InProgress", -1)
    assert scripts.texts == ["#!/bin/bash\nnvidia-smi"]

    scripts.end(3, "x" * 30_000, "y" * 9_000)
    row = ssm.get_command_invocation(CommandId=command, InstanceId=instance)
    assert (row["Status"], row["ResponseCode"]) == ("Failed", 3)
    assert (len(row["StandardOutputContent"]), len(row["StandardErrorContent"])) == (24_000, 8_000)
    (listed,) = ssm.list_command_invocations(CommandId=command, Details=True)["CommandInvocations"]
    assert (listed["Status"], len(listed["CommandPlugins"][0]["Output"])) == ("Failed", 2_500)


def test_a_script_that_takes_too_long_is_ended(ssm: Any, instance: str, scripts: Scripts, moments: Any) -> None:
    """By executionTimeout, which is the document's, not by TimeoutSeconds."""
    command = send(ssm, instance, parameters={"executionTimeout": ["60"]}, TimeoutSeconds=30)
    moments.now += 59
    assert seen(ssm, command, instance)[0] == "InProgress"

    moments.now += 3
    assert seen(ssm, command, instance) == ("TimedOut", "ExecutionTimedOut", -1)
    assert scripts.futures[0].cancelled()


def test_a_command_waits_for_its_total_timeout(ssm: Any, instance: str, moments: Any, aws: LocalAws) -> None:
    """TimeoutSeconds and executionTimeout together: a program that gives up earlier never hears what SSM says."""
    from moto.ec2.models import ec2_backends

    parameters = {"commands": ["true"], "executionTimeout": ["600"]}
    answer = ssm.send_command(
        DocumentName="AWS-RunShellScript", InstanceIds=[instance], Parameters=parameters, TimeoutSeconds=60
    )["Command"]
    assert 655 < (answer["ExpiresAfter"] - answer["RequestedDateTime"]).total_seconds() < 665
    commands = vars(ec2_backends[aws.account_id][ssm.meta.region_name])["sandbox_commands"]
    assert commands[answer["CommandId"], instance].deliver_until == moments.now + 660


def test_a_command_is_cancelled(ssm: Any, instance: str, scripts: Scripts, moments: Any) -> None:
    """Ctrl-C must not leave a script running in an instance that is paid for."""
    command = send(ssm, instance)
    moments.now += 1

    ssm.cancel_command(CommandId=command)

    assert seen(ssm, command, instance) == ("Cancelled", "Cancelled", -1)
    assert scripts.futures[0].cancelled()


@pytest.mark.parametrize(
    ("end", "after_s", "expected"),
    [("terminate", 0, ("Failed", "Undeliverable", -1)), ("stop", 31, ("TimedOut", "DeliveryTimedOut", -1))],
)
def test_a_command_that_nobody_takes(
    aws: LocalAws, ssm: Any, instance: str, moments: Any, end: str, after_s: float, expected: tuple[str, str, int]
) -> None:
    """An instance can go between the command and its delivery."""
    from moto.ec2.models import ec2_backends

    backend = ec2_backends[aws.account_id][ssm.meta.region_name]
    waiting = Invocation(UNKNOWN, instance, "", "true", clock.now(), moments.now, moments.now + 30, run_for_s=60)
    vars(backend).setdefault("sandbox_commands", {})[UNKNOWN, instance] = waiting
    found = backend.get_instance(instance)
    found.terminate() if end == "terminate" else found.stop()
    moments.now += after_s

    assert seen(ssm, UNKNOWN, instance) == expected
