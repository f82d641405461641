"""Mentions in texts keep their AMIs and prove nothing; what they stand in is shown nowhere."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.cleanup import cleanup
from gpu_ami.cleanup.cleanup import Request
from gpu_ami.cleanup.policy import Flags
from gpu_ami.errors import SafetyError
from gpu_ami_sandbox.aws.held import things
from gpu_ami_sandbox.demo.rare_uses import RARE_USES
from gpu_ami_sandbox.demo.uses import USES
from tests.support.account import EVERYTHING, OTHER_REGION, REGION, World, other_region, reasons, selected, task

# Each way in which a text mentions an AMI, and the source that reads it.
SEEN_BY = {
    "stack_parameter": "stacks",
    "stack_resolved_parameter": "stacks",
    "stack_output": "stacks",
    "lambda_variable": "lambda-functions",
    "lambda_published_version": "lambda-functions",
    "state_machine": "state-machines",
    "state_machine_version": "state-machines",
    "schedule_input": "schedules",
    "maintenance_window_task": "maintenance-windows",
}
SECRET = "hunter2-the-password"
FLAGS = Flags(older_than="30d", keep="1")


@pytest.mark.parametrize("use", SEEN_BY)
def test_a_mention_is_no_proof_that_uses_are_seen(here: World, use: str) -> None:
    """EC2 and Batch show nothing, as to blind credentials; what a text says keeps its AMI and nothing is deleted."""
    here.newest()
    mentioned, unused = here.image(), here.image(250)
    (USES | RARE_USES)[use](here.maker, mentioned)

    quiet = here.plan()
    believed = here.plan(dataclasses.replace(EVERYTHING, allow_no_references=True))
    seen = here.in_use()
    lively = here.plan()

    assert "nothing at all was found that needs any AMI" in quiet.decision.blocks[0]
    assert selected(quiet) == set()
    for plan in (quiet, believed, lively):
        assert set(reasons(plan, mentioned.id)) - {"blocked"} == {SEEN_BY[use]}
    # With the one use that is seen, and the same mention, the unused one goes.
    assert selected(believed) == selected(lively) == {unused.id}
    assert "parameters" in reasons(lively, seen.id)


def test_with_nothing_but_a_mention_cleanup_refuses(here: World, tmp_path: Path) -> None:
    """Exit code 8, although an AMI was found to be mentioned."""
    here.newest()
    image, unused = here.image(), here.image(250)
    USES["stack_parameter"](here.maker, image)

    with pytest.raises(SafetyError, match="--allow-no-references"):
        cleanup.run(task(here, tmp_path).run, Request(flags=FLAGS, yes=True, permanent=True))

    assert {image.id, unused.id} <= here.there()


def test_masked_parameters_are_said_once_in_a_run(here: World, tmp_path: Path) -> None:
    """Stacks of two regions have some; a plan is no place to name each."""
    here.newest()
    here.in_use()
    for maker in (here.maker, other_region(here)):
        for name in ("a", "b"):
            maker.stack(name, Parameters=[{"ParameterKey": "Password", "ParameterValue": "****"}])
    both = (f"{REGION},{OTHER_REGION}",)
    done, asked = task(here, tmp_path, output="table"), task(here, tmp_path)

    for one in (done, asked):
        cleanup.run(one.run, Request(flags=FLAGS, regions=both))

    stacks = [row for row in asked.document["sources"] if row["name"] == "stacks"]
    assert [(row["status"], len(row["notes"])) for row in stacks] == [("ok", 1), ("ok", 1)]
    assert done.out.getvalue().count("NoEcho") == 1


def _with_secrets(here: World, image_id: str) -> None:
    """Let each kind of text hold the secret beside an AMI id."""
    make = here.maker
    values = [("Image", image_id), ("Password", SECRET)]
    make.stack(
        "s",
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in values],
        Outputs=[{"OutputKey": key, "OutputValue": f"{value} {SECRET}"} for key, value in values],
    )
    make.function("f", {"AMI": f"{image_id} {SECRET}", "PASSWORD": SECRET})
    definition = make.definition(image_id).replace("Launch", f"Launch {SECRET}")
    make.state_machine("m", definition, {"1": definition})
    for name in ("schedule_input", "maintenance_window_task"):
        RARE_USES[name](make, here.image(400))
    (schedule,) = things(here.account, REGION, "scheduler", "GetSchedule").values()
    schedule["Target"]["Input"] = json.dumps({"ImageId": image_id, "Token": SECRET})
    (window,) = make.ssm.windows.values()
    (window_task,) = window.tasks.values()
    window_task.task_invocation_parameters["Automation"]["Parameters"] = {"A": [f"{image_id} {SECRET}"]}


def test_no_value_is_shown_or_written_down(here: World, tmp_path: Path) -> None:
    """Variables and definitions hold passwords; plan, journal and output name where an id stands, and the id."""
    here.newest()
    here.in_use()
    image, unused = here.image(), here.image(250)
    _with_secrets(here, image.id)
    plan = tmp_path / "plan.json"
    done: list[Any] = []
    for request in (
        Request(flags=FLAGS, plan=str(plan), wide=True),
        Request(flags=FLAGS, yes=True, permanent=True, all=True),
    ):
        done.append(task(here, tmp_path))
        cleanup.run(done[-1].run, request)

    sources = {reason["code"] for v in done[0].document["verdicts"] for reason in v["reasons"]}
    assert {"stacks", "lambda-functions", "state-machines", "schedules", "maintenance-windows"} <= sources
    assert unused.id not in here.there()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert plan in files
    assert any(path.suffix == ".jsonl" for path in files)
    shown = [one.out.getvalue() + one.err.getvalue() for one in done]
    assert not [text for text in [*shown, *(path.read_text() for path in files)] if SECRET in text]


def test_no_value_is_shown_by_a_failure(here: World, tmp_path: Path) -> None:
    """A definition that is cut off is not quoted, nor is what stands beside a value that is missing."""
    here.newest()
    here.in_use()
    image = here.image()
    _with_secrets(here, image.id)
    described = things(here.account, REGION, "states", "DescribeStateMachine")
    for machine in described.values():
        machine["definition"] = machine["definition"][:-1]
    here.maker.stack("cut", Parameters=[{"ParameterKey": "Key"}, {"ParameterKey": "P", "ParameterValue": SECRET}])
    done = task(here, tmp_path)

    with pytest.raises(SafetyError) as caught:
        cleanup.run(done.run, Request(flags=FLAGS, yes=True, permanent=True))

    failed = {row["name"]: row["error"] for row in done.document["sources"] if row["status"] == "failed"}
    assert set(failed) == {"stacks", "state-machines"}
    assert failed["stacks"].startswith("stack cut: parameter Key")
    assert failed["state-machines"].startswith("state machine m")
    assert SECRET not in str(caught.value) + done.out.getvalue() + done.err.getvalue()
    assert image.id in here.there()
