"""A clean-up that is decided and shown but not done: its document, its file, and what could be brought back."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from gpu_ami.aws.images import Image, Snapshot, parse_time
from gpu_ami.aws.recycle_bin import IMAGE, SNAPSHOT, Kind, Rule
from gpu_ami.cleanup.decide import Decision, Reason, SourceReport, Verdict, kept
from gpu_ami.cleanup.policy import Policy, policy_of
from gpu_ami.cleanup.usage_reports import Asked
from gpu_ami.errors import SafetyError, UsageError
from gpu_ami.files import read_text
from gpu_ami.records.tags import REGION

_FORMATS = "gpu-ami-cleanup-plan-"
FORMAT = f"{_FORMATS}1"
# Of a fleet's: each verdict names its account.
FLEET_FORMAT = f"{_FORMATS}2"
_NOT_IN_PLAN = Reason("not-in-plan", "the plan that is carried out does not name it")
# An older plan was made of an account that has moved on.
_PLAN_LIFE = timedelta(hours=24)
_WHAT = "clean-up plan"
_LIMIT_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Bin:
    """What is known of a region's Recycle Bin.

    Attributes:
        rules: Its rules; empty when they could not be read.
        error: Why they could not be read.
    """

    rules: tuple[Rule, ...] = ()
    error: str | None = None

    def retention(self, kind: Kind, tags: Mapping[str, str]) -> timedelta | None:
        """Return how long the bin keeps such a resource at least; None when no active rule covers it."""
        return min((rule.retention for rule in self.rules if rule.keeps(kind, tags)), default=None)


@dataclass(frozen=True)
class Orphan:
    """A snapshot whose AMI was deregistered, and the verdict on it."""

    snapshot: Snapshot
    image_id: str
    action: str
    reasons: tuple[Reason, ...]

    @property
    def gib(self) -> float:
        """What it holds at most: its full size where EC2 says it, else the size of its volume."""
        return float(self.snapshot.volume_gib if self.snapshot.full_gib is None else self.snapshot.full_gib)

    def document(self) -> dict[str, Any]:
        """Return the verdict as the plan's JSON has it."""
        return {
            "snapshot_id": self.snapshot.snapshot_id,
            "region": self.snapshot.region,
            "image_id": self.image_id,
            "started": iso(self.snapshot.started),
            "gib": self.gib,
            "action": self.action,
            "reasons": reason_list(self.reasons),
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a clean-up would do.

    Attributes:
        account: Whose AMIs.
        regions: Where.
        policy: What decided.
        decision: The verdicts.
        reports: How the query of each source ended.
        made_at: When.
        snapshots: The snapshots of the AMIs that go, by id.
        bins: The Recycle Bin of each region.
        orphans: Snapshots of AMIs that are gone; empty unless requested.
        usd_per_gib_month: The price of snapshot storage by region; None where it is not known.
        roles: Of the other accounts that were queried for uses.
        asked: What EC2's usage reports said of shared AMIs; None where none were requested.
    """

    account: str
    regions: tuple[str, ...]
    policy: Policy
    decision: Decision
    reports: Sequence[SourceReport]
    made_at: datetime
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    bins: Mapping[str, Bin] = field(default_factory=dict)
    orphans: tuple[Orphan, ...] = ()
    usd_per_gib_month: Mapping[str, Decimal | None] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    asked: Asked | None = None

    @property
    def selected_orphans(self) -> tuple[Orphan, ...]:
        """The orphan snapshots that go."""
        return tuple(orphan for orphan in self.orphans if orphan.action == "delete")

    @property
    def gib(self) -> float:
        """What the snapshots that go hold at most: a snapshot shares blocks with others, which stay."""
        return round(sum(self._gib_by_region().values()), 2)

    @property
    def usd_per_month(self) -> Decimal | None:
        """What storing that costs at most; None when a price is not known."""
        total = Decimal(0)
        for region, gib in self._gib_by_region().items():
            price = self.usd_per_gib_month.get(region)
            if price is None:
                return None
            total += Decimal(str(gib)) * price
        return total.quantize(Decimal("0.01"))

    def _gib_by_region(self) -> dict[str, float]:
        sizes: dict[str, float] = defaultdict(float)
        for verdict in self._deleted:
            sizes[verdict.image.region] += self.gib_of(verdict.image)
        for orphan in self.selected_orphans:
            sizes[orphan.snapshot.region] += orphan.gib
        return sizes

    @property
    def _deleted(self) -> list[Verdict]:
        return [verdict for verdict in self.decision.selected if verdict.action == "delete"]

    def gib_of(self, image: Image) -> float:
        """Return what the snapshots of *image* hold: full size where EC2 says it, else the size of the volumes."""
        found = [self.snapshots.get(key) for key in image.snapshot_ids]
        sizes = [snapshot.full_gib for snapshot in found if snapshot is not None and snapshot.full_gib is not None]
        return round(sum(sizes), 2) if found and len(sizes) == len(found) else float(image.volume_gib)

    def kept_for(self, image: Image) -> timedelta | None:
        """Return for how long *image* and all its snapshots could be brought back; None when not for sure.

        The bin takes AMIs on EBS alone: one on instance store is gone at once.
        """
        if image.root_device != "ebs":
            return None
        bin_ = self.bin_of(image)
        spans = [bin_.retention(IMAGE, image.tags)]
        for snapshot_id in image.snapshot_ids:
            snapshot = self.snapshots.get(snapshot_id)
            spans.append(None if snapshot is None else bin_.retention(SNAPSHOT, snapshot.tags))
        known = [span for span in spans if span is not None]
        return min(known) if len(known) == len(spans) else None

    def bin_of(self, image: Image) -> Bin:
        """Return what is known of the Recycle Bin into which *image* goes."""
        return self.bins.get(image.region, Bin())

    def irrecoverable(self) -> list[str]:
        """Return the ids of what would be gone for good: no active rules of the Recycle Bin cover all of it."""
        images = [v.image.image_id for v in self._deleted if self.kept_for(v.image) is None]
        orphans = [
            orphan.snapshot.snapshot_id
            for orphan in self.selected_orphans
            if self.bins.get(orphan.snapshot.region, Bin()).retention(SNAPSHOT, orphan.snapshot.tags) is None
        ]
        return images + orphans

    def only(self, images: Collection[tuple[str, str]], orphans: Collection[tuple[str, str]], why: Reason) -> Plan:
        """Return the plan in which nothing but these AMIs and orphan snapshots goes; the others stay, and *why*.

        Args:
            images: Region and id of each AMI that may go.
            orphans: Region and id of each orphan snapshot that may go.
            why: What is said of the others.
        """
        verdicts = tuple(
            verdict if (verdict.image.region, verdict.image.image_id) in images else kept(verdict, why)
            for verdict in self.decision.verdicts
        )
        found = tuple(
            dataclasses.replace(orphan, action="keep", reasons=(why, *orphan.reasons))
            if orphan.action == "delete" and (orphan.snapshot.region, orphan.snapshot.snapshot_id) not in orphans
            else orphan
            for orphan in self.orphans
        )
        decision = dataclasses.replace(self.decision, verdicts=verdicts)
        return dataclasses.replace(self, decision=decision, orphans=found)

    def document(self) -> dict[str, Any]:
        """Return the plan as JSON-ready values; the contract with scripts."""
        selected, verdicts = self.decision.selected, self.decision.verdicts
        return {
            "format": FORMAT,
            "made_at": iso(self.made_at),
            "account": self.account,
            "regions": list(self.regions),
            "roles": list(self.roles),
            "policy": self.policy.document(),
            "sources": [report.document() for report in self.reports],
            "blocks": list(self.decision.blocks),
            "verdicts": [self._verdict(verdict) for verdict in verdicts],
            "orphans": [orphan.document() for orphan in self.orphans],
            "recycle_bin": [
                {"region": region, "rules": len(bin_.rules), "error": bin_.error} for region, bin_ in self.bins.items()
            ],
            "totals": {
                "delete": len(selected),
                "keep": len(verdicts) - len(selected),
                "outside_scope": self.decision.outside,
                "orphans": len(self.selected_orphans),
                "gib": self.gib,
                "usd_per_month": None if self.usd_per_month is None else float(self.usd_per_month),
            },
            "applied": False,
            "results": [],
            "journal": None,
            **({} if self.asked is None else {"usage_reports": self.asked.document()}),
        }

    def _verdict(self, verdict: Verdict) -> dict[str, Any]:
        image = verdict.image
        kept_for = self.kept_for(image) if verdict.action == "delete" else None
        return {
            "image_id": image.image_id,
            "region": image.region,
            "name": image.name,
            "family": verdict.family,
            "created": iso(image.created),
            "last_launched": iso(image.last_launched),
            "gib": self.gib_of(image),
            "action": verdict.action,
            "reasons": reason_list(verdict.reasons),
            "recoverable_until": iso(self.made_at + kept_for) if kept_for is not None else None,
        }


@dataclass(frozen=True)
class SavedPlan:
    """A plan from a file: what it would do, to be compared with what is true now.

    Attributes:
        account: Whose AMIs.
        regions: Where.
        policy: What decided.
        images: Region and id of each AMI that goes.
        orphans: Region and id of each orphan snapshot that goes.
        roles: Of the other accounts that were queried for uses.
    """

    account: str
    regions: tuple[str, ...]
    policy: Policy
    images: frozenset[tuple[str, str]]
    orphans: frozenset[tuple[str, str]]
    roles: tuple[str, ...]

    def cut(self, plan: Plan) -> Plan:
        """Return what of *plan*, made now, is carried out: not one AMI or snapshot that this plan does not name."""
        return plan.only(self.images, self.orphans, _NOT_IN_PLAN)


def load(path: Path, *, account: str | None, now: datetime) -> SavedPlan:
    """Return the plan in the file *path*, made by ``--plan``; *account* is None where it is not known yet.

    Raises:
        UsageError: The file is not a plan, or one of another version's format.
        SafetyError: The plan is for another account, was blocked, or is older than a day.
    """
    raw = _read(path)
    try:
        made_at = parse_time(raw["made_at"])
        saved = SavedPlan(
            account=str(raw["account"]),
            regions=tuple(map(str, raw["regions"])),
            policy=policy_of(raw["policy"]),
            images=frozenset((v["region"], v["image_id"]) for v in raw["verdicts"] if v["action"] != "keep"),
            orphans=frozenset((o["region"], o["snapshot_id"]) for o in raw["orphans"] if o["action"] == "delete"),
            roles=tuple(map(str, raw["roles"])),
        )
        if made_at is None or not all(map(REGION.fullmatch, saved.regions)):
            raise ValueError(raw["made_at"])
        blocks = list(raw["blocks"])
    except UsageError as exc:
        raise _no_plan(path, f" that flags could make ({str(exc).rstrip('.')})") from exc
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as exc:
        raise _no_plan(path) from exc
    if account is not None and saved.account != account:
        msg = (
            f"{path} was made for account {saved.account}, the credentials are for {account}: choose another --profile."
        )
        raise SafetyError(msg)
    if not timedelta(minutes=-5) <= now - made_at <= _PLAN_LIFE:
        wrong = "more than a day ago" if made_at < now else "which is still to come"
        msg = f"{path} was made {raw['made_at']}, {wrong}: make a new plan."
        raise SafetyError(msg)
    if blocks:
        msg = f"{path} was blocked when it was made ({blocks[0]}): make a new plan."
        raise SafetyError(msg)
    return saved


def _read(path: Path) -> dict[str, Any]:
    """Return the plan's document.

    Raises:
        UsageError: It is not a plan of this version's format.
    """
    text = read_text(path, what=_WHAT, limit_bytes=_LIMIT_BYTES, hint="Make one with `invoke cleanup --plan FILE`.")
    try:
        raw: dict[str, Any] = json.loads(text)
        found = str(raw["format"])
    except (ValueError, TypeError, LookupError, RecursionError) as exc:
        raise _no_plan(path) from exc
    if found == FORMAT:
        return raw
    if found == FLEET_FORMAT:
        msg = f"{path} is the plan of a fleet: `invoke cleanup --fleet --apply {path}` carries it out."
        raise UsageError(msg)
    if found.startswith(_FORMATS):
        msg = (
            f"{path} is a {_WHAT} of the format {found[:60]}, this version reads {FORMAT}: "
            f"make a new one with `invoke cleanup --plan {path}`."
        )
        raise UsageError(msg)
    raise _no_plan(path)


def _no_plan(path: Path, why: str = "") -> UsageError:
    return UsageError(f"{path} is not a {_WHAT}{why}: move it away, and make one with `invoke cleanup --plan {path}`.")


def reason_list(reasons: Iterable[Reason]) -> list[dict[str, str]]:
    """Return *reasons* as a plan's JSON has them."""
    return [{"code": reason.code, "detail": reason.detail} for reason in reasons]


def iso(moment: datetime | None) -> str | None:
    """Return a UTC *moment* as a plan's JSON has it, such as ``2026-11-23T08:30:00Z``."""
    return f"{moment.isoformat(timespec='seconds')[:19]}Z" if moment else None  # strftime takes ten times as long
