"""`invoke verify`: what it starts, proves and leaves, and that nothing stays whatever happens on the way."""

from __future__ import annotations

import base64
import contextlib
import dis
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from gpu_ami import process
from gpu_ami.aws import instances
from gpu_ami.aws.caller import NO_ROOM, Caller, UnansweredError
from gpu_ami.errors import AwsError, DifferenceError, PipelineError, SafetyError, UsageError
from gpu_ami.measure import verify
from gpu_ami.measure.power_off import user_data
from gpu_ami.measure.verify import Request
from gpu_ami.records import verification
from gpu_ami_sandbox.aws import run_command
from gpu_ami_sandbox.aws.batch import service_linked_role
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.guest.script import Ran
from tests.measure.conftest import IMAGE, Host, allow
from tests.support.account import REGION, Task, World
from tests.support.interrupts import ENDS, interrupts
from tests.support.schemas import problems
from tests.support.verifying import VERIFYING

__all__ = ["interrupts"]

Verifying = Callable[..., Task]
# What EC2 says; the instance goes on all the same.
TERMINATED = b'<TerminateInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><instancesSet/></TerminateInstancesResponse>'
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


@pytest.mark.parametrize("interface", ["", "public_ip", "private_ip", "session_manager"])
@pytest.mark.parametrize("has_group", [True, False])
def test_it_is_in_the_network_as_a_builder_is(
    here: World,
    host: Host,
    ami: SandboxAmi,
    verifying: Verifying,
    repository_with_scripts: Path,
    interface: str,
    *,
    has_group: bool,
) -> None:
    """In a public subnet that gives no addresses by itself a builder gets one; without it SSM is out of reach."""
    group = here.maker.location.security_group_id if has_group else ""
    values = {"ssh_interface": interface, "security_group_id": group, "subnet_id": here.maker.location.subnet_id}
    lines = [f'{name} = "{value}"\n' for name, value in values.items() if value]
    (repository_with_scripts / "packer" / "a.auto.pkrvars.hcl").write_text("".join(lines))

    go(verifying(), here, host, ami, subnet_ids=())

    (launch,) = [call.parameters for call in here.aws.gate.calls if call.action == "RunInstances"]
    (instance,) = here.maker.ec2.all_instances()
    at = "NetworkInterface.1." if interface in ("", "public_ip") else ""
    assert launch[f"{at}SubnetId"] == here.maker.location.subnet_id
    assert launch.get(f"{at}SecurityGroupId.1", "") == group
    assert ("SubnetId" in launch) is not bool(at)
    if at:
        assert (launch[f"{at}DeviceIndex"], launch[f"{at}AssociatePublicIpAddress"]) == ("0", "true")
        assert launch[f"{at}DeleteOnTermination"] == "true"
    assert instance.image_id == ami.id
    assert left(here) == []


def test_a_good_ami_is_verified_and_nothing_stays(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """The whole of it: the instance as it must be started, the checks, the record, the tag, and the end."""
    task = verifying()

    go(task, here, host, ami)

    document = task.document
    assert [(row["check"], row["status"]) for row in document["checks"]] == [
        ("gpu", "ok"),
        ("cuda", "ok"),
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
    assert base64.b64decode(launch["UserData"]).decode() == user_data(45)
    assert left(here) == []
    assert problems("verify", document) == []
    assert here.maker.ec2.tags[ami.id]["gpu-ami:verified"].endswith("Z/g5.xlarge")


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
    path = verification.RECORDS.path_of(folder, ami.id)
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


def why_not(here: World, task: Task, ami: SandboxAmi) -> str | None:
    """Return why an apply would not take *ami*."""
    return verification.why_not(task.run.workspace.terraform, ami.id, here.maker.ec2.tags[ami.id], sandbox=False)


@pytest.mark.parametrize("end", ["volume", "terminate", "interrupt"])
def test_a_check_that_failed_counts_whatever_comes_after(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, end: str
) -> None:
    """The older good record, and the tag, would let an apply through that was just shown to be wrong."""
    task = verifying()
    go(task, here, host, ami)
    assert why_not(here, task, ami) is None
    host.answers["verify-gpu"] = NO_GPU
    again = verifying()
    if end == "terminate":
        here.aws.gate.fail("UnauthorizedOperation", action="TerminateInstances")
    elif end == "volume":
        here.aws.gate.fail("InternalError", action="DescribeVolumeStatus")
        here.aws.gate.fail("InternalError", action="DescribeVolumes")
    else:
        seen = len(host.scripts)

        def strike(_now: float) -> None:
            if len(host.scripts) > seen + 1:
                raise KeyboardInterrupt

        host.waited = strike
        host.answers["systemd-analyze"] = None

    with pytest.raises((PipelineError, KeyboardInterrupt)):
        go(again, here, host, ami)

    assert "its verification failed (gpu: " in str(why_not(here, again, ami))
    assert here.maker.ec2.tags[ami.id]["gpu-ami:verified"].endswith("Z/g5.xlarge/failed")
    said = again.out.getvalue() + again.err.getvalue()
    assert "no NVIDIA device" in said


@pytest.mark.parametrize(
    ("action", "name"), [("DescribeVolumeStatus", "volume"), ("SendCommand", "boot"), ("SendCommand", "prewarm")]
)
def test_what_aws_does_not_say_is_not_confirmed(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, action: str, name: str
) -> None:
    """One answer that is missing is no reason to forget the others; of the GPU it is."""
    task = verifying()
    here.aws.gate.fail("AccessDeniedException", action=action, at={"boot": 2, "prewarm": 3}.get(name))

    go(task, here, host, ami)

    assert check(task, name)["status"] == "not confirmed"
    assert "AccessDenied" in check(task, name)["detail"]
    assert check(task, "gpu")["status"] == "ok"
    assert why_not(here, task, ami) is None
    assert left(here) == []


@pytest.mark.parametrize(
    ("tag", "recorded", "expected"),
    [
        ("", None, "unknown"),
        ("yes", None, "unknown"),
        ("9/g5.xlarge", "failed", "failed"),
        ("9/g5.xlarge/failed", "ok", "failed"),
        ("2026-11-30T12:00:00Z/g5.xlarge", None, "good"),
        ("2026-11-30T12:00:00Z/g5.xlarge/failed", None, "failed"),
        ("2026-11-30T11:00:00Z/g5.xlarge", "failed", "failed"),
        ("2026-11-30T13:00:00Z/g5.xlarge", "failed", "good"),
        ("2026-11-30T11:00:00Z/g5.xlarge/failed", "ok", "good"),
        ("2026-11-30T13:00:00Z/g5.xlarge/failed", "ok", "failed"),
        ("2026-11-30T12:00:00Z/g5.xlarge/failed", "ok", "good"),
        ("", "not confirmed", "unknown"),
    ],
)
def test_the_newest_word_on_an_ami_counts(tmp_path: Path, tag: str, recorded: Any, expected: str) -> None:
    """Its record is of this machine only, its tag is anybody's: what is no verification's says nothing."""
    ami = "ami-0123456789abcdef0"
    if recorded:
        record = verification.Verification(
            ami_id=ami,
            region=REGION,
            account="1",
            instance_type="g5.xlarge",
            verified_at="2026-11-30T12:00:00Z",
            image_digest="",
            fingerprints={},
            checks=(verification.CheckRecord(check="gpu", status=recorded, detail=""),),
            sandbox=False,
        )
        verification.RECORDS.write(tmp_path, record)
    tags = {"gpu-ami:verified": tag} if tag else {}

    assert verification.outcome(tmp_path, ami, tags, sandbox=False) == expected
    assert verification.outcome(tmp_path, ami, {}, sandbox=True) == "unknown"


def test_without_an_answer_about_the_gpu_nothing_is_recorded(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """Exit 4: it says nothing about the AMI, and what was known of it stays."""
    go(verifying(), here, host, ami)
    task = verifying()
    tag = here.maker.ec2.tags[ami.id]["gpu-ami:verified"]
    here.aws.gate.fail("AccessDeniedException", action="SendCommand")

    with pytest.raises(AwsError, match="AccessDenied"):
        go(task, here, host, ami)

    assert why_not(here, task, ami) is None
    assert here.maker.ec2.tags[ami.id]["gpu-ami:verified"] == tag


def test_a_failure_that_cannot_be_recorded_hides_no_other_error(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """An instance that nobody could end is what a person must hear of."""
    host.answers["verify-gpu"] = NO_GPU
    task = verifying()
    (task.run.workspace.terraform / "verifications").write_text("in the way")
    here.aws.gate.fail("UnauthorizedOperation", action="TerminateInstances")

    with pytest.raises(AwsError, match="switches itself off"):
        go(task, here, host, ami)

    assert "could not be recorded" in task.err.getvalue()
    assert here.maker.ec2.tags[ami.id]["gpu-ami:verified"].endswith("/failed")


def environment(here: World, rate: int, name: str = "gpu", tags: dict[str, str] | None = None, **more: int) -> None:
    """Make the family's Batch environment, whose template fills root volumes at *rate*."""
    ebs = {"VolumeSize": 100, "VolumeType": "gp3", "Throughput": 500, "VolumeInitializationRate": rate} | more
    data = {"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": ebs}]}
    template = here.maker.ec2.create_launch_template(f"rated-{name}", "", data, {})
    resources = here.maker.location.compute_resources(launchTemplate={"launchTemplateId": template.id})
    role = service_linked_role(here.account)
    here.maker.batch.create_compute_environment(
        name, "MANAGED", "ENABLED", resources, role, {"gpu-ami:family": "gpu-batch"} | (tags or {})
    )


def test_the_volume_is_as_batch_has_it(here: World, host: Host, ami: SandboxAmi, verifying: Verifying) -> None:
    """Its rate is waited for: what EBS says is a minute old here. A bench's environments are not Batch's own."""
    environment(here, 100, "gpu-ami-bench-0a1b2c-1-rated", {"gpu-ami:run": "bench-20261130T120000Z-0a1b2c"})
    environment(here, 300)
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
    environment(here, 300)
    task = verifying()

    go(task, here, host, ami)

    assert check(task, "volume")["status"] == "not confirmed"
    assert 360 < host.now < 500


def test_a_rate_that_ec2_drops_fails(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then every job reads through S3, however fast the rate that the template names."""
    monkeypatch.setattr("gpu_ami_sandbox.aws.ec2.instances.fill", lambda *_: None)
    environment(here, 300)
    task = verifying()

    with pytest.raises(DifferenceError, match="300 MiB/s were requested, and EC2 shows none"):
        go(task, here, host, ami)

    assert left(here) == []


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("InsufficientInstanceCapacity", 500),
        ("InsufficientHostCapacity", 500),
        ("InsufficientHostCapacity", 503),
        ("InsufficientFreeAddressesInSubnet", 400),
        ("Unsupported", 400),
        ("UnfulfillableCapacity", 500),
    ],
)
def test_the_next_place_is_tried_where_one_has_no_room(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, code: str, status: int
) -> None:
    """GPU types run out zone by zone; with EC2's capacity errors comes the status of a breakdown."""
    here.aws.gate.fail(code, action="RunInstances", at=1, status=status)
    task = verifying()

    go(task, here, host, ami, instance_types=("g5.xlarge", "g6.xlarge"))

    assert task.document["instance_type"] == "g6.xlarge"
    assert left(here) == []


@pytest.mark.parametrize(
    ("code", "status", "expected", "tries"),
    [
        ("InsufficientInstanceCapacity", 500, "No place had room", 2),
        ("VcpuLimitExceeded", 400, "VcpuLimitExceeded", 1),
        ("VolumeInitializationRateLimitExceeded", 400, "VolumeInitializationRateLimitExceeded", 1),
    ],
)
def test_without_a_place_nothing_is_started(
    here: World,
    host: Host,
    ami: SandboxAmi,
    verifying: Verifying,
    code: str,
    status: int,
    expected: str,
    tries: int,
) -> None:
    """Exit 4: it says nothing about the AMI."""
    here.aws.gate.fail(code, action="RunInstances", status=status)

    with pytest.raises(AwsError, match=expected) as caught:
        go(verifying(), here, host, ami, instance_types=("g5.xlarge", "g6.xlarge"))

    assert caught.value.exit_code == 4
    assert here.calls().count("RunInstances") == tries
    assert left(here) == []


def _ended_for_room(here: World, places: int) -> Callable[[float], None]:
    """Let EC2 end each of the first instances at once, as it does where it has taken more requests than it has room."""
    ended: set[str] = set()

    def end(_now: float) -> None:
        for instance in here.maker.ec2.all_instances():
            if instance.state != "terminated" and len(ended | {instance.id}) <= places:
                ended.add(instance.id)
                instance.terminate()
            if instance.id in ended:
                code = "Server.InsufficientInstanceCapacity"
                instance.state_reason.code = code
                instance.state_reason.message = f"{code}: Insufficient capacity to satisfy instance request"

    return end


def test_the_next_place_is_tried_where_ec2_ends_the_instance_for_want_of_room(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """EC2 may take the request and find only then that there is no capacity: that says nothing about the AMI."""
    host.waited = _ended_for_room(here, 1)
    task = verifying()

    go(task, here, host, ami, instance_types=("g5.xlarge", "g6.xlarge"))

    assert task.document["instance_type"] == "g6.xlarge"
    assert here.calls().count("RunInstances") == 2
    assert left(here) == []


def test_where_ec2_ends_each_instance_no_place_had_room(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """Each place is tried once, and all are named."""
    host.waited = _ended_for_room(here, 2)
    here.aws.gate.fail("InsufficientInstanceCapacity", action="RunInstances", at=2, status=500)
    types = ("g5.xlarge", "g6.xlarge", "g4dn.xlarge")

    with pytest.raises(AwsError, match=r"No place had room.*g5\.xlarge in .*g6\.xlarge in .*g4dn\.xlarge in "):
        go(verifying(), here, host, ami, instance_types=types)

    assert here.calls().count("RunInstances") == 3
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


@pytest.mark.parametrize("cause", [KeyboardInterrupt(), UnansweredError("no answer")], ids=["Ctrl-C", "no answer"])
@pytest.mark.parametrize("hidden", [0, 1], ids=["at once", "a moment later"])
def test_an_instance_whose_id_never_came_is_found_and_ended(
    here: World,
    host: Host,
    ami: SandboxAmi,
    verifying: Verifying,
    monkeypatch: pytest.MonkeyPatch,
    cause: BaseException,
    hidden: int,
) -> None:
    """EC2 has started it all the same; by its run tag it is found, also where EC2's lists are late."""
    launch, of_run, looks = instances.launch, instances.of_run, []

    def cut(caller: Any, wanted: Any) -> str:
        launch(caller, wanted)
        raise cause

    def late(caller: Any, run_id: str) -> list[str]:
        looks.append(run_id)
        return of_run(caller, run_id) if len(looks) > hidden else []

    monkeypatch.setattr(instances, "launch", cut)
    monkeypatch.setattr(instances, "of_run", late)

    with pytest.raises(type(cause)):
        go(verifying(), here, host, ami)

    assert len(list(here.maker.ec2.all_instances())) == 1
    assert left(here) == []


def test_a_launch_of_which_nobody_can_know_is_said(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """Neither the launch nor the list is answered: the user data ends what there may be."""
    here.aws.gate.fail("InternalError", action="RunInstances", status=500)
    here.aws.gate.fail("UnauthorizedOperation", action="DescribeInstances")
    task = verifying()

    with pytest.raises(UnansweredError):
        go(task, here, host, ami)

    assert "was started is not known" in task.err.getvalue()
    assert "If one was: It switches itself off 45 minutes after its start" in task.err.getvalue()


@pytest.mark.parametrize("cause", [KeyboardInterrupt(), UnansweredError("no answer")], ids=["Ctrl-C", "no answer"])
def test_a_launch_that_ec2_never_shows_is_said(
    here: World,
    host: Host,
    ami: SandboxAmi,
    verifying: Verifying,
    monkeypatch: pytest.MonkeyPatch,
    cause: BaseException,
) -> None:
    """An empty list just after a launch proves nothing: whoever reads it must know where to look, and when it ends."""
    wanted: list[Any] = []

    def cut(_caller: Any, launch: Any) -> str:
        wanted.append(launch)
        raise cause

    monkeypatch.setattr(instances, "launch", cut)
    task = verifying()

    with pytest.raises(type(cause)):
        go(task, here, host, ami)

    said = task.err.getvalue()
    assert f"EC2 shows none of the run {wanted[0].tags['gpu-ami:run']} so far" in said
    assert "If one was: It switches itself off 45 minutes after its start" in said
    assert "`invoke sweep`" in said


def _start_and_lose(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let EC2 do the first launch, and its answer be lost on the way."""
    call = Caller._try

    def lost(self: Any, service: str, operation: str, *rest: Any) -> Any:
        is_first = operation == "run_instances" and "RunInstances" not in here.calls()
        answer = call(self, service, operation, *rest)
        return (UnansweredError("no answer: timed out"), False, False) if is_first else answer

    monkeypatch.setattr(Caller, "_try", lost)


@pytest.mark.parametrize("code", ["ExpiredToken", "UnauthorizedOperation", "InsufficientInstanceCapacity"])
def test_a_launch_that_was_done_before_it_is_refused_is_ended(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """The first try timed out and had acted; what its repetition is told says nothing about that."""
    _start_and_lose(here, monkeypatch)
    here.aws.gate.fail(code, action="RunInstances", at=2)

    with contextlib.nullcontext() if code in NO_ROOM else pytest.raises(AwsError, match=code):
        go(verifying(), here, host, ami, instance_types=("g5.xlarge", "g6.xlarge"))

    assert len(list(here.maker.ec2.all_instances())) == (2 if code in NO_ROOM else 1)
    assert left(here) == []


def test_where_nobody_can_look_what_ends_it_is_said(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its credentials over a run can only say what it may have left; and it starts no second one."""
    _start_and_lose(here, monkeypatch)
    here.aws.gate.fail("InsufficientInstanceCapacity", action="RunInstances", at=2)
    here.aws.gate.fail("ExpiredToken", action="DescribeInstances")
    task = verifying()

    with pytest.raises(AwsError, match="InsufficientInstanceCapacity"):
        go(task, here, host, ami, instance_types=("g5.xlarge", "g6.xlarge"))

    assert here.calls().count("RunInstances") == 2
    assert "If one was: It switches itself off 45 minutes after its start" in task.err.getvalue()


def test_a_refusal_of_the_first_try_is_looked_for_nowhere(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """Nothing was started; a warning about it would be a false one."""
    here.aws.gate.fail("VcpuLimitExceeded", action="RunInstances")
    task = verifying()

    with pytest.raises(AwsError, match="VcpuLimitExceeded"):
        go(task, here, host, ami)

    assert "DescribeInstances" not in here.calls()
    assert "not known" not in task.err.getvalue()


@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize("launched", ["known", "lost"])
def test_an_interrupt_while_the_shield_goes_up_leaves_nothing(
    here: World,
    host: Host,
    ami: SandboxAmi,
    verifying: Verifying,
    monkeypatch: pytest.MonkeyPatch,
    interrupts: None,
    number: signal.Signals,
    launched: str,
) -> None:
    """Whoever has pressed Ctrl-C may press it again at any moment: each one before the shield is up, too."""
    del interrupts
    if launched == "lost":
        _start_and_lose(here, monkeypatch)
        here.aws.gate.fail("ExpiredToken", action="RunInstances", at=2)

    def late() -> Any:
        os.kill(os.getpid(), number)
        return process.shielded()

    monkeypatch.setattr(verify, "shielded", late)

    with pytest.raises(KeyboardInterrupt):
        go(verifying(), here, host, ami)

    assert len(list(here.maker.ec2.all_instances())) == 1
    assert left(here) == []


class _Strike:
    """Interrupts at the N-th unshielded instruction while there is an instance; Python 3.10 may do so at any one."""

    def __init__(self, alive: set[str], at: int) -> None:
        self.alive, self.at, self.count = alive, at, 0

    def __call__(self, frame: FrameType, event: str, _arg: object) -> Any:
        if Path(frame.f_code.co_filename).name not in ("verify.py", "process.py", "contextlib.py"):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        # What begins a `try` looks at no signals, in any Python, and is covered by none around it from 3.11 on.
        is_begin = dis.opname[frame.f_code.co_code[frame.f_lasti]] in ("NOP", "SETUP_FINALLY", "SETUP_WITH")
        if event == "opcode" and self.alive and not (is_begin or process.SHIELD.is_up):
            self.count += 1
            if self.count == self.at:
                process._raise_one_interrupt(signal.SIGINT, None)
        return self


@pytest.mark.parametrize("ends", ["well", "no room", "a failure"])
def test_an_interrupt_at_any_instruction_leaves_nothing(
    here: World,
    host: Host,
    ami: SandboxAmi,
    verifying: Verifying,
    monkeypatch: pytest.MonkeyPatch,
    interrupts: None,
    ends: str,
) -> None:
    """Between a launch and the block that ends it, too; and each instance is ended once, not again by its guard."""
    del interrupts
    alive: set[str] = set()
    ended: list[str] = []

    def launch(_caller: Any, wanted: Any) -> str:
        alive.add(wanted.token)
        return str(wanted.token)

    def terminate(_caller: Any, instance_id: str, **_time: Any) -> None:
        ended.append(instance_id)
        alive.discard(instance_id)

    def look(*_: Any) -> None:
        if ends == "no room" and not ended:
            msg = "none"
            raise verify._NoRoomError(msg)
        if ends == "a failure":
            msg = "no answer"
            raise AwsError(msg)

    monkeypatch.setattr(instances, "launch", launch)
    monkeypatch.setattr(instances, "terminate", terminate)
    monkeypatch.setattr(instances, "of_run", lambda *_: sorted(alive))
    monkeypatch.setattr(instances, "volumes_of_run", lambda *_: [])
    monkeypatch.setattr(verify, "_look", look)
    task = verifying()
    job = verify.decide(task.run, ami.id, here.account, ["g5.xlarge", "g6.xlarge"], [here.maker.location.subnet_id])
    caller, tracer = Caller(task.run.access, REGION), sys.gettrace()

    def struck(at: int) -> tuple[str, int]:
        ended.clear()
        strike, outcome = _Strike(alive, at), "good"
        try:
            with process.interruptible(once=True):
                sys.settrace(strike)
                try:
                    verify._see_one(task.run, caller, job, host.clock, [], [])
                finally:
                    sys.settrace(tracer)
        except (KeyboardInterrupt, AwsError) as exc:
            outcome = type(exc).__name__
        assert alive == set(), at
        assert len(ended) == len(set(ended)) >= 1, at
        assert (process.SHIELD.is_up, process.SHIELD.has_come) == (False, False)
        return outcome, strike.count

    # Without an interrupt; some Pythons see the instructions of a function from its second call on.
    expected = [struck(0) for _ in range(3)][-1]
    outcomes = [struck(at)[0] for at in range(1, expected[1] + 1)]

    assert expected[0] == ("AwsError" if ends == "a failure" else "good")
    assert outcomes.count("KeyboardInterrupt") > 20


@pytest.mark.parametrize("launched", ["known", "lost"])
def test_an_end_that_cannot_be_shown_is_an_end(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, monkeypatch: pytest.MonkeyPatch, launched: str
) -> None:
    """A machine without a free thread, a terminal that is gone: the instance costs all the same."""
    if launched == "lost":
        _start_and_lose(here, monkeypatch)
        here.aws.gate.fail("ExpiredToken", action="RunInstances", at=2)
    task = verifying()
    step = task.run.console.step

    def failing(title: str) -> Any:
        if title.startswith(("ending", "looking")):
            msg = "can't start new thread"
            raise RuntimeError(msg)
        return step(title)

    monkeypatch.setattr(task.run.console, "step", failing)
    with contextlib.nullcontext() if launched == "known" else pytest.raises(AwsError, match="ExpiredToken"):
        go(task, here, host, ami)

    assert len(list(here.maker.ec2.all_instances())) == 1
    assert left(here) == []


def test_credentials_that_end_on_the_way_leave_it_to_the_instance(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """Then nobody here can end it: its user data does, after 45 minutes; the error is AWS's own."""
    here.aws.gate.fail("ExpiredToken", action="SendCommand")
    here.aws.gate.fail("ExpiredToken", action="TerminateInstances")

    what = r"i-\w+ could not be ended: .*ExpiredToken.*switches itself off 45 minutes"
    with pytest.raises(PipelineError, match=what):
        go(verifying(), here, host, ami)

    assert here.calls().count("TerminateInstances") == 1
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
    ("is_kept", "said"),
    [
        (None, "is not in .*: was it deregistered, or is it in another region"),
        (True, "a sandbox that has ended made it; run `invoke build`"),
        (False, "each --sandbox command starts a fresh AWS"),
    ],
)
def test_an_ami_that_went_with_its_sandbox_is_said_to_be_so(
    here: World,
    host: Host,
    ami: SandboxAmi,
    verifying: Verifying,
    monkeypatch: pytest.MonkeyPatch,
    is_kept: bool | None,
    said: str,
) -> None:
    """The manifest outlives it: whoever comes back the next day looked for it in other regions."""
    ami.ec2_backend.amis.pop(ami.id)
    monkeypatch.setattr("gpu_ami.target.Aws.is_kept", is_kept)

    with pytest.raises(UsageError, match=said):
        go(verifying(), here, host, ami)


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


@pytest.mark.parametrize(("gone_after", "is_said"), [(20.0, False), (1000.0, True)], ids=["a moment later", "never"])
def test_a_volume_that_stays_is_said(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, gone_after: float, *, is_said: bool
) -> None:
    """It is billed until somebody finds it; the verification's own result stands."""
    ended: list[float] = []

    def keep(_now: float) -> None:
        ec2 = here.maker.ec2
        for instance in ec2.all_instances():
            for device in instance.block_device_mapping.values():
                device.delete_on_termination = False
            if instance.state == "terminated" and not ended:
                ended.append(host.now)
        if ended and host.now - ended[0] > gone_after:
            ec2.volumes.clear()

    host.waited = keep
    task = verifying()

    go(task, here, host, ami)

    assert ("should have gone with the instance" in task.err.getvalue()) is is_said
    assert bool(left(here)) is is_said
    assert task.document["checks"][0]["status"] == "ok"


def test_a_volume_of_which_nobody_knows_is_said(here: World, host: Host, ami: SandboxAmi, verifying: Verifying) -> None:
    """What was found on the instance is not lost for it."""
    here.aws.gate.fail("UnauthorizedOperation", action="DescribeVolumes", at=2)
    task = verifying()

    go(task, here, host, ami)

    assert "Whether the volume went with the instance is not known" in task.err.getvalue()
    assert "`invoke sweep`" in task.err.getvalue()


def test_an_instance_that_cannot_be_ended_is_named_with_what_ends_it(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """Whoever reads it must know that it is not for ever, and how to make sure."""
    here.aws.gate.fail("IncorrectInstanceState", action="TerminateInstances")

    with pytest.raises(AwsError, match="still not terminated") as caught:
        go(verifying(), here, host, ami)

    said = str(caught.value)
    (instance,) = here.maker.ec2.all_instances()
    assert instance.id in said
    assert "switches itself off 45 minutes after its start" in said
    assert "`invoke sweep`" in said


def test_an_end_that_is_denied_names_the_instance(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """Somebody else has to end it, and must know which one."""
    here.aws.gate.fail("UnauthorizedOperation", action="TerminateInstances")

    with pytest.raises(AwsError, match=r"could not be ended: .*UnauthorizedOperation") as caught:
        go(verifying(), here, host, ami)

    (instance,) = here.maker.ec2.all_instances()
    assert str(caught.value).startswith(f"{instance.id} could not be ended: ")
    assert here.calls().count("TerminateInstances") == 1


@pytest.mark.parametrize("known_after", [1, 3, 9])
def test_an_instance_that_ec2_does_not_know_yet_is_waited_for(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, known_after: int
) -> None:
    """EC2 is eventually consistent: the id that it gave a moment ago may be unknown."""
    seen = here.calls().count("DescribeInstances")
    for at in range(seen + 1, seen + known_after + 1):
        here.aws.gate.fail("InvalidInstanceID.NotFound", action="DescribeInstances", at=at)
    task = verifying()

    go(task, here, host, ami)

    assert task.document["checks"][0]["status"] == "ok"
    assert left(here) == []


def test_an_instance_that_ec2_never_knows_is_given_up_after_a_minute(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying
) -> None:
    """And its end is requested all the same."""
    here.aws.gate.fail("InvalidInstanceID.NotFound", action="DescribeInstances")

    with pytest.raises(AwsError, match="is terminated before SSM reached it"):
        go(verifying(), here, host, ami)

    assert 60 < host.now < 90
    assert left(here) == []


@pytest.mark.parametrize("how", ["well", "slowly", "not known to Run Command"])
def test_aws_gets_at_most_forty_calls_a_minute(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The account's other programs share its rates; here a call takes no time, so these are the most there can be."""
    environment(here, 300)
    if how == "slowly":
        monkeypatch.setattr("gpu_ami_sandbox.aws.run_command.ONLINE_AFTER_S", 500.0)
        monkeypatch.setattr("gpu_ami_sandbox.aws.ec2.volumes.LAG_S", 100_000.0)
        here.aws.gate.reply(TERMINATED, action="TerminateInstances")
    elif how == "not known to Run Command":
        here.aws.gate.fail("InvalidInstanceId", action="SendCommand")
    seen = len(here.calls())
    moments: list[float] = []
    before = [0.0]

    def waited(now: float) -> None:
        made = len(here.calls()) - seen - len(moments)
        moments.extend([before[0]] * made)
        before[0] = now

    host.waited = waited
    with contextlib.nullcontext() if how == "well" else pytest.raises((AwsError, DifferenceError)):
        go(verifying(), here, host, ami)
    waited(host.now)

    assert len(moments) == len(here.calls()) - seen
    assert max(sum(start <= other < start + 60 for other in moments) for start in moments) <= 40


def test_a_table_fits_a_page(here: World, host: Host, ami: SandboxAmi, verifying: Verifying) -> None:
    """The whole of a script's line is in the JSON result and in the record."""
    line = "verify-gpu: " + "word " * 60
    host.answers["verify-gpu"] = Ran(0, f"{line}\n{'x' * 300}\n", "")
    table, document = verifying(output="table"), verifying()

    go(table, here, host, ami)
    go(document, here, host, ami)

    lines = table.out.getvalue().splitlines()
    assert max(len(shown) for shown in lines) <= 100
    assert any(shown.rstrip().endswith("…") for shown in lines)
    assert check(document, "gpu")["evidence"] == [line.rstrip(), "x" * 300]


def test_a_type_without_a_price_is_verified_without_a_limit_only(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new type is offered before anybody has its price: a person may say yes, a limit cannot be held."""
    new = {"instance_types": ("g99.xlarge",)}
    with pytest.raises(SafetyError, match="more than --max-usd 5: its price is not known"):
        go(verifying(), here, host, ami, **new)
    assert "RunInstances" not in here.calls()

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: "yes\n", raising=False)
    monkeypatch.setattr("gpu_ami.measure.verify._start", _as(verify._start, "g5.xlarge"))
    task = verifying()
    go(task, here, host, ami, yes=False, max_usd=None, **new)

    assert task.document["cost_usd"] is None
    assert "its price is not known" in task.err.getvalue()
    assert left(here) == []


def _as(start: Any, instance_type: str) -> Any:
    """Start another type than was requested: the local EC2 knows none of the future."""
    from dataclasses import replace

    def started(run: Any, caller: Any, job: Any, *rest: Any) -> Any:
        launches = tuple(replace(launch, instance_type=instance_type) for launch in job.launches)
        launch, instance_id = start(run, caller, replace(job, launches=launches), *rest)
        return replace(launch, instance_type=job.launches[0].instance_type), instance_id

    return started


def test_nobody_to_ask_starts_nothing(here: World, host: Host, ami: SandboxAmi, verifying: Verifying) -> None:
    """A pipeline without --yes would wait for ever, or start what nobody wants."""
    with pytest.raises(SafetyError, match=r"nobody is here to confirm what it may cost \(about \$.*\); give --yes and"):
        go(verifying(), here, host, ami, yes=False, max_usd=None)

    assert "RunInstances" not in here.calls()


def test_what_it_calls_is_what_its_role_allows(here: World, host: Host, ami: SandboxAmi, verifying: Verifying) -> None:
    """One with all checks, and one that is interrupted in a script; the tests of the role hold it to this list."""
    environment(here, 300)
    seen = len(here.aws.gate.calls)
    go(verifying(), here, host, ami)
    host.answers["verify-gpu"] = None

    def strike(_now: float) -> None:
        if any(made.action == "GetCommandInvocation" for made in here.aws.gate.calls[interrupted:]):
            raise KeyboardInterrupt

    interrupted = len(here.aws.gate.calls)
    host.waited = strike
    with pytest.raises(KeyboardInterrupt):
        go(verifying(), here, host, ami)

    made = {f"{call.service}:{call.action}" for call in here.aws.gate.calls[seen:]}
    assert made - {"sts:GetCallerIdentity"} == VERIFYING


def test_a_command_that_cannot_be_delivered_fails_the_check(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent was online and is gone: nobody saw the GPU, and that is no proof of it."""
    deliver = run_command.RunCommand._deliver

    def undeliverable(self: Any, invocation: Any) -> None:
        if "verify-gpu" in invocation.script:
            invocation.end("Failed", "Undeliverable")
        else:
            deliver(self, invocation)

    monkeypatch.setattr(run_command.RunCommand, "_deliver", undeliverable)
    task = verifying()

    with pytest.raises(DifferenceError, match=r"SSM could not have the script run \(Undeliverable\)"):
        go(task, here, host, ami)

    assert problems("verify", task.document) == []
    assert left(here) == []


@pytest.mark.parametrize(
    ("says_after_s", "expected"),
    [(None, r"SSM did not say what came of it \(Unsaid\)"), (660.0, r"what came of it \(DeliveryTimedOut\)")],
    ids=["SSM never says", "SSM gives it up"],
)
@pytest.mark.parametrize("is_known", [True, False], ids=["still known", "no longer known"])
def test_an_agent_that_dies_of_the_gpu_fails_the_check(
    here: World,
    host: Host,
    ami: SandboxAmi,
    verifying: Verifying,
    monkeypatch: pytest.MonkeyPatch,
    says_after_s: float | None,
    expected: str,
    *,
    is_known: bool,
) -> None:
    """A GPU that hangs takes the host with it: that is what is looked for, and it must be in the record."""
    began: list[float] = []
    is_online = run_command.RunCommand._is_online

    def hang(_self: Any, invocation: Any) -> None:
        began.append(host.now)
        invocation.status = invocation.details = "InProgress"
        if says_after_s is not None and host.now - began[0] >= says_after_s:
            invocation.end("TimedOut", "DeliveryTimedOut")

    def online(self: Any, instance: Any) -> bool:
        return is_online(self, instance) and (is_known or not began)

    monkeypatch.setattr(run_command.RunCommand, "_advance", hang)
    monkeypatch.setattr(run_command.RunCommand, "_is_online", online)
    task = verifying()

    with pytest.raises(DifferenceError, match=expected):
        go(task, here, host, ami)

    found = {row["check"]: row["status"] for row in task.document["checks"]}
    assert (found["gpu"], found["boot"], found["prewarm"]) == ("failed", "not confirmed", "not confirmed")
    record = json.loads(verification.RECORDS.path_of(task.run.workspace.terraform, ami.id).read_text())
    assert record["checks"][0]["status"] == "failed"
    assert host.now < 45 * 60
    assert left(here) == []


@pytest.mark.parametrize("is_for_ever", [False, True], ids=["once", "each time"])
def test_a_script_whose_answer_is_lost_is_not_sent_beside_itself(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, *, is_for_ever: bool
) -> None:
    """SSM has no token for it and may have taken it: two at once start containers of one name, and a good AMI fails."""
    sent: list[float] = []

    def look(now: float) -> None:
        made = sum(call.action == "SendCommand" for call in here.aws.gate.calls)
        sent.extend([before[0]] * (made - len(sent)))
        before[0] = now

    before, host.waited = [0.0], look
    here.aws.gate.fail("InternalServerError", action="SendCommand", at=None if is_for_ever else 1, status=500)

    with pytest.raises(UnansweredError, match="run a script on i-") if is_for_ever else contextlib.nullcontext():
        go(verifying(), here, host, ami)
    look(host.now)

    assert sent[1] - sent[0] >= 660
    assert len(sent) == (2 if is_for_ever else 4)
    assert left(here) == []


def test_without_its_script_nothing_is_started(
    here: World, host: Host, ami: SandboxAmi, verifying: Verifying, repository_with_scripts: Path
) -> None:
    """An instance that has nothing to run costs all the same."""
    (repository_with_scripts / "packer" / "scripts" / "verify-gpu.sh").unlink()

    with pytest.raises(UsageError, match=r"verify-gpu\.sh"):
        go(verifying(), here, host, ami)

    assert "RunInstances" not in here.calls()
