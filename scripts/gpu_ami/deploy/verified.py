"""Refuses to apply an AMI that no verification vouches for, where the settings want one first."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from gpu_ami.aws import images
from gpu_ami.aws.caller import Caller
from gpu_ami.deploy import coming
from gpu_ami.errors import SafetyError
from gpu_ami.invocation import Invocation
from gpu_ami.records import verification
from gpu_ami.terraform.plan_changes import EnvironmentChange


def check(run: Invocation, changes: Iterable[EnvironmentChange], *, lived: Collection[str]) -> None:
    """Refuse to move an environment to an AMI without a verification that fits it.

    It goes by what the plan gives each environment, wherever that comes from: the file of the hand-over, a variable on
    the command line, an SSM parameter. Without `verify.before: apply` every AMI is let through; what was live before
    always is, for a rollback, and an apply that goes on with one, must not wait.

    Args:
        run: The invocation that applies it.
        changes: What the plan does to the environments that are the pipeline's.
        lived: The AMIs that were live in this state, by its receipts.

    Raises:
        SafetyError: Nothing vouches for one, or the plan does not say which it is.
        UsageError: A record cannot be read.
        AwsError: An AMI's tags could not be read.
    """
    if run.settings.verify.before != "apply":
        return
    moves = [ami_id for change in changes for ami_id in coming.amis(change, "verify.before: apply", "verified")]
    for ami_id in dict.fromkeys(moves):
        if ami_id not in lived:
            _check_ami(run, ami_id)


def _check_ami(run: Invocation, ami_id: str) -> None:
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
