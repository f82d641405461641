"""What a dead bench left goes, and nothing that only looks like it: decided by its tags and AWS's clock."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.aws.build_resources import BuildResource
from gpu_ami.cleanup import sweep
from gpu_ami.cleanup.dead_benches import TOGETHER
from gpu_ami.cleanup.incomplete_builds import SweepVerdict, decide_sweep
from gpu_ami.cleanup.sweep import Request
from gpu_ami.errors import PartialError
from gpu_ami_sandbox.demo.factory import FAMILY
from tests.support.account import Task, World, task

NOW = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)
RUN = "bench-20261130T090000Z-0a1b2c"
MADE = ("job-queue", "compute-environment", "instance", "volume", "launch-template", "job-definition")


def _left(kind: str = "job-queue", *, hours: float = 3, minutes: str = "120", run: str = RUN, **tags: Any) -> Any:
    """Return a resource of a bench that began so long ago; a tag of None is left out."""
    said: dict[str, str | None] = {
        "gpu-ami:began": f"{NOW - timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}",
        "gpu-ami:may-take": minutes,
    }
    said |= {f"gpu-ami:{key.replace('_', '-')}": value for key, value in tags.items()}
    return BuildResource(
        kind=kind,
        identifier=f"{kind}/{run}",
        region="r",
        run=run,
        created=None,
        state="VALID",
        tags={key: value for key, value in said.items() if value is not None},
    )


def _decide(*resources: BuildResource, requested: timedelta = timedelta(), **more: Any) -> list[SweepVerdict]:
    return decide_sweep(resources, (), {}, timedelta(hours=5), NOW, requested, **more)


def _codes(verdicts: Iterable[SweepVerdict]) -> dict[str, str]:
    return {verdict.resource.kind: verdict.reasons[0].code for verdict in verdicts}


@pytest.mark.parametrize("kind", MADE)
def test_what_a_bench_that_is_over_left_goes(kind: str) -> None:
    """By its own time, though a build may take five hours: a GPU host costs by the second."""
    (verdict,) = _decide(_left(kind))

    assert (verdict.action, verdict.reasons[0].detail) == ("delete", f"bench {RUN} is over")
    assert verdict.document()["started"] == "2026-11-30T09:00:00Z"


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize(
    ("left", "code"),
    [
        ({"hours": 1.99}, "may-be-alive"),
        ({"began": None}, "no-date"),
        ({"began": "yesterday"}, "no-date"),
        ({"began": "2026-02-31T00:00:00Z"}, "no-date"),
        ({"began": "2026-11-30T09:00:00"}, "no-date"),
        ({"may_take": None}, "no-date"),
        ({"may_take": "long"}, "no-date"),
        ({"may_take": "-5"}, "no-date"),
        ({"may_take": "9" * 40}, "no-date"),
        ({"hours": -1}, "future-date"),
        ({"keep": ""}, "keep-tag"),
    ],
)
def test_doubt_keeps(kind: str, left: dict[str, Any], code: str) -> None:
    """Another machine's bench may be at work; what does not say when it ends is nobody's to end."""
    assert _codes(_decide(_left(kind, **left))) == {kind: code}


def test_the_limit_is_what_the_bench_says() -> None:
    """Exactly at its end it is over; a person may want more left alone."""
    assert _codes(_decide(_left(hours=2))) == {"job-queue": "leftover"}
    assert _codes(_decide(_left(), requested=timedelta(hours=4))) == {"job-queue": "may-be-alive"}
    assert _codes(_decide(_left(), requested=timedelta.max)) == {"job-queue": "may-be-alive"}


def test_one_piece_that_may_go_on_holds_its_bench() -> None:
    """Two tags of one bench that differ are a doubt."""
    verdicts = _decide(_left("job-queue"), _left("instance", minutes="600"), _left("volume", run=RUN + "-other"))

    assert _codes(verdicts) == {"job-queue": "may-be-alive", "instance": "may-be-alive", "volume": "leftover"}


@pytest.mark.parametrize("kind", ["job-queue", "compute-environment", "job-definition"])
def test_no_build_makes_such_a_thing(kind: str) -> None:
    """With the run of a build it is somebody's copy of our tags, whatever its age."""
    assert _codes(_decide(_left(kind, run="20261101T120000Z-abc123"))) == {kind: "not-of-a-bench"}


@pytest.mark.parametrize("kind", ["security-group", "key-pair", "image", "role", "instance-profile"])
def test_no_bench_makes_such_a_thing(kind: str) -> None:
    """It takes production's group and profile and makes none."""
    assert _codes(_decide(_left(kind))) == {kind: "not-of-a-bench"}


@pytest.mark.parametrize("kept", TOGETHER)
def test_what_stands_keeps_what_it_needs(kept: str) -> None:
    """Of a host that is ended before its environment, Batch's group starts another."""
    found = [_left(kind, keep="" if kind == kept else None) for kind in MADE]

    codes = _codes(_decide(*found))

    assert codes.pop("job-queue") == ("keep-tag" if kept == "job-queue" else "leftover")
    assert codes.pop("compute-environment") == ("held" if kept == "job-queue" else "keep-tag")
    assert set(codes.values()) == {"held"}


@pytest.mark.parametrize("unseen", TOGETHER)
def test_what_could_not_be_listed_may_stand(unseen: str) -> None:
    """Who may list instances alone must not end them under a living group."""
    found = [_left(kind) for kind in MADE if kind not in TOGETHER] + [_left("instance", run="verify-1")]

    codes = {v.resource.identifier: v.action for v in _decide(*found, unseen={(unseen, "r"), (unseen, "other")})}

    expected = "delete" if unseen == "job-queue" else "keep"  # a queue keeps its environment, which is not there
    assert {codes[one.identifier] for one in found[:-1]} == {expected}
    assert "held" not in _codes(_decide(_left("compute-environment"), unseen={("job-queue", "other")})).values()
    assert "held" in _codes(_decide(_left("compute-environment"), unseen={("job-queue", "r")})).values()


def _aws_tags(run: str, began: datetime, **changed: str) -> dict[str, str]:
    tags = {
        "gpu-ami:pipeline": "gpu-ami-pipeline",
        "gpu-ami:family": FAMILY,
        "gpu-ami:run": run,
        "gpu-ami:began": f"{began:%Y-%m-%dT%H:%M:%SZ}",
        "gpu-ami:may-take": "90",
    }
    return {key: value for key, value in (tags | changed).items() if value}


def bench(here: World, name: str, tags: dict[str, str]) -> None:
    """Make through AWS's API what one host of a bench has, killed in the middle of its job."""
    batch, ec2 = here.access.client("batch"), here.access.client("ec2")
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    ec2.create_launch_template(
        LaunchTemplateName=name,
        LaunchTemplateData={"InstanceType": "g5.xlarge"},
        TagSpecifications=[{"ResourceType": "launch-template", "Tags": listed}],
    )
    profile = here.access.client("iam").get_instance_profile(InstanceProfileName="worker")["InstanceProfile"]["Arn"]
    resources = {
        "type": "EC2",
        "minvCpus": 0,
        "maxvCpus": 4,
        "instanceTypes": ["g5.xlarge"],
        "instanceRole": profile,
        "subnets": [here.maker.location.subnet_id],
        "securityGroupIds": [here.maker.location.security_group_id],
        "tags": tags,
    }
    batch.create_compute_environment(
        computeEnvironmentName=name, type="MANAGED", state="ENABLED", computeResources=resources, tags=tags
    )
    order = [{"order": 1, "computeEnvironment": name}]
    batch.create_job_queue(jobQueueName=name, state="ENABLED", priority=1, computeEnvironmentOrder=order, tags=tags)
    container = {
        "image": "i@sha256:0",
        "command": ["sleep", "60"],
        "resourceRequirements": [{"type": "VCPU", "value": "4"}, {"type": "MEMORY", "value": "128"}],
    }
    batch.register_job_definition(jobDefinitionName=name, type="container", containerProperties=container, tags=tags)
    batch.submit_job(jobName=name, jobQueue=name, jobDefinition=name)


def _there(here: World) -> dict[str, set[str]]:
    """Return the names of what is there, by kind, from Batch's and EC2's own lists."""
    batch = here.access.client("batch")
    definitions = batch.describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    return {
        "job-queue": {
            row["jobQueueName"] for row in batch.describe_job_queues()["jobQueues"] if row["status"] != "DELETED"
        },
        "compute-environment": {
            row["computeEnvironmentName"]
            for row in batch.describe_compute_environments()["computeEnvironments"]
            if row["status"] != "DELETED"
        },
        "job-definition": {row["jobDefinitionName"] for row in definitions},
        "launch-template": {
            row["LaunchTemplateName"]
            for row in here.access.client("ec2").describe_launch_templates()["LaunchTemplates"]
        },
    }


def _sweep(here: World, root: Path, *, fails: bool = False, **request: Any) -> Task:
    done = task(here, root)
    try:
        sweep.run(done.run, Request(**request), sleep=lambda _: None)
    except PartialError:
        assert fails
    return done


def test_a_killed_bench_goes_and_what_only_looks_like_one_stays(here: World, tmp_path: Path) -> None:
    """Another machine's running bench; production's, which has the family's tag; a copy of the tags without a time."""
    here.in_use()
    old = here.now - timedelta(hours=2)
    run, alive = "bench-1-0a1b2c", "bench-2-0d0e0f"
    bench(here, "gpu-ami-bench-0a1b2c-1-rated", _aws_tags(run, old))
    host = here.maker.instance(here.maker.image(1))
    host.add_tags(_aws_tags(run, old))
    kept = {
        "gpu-ami-bench-0d0e0f-1-rated": _aws_tags(alive, here.now),
        "production": _aws_tags("", old, **{"gpu-ami:began": "", "gpu-ami:may-take": ""}),
        "production-copied": _aws_tags(run, old),
        "gpu-ami-bench-000001-1-rated": _aws_tags("bench-3-000001", old, **{"gpu-ami:began": ""}),
        "gpu-ami-bench-000002-1-rated": _aws_tags("bench-4-000002", old, **{"gpu-ami:family": "other"}),
        "gpu-ami-bench-000003-1-rated": _aws_tags("20250101T000000Z-abc123", old),
        "gpu-ami-bench-000004-1-rated": _aws_tags("bench-5-000004", old, **{"gpu-ami:pipeline": "theirs"}),
    }
    for name, tags in kept.items():
        bench(here, name, tags)

    shown = _sweep(here, tmp_path)
    going = {verdict["id"] for verdict in shown.document["verdicts"] if verdict["action"] == "delete"}
    assert {name.partition("/")[0] for name in going if "/" in name} == {*TOGETHER, "job-definition"}
    assert all(verdict["run"] == run for verdict in shown.document["verdicts"] if verdict["action"] == "delete")
    here.aws.gate.calls.clear()

    done = _sweep(here, tmp_path, yes=True)

    assert {result["image_id"] for result in done.document["results"]} == going
    assert {result["status"] for result in done.document["results"]} == {"deleted"}
    assert all(names == kept.keys() for names in _there(here).values())
    assert host.state == "terminated"
    order = [call for call in here.calls() if call in _ORDER]
    assert order == _ORDER
    (journal,) = [path for path in done.journals if path.name.startswith("sweep-")]
    events = [json.loads(line)["event"] for line in journal.read_text().splitlines()]
    assert events.count("will-remove") == events.count("removed") == len(going)
    assert not going & {result["image_id"] for result in _sweep(here, tmp_path, yes=True).document["results"]}


_ORDER = [
    *("TerminateJob", "UpdateJobQueue", "DeleteJobQueue", "UpdateComputeEnvironment", "DeleteComputeEnvironment"),
    *("TerminateInstances", "DeleteLaunchTemplate", "DeregisterJobDefinition"),
]


def test_who_may_not_list_a_benchs_kinds_sweeps_the_rest(here: World, tmp_path: Path) -> None:
    """A role from before benches: dead builds' instances go, and a bench's host stays under its environment."""
    here.in_use()
    old = here.now - timedelta(hours=2)
    bench(here, "gpu-ami-bench-0a1b2c-1-rated", _aws_tags("bench-1-0a1b2c", old))
    host, verified = here.maker.instance(here.maker.image(1)), here.maker.instance(here.maker.image(1))
    host.add_tags(_aws_tags("bench-1-0a1b2c", old))
    verified.add_tags(_aws_tags("verify-1", old, **{"gpu-ami:began": ""}))
    verified.launch_time = datetime(2025, 1, 15, 12)  # noqa: DTZ001 - moto's time has no zone
    for listing in ("DescribeJobQueues", "DescribeJobDefinitions"):
        here.aws.gate.deny(f"batch:{listing}")

    done = task(here, tmp_path)
    sweep.run(done.run, Request(), sleep=lambda _: None)

    actions = {verdict["id"]: verdict["action"] for verdict in done.document["verdicts"]}
    assert (actions[host.id], actions[verified.id]) == ("keep", "delete")
    assert set(actions.values()) == {"keep", "delete"}
    skipped = {row["name"] for row in done.document["sources"] if row["status"] == "skipped"}
    assert skipped >= {"leftover-job-queues", "leftover-job-definitions"}


def test_an_environment_that_does_not_go_keeps_its_host(here: World, tmp_path: Path) -> None:
    """Refused in the act: the rest of that bench stays for the next sweep, and the run ends as one that failed."""
    here.in_use()
    old = here.now - timedelta(hours=2)
    bench(here, "gpu-ami-bench-0a1b2c-1-rated", _aws_tags("bench-1-0a1b2c", old))
    host = here.maker.instance(here.maker.image(1))
    host.add_tags(_aws_tags("bench-1-0a1b2c", old))
    here.aws.gate.deny("batch:DeleteComputeEnvironment")

    done = _sweep(here, tmp_path, fails=True, yes=True)

    results = {result["image_id"]: result["status"] for result in done.document["results"]}
    assert results.pop("compute-environment/gpu-ami-bench-0a1b2c-1-rated") == "failed"
    assert results.pop("job-queue/gpu-ami-bench-0a1b2c-1-rated") == "deleted"
    assert set(results.values()) == {"kept"}
    assert host.state == "running"
