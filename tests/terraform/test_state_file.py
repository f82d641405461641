"""Terraform's state as we read it: which environments are ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpu_ami.errors import TerraformError
from gpu_ami.terraform import state_file

A = "ami-0123456789abcdef0"


def _state(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"version": 4, "resources": list(resources)}


def _resource(kind: str, *instances: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"mode": "managed", "type": kind, "name": "gpu", "instances": list(instances)} | more


def _environment(name: str, **more: Any) -> dict[str, Any]:
    resources = {
        "ec2_configuration": [{"image_id_override": A}],
        "launch_template": [{"launch_template_id": "lt-1"}],
    }
    return {"attributes": {"compute_environment_name": name, "compute_resources": [resources | more]}}


def test_environments_with_their_addresses() -> None:
    """The same addresses as in the plan, or receipts would be about two different things."""
    kind = "aws_batch_compute_environment"
    state = _state(
        _resource(kind, {**_environment("a"), "index_key": "spot"}, module="module.pipeline"),
        _resource(kind, {**_environment("b"), "index_key": 0}, module='module.x["y"]'),
        _resource(kind, _environment("c"), {**_environment("old"), "deposed": "1"}),
        _resource(kind, _environment("data"), mode="data"),
    )

    found = state_file.environments(state)

    assert [
        (environment.address, environment.name, environment.ami_id, environment.template_id) for environment in found
    ] == [
        (f'module.pipeline.{kind}.gpu["spot"]', "a", A, "lt-1"),
        (f'module.x["y"].{kind}.gpu[0]', "b", A, "lt-1"),
        (f"{kind}.gpu", "c", A, "lt-1"),
    ]


def test_providers_differ_in_the_names_attribute() -> None:
    """compute_environment_name before 6, name since; the ARN says it too."""
    six: dict[str, Any] = {"attributes": {"name": "a", "compute_resources": []}}
    bare: dict[str, Any] = {"attributes": {"arn": "arn:aws:batch:r:1:compute-environment/b"}}

    found = state_file.environments(_state(_resource("aws_batch_compute_environment", six, bare)))

    assert [(environment.name, environment.ami_id, environment.template_id) for environment in found] == [
        ("a", None, None),
        ("b", None, None),
    ]


def test_the_old_image_field_and_none() -> None:
    """Without an override the field from before it counts; without both Batch chooses."""
    kind = "aws_batch_compute_environment"
    old = _environment("a", ec2_configuration=[{"image_id_override": ""}], image_id=A)
    none = _environment("b", ec2_configuration=[], image_id="")

    assert [environment.ami_id for environment in state_file.environments(_state(_resource(kind, old, none)))] == [
        A,
        None,
    ]


def test_two_image_types_and_what_takes_no_ami() -> None:
    """The same reader as of plans and of Batch: a CPU type before ours hides nothing."""
    kind = "aws_batch_compute_environment"
    blocks = [
        {"image_type": "ECS_AL2023", "image_id_override": "ami-00000001"},
        {"image_type": "ECS_AL2023_NVIDIA", "image_id_override": A},
    ]
    two = _environment("two", ec2_configuration=blocks)
    fargate = _environment("fargate", type="FARGATE", ec2_configuration=[])

    found = state_file.environments(_state(_resource(kind, two, fargate)))

    assert [(one.ami_id, one.kind) for one in found] == [(A, "EC2"), (None, "FARGATE")]
    assert found[0].images.overrides == {"ECS_AL2023": "ami-00000001", "ECS_AL2023_NVIDIA": A}


def test_rates_and_definitions() -> None:
    """What status compares with AWS."""
    rated = {"attributes": {"id": "lt-1", "block_device_mappings": [{"ebs": [{"volume_initialization_rate": 300}]}]}}
    plain = {"attributes": {"id": "lt-2", "block_device_mappings": [{"ebs": [{"volume_initialization_rate": 0}]}]}}
    bare: dict[str, Any] = {"attributes": {"id": "lt-3", "block_device_mappings": None}}
    state = _state(
        _resource("aws_launch_template", rated, plain, bare),
        _resource("aws_batch_job_definition", {"attributes": {"name": "video"}}),
    )

    assert state_file.rates(state) == {"lt-1": 300}
    assert state_file.job_definitions(state) == ("video",)


def test_an_empty_state_has_nothing() -> None:
    """Before the first apply."""
    assert state_file.environments({}) == ()
    assert state_file.environments(_state()) == ()


@pytest.mark.parametrize(
    "state",
    [
        {"version": 3},
        {"version": 5, "resources": []},
        {"resources": []},
        {"version": 4},
        _state({"mode": "managed"}),
        _state(_resource("aws_batch_compute_environment", {})),
        {"version": 4, "resources": [None]},
    ],
)
def test_a_state_that_makes_no_sense_is_refused(state: dict[str, Any]) -> None:
    """Finding nothing in it would look like an empty account."""
    with pytest.raises(TerraformError, match="state"):
        state_file.environments(state)


def test_strings_that_are_no_secrets_are_taken() -> None:
    """A list or null is no value for Packer, and a secret must not land in a file."""
    document = {
        "subnet_id": {"value": "subnet-1", "type": "string", "sensitive": False},
        "empty": {"value": "", "type": "string"},
        "arns": {"value": {"spot": "arn"}, "type": ["map", "string"], "sensitive": False},
        "nothing": {"value": None, "type": "string", "sensitive": False},
        "secret": {"value": "hunter2", "type": "string", "sensitive": True},
    }

    assert state_file.parse_outputs(json.dumps(document)) == {"subnet_id": "subnet-1", "empty": ""}


@pytest.mark.parametrize("text", ["", "Warning: no outputs", "[]", '{"a": 1}', '{"a": {}}', "[" * 100_000, "null"])
def test_anything_else_is_refused(text: str) -> None:
    """Half-understood outputs would end in half a file."""
    with pytest.raises(TerraformError, match="which are no outputs"):
        state_file.parse_outputs(text)
