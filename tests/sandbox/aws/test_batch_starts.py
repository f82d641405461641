"""Cold starts through Batch: what every service says of one host, what can go wrong with it, and what ends it."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami_sandbox.aws import batch_environments, clock
from gpu_ami_sandbox.aws.batch_environments import Host
from gpu_ami_sandbox.aws.batch_faults import FAULT_TAG, SLOW_TAG, rig
from gpu_ami_sandbox.aws.batch_hosts import switches_off_after_s
from gpu_ami_sandbox.aws.batch_starts import HASTE, is_probe
from gpu_ami_sandbox.aws.cold_starts import MODELS_BYTES
from gpu_ami_sandbox.aws.server import LocalAws
from tests.support.cold_start import BEGINNING, DIGEST, NAME, PROBE, TAGS, Bench, strangers
from tests.support.resources import BASE, REGION, an_image, refused, tags_of


@pytest.fixture
def bench(access: Access, aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench of one host, with a clock of its own."""
    made = Bench(access, aws)
    monkeypatch.setattr(clock, "seconds", lambda: BEGINNING + made.seconds / HASTE)
    return made


@pytest.fixture
def baked(ec2: Any) -> str:
    """An AMI that holds the job's image."""
    image_id = an_image(ec2)
    ec2.create_tags(Resources=[image_id], Tags=[{"Key": "gpu-ami:image-digest", "Value": DIGEST}])
    return image_id


def test_a_rated_host_in_all_services(bench: Bench, baked: str) -> None:
    """One story with one order of moments, whoever is asked: what a bench reads it joins over six services."""
    bench.make(baked, rate=300)
    waiting = bench.until("RUNNABLE")
    assert (waiting["attempts"], "startedAt" in waiting, "taskArn" in waiting["container"]) == ([], False, False)

    starting = bench.until("STARTING")
    assert "logStreamName" not in starting["container"]
    running = bench.until("RUNNING")
    assert running["attempts"] == []
    ended = bench.until("SUCCEEDED")

    (instance,) = bench.instances()
    host = instance["InstanceId"]
    arn = running["container"]["containerInstanceArn"]
    cluster = bench.cluster()
    assert cluster.partition("/")[2].startswith(f"AWSBatch-{NAME}-")
    (container,) = bench.ecs.describe_container_instances(cluster=cluster, containerInstances=[arn])[
        "containerInstances"
    ]
    tasks = [
        bench.ecs.list_tasks(cluster=cluster, containerInstance=arn, desiredStatus=s) for s in ("RUNNING", "STOPPED")
    ]
    task = bench.task()
    assert [t["taskArns"] for t in tasks] == [[], [task["taskArn"]]]
    assert container["ec2InstanceId"] == host
    assert ("pullStartedAt" in task, task["containers"][0]["imageDigest"]) == (False, DIGEST)
    tags = tags_of(instance)
    (activity,) = bench.activities(AutoScalingGroupName=tags["aws:autoscaling:groupName"])
    assert (activity["StatusCode"], host in activity["Description"]) == ("Successful", True)
    first, imports, models = (json.loads(event["message"]) for event in bench.lines())
    assert (first["instance_id"], models["models_bytes"]) == (host, MODELS_BYTES)

    moments = [
        ended["createdAt"] / 1000,
        activity["StartTime"].timestamp(),
        instance["LaunchTime"].timestamp(),
        first["t"] - first["up"],
        container["registeredAt"].timestamp(),
        task["createdAt"].timestamp(),
        task["startedAt"].timestamp(),
        first["t"],
        imports["t"],
        models["t"],
        ended["stoppedAt"] / 1000,
    ]
    # LaunchTime has whole seconds.
    assert all(later - earlier > -1 for earlier, later in itertools.pairwise(moments))
    assert 120 < moments[9] - moments[0] < 240
    assert 0 < ended["startedAt"] / 1000 - task["startedAt"].timestamp() < 5
    (attempt,) = ended["attempts"]
    assert attempt["container"]["exitCode"] == ended["container"]["exitCode"] == 0
    assert attempt["container"]["logStreamName"] == f"gpu-ami-bench-0a1b2c/default/{task['taskArn'].rpartition('/')[2]}"


def test_the_host_is_the_environments(bench: Bench, baked: str) -> None:
    """Template, AMI and tags of the arm, and Batch's own copy of the template, where a dropped rate shows."""
    bench.make(baked, rate=300)
    bench.until("RUNNING")

    (instance,) = bench.instances()

    tags, root = tags_of(instance), bench.root(instance)
    copy = tags["aws:ec2launchtemplate:id"]
    assert (instance["ImageId"], instance["InstanceType"]) == (baked, "g5.xlarge")
    assert TAGS.items() <= tags.items()
    assert (root["Size"], root["VolumeInitializationRate"], tags_of(root)) == (100, 300, {"gpu-ami:run": "r"})
    assert copy not in ("", bench.template)
    (version,) = bench.ec2.describe_launch_template_versions(
        LaunchTemplateId=copy, Versions=[tags["aws:ec2launchtemplate:version"]]
    )["LaunchTemplateVersions"]
    (mapping,) = version["LaunchTemplateData"]["BlockDeviceMappings"]
    assert mapping["Ebs"]["VolumeInitializationRate"] == 300


def total_s(bench: Bench) -> float:
    """Return the seconds from the submission to the last line."""
    bench.until("SUCCEEDED")
    last: float = json.loads(bench.lines()[-1]["message"])["t"]
    created: int = bench.shown()["createdAt"]
    return last - created / 1000


def test_a_stock_host_pulls_and_has_no_models(bench: Bench) -> None:
    """The arm that all others are compared with."""
    bench.make(BASE)

    assert 600 < total_s(bench) < 1200

    task = bench.task()
    assert task["createdAt"] < task["pullStartedAt"] < task["pullStoppedAt"] < task["startedAt"]
    first, *_, last = (json.loads(event["message"]) for event in bench.lines())
    assert first["task"]["pull_started_at"].startswith(f"{task['pullStartedAt'].astimezone().year}")
    assert last["models_bytes"] == 0


@pytest.mark.parametrize(("slow", "low_s", "high_s"), [("", 480, 840), ("2", 1000, 1500)])
def test_a_plain_host_reads_lazily(bench: Bench, baked: str, slow: str, low_s: float, high_s: float) -> None:
    """Slower than with a rate; and one that is rigged is slower than a stock host: a gate has to refuse it."""
    if slow:
        bench.ec2.create_tags(Resources=[baked], Tags=[{"Key": SLOW_TAG, "Value": slow}])
    bench.make(baked)

    assert low_s < total_s(bench) < high_s


def test_only_a_probe_has_a_cold_start() -> None:
    """Nobody knows how long another job takes; it runs until it is terminated."""
    assert is_probe(PROBE)
    assert not any(is_probe(command) for command in (PROBE[:3], [*PROBE[:3], "[]"], [*PROBE[:2], "1", "{}"], []))


@pytest.fixture
def unknown(bench: Bench) -> Iterator[list[str]]:
    """What answers have that AWS's models do not, from now on."""
    found: list[str] = []

    def look(operation_model: Any, response_dict: Any, **_: Any) -> None:
        said = json.loads(response_dict["body"] or b"{}")
        found.extend(strangers(operation_model.output_shape, said, operation_model.name))

    # Clients are shared by all tests of this process.
    for client in bench.in_json():
        client.meta.events.register("before-parse", look)
    yield found
    for client in bench.in_json():
        client.meta.events.unregister("before-parse", look)


def test_answers_have_the_members_of_awss_models(bench: Bench, baked: str, unknown: list[str]) -> None:
    """A client drops what it does not know: code that reads a misspelt member would find nothing on AWS alone."""
    bench.make(baked, rate=300)
    for status in ("RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"):
        bench.until(status)
        bench.batch.list_jobs(jobQueue=NAME, jobStatus=status)
        bench.status("queue")
    arn = bench.shown()["container"]["containerInstanceArn"]
    bench.ecs.describe_container_instances(cluster=bench.cluster(), containerInstances=[arn])
    bench.ecs.describe_tasks(cluster=bench.cluster(), tasks=["none"])

    assert (len(bench.lines()), bench.task()["lastStatus"]) == (3, "STOPPED")
    assert unknown == []


# --- what goes wrong


def test_without_capacity_a_job_waits_until_its_queues_limit(bench: Bench, baked: str, aws: LocalAws) -> None:
    """Batch says why after a while, and cancels the job only where the queue has a limit for that reason."""
    rig(aws.account_id, REGION, "no-capacity")
    bench.make(baked)
    while "statusReason" not in (waiting := bench.shown()):
        bench.step()
    assert waiting["status"] == "RUNNABLE"
    assert waiting["statusReason"].startswith("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - ")

    ended = bench.until("FAILED")

    reason = "Canceled by JobStateTimeLimit action due to reason: CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
    assert (ended["statusReason"], ended["isCancelled"], "startedAt" in ended) == (reason, True, False)
    assert 600 <= (ended["stoppedAt"] - ended["createdAt"]) / 1000 < 700
    assert [row["StatusCode"] for row in bench.activities()] == ["Failed"]
    assert bench.instances() == []


def test_a_job_that_fits_nowhere_says_so(bench: Bench, baked: str) -> None:
    """No limit is for this reason: the job would wait for ever."""
    bench.make(baked, vcpus=8)
    while "statusReason" not in (row := bench.shown()):
        bench.step()
    bench.seconds += 100_000

    assert bench.shown()["status"] == row["status"] == "RUNNABLE"
    assert row["statusReason"].startswith("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE")


@pytest.mark.parametrize("gone", ["image", "template"])
def test_a_launch_that_ec2_refuses(bench: Bench, baked: str, gone: str) -> None:
    """An AMI or template that is gone makes the environment invalid, and the job says that somebody must act."""
    bench.make(baked)
    if gone == "image":
        bench.ec2.deregister_image(ImageId=baked)
    else:
        bench.ec2.delete_launch_template(LaunchTemplateId=bench.template)
    while "statusReason" not in (row := bench.shown()):
        bench.step()

    assert row["statusReason"].startswith("ACTION_REQUIRED")
    assert bench.status() == "INVALID"
    bench.take_away()
    assert bench.status() == ""


def test_a_second_host(bench: Bench, baked: str, aws: LocalAws) -> None:
    """Batch may go beyond maxvCpus by one instance."""
    rig(aws.account_id, REGION, "second-host")
    bench.make(baked)
    bench.until("SUCCEEDED")

    assert len(bench.instances()) == len(bench.activities()) == 2


def test_a_host_that_was_there_before(bench: Bench, baked: str, aws: LocalAws) -> None:
    """Its pages are cached and its volume is filled: it proves nothing."""
    rig(aws.account_id, REGION, "reused")
    bench.make(baked)
    ended = bench.until("SUCCEEDED")

    (instance,) = bench.instances()
    host, before = ended["container"]["containerInstanceArn"], bench.ecs
    listed = before.list_tasks(cluster=bench.cluster(), containerInstance=host, desiredStatus="STOPPED")["taskArns"]
    assert len(listed) == 2
    assert instance["LaunchTime"].timestamp() < ended["createdAt"] / 1000
    assert json.loads(bench.lines()[0]["message"])["up"] > 600


@pytest.mark.parametrize(("fault", "in_copy"), [("rate-dropped", None), ("rate-ignored", 300)])
def test_a_rate_that_never_reaches_the_volume(
    bench: Bench, baked: str, aws: LocalAws, fault: str, in_copy: int | None
) -> None:
    """Whose fault it is shows in Batch's copy of the template alone; the host is as slow as one without."""
    rig(aws.account_id, REGION, fault)
    bench.make(baked, rate=300)
    assert total_s(bench) > 480

    (instance,) = bench.instances()
    copy = tags_of(instance)["aws:ec2launchtemplate:id"]
    versions = bench.ec2.describe_launch_template_versions(LaunchTemplateId=copy)["LaunchTemplateVersions"]
    (mapping,) = versions[0]["LaunchTemplateData"]["BlockDeviceMappings"]
    assert mapping["Ebs"].get("VolumeInitializationRate") == in_copy
    assert "VolumeInitializationRate" not in bench.root(instance)


def _pulled(bench: Bench) -> bool:
    return "pullStartedAt" in bench.task()


def _other_digest(bench: Bench) -> bool:
    return str(bench.task()["containers"][0]["imageDigest"]) != DIGEST


def _no_stream(bench: Bench) -> bool:
    with refused("ResourceNotFoundException"):
        bench.lines()
    return True


def _late_stream(bench: Bench) -> bool:
    return _no_stream(bench) and len(bench.lines(400)) == 3


def _task_missing(bench: Bench) -> bool:
    arn = bench.shown()["container"]["taskArn"]
    answer = bench.ecs.describe_tasks(cluster=bench.cluster(), tasks=[arn])
    return answer["tasks"] == [] and [row["reason"] for row in answer["failures"]] == ["MISSING"]


@pytest.mark.parametrize(
    ("fault", "shows"),
    [
        ("pulled", _pulled),
        ("other-digest", _other_digest),
        ("no-log", _no_stream),
        ("late-log", _late_stream),
        ("task-gone", _task_missing),
    ],
)
def test_a_start_that_proves_less(bench: Bench, baked: str, fault: str, shows: Callable[[Bench], bool]) -> None:
    """Asked for by a tag of the AMI, as a person at a running sandbox does; the job itself succeeds."""
    bench.ec2.create_tags(Resources=[baked], Tags=[{"Key": FAULT_TAG, "Value": fault}])
    bench.make(baked)
    bench.until("SUCCEEDED")

    assert shows(bench)


@pytest.mark.parametrize("tag", [(FAULT_TAG, "no-such-fault"), (SLOW_TAG, "fast"), (SLOW_TAG, "0.5")])
def test_a_tag_that_says_nothing_known_is_no_good_start(bench: Bench, baked: str, tag: tuple[str, str]) -> None:
    """A misspelt fault would let its test pass."""
    bench.ec2.create_tags(Resources=[baked], Tags=[{"Key": tag[0], "Value": tag[1]}])
    bench.make(baked)
    bench.seconds += 200

    assert (bench.shown()["status"], bench.status()) == ("RUNNABLE", "INVALID")
    with pytest.raises(ValueError, match="no such fault"):
        rig("123456789012", REGION, "no-such-fault")


@pytest.mark.parametrize(
    ("fault", "reason", "exit_code"),
    [
        ("fails", "Essential container in task exited", 1),
        ("hangs", "Job attempt duration exceeded timeout", 137),
        ("host-lost", "Host EC2 (instance", None),
    ],
)
def test_a_job_that_fails(
    bench: Bench, baked: str, aws: LocalAws, fault: str, reason: str, exit_code: int | None
) -> None:
    """By itself, by the time limit of its attempt, with its host."""
    rig(aws.account_id, REGION, fault)
    bench.make(baked)
    ended = bench.until("FAILED")

    assert ended["statusReason"].startswith(reason)
    assert ended["container"].get("exitCode") == ended["attempts"][0]["container"].get("exitCode") == exit_code
    if fault == "hangs":
        assert ended["stoppedAt"] - ended["startedAt"] == pytest.approx(3_600_000, abs=2)
    if fault == "fails":
        assert [json.loads(event["message"])["mark"] for event in bench.lines()] == ["first_line", "failed"]


# --- what ends it

_MIME = """MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="B"

--B
Content-Type: text/cloud-boothook; charset="us-ascii"

#cloud-boothook
#!/bin/bash
{switch}

--B--
"""
SWITCHES = (
    "shutdown -h +90",
    "systemd-run --on-active=90min \\\n  systemctl poweroff",
    "printf 'ExecStart=/usr/bin/systemctl poweroff\nOnBootSec=90min\n'",
)


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_timer_in_user_data_is_found(switch: str) -> None:
    """Whichever way the script sets it; without one a host never ends by itself."""
    for text, expected in ((switch, 5400.0), ("systemctl enable nothing", None)):
        encoded = base64.b64encode(_MIME.format(switch=text).encode())
        assert switches_off_after_s(Host(SimpleNamespace(user_data=encoded.decode()), {})) == expected


def test_a_host_switches_itself_off(bench: Bench, baked: str) -> None:
    """The last of the dead man's switches: nobody takes anything away, and no instance is paid for."""
    bench.make(baked, user_data=base64.b64encode(_MIME.format(switch=SWITCHES[0]).encode()).decode())
    bench.until("SUCCEEDED")
    (instance,) = bench.instances()
    assert instance["State"]["Name"] == "running"

    bench.seconds += 91 * 60
    (instance,) = bench.instances()

    assert instance["State"]["Name"] == "terminated"
    assert instance["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert bench.ecs.list_container_instances(cluster=bench.cluster())["containerInstanceArns"] == []


def test_a_teardown_leaves_nothing(bench: Bench, baked: str) -> None:
    """With the environment go hosts, volumes, Batch's template and cluster; its group's activities stay for a while."""
    bench.make(baked)
    bench.until("RUNNING")
    (instance,), cluster = bench.instances(), bench.cluster()
    bench.take_away()

    assert [bench.status(), bench.status("queue")] == ["", ""]
    assert [row["State"]["Name"] for row in bench.instances()] == ["terminated"]
    volumes = [{"Name": "tag:gpu-ami:run", "Values": ["*"]}]
    assert bench.ec2.describe_volumes(Filters=volumes)["Volumes"] == []
    templates = bench.ec2.describe_launch_templates()["LaunchTemplates"]
    assert [row["LaunchTemplateId"] for row in templates] == [bench.template]
    group = tags_of(instance)["aws:autoscaling:groupName"]
    assert len(bench.activities(AutoScalingGroupName=group, IncludeDeletedGroups=True)) == 1
    with refused("ValidationError"):
        bench.activities(AutoScalingGroupName=group)
    with refused("ClusterNotFoundException"):
        bench.ecs.list_tasks(cluster=cluster)
    ended = bench.shown()
    assert (ended["status"], ended["attempts"][0]["container"]["exitCode"]) == ("FAILED", 137)


def test_terminate_ends_what_cancel_does_not(bench: Bench, baked: str) -> None:
    """CancelJob says yes and does nothing from STARTING on."""
    bench.make(baked)
    bench.until("STARTING")
    bench.batch.cancel_job(jobId=bench.job, reason="enough")
    assert bench.shown()["status"] == "STARTING"

    bench.batch.terminate_job(jobId=bench.job, reason="enough")

    row = bench.shown()
    assert (row["status"], row["statusReason"], row["isTerminated"]) == ("FAILED", "enough", True)
    assert bench.task()["lastStatus"] == "STOPPED"


def test_what_is_in_the_way_of_a_deletion(bench: Bench, baked: str, aws: LocalAws) -> None:
    """The order of a teardown, and the two refusals that come in the right order, too."""
    rig(aws.account_id, REGION, "stale-relationship")
    bench.make(baked)
    batch = bench.batch
    with refused("ClientException"):
        batch.delete_job_queue(jobQueue=NAME)
    with refused("ClientException"):
        batch.delete_compute_environment(computeEnvironment=NAME)
    batch.update_compute_environment(computeEnvironment=NAME, state="DISABLED")
    with refused("ClientException") as said:
        batch.delete_compute_environment(computeEnvironment=NAME)
    assert said.text == "Cannot delete, found existing JobQueue relationship."
    batch.update_job_queue(jobQueue=NAME, state="DISABLED")
    with refused("ClientException"):
        batch.submit_job(jobName="late", jobQueue=NAME, jobDefinition="gpu-ami-bench-0a1b2c")
    batch.delete_job_queue(jobQueue=NAME)
    assert bench.status("queue") == "DELETING"
    bench.seconds += batch_environments.DELETING_S * HASTE
    assert bench.status("queue") == ""
    for _ in range(2):  # it takes a moment until the environment knows, and once more it does not
        with refused("ClientException") as said:
            batch.delete_compute_environment(computeEnvironment=NAME)
        bench.seconds += 2 * HASTE

    batch.delete_compute_environment(computeEnvironment=NAME)

    assert bench.status() == "DELETING"


def test_a_new_environment_takes_a_moment(bench: Bench, baked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue on one that is not VALID yet, and a change of it, are refused."""
    monkeypatch.setattr(batch_environments, "CREATING_S", 1.0)
    with refused("ClientException"):
        bench.make(baked)
    assert bench.status() == "CREATING"
    with refused("ClientException"):
        bench.batch.update_compute_environment(computeEnvironment=NAME, state="DISABLED")
    bench.seconds += 2 * HASTE
    assert bench.status() == "VALID"


def test_an_invalid_environment_goes_and_one_that_hangs_does_not(bench: Bench, baked: str, aws: LocalAws) -> None:
    """A teardown must not stop at the one, and has to tell of the other."""
    bench.ec2.create_tags(Resources=[baked], Tags=[{"Key": FAULT_TAG, "Value": "invalid"}])
    bench.make(baked)
    assert bench.status() == "INVALID"
    bench.take_away()
    assert bench.status() == ""

    rig(aws.account_id, REGION, "delete-hangs", "gpu-ami-bench-*")
    resources = {"type": "FARGATE", "maxvCpus": 1, "subnets": [], "securityGroupIds": []}
    subnet = bench.ec2.describe_subnets()["Subnets"][0]
    group = bench.ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [subnet["VpcId"]]}])
    resources |= {"subnets": [subnet["SubnetId"]], "securityGroupIds": [group["SecurityGroups"][0]["GroupId"]]}
    bench.batch.create_compute_environment(computeEnvironmentName=NAME, type="MANAGED", computeResources=resources)
    bench.batch.update_compute_environment(computeEnvironment=NAME, state="DISABLED")
    bench.batch.delete_compute_environment(computeEnvironment=NAME)
    bench.seconds += 1e6
    assert bench.status() == "DELETING"


def test_a_queues_time_limits(bench: Bench, baked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shown as given; out of range they are refused, and so is one environment more than a region may have."""
    bench.make(baked)
    (row,) = bench.batch.describe_job_queues(jobQueues=[NAME])["jobQueues"]
    (limit,) = row["jobStateTimeLimitActions"]
    assert (limit["maxTimeSeconds"], limit["action"]) == (600, "CANCEL")
    for changed in ({"maxTimeSeconds": 599}, {"maxTimeSeconds": 86_401}, {"action": "TERMINATE"}):
        with refused("ClientException"):
            bench.batch.update_job_queue(jobQueue=NAME, jobStateTimeLimitActions=[limit | changed])

    monkeypatch.setattr(batch_environments, "MOST", 1)
    with refused("ClientException"):
        bench.batch.create_compute_environment(computeEnvironmentName="one-more", type="UNMANAGED")
