"""`invoke apply`: plan, guard, confirm, check again, write a receipt, apply, read back, complete the receipt."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import msgspec

from gpu_ami.aws import batch
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.sts import Identity
from gpu_ami.console import Table
from gpu_ami.deploy import (
    applied_tag,
    benched,
    coming,
    live_environments,
    plan,
    proven,
    receipts,
    root_module,
    verified,
    wait,
)
from gpu_ami.deploy.guard import judge
from gpu_ami.deploy.history import steps_back, were_live
from gpu_ami.deploy.live_environments import Live
from gpu_ami.deploy.ownership import settled
from gpu_ami.deploy.plan import Review
from gpu_ami.deploy.root_module import Root
from gpu_ami.errors import (
    InterruptedRunError,
    PartialError,
    PipelineError,
    SafetyError,
    TerraformError,
    UsageError,
)
from gpu_ami.handover.receipt_store import ReceiptStore
from gpu_ami.invocation import Invocation
from gpu_ami.locks import only_one
from gpu_ami.records.receipt import Action, StoredReceipt, of_state
from gpu_ami.terraform.plan_changes import EnvironmentChange
from gpu_ami.units import show_count, show_duration

_ON = "run `invoke apply` again."
# Of one resource's, before the question: the log has all.
_SHOWN_CHANGES = 12


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke apply`` requested.

    Attributes:
        variables: Terraform variables as ``name=value``.
        allow_replace: Addresses that may be replaced, destroyed or let go of.
        allow_deposed: Names of what earlier replacements left behind, that may go.
        yes: Whether to act without asking.
        ask: Whether to ask where nobody is asked otherwise: in the sandbox.
        action: What the receipt says that this is.
        wait_minutes: How long to wait for Batch; None takes what the environments give running jobs, and a margin.
    """

    variables: Sequence[str] = ()
    allow_replace: Sequence[str] = ()
    allow_deposed: Sequence[str] = ()
    yes: bool = False
    ask: bool = False
    action: Action = "apply"
    wait_minutes: int | None = None


def run(run: Invocation, request: Request) -> None:
    """Carry out what Terraform would do, unless the guard refuses it.

    Raises:
        UsageError: The flags contradict each other.
        SafetyError: Another apply is under way here, or nobody confirmed this one.
        TerraformError: The guard refuses, or Terraform failed; the line says what state the environments are in.
        PartialError: Applied, but the AMI could not be tagged.
        InterruptedRunError: Interrupted; Terraform has ended and noted what it did.
    """
    check_answer(yes=request.yes, ask=request.ask)
    root = root_module.prepare(run, request.variables)
    if run.options.dry_run:
        run.console.dry_run(root_module.command_lines(root, apply=True))
        return
    with only_one(run.workspace.logs, "apply"):
        who = root_module.begin(root)
        apply_root(root, request, who)


def check_answer(*, yes: bool, ask: bool) -> None:
    """Refuse to both ask and not ask.

    Raises:
        UsageError: Both were requested.
    """
    if yes and ask:
        msg = "--yes applies without asking and --ask asks: give one of them."
        raise UsageError(msg)


def apply_root(root: Root, request: Request, who: Identity, *, acting: Callable[[], None] = lambda: None) -> None:
    """Plan, judge, confirm and carry out; the caller holds the lock and has announced the account.

    *acting* is called when what was only planned begins to happen, or has happened already.
    """
    run = root.run
    allow_replace, allow_deposed = request.allow_replace, request.allow_deposed
    with plan.reviewed(root, who, allow_replace=allow_replace, allow_deposed=allow_deposed) as review:
        if review.findings:
            plan.show(run, review)
            review.raise_refused()
        store = ReceiptStore(root.terraform.folder, root.run.access)
        history = store.all()
        incomplete = receipts.report_incomplete(run, history, review.state)
        if not review.saved.has_changes:
            acting()
            _nothing_to_do(root, review, store, incomplete, request)
            return
        said = _vouched_for(_moves(run, review, history, request.action))
        for line in said:
            run.console.warn(line)
        _confirm(run, review, request, who)
        review = _judge_again(run, review, who)
        for line in _vouched_for(_moves(run, review, history, request.action)):
            if line not in said:
                run.console.warn(line)
        incomplete = _complete_confirmed(root, store, incomplete)
        acting()
        _act(root, review, store, incomplete, request=request, who=who)


@dataclass(frozen=True)
class _Move:
    """Environments that one family's settings are asked about: what must be known of an AMI before it goes live.

    Attributes:
        run: The family's invocation.
        changes: What the plan does to them.
        lived: The AMIs that were live in this state, by the family's receipts.
        goes_back: Whether it is a rollback.
    """

    run: Invocation
    changes: Sequence[EnvironmentChange]
    lived: Set[str]
    goes_back: bool = False


def _moves(run: Invocation, review: Review, history: Sequence[StoredReceipt], action: Action) -> list[_Move]:
    """Return what the plan does to our environments, then to those that are made with another family's AMI."""
    lived = were_live(of_state(history, review.state))
    moves, ours = [_Move(run, review.plan.ours, lived, action == "rollback")], _ours(review)
    for ami, other in review.others.items():
        state = msgspec.structs.replace(review.state, family=other.settings.family)
        theirs = [change for change in settled(review.plan, {ami}).ours if change.address not in ours]
        moves.append(_Move(other, theirs, were_live(of_state(history, state))))
    return moves


def _vouched_for(moves: Sequence[_Move]) -> list[str]:
    """Refuse an AMI that nothing vouches for, by the settings of its family; return what to say of the others.

    It is asked before the question and after it: a record may be changed, or another AMI go live, in the hour of a
    prompt.

    Raises:
        SafetyError: Its provenance, its verification or its bench is refused, or it has none that the settings require.
    """
    said: list[str] = []
    for move in moves:
        proven.check(move.run, move.changes)
        said += verified.check(move.run, move.changes, lived=move.lived, goes_back=move.goes_back)
    for move in moves:
        said += benched.check(move.run, move.changes, lived=move.lived)
    return said


def _complete_confirmed(
    root: Root, store: ReceiptStore, incomplete: Sequence[StoredReceipt]
) -> Sequence[StoredReceipt]:
    """Complete those receipts of *incomplete* that AWS confirms; return the others.

    After the next AMI is live it could not be told any more that theirs ever was: a rollback would go past it.
    """
    if not incomplete:
        return incomplete
    live = live_environments.query(_caller(root.run), root_module.state(root), with_volumes=False)
    done = receipts.confirmed(incomplete, live)
    receipts.complete(store, done, live)
    return [stored for stored in incomplete if stored not in done]


def _nothing_to_do(
    root: Root, review: Review, store: ReceiptStore, incomplete: Sequence[StoredReceipt], request: Request
) -> None:
    """Say so; complete what a run that was killed, or that Batch outlasted, left open."""
    run = root.run
    run.console.say(plan.nothing_to_do(root))
    live: Sequence[Live] = live_environments.query(_caller(run), root_module.state(root))
    if incomplete:
        live = wait.until_ended(root, live, request.wait_minutes, only=_ours(review))
    receipts.complete(store, incomplete, live, is_all_done=True)
    tagged = applied_tag.mark_applied(run, review.facts.expected_ami, live)
    document = review.document() | {"applied": False, "receipt": None} | _live_document(live)
    run.console.result(document, live_table(live, ()))
    applied_tag.raise_untagged(tagged)
    if lines := _invalid_lines(review, live):
        raise TerraformError(lines[0])


def _ours(review: Review) -> frozenset[str]:
    """Return the addresses of the environments that are the pipeline's."""
    return frozenset(change.address for change in review.plan.ours)


def _invalid_lines(review: Review, live: Sequence[Live]) -> list[str]:
    """Return what to say of our environments that Batch calls INVALID; nothing of those that are deleted."""
    ours = _ours(review)
    found = [current.environment for current in live if current.is_invalid and current.address in ours]
    return [live_environments.invalid_line(one.name, one.reason) for one in found if one is not None]


def _confirm(run: Invocation, review: Review, request: Request, who: Identity) -> None:
    if request.yes or not (request.ask or run.target.asks_first):
        for line in [*_uprooted_lines(review), *_ami_lines(review), *_sum_lines(review)]:
            run.console.say(line)
        return
    _show_plan(run, review)
    if not sys.stdin.isatty():
        how = "give --yes instead of --ask" if request.ask else "add --yes"
        msg = f"Nothing was applied: nobody is here to confirm. Read the plan above, then {how}."
        raise SafetyError(msg)
    where = f"account {who.account}, region {run.settings.region}"
    if run.console.ask(f"Apply this plan in {where}? Only `yes` does") != "yes":
        msg = "Nothing was applied: not confirmed."
        raise SafetyError(msg)


def _sum_lines(review: Review) -> list[str]:
    return [plan.counted(review.plan) or "outputs only", *review.remarks]


def _uprooted_lines(review: Review) -> list[str]:
    return [f"  {act.word} {act.address}{f' ({act.remark})' if act.remark else ''}" for act in review.plan.uprooted]


def _ami_lines(review: Review) -> list[str]:
    """Return which environment moves to which AMI; behind a long address a terminal would break an id in two."""
    return [
        line
        for change in review.plan.environments
        if change.moves_ami
        for line in (
            f"  {change.address}",
            f"    {change.old_ami or 'none'} -> {change.new_ami or 'known after the apply'}",
        )
    ]


def _show_plan(run: Invocation, review: Review) -> None:
    for action, address, what in plan.listed(review):
        run.console.say(f"  {action:8} {address}")
        # Below and not behind the address: an id that a terminal breaks in two cannot be copied.
        if what:
            run.console.say(f"           {what}")
        # At the address of what is updated there may be something that was left behind.
        changed = review.plan.updates.get(address, ()) if action == "update" else ()
        for line in changed[:_SHOWN_CHANGES]:
            run.console.say(f"         {line}")
        if len(changed) > _SHOWN_CHANGES:
            log = run.workspace.shown(run.workspace.logs / "terraform-plan.log")
            run.console.say(f"           … {show_count(len(changed) - _SHOWN_CHANGES, 'more attribute')}: {log}")
    for line in _sum_lines(review):
        run.console.say(line)


def _act(
    root: Root,
    review: Review,
    store: ReceiptStore,
    incomplete: Sequence[StoredReceipt],
    *,
    request: Request,
    who: Identity,
) -> None:
    run = root.run
    started = time.monotonic()
    stored = store.open(receipts.receipt(root, review, who, request.action))
    log = run.workspace.logs / f"{stored.path.stem}.log"
    updates = frozenset(change.address for change in review.plan.environments if change.action == "update")
    try:
        late = root_module.apply(root, review.saved, log, updates=updates)
        live = _read_back(root, review, request, late)
    except (wait.OutcomeUnknownError, InterruptedRunError) as exc:
        receipts.left_open(root, store, stored, exc)
    except (PipelineError, KeyboardInterrupt) as exc:
        receipts.failed(root, store, stored, exc, log)
    note = _outwaited_note(live, late) if late else None
    done = StoredReceipt(stored.path, stored.receipt.finished("applied", at=_now(), note=note))
    unrecorded = _recorded(store, done, incomplete, live)
    problems = applied_tag.mark_applied(run, review.facts.expected_ami, live)
    left = _left_to_do(root) if late else None
    shown = run.workspace.shown(done.path)
    document = review.document() | {
        "applied": True,
        "receipt": shown,
        "duration_s": round(time.monotonic() - started, 1),
        **_live_document(live),
    }
    footer = (
        f"Applied in {show_duration(time.monotonic() - started)}. Receipt: {shown}.",
        *_following(
            root,
            _history(store, review),
            [current for current in live if current.address in _ours(review)],
        ),
    )
    run.console.result(document, live_table(live, footer))
    if unrecorded is not None:
        raise PartialError(unrecorded)
    applied_tag.raise_untagged(problems)
    if left is not None:
        raise PartialError(left)
    if lines := _invalid_lines(review, live):
        msg = f"Applied, but {lines[0]}"
        raise PartialError(msg)


def _recorded(
    store: ReceiptStore, done: StoredReceipt, incomplete: Sequence[StoredReceipt], live: Sequence[Live]
) -> str | None:
    """Complete the receipts; return what to say when that fails, as on a full disk: what is live is to be shown."""
    try:
        store.put(done)
        receipts.complete(store, incomplete, live)
    except PipelineError as exc:
        return f"The AMI is applied, but its receipt is not complete: {exc} Then {_ON}"
    return None


def _history(store: ReceiptStore, review: Review) -> Sequence[StoredReceipt]:
    """Return the receipts of the state; none where they cannot be read: what is live is to be shown all the same."""
    try:
        return of_state(store.all(), review.state)
    except PipelineError:
        return ()


def _outwaited_note(live: Sequence[Live], late: Set[str]) -> str:
    """Return what Batch shows of the environments that Terraform's provider did not wait for."""
    shown = [
        f"{current.name} {current.environment.status}"
        for current in live
        if current.address in late and current.environment
    ]
    return f"Terraform stopped waiting before Batch had ended; Batch then showed {', '.join(shown)}."


def _left_to_do(root: Root) -> str | None:
    """Return what Terraform did not get to: it leaves out all that depends on an environment it stopped waiting for."""
    try:
        with root_module.saved_plan(root) as saved:
            acts = root_module.read_plan(root, saved).acts if saved.has_changes else ()
    except PipelineError as exc:
        return f"The AMI is applied; whether Terraform has more to do is not known ({str(exc).rstrip('.')}): {_ON}"
    left = ", ".join(act.address for act in acts)
    return f"The AMI is applied, but Terraform has not got to {left}: {_ON}" if left else None


def _judge_again(run: Invocation, review: Review, who: Identity) -> Review:
    """Judge once more with what is so now, and return that: a prompt may have waited for an hour.

    Raises:
        TerraformError: The guard refuses by now.
        SafetyError: An environment is another family's now than was shown.
    """
    caller, facts = _caller(run), review.facts
    jobs = facts.jobs
    if review.plan.ending:
        jobs = plan.running(batch.running_jobs(caller))
    problem = plan.ami_problem(run, facts.expected_ami, who.account)
    others = plan.elsewhere(run, review.plan)
    families = plan.handed_over_for(others)
    again = replace(facts, jobs=jobs, ami_problem=problem, now=_now(), elsewhere=families)
    now = replace(review, facts=again, findings=judge(review.plan, again), others=others)
    now.raise_refused()
    _raise_moved_on(_whose(review), _whose(now))
    return now


def _whose(review: Review) -> dict[str, list[str]]:
    """Return the environments that move to another AMI and are not ours, with the families that the AMIs are of."""
    found: dict[str, list[str]] = {}
    for ami, other in review.others.items():
        for change in settled(review.plan, {ami}).ours:
            if coming.is_moved(change) and change.address not in _ours(review):
                found[change.address] = sorted({*found.get(change.address, ()), other.settings.family})
    return found


def _raise_moved_on(shown: Mapping[str, Sequence[str]], now: Mapping[str, Sequence[str]]) -> None:
    """Refuse to go on where an environment is another family's now: its settings were asked, or were not, of that AMI.

    Raises:
        SafetyError: One is.
    """
    for address in sorted({*shown, *now}):
        before, after = shown.get(address, ()), now.get(address, ())
        if before != after:
            msg = (
                f"Nothing was applied: {address} had an AMI of {_families(before)} when the plan was shown, and by "
                f"what is handed over now it is one of {_families(after)}. Run the command again."
            )
            raise SafetyError(msg)


def _families(names: Sequence[str]) -> str:
    return " and ".join(names) or "no other family"


def _read_back(root: Root, review: Review, request: Request, late: Set[str]) -> Sequence[Live]:
    """Wait for Batch and compare what it shows with what Terraform did.

    Args:
        root: The root module.
        review: The plan that was carried out.
        request: What the caller requested.
        late: The environments that the provider stopped waiting for.

    Raises:
        AwsError: AWS refused or cannot be reached.
        OutcomeUnknownError: Batch is not done yet, and nobody waits any longer.
        InterruptedRunError: Interrupted while Batch was not done yet.
        TerraformError: AWS shows something else.
    """
    run = root.run
    with run.console.step("reading back"):
        live: Sequence[Live] = live_environments.query(_caller(run), root_module.state(root))
    if late:
        run.console.say(f"Terraform stopped waiting for {', '.join(sorted(late))}; Batch goes on, and so does this.")
    live = wait.until_ended(root, live, request.wait_minutes, only=_ours(review) | late)
    touched = {change.address for change in review.plan.ours if change.action != "no-op"}
    problems = [problem for current in live if current.address in touched for problem in current.problems()]
    if problems:
        msg = f"Terraform is done, but AWS shows something else: {'; '.join(problems)}. Run `invoke status`."
        raise TerraformError(msg)
    ours = [current for current in live if current.address in _ours(review)]
    for remark in (remark for current in ours for remark in current.remarks()):
        run.console.warn(remark)
    return live


def _live_document(live: Sequence[Live]) -> dict[str, Any]:
    return {"live": [current.document() for current in live]}


def live_table(live: Sequence[Live], footer: tuple[str, ...]) -> Table:
    """Return the environments as AWS shows them."""
    rows = [
        (
            current.address or "",
            current.name,
            current.shown_ami,
            current.environment.status if current.environment else "gone",
            f"{current.rate_mib_s} MiB/s" if current.rate_mib_s else "none",
            str(len(current.volumes)),
        )
        for current in live
    ]
    columns = ("address", "environment", "AMI", "status", "hydration", "instances")
    return Table(columns=columns, rows=rows, numeric=frozenset({"instances"}), footer=footer)


def _following(root: Root, history: Sequence[StoredReceipt], live: Sequence[Live]) -> tuple[str, ...]:
    if not live:
        return ()
    if root.run.target.is_kept is False:
        return ("This sandbox ends with the command: `invoke sandbox` in another terminal keeps one up.",)
    commit = ["commit the receipt and the variable"] if root.run.target.is_shared else []
    look = [] if "status" in root.run.coming else ["`invoke status`"]
    at = {current.address: current for current in live if current.address}
    steps = steps_back(
        history,
        {address: current.ami_id or current.known_types.main() for address, current in at.items()},
        names={address: current.name for address, current in at.items()},
    )
    back = sorted({step.back for step in steps if step.back})
    way = [f"`invoke rollback` goes back to {back[0]}"] if len(back) == 1 else []
    advice = "; ".join([*commit, *look, *way])
    return (f"Next: {advice}.",) if advice else ()


def _caller(run: Invocation) -> Caller:
    return Caller(run.access, run.settings.region)


def _now() -> datetime:
    return datetime.now(timezone.utc)
