"""Cold starts through Batch: what every service says of one host, and what can go wrong with it."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Any

import pytest
from moto.batch.models import batch_backends

from gpu_ami.aws.access import Access
from gpu_ami_sandbox.aws import clock
from gpu_ami_sandbox.aws.batch_faults import SLOW_TAG
from gpu_ami_sandbox.aws.batch_starts import HASTE, is_probe
from gpu_ami_sandbox.aws.cold_starts import MODELS_BYTES
from gpu_ami_sandbox.aws.server import LocalAws
from tests.support.resources import BASE, REGION, an_image, tags_of

DIGEST = "sha256:" + 64 * "a"
IMAGE = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/video@{DIGEST}"
PROBE = ["python3", "-c", "print('gpu_ami_bench')", '{"imports": []}']
NAME = "gpu-ami-bench-0a1b2c-1-rated"
TAGS = {"gpu-ami:family": "gpu-batch", "gpu-ami:run": "bench-20261130T120000Z-0a1b2c"}
LIMIT = {"reason": "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", "state": "RUNNABLE", "maxTimeSeconds": 600}


BEGINNING = 1000.0


@dataclass
class Bench:
    """One host of a bench, and the time that passes on AWS."""

    access: Access
    aws: LocalAws
    template: str = ""
    job: str = ""
    seconds: float = 0.0

    @property
    def batch(self) -> Any:
        """A client of Batch."""
        return self.access.client("batch")

    @property
    def ec2(self) -> Any:
        """A client of EC2."""
        return self.access.client("ec2")

    @property
    def ecs(self) -> Any:
        """A client of ECS."""
        return self.access.client("ecs")

    @property
    def logs(self) -> Any:
        """A client of CloudWatch Logs."""
        return self.access.client("logs")

    @property
    def autoscaling(self) -> Any:
        """A client of Auto Scaling."""
        return self.access.client("autoscaling")

    def make(self, image_id: str, *, rate: int | None = None, user_data: str = "", minutes: int = 60) -> None:
        """Make template, environment, queue and definition, and submit the job."""
        batch: Any = self.batch
        ebs = {"VolumeSize": 100, "VolumeType": "gp3"} | ({"VolumeInitializationRate": rate} if rate else {})
        data: dict[str, Any] = {
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": ebs}],
            "TagSpecifications": [{"ResourceType": "volume", "Tags": [{"Key": "gpu-ami:run", "Value": "r"}]}],
        } | ({"UserData": user_data} if user_data else {})
        made = self.ec2.create_launch_template(LaunchTemplateName="gpu-ami-bench-0a1b2c-rated", LaunchTemplateData=data)
        self.template = made["LaunchTemplate"]["LaunchTemplateId"]
        self.access.client("iam").create_instance_profile(InstanceProfileName="ecsInstanceRole")
        subnet = self.ec2.describe_subnets()["Subnets"][0]
        in_vpc = [{"Name": "vpc-id", "Values": [subnet["VpcId"]]}]
        group = self.ec2.describe_security_groups(Filters=in_vpc)["SecurityGroups"][0]
        resources = {
            "type": "EC2",
            "allocationStrategy": "BEST_FIT_PROGRESSIVE",
            "minvCpus": 0,
            "maxvCpus": 4,
            "instanceTypes": ["g5.xlarge"],
            "subnets": [subnet["SubnetId"]],
            "securityGroupIds": [group["GroupId"]],
            "instanceRole": "ecsInstanceRole",
            "launchTemplate": {"launchTemplateId": self.template, "version": "1"},
            "ec2Configuration": [{"imageType": "ECS_AL2023_NVIDIA", "imageIdOverride": image_id}],
            "tags": TAGS,
        }
        batch.create_compute_environment(
            computeEnvironmentName=NAME, type="MANAGED", state="ENABLED", computeResources=resources, tags=TAGS
        )
        batch.create_job_queue(
            jobQueueName=NAME,
            state="ENABLED",
            priority=1,
            computeEnvironmentOrder=[{"order": 1, "computeEnvironment": NAME}],
            jobStateTimeLimitActions=[LIMIT | {"action": "CANCEL"}],
            tags=TAGS,
        )
        batch.register_job_definition(
            jobDefinitionName="gpu-ami-bench-0a1b2c",
            type="container",
            retryStrategy={"attempts": 1},
            timeout={"attemptDurationSeconds": minutes * 60},
            containerProperties={
                "image": IMAGE,
                "command": PROBE,
                "resourceRequirements": [
                    {"type": "VCPU", "value": "4"},
                    {"type": "MEMORY", "value": "14000"},
                    {"type": "GPU", "value": "1"},
                ],
            },
        )
        self.job = batch.submit_job(jobName=NAME, jobQueue=NAME, jobDefinition="gpu-ami-bench-0a1b2c")["jobId"]

    def shown(self) -> dict[str, Any]:
        """Return what DescribeJobs says."""
        (row,) = self.batch.describe_jobs(jobs=[self.job])["jobs"]
        return dict(row)

    def until(self, status: str, most: int = 50) -> dict[str, Any]:
        """Let time pass from one thing that happens to the next until the job has a status; return the job."""
        for _ in range(most):
            if (row := self.shown())["status"] == status:
                return row
            self.step()
        raise AssertionError(row)

    def step(self) -> None:
        """Let time pass until the next thing happens."""
        (start,) = vars(batch_backends[self.aws.account_id][REGION])["sandbox_starts"]
        self.seconds = max(self.seconds, (start.due - BEGINNING) * HASTE + 0.001)

    def task(self) -> dict[str, Any]:
        """Return what ECS says of the job's task."""
        cluster, arn = self.cluster(), self.shown()["container"]["taskArn"]
        return dict(self.ecs.describe_tasks(cluster=cluster, tasks=[arn])["tasks"][0])

    def cluster(self) -> str:
        """Return the environment's cluster."""
        (row,) = self.batch.describe_compute_environments(computeEnvironments=[NAME])["computeEnvironments"]
        return str(row["ecsClusterArn"])

    def instances(self) -> list[dict[str, Any]]:
        """Return the environment's instances, by its tags."""
        filters = [{"Name": "tag:gpu-ami:run", "Values": [TAGS["gpu-ami:run"]]}]
        rows = self.ec2.describe_instances(Filters=filters)["Reservations"]
        return [instance for row in rows for instance in row["Instances"]]

    def root(self, instance: dict[str, Any]) -> dict[str, Any]:
        """Return an instance's root volume."""
        volume = instance["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
        (row,) = self.ec2.describe_volumes(VolumeIds=[volume])["Volumes"]
        return dict(row)

    def lines(self) -> list[dict[str, Any]]:
        """Return the log's events, those too that are on their way."""
        self.seconds += 5
        stream = self.shown()["container"]["logStreamName"]
        answer = self.logs.get_log_events(logGroupName="/aws/batch/job", logStreamName=stream, startFromHead=True)
        return list(answer["events"])


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
    (activity,) = bench.autoscaling.describe_scaling_activities(AutoScalingGroupName=tags["aws:autoscaling:groupName"])[
        "Activities"
    ]
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
