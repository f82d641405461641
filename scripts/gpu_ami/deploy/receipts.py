"""The receipt of an apply: opened before the act, completed by what AWS shows after it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import NoReturn

from gpu_ami import git
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.sts import Identity
from gpu_ami.deploy import live_environments, root_module
from gpu_ami.deploy.live_environments import Live
from gpu_ami.deploy.plan import Review
from gpu_ami.deploy.root_module import Root
from gpu_ami.errors import (
    AwsError,
    InterruptedRunError,
    PipelineError,
    SafetyError,
    TerraformError,
    UsageError,
)
from gpu_ami.handover.receipt_store import ReceiptStore
from gpu_ami.invocation import Invocation
from gpu_ami.records import manifest_file as manifests
from gpu_ami.records.receipt import (
    Action,
    Change,
    Receipt,
    ResourceAct,
    StateIdentity,
    StoredReceipt,
    of_state,
    of_unknown_state,
    unfinished,
)
from gpu_ami.terraform.plan_changes import EnvironmentChange


def receipt(root: Root, review: Review, who: Identity, action: Action) -> Receipt:
    """Return the receipt of an act that is about to begin."""
    run = root.run
    moves = tuple(
        Change(
            address=change.address,
            old=change.old_ami,
            new=change.new_ami,
            name=change.name,
            previous_address=change.previous_address,
        )
        for change in review.plan.ours
        if _is_history(change)
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
        git_commit=git.head(run.workspace.root),
        plan_sha256=review.saved.sha256,
        state=review.state,
        resources=tuple(
            ResourceAct(action=str(act.word), address=act.address, name=act.name, previous_address=act.previous_address)
            for act in review.plan.uprooted
        ),
    )


def _is_history(change: EnvironmentChange) -> bool:
    """Whether the change moves an AMI, or an environment with one to another address: the way back goes through it."""
    return (change.moves_ami or change.previous_address is not None) and bool(change.old_ami or change.new_ami)


def _manifest_of(run: Invocation, ami_id: str | None) -> str | None:
    """Return the manifest when the AMI is of its last run."""
    try:
        made = manifests.load(run.workspace.manifest).last_run
    except UsageError:
        return None
    is_last = any(ami_id in build.amis.values() for build in made)
    return run.workspace.shown(run.workspace.manifest) if is_last else None


def report_incomplete(
    run: Invocation, history: Sequence[StoredReceipt], state: StateIdentity
) -> Sequence[StoredReceipt]:
    """Return the acts on *state* that were cut short, and say so; of *history* only those are for this run to complete.

    An open receipt of an unknown state is named too: what is live here would prove nothing about it.
    """
    mine, unknown = unfinished(of_state(history, state)), unfinished(of_unknown_state(history))
    for stored in (*mine, *unknown):
        shown = run.workspace.shown(stored.path)
        # One that Batch outlasted says so; one that was killed says nothing.
        why = f": {stored.receipt.note}" if stored.receipt.note else "."
        if stored in unknown:
            why = " and does not say in which state: it stays as it is, and clean-up keeps its AMIs."
        run.console.say(f"An apply of {stored.receipt.when:%Y-%m-%d %H:%M} UTC was cut short ({shown}){why}")
    return mine


def failed(root: Root, store: ReceiptStore, stored: StoredReceipt, cause: BaseException, log: Path) -> NoReturn:
    """Complete the receipt of an act that failed, and raise an error that says what state the environments are in.

    Raises:
        TerraformError: Always, unless the act was interrupted.
        InterruptedRunError: It was.
    """
    run = root.run
    state = _describe_state(root, stored)
    why = "interrupted" if isinstance(cause, KeyboardInterrupt) else str(cause)
    try:
        store.put(
            StoredReceipt(stored.path, stored.receipt.finished("failed", at=_now(), note=f"{why} {state}".strip()))
        )
    except PipelineError as exc:
        # What went wrong first is what a person must hear of; the next run finds the receipt open.
        run.console.warn(f"The receipt {run.workspace.shown(stored.path)} could not be completed: {exc}")
    # A rollback goes back to what this act moved away from; where nothing was before, it would only say so.
    before = {change.old for change in stored.receipt.changes if change.old != change.new}
    back = ", or `invoke rollback` to go back" if len(before) == 1 and None not in before else ""
    following = (
        f"{state} Run `invoke apply` again to go on{back}; "
        f"Terraform's log: {run.workspace.shown(log)}, receipt: {run.workspace.shown(stored.path)}."
    )
    if isinstance(cause, KeyboardInterrupt):
        msg = f"The apply was interrupted; Terraform has ended and noted what it did. {following}"
        raise InterruptedRunError(msg) from cause
    kind = type(cause) if isinstance(cause, (TerraformError, AwsError, SafetyError)) else TerraformError
    msg = f"{why} {following}"
    raise kind(msg) from cause


def left_open(root: Root, store: ReceiptStore, stored: StoredReceipt, cause: PipelineError) -> NoReturn:
    """Note in the receipt that Batch had not ended when this run did, and raise *cause*; a later run completes it.

    Raises:
        PipelineError: Always.
    """
    try:
        store.put(StoredReceipt(stored.path, stored.receipt.noted(str(cause))))
    except PipelineError as exc:
        root.run.console.warn(f"The receipt {root.run.workspace.shown(stored.path)} could not be noted in: {exc}")
    raise cause


def _describe_state(root: Root, stored: StoredReceipt) -> str:
    """Return which of the receipt's addresses have moved, as AWS shows them."""
    expected = {change.address: change for change in stored.receipt.changes}
    try:
        live = live_environments.query(
            Caller(root.run.access, root.run.settings.region), root_module.state(root), with_volumes=False
        )
    except PipelineError as exc:
        return f"How far it came is not known ({str(exc).rstrip('.')})."
    parts = []
    for address, change in expected.items():
        found = next((current for current in live if current.address == address), None)
        if found is None or found.environment is None:
            parts.append(f"{address} is not there")
        else:
            moved = "has moved to" if found.has(change.new) else "is still on"
            ami = change.new if found.has(change.new) else found.ami_id
            parts.append(f"{address} {moved} {ami or 'no AMI of its own'} and is {found.environment.status}")
    return f"{'; '.join(parts)}." if parts else "No compute environment was to move."


def complete(
    store: ReceiptStore, incomplete: Sequence[StoredReceipt], live: Sequence[Live], *, is_all_done: bool = False
) -> None:
    """Complete the receipts of runs that were killed, by what is live now; see `confirmed`."""
    done = confirmed(incomplete, live, is_all_done=is_all_done)
    for stored in incomplete:
        is_done = stored in done
        note = "cut short; a later run found it applied" if is_done else "cut short; a later run went on from there"
        store.put(
            StoredReceipt(
                stored.path, stored.receipt.finished("applied" if is_done else "failed", at=_now(), note=note)
            )
        )


def confirmed(
    incomplete: Sequence[StoredReceipt], live: Sequence[Live], *, is_all_done: bool = False
) -> list[StoredReceipt]:
    """Return those of the *incomplete* receipts whose every change is live: they were applied after all.

    Of one that moved no AMI nothing in Batch tells: it was where Terraform has nothing left to do (*is_all_done*).
    """
    now = {current.address: current for current in live}
    return [
        stored
        for stored in incomplete
        if (stored.receipt.changes or is_all_done)
        and all(_is_done(change, now.get(change.address)) for change in stored.receipt.changes)
    ]


def _is_done(change: Change, live: Live | None) -> bool:
    if live is None or live.environment is None:
        return change.new is None
    # Batch shows the new AMI from the first moment of an update, also of one that fails.
    return live.has(change.new) and live.environment.status == "VALID"


def _now() -> datetime:
    return datetime.now(timezone.utc)
