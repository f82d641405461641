"""What is read of a bench's hosts: from whom, how often, and what is said of what is missing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import pytest

from gpu_ami.aws import bench_hosts
from gpu_ami.aws.caller import RefusedError, UnansweredError
from gpu_ami.errors import AwsError
from gpu_ami.measure import bench_plan
from gpu_ami.measure.bench_making import Submitted
from gpu_ami.measure.freshness import void
from gpu_ami.measure.observe import EVERY_S, Observer
from gpu_ami.measure.timeline import NAMES, Host
from gpu_ami.measure.verify import Clock
from tests.measure.test_bench_plan import ARMS, IMAGE, MACHINE, PLACES, RUN
from tests.support.fake_caller import FakeCaller

START = 1_780_000_000.0
CLUSTER = "arn:aws:ecs:r:1:cluster/AWSBatch-x"


@dataclass
class Account:
    """An AWS in which each host starts in the same minutes; a test changes what it says.

    Attributes:
        names: The hosts.
        now: Seconds that have passed.
        changes: Changes of an answer, by operation.
        asked: The calls of each look.
    """

    names: list[str]
    now: float = 0.0
    changes: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)

    def at(self, seconds: float) -> datetime:
        """Return a moment as boto3 does."""
        return datetime.fromtimestamp(START + seconds, tz=timezone.utc)

    def job(self, number: int) -> dict[str, Any]:
        """Return a job as it is by now."""
        row: dict[str, Any] = {"jobId": str(number), "createdAt": int(START * 1000), "status": "RUNNABLE"}
        container = {"containerInstanceArn": f"ci/{number}", "taskArn": f"task/{number}"}
        if self.now >= 60:
            row |= {"status": "STARTING", "container": container}
        if self.now >= 90:
            container["logStreamName"] = f"stream/{number}"
            row |= {"status": "RUNNING", "startedAt": int((START + 70) * 1000)}
        if self.now >= 150:
            attempt = {"container": {**container, "exitCode": 0}, "stoppedAt": 1}
            row |= {"status": "SUCCEEDED", "stoppedAt": int((START + 140) * 1000), "attempts": [attempt]}
        return row

    def instance(self, number: int) -> dict[str, Any]:
        """Return an instance."""
        tags = {
            "Name": self.names[number],
            "aws:autoscaling:groupName": f"asg-{number}",
            "aws:ec2launchtemplate:id": f"lt-{number}",
            "aws:ec2launchtemplate:version": "1",
        }
        return {
            "InstanceId": f"i-{number}",
            "State": {"Name": "running"},
            "LaunchTime": self.at(20),
            "InstanceType": "g5.xlarge",
            "Placement": {"AvailabilityZone": "r-1a"},
            "ImageId": "ami-rated",
            "RootDeviceName": "/dev/xvda",
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeId": f"vol-{number}"}}],
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        }

    def task(self, number: str) -> dict[str, Any]:
        """Return a task."""
        row = {"taskArn": f"task/{number}", "createdAt": self.at(60), "lastStatus": "RUNNING"}
        return row | {"startedAt": self.at(65), "containers": [{"imageDigest": IMAGE.partition("@")[2]}]}

    def lines(self, number: str) -> list[dict[str, Any]]:
        """Return the probe's lines."""
        said = {"gpu_ami_bench": 1, "up": 30.0, "probe_s": 0.0}
        first = {"mark": "first_line", "t": START + 66, "instance_id": f"i-{number}", "boot_id": f"boot-{number}"}
        marks = [first, {"mark": "imports_done", "t": START + 90}, {"mark": "models_done", "t": START + 130}]
        marks[-1]["models_bytes"] = 5
        at = int((START + 66) * 1000)
        return [{"timestamp": at, "ingestionTime": at + 900, "message": json.dumps(said | mark)} for mark in marks]

    def answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer a call."""
        self.asked[-1] += 1
        template = {"BlockDeviceMappings": [{"Ebs": {"VolumeInitializationRate": 300}}]}
        numbers = range(len(self.names))

        def only(key: str) -> str:
            return str(asked[key][0] if isinstance(asked[key], list) else asked[key]).rpartition("/")[2]

        answers: dict[str, Callable[[], dict[str, Any]]] = {
            "describe_jobs": lambda: {"jobs": [self.job(int(one)) for one in asked["jobs"]]},
            "describe_container_instances": lambda: {
                "containerInstances": [
                    {
                        "containerInstanceArn": asked["containerInstances"][0],
                        "ec2InstanceId": f"i-{only('containerInstances')}",
                        "registeredAt": self.at(50),
                    }
                ]
            },
            "describe_instances": lambda: {"Reservations": [{"Instances": [self.instance(one) for one in numbers]}]},
            "describe_volumes": lambda: {
                "Volumes": [{"VolumeId": f"vol-{one}", "VolumeInitializationRate": 300} for one in numbers]
            },
            "describe_volume_status": lambda: {
                "VolumeStatuses": [
                    {
                        "VolumeId": one,
                        "InitializationStatusDetails": {"InitializationType": "provisioned-rate"},
                    }
                    for one in asked["VolumeIds"]
                ]
            },
            "describe_tasks": lambda: {"tasks": [self.task(only("tasks"))]},
            "list_tasks": lambda: {
                "taskArns": [f"task/{only('containerInstance')}"] if asked["desiredStatus"] == "STOPPED" else []
            },
            "describe_launch_template_versions": lambda: {"LaunchTemplateVersions": [{"LaunchTemplateData": template}]},
            "describe_scaling_activities": lambda: {
                "Activities": [
                    {
                        "StartTime": self.at(10),
                        "StatusCode": "Successful",
                        "Description": f"Launching a new EC2 instance: i-{asked['AutoScalingGroupName'][4:]}",
                    }
                ]
            },
            "get_log_events": lambda: {"events": self.lines(only("logStreamName"))},
        }
        answer = answers[operation]()
        change = self.changes.get(operation)
        return change(answer) if change else answer


class Asking(FakeCaller):
    """Answers as the account does."""

    def __init__(self, account: Account) -> None:
        super().__init__({})
        self.account = account

    def call(self, service: str, operation: str, *, doing: str = "", **parameters: Any) -> dict[str, Any]:
        """Answer one call."""
        self.requests.append((operation, parameters))
        return self.account.answer(operation, parameters)


def watch(count: int = 1, *, within_s: float = 3600, **changes: Any) -> tuple[list[Host], Account, Asking]:
    """Watch *count* hosts of the arm rated until nothing more comes."""
    plans = bench_plan.waves(RUN, ARMS[2:], PLACES, MACHINE, rounds=count, at_once=count)[0]
    account = Account([plan.name for plan in plans], changes=changes, asked=[0])
    made = [Submitted(host=plan, job_id=str(number), cluster=CLUSTER) for number, plan in enumerate(plans)]
    caller = Asking(account)

    def sleep(seconds: float) -> None:
        account.now += seconds
        account.asked.append(0)

    observer = Observer(caller, RUN, "/gpu-ami/gpu-batch", made)
    observer.watch(Clock(now=lambda: account.now, sleep=sleep), within_s, lambda _: None)
    return observer.hosts(), account, caller


def missing(host: Host) -> dict[str, str | None]:
    """Return why moments are missing."""
    return {name: moment.missing for name, moment in host.moments.items() if moment.at is None}


def test_a_host_is_whole_and_each_moment_says_whose_it_is() -> None:
    """All sources together make one start, in the order in which it went; a fresh host proves that it is."""
    (host,), account, caller = watch()

    assert list(host.moments) == list(NAMES)
    at = {name: moment.at - START for name, moment in host.moments.items() if moment.at is not None}
    assert at == {
        "submitted": 0,
        "asked": 10,
        "launched": 20,
        "kernel_up": 36,
        "registered": 50,
        "placed": 60,
        "started": 65,
        "running": 70,
        "first_line": 66,
        "imports_done": 90,
        "models_done": 130,
        "ended": 140,
    }
    assert missing(host) == {"pull_started": "nothing was pulled", "pull_stopped": "nothing was pulled"}
    assert {host.moments[name].clock for name in ("kernel_up", "first_line", "pull_started")} == {"host"}
    assert void(host, []) is None
    facts = host.facts
    assert (facts.instances, facts.tasks, facts.attempts, facts.exit_code) == (("i-0",), ("task/0",), 1, 0)
    assert (facts.rate_mib_s, facts.copied_rate_mib_s, facts.is_copy_read) == (300, 300, True)
    assert (facts.volume_kind, facts.pulled, facts.models_bytes) == ("provisioned-rate", False, 5)
    counts = Counter(operation for operation, _ in caller.requests)
    # Each thing is read once; instances at each look, for a second host, and once more at the end.
    assert counts["describe_instances"] == len(account.asked) + 1
    often = ("describe_jobs", "describe_instances")
    assert {name: count for name, count in counts.items() if name not in often} == {
        "describe_container_instances": 1,
        "describe_volumes": 1,
        "describe_volume_status": 1,
        "describe_tasks": 1,
        "list_tasks": 2,
        "describe_launch_template_versions": 1,
        "describe_scaling_activities": 1,
        "get_log_events": 1,
    }
    assert account.now < 200


@pytest.mark.parametrize(("count", "a_minute"), [(1, 40), (8, 40), (20, 100)])
def test_calls_stay_below_what_batch_bears(count: int, a_minute: int) -> None:
    """Up to eight hosts 40 calls a minute, then 5 for each: production's own polling shares the rates."""
    hosts, account, _ = watch(count)

    looks = int(60 / EVERY_S)
    windows = [sum(account.asked[at : at + looks]) for at in range(len(account.asked))]
    # The last listing of instances comes on top.
    assert max(windows) <= a_minute + 1
    assert len({host.facts.instance_id for host in hosts}) == count
    assert [void(host, [other for other in hosts if other is not host]) for host in hosts] == [None] * count


def test_looks_that_fail_pass() -> None:
    """Minutes without DescribeJobs or DescribeInstances are no reason to throw a wave away: its hosts go on."""
    gone = iter([True] * 3 + [False] * 4 + [True] * 2)

    def hiccup(answer: dict[str, Any]) -> dict[str, Any]:
        if next(gone, False):
            msg = "no answer"
            raise UnansweredError(msg)
        return answer

    (host,), _, _ = watch(describe_jobs=hiccup, describe_instances=hiccup)

    assert void(host, []) is None


def test_what_cannot_be_asked_any_more_ends_the_watch() -> None:
    """A right that is missing does not come back, and nobody pays for hosts that nobody sees."""
    with pytest.raises(AwsError, match="AccessDenied"):
        watch(describe_jobs=_refused("AccessDeniedException"))
    with pytest.raises(AwsError, match="ServerException"):
        watch(describe_jobs=_refused("ServerException"))


def test_a_last_listing_that_fails_is_tried_again() -> None:
    """A second host that came in the last seconds is seen, although EC2 did not answer at first."""
    asked = Counter[str]()

    def late(answer: dict[str, Any]) -> dict[str, Any]:
        asked["all"] += 1
        if asked["all"] in (12, 13):
            msg = "no answer"
            raise UnansweredError(msg)
        if asked["all"] > 13:
            (one,) = answer["Reservations"][0]["Instances"]
            answer["Reservations"].append({"Instances": [one | {"InstanceId": "i-second"}]})
        return answer

    (host,), _, _ = watch(describe_instances=late)

    assert asked["all"] == 14
    assert host.facts.instances == ("i-0", "i-second")


def test_a_host_that_ec2_forgot_again_stays_counted() -> None:
    """A second host may end, and go from EC2's list, before the job is over."""
    asked = Counter[str]()

    def shortly(answer: dict[str, Any]) -> dict[str, Any]:
        asked["all"] += 1
        if asked["all"] == 3:
            (one,) = answer["Reservations"][0]["Instances"]
            answer["Reservations"].append({"Instances": [one | {"InstanceId": "i-second"}]})
        return answer

    (host,), _, _ = watch(describe_instances=shortly)

    assert host.facts.instances == ("i-0", "i-second")


def test_a_second_host_is_seen() -> None:
    """Batch may start one more than it was allowed to; then nobody knows which of them the job had waited for."""

    def second(answer: dict[str, Any]) -> dict[str, Any]:
        (one,) = answer["Reservations"][0]["Instances"]
        answer["Reservations"].append({"Instances": [one | {"InstanceId": "i-second"}]})
        return answer

    (host,), _, _ = watch(describe_instances=second)

    assert host.facts.instances == ("i-0", "i-second")
    assert void(host, []) == "a second host was started for it: i-second"


def test_a_second_task_is_seen() -> None:
    """A host that had another task before finds its volume warm."""
    (host,), _, _ = watch(list_tasks=lambda answer: {"taskArns": [*answer["taskArns"], "task/other"]})

    assert "had 2 tasks" in str(void(host, []))


def test_a_task_that_ecs_forgot_leaves_no_moment_behind() -> None:
    """What was not read is not made up: whether it pulled is not known either."""
    (host,), _, _ = watch(describe_tasks=lambda _: {"tasks": [], "failures": [{"reason": "MISSING"}]})

    assert host.facts.pulled is None
    assert missing(host)["placed"] == missing(host)["pull_stopped"] == "ECS no longer has its task"
    assert void(host, []) == "its image's digest is not known"


def test_times_that_ecs_does_not_have_yet_are_waited_for() -> None:
    """Batch may call a job RUNNING before ECS shows its start; no pull at that moment would be a wrong proof."""
    answers = iter([True, True])

    def young(answer: dict[str, Any]) -> dict[str, Any]:
        if next(answers, None):
            answer["tasks"][0].pop("startedAt")
        return answer

    (host,), _, caller = watch(describe_tasks=young)

    assert host.facts.pulled is False
    assert sum(operation == "describe_tasks" for operation, _ in caller.requests) == 3


def _refused(code: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def refuse(_answer: dict[str, Any]) -> dict[str, Any]:
        msg = f"{code}: no"
        raise RefusedError(msg, code)

    return refuse


def test_a_late_stream_is_waited_for() -> None:
    """Lines are shipped seconds after they are written, and the stream comes with the first one."""
    answers = iter([True] * 5)

    def late(answer: dict[str, Any]) -> dict[str, Any]:
        if next(answers, None):
            msg = "no"
            raise RefusedError(msg, "ResourceNotFoundException")
        return answer

    (host,), _, _ = watch(get_log_events=late)

    assert void(host, []) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_refused("ResourceNotFoundException"), "/gpu-ami/gpu-batch has no stream stream/0"),
        (_refused("AccessDeniedException"), "AccessDeniedException: no"),
        (lambda _: {"events": []}, "the probe has said not a line: does the image's ENTRYPOINT run what it is given?"),
        (lambda answer: {"events": answer["events"][:1]}, "the probe has said nothing after first_line"),
    ],
)
def test_a_log_that_never_comes_voids_the_host_and_says_why(change: Any, said: str) -> None:
    """No neighbour's figures, and no endless wait."""
    (host,), account, _ = watch(get_log_events=change)

    assert missing(host)["models_done"] == said
    assert void(host, []) is not None
    assert account.now < 600


def test_a_probe_that_failed_says_so() -> None:
    """A slip in the settings is told from a slow host."""

    def failed(answer: dict[str, Any]) -> dict[str, Any]:
        line = json.loads(answer["events"][1]["message"]) | {"mark": "failed", "why": "ModuleNotFoundError: torch"}
        return {"events": [answer["events"][0], {"timestamp": 1, "message": json.dumps(line)}]}

    (host,), _, _ = watch(get_log_events=failed)

    assert void(host, []) == "the probe failed: ModuleNotFoundError: torch"


@pytest.mark.parametrize(
    ("status", "reason", "said", "within_s"),
    [
        ("RUNNABLE", "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job", "its job cannot run: MISCONFIGURATION", 1),
        ("RUNNABLE", "ACTION_REQUIRED - CE(s) invalid", "its job cannot run: ACTION_REQUIRED", 1),
        ("FAILED", "Canceled by JobStateTimeLimit action", "its job never ran: Canceled by JobStateTimeLimit", 1),
        ("RUNNABLE", "CAPACITY:INSUFFICIENT", "its job was still RUNNABLE after 60 min (CAPACITY:INSUFFICIENT)", 3700),
        ("STARTING", "", "its job was still STARTING after 60 min", 3700),
    ],
)
def test_a_job_that_never_runs_is_no_measurement(status: str, reason: str, said: str, within_s: float) -> None:
    """What nothing can help ends at once, capacity may still come; neither waits for ever."""
    changed = {"status": status, "statusReason": reason}

    def stuck(answer: dict[str, Any]) -> dict[str, Any]:
        return {"jobs": [{"jobId": row["jobId"], "createdAt": row["createdAt"], **changed} for row in answer["jobs"]]}

    (host,), account, _ = watch(describe_jobs=stuck)

    assert host.trouble is not None
    assert host.trouble.startswith(said)
    assert account.now <= within_s
    assert host.moments["submitted"].at == START
    assert missing(host)["launched"] == host.trouble


def test_credentials_that_are_over_end_the_watch() -> None:
    """Every further call would be refused: what is left of the time goes to the teardown's word on it."""
    with pytest.raises(AwsError, match="ExpiredTokenException"):
        watch(describe_container_instances=_refused("ExpiredTokenException"))


def test_a_volume_that_is_gone_hides_no_others() -> None:
    """EC2 refuses a list of volumes as a whole for one that went with its host."""

    def answer(**asked: Any) -> dict[str, Any]:
        if "vol-gone" in asked["VolumeIds"]:
            msg = "no"
            raise RefusedError(msg, "InvalidVolume.NotFound")
        details = {"InitializationType": "default"}
        return {"VolumeStatuses": [{"VolumeId": "vol-1", "InitializationStatusDetails": details}]}

    caller = FakeCaller({"describe_volume_status": answer})

    assert bench_hosts.kinds(caller, ["vol-gone", "vol-1"]) == {"vol-1": "default"}
    assert bench_hosts.kinds(caller, ["vol-gone"]) == {}


def test_ebs_that_says_nothing_is_no_reason_to_wait_long() -> None:
    """Its words are up to five minutes late: the rate on the volume is the proof, and silence refutes nothing."""
    (host,), account, _ = watch(describe_volume_status=lambda _: {"VolumeStatuses": []})

    assert host.facts.volume_kind == ""
    assert void(host, []) is None
    assert account.now < 150 + 13 * EVERY_S
