"""Refuses to apply an AMI that its bench says no to, or that has no bench, where the settings ask for one."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from gpu_ami.aws import images
from gpu_ami.aws.caller import Caller
from gpu_ami.deploy import coming
from gpu_ami.errors import SafetyError
from gpu_ami.invocation import Invocation
from gpu_ami.records import bench_record
from gpu_ami.records.bench_record import Bench
from gpu_ami.terraform.plan_changes import EnvironmentChange


def check(run: Invocation, changes: Iterable[EnvironmentChange], *, lived: Collection[str]) -> None:
    """Refuse to move an environment to an AMI that `promotion` of the settings does not let through.

    Optional lets an AMI without a bench through, and required does not. What was measured is judged by the limits that
    the settings have now, which may be others than when it was. What was live before is always let through, for a
    rollback, and an apply that goes on with one, must not wait.

    Args:
        run: The invocation that applies it.
        changes: What the plan does to the environments that are the pipeline's.
        lived: The AMIs that were live in this state, by its receipts.

    Raises:
        SafetyError: One is refused, or the plan does not say which it is and a bench is required.
        UsageError: A record cannot be read.
        AwsError: An AMI's tags could not be read.
    """
    wanted = run.settings.promotion.bench
    if wanted == "off":
        return
    is_required = wanted == "required"
    setting = f"promotion.bench: {wanted}"
    moves = [ami for change in changes for ami in coming.amis(change, setting, "benched", must_be_known=is_required)]
    for ami_id in dict.fromkeys(moves):
        if ami_id not in lived and (why := _why_not(run, ami_id, is_required=is_required)) is not None:
            where = " --sandbox" if run.target.is_sandbox else ""
            msg = (
                f"{ami_id} is not to be promoted, and pipeline.yaml has {setting}: {why}. "
                f"Nothing was applied. `invoke bench --ami {ami_id}{where}` measures it."
            )
            raise SafetyError(msg)


def _why_not(run: Invocation, ami_id: str, *, is_required: bool) -> str | None:
    """Return why an AMI may not be promoted; None when it may."""
    folder = run.workspace.terraform
    if not is_required and not bench_record.path_of(folder, ami_id).exists():
        return None
    image = images.look_up(Caller(run.access, run.settings.region), ami_id)
    tags = image.tags if image is not None else {}
    record = bench_record.fitting(folder, ami_id, tags, sandbox=run.target.is_sandbox)
    if isinstance(record, str):
        return record if is_required else None
    return _judged(run, record, is_required=is_required)


def _judged(run: Invocation, record: Bench, *, is_required: bool) -> str | None:
    limits = run.settings.promotion
    problem = bench_record.refusal(record.measured, max_regression=limits.max_regression, target_s=limits.target_s) or (
        record.measured.open if is_required else None
    )
    return None if problem is None else f"by its bench of {record.benched_at}, {problem}"
