"""Which AMI was live before, by the receipts: pure, the oldest receipt first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpu_ami.errors import UsageError
from gpu_ami.records.receipt import Change, Receipt, StoredReceipt

_UNSURE = ("started", "failed")


@dataclass(frozen=True)
class Step:
    """Where one address would go back to.

    Attributes:
        address: Terraform's address.
        live: The AMI that it has now; None for Batch's own.
        back: The one before; None when no receipt knows of one.
    """

    address: str
    live: str | None
    back: str | None


def steps_back(stored: Sequence[StoredReceipt], live: Mapping[str, str | None]) -> tuple[Step, ...]:
    """Return for each address of *live* (address to AMI) the AMI that was live before.

    The receipts make a pile per address: an apply lays its AMI on top, a rollback takes AMIs off down to the one that
    it goes back to. One back is therefore the AMI below the live one, and rolling back twice goes two back. Where the
    newest act was killed or failed, one back is what was live before it.
    """
    return tuple(Step(address, ami, _back(stored, address, ami)) for address, ami in live.items())


def _back(stored: Sequence[StoredReceipt], address: str, live: str | None) -> str | None:
    acts = [
        (each.receipt, change)
        for each in stored
        if each.receipt.action != "publish"
        for change in each.receipt.changes
        if change.address == address
    ]
    if acts and acts[-1][0].status in _UNSURE:
        return acts[-1][1].old
    pile = _pile([(receipt, change) for receipt, change in acts if receipt.status not in _UNSURE])
    if live in pile:
        at = len(pile) - 1 - pile[::-1].index(live)
        return pile[at - 1] if at else None
    return pile[-1] if pile else None


def _pile(acts: Sequence[tuple[Receipt, Change]]) -> list[str | None]:
    """Return the AMIs of an address, the live one on top."""
    pile: list[str | None] = []
    for receipt, change in acts:
        if not pile and change.old is not None:
            pile.append(change.old)
        if receipt.action == "rollback" and change.new in pile:
            del pile[len(pile) - pile[::-1].index(change.new) :]
        elif not pile or pile[-1] != change.new:
            pile.append(change.new)
    return pile


def agreed_target(steps: Sequence[Step]) -> str:
    """Return the one AMI that all addresses go back to.

    Raises:
        UsageError: There is none, or they do not agree.
    """
    if not steps:
        msg = "Terraform's state has no compute environment: nothing to roll back. Run `invoke apply` first."
        raise UsageError(msg)
    targets = {step.back for step in steps}
    if targets == {None}:
        msg = f"No receipt knows of an AMI before {steps[0].live or 'the first'}: name one with --to ami-…."
        raise UsageError(msg)
    if len(targets) > 1:
        shown = "; ".join(f"{step.address} to {step.back or 'nothing known'}" for step in steps)
        msg = f"The environments would go back to different AMIs ({shown}): choose one with --to."
        raise UsageError(msg)
    (target,) = targets
    if target is None:
        raise AssertionError
    return target
