"""`invoke plan`: what Terraform would do, and whether the guard lets it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gpu_ami.aws import batch, images
from gpu_ami.aws.access import Identity
from gpu_ami.aws.caller import Caller
from gpu_ami.console import Table
from gpu_ami.deploy import root_module
from gpu_ami.deploy.guard import Facts, Finding, RunningJob, judge, needs_provider_version
from gpu_ami.deploy.root_module import Root, SavedPlan
from gpu_ami.errors import TerraformError, UsageError
from gpu_ami.handover import change as changes
from gpu_ami.handover import tfvars
from gpu_ami.handover.eligibility import Expected, blocking
from gpu_ami.hcl import find
from gpu_ami.invocation import Invocation
from gpu_ami.records.tags import AMI_ID
from gpu_ami.terraform.plan_file import Planned


@dataclass(frozen=True, kw_only=True)
class Review:
    """A plan and what the guard says of it.

    Attributes:
        root: The root module.
        saved: The plan's file.
        plan: What is in the plan.
        facts: What the guard was told.
        findings: Its reasons not to apply the plan; none when it may be.
    """

    root: Root
    saved: SavedPlan
    plan: Planned
    facts: Facts
    findings: tuple[Finding, ...]

    def document(self) -> dict[str, Any]:
        """Return the review as the tasks print it in JSON."""
        return {
            "changes": self.saved.has_changes,
            "ami_id": self.facts.expected_ami,
            "handed_over_in": self.facts.handed_over_in,
            "environments": [change.document() for change in self.plan.environments],
            "resources": [
                {"address": change.address, "type": change.type, "action": change.action} for change in self.plan.acts
            ],
            "count": self.plan.count(),
            "outputs": list(self.plan.outputs),
            "findings": [finding.document() for finding in self.findings],
            "plan_sha256": self.saved.sha256,
            "terraform_version": self.plan.terraform_version,
        }

    def raise_refused(self) -> None:
        """End with exit code 6 when the guard refuses the plan.

        Raises:
            TerraformError: It does; the line names the first reason.
        """
        if self.findings:
            first = self.findings[0]
            more = f" ({len(self.findings) - 1} more above)" if len(self.findings) > 1 else ""
            msg = f"The guard refuses the plan: {first.address}: {first.detail}. {first.advice}{more}"
            raise TerraformError(msg)


@contextmanager
def reviewed(root: Root, who: Identity, *, allow_replace: Sequence[str]) -> Iterator[Review]:
    """Make a plan and let the guard judge it; what it needs to know is looked up meanwhile.

    Raises:
        AwsError: What the guard must know cannot be looked up.
        ToolError: There is no provider.
        TerraformError: Terraform refused.
    """
    run = root.run
    expected = handed_over(run, root.handed_over)
    caller = Caller(run.access, run.settings.region)
    with root_module.saved_plan(root) as saved, ThreadPoolExecutor(max_workers=2) as pool:
        # To plan keeps every core busy; to show the plan keeps one.
        jobs = pool.submit(batch.running_jobs, caller)
        problem = pool.submit(ami_problem, run, expected, who.account)
        plan = root_module.read_plan(root, saved)
        facts = Facts(
            expected_ami=expected,
            ami_problem=problem.result(),
            handed_over_in=run.workspace.shown(root.handed_over),
            variable=run.settings.handover.variable,
            region=run.settings.region,
            jobs=_jobs(plan, jobs),
            provider=root_module.provider_version(root) if needs_provider_version(plan) else None,
            now=datetime.now(timezone.utc),
            allow_replace=frozenset(allow_replace),
        )
        yield Review(root=root, saved=saved, plan=plan, facts=facts, findings=judge(plan, facts))


def _jobs(plan: Planned, found: Future[list[batch.Job]]) -> tuple[RunningJob, ...]:
    """Return the jobs that run; not being allowed to list them matters only where instances are replaced."""
    if not any(change.replaces_instances for change in plan.environments):
        return ()
    return running(found.result())


def running(jobs: Sequence[batch.Job]) -> tuple[RunningJob, ...]:
    """Return Batch's jobs as the guard knows them."""
    return tuple(
        RunningJob(
            job_id=job.job_id,
            name=job.name,
            queue=job.queue,
            started=job.started,
            limit=job.limit,
            cluster_arn=job.cluster_arn,
            environments=job.environments,
        )
        for job in jobs
    )


def handed_over(run: Invocation, file: Path) -> str | None:
    """Return the AMI that was handed over to Terraform in *file*; None when none was.

    Raises:
        UsageError: The file cannot be read, or holds something else.
    """
    real = changes.resolve(file, run.workspace.root, sandbox=run.workspace.sandbox_folder)
    if not real.exists():
        return None
    variable = run.settings.handover.variable
    document = tfvars.load(real, changes.read(real))
    path = tfvars.path_in(document, real, variable)
    if len(path) == 1 and all(attribute.name != path[0] for attribute in document.body.attributes):
        return None
    value = find(document, path)
    if value.kind == "map":
        if all(entry.name != run.settings.region for entry in value.entries):
            return None
        value = find(document, (*path, run.settings.region))
    if value.text.strip() in ("null", '""'):
        return None
    if not isinstance(value.literal, str) or AMI_ID.fullmatch(value.literal) is None:
        raise UsageError(tfvars.no_ami_id(variable, value, run.workspace.shown(real)))
    return value.literal


def ami_problem(run: Invocation, ami_id: str | None, account: str) -> str | None:
    """Return why the AMI must not be applied, by the codes of `BLOCKS_APPLY`; None when nothing speaks against it.

    Raises:
        AwsError: EC2 refused or cannot be reached.
    """
    if ami_id is None:
        return None
    region = run.settings.region
    expected = Expected(
        account=account, family=run.settings.family, now=datetime.now(timezone.utc), kept=run.target.is_kept
    )
    found = blocking(region, images.look_up(Caller(run.access, region), ami_id), expected)
    return found[0].detail if found else None


def changes_table(review: Review) -> Table:
    """Return what the plan does: the AMIs first, then everything else."""
    rows: list[tuple[str, str, str]] = []
    rest: list[tuple[str, str, str]] = []
    moved = {change.address for change in review.plan.environments if change.moves_ami}
    for change in review.plan.environments:
        if change.moves_ami:
            new = _new_ami(change.is_ami_known, change.new_ami)
            rows.append((change.action, change.address, f"{change.old_ami or 'none'} -> {new}"))
    for act in review.plan.acts:
        if act.address not in moved:
            rest.append((act.action, act.address, ", ".join(act.because)))
    if not rows and not rest:
        rest = [("output", name, "") for name in review.plan.outputs]
    return Table(columns=("action", "address", "what"), rows=[*rows, *rest], footer=_footer(review))


def _new_ami(is_known: bool, ami: str | None) -> str:
    return (ami or "Batch's own") if is_known else "known after the apply"


def _footer(review: Review) -> tuple[str, ...]:
    count = review.plan.count()
    summary = ", ".join(f"{number} to {kind}" for kind, number in count.items() if number)
    lines = [summary or "No resource changes."]
    lines += [f"REFUSED {finding.address}: {finding.detail}. {finding.advice}" for finding in review.findings]
    return tuple(lines)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke plan`` requested.

    Attributes:
        variables: Terraform variables as ``name=value``.
        allow_replace: Addresses that may be replaced or destroyed.
    """

    variables: Sequence[str] = ()
    allow_replace: Sequence[str] = ()


def run(run: Invocation, request: Request) -> None:
    """Show what `invoke apply` would do; changes nothing.

    Raises:
        TerraformError: The guard refuses the plan, or Terraform did.
    """
    root = root_module.prepare(run, request.variables)
    if run.options.dry_run:
        run.console.say("\n".join(root_module.command_lines(root, apply=False)))
        return
    who = root_module.begin(root)
    with reviewed(root, who, allow_replace=request.allow_replace) as review:
        show(run, review)
        review.raise_refused()
        if review.saved.has_changes:
            run.console.say("Next: `invoke apply`.")


def show(run: Invocation, review: Review) -> None:
    """Print the plan."""
    if not review.saved.has_changes:
        run.console.say(f"No changes: what {review.root.shown} describes is what there is.")
    run.console.result(review.document(), changes_table(review))
