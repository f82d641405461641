"""`invoke bench` on the local AWS: what it makes, measures and leaves, and that nothing stays whatever happens."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpu_ami import process
from gpu_ami.aws.caller import Caller
from gpu_ami.errors import AwsError, PipelineError, SafetyError
from gpu_ami.measure import bench, bench_journal
from gpu_ami.measure.bench import Request
from gpu_ami.measure.verify import Clock
from gpu_ami.settings import Bench, Promotion
from gpu_ami_sandbox.aws import batch_starts
from gpu_ami_sandbox.aws import clock as sandbox_clock
from gpu_ami_sandbox.aws.batch_faults import SLOW_TAG, rig
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.demo.base_image import base_image_id
from tests.measure.conftest import IMAGE
from tests.support.account import REGION, Task, World, task
from tests.support.interrupts import interrupts
from tests.support.schemas import problems

__all__ = ["interrupts"]

Benching = Callable[..., Task]
LOG_GROUP = "/gpu-ami/gpu-batch"


@dataclass
class Time:
    """The time of a bench: it passes only while the bench waits, in the sandbox as many times as slowly as there.

    Attributes:
        now: Seconds that have passed.
        waited: Called at each wait.
    """

    now: float = 0.0
    waited: Callable[[float], object] = field(default=lambda _now: None)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.waited(self.now)

    @property
    def clock(self) -> Clock:
        """The time as the bench sees it."""
        return Clock(now=lambda: self.now, sleep=self.sleep)


@pytest.fixture
def passing(here: World, monkeypatch: pytest.MonkeyPatch) -> Time:
    """Time for a bench."""
    del here
    made = Time()
    monkeypatch.setattr(sandbox_clock, "seconds", lambda: 1000.0 + made.now / batch_starts.HASTE)
    return made


@pytest.fixture
def live(here: World) -> str:
    """The family's environment as Terraform makes it, with a rate, a log group and a definition; return its name."""
    clients = {name: here.access.client(name) for name in ("batch", "ec2", "logs")}
    tags = {"gpu-ami:pipeline": "gpu-ami-pipeline", "gpu-ami:family": "gpu-batch"}
    template = clients["ec2"].create_launch_template(
        LaunchTemplateName="production",
        LaunchTemplateData={
            "MetadataOptions": {"HttpTokens": "required"},
            "BlockDeviceMappings": [
                {
                    "DeviceName": "/dev/xvda",
                    "Ebs": {"VolumeSize": 100, "VolumeType": "gp3", "VolumeInitializationRate": 200},
                }
            ],
        },
    )["LaunchTemplate"]["LaunchTemplateId"]
    before = here.maker.image(3)
    digest = "sha256:" + "b" * 64
    before.add_tags({"gpu-ami:image": f"{IMAGE.partition('@')[0]}@{digest}", "gpu-ami:image-digest": digest})
    resources = here.maker.location.compute_resources(
        launchTemplate={"launchTemplateId": template, "version": "1"},
        ec2Configuration=[{"imageType": "ECS_AL2023_NVIDIA", "imageIdOverride": before.id}],
    )
    clients["batch"].create_compute_environment(
        computeEnvironmentName="production", type="MANAGED", state="ENABLED", computeResources=resources, tags=tags
    )
    clients["logs"].create_log_group(logGroupName=LOG_GROUP)
    logs = {"logDriver": "awslogs", "options": {"awslogs-group": LOG_GROUP}}
    needs = [{"type": "VCPU", "value": "4"}, {"type": "MEMORY", "value": "2048"}]
    clients["batch"].register_job_definition(
        jobDefinitionName="gpu-batch",
        type="container",
        tags=tags,
        containerProperties={"image": IMAGE, "logConfiguration": logs, "resourceRequirements": needs},
    )
    return "production"


@pytest.fixture
def baked(here: World, ami: SandboxAmi, live: str) -> SandboxAmi:
    """The AMI to measure."""
    del live
    ami.add_tags({"gpu-ami:source-ami": base_image_id(REGION), "gpu-ami:snapshot-gib": "25"})
    del here
    return ami


@pytest.fixture
def benching(here: World, repository_with_scripts: Path, passing: Time) -> Benching:
    """Make an invocation on the account."""
    del passing

    def made(**settings: Any) -> Task:
        return task(here, repository_with_scripts, **({"bench": Bench(hosts=1)} | settings))

    return made


def go(task: Task, passing: Time, image: SandboxAmi, **more: Any) -> None:
    """Measure *image* without asking."""
    given: dict[str, Any] = {"ami": image.id, "arms": "stock,rated", "yes": True, "max_usd": "500"} | more
    bench.run(task.run, Request(**given), clock=passing.clock)


def left(here: World) -> list[str]:
    """Return what is there of a bench's, from AWS's own books."""
    batch, ec2 = here.maker.batch, here.maker.ec2
    found = [one.name for one in batch._compute_environments.values()]
    found += [one.name for one in batch._job_queues.values()]
    found += [one.name for one in batch._job_definitions.values() if one.status == "ACTIVE"]
    found += [one.name for one in ec2.launch_templates.values()]
    found += [f"{one.id} {one.state}" for one in ec2.all_instances() if one.state != "terminated"]
    found += list(ec2.volumes)
    return [name for name in found if name not in ("production", "gpu-batch")]


def test_a_faster_ami_passes_and_nothing_stays(
    here: World, passing: Time, baked: SandboxAmi, benching: Benching, tmp_path: Path
) -> None:
    """The whole of it: plan, price, arms, figures, gate, record, page, picture, and the end."""
    task = benching(bench=Bench(hosts=3, imports=("torch",)))

    go(task, passing, baked, arms=None, gate=True, markdown=str(tmp_path / "a.md"), chart=str(tmp_path / "a.svg"))

    document = task.document
    assert problems("bench", document) == []
    assert [arm["arm"] for arm in document["arms"]] == ["stock", "plain", "rated", "live"]
    assert {arm["arm"]: arm["rate_mib_s"] for arm in document["arms"]} == {
        "stock": None,
        "plain": None,
        "rated": 200,
        "live": 200,
    }
    assert len(document["hosts"]) == 12
    assert [host["void"] for host in document["hosts"]] == [None] * 12
    # What jobs get today: the live AMI with its own image.
    assert {arm["digest"][7:8] for arm in document["arms"] if arm["arm"] == "live"} == {"b"}
    assert document["gate"]["passed"] is True
    assert document["judged"] == "rated"
    assert document["cost_usd"] > 0
    assert document["times_are_invented"] is False  # `task` is no sandbox to itself
    assert left(here) == []
    (journal,) = task.run.workspace.logs.glob("bench-*.jsonl")
    assert bench_journal.read(journal).is_ended
    (result,) = task.run.workspace.logs.glob("bench-*.json")
    assert json.loads(result.read_text()) == document
    assert (task.run.workspace.terraform / "benches" / f"{baked.id}.json").exists()
    assert "| " in (tmp_path / "a.md").read_text()
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    said = task.err.getvalue()
    assert "3 rounds of stock" in said
    assert "at most $" in said


def test_what_it_makes_says_whose_it_is_and_when_it_is_over(
    here: World, passing: Time, baked: SandboxAmi, benching: Benching
) -> None:
    """A sweep goes by these: each piece, hosts and volumes too, has all five tags and the name."""
    seen: dict[str, dict[str, str]] = {}

    def look(_now: float) -> None:
        ec2, batch = here.maker.ec2, here.maker.batch
        for kind, things in (
            ("environment", batch._compute_environments.values()),
            ("queue", batch._job_queues.values()),
            ("definition", batch._job_definitions.values()),
        ):
            for thing in things:
                if thing.name.startswith("gpu-ami-bench-"):
                    seen[f"{kind} {thing.name}"] = dict(batch.tagger.get_tag_dict_for_resource(thing.arn))
        for thing in [*ec2.all_instances(), *ec2.volumes.values(), *ec2.launch_templates.values()]:
            seen[str(thing.id)] = {tag["key"]: tag["value"] for tag in thing.get_tags()}

    passing.waited = look
    task = benching()
    go(task, passing, baked)

    ours = {key: tags for key, tags in seen.items() if "gpu-ami:run" in tags}
    assert {key.partition("-")[0] for key in ours} >= {
        "environment gpu",
        "queue gpu",
        "definition gpu",
        "i",
        "vol",
        "lt",
    }
    for tags in ours.values():
        assert tags["gpu-ami:pipeline"] == "gpu-ami-pipeline"
        assert tags["gpu-ami:family"] == "gpu-batch"
        assert tags["gpu-ami:run"].startswith("bench-")
        assert tags["gpu-ami:began"].endswith("Z")
        assert int(tags["gpu-ami:may-take"]) > 60


def test_a_slower_ami_is_refused(here: World, passing: Time, baked: SandboxAmi, benching: Benching) -> None:
    """The gate is what the bench is for: exit 8, the rule in one line, and a record that says no."""
    baked.add_tags({SLOW_TAG: "10"})
    task = benching()

    with pytest.raises(SafetyError, match=r"is refused: it is not faster than the stock AMI") as caught:
        go(task, passing, baked, gate=True)

    assert caught.value.exit_code == 8
    assert task.document["gate"]["passed"] is False
    record = json.loads((task.run.workspace.terraform / "benches" / f"{baked.id}.json").read_text())
    assert record["gate"]["passed"] is False
    assert left(here) == []


def test_a_target_is_held_to(passing: Time, baked: SandboxAmi, benching: Benching) -> None:
    """`promotion.target_s` is about the worst host; without --gate it is said, and no error."""
    task = benching(promotion=Promotion(target_s=1.0))

    go(task, passing, baked)

    assert task.document["gate"]["passed"] is False
    assert "target_s" in task.document["gate"]["rule"]


FAULTS = {
    "no-capacity": "never ran: Canceled by JobStateTimeLimit",
    "misconfiguration": "cannot run: MISCONFIGURATION",
    "invalid": "INVALID",
    "second-host": "a second host was started",
    "reused": "had 2 tasks",
    "rate-dropped": "Batch dropped it",
    "rate-ignored": "EC2 ignored it",
    "pulled": "the image was pulled, although",
    "other-digest": "image's digest is sha256:",
    "no-log": "has no stream",
    "task-gone": "is not known",
    "fails": "the probe failed",
    "host-lost": "its job failed: Host EC2",
}


def test_a_host_that_is_not_what_it_has_to_be_voids_its_pair(
    here: World, passing: Time, baked: SandboxAmi, benching: Benching
) -> None:
    """Every fault at once, each in a round of its own: each is named, nothing is said of the AMI, and nothing stays."""
    for number, fault in enumerate(FAULTS, start=1):
        rig(here.account, REGION, fault, f"*-{number}-rated")
    task = benching(bench=Bench(hosts=len(FAULTS)))

    with pytest.raises(AwsError, match="Nothing can be said of"):
        go(task, passing, baked)

    voids = {(host["arm"], host["round"]): host["void"] for host in task.document["hosts"]}
    assert len(voids) == 2 * len(FAULTS)
    said = {fault: voids["rated", number] for number, fault in enumerate(FAULTS, start=1)}
    assert {fault: text for fault, text in said.items() if not text or FAULTS[fault] not in text} == {}
    assert {voids["stock", number] for number in range(1, len(FAULTS) + 1)} == {None}
    assert problems("bench", task.document) == []
    assert not (task.run.workspace.terraform / "benches").exists()
    assert left(here) == []


def test_what_only_takes_longer_is_waited_for(
    here: World, passing: Time, baked: SandboxAmi, benching: Benching
) -> None:
    """A stream that is late, and a queue that Batch still sees after its end."""
    for fault in ("late-log", "stale-relationship"):
        rig(here.account, REGION, fault, "*-rated")
    task = benching()

    go(task, passing, baked)

    assert [host["void"] for host in task.document["hosts"]] == [None, None]
    assert left(here) == []


def test_what_cannot_be_taken_away_is_named(here: World, passing: Time, baked: SandboxAmi, benching: Benching) -> None:
    """The figures are there; what is left, and how it goes, is an error of its own."""
    rig(here.account, REGION, "delete-hangs", "*-stock")
    task = benching()

    with pytest.raises(PipelineError, match=r"Left in AWS: compute environment gpu-ami-bench-\w+-1-stock") as caught:
        go(task, passing, baked)

    assert caught.value.exit_code == 7
    assert "invoke bench --teardown" in str(caught.value)
    assert task.document["gate"]["passed"] is True


PHASES = [
    "CreateLaunchTemplate",
    "CreateJobQueue",
    "SubmitJob",
    "DescribeContainerInstances",
]


@pytest.mark.parametrize("phase", PHASES)
def test_an_interrupt_leaves_nothing(
    here: World,
    passing: Time,
    baked: SandboxAmi,
    benching: Benching,
    interrupts: None,
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
) -> None:
    """Ctrl-C in each phase, twice: the second one must not cut the teardown off."""
    del interrupts
    calls, sent = Caller.call, list[str]()

    def call(self: Caller, service: str, operation: str, **more: Any) -> dict[str, Any]:
        answer = calls(self, service, operation, **more)
        is_now = operation.replace("_", "").lower() == phase.lower()
        is_teardown = sent and operation in ("update_job_queue", "delete_compute_environment")
        if (is_now and not sent) or (is_teardown and len(sent) < 2):
            sent.append(operation)
            os.kill(os.getpid(), signal.SIGINT)
        return answer

    monkeypatch.setattr(Caller, "call", call)
    task = benching()

    with pytest.raises(KeyboardInterrupt):
        go(task, passing, baked)

    assert sent
    assert left(here) == []
    assert not process.SHIELD.is_up
