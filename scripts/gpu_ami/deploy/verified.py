"""Refuses to apply an AMI that no verification vouches for, or that failed one, where the settings want one first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NoReturn

from gpu_ami.aws import images
from gpu_ami.aws.caller import Caller
from gpu_ami.deploy import coming
from gpu_ami.errors import SafetyError
from gpu_ami.invocation import Invocation
from gpu_ami.records import verification
from gpu_ami.terraform.plan_changes import EnvironmentChange


def check(
    run: Invocation, changes: Iterable[EnvironmentChange], *, lived: Collection[str], goes_back: bool = False
) -> list[str]:
    """Refuse to move an environment to an AMI without a verification that fits it.

    It goes by what the plan gives each environment, wherever that comes from: the file of the hand-over, a variable on
    the command line, an SSM parameter. Without `verify.before: apply` every AMI is let through. What was live before
    needs no record, for a rollback, and an apply that goes on with one, must not wait; but one that is known to have
    failed, here or on another machine, is gone back to by a rollback only.

    Args:
        run: The invocation that applies it.
        changes: What the plan does to the environments that are the pipeline's.
        lived: The AMIs that were live in this state, by its receipts.
        goes_back: Whether it is a rollback.

    Returns:
        What to say of an AMI that is gone back to although it failed.

    Raises:
        SafetyError: Nothing vouches for one, one failed, or the plan does not say which it is.
        UsageError: A record cannot be read.
        AwsError: An AMI's tags could not be read.
    """
    if run.settings.verify.before != "apply":
        return []
    said: list[str] = []
    moves = [ami_id for change in changes for ami_id in coming.amis(change, "verify.before: apply", "verified")]
    for ami_id in dict.fromkeys(moves):
        if ami_id not in lived:
            _check_new(run, ami_id)
        elif failure := _why(verification.why_failed, run, ami_id):
            if not goes_back:
                _refuse_failed(run, ami_id, failure)
            said.append(f"{ami_id} was live before, but {failure}.")
    return said


def _check_new(run: Invocation, ami_id: str) -> None:
    if (why := _why(verification.why_not, run, ami_id)) is not None:
        msg = f"{_refusal(ami_id, why)} {_how_to_verify(run, ami_id)}"
        raise SafetyError(msg)


def _refuse_failed(run: Invocation, ami_id: str, failure: str) -> NoReturn:
    back = f"`invoke rollback --to {ami_id}{_where(run)}` goes back to it all the same"
    msg = f"{_refusal(ami_id, failure)} {_how_to_verify(run, ami_id).removesuffix('.')}; it was live before: {back}."
    raise SafetyError(msg)


def _why(ask: Callable[..., str | None], run: Invocation, ami_id: str) -> str | None:
    image = images.look_up(Caller(run.access, run.settings.region), ami_id)
    tags = image.tags if image is not None else {}
    return ask(run.workspace.terraform, ami_id, tags, sandbox=run.target.is_sandbox)


def _refusal(ami_id: str, why: str) -> str:
    return f"{ami_id} is not verified, and pipeline.yaml has verify.before: apply: {why}. Nothing was applied."


def _how_to_verify(run: Invocation, ami_id: str) -> str:
    return f"`invoke verify --ami {ami_id}{_where(run)}` boots and checks it."


def _where(run: Invocation) -> str:
    return " --sandbox" if run.target.is_sandbox else ""
