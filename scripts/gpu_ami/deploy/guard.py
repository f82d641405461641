"""What a plan must not do: pure judgement over the plan and the facts, before anything is applied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from packaging.version import Version

from gpu_ami.terraform.plan_file import ENVIRONMENT, QUEUE, EnvironmentChange, Planned

Code = Literal[
    "replaced",
    "destroyed",
    "provider-too-old",
    "ami-unusable",
    "ami-differs",
    "ami-unknown",
    "ami-unused",
    "long-jobs",
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
        allow_replace: Addresses that may be replaced or destroyed.
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
    found = [*_losses(plan, facts), *_old_provider(plan, facts), *_amis(plan, facts), *_jobs(plan, facts)]
    if facts.is_taken or (facts.expected_ami is not None and _given(plan, facts) == facts.expected_ami):
        return tuple(found)
    return tuple(_as_not_taken(finding, facts) for finding in found)


def _given(plan: Planned, facts: Facts) -> Any:
    """Return the AMI that the plan's variable has for the region."""
    given = plan.variables.get(facts.variable)
    return given.get(facts.region) if isinstance(given, dict) else given


def _as_not_taken(finding: Finding, facts: Facts) -> Finding:
    """Return *finding* with the advice for a hand-over that Terraform does not see: any other leads away from it."""
    if finding.code not in ("ami-differs", "ami-unused"):
        return finding
    advice = (
        f"Terraform does not take {facts.handed_over_in} by itself: let handover.file in pipeline.yaml name a "
        "*.auto.tfvars or *.auto.tfvars.json file in Terraform's own folder, or name this one in "
        "TF_CLI_ARGS_plan=-var-file=FILE."
    )
    return replace(finding, advice=advice)


def _losses(plan: Planned, facts: Facts) -> Iterator[Finding]:
    for change in plan.changes:
        what = _GUARDED.get(change.type)
        if what is None or change.action not in ("replace", "delete") or change.address in facts.allow_replace:
            continue
        allow = f"or allow it with --allow-replace '{change.address}'"
        if change.action == "delete":
            detail = f"the {what} would be destroyed, with the jobs in it"
            yield Finding(
                code="destroyed", address=change.address, detail=detail, advice=f"Put it back into the code, {allow}."
            )
        else:
            why = f" ({', '.join(change.because)} cannot be changed in place)" if change.because else ""
            detail = f"the {what} would be replaced{why}, with the jobs in it"
            advice = f"{_in_place(change.type)}, {allow}."
            yield Finding(code="replaced", address=change.address, detail=detail, advice=advice)


def _in_place(kind: str) -> str:
    if kind == QUEUE:
        return "Leave its name alone"
    return "Leave service_role out and use SPOT_CAPACITY_OPTIMIZED or BEST_FIT_PROGRESSIVE"


def needs_provider_version(plan: Planned) -> bool:
    """Whether a rule depends on the provider's version."""
    return bool(_price_capacity(plan))


def _price_capacity(plan: Planned) -> list[EnvironmentChange]:
    idle = ("no-op", "delete", "forget")
    return [change for change in plan.environments if change.action not in idle and change.strategy == _STRATEGY]


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
    given = _given(plan, facts)
    if given is not None and given != expected:
        detail = f"the plan takes {given}, but {facts.handed_over_in} says {expected}"
        advice = f"Something sets it elsewhere (TF_VAR_{facts.variable}, -var, another .tfvars): {fix}."
        yield Finding(code="ami-differs", address=f"var.{facts.variable}", detail=detail, advice=advice)
        return
    stay = [change for change in plan.environments if change.action not in ("delete", "forget")]
    for change in stay:
        if not change.is_ami_known and change.action != "no-op":
            detail = "the AMI of this environment is known only after the apply"
            advice = f"Give it var.{facts.variable} itself: what cannot be compared is not applied."
            yield Finding(code="ami-unknown", address=change.address, detail=detail, advice=advice)
        elif change.moves_ami and change.new_ami != expected:
            detail = f"its AMI would become {change.new_ami or 'the one that Batch chooses'}, not {expected}"
            advice = f"Give it var.{facts.variable}, or hand over the AMI that is meant."
            yield Finding(code="ami-differs", address=change.address, detail=detail, advice=advice)
    if stay and not any(change.new_ami == expected or not change.is_ami_known for change in stay):
        detail = f"no compute environment of the plan would use {expected}"
        advice = f"Set ec2_configuration.image_id_override to var.{facts.variable}."
        yield Finding(code="ami-unused", address=f"var.{facts.variable}", detail=detail, advice=advice)


def _lost_amis(plan: Planned, facts: Facts) -> Iterator[Finding]:
    """Without a hand-over nothing is expected, but an AMI that is live must not silently give way to Batch's own."""
    for change in plan.environments:
        if change.moves_ami and change.action == "update" and change.is_ami_known and change.new_ami is None:
            detail = f"its AMI {change.old_ami} would give way to the one that Batch chooses: nothing was handed over"
            advice = f"Run `invoke update-tfvars`, which writes {facts.handed_over_in}."
            yield Finding(code="ami-differs", address=change.address, detail=detail, advice=advice)


def _jobs(plan: Planned, facts: Facts) -> Iterator[Finding]:
    for change in plan.environments:
        if not change.replaces_instances or change.address in facts.allow_replace:
            continue
        mine = [job for job in facts.jobs if job.is_in(change)]
        if not change.terminates_jobs:
            mine = [job for job in mine if job.outlasts(change.timeout_minutes, facts.now)]
        if not mine:
            continue
        shown = ", ".join(_shown(job, facts.now) for job in mine[:_SHOWN_JOBS])
        more = f" and {len(mine) - _SHOWN_JOBS} more" if len(mine) > _SHOWN_JOBS else ""
        rule = (
            "ends running jobs at once (terminate_jobs_on_update)"
            if change.terminates_jobs
            else f"ends jobs that still run after {change.timeout_minutes} min (job_execution_timeout_minutes)"
        )
        advice = "Wait for them, or raise job_execution_timeout_minutes above what a job can take."
        yield Finding(
            code="long-jobs", address=change.address, detail=f"the update {rule}: {shown}{more}", advice=advice
        )


def _shown(job: RunningJob, now: datetime) -> str:
    if job.started is None:
        return f"{job.name} ({job.job_id}, start unknown)"
    return f"{job.name} ({job.job_id}, running for {int((now - job.started).total_seconds() // 60)} min)"
