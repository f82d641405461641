"""Tells which compute environments are the pipeline's: they take the handed-over variable, or had one of our AMIs.

A root module may hold others: on Fargate, on EKS, unmanaged, or on EC2 with another AMI or none. They are left alone.
A plan has the configuration, which says what takes the variable; a state has not, so there AMIs and receipts speak. An
environment's tags do not: the provider's default tags give the family's to everything in the root module.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpu_ami.aws import images
from gpu_ami.aws.caller import Caller
from gpu_ami.deploy.live_environments import Live
from gpu_ami.deploy.root_module import Root
from gpu_ami.handover.receipt_store import ReceiptStore
from gpu_ami.records.batch_images import LEFT_ALONE, Kind
from gpu_ami.records.receipt import StoredReceipt
from gpu_ami.records.tags import FAMILY_TAG
from gpu_ami.terraform.plan_changes import EnvironmentChange, Slot
from gpu_ami.terraform.plan_file import Planned
from gpu_ami.terraform.state_file import Recorded

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class LeftAlone:
    """A compute environment that is not the pipeline's.

    Attributes:
        address: Terraform's address; None when its state does not have it.
        name: Its name on AWS; None before it has one.
        why: Why it is left alone.
    """

    address: str | None
    name: str | None
    why: str

    def document(self) -> dict[str, Any]:
        """Return it as the tasks print it in JSON."""
        return dict(vars(self))


def shown(left_alone: Sequence[LeftAlone]) -> str:
    """Return one line about the environments that are left alone; empty when there are none."""
    if not left_alone:
        return ""
    parts = [f"{one.address or one.name} ({one.why})" for one in left_alone[:_SHOWN]]
    more = f" and {len(left_alone) - _SHOWN} more" if len(left_alone) > _SHOWN else ""
    return f"Left alone: {', '.join(parts)}{more}."


# --- in a plan


def settled(plan: Planned, known: Collection[str]) -> Planned:
    """Return *plan* with each image type of each environment marked as ours or not.

    Ours is what takes the variable, or has or gets one of the AMIs *known* as ours. A plan without its configuration
    stays as it is: in it every environment on EC2 counts as ours; so does one in which nothing tells, because nothing
    was handed over and nothing takes the variable.
    """
    amis = {*known, *taken(plan)}
    if not plan.is_traced or (not amis and not any(slot.takes for slot in _slots(plan))):
        return plan
    changes = [
        _settled(change, amis) if isinstance(change, EnvironmentChange) and change.deposed is None else change
        for change in plan.changes
    ]
    return replace(plan, changes=tuple(changes))


def _settled(change: EnvironmentChange, amis: Collection[str]) -> EnvironmentChange:
    # Of several AMIs for one instance a slot shows one.
    among = not {ami for _, ami in (*change.old_conflict, *change.conflict)}.isdisjoint(amis)
    return replace(change, slots=tuple(replace(slot, is_ours=among or _is_ours(slot, amis)) for slot in change.slots))


def _is_ours(slot: Slot, amis: Collection[str]) -> bool:
    return slot.takes or slot.old in amis or slot.new in amis


def taken(plan: Planned) -> frozenset[str]:
    """Return the AMIs of what takes the variable, now and then."""
    return frozenset(ami for slot in _slots(plan) if slot.takes for ami in (slot.old, slot.new) if ami)


def _slots(plan: Planned) -> list[Slot]:
    return [slot for change in plan.environments if change.kind == "EC2" for slot in change.slots]


def undecided(plan: Planned, known: Collection[str]) -> frozenset[str]:
    """Return the AMIs, now, of environments on EC2 of which the plan alone does not say whose they are."""
    if not plan.is_traced:
        return frozenset()
    amis = {*known, *taken(plan)}
    return frozenset(slot.old for slot in _slots(plan) if slot.old and not _is_ours(slot, amis))


def left_alone(plan: Planned, variable: str) -> tuple[LeftAlone, ...]:
    """Return the environments of the settled *plan* that are not ours, and why; none of those that go."""
    return tuple(
        LeftAlone(address=change.address, name=change.name, why=LEFT_ALONE.get(change.kind, _not_taken(variable)))
        for change in plan.environments
        if not change.is_ours and change.action not in ("delete", "forget")
    )


def _not_taken(variable: str) -> str:
    return f"it does not take var.{variable}"


# --- in a state


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What tells whose an environment of a state is."""

    address: str | None
    kind: Kind
    amis: frozenset[str]


def split_live(
    live: Sequence[Live], *, known: Collection[str], filed: Callable[[], Sequence[StoredReceipt]]
) -> tuple[list[Live], list[LeftAlone]]:
    """Return which of *live* are ours, and those that are left alone; of the first kind if nothing tells them apart.

    Args:
        live: The environments of a state, beside what AWS shows of them.
        known: AMIs that are ours.
        filed: Returns the receipts, whose addresses and AMIs are ours; called where the known AMIs leave one open.
    """
    seen = [
        _Seen(
            address=current.address,
            kind=current.kind,
            amis=current.images.named | current.known_types.named,
        )
        for current in live
    ]
    is_ours, amis = _whose(seen, known, filed)
    others = [current for current, ours in zip(live, is_ours, strict=True) if not ours]
    return (
        [_showing(current, amis) for current, ours in zip(live, is_ours, strict=True) if ours],
        [
            LeftAlone(address=one.address, name=one.name, why=LEFT_ALONE.get(one.kind, "it has none of our AMIs"))
            for one in others
        ],
    )


def _showing(current: Live, amis: Collection[str]) -> Live:
    """Return the environment with the AMI in front that is ours, where several image types have one each."""
    there = current.environment
    if there is None or len(there.images.named) < 2 or there.images.conflict:
        return current
    return replace(current, environment=replace(there, ami_id=there.images.main(amis)))


def split_recorded(
    recorded: Sequence[Recorded], *, known: Collection[str], filed: Callable[[], Sequence[StoredReceipt]]
) -> list[Recorded]:
    """Return which environments of a state are ours, as `split_live` does."""
    seen = [_Seen(address=one.address, kind=one.kind, amis=one.images.named) for one in recorded]
    is_ours, _ = _whose(seen, known, filed)
    return [one for one, ours in zip(recorded, is_ours, strict=True) if ours]


def _whose(
    seen: Sequence[_Seen], known: Collection[str], filed: Callable[[], Sequence[StoredReceipt]]
) -> tuple[list[bool], set[str]]:
    """Return of each whether it is ours, and the AMIs that are."""
    may_be = [one.kind == "EC2" for one in seen]
    told = [one.kind == "EC2" and not one.amis.isdisjoint(known) for one in seen]
    amis = {*known}
    if told != may_be:
        receipts = filed()
        amis |= amis_of(receipts)
        addresses = {change.address for stored in receipts for change in stored.receipt.changes}
        told = [
            is_told or (one.kind == "EC2" and (one.address in addresses or not one.amis.isdisjoint(amis)))
            for one, is_told in zip(seen, told, strict=True)
        ]
    # Nothing tells: what is not known to be somebody else's is looked after.
    return (told if any(told) else may_be), amis


# --- which AMIs are ours


def amis_of(receipts: Iterable[StoredReceipt]) -> frozenset[str]:
    """Return every AMI that *receipts* name."""
    changes = [change for stored in receipts for change in stored.receipt.changes]
    return frozenset(ami for change in changes for ami in (change.old, change.new) if ami)


def ours_among(root: Root, candidates: Collection[str], receipts: Sequence[StoredReceipt] | None = None) -> set[str]:
    """Return which of the AMIs *candidates* are ours: named by a receipt, or tagged with the family.

    Nothing is looked up without candidates, nor more than is needed.

    Raises:
        UsageError: A receipt cannot be read.
        AwsError: The receipts' bucket or EC2 refused.
    """
    if not candidates:
        return set()
    run = root.run
    filed = ReceiptStore(root.terraform.folder, run.access).all() if receipts is None else receipts
    others = {name for name in run.settings.names if name != run.settings.family}
    filed = [stored for stored in filed if stored.receipt.state is None or stored.receipt.state.family not in others]
    found = {*candidates} & amis_of(filed)
    if rest := {*candidates} - found:
        described = images.some_images(Caller(run.access, run.settings.region), rest)
        found |= {image.image_id for image in described if image.tags.get(FAMILY_TAG) == run.settings.family}
    return found


def recorded_ours(root: Root, recorded: Sequence[Recorded], receipts: Sequence[StoredReceipt]) -> list[Recorded]:
    """Return which environments of a state are ours; whose an AMI is gets looked up where the receipts do not say it.

    Raises:
        AwsError: EC2 refused.
    """
    named = {ami for one in recorded if one.kind == "EC2" for ami in one.images.named}
    known = ours_among(root, named, receipts)
    return split_recorded(recorded, known=known, filed=lambda: receipts)
