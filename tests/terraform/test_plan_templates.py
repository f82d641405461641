"""The rate that a plan gives an environment's volumes, wherever in the plan it is said."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.terraform import plan_file
from gpu_ami.terraform.plan_changes import EnvironmentChange
from gpu_ami.terraform.plan_templates import PlannedRate, Start
from tests.support import plans

RATE, NONE = Start(rate=PlannedRate(300)), Start(rate=PlannedRate(None))
NEW = {"compute_resources": [{"launch_template": [{"launch_template_id": True, "version": True}]}]}
NEW_VERSION = {"compute_resources": [{"launch_template": [{"version": True}]}]}


def environment(version: str | None = "1", *, id: str | None = "lt-1", **more: Any) -> dict[str, Any]:
    """Return the row of an environment with a launch template."""
    block = [{"launch_template_id": id, "launch_template_name": "", "version": version}]
    return plans.change(after=plans.values(plans.B, launch_template=block), before=plans.values(plans.A), **more)


def start(*rows: dict[str, Any], **more: Any) -> Start:
    """Return what a plan of *rows* says of its environment."""
    (found,) = plan_file.read(plans.plan_text(*rows, **more), "gpu_ami_id").environments
    assert isinstance(found, EnvironmentChange)
    return found.start


def update(rate: int | None) -> dict[str, Any]:
    """Return the row of a template that changes from 300 MiB/s to *rate*: which version that makes is not known."""
    row = plans.template(rate, actions=("update",), before=plans.template()["change"]["after"])
    del row["change"]["after"]["latest_version"]
    row["change"]["after_unknown"] = {"latest_version": True}
    return row


def made(rate: int | None = 300, name: str = "gpu", **marks: Any) -> dict[str, Any]:
    """Return the row of a template that is made."""
    row = plans.template(rate, actions=("create",), before=None, id=None, unknown={"id": True} | marks)
    return row | {"name": name, "address": f"aws_launch_template.{name}"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((environment(), plans.template()), RATE),
        ((environment(), plans.template(None)), NONE),
        # The provider's state has 0 where none was set.
        ((environment(), plans.template(0)), NONE),
        ((environment("$Latest"), plans.template()), RATE),
        ((environment(None), plans.template()), RATE),
        ((environment("$Default"), plans.template()), RATE),
        ((environment(unknown=NEW_VERSION), update(None)), NONE),
        ((environment(unknown=NEW_VERSION), update(200)), Start(rate=PlannedRate(200))),
        ((environment(None, id=None, unknown=NEW), made()), RATE),
        ((environment(None, id=None, unknown=NEW), made(), made(name="other")), RATE),
        ((environment(None, id=None, unknown=NEW), made(), made(200, name="other")), Start()),
        ((environment(None, id=None, unknown=NEW), made(None, block_device_mappings=True)), Start()),
        # The provider's way to say that the configuration gives none, and leaves it to EC2.
        (
            (
                environment(None, id=None, unknown=NEW),
                made(None, block_device_mappings=[{"ebs": [{"iops": True, "volume_initialization_rate": True}]}]),
            ),
            NONE,
        ),
        ((environment(None, id=None, unknown={"compute_resources": True}),), Start()),
        # What is pinned to an older version, or made elsewhere, EC2 has to say.
        ((environment("1"), update(200)), Start(template=("lt-1", "1"))),
        ((environment("3"), plans.template()), Start(template=("lt-1", "3"))),
        ((environment(None, id="lt-2"), plans.template()), Start(template=("lt-2", "$Default"))),
        ((environment(id="lt-2", unknown=NEW_VERSION),), Start()),
        ((plans.change(before=plans.values(), after=plans.values(launch_template=[])), plans.template()), NONE),
        ((environment(), plans.template(deposed="0a1b2c3d")), Start(template=("lt-1", "1"))),
    ],
)
def test_the_rate_is_found_where_it_is(rows: tuple[dict[str, Any], ...], said: Start) -> None:
    """A record of another rate must not pass for it; what the plan does not say is not guessed."""
    assert start(*rows) == said


def test_of_several_new_templates_the_configuration_names_the_one() -> None:
    """Ids come with the apply; what the environment refers to is in the plan all the same."""
    reference = {"references": ["aws_launch_template.gpu.id", "aws_launch_template.gpu"]}
    row = environment(None, id=None, unknown=NEW) | {"address": "aws_batch_compute_environment.x", "name": "x"}
    resource = {
        "mode": "managed",
        "type": "aws_batch_compute_environment",
        "name": "x",
        "expressions": {"compute_resources": [{"launch_template": [{"launch_template_id": reference}]}]},
    }
    configuration = {"root_module": {"resources": [resource]}}

    assert start(row, made(), made(100, name="other"), configuration=configuration) == RATE
