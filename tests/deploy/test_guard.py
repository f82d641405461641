"""The guard: each rule refuses what it is for, and lets the ordinary hand-over through."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from packaging.version import Version

from gpu_ami.deploy.guard import Facts, Finding, HandedOver, RunningJob, judge, unknown_permissions
from gpu_ami.terraform.plan_changes import EnvironmentChange
from gpu_ami.terraform.plan_file import read
from tests.support.plans import ARN, CLUSTER, ON_DEMAND, QUEUE, SPOT, A, B, C, by_type, change, move, plan_text, values

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


@pytest.mark.parametrize(
    ("before", "after", "said", "advised"),
    [
        (1, 2, "the number of ec2_configuration blocks, 1 and then 2", "a second environment of the same queue"),
        (2, 1, "the number of ec2_configuration blocks, 2 and then 1", "a second environment of the same queue"),
    ],
)
def test_another_number_of_image_types_is_said_to_be_the_cause(
    before: int, after: int, said: str, advised: str
) -> None:
    """The provider then replaces the environment, whatever role and strategy: advice about those leads nowhere."""
    blocks = [by_type(ECS_AL2023_NVIDIA=A), by_type(ECS_AL2023_NVIDIA=A, ECS_AL2023=None)]
    row = change(
        actions=("create", "delete"),
        before=values(ec2_configuration=blocks[before - 1]),
        after=values(ec2_configuration=blocks[after - 1]),
        because=[["compute_resources", 0, "ec2_configuration"], ["compute_resources", 0, "type"]],
    )
    (found,) = _findings(row, ami=A, expected_ami=A)

    assert f"{said}, compute_resources.0.type cannot be changed in place, whatever its role" in found.detail
    assert advised in found.advice
    assert "service_role" not in found.advice


@pytest.mark.parametrize(("address", "kind"), [(SPOT, "compute_environment"), (QUEUE, "job_queue")])
def test_letting_go_asks_like_destroying(address: str, kind: str) -> None:
    """It stays on AWS, and no apply gives it an AMI again."""
    row = change(address, ("forget",), kind=f"aws_batch_{kind}", before=values(B))

    (found,) = [finding for finding in _findings(row, move()) if finding.code != "ami-unused"]
    assert (found.code, found.address) == ("forgotten", address)
    assert f"--allow-replace '{address}'" in found.advice
    assert _judge(row, move(), allow_replace=frozenset({address})) == []


def _old(**more: Any) -> dict[str, Any]:
    """The environment that a replacement left behind, at the address of the live one."""
    before = values(A, name="gpu-old", arn=f"{ARN}-old", ecs_cluster_arn=f"{CLUSTER}-old")
    return change(actions=("delete",), before=before, deposed="0a1b2c3d", **more)


def test_what_was_left_behind_goes_by_its_own_permission() -> None:
    """It stands at the live environment's address: "Put it back into the code" was advised of what is in there."""
    (found,) = _findings(move(), _old())

    assert (found.code, found.address) == ("deposed", SPOT)
    assert "gpu-old" in found.detail
    assert "deposed" in found.detail
    assert "--allow-deposed 'gpu-old'" in found.advice
    assert _judge(move(), _old(), allow_replace=frozenset({SPOT})) == [("deposed", SPOT)]
    assert _judge(move(), _old(), allow_deposed=frozenset({"gpu-old"})) == []


def test_its_permission_ends_no_job_of_the_live_environment() -> None:
    """--allow-replace of that address did: it silences what is said of jobs there."""
    job = _job(600)

    assert _judge(move(), _old(), jobs=(job,), allow_deposed=frozenset({"gpu-old"})) == [("long-jobs", SPOT)]


def test_jobs_in_what_was_left_behind_are_named() -> None:
    """Any of them: no time-out of an update counts where the environment itself goes."""
    job = _job(1, cluster_arn=f"{CLUSTER}-old")
    found = _findings(move(), _old(), jobs=(job,))

    assert [finding.code for finding in found] == ["deposed", "long-jobs"]
    assert found[1].detail.startswith("to destroy gpu-old ends the jobs in it: video")
    assert found[1].advice == "Wait for them."


def test_to_let_go_of_what_was_left_behind_is_told_too() -> None:
    """A `removed` block with `destroy = false` reaches both objects at its address, each by a permission of its own."""
    rows = [_old() | {"change": _old()["change"] | {"actions": ["forget"]}}, move(address=ON_DEMAND)]
    rows.append(change(actions=("forget",), before=values(B)))

    (live, old) = _findings(*rows)
    assert (live.code, old.code, "gpu-old" in old.detail, "let go of" in old.detail) == (
        "forgotten",
        "deposed",
        True,
        True,
    )
    assert _judge(*rows, allow_replace=frozenset({SPOT})) == [("deposed", SPOT)]
    assert _judge(*rows, allow_deposed=frozenset({"gpu-old"})) == [("forgotten", SPOT)]


def test_a_queue_that_was_left_behind_is_told_too() -> None:
    """And anything else that was is not the guard's affair."""
    queue = change(QUEUE, ("delete",), kind="aws_batch_job_queue", before={"name": "q"}, deposed="0a1b2c3d")
    role = change("aws_iam_role.x", ("delete",), kind="aws_iam_role", before={}, deposed="0a1b2c3d")

    (found,) = _findings(move(), queue, role)
    assert (found.code, "job queue q" in found.detail) == ("deposed", True)


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


CPU, GPU = "ECS_AL2023", "ECS_AL2023_NVIDIA"


def _two(before: tuple[str | None, str | None], after: tuple[str | None, str | None]) -> dict[str, Any]:
    cpu_and_gpu = [values(ec2_configuration=by_type(**{CPU: cpu, GPU: gpu})) for cpu, gpu in (before, after)]
    return change(before=cpu_and_gpu[0], after=cpu_and_gpu[1])


def test_a_cpu_ami_before_ours_is_not_compared_with_it() -> None:
    """Read as the environment's, it was refused as another AMI, and ours as unused."""
    assert _judge(_two((C, A), (C, B))) == []


def test_the_second_image_type_is_compared_as_well() -> None:
    """What it would become went unseen."""
    (found,) = _findings(_two((B, A), (B, C)))

    assert found.code == "ami-differs"
    assert f"its AMI for {GPU} would become {C}, not {B}" in found.detail


def test_an_environment_may_move_on_to_another_image_type() -> None:
    """From Amazon Linux 2 to 2023: the old type goes, the AMI is the one that was handed over."""
    row = change(before=values(ec2_configuration=by_type(ECS_AL2_NVIDIA=A)), after=values(B))

    assert _judge(row) == []


def test_several_amis_for_one_instance_cannot_be_compared() -> None:
    """AWS's documents disagree on whether image_id or image_id_override counts."""
    (found,) = _findings(change(before=values(A), after=values(B, image_id=C)))

    assert found.code == "ami-unknown"
    assert B in found.detail
    assert C in found.detail
    assert "leave image_id out" in found.advice
    # What has been so is left as it is.
    assert _judge(change(actions=("no-op",), before=values(B, image_id=C), after=values(B, image_id=C))) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (values(A, image_id=C), values(B, image_id=C)),
        (values(A, image_id=C), values("ami-0000000000000000f", image_id=C)),
        (values(None, image_id=A), values(B, image_id=A)),
    ],
)
def test_an_override_that_moves_beside_image_id_is_seen(before: dict[str, Any], after: dict[str, Any]) -> None:
    """The AMI that is shown, image_id's, stays: the wrong AMI passed, and no receipt knew a way back."""
    (found,) = _findings(change(before=before, after=after), move(address=ON_DEMAND))

    assert (found.code, found.address) == ("ami-unknown", SPOT)
    assert str(after["compute_resources"][0]["ec2_configuration"][0]["image_id_override"]) in found.detail


def test_one_place_that_is_left_of_several_is_compared() -> None:
    """Which of the two was live is not known: that image_id's is the one that stays proves nothing."""
    row = change(before=values(A, image_id=C), after=values(C))

    assert _judge(row, move(address=ON_DEMAND)) == [("ami-differs", SPOT)]
    assert _judge(change(before=values(B, image_id=C), after=values(B)), move(address=ON_DEMAND)) == []


def test_several_amis_that_stay_do_not_stop_another_change() -> None:
    """What has been so is left as it is, also where something else of the environment changes."""
    row = change(before=values(B, image_id=C, max_vcpus=8), after=values(B, image_id=C))

    assert _judge(row, move(address=ON_DEMAND)) == []


@pytest.mark.parametrize(
    "theirs",
    [
        values(None, type="FARGATE", ec2_configuration=[]),
        values(C) | {"eks_configuration": [{}]},
        {"compute_environment_name": "theirs", "type": "UNMANAGED", "compute_resources": []},
    ],
)
def test_what_takes_no_ami_of_ours_is_left_alone(theirs: dict[str, Any]) -> None:
    """With advice that nobody can follow it was refused for ever."""
    unknown = {"compute_resources": [{"ec2_configuration": True}]}
    row = change("ce.theirs", ("create",), after=theirs, unknown=unknown)

    assert _judge(move(), row) == []
    assert _judge(row) == []


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


def test_a_permission_that_names_nothing_is_told_from_one_that_is_not_needed() -> None:
    """A script may give the same permissions at each run; a name that the plan has never heard of is a slip."""
    plan = read(plan_text(move(), change(QUEUE, ("no-op",), kind="aws_batch_job_queue"), ami=B))
    facts = replace(FACTS, allow_replace=frozenset({SPOT, QUEUE, "foo"}), allow_deposed=frozenset({"gpu-old"}))

    assert unknown_permissions(plan, facts) == [
        "--allow-replace 'foo' names nothing of the plan, and so permits nothing: give it as the plan shows it.",
        "--allow-deposed 'gpu-old' names nothing of the plan, and so permits nothing: give it as the plan shows it.",
    ]


def test_another_family_s_ami_is_not_moved_to_in_passing() -> None:
    """No receipt would tell, so its rollback would not find the way back; one that is made has nothing to lose."""
    elsewhere = {C: HandedOver(family="training", variable="training_ami_id")}
    plan = read(plan_text(move(), move(old=A, new=C, address=ON_DEMAND)))
    changes = [
        replace(change, slots=tuple(replace(slot, is_ours=False) for slot in change.slots))
        if isinstance(change, EnvironmentChange) and change.address == ON_DEMAND
        else change
        for change in plan.changes
    ]
    known = replace(plan, changes=tuple(changes), variables={**plan.variables, "training_ami_id": C})

    (found,) = judge(known, replace(FACTS, elsewhere=elsewhere))

    assert (found.code, found.address) == ("other-family", ON_DEMAND)
    assert f"would become {C}, which was handed over for the family training" in found.detail
    assert found.advice == (
        f"Apply a family at a time: --terraform-var training_ami_id={A} leaves it as it is this time."
    )
    assert judge(known, FACTS) == ()
    by_region = replace(known, variables={**plan.variables, "training_ami_id": {"ap-northeast-2": C}})
    (found,) = judge(by_region, replace(FACTS, elsewhere=elsewhere))
    assert found.advice.endswith("give training_ami_id what is live with --terraform-var this time.")
    made = [replace(change, action="create") for change in changes]
    assert judge(replace(known, changes=tuple(made)), replace(FACTS, elsewhere=elsewhere)) == ()
