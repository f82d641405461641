"""Refuses to apply an AMI that no verification vouches for, where the settings want one first."""

from __future__ import annotations

from collections.abc import Iterable

from gpu_ami.aws import images
from gpu_ami.aws.caller import Caller
from gpu_ami.errors import SafetyError
from gpu_ami.invocation import Invocation
from gpu_ami.records import verification
from gpu_ami.terraform.plan_changes import EnvironmentChange


def check(run: Invocation, ami_id: str | None, changes: Iterable[EnvironmentChange]) -> None:
    """Refuse to move an environment to an AMI without a verification that fits it.

    Without `verify.before: apply` every AMI is let through, and so is one that is live already.

    Args:
        run: The invocation that applies it.
        ami_id: The AMI that was handed over; None when none was.
        changes: What the plan does to the environments that take it.

    Raises:
        SafetyError: Nothing vouches for it.
        UsageError: Its record cannot be read.
        AwsError: Its tags could not be read.
    """
    if run.settings.verify.before != "apply" or ami_id is None:
        return
    if not any(change.moves_ami and change.action not in ("delete", "forget") for change in changes):
        return
    image = images.look_up(Caller(run.access, run.settings.region), ami_id)
    tags = image.tags if image is not None else {}
    why = verification.why_not(run.workspace.terraform, ami_id, tags, sandbox=run.target.is_sandbox)
    if why is not None:
        where = " --sandbox" if run.target.is_sandbox else ""
        msg = (
            f"{ami_id} is not verified, and pipeline.yaml has verify.before: apply: {why}. "
            f"Nothing was applied. `invoke verify --ami {ami_id}{where}` boots and checks it."
        )
        raise SafetyError(msg)
