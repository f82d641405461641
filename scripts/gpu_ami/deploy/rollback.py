"""`invoke rollback`: finds the AMI that was live before in the receipts, writes the variable and applies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from gpu_ami.aws import images
from gpu_ami.aws.caller import Caller
from gpu_ami.deploy import apply, ownership, plan, root_module
from gpu_ami.deploy.history import about, agreed_target, rolled_back_from, steps_back, were_live
from gpu_ami.deploy.root_module import Root
from gpu_ami.errors import PipelineError, UsageError
from gpu_ami.handover import change as changes
from gpu_ami.handover import update_tfvars
from gpu_ami.handover.receipt_store import ReceiptStore
from gpu_ami.invocation import Invocation
from gpu_ami.locks import only_one
from gpu_ami.records.receipt import StateIdentity, maybe_of_state, of_state, of_unknown_state, other_states
from gpu_ami.records.tags import FAMILY_TAG, checked_ami_id
from gpu_ami.terraform import state_file

# Where each command has an AWS of its own, no advice for the next one helps.
_FRESH = (
    "each --sandbox command starts a fresh AWS; run `invoke sandbox` in another terminal, which keeps one up, then "
    "`invoke build apply` twice, and this again."
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke rollback`` requested.

    Attributes:
        to: The AMI to go to; None takes the one before the live one.
        variables: Terraform variables as ``name=value``.
        allow_deposed: Names of what earlier replacements left behind, that may go.
        yes: Whether to act without asking.
        ask: Whether to ask where nobody is asked otherwise: in the sandbox.
        wait_minutes: How long to wait for Batch; None takes what the environments give running jobs, and a margin.
    """

    to: str | None = None
    variables: Sequence[str] = ()
    allow_deposed: Sequence[str] = ()
    yes: bool = False
    ask: bool = False
    wait_minutes: int | None = None


def run(run: Invocation, request: Request) -> None:
    """Go back to the AMI that was live before.

    Raises:
        UsageError: No receipt knows of one, or that AMI is not there any more.
        SafetyError: Another apply is under way here, or nobody confirmed this one.
        TerraformError: The guard refuses, or Terraform failed.
    """
    if request.to is not None:
        checked_ami_id(request.to, name="--to")
    apply.check_answer(yes=request.yes, ask=request.ask)
    root = root_module.prepare(run, request.variables)
    if run.options.dry_run:
        run.console.dry_run(root_module.command_lines(root, apply=True))
        return
    with only_one(run.workspace.logs, "apply"):
        who = root_module.begin(root)
        target = request.to or _target(root, root_module.state_identity(root, who.account))
        if problem := plan.ami_problem(run, target, who.account):
            advice = _FRESH if run.target.is_kept is False else "choose another AMI with --to."
            msg = f"{target} {problem}: {advice}"
            raise UsageError(msg)
        if request.to is not None:
            _check_family(root, target, root_module.state_identity(root, who.account))
        run.console.say(f"Rolling back to {target}.")
        apply_request = apply.Request(
            variables=request.variables,
            allow_deposed=request.allow_deposed,
            yes=request.yes,
            ask=request.ask,
            action="rollback",
            wait_minutes=request.wait_minutes,
        )
        with _written(run, target) as acting:
            apply.apply_root(root, apply_request, who, acting=acting)


def _check_family(root: Root, target: str, state: StateIdentity) -> None:
    """Refuse an AMI that is another family's of the settings: a slip would put it into this one's environments.

    Raises:
        UsageError: It is, and was never live here.
        AwsError: EC2 refused or cannot be reached.
    """
    run = root.run
    names = {other.settings.family for other in run.siblings()}
    found = images.look_up(Caller(run.access, run.settings.region), target) if names else None
    family = found.tags.get(FAMILY_TAG) if found is not None else None
    if family not in names:
        return
    history = ReceiptStore(root.terraform.folder, run.access).all()
    if target not in were_live(of_state(history, state)):
        msg = (
            f"{target} is of the family {family} ({FAMILY_TAG}) and was never live for {run.settings.family}: "
            f"name one of {run.settings.family} with --to, or give --family {family}."
        )
        raise UsageError(msg)


def _target(root: Root, state: StateIdentity) -> str:
    """Return the AMI before, by the state and its receipts.

    Raises:
        UsageError: No receipt of *state* knows of one.
    """
    history = ReceiptStore(root.terraform.folder, root.run.access).all()
    filed = maybe_of_state(history, state)
    ours = ownership.recorded_ours(root, state_file.environments(root_module.state(root)), filed)
    live = {recorded.address: recorded.images.main(ownership.amis_of(filed)) for recorded in ours}
    names = {recorded.address: recorded.name for recorded in ours}
    own = of_state(history, state)
    steps = steps_back(own, live, names=names)
    if not steps and root.run.target.is_kept is False:
        msg = f"There is nothing to roll back: {_FRESH}"
        raise UsageError(msg)
    for step in steps:
        root.run.console.say(f"  {step.address}")
        # Below the address: an id that a terminal breaks in two cannot be copied.
        before = f", before it {step.back}" if step.back else ""
        root.run.console.say(f"    {step.live or 'no AMI'}{before}")
    elsewhere = {
        other.shown_beside(state): steps_back(about(of_state(history, other), names.values()), live, names=names)
        for other in other_states(history, state)
    }
    return agreed_target(
        steps,
        unsure=steps_back(of_unknown_state(history), live, names=names),
        elsewhere=elsewhere,
        forward=rolled_back_from(own, live.values()),
    )


@contextmanager
def _written(run: Invocation, ami_id: str) -> Iterator[Callable[[], None]]:
    """Write the variable for the block, and put it back when the block fails before it has called what is yielded.

    Raises:
        UsageError: The file cannot be written.
    """
    change = update_tfvars.plan_hand_over(run, {run.settings.region: ami_id})
    changes.apply(change)
    shown = run.workspace.shown(change.file)
    if change.changed:
        run.console.say_diff(change.diff(shown))
    begun: list[bool] = []
    try:
        yield lambda: begun.append(True)
    except BaseException:
        if change.changed and not begun:
            _put_back(run, change)
        raise


def _put_back(run: Invocation, change: changes.Change) -> None:
    """Write what was in the file before; where somebody has handed another AMI over meanwhile, that one stays.

    A question may have waited for an hour. What ended the rollback is what is to be said, and not what ended this.
    """
    shown = run.workspace.shown(change.file)
    try:
        changes.undo(change)
    except PipelineError as exc:
        run.console.warn(f"Nothing was applied, but {shown} is not put back as it was: {exc}")
    else:
        run.console.say(f"{shown} is as it was: nothing was applied.")
