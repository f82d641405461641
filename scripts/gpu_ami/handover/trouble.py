"""What Terraform says when it fails, turned into the one line that helps."""

from __future__ import annotations

import re

from gpu_ami.diagnostics import errors, first_problem
from gpu_ami.errors import PipelineError, TerraformError, ToolError

_LOCKED = "Error acquiring the state lock"
# Terraform reads the state as it takes the lock, so it calls a damaged one a matter of locks.
_DAMAGED = "Unsupported state file format"
_LOCK_ID = re.compile(r"^[\s│|]*ID:\s+(\S+)", re.MULTILINE)
_LOCK_WHO = re.compile(r"^[\s│|]*Who:\s+(\S+)", re.MULTILINE)
_LOCK_SINCE = re.compile(r"^[\s│|]*Created:\s+(\d{4}-\d{2}-\d{2} \d{2}:\d{2})", re.MULTILINE)
# The provider asks Batch for 20 minutes, which cannot be set, and then calls an update that goes on a failure.
_OUTWAITED = re.compile(
    r"Error: .*\bwaiting for Batch Compute Environment \([^)]*\) update: timeout while waiting for state to become "
    r"'VALID' \(last state: 'UPDATING'"
)
_ADDRESS = re.compile(r"^with (\S.*),$", re.MULTILINE)
_NO_PROVIDER = (
    "Failed to query available provider packages",
    "Could not retrieve the list of available versions",
    "Failed to install provider",
    "Required plugins are not installed",
)
_BACKEND = (
    "Backend configuration changed",
    "Backend initialization required",
    "Backend configuration block has changed",
)


def explain(word: str, output: str, *, folder: str) -> PipelineError:
    """Return the error that Terraform's *output* amounts to.

    Args:
        word: The command of Terraform's that failed, such as ``plan``.
        output: All that it printed.
        folder: The root module's folder, as a person would type it.
    """
    doing = f"terraform {word}"
    if _DAMAGED in output:
        return TerraformError(
            f"`{doing}`: the Terraform state of {folder} is damaged (not JSON, or cut off): put back "
            "terraform.tfstate.backup, or the version before in the bucket."
        )
    if _LOCKED in output:
        return TerraformError(_locked(output, folder))
    if any(words in output for words in _NO_PROVIDER):
        problem = first_problem(output)
        return ToolError(
            f"`{doing}` found no aws provider ({problem}): `invoke setup` says where a local mirror is looked for; "
            "without one the registry must be reachable. GPU_AMI_PROVIDER_MIRROR names another mirror."
        )
    if any(words in output for words in _BACKEND):
        return TerraformError(
            f"`{doing}`: the backend of {folder} changed: run `terraform init -migrate-state` there to take the state "
            "along, or `terraform init -reconfigure` to leave it."
        )
    if "No value for required variable" in output:
        return TerraformError(
            f"`{doing}` refuses: {first_problem(output)}. Set it in {folder}/terraform.tfvars; the AMI's comes from "
            "`invoke update-tfvars`."
        )
    if "Saved plan is stale" in output:
        return TerraformError(
            f"`{doing}`: the state changed since the plan was made, so nothing was applied: run `invoke apply` again."
        )
    # An update that only takes long is never the reason when there is another one.
    graver = next((each for each in errors(output) if not _OUTWAITED.match(each)), output)
    return TerraformError(f"`{doing}` failed: {first_problem(graver)}.")


def outwaited(output: str) -> frozenset[str]:
    """Return the addresses of the updates that Batch still carried out when the provider stopped waiting.

    Empty unless every error in *output* is of this kind.
    """
    found = errors(output)
    addresses = [_ADDRESS.search(each) for each in found if _OUTWAITED.match(each)]
    if len(addresses) < len(found):
        return frozenset()
    known = [match[1] for match in addresses if match]
    return frozenset(known) if len(known) == len(found) else frozenset()


def _locked(output: str, folder: str) -> str:
    found = [pattern.search(output) for pattern in (_LOCK_ID, _LOCK_WHO, _LOCK_SINCE)]
    lock, who, since = (match[1] if match else None for match in found)
    holder = f" by {who}" if who else ""
    moment = f" since {since} UTC" if since else ""
    if lock is None:
        return f"The Terraform state of {folder} is locked{holder}{moment}: wait for the other run to end."
    return (
        f"The Terraform state of {folder} is locked{holder}{moment} (lock {lock}): wait for that run. Only when it is "
        f"surely dead, run `terraform force-unlock {lock}` there."
    )
