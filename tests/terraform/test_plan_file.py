"""Terraform's plan as we read it: what is misread here is applied."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpu_ami.errors import TerraformError
from gpu_ami.terraform.plan_file import differences, read
from tests.support.plans import (
    ARN,
    CLUSTER,
    ON_DEMAND,
    QUEUE,
    SPOT,
    A,
    B,
    C,
    by_type,
    change,
    document,
    move,
    plan_text,
    values,
)


def test_an_update_in_place_is_read_whole() -> None:
    """The common case: each environment moves from one AMI to the next."""
    plan = read(plan_text(move(), change(ON_DEMAND, ("no-op",), before=values(B), after=values(B))))

    spot, on_demand = plan.environments
    assert (spot.address, spot.name, spot.action, spot.old_ami, spot.new_ami) == (SPOT, "gpu-spot", "update", A, B)
    assert (spot.arn, spot.cluster_arn, spot.timeout_minutes, spot.terminates_jobs) == (ARN, CLUSTER, 60, False)
    assert spot.moves_ami
    assert spot.replaces_instances
    assert not on_demand.moves_ami
    assert not on_demand.replaces_instances
    assert [act.address for act in plan.acts] == [SPOT]


def test_a_new_environment_has_no_name_and_no_old_ami() -> None:
    """The provider makes the name up while it applies."""
    unknown = {"compute_environment_name": True, "compute_resources": [{"desired_vcpus": True}]}
    after = values(B)
    del after["compute_environment_name"], after["ecs_cluster_arn"]
    (made,) = read(plan_text(change(actions=("create",), after=after, unknown=unknown))).environments

    assert (made.action, made.name, made.old_ami, made.new_ami, made.is_ami_known) == ("create", None, None, B, True)
    assert not made.replaces_instances


@pytest.mark.parametrize("actions", [("create", "delete"), ("delete", "create")])
def test_both_orders_of_a_replacement_are_one(actions: tuple[str, ...]) -> None:
    """create_before_destroy turns them round; what is lost is the same."""
    row = change(
        actions=actions, before=values(A), after=values(B), because=[["compute_resources", 0, "allocation_strategy"]]
    )
    (found,) = read(plan_text(row)).environments

    assert found.action == "replace"
    assert found.because == ("compute_resources.0.allocation_strategy",)
    assert found.replaces_instances


@pytest.mark.parametrize(
    "unknown",
    [
        {"compute_resources": True},
        {"compute_resources": [{"ec2_configuration": True}]},
        {"compute_resources": [{"ec2_configuration": [{"image_id_override": True}]}]},
    ],
)
def test_an_ami_that_comes_later_is_not_taken_for_none(unknown: dict[str, Any]) -> None:
    """Unknown is what the guard must refuse, not what it may pass over."""
    (found,) = read(plan_text(change(before=values(A), after=values(None), unknown=unknown))).environments

    assert not found.is_ami_known
    assert found.moves_ami
    assert found.replaces_instances


@pytest.mark.parametrize(
    ("more", "replaces"),
    [
        ({"max_vcpus": 32}, False),
        ({"min_vcpus": 4, "desired_vcpus": 4}, False),
        ({"instance_type": ["g6.xlarge"]}, True),
        ({"launch_template": [{"launch_template_id": "lt-1", "version": "2"}]}, True),
    ],
)
def test_scaling_leaves_the_instances_alone(more: dict[str, Any], replaces: bool) -> None:
    """Only an infrastructure update ends jobs; a wider limit must not be refused because of them."""
    (found,) = read(plan_text(change(before=values(A), after=values(A, **more)))).environments

    assert found.replaces_instances is replaces
    assert not found.moves_ami


def test_a_template_version_that_comes_later_replaces_instances() -> None:
    """The version is known only after the template has been changed in the same apply."""
    unknown = {"compute_resources": [{"launch_template": [{"version": True}]}]}
    (found,) = read(plan_text(change(before=values(A), after=values(A), unknown=unknown))).environments

    assert found.replaces_instances


def test_without_a_policy_batch_waits_half_an_hour() -> None:
    """Its own default; assuming no limit would kill jobs."""
    (found,) = read(plan_text(move(minutes=None))).environments

    assert (found.timeout_minutes, found.terminates_jobs) == (30, False)


def test_the_old_image_field_counts_where_there_is_no_override() -> None:
    """An environment from before image_id_override existed."""
    (found,) = read(plan_text(change(before=values(None, image_id=A), after=values(B)))).environments

    assert (found.old_ami, found.new_ami) == (A, B)


CPU, GPU = "ECS_AL2023", "ECS_AL2023_NVIDIA"


def _two(cpu: str | None, gpu: str | None) -> dict[str, Any]:
    return values(None, ec2_configuration=by_type(**{CPU: cpu, GPU: gpu}))


@pytest.mark.parametrize(
    ("before", "after", "slots", "main"),
    [
        (_two(C, A), _two(C, B), [(CPU, C, C), (GPU, A, B)], (A, B)),
        (_two(C, A), _two(B, A), [(CPU, C, B), (GPU, A, A)], (C, B)),
        (_two(C, A), values(B), [(GPU, A, B), (CPU, C, None)], (A, B)),
        (values(A), _two(C, B), [(CPU, None, C), (GPU, A, B)], (A, B)),
        (
            values(None, ec2_configuration=by_type(ECS_AL2_NVIDIA=A)),
            values(B),
            [(GPU, A, B)],
            (A, B),
        ),
        (values(None, ec2_configuration=[], image_id=A), values(B), [(GPU, A, B)], (A, B)),
        (values(None, ec2_configuration=[]), values(None, ec2_configuration=[]), [("", None, None)], (None, None)),
    ],
)
def test_each_image_type_has_its_ami(
    before: dict[str, Any], after: dict[str, Any], slots: list[Any], main: tuple[Any, Any]
) -> None:
    """A CPU type with an AMI of its own before ours: read as the environment's, ours was neither seen nor moved."""
    (found,) = read(plan_text(change(before=before, after=after))).environments

    assert [(slot.image_type, slot.old, slot.new) for slot in found.slots] == slots
    assert (found.old_ami, found.new_ami) == main


def test_one_unknown_ami_of_two_is_that_types() -> None:
    """The other one is said."""
    unknown = {"compute_resources": [{"ec2_configuration": [{}, {"image_id_override": True}]}]}
    (found,) = read(plan_text(change(before=_two(C, A), after=_two(C, None), unknown=unknown))).environments

    assert [(slot.image_type, slot.is_known) for slot in found.slots] == [(CPU, True), (GPU, False)]
    assert not found.is_ami_known


def test_an_old_image_field_that_comes_later_is_unknown() -> None:
    """It goes before the override: nobody could say what would be live."""
    unknown = {"compute_resources": [{"image_id": True}]}
    (found,) = read(plan_text(change(before=values(A), after=values(A), unknown=unknown))).environments

    assert not found.is_ami_known


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"type": "FARGATE"}, "FARGATE"),
        ({"type": "SPOT"}, "EC2"),
        ({}, "EC2"),
    ],
)
def test_what_an_environment_runs_on(more: dict[str, Any], kind: str) -> None:
    """Fargate takes no AMI, and has no instances that an update would replace."""
    row = change(before=values(None, **more), after=values(None, **more, security_group_ids=["sg-2"]))
    (found,) = read(plan_text(row)).environments

    assert (found.kind, found.is_ours, found.replaces_instances) == (kind, kind == "EC2", kind == "EC2")


def test_eks_and_unmanaged_are_told() -> None:
    """Their instances are another matter."""
    eks = values(A) | {"eks_configuration": [{"eks_cluster_arn": "arn"}]}
    unmanaged = {"compute_environment_name": "ours", "type": "UNMANAGED", "compute_resources": []}
    rows = [change(address, ("create",), after=after) for address, after in (("a", eks), ("b", unmanaged))]

    found = read(plan_text(*rows)).environments

    assert [(change.kind, change.is_ours) for change in found] == [("EKS", False), ("UNMANAGED", False)]


def test_what_was_left_behind_is_not_the_live_one() -> None:
    """Batch refused to delete the old environment: it stands at the live address, and is another one."""
    old = change(actions=("delete",), before=values(A, name="gpu-old"), deposed="0a1b2c3d")
    plan = read(plan_text(move(), old))

    assert [(change.name, change.action) for change in plan.environments] == [("gpu-spot", "update")]
    (left,) = plan.deposed
    assert (left.address, left.name, left.word, left.deposed) == (SPOT, "gpu-old", "delete-deposed", "0a1b2c3d")
    assert "gpu-old, which an earlier replacement left behind" in left.remark
    assert [act.word for act in plan.acts] == ["update", "delete-deposed"]
    assert (plan.count()["delete"], plan.count()["delete-deposed"]) == (0, 1)
    assert [change.name for change in plan.ending] == ["gpu-spot", "gpu-old"]


def test_what_only_moves_or_is_imported_happens() -> None:
    """Twelve resources let go of, moved or taken up were called "No resource changes."."""
    kind = "aws_s3_bucket"
    rows = (
        change(ON_DEMAND, ("no-op",), before=values(A), after=values(A), previous_address=SPOT),
        change("aws_s3_bucket.a", ("no-op",), kind=kind, before={}, after={}, importing={"id": "bucket-a"}),
        change("aws_s3_bucket.b", ("update",), kind=kind, before={}, after={}, importing={"id": "bucket-b"}),
        change("aws_s3_bucket.c", ("forget",), kind=kind, before={}),
        change("aws_s3_bucket.d", ("no-op",), kind=kind, before={}, after={}),
    )
    plan = read(plan_text(*rows))

    assert [(act.word, act.remark) for act in plan.acts] == [
        ("move", f"from {SPOT}"),
        ("import", "id bucket-a"),
        ("update", "id bucket-b"),
        ("forget", ""),
    ]
    assert plan.uprooted == plan.acts
    assert {word: number for word, number in plan.count().items() if number} == {
        "update": 1,
        "forget": 1,
        "move": 1,
        "import": 2,
    }
    (environment,) = plan.environments
    assert (environment.previous_address, environment.moves_ami) == (SPOT, False)


def test_the_log_names_moves_and_what_was_left_behind() -> None:
    """Terraform's own log of a plan in JSON does not say it in a way that a person finds."""
    text = differences(
        plan_text(
            change(ON_DEMAND, ("no-op",), before=values(A), after=values(A), previous_address=SPOT),
            change(actions=("delete",), before={}, deposed="0a1b2c3d"),
        )
    )

    assert f"no-op {ON_DEMAND} (from {SPOT})" in text
    assert f"delete {SPOT} (the deposed object 0a1b2c3d)" in text


def test_the_variable_is_found_behind_a_module() -> None:
    """By image type, or by place where the type is no constant."""
    block = {"image_id_override": {"references": ["var.ami"]}}
    resource = {
        "mode": "managed",
        "type": "aws_batch_compute_environment",
        "name": "this",
        "expressions": {
            "compute_resources": [
                {
                    "ec2_configuration": [
                        {"image_type": {"constant_value": CPU}, "image_id_override": {"references": ["var.cpu"]}},
                        {"image_type": {"references": ["var.type"]}, **block},
                    ]
                }
            ]
        },
    }
    calls = {
        "pipeline": {
            "expressions": {"ami": {"references": ["var.gpu_ami_id"]}, "cpu": {"references": ["var.cpu_ami"]}},
            "module": {"resources": [resource]},
        }
    }
    row = change(before=_two(C, A), after=_two(C, B), module_address="module.pipeline", name="this")
    text = plan_text(row, configuration={"root_module": {"module_calls": calls}})

    assert [slot.takes for slot in read(text, "gpu_ami_id").environments[0].slots] == [False, True]
    assert [slot.takes for slot in read(text, "cpu_ami").environments[0].slots] == [True, False]
    assert [slot.takes for slot in read(text).environments[0].slots] == [False, False]
    assert read(text).is_traced


def test_data_sources_are_not_changes() -> None:
    """Reading something is not acting on it."""
    row = change("data.aws_caller_identity.this", ("read",), kind="aws_caller_identity", mode="data")

    assert read(plan_text(row)).changes == ()


def test_other_resources_are_counted_and_named() -> None:
    """The table shows all that happens."""
    rows = (
        change(QUEUE, ("delete",), kind="aws_batch_job_queue", before={}),
        change("aws_launch_template.this", ("create",), kind="aws_launch_template", after={}),
        change("removed.from.state", ("forget",), kind="aws_s3_bucket", before={}),
    )
    plan = read(plan_text(*rows, output_changes={"a": {"actions": ["update"]}, "b": {"actions": ["no-op"]}}))

    assert {word: number for word, number in plan.count().items() if number} == {"create": 1, "delete": 1, "forget": 1}
    assert [act.action for act in plan.acts] == ["delete", "create", "forget"]
    assert plan.outputs == ("a",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        json.dumps({"format_version": 1}),
        json.dumps({**document(), "resource_changes": [{"mode": "managed"}]}),
        json.dumps({**document(), "resource_changes": "x"}),
        json.dumps(document(change(actions=("explode",)))),
        json.dumps(document(change(before={"compute_resources": [3]}, after={}))),
        '{"format_version": ' + "[" * 50_000,
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(text: str) -> None:
    """A cut-off answer, or a form of a later version: nothing may be guessed into it."""
    with pytest.raises(TerraformError, match="makes no sense"):
        read(text)


def test_another_format_is_named() -> None:
    """Series 2 may mean something else by the same names."""
    with pytest.raises(TerraformError, match=r"format 2\.0"):
        read(json.dumps(document(format_version="2.0")))


@pytest.mark.parametrize("more", [{"complete": False}, {"errored": True}])
def test_an_incomplete_plan_is_refused(more: dict[str, Any]) -> None:
    """What it leaves out is not judged."""
    with pytest.raises(TerraformError, match="not complete"):
        read(json.dumps(document(**more)))


def test_the_log_of_a_plan_has_each_attribute() -> None:
    """What a person reads before saying yes; no secret may be there."""
    old = {
        "size": 1,
        "same": "x",
        "tags": {"a": "1", "b": "2"},
        "list": [{"k": 1}, {"k": 2}],
        "token": "old",
        "gone": 5,
    }
    new = {"size": 2, "same": "x", "tags": {"a": "1", "b": "방"}, "list": [{"k": 1}], "token": "new", "set": {"p": "q"}}
    row = change("aws_x.y", kind="aws_x", before=old, after=new, unknown={"arn": True, "tags": {}, "list": [{}]})
    row["change"] |= {"before_sensitive": {"token": True}, "after_sensitive": {"token": True, "set": True}}
    created = change("aws_x.z", ("create",), kind="aws_x", before=None, after={"name": "n", "none": None})
    still = change("aws_x.s", ("no-op",), kind="aws_x", before=old, after=old)

    assert differences(plan_text(row, created, still)) == (
        """
update aws_x.y
  arn: null -> (known after the apply)
  gone: 5 -> null
  list[1].k: 2 -> null
  set.p: (sensitive value)
  size: 1 -> 2
  tags.b: "2" -> "방"
  token: (sensitive value)

create aws_x.z
  name: null -> "n"
"""
    )


def test_a_resource_that_is_all_secret_shows_nothing() -> None:
    """Terraform marks it with one `true`."""
    row = change("aws_x.y", kind="aws_x", before={"a": 1}, after={"a": 2})
    row["change"] |= {"after_sensitive": True, "before_sensitive": False}

    assert differences(plan_text(row)) == "\nupdate aws_x.y\n  a: (sensitive value)\n"


def test_a_plan_s_differences_are_lines_that_no_terminal_obeys() -> None:
    """A tag's key may hold a line break or an escape sequence, and people page through this log."""
    row = {
        "address": "aws_x.y",
        "mode": "managed",
        "type": "aws_x",
        "change": {"actions": ["update"], "before": {"tags": {}}, "after": {"tags": {"a\n::b": "\x9b2J\u202e"}}},
    }

    assert differences(plan_text(row)) == ('\nupdate aws_x.y\n  tags.a\\x0a::b: null -> "\\x9b2J\\u202e"\n')
