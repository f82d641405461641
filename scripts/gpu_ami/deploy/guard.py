"""What a plan must not do: pure judgement over the plan and the facts, before anything is applied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from packaging.version import Version

from gpu_ami.handover.conflicts import not_taken
from gpu_ami.terraform.plan_changes import ENVIRONMENT, QUEUE, EnvironmentChange, ResourceChange, Slot
from gpu_ami.terraform.plan_file import Planned

Code = Literal[
    "replaced",
    "destroyed",
    "forgotten",
    "deposed",
    "provider-too-old",
    "ami-unusable",
    "ami-differs",
    "ami-unknown",
    "ami-unused",
    "long-jobs",
    "other-family",
]
# Below this version the strategy makes the provider replace the environment (hashicorp/terraform-provider-aws #38695).
_STRATEGY, _STRATEGY_SINCE = "SPOT_PRICE_CAPACITY_OPTIMIZED", Version("6.10")
_GUARDED = {ENVIRONMENT: "compute environment", QUEUE: "job queue"}
_SHOWN_JOBS = 5


@dataclass(frozen=True, kw_only=True)
class RunningJob:
    """A job that runs now.

    Attributes:
        job_id: Its id.
        name: Its name.
        queue: Its queue's name.
        started: Since when it runs; None when Batch does not say.
        limit: How long an attempt may take by the job's own time-out; None without one.
        cluster_arn: The ECS cluster it runs in; None when Batch does not say.
        environments: The compute environments of its queue, by ARN or name; None when Batch does not say.
    """

    job_id: str
    name: str
    queue: str
    started: datetime | None
    limit: timedelta | None = None
    cluster_arn: str | None = None
    environments: frozenset[str] | None = None

    def is_in(self, change: EnvironmentChange) -> bool:
        """Whether it may run in the environment; one of which nobody knows where it runs may.

        The cluster goes before the queue: a queue may have been given other environments since the job began.
        """
        if self.cluster_arn is not None and change.cluster_arn is not None:
            return self.cluster_arn == change.cluster_arn
        if self.environments is None or change.arn is None:
            return True
        return not self.environments.isdisjoint((change.arn, change.arn.rpartition("/")[2]))

    def outlasts(self, minutes: int, now: datetime) -> bool:
        """Whether it cannot be shown to end within *minutes*: it has run longer already, and no time-out ends it."""
        if self.started is None:
            return True
        allowed = timedelta(minutes=minutes)
        if self.limit is not None and self.started + self.limit <= now + allowed:
            return False
        return now - self.started > allowed


@dataclass(frozen=True, kw_only=True)
class HandedOver:
    """Whose an AMI is.

    Attributes:
        family: The family.
        variable: The root variable that takes its AMIs.
    """

    family: str
    variable: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the guard is told beside the plan.

    Attributes:
        expected_ami: The AMI that was handed over; None when nothing was.
        ami_problem: Why that AMI must not be applied; None when nothing speaks against it.
        handed_over_in: The file that says so, as a person would type it.
        is_taken: Whether Terraform takes that file without being told.
        variable: The root variable that takes it.
        region: The region, for variables that map regions to AMIs.
        jobs: The jobs that run now.
        provider: The version of the aws provider, where `needs_provider_version`; None when nobody knows.
        now: The time.
        allow_replace: Addresses that may be replaced, destroyed or let go of.
        allow_deposed: Names of what earlier replacements left behind, that may be destroyed or let go of.
        elsewhere: AMIs that were handed over for other families of this root module, and whose they are.
    """

    expected_ami: str | None
    handed_over_in: str
    variable: str
    region: str
    is_taken: bool = True
    ami_problem: str | None = None
    jobs: tuple[RunningJob, ...] = ()
    provider: Version | None = None
    now: datetime
    allow_replace: frozenset[str] = frozenset()
    allow_deposed: frozenset[str] = frozenset()
    elsewhere: Mapping[str, HandedOver] = field(default_factory=dict)

    def allows(self, change: ResourceChange) -> bool:
        """Whether the caller has allowed that the resource goes; one at a live address never by what was left there."""
        if change.deposed is not None:
            return change.shown_name in self.allow_deposed
        return change.address in self.allow_replace


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One reason not to apply the plan.

    Attributes:
        code: Which rule.
        address: Terraform's address, or the variable.
        detail: What is wrong.
        advice: What to do.
    """

    code: Code
    address: str
    detail: str
    advice: str

    def document(self) -> dict[str, Any]:
        """Return the finding as the tasks print it in JSON."""
        return dict(vars(self))


def judge(plan: Planned, facts: Facts) -> tuple[Finding, ...]:
    """Return every reason not to apply *plan*, the gravest first; none when it may be applied."""
    found = [
        *_losses(plan, facts),
        *_left_behind(plan, facts),
        *_old_provider(plan, facts),
        *_amis(plan, facts),
        *_jobs(plan, facts),
        *_other_families(plan, facts),
    ]
    if facts.is_taken or (
        facts.expected_ami is not None and plan.given(facts.variable, facts.region) == facts.expected_ami
    ):
        return tuple(found)
    return tuple(_as_not_taken(finding, facts) for finding in found)


def _as_not_taken(finding: Finding, facts: Facts) -> Finding:
    """Return *finding* with the advice for a hand-over that Terraform does not see: any other leads away from it."""
    if finding.code not in ("ami-differs", "ami-unused"):
        return finding
    return replace(finding, advice=not_taken(facts.handed_over_in))


def unknown_permissions(plan: Planned, facts: Facts) -> list[str]:
    """Return what to say of each permission that names nothing of the plan: a slip of the pen permits nothing."""
    import difflib

    addresses = {change.address for change in plan.changes if change.deposed is None}
    deposed = {change.shown_name for change in plan.deposed}
    given = [("--allow-replace", name, addresses) for name in sorted(facts.allow_replace - addresses)]
    given += [("--allow-deposed", name, deposed) for name in sorted(facts.allow_deposed - deposed)]
    said = []
    for flag, name, known in given:
        near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
        meant = f"did you mean {near[0]!r}?" if near else "give it as the plan shows it."
        said.append(f"{flag} {name!r} names nothing of the plan, and so permits nothing: {meant}")
    return said


def _losses(plan: Planned, facts: Facts) -> Iterator[Finding]:
    for change in plan.changes:
        what = _GUARDED.get(change.type)
        if what is None or change.deposed is not None or facts.allows(change):
            continue
        allow = f"or allow it with --allow-replace '{change.address}'"
        if change.action == "delete":
            detail = f"the {what} would be destroyed, with the jobs in it"
            yield Finding(
                code="destroyed", address=change.address, detail=detail, advice=f"Put it back into the code, {allow}."
            )
        elif change.action == "forget":
            detail = f"Terraform would let go of the {what}: it stays on AWS, and no apply gives it an AMI again"
            advice = f"Take its `removed` block out of the code, {allow}."
            yield Finding(code="forgotten", address=change.address, detail=detail, advice=advice)
        elif change.action == "replace":
            why = _why_replaced(change)
            detail = f"the {what} would be replaced{why}, with the jobs in it"
            advice = f"{_in_place(change)}, {allow}."
            yield Finding(code="replaced", address=change.address, detail=detail, advice=advice)


def _why_replaced(change: ResourceChange) -> str:
    because = list(change.because)
    always = ""
    if (blocks := _other_number_of_blocks(change)) is not None:
        rest = [name for name in because if "ec2_configuration" not in name]
        because = [f"the number of ec2_configuration blocks, {blocks[0]} and then {blocks[1]}", *rest]
        always = ", whatever its role and strategy"
    return f" ({', '.join(because)} cannot be changed in place{always})" if because else ""


def _other_number_of_blocks(change: ResourceChange) -> tuple[int, int] | None:
    """Return how many ``ec2_configuration`` blocks there are and would be, where that differs.

    The aws provider then replaces the environment, whatever else there is (5.100).
    """
    blocks = change.blocks if isinstance(change, EnvironmentChange) else None
    return blocks if blocks is not None and blocks[0] != blocks[1] else None


def _in_place(change: ResourceChange) -> str:
    if change.type == QUEUE:
        return "Leave its name alone"
    if (blocks := _other_number_of_blocks(change)) is not None:
        if blocks[1] > blocks[0]:
            return "Put the other image type into a second environment of the same queue and leave this one as it is"
        return "Leave the blocks as they are, or make a second environment of the same queue and let this one run empty"
    return "Leave service_role out and use SPOT_CAPACITY_OPTIMIZED or BEST_FIT_PROGRESSIVE"


def _left_behind(plan: Planned, facts: Facts) -> Iterator[Finding]:
    """What an earlier replacement left behind goes by a permission of its own, by its own name."""
    for change in plan.deposed:
        what = _GUARDED.get(change.type)
        if what is None or facts.allows(change):
            continue
        does = "destroyed, with the jobs in it" if change.action == "delete" else "let go of"
        detail = (
            f"the old {what} {change.shown_name}, which an earlier replacement left behind (deposed), would be {does}; "
            "the one that is live stays"
        )
        advice = f"When no job is left in it, allow that with --allow-deposed '{change.shown_name}'."
        yield Finding(code="deposed", address=change.address, detail=detail, advice=advice)


def needs_provider_version(plan: Planned) -> bool:
    """Whether a rule depends on the provider's version."""
    return bool(_price_capacity(plan))


def _price_capacity(plan: Planned) -> list[EnvironmentChange]:
    idle = ("no-op", "delete", "forget")
    return [change for change in plan.ours if change.action not in idle and change.strategy == _STRATEGY]


def _old_provider(plan: Planned, facts: Facts) -> Iterator[Finding]:
    for change in _price_capacity(plan):
        if facts.provider is not None and facts.provider.release >= _STRATEGY_SINCE.release:
            continue
        shown = f"{facts.provider.major}.{facts.provider.minor}" if facts.provider else "of unknown version"
        detail = f"with {_STRATEGY} the aws provider {shown} replaces the environment on each change of AMI"
        advice = f"Use SPOT_CAPACITY_OPTIMIZED, or the provider {_STRATEGY_SINCE} or newer (`terraform init -upgrade`)."
        yield Finding(code="provider-too-old", address=change.address, detail=detail, advice=advice)


def _amis(plan: Planned, facts: Facts) -> Iterator[Finding]:
    expected = facts.expected_ami
    if expected is None:
        yield from _lost_amis(plan, facts)
        return
    if facts.ami_problem is not None:
        detail = f"the AMI that {facts.handed_over_in} names, {expected}, {facts.ami_problem}"
        advice = "Hand over another one: `invoke build`, `invoke update-tfvars --ami …` or `invoke rollback`."
        yield Finding(code="ami-unusable", address=f"var.{facts.variable}", detail=detail, advice=advice)
    fix = f"run `terraform plan` with only {facts.handed_over_in} setting it, or hand over again"
    given = plan.given(facts.variable, facts.region)
    if given is not None and given != expected:
        detail = f"the plan takes {given}, but {facts.handed_over_in} says {expected}"
        advice = f"Something sets it elsewhere (TF_VAR_{facts.variable}, -var, another .tfvars): {fix}."
        yield Finding(code="ami-differs", address=f"var.{facts.variable}", detail=detail, advice=advice)
        return
    stay = [change for change in plan.ours if change.action not in ("delete", "forget")]
    for change in stay:
        if change.action != "no-op":
            yield from _wrong_amis(change, expected, facts.variable)
    candidates = stay or _untold(plan)
    if candidates and not any(_may_use(change, expected) for change in stay):
        detail = f"no compute environment of the plan would use {expected}"
        advice = f"Set ec2_configuration.image_id_override to var.{facts.variable}."
        if not stay:
            advice = f"{advice[:-1]}, or set the variable to null in {facts.handed_over_in}."
        yield Finding(code="ami-unused", address=f"var.{facts.variable}", detail=detail, advice=advice)


def _untold(plan: Planned) -> list[EnvironmentChange]:
    """Return the environments on EC2 that stay, where none is ours: one of them was meant, or the hand-over is idle.

    None where the code has one that takes the variable, but makes none of it now, as with a ``count`` of 0.
    """
    stay = [change for change in plan.environments if change.action not in ("delete", "forget")]
    return [] if plan.ours or plan.is_taken else [change for change in stay if change.kind == "EC2"]


def _may_use(change: EnvironmentChange, expected: str) -> bool:
    among = {ami for _, ami in change.conflict}
    return expected in among or any(slot.new == expected or not slot.is_known for slot in change.ours)


def _wrong_amis(change: EnvironmentChange, expected: str, variable: str) -> Iterator[Finding]:
    # The AMI that a slot shows may be the one place that stays.
    if change.conflict and (change.moves_conflict or change.moves_ami):
        says = ", ".join(f"{where} says {ami}" for where, ami in change.conflict)
        detail = f"it would name several AMIs for one instance ({says}), and AWS's documents disagree on which counts"
        advice = "Name it in image_id_override alone: leave image_id out."
        yield Finding(code="ami-unknown", address=change.address, detail=detail, advice=advice)
        return
    for slot in change.ours:
        of = f" for {slot.image_type}" if slot.image_type and len(change.slots) > 1 else ""
        may_move = slot.moves or change.moves_conflict
        if not slot.is_known:
            detail = f"the AMI of this environment{of} is known only after the apply"
            advice = f"Give it var.{variable} itself: what cannot be compared is not applied."
            yield Finding(code="ami-unknown", address=change.address, detail=detail, advice=advice)
        elif may_move and slot.new != expected and not _is_elsewhere(slot, change, expected):
            detail = f"its AMI{of} would become {slot.new or 'the one that Batch chooses'}, not {expected}"
            advice = f"Give it var.{variable}, or hand over the AMI that is meant."
            yield Finding(code="ami-differs", address=change.address, detail=detail, advice=advice)


def _is_elsewhere(slot: Slot, change: EnvironmentChange, expected: str) -> bool:
    """Whether an image type goes whose AMI another one takes over: the environment moves on to another image type."""
    is_gone = slot.new is None and not slot.takes
    return is_gone and any(other.new == expected for other in change.ours if other is not slot)


def _lost_amis(plan: Planned, facts: Facts) -> Iterator[Finding]:
    """Without a hand-over nothing is expected, but an AMI that is live must not silently give way to Batch's own."""
    for change in plan.ours:
        if change.moves_ami and change.action == "update" and change.is_ami_known and change.new_ami is None:
            detail = f"its AMI {change.old_ami} would give way to the one that Batch chooses: nothing was handed over"
            advice = f"Run `invoke update-tfvars`, which writes {facts.handed_over_in}."
            yield Finding(code="ami-differs", address=change.address, detail=detail, advice=advice)


def _jobs(plan: Planned, facts: Facts) -> Iterator[Finding]:
    for change in plan.ending:
        if facts.allows(change):
            continue
        mine = [job for job in facts.jobs if job.is_in(change)]
        # What was left behind is taken away whole: no time-out of an update counts there.
        if not change.terminates_jobs and change.deposed is None:
            mine = [job for job in mine if job.outlasts(change.timeout_minutes, facts.now)]
        if not mine:
            continue
        shown = ", ".join(_shown(job, facts.now) for job in mine[:_SHOWN_JOBS])
        more = f" and {len(mine) - _SHOWN_JOBS} more" if len(mine) > _SHOWN_JOBS else ""
        yield Finding(
            code="long-jobs",
            address=change.address,
            detail=f"{_ends_jobs(change)}: {shown}{more}",
            advice=_wait(change),
        )


def _other_families(plan: Planned, facts: Facts) -> Iterator[Finding]:
    """Yield what would move a live environment to another family's AMI, which no receipt of this apply would tell."""
    for change in plan.environments:
        if change.is_ours or change.action == "create":
            continue
        for slot in change.slots:
            other = facts.elsewhere.get(slot.new or "") if slot.moves else None
            if other is None:
                continue
            detail = f"its AMI would become {slot.new}, which was handed over for the family {other.family}"
            advice = f"Apply a family at a time: {_hold_back(plan, other, slot.old)}."
            yield Finding(code="other-family", address=change.address, detail=detail, advice=advice)


def _hold_back(plan: Planned, other: HandedOver, ami: str | None) -> str:
    if ami is not None and isinstance(plan.variables.get(other.variable), str):
        return f"--terraform-var {other.variable}={ami} leaves it as it is this time"
    return f"give {other.variable} what is live with --terraform-var this time"


def _ends_jobs(change: EnvironmentChange) -> str:
    if change.deposed is not None:
        return f"to destroy {change.shown_name} ends the jobs in it"
    if change.terminates_jobs:
        return "the update ends running jobs at once (terminate_jobs_on_update)"
    return f"the update ends jobs that still run after {change.timeout_minutes} min (job_execution_timeout_minutes)"


def _wait(change: EnvironmentChange) -> str:
    if change.deposed is not None:
        return "Wait for them."
    return "Wait for them, or raise job_execution_timeout_minutes above what a job can take."


def _shown(job: RunningJob, now: datetime) -> str:
    if job.started is None:
        return f"{job.name} ({job.job_id}, start unknown)"
    return f"{job.name} ({job.job_id}, running for {int((now - job.started).total_seconds() // 60)} min)"
