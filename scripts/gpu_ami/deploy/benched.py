"""Refuses to apply an AMI that its bench says no to, or that has no bench, where the settings ask for one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from gpu_ami.aws import batch, images, launch_templates
from gpu_ami.aws.caller import Caller
from gpu_ami.deploy import coming
from gpu_ami.errors import AwsError, SafetyError
from gpu_ami.invocation import Invocation
from gpu_ami.records import bench_record
from gpu_ami.records.bench_record import Bench
from gpu_ami.records.tags import IMAGE_DIGEST_TAG, IMAGE_TAG
from gpu_ami.terraform.plan_changes import EnvironmentChange
from gpu_ami.terraform.plan_templates import PlannedRate


def check(run: Invocation, changes: Iterable[EnvironmentChange], *, lived: Collection[str]) -> list[str]:
    """Refuse to move an environment to an AMI that `promotion` of the settings does not let through.

    Optional lets an AMI without a bench through, and required does not. What was measured is judged by the limits that
    the settings have now, which may be others than when it was. What was live before is always let through, for a
    rollback, and an apply that goes on with one, must not wait. A bench at another rate than the environment will have,
    or beside another AMI than the live one, is refused where it is required, and said otherwise.

    Args:
        run: The invocation that applies it.
        changes: What the plan does to the environments that are the pipeline's.
        lived: The AMIs that were live in this state, by its receipts.

    Returns:
        What to say of those that are let through although not all that was measured is what jobs will get.

    Raises:
        SafetyError: One is refused, or the plan does not say which it is and a bench is required.
        UsageError: A record cannot be read.
        AwsError: An AMI's tags could not be read.
    """
    wanted = run.settings.promotion.bench
    if wanted == "off":
        return []
    is_required = wanted == "required"
    setting = f"promotion.bench: {wanted}"
    moves: dict[str, list[EnvironmentChange]] = {}
    for change in changes:
        for ami_id in dict.fromkeys(coming.amis(change, setting, "benched", must_be_known=is_required)):
            moves.setdefault(ami_id, []).append(change)
    new = {ami_id: coming_to for ami_id, coming_to in moves.items() if ami_id not in lived}
    return [line for ami_id, to in new.items() for line in _check_ami(run, ami_id, to, is_required=is_required)]


def _check_ami(run: Invocation, ami_id: str, changes: Sequence[EnvironmentChange], *, is_required: bool) -> list[str]:
    record = _record(run, ami_id, is_required=is_required)
    why = record if isinstance(record, str) else _why_not(run, record, is_required=is_required)
    where = " --sandbox" if run.target.is_sandbox else ""
    if why is not None:
        raise _refusal(run, ami_id, why, f"`invoke bench --ami {ami_id}{where}` measures it.")
    said: list[str] = []
    if not isinstance(record, Bench):
        return said
    for doubt in _doubts(run, record, changes, must_know=is_required):
        if is_required:
            way = f"`invoke bench --ami {ami_id}{where}` measures it as jobs get it, beside what is live now"
            raise _refusal(run, ami_id, doubt, f"{way}; `promotion: {{bench: optional}}` lets it through.")
        said.append(f"{ami_id} {doubt}.")
    return said


def _doubts(run: Invocation, record: Bench, changes: Sequence[EnvironmentChange], *, must_know: bool) -> Iterator[str]:
    """Yield why what was measured may not be what jobs will get; AWS's refusal is one where not all *must_know* be."""
    for find in (_at_another_rate, _beside_another):
        try:
            yield from find(run, record, changes)
        except AwsError as exc:
            if must_know:
                raise
            yield f"may not be measured as jobs will get it: {exc}".rstrip(".")


def _refusal(run: Invocation, ami_id: str, why: str, advice: str) -> SafetyError:
    setting = f"promotion.bench: {run.settings.promotion.bench}"
    return SafetyError(
        f"{ami_id} is not to be promoted, and pipeline.yaml has {setting}: {why}. Nothing was applied. {advice}"
    )


def _record(run: Invocation, ami_id: str, *, is_required: bool) -> Bench | str | None:
    """Return the record that fits the AMI; why there is none where one is required, and nothing otherwise."""
    folder = run.workspace.terraform
    if not is_required and not bench_record.RECORDS.path_of(folder, ami_id).exists():
        return None
    image = images.look_up(Caller(run.access, run.settings.region), ami_id)
    tags = image.tags if image is not None else {}
    record = bench_record.RECORDS.fitting(folder, ami_id, tags, sandbox=run.target.is_sandbox)
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


def _at_another_rate(run: Invocation, record: Bench, changes: Iterable[EnvironmentChange]) -> Iterator[str]:
    """Yield where jobs would start at another rate than was measured: a rate makes a start several times as fast."""
    measured = record.measured.rate_mib_s
    for change in changes:
        rate = _rate(run, change)
        if rate is None:
            yield f"was benched {_shown(measured)}, and the rate of {change.address}'s launch template is not known"
        elif rate.mib_s != measured:
            yield f"was benched {_shown(measured)}, and {change.address} starts its instances {_shown(rate.mib_s)}"


def _shown(rate_mib_s: int | None) -> str:
    return f"at {rate_mib_s} MiB/s" if rate_mib_s else "without a rate"


def _rate(run: Invocation, change: EnvironmentChange) -> PlannedRate | None:
    """Return the rate that an environment's instances would have: the plan's, else that of the template in EC2.

    Raises:
        AwsError: AWS refused or cannot be reached.
    """
    if change.start.rate is not None:
        return change.start.rate
    caller = Caller(run.access, run.settings.region)
    if change.start.template is not None:
        return _rate_of(caller, *change.start.template)
    found = batch.environments(caller, [change.name]) if change.name else []
    if not found:
        return None
    template = found[0].template
    return PlannedRate(None) if template is None else _rate_of(caller, template, found[0].version)


def _rate_of(caller: Caller, template: str, version: str) -> PlannedRate | None:
    data = launch_templates.data(caller, template, version)
    return None if data is None else PlannedRate(launch_templates.rate_of(data))


def _beside_another(run: Invocation, record: Bench, changes: Iterable[EnvironmentChange]) -> Iterator[str]:
    """Yield where the AMI takes the place of one that it was not compared with: nobody knows whether it is slower."""
    compared = record.measured.live.ami_id if record.measured.live is not None else None
    beside = f"with {compared}" if compared else "with no live AMI"
    said = f"was benched {beside} and takes the place of"
    for change in changes:
        old = {slot.old for slot in change.ours if slot.moves and slot.old is not None}
        several = {ami_id for _, ami_id in change.old_conflict}
        if several - {record.ami_id}:
            yield f"{said} several AMIs, {', '.join(sorted(several))}, that {change.address} names for one instance"
        elif not old and change.action != "create":
            yield f"{said} Batch's own AMI in {change.address}, which no bench can be compared with"
        else:
            for ami_id in sorted(old - {record.ami_id, compared}):
                yield f"{said} {ami_id}{_why_not_compared(run, ami_id)}"


def _why_not_compared(run: Invocation, ami_id: str) -> str:
    """Return why a bench leaves a live AMI out, as far as that can be seen."""
    image = images.look_up(Caller(run.access, run.settings.region), ami_id)
    if image is None:
        return ", which is not there any more"
    if not image.tags.get(IMAGE_TAG) or not (image.tags.get(IMAGE_DIGEST_TAG) or "@" in image.tags[IMAGE_TAG]):
        return ", which does not say which image it holds"
    arms = run.settings.bench.arms
    return ": bench.arms has no live" if arms and "live" not in arms else ""
