"""`invoke plan`: what Terraform would do, and whether the guard lets it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gpu_ami.aws import batch, images
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.sts import Identity
from gpu_ami.console import Table
from gpu_ami.deploy import ownership, root_module
from gpu_ami.deploy.guard import (
    Facts,
    Finding,
    HandedOver,
    RunningJob,
    judge,
    needs_provider_version,
    unknown_permissions,
)
from gpu_ami.deploy.live_environments import AFTER_INVALID, GOING_ON, invalid_line
from gpu_ami.deploy.ownership import LeftAlone
from gpu_ami.deploy.root_module import Root, SavedPlan
from gpu_ami.errors import AwsError, TerraformError, UsageError
from gpu_ami.handover import change as changes
from gpu_ami.handover import conflicts, tfvars
from gpu_ami.handover.eligibility import Expected, blocking
from gpu_ami.handover.receipt_store import ReceiptStore
from gpu_ami.hcl import find
from gpu_ami.invocation import Invocation
from gpu_ami.records import receipt
from gpu_ami.records.receipt import StateIdentity, StoredReceipt
from gpu_ami.records.tags import AMI_ID
from gpu_ami.terraform.plan_changes import EnvironmentChange, ResourceChange
from gpu_ami.terraform.plan_file import Planned


@dataclass(frozen=True, kw_only=True)
class Review:
    """A plan and what the guard says of it.

    Attributes:
        root: The root module.
        state: Which state it is about.
        saved: The plan's file.
        plan: What is in the plan.
        facts: What the guard was told.
        findings: Its reasons not to apply the plan; none when it may be.
        left_alone: Compute environments that are not the pipeline's.
        invalid: Environments of ours that Batch calls INVALID now.
        others: The AMIs of the other families of the settings, and whose they are, as `elsewhere` found them.
    """

    root: Root
    state: StateIdentity
    saved: SavedPlan
    plan: Planned
    facts: Facts
    findings: tuple[Finding, ...]
    left_alone: tuple[LeftAlone, ...] = ()
    invalid: tuple[batch.Environment, ...] = ()
    others: Mapping[str, Invocation] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the review as the tasks print it in JSON."""
        return {
            "state": self.state.document(),
            "changes": self.saved.has_changes,
            "ami_id": self.facts.expected_ami,
            "handed_over_in": self.facts.handed_over_in,
            "environments": [change.document() for change in self.plan.environments],
            "resources": [_resource(change) for change in self.plan.acts],
            "count": self.plan.count(),
            "outputs": list(self.plan.outputs),
            "findings": [finding.document() for finding in self.findings],
            "left_alone": [one.document() for one in self.left_alone],
            "invalid": [
                {"name": one.name, "reason": one.reason, "advice": self._after_invalid(one.name)}
                for one in self.invalid
            ],
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

    def raise_invalid(self) -> None:
        """End with exit code 6 when there is nothing to do, and Batch calls an environment INVALID all the same.

        Raises:
            TerraformError: It does.
        """
        if self.invalid and not self.saved.has_changes:
            raise TerraformError(invalid_line(self.invalid[0].name, self.invalid[0].reason))

    @property
    def invalid_lines(self) -> list[str]:
        """What to say of the environments that Batch calls INVALID."""
        return [invalid_line(one.name, one.reason, self._after_invalid(one.name)) for one in self.invalid]

    @property
    def remarks(self) -> list[str]:
        """What else there is to say to whoever is about to apply it."""
        makes_some = any(change.action == "create" for change in self.plan.ours)
        if self.facts.expected_ami is not None or not makes_some:
            return self.invalid_lines
        chooses = f"No AMI is handed over yet in {self.facts.handed_over_in}: Batch would choose one."
        return [f"{chooses} `invoke build` makes one and hands it over.", *self.invalid_lines]

    def _after_invalid(self, name: str) -> str:
        goes_on = any(change.name == name and change.moves_ami for change in self.plan.ours)
        return GOING_ON if goes_on else AFTER_INVALID


def _resource(change: ResourceChange) -> dict[str, Any]:
    return {
        "address": change.address,
        "type": change.type,
        "action": change.word,
        "name": change.name,
        "previous_address": change.previous_address,
        "deposed": change.deposed,
    }


@contextmanager
def reviewed(
    root: Root,
    who: Identity,
    *,
    allow_replace: Sequence[str],
    allow_deposed: Sequence[str] = (),
    must_know: bool = True,
) -> Iterator[Review]:
    """Make a plan and let the guard judge it; what it needs to know is looked up meanwhile.

    Where nothing is carried out, *must_know* may be false: receipts that may not be read are then warned of.

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
        names = [change.name for change in plan.environments if change.name and change.arn and change.kind == "EC2"]
        there = pool.submit(_there, run, names)
        plan = _settled(root, plan, expected, must_know=must_know)
        others = elsewhere(run, plan)
        facts = Facts(
            expected_ami=expected,
            ami_problem=problem.result(),
            handed_over_in=run.workspace.shown(root.handed_over),
            is_taken=conflicts.is_taken(root.handed_over, root.terraform.folder),
            variable=run.settings.handover.variable,
            region=run.settings.region,
            jobs=_jobs(plan, jobs),
            provider=root_module.provider_version(root) if needs_provider_version(plan) else None,
            now=datetime.now(timezone.utc),
            allow_replace=frozenset(allow_replace),
            allow_deposed=frozenset(allow_deposed),
            elsewhere=handed_over_for(others),
        )
        left_alone = ownership.left_alone(plan, facts.variable)
        if left_alone:
            run.console.say(ownership.shown(left_alone))
        for line in unknown_permissions(plan, facts):
            run.console.warn(line)
        yield Review(
            root=root,
            state=root_module.state_identity(root, who.account),
            saved=saved,
            plan=plan,
            facts=facts,
            findings=judge(plan, facts),
            left_alone=left_alone,
            invalid=_invalid(plan, there.result()),
            others=others,
        )


def _settled(root: Root, plan: Planned, expected: str | None, *, must_know: bool) -> Planned:
    """Return the plan with what is ours marked; whose an AMI is gets looked up only where the plan does not say it."""
    given = plan.given(root.run.settings.handover.variable, root.run.settings.region)
    known = {ami for ami in (expected, given) if isinstance(ami, str) and ami}
    undecided = ownership.undecided(plan, known)
    filed = None if must_know or not undecided else _receipts(root)
    return ownership.settled(plan, known | ownership.ours_among(root, undecided, filed))


def _receipts(root: Root) -> tuple[StoredReceipt, ...]:
    """Return the receipts; only this machine's, with a warning, where the bucket may not be read."""
    store = ReceiptStore(root.terraform.folder, root.run.access)
    try:
        return store.all()
    except AwsError as exc:
        root.run.console.warn(f"Whose the AMIs are, only tags and this machine's receipts say: {str(exc).rstrip('.')}.")
        return receipt.load(store.folder)


def _there(run: Invocation, names: Sequence[str]) -> list[batch.Environment]:
    """Return the environments as Batch shows them; none, with a warning, where it may not be asked."""
    if not names:
        return []
    try:
        return batch.environments(Caller(run.access, run.settings.region), names)
    except AwsError as exc:
        run.console.warn(f"Whether Batch calls an environment INVALID is not known: {str(exc).rstrip('.')}.")
        return []


def _invalid(plan: Planned, there: Sequence[batch.Environment]) -> tuple[batch.Environment, ...]:
    """Return those of ours that Batch calls INVALID: Terraform's state does not say it, and finds nothing to do."""
    ours = {change.name for change in plan.ours}
    return tuple(found for found in there if found.status == "INVALID" and found.name in ours)


def _jobs(plan: Planned, found: Future[list[batch.Job]]) -> tuple[RunningJob, ...]:
    """Return the jobs that run; not being allowed to list them matters only where instances are replaced."""
    return running(found.result()) if plan.ending else ()


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


def elsewhere(run: Invocation, plan: Planned) -> dict[str, Invocation]:
    """Return the AMIs of the other families of the settings, and whose they are.

    Those that were handed over, and what the plan has in their variables, wherever that comes from.

    Raises:
        UsageError: One's file cannot be read, or holds something else.
    """
    others = [(other, changes.settings_file(other.workspace, other.settings.handover.file)) for other in run.siblings()]
    found: dict[str | None, Invocation] = {handed_over(other, file): other for other, file in others}
    for other, _ in others:
        given = plan.given(other.settings.handover.variable, other.settings.region)
        found.setdefault(given if isinstance(given, str) else None, other)
    return {ami: other for ami, other in found.items() if ami}


def handed_over_for(others: Mapping[str, Invocation]) -> dict[str, HandedOver]:
    """Return what the guard is told of the other families' AMIs."""
    return {
        ami: HandedOver(family=other.settings.family, variable=other.settings.handover.variable)
        for ami, other in others.items()
    }


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
    """Return what the plan does, and what it adds up to."""
    return Table(columns=("action", "address", "what"), rows=listed(review), footer=_footer(review))


def listed(review: Review) -> list[tuple[str, str, str]]:
    """Return action, address and remark of all that the plan does: the AMIs first, then everything else."""
    plan = review.plan
    moving = [change for change in plan.environments if change.moves_ami]
    rows = [(str(change.word), change.address, "; ".join(_moves(change))) for change in moving]
    rest = [(str(act.word), act.address, act.remark) for act in plan.acts if act not in moving]
    if not rows and not rest:
        rest = [("output", name, "") for name in plan.outputs]
    return [*rows, *rest]


def _moves(change: EnvironmentChange) -> Iterator[str]:
    """Yield each AMI that moves, with its image type where there are several, and what else must be known."""
    several = len(change.slots) > 1
    for slot in change.slots:
        if slot.moves:
            of = f"{slot.image_type}: " if several and slot.image_type else ""
            yield f"{of}{slot.old or 'none'} -> {_new_ami(slot.is_known, slot.new)}"
    if change.previous_address:
        yield f"from {change.previous_address}"


def _new_ami(is_known: bool, ami: str | None) -> str:
    return (ami or "Batch's own") if is_known else "known after the apply"


def counted(plan: Planned) -> str:
    """Return how many resources each thing happens to, for people; empty when nothing happens to any."""
    words = {"delete-deposed": "left behind to delete"}
    return ", ".join(f"{number} {words.get(kind, f'to {kind}')}" for kind, number in plan.count().items() if number)


def nothing_to_do(root: Root) -> str:
    """Return what is said of a plan without changes."""
    return f"No changes: what {root.shown} describes is what there is."


def _footer(review: Review) -> tuple[str, ...]:
    unchanged = "No resource changes." if review.saved.has_changes else nothing_to_do(review.root)
    lines = [counted(review.plan) or unchanged]
    lines += review.remarks
    lines += [f"REFUSED {finding.address}: {finding.detail}. {finding.advice}" for finding in review.findings]
    return tuple(lines)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke plan`` requested.

    Attributes:
        variables: Terraform variables as ``name=value``.
        allow_replace: Addresses that may be replaced, destroyed or let go of.
        allow_deposed: Names of what earlier replacements left behind, that may go.
    """

    variables: Sequence[str] = ()
    allow_replace: Sequence[str] = ()
    allow_deposed: Sequence[str] = ()


def run(run: Invocation, request: Request) -> None:
    """Show what `invoke apply` would do; changes nothing.

    Raises:
        TerraformError: The guard refuses the plan, or Terraform did.
    """
    root = root_module.prepare(run, request.variables)
    if run.options.dry_run:
        run.console.dry_run(root_module.command_lines(root, apply=False))
        return
    who = root_module.begin(root)
    allow_replace, allow_deposed = request.allow_replace, request.allow_deposed
    with reviewed(root, who, allow_replace=allow_replace, allow_deposed=allow_deposed, must_know=False) as review:
        show(run, review)
        review.raise_refused()
        review.raise_invalid()
        if review.saved.has_changes and "apply" not in run.coming:
            run.console.say("Next: `invoke apply`.")


def show(run: Invocation, review: Review) -> None:
    """Print the plan."""
    run.console.result(review.document(), changes_table(review))
