"""The guard: each rule refuses what it is for, and lets the ordinary hand-over through."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from packaging.version import Version

from gpu_ami.deploy.guard import Facts, Finding, RunningJob, judge
from gpu_ami.terraform.plan_file import read
from tests.support.plans import ARN, CLUSTER, ON_DEMAND, QUEUE, SPOT, A, B, C, change, move, plan_text, values

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
FACTS = Facts(
    expected_ami=B,
    handed_over_in="terraform/gpu-ami.auto.tfvars.json",
    variable="gpu_ami_id",
    region="ap-northeast-2",
    provider=Version("5.100.0"),
    now=NOW,
)


def _judge(*changes: dict[str, Any], ami: Any = B, **facts: Any) -> list[tuple[str, str]]:
    return [(f.code, f.address) for f in _findings(*changes, ami=ami, **facts)]


def _findings(*changes: dict[str, Any], ami: Any = B, **facts: Any) -> tuple[Finding, ...]:
    return judge(read(plan_text(*changes, ami=ami)), replace(FACTS, **facts))


def _job(minutes: float | None = 10, **more: Any) -> RunningJob:
    started = None if minutes is None else NOW - timedelta(minutes=minutes)
    return RunningJob(job_id="j-1", name="video", queue="q", started=started, **({"cluster_arn": CLUSTER} | more))


def test_the_ordinary_hand_over_passes() -> None:
    """Two environments move in place to the AMI that was handed over."""
    assert _judge(move(), move(address=ON_DEMAND)) == []


def test_the_first_apply_passes() -> None:
    """Everything is made new."""
    rows = (change(actions=("create",), after=values(B)), change(QUEUE, ("create",), kind="aws_batch_job_queue"))
    assert _judge(*rows) == []


@pytest.mark.parametrize(
    ("actions", "code"),
    [(("create", "delete"), "replaced"), (("delete", "create"), "replaced"), (("delete",), "destroyed")],
)
@pytest.mark.parametrize(("address", "kind"), [(SPOT, "compute_environment"), (QUEUE, "job_queue")])
def test_losing_an_environment_or_queue_is_refused(
    actions: tuple[str, ...], code: str, address: str, kind: str
) -> None:
    """Its jobs go with it."""
    after = values(B) if "create" in actions else None
    row = change(address, actions, kind=f"aws_batch_{kind}", before=values(B), after=after)
    keep = change(ON_DEMAND, ("no-op",), before=values(B), after=values(B))

    assert _judge(row, keep) == [(code, address)]
    assert _judge(row, keep, allow_replace=frozenset({address})) == []


def test_only_the_exact_address_is_allowed() -> None:
    """A prefix would allow more than was reviewed."""
    row = change(actions=("create", "delete"), before=values(A), after=values(B))

    assert _judge(row, allow_replace=frozenset({SPOT.split("[")[0], "*"})) == [("replaced", SPOT)]


def test_the_cause_of_a_replacement_is_named() -> None:
    """So that it can be fixed rather than allowed."""
    row = change(actions=("create", "delete"), before=values(A), after=values(B), because=[["service_role"]])
    (found,) = _findings(row)

    assert "service_role cannot be changed in place" in found.detail
    assert f"--allow-replace '{SPOT}'" in found.advice


def test_losing_anything_else_is_not_the_guards_affair() -> None:
    """The table shows it; a job definition or a log group takes no job with it."""
    row = change("aws_batch_job_definition.this", ("delete",), kind="aws_batch_job_definition", before={})

    assert _judge(row, move()) == []


def test_a_variable_that_is_set_elsewhere_is_refused() -> None:
    """TF_VAR_…, -var and other files go before the one that was handed over."""
    (found,) = _findings(change(actions=("no-op",), before=values(A), after=values(A)), ami=A)

    assert (found.code, found.address) == ("ami-differs", "var.gpu_ami_id")
    assert A in found.detail
    assert B in found.detail
    assert "TF_VAR_gpu_ami_id" in found.advice


@pytest.mark.parametrize(
    ("row", "ami"), [(change(actions=("no-op",), before=values(A), after=values(A)), A), (move(A, None), None)]
)
def test_a_hand_over_that_terraform_does_not_see_is_said_so(row: dict[str, Any], ami: str | None) -> None:
    """A prod.tfvars.json is read only when it is named: to search for another setter of the variable leads away."""
    file = "terraform/prod.tfvars.json"
    found = _findings(row, ami=ami, handed_over_in=file, is_taken=False)
    named = _findings(move(A, C), ami=B, handed_over_in=file, is_taken=False)

    assert "ami-differs" in [finding.code for finding in found]
    assert all(f"Terraform does not take {file} by itself: let handover.file" in finding.advice for finding in found)
    assert [finding.advice for finding in named] == [finding.advice for finding in _findings(move(A, C), ami=B)]


def test_an_environment_that_goes_elsewhere_is_refused() -> None:
    """A literal in the code: the variable is right, the environment is not."""
    assert _judge(move(), move(A, C, ON_DEMAND)) == [("ami-differs", ON_DEMAND)]


def test_an_environment_that_would_lose_its_ami_is_refused() -> None:
    """Batch's own AMI has neither the image nor the models."""
    (found,) = _findings(move(), move(A, None, ON_DEMAND))

    assert "the one that Batch chooses" in found.detail


def test_an_ami_that_nobody_uses_is_refused() -> None:
    """The apply would say that all is well while jobs start on the old AMI."""
    assert _judge(change(actions=("no-op",), before=values(A), after=values(A))) == [("ami-unused", "var.gpu_ami_id")]


def test_an_environment_with_another_ami_that_stays_is_let_be() -> None:
    """A second environment on purpose: nothing happens to it."""
    assert _judge(move(), change(ON_DEMAND, ("no-op",), before=values(C), after=values(C))) == []


def test_an_unknown_ami_is_refused() -> None:
    """It cannot be compared with what was handed over."""
    unknown = {"compute_resources": [{"ec2_configuration": [{"image_id_override": True}]}]}

    assert _judge(change(before=values(A), after=values(None), unknown=unknown)) == [("ami-unknown", SPOT)]


def test_an_ami_that_cannot_be_launched_is_refused() -> None:
    """Gone, pending or somebody else's: jobs would wait for instances that never come."""
    (found,) = _findings(move(), ami_problem="is pending, not available")

    assert (found.code, found.address) == ("ami-unusable", "var.gpu_ami_id")
    assert "is pending" in found.detail


def test_a_map_of_regions_is_looked_up() -> None:
    """One variable for several regions."""
    assert _judge(move(), ami={"ap-northeast-2": B, "us-east-1": C}) == []
    assert _judge(move(), ami={"ap-northeast-2": A}) == [("ami-differs", "var.gpu_ami_id")]


def test_a_root_without_environments_has_nothing_to_use_it() -> None:
    """A module that only passes the id on."""
    assert _judge() == []


def test_without_a_hand_over_no_ami_is_expected() -> None:
    """The user's own variables rule."""
    assert _judge(move(A, C), ami=C, expected_ami=None) == []
    assert _judge(change(actions=("create",), after=values(None)), ami=None, expected_ami=None) == []


def test_a_live_ami_does_not_vanish_with_its_file() -> None:
    """A checkout without the handed-over file: jobs would start on Batch's own AMI, and take 20 minutes to."""
    assert _judge(move(A, None), ami=None, expected_ami=None) == [("ami-differs", SPOT)]


@pytest.mark.parametrize(
    ("job", "refused"),
    [
        (_job(10), False),
        (_job(61), True),
        (_job(600), True),
        (_job(None), True),
        (_job(61, limit=timedelta(minutes=90)), False),
        (_job(61, limit=timedelta(minutes=180)), True),
        (_job(600, cluster_arn="arn:aws:ecs:x:1:cluster/other"), False),
        (_job(600, cluster_arn=None), True),
    ],
)
def test_jobs_that_outlast_the_time_out_stop_the_apply(job: RunningJob, refused: bool) -> None:
    """Batch would end them after the 60 minutes of this environment."""
    found = _findings(move(), jobs=(job,))

    assert [finding.code for finding in found] == (["long-jobs"] if refused else [])
    if refused:
        assert "60 min" in found[0].detail
        assert "video (j-1" in found[0].detail


@pytest.mark.parametrize(
    ("environments", "refused"),
    [
        ({ARN}, True),
        ({"gpu-spot"}, True),
        ({f"{ARN}-2", ARN}, True),
        ({f"{ARN}-2"}, False),
        ({"spot", "gpu"}, False),
        (None, True),
    ],
)
def test_a_job_without_a_cluster_is_where_its_queue_sends_it(environments: set[str] | None, refused: bool) -> None:
    """Fargate and EKS show no cluster: a job there that runs for days would stop every update of ours."""
    job = _job(600, cluster_arn=None, environments=environments and frozenset(environments))

    assert _judge(move(), jobs=(job,)) == ([("long-jobs", SPOT)] if refused else [])


def test_a_job_stays_where_it_began_when_its_queue_moves_on() -> None:
    """A queue that has other environments by now still has jobs in the old one, and the update would end them."""
    assert _judge(move(), jobs=(_job(600, environments=frozenset({f"{ARN}-2"})),)) == [("long-jobs", SPOT)]


def test_an_environment_without_an_arn_may_have_every_job() -> None:
    """A queue cannot be compared with it."""
    job = _job(600, cluster_arn=None, environments=frozenset({"other"}))

    assert _judge(move(arn=None), jobs=(job,)) == [("long-jobs", SPOT)]


def test_every_running_job_counts_when_updates_end_jobs_at_once() -> None:
    """terminate_jobs_on_update asks nobody how long it has run."""
    policy = [{"terminate_jobs_on_update": True, "job_execution_timeout_minutes": 60}]

    assert _judge(move(update_policy=policy), jobs=(_job(1),)) == [("long-jobs", SPOT)]


def test_jobs_do_not_matter_where_instances_stay() -> None:
    """A wider limit touches no instance."""
    row = change(before=values(B), after=values(B, max_vcpus=64))

    assert _judge(row, jobs=(_job(600),)) == []


def test_many_jobs_are_counted_not_all_printed() -> None:
    """The message stays one line."""
    (found,) = _findings(move(), jobs=tuple(_job(600) for _ in range(9)))

    assert found.detail.count("j-1") == 5
    assert "and 4 more" in found.detail


@pytest.mark.parametrize(
    ("provider", "refused"),
    [("5.100.0", True), ("6.9.1", True), (None, True), ("6.10", False), ("6.10.0", False), ("6.10.0-beta1", False)],
)
def test_price_capacity_needs_a_provider_that_updates_in_place(provider: str | None, refused: bool) -> None:
    """Before 6.10 the next change of AMI would replace the environment, even if this one creates it."""
    after = values(B, allocation_strategy="SPOT_PRICE_CAPACITY_OPTIMIZED")

    found = _judge(change(actions=("create",), after=after), provider=Version(provider) if provider else None)

    assert found == ([("provider-too-old", SPOT)] if refused else [])


@pytest.mark.parametrize(
    ("provider", "shown"), [("6.9.1", "provider 6.9 replaces"), (None, "provider of unknown version")]
)
def test_the_provider_that_is_too_old_is_named(provider: str | None, shown: str) -> None:
    """And the one to upgrade to."""
    after = values(B, allocation_strategy="SPOT_PRICE_CAPACITY_OPTIMIZED")

    (found,) = _findings(change(actions=("create",), after=after), provider=Version(provider) if provider else None)

    assert shown in found.detail
    assert "6.10 or newer" in found.advice


def test_a_finding_says_what_and_what_to_do() -> None:
    """Its document is part of the contract."""
    (found,) = _findings(change(QUEUE, ("delete",), kind="aws_batch_job_queue", before={}), move())

    assert set(found.document()) == {"code", "address", "detail", "advice"}
