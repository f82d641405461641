"""Refuses to apply an AMI that no verification vouches for, where the settings want one first."""

from __future__ import annotations

from gpu_ami.aws import images
from gpu_ami.aws.caller import Caller
from gpu_ami.errors import SafetyError
from gpu_ami.invocation import Invocation
from gpu_ami.records import verification


def check(run: Invocation, ami_id: str | None) -> None:
    """Refuse an AMI without a verification that fits it; without `verify.before: apply` every one is let through.

    Raises:
        SafetyError: Nothing vouches for it.
        UsageError: Its record cannot be read.
        AwsError: Its tags could not be read.
    """
    if run.settings.verify.before != "apply" or ami_id is None:
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
