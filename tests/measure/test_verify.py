"""`invoke verify`: what it starts, proves and leaves, and that nothing stays whatever happens on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.errors import AwsError, DifferenceError, PipelineError, SafetyError, UsageError
from gpu_ami.measure import verify
from gpu_ami.measure.verify import Request
from gpu_ami.records import verification
from gpu_ami_sandbox.aws.batch import service_linked_role
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.guest.script import Ran
from tests.measure.conftest import IMAGE, Host, allow
from tests.support.account import REGION, Task, World

Verifying = Callable[..., Task]
NO_GPU = Ran(1, "", "verify-gpu: this builder has no NVIDIA device\n")


def check(task: Task, name: str) -> dict[str, Any]:
    """Return one check of the result."""
    (found,) = [row for row in task.document["checks"] if row["check"] == name]
    return dict(found)


def go(task: Task, here: World, host: Host, image: SandboxAmi, **more: Any) -> None:
    """Verify *image* without asking."""
    given: dict[str, Any] = {
        "ami": image.id,
        "subnet_ids": (here.maker.location.subnet_id,),
        "yes": True,
        "max_usd": "5",
    } | more
    verify.run(task.run, Request(**given), clock=host.clock)


def left(here: World) -> list[str]:
    """Return what is still there of instances and volumes."""
    ec2 = here.maker.ec2
    alive = [f"{i.id} {i.state}" for i in ec2.all_instances() if i.state != "terminated"]
    return alive + [volume.id for volume in ec2.volumes.values()]


def test_a_good_ami_is_verified_and_nothing_stays(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """The whole of it: the instance as it must be started, the checks, the record, the tag, and the end."""
    task = verifying()

    go(task, here, host, ami)

    document = task.document
    assert [(row["check"], row["status"]) for row in document["checks"]] == [
        ("gpu", "ok"),
        ("boot", "ok"),
        ("prewarm", "ok"),
        ("volume", "ok"),
    ]
    assert (document["ami_id"], document["instance_type"], document["region"]) == (ami.id, "g5.xlarge", REGION)
    assert document["cost_usd"] > 0
    assert host.scripts[0].startswith("#!/usr/bin/env bash\nexport REQUIRE_GPU=1 TEST_IMAGE='" + IMAGE)
    (launch,) = [call.parameters for call in here.aws.gate.calls if call.action == "RunInstances"]
    assert launch["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert launch["IamInstanceProfile.Name"] == "gpu-ami-verify"
    assert launch["MetadataOptions.HttpTokens"] == "required"
    assert "KeyName" not in launch
    assert left(here) == []
    assert (
        ami.get_tags_as_dict()["gpu-ami:verified"].endswith("/g5.xlarge") if hasattr(ami, "get_tags_as_dict") else True
    )


def test_the_instance_and_its_volume_carry_the_runs_tags(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """By them a sweep finds what a killed verification has left, and takes nothing else."""
    seen: dict[str, dict[str, str]] = {}

    def look(_now: float) -> None:
        ec2 = here.maker.ec2
        for thing in [*ec2.all_instances(), *ec2.volumes.values()]:
            seen[thing.id] = dict(ec2.tags.get(thing.id, {}))

    host.waited = look

    go(verifying(), here, host, ami)

    assert {key[:2] for key in seen} == {"i-", "vo"}
    for tags in seen.values():
        assert (tags["gpu-ami:pipeline"], tags["gpu-ami:family"]) == ("gpu-ami-pipeline", "gpu-batch")
        assert tags["gpu-ami:run"]
        assert tags["gpu-ami:may-take"] == "45"


def test_the_record_is_what_a_gate_believes(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, repository_with_scripts: Path
) -> None:
    """Bound to the AMI and to what it was made from; a tag could be anybody's."""
    task = verifying()
    tags = {"gpu-ami:image-digest": IMAGE.rpartition("@")[2], "gpu-ami:fingerprint-scripts": "0123456789abcdef"}
    folder = repository_with_scripts / "terraform"

    def why(ami_id: str = ami.id, **changed: str) -> str | None:
        return verification.why_not(folder, ami_id, tags | changed, sandbox=False)

    assert "no record" in str(why())
    go(task, here, host, ami)

    assert task.document["record"].endswith(f"terraform/verifications/{ami.id}.json")
    assert why() is None
    assert "something else" in str(why(**{"gpu-ami:image-digest": "sha256:" + "b" * 64}))
    assert "something else" in str(why(**{"gpu-ami:fingerprint-scripts": "x"}))
    assert "of AWS" in str(verification.why_not(folder, ami.id, tags, sandbox=True))
    path = verification.path_of(folder, ami.id)
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"ami_id": "ami-12345678"}))
    assert "is about ami-12345678" in str(why())
    path.write_text(path.read_text()[:50])
    with pytest.raises(UsageError, match="cannot be read"):
        why()


@pytest.mark.parametrize(
    ("word", "ran", "failed"),
    [
        ("verify-gpu", NO_GPU, "no NVIDIA device"),
        ("verify-gpu", Ran(1, "", "verify-gpu: the GPUs have drivers of several versions\n"), "several versions"),
        ("verify-gpu", Ran(1, "", "verify-gpu: cuInit says 805\n"), "805"),
        ("verify-gpu", Ran(1, "x" * 40_000, "verify-gpu: a container does not see the GPU\n"), "a container"),
        ("verify-gpu", Ran(194, "", ""), "reboot"),
        ("verify-gpu", None, "too long"),
    ],
)
def test_an_ami_whose_gpu_is_not_seen_fails(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, word: str, ran: Ran | None, failed: str
) -> None:
    """Exit 9, with the reason; the record says so too, and nothing stays."""
    host.answers[word] = ran
    task = verifying()

    with pytest.raises(DifferenceError, match=failed) as caught:
        go(task, here, host, ami)

    assert caught.value.exit_code == 9
    assert check(task, "gpu")["status"] == "failed"
    assert left(here) == []
    tags = {"gpu-ami:image-digest": IMAGE.rpartition("@")[2], "gpu-ami:fingerprint-scripts": "0123456789abcdef"}
    folder = task.run.workspace.terraform
    assert "its verification failed" in str(verification.why_not(folder, ami.id, tags, sandbox=False))


def _environment(here: World, rate: int) -> None:
    """Make the family's Batch environment, whose template fills root volumes at *rate*."""
    ebs = {"VolumeSize": 100, "VolumeType": "gp3", "Throughput": 500, "VolumeInitializationRate": rate}
    data = {"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": ebs}]}
    template = here.maker.ec2.create_launch_template("rated", "", data, {})
    resources = here.maker.location.compute_resources(launchTemplate={"launchTemplateId": template.id})
    role = service_linked_role(here.account)
    here.maker.batch.create_compute_environment(
        "gpu", "MANAGED", "ENABLED", resources, role, {"gpu-ami:family": "gpu-batch"}
    )


def test_the_volume_is_as_batch_has_it(here: World, host: Host, ami: SandboxAmi, verifying: Verifying) -> None:
    """Its rate is waited for: what EBS says is a minute old here."""
    _environment(here, 300)
    task = verifying()

    go(task, here, host, ami)

    found = check(task, "volume")
    assert (found["status"], found["detail"]) == ("ok", "filled at 300 MiB/s")
    assert "100 GiB" in found["evidence"][0]
    assert host.now > 60


def test_a_volume_that_is_never_seen_completed_is_no_failure(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After six minutes it is said that nobody knows: EBS's word is up to five minutes old."""
    monkeypatch.setattr("gpu_ami_sandbox.aws.ec2.volumes.LAG_S", 100_000.0)
    _environment(here, 300)
    task = verifying()

    go(task, here, host, ami)

    assert check(task, "volume")["status"] == "not confirmed"
    assert 360 < host.now < 500


def test_a_rate_that_ec2_drops_fails(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then every job reads through S3, however fast the rate that the template names."""
    monkeypatch.setattr("gpu_ami_sandbox.aws.ec2.instances.fill", lambda *_: None)
    _environment(here, 300)
    task = verifying()

    with pytest.raises(DifferenceError, match="300 MiB/s were requested, and EC2 shows none"):
        go(task, here, host, ami)

    assert left(here) == []


def test_the_next_place_is_tried_where_one_has_no_room(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """GPU types run out zone by zone."""
    here.aws.gate.fail("InsufficientInstanceCapacity", action="RunInstances", at=1)
    task = verifying()

    go(task, here, host, ami, instance_types=("g5.xlarge", "g6.xlarge"))

    assert task.document["instance_type"] == "g6.xlarge"
    assert left(here) == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("InsufficientInstanceCapacity", "No place had room"),
        ("VcpuLimitExceeded", "VcpuLimitExceeded"),
        ("VolumeInitializationRateLimitExceeded", "VolumeInitializationRateLimitExceeded"),
    ],
)
def test_without_a_place_nothing_is_started(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, code: str, expected: str
) -> None:
    """Exit 4: it says nothing about the AMI."""
    here.aws.gate.fail(code, action="RunInstances")

    with pytest.raises(AwsError, match=expected) as caught:
        go(verifying(), here, host, ami, instance_types=("g5.xlarge", "g6.xlarge"))

    assert caught.value.exit_code == 4
    assert left(here) == []


def test_an_instance_that_ssm_never_reaches_is_ended(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """The commonest mistake is a profile without the agent's rights: the message says where to look."""
    allow(here, ["s3:GetObject"])

    with pytest.raises(AwsError, match=r"SSM did not reach it within 10 m.*instance profile"):
        go(verifying(), here, host, ami)

    assert left(here) == []


def test_an_agent_that_is_late_is_waited_for(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cold boot of a large image takes minutes."""
    monkeypatch.setattr("gpu_ami_sandbox.aws.run_command.ONLINE_AFTER_S", 500.0)

    go(verifying(), here, host, ami)

    assert host.now > 500
    assert left(here) == []


def test_an_instance_that_dies_before_ssm_reaches_it(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """EC2 may take a request and end the instance at once."""
    host.waited = lambda _now: [i.terminate() for i in here.maker.ec2.all_instances() if i.state == "running"]

    with pytest.raises(AwsError, match="is terminated before SSM reached it"):
        go(verifying(), here, host, ami)

    assert left(here) == []


def test_a_termination_that_is_refused_once_is_tried_again(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """Nothing may stay because of one bad moment of AWS's."""
    here.aws.gate.fail("InternalError", action="TerminateInstances", at=1)
    here.aws.gate.fail("IncorrectInstanceState", action="TerminateInstances", at=2)

    go(verifying(), here, host, ami)

    assert left(here) == []


@pytest.mark.parametrize(
    "action", ["DescribeInstances", "DescribeInstanceInformation", "SendCommand", "GetCommandInvocation"]
)
@pytest.mark.parametrize("cause", [KeyboardInterrupt, SystemExit])
def test_whatever_ends_it_ends_the_instance(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, action: str, cause: type[BaseException]
) -> None:
    """Ctrl-C in any phase: the instance costs until somebody finds it."""
    task = verifying()

    def strike(_now: float) -> None:
        if any(made.action == action for made in here.aws.gate.calls):
            raise cause

    host.waited = strike
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        go(task, here, host, ami)

    assert [state for state in left(here) if state.startswith("i-")] == []


def test_credentials_that_end_on_the_way_leave_it_to_the_instance(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """Then nobody here can end it: its user data does, after 45 minutes; the error is AWS's own."""
    here.aws.gate.fail("ExpiredToken", action="SendCommand")
    here.aws.gate.fail("ExpiredToken", action="TerminateInstances")

    with pytest.raises(PipelineError, match="still not terminated"):
        go(verifying(), here, host, ami)

    (instance,) = [i for i in here.maker.ec2.all_instances() if i.state != "terminated"]
    assert instance.instance_initiated_shutdown_behavior == "terminate"


def _give_away(ami: SandboxAmi) -> None:
    """Let the AMI be another account's, which shares it."""
    ami.owner_id = "210987654321"
    ami.launch_permissions.append({"UserId": ami.ec2_backend.account_id})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_give_away, "account 210987654321's"),
        (lambda ami: setattr(ami, "state", "pending"), "is pending"),
        (lambda ami: ami.add_tags({"gpu-ami:family": "other"}), "not tagged as an AMI of gpu-batch"),
        (lambda ami: ami.ec2_backend.amis.pop(ami.id), "is not in"),
    ],
)
def test_an_ami_that_is_none_of_ours_is_refused(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, change: Any, expected: str
) -> None:
    """Before anything is started."""
    change(ami)

    with pytest.raises(UsageError, match=expected):
        go(verifying(), here, host, ami)

    assert "RunInstances" not in here.calls()


@pytest.mark.parametrize(
    ("given", "error", "expected"),
    [
        ({"ami": "ami-1"}, UsageError, "--ami 'ami-1' is not an AMI id"),
        ({"instance_types": ("c7i.large",)}, UsageError, "c7i.large has no GPU"),
        ({"max_usd": "much"}, UsageError, "--max-usd 'much' is no amount"),
        ({"max_usd": "-1"}, UsageError, "--max-usd '-1' is no amount above 0"),
        ({"max_usd": "nan"}, UsageError, "--max-usd 'nan' is no amount above 0"),
        ({"max_usd": "0.01"}, SafetyError, "more than --max-usd 0.01"),
        ({"max_usd": None}, SafetyError, "--yes needs --max-usd"),
    ],
)
def test_what_was_not_agreed_on_is_not_started(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, given: Any, error: Any, expected: str
) -> None:
    """It costs money, and says how much before."""
    with pytest.raises(error, match=expected):
        go(verifying(), here, host, ami, **given)

    assert "RunInstances" not in here.calls()


def test_a_dry_run_starts_nothing(here: World, host: Host, ami: SandboxAmi, verifying: Verifying) -> None:
    """It names the places, the price and the steps."""
    task = verifying(dry_run=True, output="table")

    go(task, here, host, ami, yes=False, max_usd=None)

    said = task.out.getvalue() + task.err.getvalue()
    assert "start a g5.xlarge" in said
    assert "at most $" in said
    assert "RunInstances" not in here.calls()
