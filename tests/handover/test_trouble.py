"""Terraform's failures: a person must learn which it is, and what to do."""

from __future__ import annotations

import pytest

from gpu_ami.errors import PipelineError, TerraformError, ToolError
from gpu_ami.handover.trouble import explain

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
NO_REGISTRY = """
Error: Failed to query available provider packages

Could not retrieve the list of available versions for provider hashicorp/aws:
could not connect to registry.terraform.io: no such host
"""


@pytest.mark.parametrize(
    ("output", "kind", "words"),
    [
        (LOCKED, TerraformError, ("774796fc-3a97-87f3-aae5-16a55a613c0a", "root@vm", "23:30", "force-unlock")),
        ("Error: Error acquiring the state lock\n", TerraformError, ("is locked: wait",)),
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
