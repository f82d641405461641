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
    moves: dict[str, set[str]] = {}
    for change in changes:
        live = {slot.old for slot in change.ours if slot.old is not None}
        for ami_id in coming.amis(change, setting, "benched", must_be_known=is_required):
            moves.setdefault(ami_id, set()).update(live - {ami_id})
    for ami_id, live in moves.items():
        if ami_id not in lived:
            _check_ami(run, ami_id, live, is_required=is_required)


def _check_ami(run: Invocation, ami_id: str, live: Collection[str], *, is_required: bool) -> None:
    record = _record(run, ami_id, is_required=is_required)
    why = record if isinstance(record, str) else _why_not(run, record, is_required=is_required)
    if why is not None:
        where = " --sandbox" if run.target.is_sandbox else ""
        msg = (
            f"{ami_id} is not to be promoted, and pipeline.yaml has promotion.bench: {run.settings.promotion.bench}: "
            f"{why}. Nothing was applied. `invoke bench --ami {ami_id}{where}` measures it."
        )
        raise SafetyError(msg)
    if isinstance(record, Bench):
        _warn_of_another_live(run, record, live)


def _record(run: Invocation, ami_id: str, *, is_required: bool) -> Bench | str | None:
    """Return the record that fits the AMI; why there is none where one is required, and nothing otherwise."""
    folder = run.workspace.terraform
    if not is_required and not bench_record.path_of(folder, ami_id).exists():
        return None
    image = images.look_up(Caller(run.access, run.settings.region), ami_id)
    tags = image.tags if image is not None else {}
    record = bench_record.fitting(folder, ami_id, tags, sandbox=run.target.is_sandbox)
    return None if isinstance(record, str) and not is_required else record


def _why_not(run: Invocation, record: Bench | None, *, is_required: bool) -> str | None:
    """Return which rule the AMI breaks by the limits of now, or what a required bench has left open."""
    if record is None:
        return None
    limits, measured = run.settings.promotion, record.measured
    problem = bench_record.refusal(measured, max_regression=limits.max_regression, target_s=limits.target_s)
    if problem is None and is_required:
        problem = measured.open
    return None if problem is None else f"by its bench of {record.benched_at}, {problem}"


def _warn_of_another_live(run: Invocation, record: Bench, live: Collection[str]) -> None:
    """Say so where the AMI was not compared with the one that it takes the place of: who applies may know more."""
    compared = record.measured.live.ami_id if record.measured.live is not None else None
    others = sorted({*live} - {compared})
    if others:
        beside = f"with {compared}" if compared else "with no live AMI"
        run.console.warn(f"{record.ami_id} was benched {beside} and takes the place of {', '.join(others)}.")
