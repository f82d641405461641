"""`invoke bench` on the local AWS: what it makes, measures and leaves, and that nothing stays whatever happens."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from gpu_ami import process
from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError
from gpu_ami.aws.images import Image
from gpu_ami.cleanup import sweep
from gpu_ami.errors import AwsError, PipelineError, SafetyError, UsageError
from gpu_ami.measure import bench, bench_decision, bench_journal
from gpu_ami.measure.bench import Request
from gpu_ami.settings import Bench, Promotion
from gpu_ami_sandbox.aws import batch_starts
from gpu_ami_sandbox.aws import clock as sandbox_clock
from gpu_ami_sandbox.aws.base_image import base_image_id
from gpu_ami_sandbox.aws.batch import service_linked_role
from gpu_ami_sandbox.aws.batch_faults import SLOW_TAG, rig
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from tests.measure.conftest import IMAGE, Time
from tests.support.account import REGION, Task, World, task
from tests.support.benching import BENCHING
from tests.support.interrupts import interrupts
from tests.support.schemas import problems

__all__ = ["interrupts"]

Benching = Callable[..., Task]
LOG_GROUP = "/gpu-ami/gpu-batch"


@pytest.fixture
def passing(here: World, monkeypatch: pytest.MonkeyPatch) -> Time:
    """Time for a bench: in the sandbox it passes so many times as slowly as there."""
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

    before = len(here.aws.gate.calls)
    go(task, passing, baked, arms=None, gate=True, markdown=str(tmp_path / "a.md"), chart=str(tmp_path / "a.svg"))

    made = here.aws.gate.calls[before:]
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
    # What its role must allow: terraform/modules/bench.
    assert {f"{call.service}:{call.action}" for call in made} <= BENCHING | {"sts:GetCallerIdentity"}
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


@pytest.mark.parametrize(
    ("arms", "wanted", "said"),
    [
        ("stock,rated,live", "required", ""),
        ("stock,rated", "optional", ""),
        ("stock,rated", "required", "Without the arm live `invoke apply` will refuse it in place of ami-"),
        ("stock,plain,live", "off", "Nothing will be judged: the live launch template has 200 MiB/s, so that jobs"),
    ],
)
def test_what_will_stay_open_is_said_before_it_costs(
    passing: Time, baked: SandboxAmi, benching: Benching, arms: str, wanted: Any, said: str
) -> None:
    """Hours and dollars later is too late to hear that an arm was missing."""
    task = benching(dry_run=True, promotion=Promotion(bench=wanted))

    go(task, passing, baked, arms=arms)

    text = " ".join(task.err.getvalue().split())
    assert said in text
    assert said or not any(words in text for words in ("Without the arm live", "Nothing will be judged"))


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
    "no-log": "its log could not be read: /gpu-ami/gpu-batch has no stream",
    "task-gone": "is not known",
    "fails": "the probe failed",
    "host-lost": "its job failed: Host EC2",
}
# Of these a job that gets such a host would have had the same.
MISSES = {"rate-dropped", "rate-ignored", "pulled", "other-digest", "fails"}


@pytest.mark.slow
def test_a_host_that_is_not_what_it_has_to_be_voids_its_pair(
    here: World, passing: Time, baked: SandboxAmi, benching: Benching
) -> None:
    """Every fault at once, each in a round of its own: each is named, those that the AMI causes refuse it.

    The others say nothing of it, and nothing stays of any.
    """
    for number, fault in enumerate(FAULTS, start=1):
        rig(here.account, REGION, fault, f"*-{number}-rated")
    task = benching(bench=Bench(hosts=len(FAULTS)))

    with pytest.raises(SafetyError, match=r"refused: 5 of 5 rated hosts came to nothing by the AMI"):
        go(task, passing, baked, gate=True)

    voids = {(host["arm"], host["round"]): host["void"] for host in task.document["hosts"]}
    missed = [host["round"] for host in task.document["hosts"] if host["missed"] is not None]
    assert {list(FAULTS)[number - 1] for number in missed} == MISSES
    assert len(voids) == 2 * len(FAULTS)
    said = {fault: voids["rated", number] for number, fault in enumerate(FAULTS, start=1)}
    assert {fault: text for fault, text in said.items() if not text or FAULTS[fault] not in text} == {}
    assert {voids["stock", number] for number in range(1, len(FAULTS) + 1)} == {None}
    assert problems("bench", task.document) == []
    record = json.loads((task.run.workspace.terraform / "benches" / f"{baked.id}.json").read_text())
    assert (record["gate"]["passed"], record["measured"]["missed"]) == (False, len(MISSES))
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


def test_it_calls_what_its_role_allows(
    here: World, passing: Time, baked: SandboxAmi, benching: Benching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A right that is missing shows when hosts run already, and cost; one too many is one that production may lose by.

    The second bench is cut off with its jobs under way, so that they have to be ended.
    """
    seen = len(here.aws.gate.calls)
    go(benching(), passing, baked)
    cut_at(monkeypatch, "DescribeContainerInstances", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        go(benching(), passing, baked)

    made = {f"{call.service}:{call.action}" for call in here.aws.gate.calls[seen:]} - {"sts:GetCallerIdentity"}
    # AWS asks for the right to tag where something is made with tags; this image is in no ECR.
    assert made | {"batch:TagResource", "ec2:CreateTags", "ecr:DescribeImages"} == BENCHING


def cut_at(monkeypatch: pytest.MonkeyPatch, action: str, how: BaseException) -> None:
    """Raise *how* once AWS has answered the first call of *action*."""
    calls, is_cut = Caller.call, list[bool]()

    def call(self: Caller, service: str, operation: str, **more: Any) -> dict[str, Any]:
        answer = calls(self, service, operation, **more)
        if operation.replace("_", "") == action.lower() and not is_cut:
            is_cut.append(True)
            raise how
        return answer

    monkeypatch.setattr(Caller, "call", call)


class KilledError(BaseException):
    """`kill -9`: nobody takes anything away."""


def nobody(*_: Any) -> list[str]:
    """Take nothing away."""
    return []


@pytest.mark.parametrize("phase", ["CreateLaunchTemplate", "CreateComputeEnvironment", "DescribeTasks"])
def test_the_journal_of_a_killed_bench_is_enough_to_undo_it(
    here: World,
    passing: Time,
    baked: SandboxAmi,
    benching: Benching,
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
) -> None:
    """In each phase: what AWS had just made has its name in the journal. The next bench tells of it."""
    with monkeypatch.context() as killed:
        killed.setattr(bench, "_end", nobody)
        cut_at(killed, phase, KilledError())
        with pytest.raises(KilledError):
            go(benching(), passing, baked)
    assert left(here) != []
    (journal,) = benching().run.workspace.logs.glob("bench-*.jsonl")

    dry = benching(dry_run=True)
    bench.run(dry.run, Request(teardown=str(journal)), clock=passing.clock)
    assert "# take away the template gpu-ami-bench-" in dry.err.getvalue()
    assert left(here) != []
    asking = benching(dry_run=True)
    go(asking, passing, baked)
    assert f"`invoke bench --teardown logs/{journal.name}` takes it away" in asking.err.getvalue()

    task = benching()
    bench.run(task.run, Request(teardown=str(journal)), clock=passing.clock)

    assert left(here) == []
    assert problems("bench", task.document) == []
    assert task.document["left"] == []
    assert bench_journal.read(journal).is_ended
    # Once more: what is gone is a success.
    bench.run(task.run, Request(teardown=str(journal)), clock=passing.clock)


def test_what_nobody_takes_away_ends_by_itself(
    here: World, passing: Time, baked: SandboxAmi, benching: Benching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead man's switches, each without any teardown: time-out, time limit of the queue, power-off.

    What is left costs nothing, and a sweep takes it once its time is over.
    """
    rig(here.account, REGION, "hangs", "*-1-rated")
    rig(here.account, REGION, "no-capacity", "*-2-rated")
    monkeypatch.setattr(bench, "_end", nobody)
    monkeypatch.setattr("gpu_ami.measure.bench_plan.may_take_min", lambda _: 0)
    cut_at(monkeypatch, "DescribeTasks", KilledError())
    with pytest.raises(KilledError):
        go(benching(bench=Bench(hosts=2)), passing, baked)
    batch, ec2 = here.access.client("batch"), here.access.client("ec2")
    jobs = {job.job_id: job.job_name for job in here.maker.batch._jobs.values()}

    passing.now += 60 * 50
    found = {jobs[row["jobId"]][-7:]: row for row in batch.describe_jobs(jobs=list(jobs))["jobs"]}
    assert {name: row["status"] for name, row in found.items()} == {
        "1-stock": "SUCCEEDED",
        "2-stock": "SUCCEEDED",
        "1-rated": "FAILED",
        "2-rated": "FAILED",
    }
    assert "timeout" in found["1-rated"]["statusReason"]
    assert "JobStateTimeLimit" in found["2-rated"]["statusReason"]
    hosts = [one for one in here.maker.ec2.all_instances() if one.instance_type == "g5.xlarge"]
    assert {host.state for host in hosts} == {"running"}

    passing.now += 60 * 40
    ec2.describe_instances()
    assert {host.state for host in hosts} == {"terminated"}
    assert len(hosts) == 3
    assert left(here) != []

    sweeping = benching()
    sweep.run(sweeping.run, sweep.Request(yes=True), sleep=passing.sleep)
    assert left(here) == []


@pytest.mark.parametrize("at", ["SubmitJob", "DescribeTasks"])
def test_credentials_that_end_are_no_end_without_a_word(
    here: World, passing: Time, baked: SandboxAmi, benching: Benching, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Neither figures nor teardown are to be had any more: what was seen is kept, and the way back is named."""
    calls, is_over = Caller.call, list[bool]()

    def call(self: Caller, service: str, operation: str, **more: Any) -> dict[str, Any]:
        if is_over:
            msg = "ExpiredTokenException: The security token included in the request is expired"
            raise RefusedError(msg, "ExpiredTokenException")
        answer = calls(self, service, operation, **more)
        if operation.replace("_", "") == at.lower():
            is_over.append(True)
        return answer

    task = benching()
    with monkeypatch.context() as over:
        over.setattr(Caller, "call", call)
        with pytest.raises(AwsError, match="ExpiredTokenException") as caught:
            go(task, passing, baked)

    assert "invoke bench --teardown logs/bench-" in str(caught.value)
    (journal,) = task.run.workspace.logs.glob("bench-*.jsonl")
    assert not bench_journal.read(journal).is_ended
    if at == "DescribeTasks":
        (kept,) = task.run.workspace.logs.glob("bench-*.json")
        document = json.loads(kept.read_text())
        assert problems("bench", document) == []
        assert document["gate"]["passed"] is None
        assert len(document["hosts"]) == 2
    bench.run(benching().run, Request(teardown=str(journal)), clock=passing.clock)
    assert left(here) == []


def test_a_wrong_clock_of_this_machine_changes_nothing(
    here: World, passing: Time, baked: SandboxAmi, benching: Benching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep goes by AWS's clock: tags by this one's would let it take a running bench, or never take a dead one."""
    monkeypatch.setattr("gpu_ami.aws.clock.ahead", lambda _: timedelta(days=-3))
    task = benching(dry_run=True)
    before = datetime.now(timezone.utc)

    go(task, passing, baked)

    (run_id,) = re.findall(r"bench-(\d{8}T\d{6}Z)-", task.err.getvalue())
    began = datetime.strptime(run_id, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    assert began - before >= timedelta(days=3) - timedelta(seconds=1)
    assert here.maker.batch._job_queues == {}

    monkeypatch.setattr("gpu_ami.aws.clock.ahead", lambda _: None)
    with pytest.raises(AwsError, match="have no date"):
        go(benching(), passing, baked)


def test_it_begins_when_somebody_has_said_yes(
    here: World, passing: Time, baked: SandboxAmi, benching: Benching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who answers after lunch must not have a bench that a sweep takes for dead, or one without room."""
    began, runs = set[str](), set[str]()

    def look(_now: float) -> None:
        for instance in here.maker.ec2.all_instances():
            began.update(tag["value"] for tag in instance.get_tags() if tag["key"] == "gpu-ami:began")
            runs.update(tag["value"] for tag in instance.get_tags() if tag["key"] == "gpu-ami:run")

    def answer(*_: Any, **__: Any) -> None:
        monkeypatch.setattr("gpu_ami.aws.clock.ahead", lambda _: timedelta(hours=-5))

    monkeypatch.setattr(bench, "agree", answer)
    passing.waited = look
    before = datetime.now(timezone.utc)
    go(benching(), passing, baked)

    (at,) = began
    moment = datetime.fromisoformat(at.replace("Z", "+00:00"))
    assert moment >= before + timedelta(hours=5) - timedelta(seconds=1)
    assert [run.rpartition("-")[0] for run in runs] == [f"bench-{moment:%Y%m%dT%H%M%SZ}"]
    assert left(here) == []

    def fill(*_: Any, **__: Any) -> None:
        for number in range(48):
            here.maker.environment(f"others-{number}")

    monkeypatch.setattr(bench, "agree", fill)
    with pytest.raises(AwsError, match="no room"):
        go(benching(), passing, baked)
    assert here.maker.batch._job_queues == {}


def test_a_lost_answer_starts_no_second_job(
    here: World, passing: Time, baked: SandboxAmi, benching: Benching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SubmitJob has no token: sent again it is a second job, which would find a warm host. So for what is made."""
    calls, lost = Caller.call, set[str]()

    def call(self: Caller, service: str, operation: str, **more: Any) -> dict[str, Any]:
        answer = calls(self, service, operation, **more)
        if operation in ("submit_job", "create_compute_environment", "create_job_queue") and operation not in lost:
            lost.add(operation)
            if operation == "submit_job":
                msg = "no answer"
                raise UnansweredError(msg)
            refused = RefusedError("Object already exists", "ClientException")
            refused.may_have_acted = True
            raise refused
        return answer

    monkeypatch.setattr(Caller, "call", call)
    task = benching()
    go(task, passing, baked)

    assert len(lost) == 3
    assert [host["void"] for host in task.document["hosts"]] == [None, None]
    assert sum(call.action == "SubmitJob" for call in here.aws.gate.calls) == 2


@pytest.mark.parametrize("lasts", [2, 99], ids=["for a moment", "for good"])
def test_a_queue_that_is_not_known_yet_voids_at_most_its_own_host(
    passing: Time, baked: SandboxAmi, benching: Benching, monkeypatch: pytest.MonkeyPatch, lasts: int
) -> None:
    """A queue that was VALID a moment ago may be unknown to SubmitJob: the other hosts of the wave must go on."""
    calls, refused = Caller.call, list[str]()

    def call(self: Caller, service: str, operation: str, **more: Any) -> dict[str, Any]:
        if operation == "submit_job" and "rated" in more["jobQueue"] and len(refused) < lasts:
            refused.append(operation)
            msg = "JobQueue is not valid"
            raise RefusedError(msg, "ClientException")
        return calls(self, service, operation, **more)

    monkeypatch.setattr(Caller, "call", call)
    task = benching()
    if lasts == 2:
        go(task, passing, baked)
    else:
        with pytest.raises(AwsError, match="Nothing can be said of"):
            go(task, passing, baked)

    voids = {host["arm"]: host["void"] for host in task.document["hosts"]}
    assert voids["stock"] is None
    assert voids["rated"] == (None if lasts == 2 else "its job was not taken: JobQueue is not valid")
    assert len(refused) == min(lasts, 7)  # every 5 s within 30


def _redefine(here: World, **more: Any) -> None:
    batch = here.access.client("batch")
    tags = {"gpu-ami:pipeline": "gpu-ami-pipeline", "gpu-ami:family": "gpu-batch"}
    needs = [{"type": "VCPU", "value": "4"}, {"type": "MEMORY", "value": "2048"}]
    container = {"image": IMAGE, "resourceRequirements": needs, **more}
    batch.register_job_definition(
        jobDefinitionName="gpu-batch", type="container", tags=tags, containerProperties=container
    )


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ({"logDriver": "fluentd"}, "logs by the driver fluentd"),
        ({"logDriver": "awslogs", "options": {"awslogs-region": "us-east-1"}}, "logs to us-east-1"),
    ],
)
def test_a_log_that_cannot_be_read_is_refused_before_money(
    here: World, passing: Time, baked: SandboxAmi, benching: Benching, log: dict[str, Any], said: str
) -> None:
    """Without the probe's lines each host is void, after it has been paid."""
    _redefine(here, logConfiguration=log)

    with pytest.raises(UsageError, match=said):
        go(benching(), passing, baked)

    assert left(here) == []


def test_of_productions_log_only_its_group_is_taken(here: World, baked: SandboxAmi, benching: Benching) -> None:
    """A pattern for several lines makes one event of the probe's, and none while the job runs."""
    options = {"awslogs-group": LOG_GROUP, "awslogs-region": REGION, "awslogs-multiline-pattern": "^[0-9]", "mode": "x"}
    _redefine(here, logConfiguration={"logDriver": "awslogs", "options": options})
    task = benching()

    plan = bench_decision.decide(task.run, bench_decision.Wanted(ami=baked.id), here.account).plan

    kept = {"awslogs-group": LOG_GROUP, "awslogs-region": REGION}
    assert plan.container["logConfiguration"] == {"logDriver": "awslogs", "options": kept}


def test_what_is_live_is_not_guessed(here: World, baked: SandboxAmi, benching: Benching, live: str) -> None:
    """Where the environment has several AMIs, its template's is another one; and the template says how many vCPUs."""
    ec2 = here.access.client("ec2")
    content = {
        "ImageId": here.maker.image(5).id,
        "CpuOptions": {"CoreCount": 2, "ThreadsPerCore": 1},
        "MetadataOptions": {"HttpTokens": "required"},
    }
    template = ec2.create_launch_template(LaunchTemplateName="other", LaunchTemplateData=content)["LaunchTemplate"]
    resources = here.maker.batch._compute_environments
    (row,) = [one for one in resources.values() if one.name == live]
    row.compute_resources["launchTemplate"] = {"launchTemplateId": template["LaunchTemplateId"], "version": "1"}
    row.compute_resources["imageId"] = here.maker.image(6).id

    decided = bench_decision.decide(benching().run, bench_decision.Wanted(ami=baked.id), here.account)

    assert decided.plan.live_ami is None
    assert [arm.arm for arm in decided.plan.arms] == ["stock", "plain", "rated"]
    assert decided.notes == (f"Without the arm live: {live} has several AMIs.",)
    assert (decided.plan.machine.vcpus, decided.plan.machine.job_vcpus) == (4, 2)


def test_a_bench_that_may_outlast_its_job_is_refused(
    here: World, passing: Time, baked: SandboxAmi, benching: Benching
) -> None:
    """A workflow's job ends it in the midst of its teardown: one wave takes up to 95 minutes."""
    for given, error, said in (
        ("94", SafetyError, "It may take 95 minutes, and --within-min is 94"),
        ("x", UsageError, "--within-min 'x' is no number"),
    ):
        with pytest.raises(error, match=said):
            go(benching(), passing, baked, within_min=given)
    assert left(here) == []
    go(benching(dry_run=True), passing, baked, within_min="95")


def test_credentials_that_end_before_it_are_warned_of(
    passing: Time, baked: SandboxAmi, benching: Benching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With credentials that are over nothing can be taken away; nobody notices an hour before."""
    asked: list[float] = []

    def ends(_self: Access, seconds: float) -> bool:
        asked.append(seconds)
        return True

    monkeypatch.setattr(Access, "ends_within", ends)
    task = benching(dry_run=True)

    go(task, passing, baked)

    assert asked == [95 * 60.0]
    assert "These credentials end within the 95 minutes" in task.err.getvalue()


def test_time_goes_on_by_what_a_rest_takes_on_aws() -> None:
    """In the sandbox a rest is a moment: a teardown that hangs must not wait 25 real minutes there."""
    clock = bench.paced(lambda _: 0.0)
    began = clock.now()

    clock.sleep(1500.0)

    assert 1500 <= clock.now() - began < 1510


def test_without_consent_nothing_is_made(here: World, passing: Time, baked: SandboxAmi, benching: Benching) -> None:
    """Money is asked for first, with its bound: nobody is here to be asked, a bound is needed, and is kept to."""
    for given, said in (
        ({"yes": False, "max_usd": None}, "nobody is here to confirm what it may cost"),
        ({"max_usd": None}, "--yes needs --max-usd"),
        ({"max_usd": "1"}, "It may cost more than --max-usd 1"),
    ):
        with pytest.raises(SafetyError, match=said):
            go(benching(), passing, baked, **given)
    assert left(here) == []
    assert not list(benching().run.workspace.logs.glob("bench-*"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"hosts": "-1"}, "'-1' is no number"),
        ({"hosts": "0"}, "--hosts 0 is not between 1 and 20"),
        ({"arms": "stock,,plain"}, "'' is no arm"),
        ({"instance_type": "t3.micro"}, "t3.micro has no GPU"),
        ({"max_usd": "nan"}, "no amount"),
        ({"chart": "a.jpg"}, "a.jpg"),
        ({"out": "."}, "is a directory"),
        ({"markdown": "."}, "is a directory"),
        ({"ami": "ami-xyz"}, "is not an AMI id"),
        ({"ami": "ami-12345678"}, "is not in ap-northeast-2"),
        ({"instance_type": "p99.huge"}, "has no p99.huge"),
        ({"teardown": "nowhere.jsonl"}, "does not exist"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_made(
    here: World, passing: Time, baked: SandboxAmi, benching: Benching, given: dict[str, Any], said: str
) -> None:
    """With the value, in one line."""
    with pytest.raises(UsageError, match=said):
        go(benching(), passing, baked, **given)
    assert left(here) == []


def test_what_is_not_there_to_be_compared_is_said(
    here: World, passing: Time, ami: SandboxAmi, benching: Benching
) -> None:
    """Nothing live, no digest, no base, no room, an AMI that went with its sandbox: each with what to do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpu_ami.target.Aws.is_kept", True)
        with pytest.raises(UsageError, match="a sandbox that has ended made it; run `invoke build`"):
            go(benching(), passing, ami, ami="ami-12345678")
    with pytest.raises(UsageError, match=r"No compute environment in .* Run `invoke apply` first"):
        go(benching(), passing, ami)
    resources, tags = here.maker.location.compute_resources(), {"gpu-ami:family": "gpu-batch"}
    role = service_linked_role(here.account)
    here.maker.batch.create_compute_environment("production", "MANAGED", "ENABLED", resources, role, tags)
    with pytest.raises(UsageError, match="no tag gpu-ami:source-ami: there can be no arm stock"):
        go(benching(), passing, ami)
    ami.add_tags({"gpu-ami:fingerprint-base": base_image_id(REGION)})
    with pytest.raises(UsageError, match="There can be no arm live: no AMI is live"):
        go(benching(), passing, ami, arms="plain,live")
    ami.add_tags({"gpu-ami:image": "1.dkr.ecr.r.amazonaws.com/app:latest", "gpu-ami:image-digest": ""})
    with pytest.raises(UsageError, match="does not say which image it holds"):
        go(benching(), passing, ami)
    ami.add_tags({"gpu-ami:family": "other"})
    with pytest.raises(UsageError, match="is not tagged as an AMI of gpu-batch"):
        go(benching(), passing, ami)


def test_an_image_is_run_by_digest_whatever_the_tag_names_by_then(ami: SandboxAmi) -> None:
    """Production's reference may be a tag; between two rounds it may move."""
    del ami
    image = Image(
        image_id="ami-1",
        region="r",
        name="a",
        account="1",
        state="available",
        tags={"gpu-ami:image": "host:5000/team/app:v1.2", "gpu-ami:image-digest": "sha256:" + "c" * 64},
    )

    assert bench_decision.container_image(image) == "host:5000/team/app@sha256:" + "c" * 64
