"""Terraform's failures: a person must learn which it is, and what to do."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gpu_ami.errors import PipelineError, TerraformError, ToolError
from gpu_ami.terraform.failures import NotTaken, errors, explain, first_problem, outwaited, readable, said, wants_init
from tests.support.plans import complaint, message

# Summaries and details are those of Terraform 1.11.4.
LOCKED = complaint(
    "Error acquiring the state lock",
    "Error message: resource temporarily unavailable\nLock Info:\n"
    "  ID:        774796fc-3a97-87f3-aae5-16a55a613c0a\n  Path:      terraform.tfstate\n"
    "  Operation: OperationTypeInvalid\n  Who:       root@vm\n  Version:   1.11.4\n"
    "  Created:   2026-11-24 23:30:03.473160151 +0000 UTC\n",
)
DAMAGED = complaint(
    "Error acquiring the state lock",
    "Error message: 2 problems:\n\n- Unsupported state file format: The state file could not be parsed as JSON: syntax "
    "error at byte offset 90.",
)
DAMAGED_TO_PULL = """\
Failed to refresh state: 2 problems:

- Unsupported state file format: The state file could not be parsed as JSON: syntax error at byte offset 20.
- Unsupported state file format: The state file does not have a "version" attribute.
"""
NO_REGISTRY = complaint(
    "Failed to query available provider packages",
    "Could not retrieve the list of available versions for provider hashicorp/aws: could not connect to "
    "registry.terraform.io: no such host",
)
BACKEND = complaint(
    'Backend initialization required, please run "terraform init"',
    'Reason: Initial configuration of the requested backend "s3"\n\nThe "backend" is the interface that Terraform uses',
)
UNSET = complaint(
    "No value for required variable",
    'The root module input variable "gpu_ami_id" is not set, and has no default value.',
    range={"filename": "variables.tf", "start": {"line": 2, "column": 1, "byte": 43}},
    snippet={"context": None, "code": 'variable "gpu_ami_id" {', "start_line": 2, "values": []},
)
NO_PROVIDER = """\
{
  "format_version": "1.0",
  "valid": false,
  "diagnostics": [
    {"severity": "warning", "summary": "Deprecated", "detail": ""},
    {
      "severity": "error",
      "summary": "Missing required provider",
      "detail": "This configuration requires provider x. You may be able to install it by running:\\n  terraform init"
    }
  ]
}
"""
FLAGS = """\
Error: Failed to parse command-line flags

flag provided but not defined: -bogus

For more help on using this command, run:
  terraform plan -help
"""
SPOT, ON_DEMAND = (
    f'module.pipeline.aws_batch_compute_environment.video_analysis_gpu["{market}"]' for market in ("spot", "on_demand")
)
REFUSED = complaint(
    "creating Batch Job Queue (gpu): AccessDeniedException: no",
    at="module.pipeline.aws_batch_job_queue.video_analysis_gpu[0]",
)
MANY = message("Terraform 1.11.4", "version", ui="1.2")


def late(address: str | None = SPOT, doing: str = "update", last: str = "UPDATING") -> str:
    """Return what Terraform 1.11 prints when the provider 5.100 has waited for Batch for as long as it does."""
    return complaint(
        f"waiting for Batch Compute Environment (terraform-20261125) {doing}: timeout while waiting for state to "
        f"become 'VALID' (last state: '{last}', timeout: 20m0s)",
        at=address,
    )


@pytest.mark.parametrize(
    ("output", "kind", "texts"),
    [
        (LOCKED, TerraformError, ("774796fc-3a97-87f3-aae5-16a55a613c0a", "root@vm", "23:30", "force-unlock")),
        (complaint("Error acquiring the state lock"), TerraformError, ("is locked: wait",)),
        (DAMAGED, TerraformError, ("is damaged", "terraform.tfstate.backup")),
        (DAMAGED_TO_PULL, TerraformError, ("is damaged", "terraform.tfstate.backup")),
        (NO_REGISTRY, ToolError, ("no aws provider", "no such host", "invoke setup", "GPU_AMI_PROVIDER_MIRROR")),
        (BACKEND, TerraformError, ("-migrate-state", "-reconfigure")),
        (UNSET, TerraformError, ("invoke update-tfvars", '(variables.tf line 2): The root module input variable "gpu')),
        (complaint("Saved plan is stale"), TerraformError, ("invoke apply", "nothing was applied")),
        (complaint("creating Batch: AccessDenied"), TerraformError, ("failed: creating Batch: AccessDenied.",)),
        (FLAGS, TerraformError, ("failed: Failed to parse command-line flags: flag provided but not defined: -bogus",)),
        ("", TerraformError, ("no output",)),
        ("Error acquiring the state lock\nand that is all.\n", TerraformError, ("is locked: wait",)),
    ],
)
def test_each_failure_says_what_to_do(output: str, kind: type[PipelineError], texts: tuple[str, ...]) -> None:
    """Terraform's own text is a screen long and names no command of ours."""
    error = explain("plan", errors(MANY + output if output.startswith("{") else output), folder="terraform")

    assert type(error) is kind
    for text in texts:
        assert text in str(error)
    assert "\n" not in str(error)


def test_a_hand_over_that_terraform_does_not_take_is_said_so() -> None:
    """That the AMI comes from `invoke update-tfvars` was said to people who had just run it."""
    not_taken = NotTaken(variable="gpu_ami_id", advice="Name it in TF_CLI_ARGS_plan.")
    found = errors(UNSET)

    said_of_it = str(explain("plan", found, folder="x", not_taken=not_taken))
    assert said_of_it.endswith("no default value. Name it in TF_CLI_ARGS_plan.")
    other = replace(not_taken, variable="other")
    assert "update-tfvars" in str(explain("plan", found, folder="x", not_taken=other))


OF_INIT = (
    "Error parsing command-line flags: flag provided but not defined: -lock-timeout\n\nUsage: terraform fmt\n\n  x\n"
)


@pytest.mark.parametrize(
    ("output", "variables", "texts"),
    [
        (FLAGS, ["TF_CLI_ARGS_plan"], ["failed: flag provided but not defined: -bogus. TF_CLI_ARGS_plan in the"]),
        (OF_INIT, ["TF_CLI_ARGS"], ["not defined: -lock-timeout. TF_CLI_ARGS in the environment changes that command"]),
        (complaint("No"), ["TF_CLI_ARGS", "TF_CLI_ARGS_plan"], ["No. TF_CLI_ARGS and TF_CLI_ARGS_plan in the"]),
        (complaint("No"), ["TF_CLI_ARGS_apply"], []),
        (complaint("Saved plan is stale"), ["TF_CLI_ARGS"], []),
    ],
)
def test_what_the_environment_adds_to_a_command_that_failed_is_named(
    output: str, variables: list[str], texts: list[str]
) -> None:
    """Nobody looks for it there: the command that is shown has no such flag. By name, as a value may be a secret."""
    environment = dict.fromkeys(variables, "-var=key=hunter2")

    said = str(explain("plan", errors(output), folder="terraform", environment=environment))

    assert ("TF_CLI_ARGS" in said) is bool(texts)
    assert all(text in said for text in texts), said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("outputs", "problem"),
    [
        ((NO_PROVIDER, ""), "Missing required provider: This configuration requires provider x"),
        ((complaint("careful", severity="warning"), "Error: Not that\n\nThis.\n"), "Not that: This"),
        ((complaint("this"), "Error: not that\n"), "this"),
        ((MANY + "panic: runtime error\n", ""), "panic: runtime error"),
        ((MANY + message("x: Still modifying..."), ""), "x: Still modifying"),
        ((complaint("Two lines\n\nthat are one", "a\nb\n\nc"),), "Two lines that are one: a b"),
        (("null\n7\n[]\n",), "[]"),
    ],
)
def test_the_first_error_is_found_in_every_form(outputs: tuple[str, ...], problem: str) -> None:
    """A failure before the flags are read, and a crash, come without JSON; `validate` prints one document."""
    assert first_problem(errors(*outputs)).startswith(problem)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (NO_PROVIDER, True),
        (
            complaint("Inconsistent dependency lock file", "To make the initial selections, run:\n  terraform init"),
            True,
        ),
        (BACKEND, True),
        (message("run terraform init some day") + complaint("AccessDenied"), False),
        (complaint("run terraform init", severity="warning"), False),
    ],
)
def test_only_an_error_asks_for_init(output: str, expected: bool) -> None:
    """It takes seconds, and with a far backend longer."""
    assert wants_init(errors(output)) is expected


@pytest.mark.parametrize(
    ("output", "addresses"),
    [
        (late(), {SPOT}),
        (message(f"{SPOT}: Still modifying... [19m50s elapsed]") + late() + late(ON_DEMAND), {SPOT, ON_DEMAND}),
        (complaint("Deprecated", severity="warning", at="x.y") + late(), {SPOT}),
        (late(last="CREATING", doing="create"), set()),
        (late(doing="delete"), set()),
        (late(last="INVALID"), set()),
        (late() + REFUSED, set()),
        (REFUSED + late(), set()),
        (late(None), set()),
        (late() + late(None), set()),
        (message("Apply complete!"), set()),
    ],
)
def test_an_update_that_goes_on_is_known_from_a_failure(output: str, addresses: set[str]) -> None:
    """Batch carries it on: with any other error, or where nobody knows which it is, the apply has failed."""
    assert outwaited(errors(output)) == addresses


def test_among_several_errors_the_graver_one_is_told() -> None:
    """That an update takes long is no reason to look into."""
    assert "creating Batch Job Queue" in str(explain("apply", errors(late() + REFUSED), folder="terraform"))
    assert "timeout while waiting" in str(explain("apply", errors(late()), folder="terraform"))


def test_progress_is_what_terraform_says() -> None:
    """The line that counts the seconds shows it; a line of another form is shown as it is."""
    progress = message(f"{SPOT}: Still modifying... [10s elapsed]", "apply_progress", hook={"elapsed_seconds": 10})

    assert said(progress) == f"{SPOT}: Still modifying... [10s elapsed]"
    assert said("Killed") == "Killed"


def test_the_log_reads_as_terraforms_own() -> None:
    """Whoever looks into a failure reads it there: location, code, reason and outputs included, and no secret."""
    location = {"filename": "main.tf", "start": {"line": 22, "column": 1, "byte": 9}}
    code = {"context": 'resource "aws_batch_job_queue" "gpu"', "code": "  a = [\n    1]", "start_line": 22}
    outputs = {"ids": {"sensitive": False, "value": ["방"]}, "token": {"sensitive": True}}
    output = (
        message("Terraform 1.11.4")
        + "not JSON\n"
        + complaint("No", "One.\n\nTwo.", at=SPOT, range=location, snippet=code)
        + message("Outputs: 2", "outputs", outputs=outputs)
        + message("Outputs: 1", "outputs", outputs={"ids": {"sensitive": False, "action": "update"}})
        + complaint("Careful", severity="warning")
    )

    assert readable(output) == (
        f"""\
Terraform 1.11.4
not JSON

Error: No

  with {SPOT},
  on main.tf line 22, in resource "aws_batch_job_queue" "gpu":
  22:   a = [
  23:     1]

One.

Two.


Outputs: 2
  ids = ["방"]
  token = (sensitive value)

Outputs: 1
  ids: update

Warning: Careful

"""
    )


def test_what_is_no_message_is_kept() -> None:
    """A field that a later Terraform gives another form must not hide the line."""
    strange = json.dumps({"@message": 5})

    assert readable(f"{strange}\n") == f"{strange}\n"


def test_a_log_is_shown_and_not_obeyed() -> None:
    """Terraform repeats tags and names of AWS; a log is paged through in a terminal."""
    output = message("aws_x.y: \x1b[2J\x9b\u202e") + "plain \x9b2J\n"

    assert readable(output) == "aws_x.y: \\x1b[2J\\x9b\\u202e\nplain \\x9b2J\n"


def test_a_last_line_that_is_a_whole_document_is_not_repeated_whole() -> None:
    """A plan that was cut short is one line of JSON, with secrets in it."""
    found = errors('{"planned_values": "' + "hunter2 " * 5_000)

    assert len(first_problem(found)) <= 400
