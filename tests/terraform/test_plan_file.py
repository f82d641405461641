"""Terraform's plan as we read it: what is misread here is applied."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpu_ami.errors import TerraformError
from gpu_ami.terraform.plan_file import differences, read
from tests.support.plans import ARN, CLUSTER, ON_DEMAND, QUEUE, SPOT, A, B, change, document, move, plan_text, values


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

    assert plan.count() == {"create": 1, "update": 0, "replace": 0, "delete": 1}
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
