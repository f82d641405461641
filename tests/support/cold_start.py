"""One host of a bench in the local AWS, and a clock that goes from one thing that happens to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape
from moto.batch.models import batch_backends

from gpu_ami.aws.access import Access
from gpu_ami_sandbox.aws.batch_starts import HASTE
from gpu_ami_sandbox.aws.server import LocalAws
from tests.support.resources import REGION

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

    def in_json(self) -> list[Any]:
        """Return the clients of the services whose answers are JSON."""
        return [self.batch, self.ecs, self.logs]

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

    def make(self, image_id: str, *, rate: int | None = None, user_data: str = "", vcpus: int = 4) -> None:
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
            timeout={"attemptDurationSeconds": 3600},
            containerProperties={
                "image": IMAGE,
                "command": PROBE,
                "resourceRequirements": [
                    {"type": "VCPU", "value": str(vcpus)},
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

    def status(self, what: str = "environment") -> str:
        """Return the status of the environment or the queue; empty when there is none."""
        if what == "queue":
            rows = self.batch.describe_job_queues(jobQueues=[NAME])["jobQueues"]
        else:
            rows = self.batch.describe_compute_environments(computeEnvironments=[NAME])["computeEnvironments"]
        return str(rows[0]["status"]) if rows else ""

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

    def activities(self, **more: Any) -> list[dict[str, Any]]:
        """Return what Auto Scaling did."""
        return list(self.access.client("autoscaling").describe_scaling_activities(**more)["Activities"])

    def root(self, instance: dict[str, Any]) -> dict[str, Any]:
        """Return an instance's root volume."""
        volume = instance["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
        (row,) = self.ec2.describe_volumes(VolumeIds=[volume])["Volumes"]
        return dict(row)

    def lines(self, after_s: float = 5) -> list[dict[str, Any]]:
        """Return the log's events, those too that are on their way."""
        self.seconds += after_s
        stream = self.shown()["container"]["logStreamName"]
        answer = self.logs.get_log_events(logGroupName="/aws/batch/job", logStreamName=stream, startFromHead=True)
        return list(answer["events"])

    def take_away(self) -> None:
        """Take queue and environment away, as a teardown does."""
        self.batch.update_job_queue(jobQueue=NAME, state="DISABLED")
        self.batch.delete_job_queue(jobQueue=NAME)
        self.seconds += 2 * HASTE
        self.batch.update_compute_environment(computeEnvironment=NAME, state="DISABLED")
        self.batch.delete_compute_environment(computeEnvironment=NAME)
        self.seconds += 2 * HASTE


def strangers(shape: Shape | None, value: Any, path: str = "") -> Iterator[str]:
    """Yield what in *value*, an answer in JSON, AWS's model does not have, or has in another form."""
    if isinstance(shape, StructureShape):
        if not isinstance(value, Mapping):
            yield path
            return
        for name, part in value.items():
            known = shape.members.get(name)
            yield from [f"{path}.{name}"] if known is None else strangers(known, part, f"{path}.{name}")
    elif isinstance(shape, ListShape):
        for part in value:
            yield from strangers(shape.member, part, f"{path}[]")
    elif isinstance(shape, MapShape):
        yield from (f"{path}.{name}" for name, part in value.items() if not isinstance(part, str))
    elif shape is not None and not isinstance(value, _FORMS[shape.type_name]):
        yield f"{path}: {value!r}"


_FORMS: dict[str, Any] = {
    "boolean": bool,
    "double": (int, float),
    "float": (int, float),
    "integer": int,
    "long": int,
    "string": str,
    "timestamp": (int, float),
}
