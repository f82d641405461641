"""Terraform's failures: a person must learn which it is, and what to do."""

from __future__ import annotations

import pytest

from gpu_ami.errors import PipelineError, TerraformError, ToolError
from gpu_ami.handover.trouble import explain, outwaited

LOCKED = """
Error: Error acquiring the state lock

Error message: resource temporarily unavailable
Lock Info:
  ID:        774796fc-3a97-87f3-aae5-16a55a613c0a
  Path:      terraform.tfstate
  Operation: OperationTypeInvalid
  Who:       root@vm
  Version:   1.11.4
  Created:   2026-11-24 23:30:03.473160151 +0000 UTC
"""
MARKETS = ("spot", "on_demand")
NO_REGISTRY = """
Error: Failed to query available provider packages

Could not retrieve the list of available versions for provider hashicorp/aws:
could not connect to registry.terraform.io: no such host
"""

# What Terraform 1.11 prints over a state file that was cut off.
DAMAGED = """
Error: Error acquiring the state lock

Error message: 2 problems:

- Unsupported state file format: The state file could not be parsed as JSON:
syntax error at byte offset 90.
"""

SPOT, ON_DEMAND = (
    f'module.pipeline.aws_batch_compute_environment.video_analysis_gpu["{market}"]' for market in MARKETS
)
REFUSED = """
Error: creating Batch Job Queue (gpu): AccessDeniedException: no

  with module.pipeline.aws_batch_job_queue.video_analysis_gpu[0],
"""


def late(address: str = SPOT, doing: str = "update", last: str = "UPDATING") -> str:
    """Return what Terraform 1.11 prints when the provider 5.100 has waited for Batch for as long as it does."""
    return f"""
Error: waiting for Batch Compute Environment (terraform-20261125) {doing}: timeout while waiting for state to \
become 'VALID' (last state: '{last}', timeout: 20m0s)

  with {address},
  on modules/pipeline/batch-video-analysis-gpu.tf line 22, in resource "aws_batch_compute_environment" "x":
  22: resource "aws_batch_compute_environment" "x" {{

"""


@pytest.mark.parametrize(
    ("output", "kind", "words"),
    [
        (LOCKED, TerraformError, ("774796fc-3a97-87f3-aae5-16a55a613c0a", "root@vm", "23:30", "force-unlock")),
        ("Error: Error acquiring the state lock\n", TerraformError, ("is locked: wait",)),
        (DAMAGED, TerraformError, ("is damaged", "terraform.tfstate.backup")),
        (NO_REGISTRY, ToolError, ("no aws provider", "invoke setup", "GPU_AMI_PROVIDER_MIRROR")),
        ("Error: Backend configuration changed\n", TerraformError, ("-migrate-state", "-reconfigure")),
        ("Error: No value for required variable\n", TerraformError, ("invoke update-tfvars",)),
        ("Error: Saved plan is stale\n", TerraformError, ("invoke apply", "nothing was applied")),
        ("Error: creating Batch: AccessDenied\n", TerraformError, ("AccessDenied",)),
        ("", TerraformError, ("no output",)),
    ],
)
def test_each_failure_says_what_to_do(output: str, kind: type[PipelineError], words: tuple[str, ...]) -> None:
    """Terraform's own text is a screen long and names no command of ours."""
    error = explain("plan", output, folder="terraform")

    assert type(error) is kind
    for word in words:
        assert word in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("output", "addresses"),
    [
        (late(), {SPOT}),
        (f"{SPOT}: Still modifying... [19m50s elapsed]\n{late()}{late(ON_DEMAND)}", {SPOT, ON_DEMAND}),
        (f"╷\n│ {late().strip()}\n│\n╵\n".replace("\n  ", "\n│   "), {SPOT}),
        (f"\nWarning: Deprecated\n\n  with x.y,\n{late()}", {SPOT}),
        (late(last="CREATING", doing="create"), set()),
        (late(doing="delete"), set()),
        (late(last="INVALID"), set()),
        (late() + REFUSED, set()),
        (REFUSED + late(), set()),
        (late().split("  with")[0], set()),
        ("Apply complete!\n", set()),
    ],
)
def test_an_update_that_goes_on_is_known_from_a_failure(output: str, addresses: set[str]) -> None:
    """Batch carries it on: with any other error, or where nobody knows which it is, the apply has failed."""
    assert outwaited(output) == addresses


def test_among_several_errors_the_graver_one_is_told() -> None:
    """That an update takes long is no reason to look into."""
    assert "creating Batch Job Queue" in str(explain("apply", late() + REFUSED, folder="terraform"))
    assert "timeout while waiting" in str(explain("apply", late(), folder="terraform"))
