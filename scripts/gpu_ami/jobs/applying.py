"""`invoke apply`: plan, guard, confirm, check again, file a receipt, apply, read back, complete the receipt."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gpu_ami import process
from gpu_ami.aws import batch, changes, images
from gpu_ami.aws.access import Identity
from gpu_ami.aws.calls import Caller
from gpu_ami.bake import manifest as manifests
from gpu_ami.console import Table
from gpu_ami.errors import (
    AwsError,
    InterruptedRunError,
    PartialError,
    PipelineError,
    SafetyError,
    TerraformError,
    UsageError,
)
from gpu_ami.handover.guard import judge
from gpu_ami.handover.receipts import Action, Change, Filed, Receipt, unfinished
from gpu_ami.invocation import Invocation
from gpu_ami.jobs import planning, reading_back, terraforming
from gpu_ami.jobs.filing import Cabinet
from gpu_ami.jobs.planning import Review
from gpu_ami.jobs.reading_back import Live
from gpu_ami.jobs.terraforming import Root
from gpu_ami.process import Command
from gpu_ami.units import show_duration

_POLL_S = 10.0
_SANDBOX_POLL_S = 0.2
_TAG = "gpu-ami:handover"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke apply`` asked for.

    Attributes:
        variables: Terraform variables as ``name=value``.
        allow_replace: Addresses that may be replaced or destroyed.
        yes: Whether to act without asking.
        action: What the receipt says that this is.
    """

    variables: Sequence[str] = ()
    allow_replace: Sequence[str] = ()
    yes: bool = False
    action: Action = "apply"


def apply(run: Invocation, request: Request) -> None:
    """Carry out what Terraform would do, unless the guard refuses it.

    Raises:
        SafetyError: Another apply is under way here, or nobody confirmed this one.
        TerraformError: The guard refuses, or Terraform failed; the line says what state things are in.
        PartialError: Applied, but the AMI could not be tagged.
        InterruptedRunError: Interrupted; Terraform has ended and noted what it did.
    """
    root = terraforming.prepare(run, request.variables)
    if run.options.dry_run:
        run.console.say("\n".join(terraforming.command_lines(root, apply=True)))
        return
    who = run.announce()
    with only_one(run):
        apply_root(root, request, who)


def apply_root(root: Root, request: Request, who: Identity, *, acting: Callable[[], None] = lambda: None) -> None:
    """Plan, judge, confirm and carry out; the caller holds the lock and has announced the account.

    *acting* is called when what was only planned begins to happen, or has happened already.
    """
    run = root.run
    with planning.reviewed(root, who, allow_replace=request.allow_replace) as review:
        if review.findings:
            planning.show(run, review)
            review.raise_refused()
        cabinet = Cabinet(root)
        dead = unfinished(each for each in cabinet.all() if each.receipt.action != "publish")
        for filed in dead:
            shown = run.workspace.shown(filed.path)
            run.console.say(f"An apply of {filed.receipt.when:%Y-%m-%d %H:%M} UTC was cut short ({shown}).")
        if not review.saved.has_changes:
            acting()
            _nothing_to_do(root, review, cabinet, dead)
            return
        _confirm(run, review, request)
        _look_again(run, review, who)
        acting()
        _act(root, review, cabinet, dead, request=request, who=who)


@contextmanager
def only_one(run: Invocation) -> Iterator[None]:
    """Keep a second apply of this folder out.

    Raises:
        SafetyError: One is under way.
    """
    from filelock import FileLock, Timeout

    run.workspace.logs.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run.workspace.logs / "apply.lock").acquire(timeout=0):
            yield
    except Timeout as exc:
        msg = "Another apply or rollback is under way here: wait for it to end."
        raise SafetyError(msg) from exc


def _nothing_to_do(root: Root, review: Review, cabinet: Cabinet, dead: Sequence[Filed]) -> None:
    """Say so; complete what a run that was killed left open."""
    run = root.run
    run.console.say(f"No changes: what {root.shown} describes is what there is.")
    live = reading_back.look(_caller(run), terraforming.state(root))
    _settle(cabinet, dead, live)
    tagged = _tag(run, review.facts.expected_ami, live)
    document = review.document() | {"applied": False, "receipt": None} | _live_document(live)
    run.console.result(document, live_table(live, ()))
    _raise_partial(tagged)


def _confirm(run: Invocation, review: Review, request: Request) -> None:
    if run.options.sandbox or request.yes:
        run.console.say(_summary(review))
        return
    _show_talk(run, review)
    if not sys.stdin.isatty():
        msg = "Nothing was applied: nobody is here to confirm. Look at the plan above, then add --yes."
        raise SafetyError(msg)
    if run.console.ask("Apply this plan? Only `yes` does") != "yes":
        msg = "Nothing was applied: not confirmed."
        raise SafetyError(msg)


def _summary(review: Review) -> str:
    moves = [
        f"  {change.address}: {change.old_ami or 'none'} -> {change.new_ami or 'known after the apply'}"
        for change in review.plan.environments
        if change.moves_ami
    ]
    count = ", ".join(f"{number} to {kind}" for kind, number in review.plan.count().items() if number)
    return "\n".join([*moves, count or "outputs only"])


def _show_talk(run: Invocation, review: Review) -> None:
    table = planning.changes_table(review)
    run.console.say("\n".join(f"  {action:8} {address}  {what}".rstrip() for action, address, what in table.rows))
    run.console.say(_summary(review))


def _act(
    root: Root, review: Review, cabinet: Cabinet, dead: Sequence[Filed], *, request: Request, who: Identity
) -> None:
    run = root.run
    started = time.monotonic()
    filed = cabinet.open(_receipt(root, review, who, request.action))
    log = run.workspace.logs / f"{filed.path.stem}.log"
    try:
        terraforming.apply(root, review.saved, log)
        live = _read_back(root, review)
    except (PipelineError, KeyboardInterrupt) as exc:
        _failed(root, cabinet, filed, exc, log)
    done = cabinet.put(Filed(filed.path, filed.receipt.finished("applied", at=_now())))
    _settle(cabinet, dead, live)
    problems = _tag(run, review.facts.expected_ami, live)
    shown = run.workspace.shown(done.path)
    document = review.document() | {
        "applied": True,
        "receipt": shown,
        "duration_s": round(time.monotonic() - started, 1),
        **_live_document(live),
    }
    footer = (f"Applied in {show_duration(time.monotonic() - started)}. Receipt: {shown}.", *_following(run, live))
    run.console.result(document, live_table(live, footer))
    _raise_partial(problems)


def _look_again(run: Invocation, review: Review, who: Identity) -> None:
    """Judge once more with what is so now: a prompt may have waited for an hour.

    Raises:
        TerraformError: The guard refuses by now.
    """
    caller, facts = _caller(run), review.facts
    jobs = facts.jobs
    if any(change.replaces_instances for change in review.plan.environments):
        jobs = planning.running(batch.running_jobs(caller))
    problem = planning.ami_problem(caller, facts.expected_ami, who.account)
    again = replace(facts, jobs=jobs, ami_problem=problem, now=_now())
    replace(review, facts=again, findings=judge(review.plan, again)).raise_refused()


def _receipt(root: Root, review: Review, who: Identity, action: Action) -> Receipt:
    run = root.run
    moves = tuple(
        Change(address=change.address, old=change.old_ami, new=change.new_ami)
        for change in review.plan.environments
        if change.moves_ami and (change.old_ami or change.new_ami)
    )
    return Receipt(
        when=_now(),
        who=who.arn,
        account=who.account,
        region=run.settings.region,
        changes=moves,
        action=action,
        status="started",
        manifest=_manifest_of(run, review.facts.expected_ami),
        git_commit=_git_commit(run.workspace.root),
        plan_sha256=review.saved.sha256,
    )


def _manifest_of(run: Invocation, ami_id: str | None) -> str | None:
    """Return the manifest when the AMI is of its last run."""
    try:
        made = manifests.load(run.workspace.manifest).last_run
        amis = {ami for build in made for ami in build.amis.values()}
    except UsageError:
        return None
    return run.workspace.shown(run.workspace.manifest) if ami_id in amis else None


def _git_commit(root: Path) -> str | None:
    if process.find_program("git") is None:
        return None
    done = process.run(Command(("git", "rev-parse", "HEAD"), cwd=root))
    return done.stdout.strip() if done.returncode == 0 else None


def _read_back(root: Root, review: Review) -> list[Live]:
    """Wait for Batch and compare what it shows with what Terraform did.

    Raises:
        AwsError: AWS cannot be asked.
        TerraformError: AWS shows something else.
    """
    run = root.run
    caller, state = _caller(run), terraforming.state(root)
    with run.console.step("reading back") as note:
        live = reading_back.look(caller, state, with_volumes=False)
        if any(each.environment and each.environment.status not in ("VALID", "INVALID") for each in live):
            poll_s = _SANDBOX_POLL_S if run.options.sandbox else _POLL_S
            reading_back.wait_until_settled(caller, [each.name for each in live], note=note, poll_s=poll_s)
        live = reading_back.look(caller, state)
    touched = {change.address for change in review.plan.environments if change.action != "no-op"}
    problems = [problem for each in live if each.address in touched for problem in each.problems()]
    if problems:
        msg = f"Terraform is done, but AWS shows something else: {'; '.join(problems)}. Run `invoke status`."
        raise TerraformError(msg)
    for remark in (remark for each in live for remark in each.remarks()):
        run.console.warn(remark)
    return live


def _failed(root: Root, cabinet: Cabinet, filed: Filed, cause: BaseException, log: Path) -> None:
    """Complete the receipt of an act that failed, and raise what says how things stand.

    Raises:
        TerraformError: Always, unless the act was interrupted.
        InterruptedRunError: It was.
    """
    run = root.run
    stand = _how_things_stand(root, filed)
    why = "interrupted" if isinstance(cause, KeyboardInterrupt) else str(cause)
    cabinet.put(Filed(filed.path, filed.receipt.finished("failed", at=_now(), note=f"{why} {stand}".strip())))
    following = (
        f"{stand} Run `invoke apply` again to go on, or `invoke rollback` to go back; "
        f"Terraform's log: {run.workspace.shown(log)}, receipt: {run.workspace.shown(filed.path)}."
    )
    if isinstance(cause, KeyboardInterrupt):
        msg = f"The apply was interrupted; Terraform has ended and noted what it did. {following}"
        raise InterruptedRunError(msg) from cause
    kind = type(cause) if isinstance(cause, (TerraformError, AwsError, SafetyError)) else TerraformError
    msg = f"{why} {following}"
    raise kind(msg) from cause


def _how_things_stand(root: Root, filed: Filed) -> str:
    """Return which of the receipt's addresses have moved, by AWS's own word."""
    wanted = {change.address: change for change in filed.receipt.changes}
    try:
        live = reading_back.look(_caller(root.run), terraforming.state(root), with_volumes=False)
    except PipelineError as exc:
        return f"How far it came is not known ({str(exc).rstrip('.')})."
    said = []
    for address, change in wanted.items():
        found = next((each for each in live if each.address == address), None)
        if found is None or found.environment is None:
            said.append(f"{address} is not there")
        else:
            moved = "has moved to" if found.ami_id == change.new else "is still on"
            said.append(f"{address} {moved} {found.ami_id or 'no AMI of its own'} and is {found.environment.status}")
    return f"{'; '.join(said)}." if said else "No compute environment was to move."


def _settle(cabinet: Cabinet, dead: Sequence[Filed], live: Sequence[Live]) -> None:
    """Complete the receipts of runs that were killed, by what is live now."""
    now = {each.address: each.ami_id for each in live}
    for filed in dead:
        is_done = all(now.get(change.address) == change.new for change in filed.receipt.changes)
        note = "cut short; a later run found it applied" if is_done else "cut short; a later run went on from there"
        cabinet.put(Filed(filed.path, filed.receipt.finished("applied" if is_done else "failed", at=_now(), note=note)))


def _tag(run: Invocation, ami_id: str | None, live: Sequence[Live]) -> list[str]:
    """Mark the AMI and its copies as handed over, once an environment has it; return what went wrong."""
    if ami_id is None or ami_id not in {each.ami_id for each in live}:
        return []
    problems = []
    for region, ami in _copies(run, ami_id).items():
        caller = Caller(run.access, region)
        try:
            found = images.some_images(caller, [ami])
            if found and found[0].tags.get(_TAG) != "applied":
                changes.mark_handed_over(caller, ami)
        except AwsError as exc:
            problems.append(f"{ami} in {region}: {str(exc).rstrip('.')}")
    return problems


def _copies(run: Invocation, ami_id: str) -> dict[str, str]:
    """Return region to AMI of the build that made *ami_id*, as its manifest says."""
    try:
        builds = manifests.load(run.workspace.manifest).builds
        made = [build.amis for build in builds if ami_id in build.amis.values()]
    except UsageError:
        made = []
    return dict(made[-1]) if made else {run.settings.region: ami_id}


def _raise_partial(problems: Sequence[str]) -> None:
    if problems:
        msg = (
            f"Done, but the AMI could not be tagged {_TAG}=applied ({'; '.join(problems)}): "
            "clean-up keeps it as pending. Grant ec2:CreateTags and run `invoke apply` again."
        )
        raise PartialError(msg)


def _live_document(live: Sequence[Live]) -> dict[str, Any]:
    return {"live": [each.document() for each in live]}


def live_table(live: Sequence[Live], footer: tuple[str, ...]) -> Table:
    """Return the environments as AWS shows them."""
    rows = [
        (
            each.address,
            each.name,
            each.ami_id or "Batch's own",
            each.environment.status if each.environment else "gone",
            f"{each.rate_mib_s} MiB/s" if each.rate_mib_s else "none",
            str(len(each.volumes)),
        )
        for each in live
    ]
    columns = ("address", "environment", "AMI", "status", "hydration", "instances")
    return Table(columns=columns, rows=rows, numeric=frozenset({"instances"}), footer=footer)


def _following(run: Invocation, live: Sequence[Live]) -> tuple[str, ...]:
    suffix = " --sandbox" if run.options.sandbox else ""
    if not live:
        return ()
    commit = "" if run.options.sandbox else "commit the receipt and the variable; "
    return (f"Next: {commit}`invoke status{suffix}`; `invoke rollback{suffix}` goes back.",)


def _caller(run: Invocation) -> Caller:
    return Caller(run.access, run.settings.region)


def _now() -> datetime:
    return datetime.now(timezone.utc)
