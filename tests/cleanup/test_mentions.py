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

# A text of each kind, and the source that reads it.
SEEN_BY = {
    "stack_parameter": "stacks",
    "lambda_variable": "lambda-functions",
    "state_machine": "state-machines",
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


# What a source reads of single things, the use that makes it do so, how an error calls the thing, and AWS's word when
# it is gone.
READS = {
    "states:DescribeStateMachine": ("state_machine", "state machine reprocess: ", "StateMachineDoesNotExist"),
    # It has no code for that: what the machine itself says counts (tests/aws/references/test_texts.py).
    "states:ListStateMachineVersions": ("state_machine", "state machine reprocess: ", ""),
    "scheduler:GetSchedule": ("schedule_input", "schedule nightly: ", "ResourceNotFoundException"),
    "ssm:DescribeMaintenanceWindowTasks": (
        "maintenance_window_task",
        "maintenance window patching: ",
        "DoesNotExistException",
    ),
    "ssm:GetMaintenanceWindowTask": (
        "maintenance_window_task",
        "maintenance window patching task ",
        "DoesNotExistException",
    ),
}


# A page in the place of one of these is no error to botocore: it leaves all members out.
SILENT = ("states:DescribeStateMachine", "scheduler:GetSchedule", "ssm:GetMaintenanceWindowTask")


@pytest.mark.parametrize(
    ("action", "fault"), [*((action, "denied") for action in READS), *((action, "login page") for action in SILENT)]
)
def test_a_text_that_cannot_be_read_keeps_everything_and_is_named(here: World, action: str, fault: str) -> None:
    """Its listing came; of the thing itself nobody knows what it mentions."""
    use, who, _ = READS[action]
    service, _, operation = action.partition(":")
    here.newest()
    here.in_use()
    image, unused = here.image(), here.image(250)
    (USES | RARE_USES)[use](here.maker, image)
    assert selected(here.plan()) == {unused.id}
    if fault == "denied":
        here.aws.gate.deny(action)
    else:
        here.aws.gate.reply(b"<html>log in</html>", service=service, action=operation)

    plan = here.plan()

    assert selected(plan) == set()
    (failed,) = [report for report in plan.reports if report.status == "failed"]
    assert failed.name == SEEN_BY[use]
    assert who in str(failed.error)
    assert (action if fault == "denied" else "cut off") in str(failed.error)


@pytest.mark.parametrize("action", [action for action, (_, _, code) in READS.items() if code])
def test_what_is_gone_between_list_and_read_is_no_failure(here: World, action: str) -> None:
    """Schedules and machines come and go; what is deleted needs nothing any more."""
    use, _, code = READS[action]
    service, _, operation = action.partition(":")
    here.newest()
    here.in_use()
    image = here.image()
    (USES | RARE_USES)[use](here.maker, image)
    here.aws.gate.fail(code, service=service, action=operation)

    plan = here.plan()

    assert plan.decision.blocks == ()
    assert selected(plan) == {image.id}


def test_a_key_that_throttles_is_waited_for(here: World) -> None:
    """Step Functions passes on what KMS says; a busy key is no missing permission."""
    here.newest()
    here.in_use()
    image, unused = here.image(), here.image(250)
    USES["state_machine"](here.maker, image)
    here.aws.gate.fail("KmsThrottlingException", action="DescribeStateMachine", at=1)

    plan = here.plan()

    assert plan.decision.blocks == ()
    assert selected(plan) == {unused.id}


def test_a_key_that_may_not_be_used_keeps_everything(here: World, tmp_path: Path) -> None:
    """The line names the machine and both ways out; left out, the source no longer stops anything."""
    here.newest()
    here.in_use()
    image = here.image()
    USES["state_machine"](here.maker, image)
    here.aws.gate.fail("KmsAccessDeniedException", "no kms:Decrypt on key/1", action="DescribeStateMachine")

    with pytest.raises(SafetyError, match=r"state machine reprocess: .*KmsAccessDeniedException") as caught:
        cleanup.run(task(here, tmp_path).run, Request(flags=FLAGS))
    assert "Allow kms:Decrypt on its key" in str(caught.value)
    skipping = dataclasses.replace(FLAGS, skip_source=("state-machines",))
    cleanup.run(task(here, tmp_path).run, Request(flags=skipping))
