"""The state of Batch: what is read of environments, jobs, definitions and the volumes behind them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from moto.ec2.models import ec2_backends

from gpu_ami.aws import batch
from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError
from gpu_ami.aws.sts import identify
from gpu_ami_sandbox.aws.batch import add_sagemaker_queue
from gpu_ami_sandbox.aws.ec2.part import managed
from gpu_ami_sandbox.session import Sandbox
from tests.support.account import World

REGION = "ap-northeast-2"
CLUSTER = f"arn:aws:ecs:{REGION}:1:cluster/one"
STARTED = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


class Scripted(Caller):
    """Answers each operation by a function of its parameters."""

    def __init__(self, **answers: Callable[..., dict[str, Any]]) -> None:
        """Take the answers by operation."""
        super().__init__(Access(region=REGION), REGION)
        self.answers = answers
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def call(self, service: str, operation: str, *, doing: str = "", **parameters: Any) -> dict[str, Any]:
        """Answer as scripted."""
        self.requests.append((operation, parameters))
        return self.answers[operation](**parameters)


@pytest.fixture
def demo(local_aws: Sandbox) -> Caller:
    """The demo account."""
    return Caller(local_aws.access, REGION)


def test_the_demo_environment_is_read_whole(demo: Caller, local_aws: Sandbox) -> None:
    """Name, AMI, template, policy and tags."""
    name = local_aws.account.compute_environment

    (found,) = batch.environments(demo, [name])

    assert (found.name, found.state, found.status) == (name, "ENABLED", "VALID")
    assert found.ami_id == local_aws.account.live_ami_id
    assert (found.version, found.timeout_minutes, found.terminates_jobs) == ("$Latest", 30, False)
    assert found.template is not None
    assert found.template.startswith("lt-")
    assert found.tags == {"gpu-ami:family": "gpu-batch"}
    assert ":cluster/" in (found.cluster_arn or "")
    assert name in {environment.name for environment in batch.environments(demo)}


def _row(**resources: Any) -> dict[str, Any]:
    more: dict[str, Any] = {name: resources.pop(name) for name in ("type", "eksConfiguration") if name in resources}
    return {"computeEnvironmentName": "gpu", "computeEnvironmentArn": "arn", "computeResources": resources, **more}


def _only(row: dict[str, Any]) -> batch.Environment:
    (found,) = batch.environments(
        Scripted(describe_compute_environments=lambda **_: {"computeEnvironments": [row]}), ["gpu"]
    )
    return found


OURS, OLD = "ami-0123456789abcdef0", "ami-0123456789abcdef1"


def test_the_amis_are_read_by_image_type() -> None:
    """Batch takes one or two blocks; the first one may be a CPU type's."""
    blocks = [
        {"imageType": "ECS_AL2023", "imageIdOverride": OLD},
        {"imageType": "ECS_AL2023_NVIDIA", "imageIdOverride": OURS},
    ]
    found = _only(_row(ec2Configuration=blocks))

    assert found.ami_id == OURS
    assert found.images.named == {OLD, OURS}


@pytest.mark.parametrize(
    ("old", "override", "ami", "conflict"),
    [(OLD, OURS, None, True), (OURS, OURS, OURS, False), (OLD, None, OLD, False), ("", OURS, OURS, False)],
)
def test_the_old_field_and_the_override_may_disagree(
    old: str, override: str | None, ami: str | None, conflict: bool
) -> None:
    """The user guide puts imageId first, the API's model imageIdOverride: where both are set, it is not known."""
    found = _only(_row(imageId=old, ec2Configuration=[{"imageType": "ECS_AL2023_NVIDIA", "imageIdOverride": override}]))

    assert (found.ami_id, bool(found.images.conflict)) == (ami, conflict)


def test_overrides_of_the_launch_template_are_read() -> None:
    """Each with its version, like the template itself."""
    overrides = [{"launchTemplateId": "lt-2", "version": "3"}, {"launchTemplateName": "big"}]
    found = _only(_row(launchTemplate={"launchTemplateId": "lt-1", "overrides": overrides}))

    assert (found.template, found.version) == ("lt-1", "$Default")
    assert found.template_overrides == (("lt-2", "3"), ("big", "$Default"))


@pytest.mark.parametrize(
    ("more", "kind"),
    [({"type": "MANAGED"}, "EC2"), ({"type": "UNMANAGED"}, "UNMANAGED"), ({"eksConfiguration": {"a": "b"}}, "EKS")],
)
def test_what_an_environment_runs_on_is_read(more: dict[str, Any], kind: str) -> None:
    """EKS, unmanaged ones and Fargate are left alone."""
    assert _only(_row(**more)).kind == kind


def test_the_demo_job_is_seen_running(demo: Caller, local_aws: Sandbox) -> None:
    """With its queue, since when, and in which environment."""
    (environment,) = batch.environments(demo, [local_aws.account.compute_environment])

    (job,) = batch.running_jobs(demo)

    assert (job.queue, job.status) == (local_aws.account.job_queue, "RUNNING")
    assert job.started is not None
    assert timedelta(minutes=10) < datetime.now(timezone.utc) - job.started < timedelta(hours=2)
    assert job.cluster_arn == environment.cluster_arn
    assert job.environments == frozenset({environment.arn})


def test_the_demo_definition_names_a_digest(demo: Caller, local_aws: Sandbox) -> None:
    """The one that is baked."""
    (found,) = batch.job_definitions(demo)

    assert (found.name, found.digest) == (local_aws.account.job_queue, local_aws.account.image_digest)


def test_the_newest_active_revision_counts() -> None:
    """Batch lists all of them, in no order that it promises."""

    def describe(**_more: Any) -> dict[str, Any]:
        rows = [("a", 2, "r:2"), ("a", 10, "r:10"), ("a", 9, "r@sha256:1"), ("b", 1, None)]
        return {
            "jobDefinitions": [
                {"jobDefinitionName": name, "revision": number}
                | ({"containerProperties": {"image": image}} if image else {})
                for name, number, image in rows
            ]
        }

    (found,) = batch.job_definitions(Scripted(describe_job_definitions=describe))

    assert (found.revision, found.image, found.digest) == (10, "r:10", None)


def test_children_of_array_jobs_are_jobs() -> None:
    """The parent stays PENDING while its children run: filtering by RUNNING alone would miss a thousand of them."""

    def list_jobs(**which: Any) -> dict[str, Any]:
        if which.get("arrayJobId") == "p" and which["jobStatus"] == "RUNNING":
            return {"jobSummaryList": [{"jobId": "p:0"}]}
        if which.get("jobQueue") == "q" and which["jobStatus"] == "PENDING":
            return {"jobSummaryList": [{"jobId": "p", "arrayProperties": {"size": 2}}, {"jobId": "waits"}]}
        return {"jobSummaryList": []}

    def describe_jobs(jobs: list[str]) -> dict[str, Any]:
        instance = f"arn:aws:ecs:{REGION}:1:container-instance/one/0123"
        row = {
            "jobId": "p:0",
            "jobName": "frames",
            "status": "RUNNING",
            "startedAt": int(STARTED.timestamp() * 1000),
            "timeout": {"attemptDurationSeconds": 3600},
            "container": {"containerInstanceArn": instance},
        }
        assert jobs == ["p:0"]
        return {"jobs": [row]}

    queues = {"jobQueues": [{"jobQueueName": "q"}]}
    caller = Scripted(describe_job_queues=lambda **_: queues, list_jobs=list_jobs, describe_jobs=describe_jobs)

    (job,) = batch.running_jobs(caller)

    assert (job.job_id, job.queue, job.started, job.limit) == ("p:0", "q", STARTED, timedelta(hours=1))
    assert job.cluster_arn == CLUSTER


@pytest.mark.parametrize(
    "arn", [None, "", f"arn:aws:ecs:{REGION}:1:container-instance/0123", "arn:aws:ecs:eu-west-1:1:task/one/2"]
)
def test_where_a_job_runs_may_not_be_known(arn: str | None) -> None:
    """Then it counts against every environment."""
    row = {"jobId": "1", "jobName": "j", "status": "STARTING", "container": {"containerInstanceArn": arn}}
    caller = Scripted(
        describe_job_queues=lambda **_: {"jobQueues": [{"jobQueueName": "q"}]},
        list_jobs=lambda **which: {"jobSummaryList": [{"jobId": "1"}] if which["jobStatus"] == "STARTING" else []},
        describe_jobs=lambda **_: {"jobs": [row]},
    )

    (job,) = batch.running_jobs(caller)

    assert (job.cluster_arn, job.started, job.limit) == (None, None, None)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ([{"order": 1, "computeEnvironment": "a"}, {"order": 2, "computeEnvironment": "b"}], {"a", "b"}),
        ([{"order": 1, "computeEnvironment": "a"}, {"order": 2}], None),
        ([], None),
        (None, None),
    ],
)
def test_a_job_may_run_where_its_queue_sends_it(order: list[dict[str, Any]] | None, expected: set[str] | None) -> None:
    """Half an order would say of a job in the other half that an update cannot end it."""
    queue = {"jobQueueName": "q"} | ({} if order is None else {"computeEnvironmentOrder": order})
    caller = Scripted(
        describe_job_queues=lambda **_: {"jobQueues": [queue]},
        list_jobs=lambda **which: {"jobSummaryList": [{"jobId": "1"}] if which["jobStatus"] == "RUNNING" else []},
        describe_jobs=lambda **_: {"jobs": [{"jobId": "1", "jobName": "j", "status": "RUNNING"}]},
    )

    (job,) = batch.running_jobs(caller)

    assert job.environments == (None if expected is None else frozenset(expected))


@pytest.mark.parametrize(
    ("queue", "is_asked"),
    [
        ({"jobQueueType": "SAGEMAKER_TRAINING", "computeEnvironmentOrder": []}, False),
        ({"serviceEnvironmentOrder": [{"order": 1, "serviceEnvironment": "s"}]}, False),
        ({"jobQueueType": "ECS"}, True),
        ({"jobQueueType": "ECS_MANAGED_INSTANCES"}, True),
        ({"jobQueueType": "LATER"}, True),
        ({}, True),
        (
            {
                "jobQueueType": "SAGEMAKER_TRAINING",
                "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "a"}],
            },
            True,
        ),
    ],
)
def test_queues_of_sagemaker_are_not_asked_for_jobs(queue: dict[str, Any], is_asked: bool) -> None:
    """Batch lists those by another call; one refusal would stop every apply. Whatever may have instances is asked."""
    caller = Scripted(
        describe_job_queues=lambda **_: {"jobQueues": [{"jobQueueName": "q", **queue}]},
        list_jobs=lambda **_: {"jobSummaryList": []},
        describe_jobs=lambda **_: {"jobs": []},
    )

    assert batch.running_jobs(caller) == []
    assert ("list_jobs" in {name for name, _ in caller.requests}) is is_asked


def test_an_account_with_a_queue_of_sagemaker_shows_its_other_jobs(here: World) -> None:
    """The local AWS refuses to list its jobs."""
    here.maker.environment("gpu")
    order = [{"order": 1, "computeEnvironment": "gpu"}]
    client = here.access.client("batch")
    client.create_job_queue(jobQueueName="queue", state="ENABLED", priority=1, computeEnvironmentOrder=order)
    image = {"image": "r/video:1", "vcpus": 1, "memory": 512}
    client.register_job_definition(jobDefinitionName="video", type="container", containerProperties=image)
    client.submit_job(jobName="long", jobQueue="queue", jobDefinition="video")
    add_sagemaker_queue(here.maker.batch, "training")

    (job,) = batch.running_jobs(Caller(here.access, REGION))

    assert (job.name, job.queue) == ("long", "queue")


def test_a_job_that_ended_meanwhile_does_not_run() -> None:
    """Between the list and the description."""
    caller = Scripted(
        describe_job_queues=lambda **_: {"jobQueues": [{"jobQueueName": "q"}]},
        list_jobs=lambda **_: {"jobSummaryList": [{"jobId": "1"}]},
        describe_jobs=lambda **_: {"jobs": [{"jobId": "1", "jobName": "j", "status": "SUCCEEDED"}]},
    )

    assert batch.running_jobs(caller) == []


def test_many_jobs_are_described_in_portions() -> None:
    """Batch takes 100 at once."""

    def describe_jobs(jobs: list[str]) -> dict[str, Any]:
        return {"jobs": [{"jobId": job, "jobName": "j", "status": "RUNNING"} for job in jobs]}

    listed = {"jobSummaryList": [{"jobId": str(number)} for number in range(250)]}
    caller = Scripted(
        describe_job_queues=lambda **_: {"jobQueues": [{"jobQueueName": "q"}]},
        list_jobs=lambda **which: listed if which["jobStatus"] == "RUNNING" else {"jobSummaryList": []},
        describe_jobs=describe_jobs,
    )

    assert len(batch.running_jobs(caller)) == 250
    assert [len(parameters["jobs"]) for name, parameters in caller.requests if name == "describe_jobs"] == [
        100,
        100,
        50,
    ]


@pytest.mark.parametrize(
    "answer", [{}, {"jobs": [{}]}, {"jobs": [{"jobId": "1", "status": "RUNNING", "startedAt": "x"}]}]
)
def test_an_answer_that_makes_no_sense_is_an_error(answer: dict[str, Any]) -> None:
    """Not an empty list of jobs: an update would end those that nobody saw."""
    caller = Scripted(
        describe_job_queues=lambda **_: {"jobQueues": [{"jobQueueName": "q"}]},
        list_jobs=lambda **_: {"jobSummaryList": [{"jobId": "1"}]},
        describe_jobs=lambda **_: answer,
    )

    with pytest.raises(UnansweredError):
        batch.running_jobs(caller)


def test_the_rate_of_a_template_version(demo: Caller, local_aws: Sandbox) -> None:
    """By id and by name; a version without one, and one that does not exist."""
    client = local_aws.access.client("ec2")
    ebs = {"VolumeInitializationRate": 200, "VolumeType": "gp3"}
    data = {"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": ebs}]}
    made = client.create_launch_template(LaunchTemplateName="rated", LaunchTemplateData=data)["LaunchTemplate"]
    client.create_launch_template_version(LaunchTemplateName="rated", LaunchTemplateData={"InstanceType": "g5.xlarge"})

    assert batch.template_version(demo, made["LaunchTemplateId"], "1").rate_mib_s == 200
    assert batch.template_version(demo, "rated", "1").rate_mib_s == 200
    account = identify(local_aws.access).account
    assert batch.template_version(demo, "rated", "$Latest").rate_mib_s is None
    managed(ec2_backends[account][REGION]).add(made["LaunchTemplateId"])
    assert batch.template_version(demo, "rated", "1").rate_mib_s == 200
    with pytest.raises((RefusedError, UnansweredError)):
        batch.template_version(demo, "lt-0123456789abcdef0", "1")


@pytest.mark.parametrize(("image", "ami"), [(OURS, OURS), ("resolve:ssm:/ours", None), (None, None)])
def test_the_ami_of_a_template_version(image: str | None, ami: str | None) -> None:
    """It comes last in Batch's order; one that is looked up elsewhere is not known."""
    data = {"ImageId": image} if image else {}
    versions = {"LaunchTemplateVersions": [{"LaunchTemplateData": data}]}

    caller = Scripted(describe_launch_template_versions=lambda **_: versions)

    assert batch.template_version(caller, "lt-1", "1").ami_id == ami


def _ecs(**more: Any) -> Scripted:
    instance = {
        "InstanceId": "i-1",
        "ImageId": "ami-1",
        "RootDeviceName": "/dev/xvda",
        "State": {"Name": "running"},
        "BlockDeviceMappings": [
            {"DeviceName": "/dev/xvda", "Ebs": {"VolumeId": "vol-1"}},
            {"DeviceName": "/dev/sdb", "Ebs": {"VolumeId": "vol-2"}},
        ],
    }
    answers: dict[str, Callable[..., dict[str, Any]]] = {
        "list_container_instances": lambda **which: (
            {"containerInstanceArns": ["b"]}
            if which.get("nextToken")
            else {"containerInstanceArns": ["a"], "nextToken": "t"}
        ),
        "describe_container_instances": lambda **which: {
            "containerInstances": [{"ec2InstanceId": f"i-{n}"} for n, _ in enumerate(which["containerInstances"], 1)]
        },
        "describe_instances": lambda **_: {
            "Reservations": [{"Instances": [instance, instance | {"State": {"Name": "terminated"}}]}]
        },
        "describe_volumes": lambda **which: {
            "Volumes": [{"VolumeId": volume, "VolumeInitializationRate": 300} for volume in which["VolumeIds"]]
        },
    }
    return Scripted(**(answers | more))


def test_the_root_volumes_of_a_cluster() -> None:
    """Of running instances only, all pages of them, and not their other volumes."""
    caller = _ecs()

    (found,) = batch.volumes(caller, CLUSTER)

    assert (found.instance_id, found.ami_id, found.volume_id, found.rate_mib_s) == ("i-1", "ami-1", "vol-1", 300)
    listed = [parameters for name, parameters in caller.requests if name == "describe_container_instances"]
    assert listed[0]["containerInstances"] == ["a", "b"]
    ec2 = [parameters for name, parameters in caller.requests if name in ("describe_instances", "describe_volumes")]
    assert [request["IncludeManagedResources"] for request in ec2] == [True, True]


def test_a_cluster_without_instances_asks_ec2_nothing() -> None:
    """The common case of an idle fleet."""
    caller = _ecs(list_container_instances=lambda **_: {"containerInstanceArns": []})

    assert batch.volumes(caller, CLUSTER) == []
    assert [name for name, _ in caller.requests] == ["list_container_instances"]


def test_a_cluster_that_is_gone_has_no_volumes() -> None:
    """Batch makes it on demand; every other refusal is an error."""

    def refuse(code: str) -> Callable[..., dict[str, Any]]:
        def answer(**_more: Any) -> dict[str, Any]:
            raise RefusedError(code, code)

        return answer

    assert batch.volumes(_ecs(list_container_instances=refuse("ClusterNotFoundException")), CLUSTER) == []
    with pytest.raises(RefusedError):
        batch.volumes(_ecs(list_container_instances=refuse("AccessDeniedException")), CLUSTER)


def test_what_is_read_can_be_shown_as_json(demo: Caller) -> None:
    """Nothing of botocore's own types gets out."""
    assert json.dumps(batch.environments(demo), default=vars)
