"""Computes from the receipts which AMI was live before; pure, the oldest receipt first."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec

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


def steps_back(
    receipts: Sequence[StoredReceipt], live: Mapping[str, str | None], *, names: Mapping[str, str] | None = None
) -> tuple[Step, ...]:
    """Return for each address of *live* (address to AMI) the AMI that was live before.

    *names* (address to name on AWS) follows an environment to addresses that it had before, beside what the receipts
    say of moves: its name stays.

    The receipts make a stack per address: an apply pushes its AMI, a rollback pops AMIs down to the one that it goes
    back to. One back is therefore the AMI below the live one, and rolling back twice goes two back. Where the
    newest act was killed or failed, one back is what was live before it.
    """
    return tuple(Step(address, ami, _back(receipts, address, ami, names or {})) for address, ami in live.items())


def about(receipts: Sequence[StoredReceipt], names: Collection[str]) -> tuple[StoredReceipt, ...]:
    """Return *receipts* with only what was done to environments with these *names* on AWS.

    Another workspace has the same addresses, but never the same environment.
    """
    wanted = {*names}
    return tuple(
        msgspec.structs.replace(
            stored,
            receipt=msgspec.structs.replace(
                stored.receipt, changes=tuple(change for change in stored.receipt.changes if change.name in wanted)
            ),
        )
        for stored in receipts
    )


def were_live(receipts: Sequence[StoredReceipt]) -> frozenset[str]:
    """Return the AMIs that *receipts* of one state prove to have been live: that an act ended well on, or began from.

    What an act that was killed or failed moved to is not among them, though the next one may have begun from there.
    """
    changes = [
        (stored.receipt.status in _UNSURE, change)
        for stored in receipts
        if stored.receipt.action != "publish"
        for change in stored.receipt.changes
    ]
    applied = {change.new for is_unsure, change in changes if not is_unsure}
    tried = {change.new for is_unsure, change in changes if is_unsure}
    began_from = {change.old for _, change in changes}
    return frozenset(ami for ami in applied | (began_from - tried) if ami is not None)


def rolled_back_from(receipts: Sequence[StoredReceipt], live: Collection[str | None]) -> str | None:
    """Return the AMI that the newest rollback of one state left behind, where *live* is what it went to."""
    acts = [stored.receipt for stored in receipts if stored.receipt.action != "publish" and stored.receipt.changes]
    if not acts or acts[-1].action != "rollback" or acts[-1].status in _UNSURE:
        return None
    left = {change.old for change in acts[-1].changes if change.new in live and change.old not in live}
    return left.pop() if len(left) == 1 else None


def _back(receipts: Sequence[StoredReceipt], address: str, live: str | None, names: Mapping[str, str]) -> str | None:
    # One that only moved to another address has the AMI that it had.
    acts = [act for act in _acts_on(receipts, address, names) if act[1].old != act[1].new]
    if acts and acts[-1][0].status in _UNSURE:
        return acts[-1][1].old
    stack = _stack([(receipt, change) for receipt, change in acts if receipt.status not in _UNSURE])
    if live in stack:
        at = len(stack) - 1 - stack[::-1].index(live)
        return stack[at - 1] if at else None
    return stack[-1] if stack else None


def _acts_on(receipts: Sequence[StoredReceipt], address: str, names: Mapping[str, str]) -> list[tuple[Receipt, Change]]:
    """Return what was done to the environment that is at *address* now, at whichever addresses it was, oldest first."""
    name = names.get(address)
    others = {other for at, other in names.items() if at != address}
    found = []
    for stored in reversed(receipts):
        if stored.receipt.action == "publish":
            continue
        change = _change_of(stored.receipt.changes, address, name, others)
        if change is not None:
            found.append((stored.receipt, change))
            address = change.previous_address or change.address
    return found[::-1]


def _change_of(changes: Sequence[Change], address: str, name: str | None, others: Collection[str]) -> Change | None:
    """Return the change of the environment with that name, else the one at that address; it may have been replaced."""
    by_name = next((change for change in changes if name is not None and change.name == name), None)
    at_address = (change for change in changes if change.address == address and change.name not in others)
    return by_name or next(at_address, None)


def _stack(acts: Sequence[tuple[Receipt, Change]]) -> list[str | None]:
    """Return the AMIs of an address, the live one on top."""
    stack: list[str | None] = []
    for receipt, change in acts:
        if not stack and change.old is not None:
            stack.append(change.old)
        if receipt.action == "rollback" and change.new in stack:
            del stack[len(stack) - stack[::-1].index(change.new) :]
        elif not stack or stack[-1] != change.new:
            stack.append(change.new)
    return stack


def agreed_target(
    steps: Sequence[Step],
    *,
    unsure: Sequence[Step] = (),
    elsewhere: Mapping[str, Sequence[Step]] | None = None,
    forward: str | None = None,
) -> str:
    """Return the one AMI that all addresses go back to.

    Args:
        steps: Where the receipts of this state lead.
        unsure: Where those of an unknown state would lead: only a person can say whether they are this one's.
        elsewhere: Where those of other states would lead, by what people call the state: it may have been this one
            before it moved to another backend, or before the settings named another family.
        forward: What a rollback has just left behind: the one to name to somebody who rolls back once too often.

    Raises:
        UsageError: There is none, or they do not agree.
    """
    if not steps:
        msg = "Terraform's state has no compute environment: nothing to roll back. Run `invoke apply` first."
        raise UsageError(msg)
    targets = {step.back for step in steps}
    if targets == {None}:
        raise UsageError(_unknown(steps[0].live or "the first", unsure, elsewhere or {}, forward))
    if len(targets) > 1:
        shown = "; ".join(f"{step.address} to {step.back or 'nothing known'}" for step in steps)
        msg = f"The environments would go back to different AMIs ({shown}): choose one with --to."
        raise UsageError(msg)
    (target,) = targets
    if target is None:
        raise AssertionError
    return target


def _unknown(
    live: str, unsure: Sequence[Step], elsewhere: Mapping[str, Sequence[Step]], forward: str | None = None
) -> str:
    of_others = {"an unknown state, which an earlier version wrote,": unsure, **elsewhere}
    offered = {
        whose: found for whose, steps in of_others.items() if (found := sorted({s.back for s in steps if s.back}))
    }
    if not offered:
        how = (
            f"`invoke rollback --to {forward}` goes forward again, to what the last rollback left."
            if forward
            else "name one with `invoke rollback --to AMI`."
        )
        return f"No receipt of this state knows of an AMI before {live}: {how}"
    named = ", ".join(f"those of {whose} name {', '.join(found)}" for whose, found in offered.items())
    (first, *_), *_ = offered.values()
    return f"No receipt of this state knows of an AMI before {live}; {named}: if that was live here, add --to {first}."
