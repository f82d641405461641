"""A clean-up over many accounts: one plan with one graph, cut into one plan for each account whose AMIs go."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from gpu_ami.aws import recycle_bin
from gpu_ami.aws.images import Image, Snapshot, parse_time, snapshots
from gpu_ami.cleanup.decide import Decision, Reason, Verdict, kept
from gpu_ami.cleanup.inventory import Location, Survey, in_parallel
from gpu_ami.cleanup.plan_document import FLEET_FORMAT, FORMAT, Bin, Plan
from gpu_ami.cleanup.planner import ask, clock_reports
from gpu_ami.cleanup.policy import Policy, policy_of
from gpu_ami.cleanup.usage_reports import UsageReports
from gpu_ami.errors import AwsError, SafetyError, UsageError
from gpu_ami.files import read_text
from gpu_ami.fleet.narrowing import Narrowing

_NOT_IN_PLAN = Reason("not-in-plan", "the plan that is carried out does not name it")
_PLAN_LIFE = timedelta(hours=24)
_WHAT = "clean-up plan of a fleet"
_LIMIT_BYTES = 256 * 1024 * 1024
# Returns of AMIs in one place their snapshots, by id, and the Recycle Bin there.
Details = Callable[[Location, Sequence[Image]], tuple[dict[str, Snapshot], Bin]]
# An AMI of a fleet: its account, region and id.
Key = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class FleetPlan(Plan):
    """What a clean-up of a fleet would do; `account` is the hub's.

    Attributes:
        places: The Recycle Bin of each account and region in which something goes.
        names: The accounts by their ids, with their names.
        narrowed: Which regions that are on are not read, and what says so; None where all are.
    """

    places: Mapping[tuple[str, str], Bin] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    narrowed: Narrowing | None = None

    def bin_of(self, image: Image) -> Bin:
        """Return what is known of the Recycle Bin into which *image* goes."""
        return self.places.get((image.account, image.region), Bin())

    @property
    def owners(self) -> tuple[str, ...]:
        """The accounts whose AMIs go."""
        return tuple(sorted({verdict.image.account for verdict in self.decision.selected}))

    def of(self, account: str) -> Plan:
        """Return what of it is about the AMIs of *account*: that account's own plan."""
        verdicts = tuple(verdict for verdict in self.decision.verdicts if verdict.image.account == account)
        return Plan(
            account=account,
            regions=tuple(sorted({verdict.image.region for verdict in verdicts})),
            policy=self.policy,
            decision=Decision(verdicts, self.decision.blocks),
            reports=self.reports,
            made_at=self.made_at,
            snapshots=self.snapshots,
            bins={region: bin_ for (owner, region), bin_ in self.places.items() if owner == account},
            usd_per_gib_month=self.usd_per_gib_month,
        )

    def cut(self, saved: SavedFleetPlan) -> FleetPlan:
        """Return what of it is carried out for *saved*: not one AMI that that one does not name."""
        verdicts = tuple(
            verdict if key_of(verdict) in saved.images else kept(verdict, _NOT_IN_PLAN)
            for verdict in self.decision.verdicts
        )
        return dataclasses.replace(self, decision=dataclasses.replace(self.decision, verdicts=verdicts))

    def document(self) -> dict[str, Any]:
        """Return the plan as JSON-ready values; the contract with scripts."""
        said = super().document()
        for row, verdict in zip(said["verdicts"], self.decision.verdicts, strict=True):
            row["account"] = verdict.image.account
        bins = [
            {"account": account, "region": region, "rules": len(bin_.rules), "error": bin_.error}
            for (account, region), bin_ in self.places.items()
        ]
        accounts = [{"account": account, "name": name} for account, name in self.names.items()]
        return said | {
            "format": FLEET_FORMAT,
            "accounts": accounts,
            "owners": list(self.owners),
            "narrowed": None if self.narrowed is None else self.narrowed.document(),
            "recycle_bin": bins,
            "journals": [],
        }


@dataclass(frozen=True)
class SavedFleetPlan:
    """A fleet's plan from a file: what it would do, to be compared with what is true now.

    Attributes:
        account: The hub's.
        policy: What decided.
        images: The AMIs that go.
        places: Where its sources were queried, an account and a region each.
    """

    account: str
    policy: Policy
    images: frozenset[Key]
    places: frozenset[tuple[str, str]]

    @property
    def to_report_on(self) -> frozenset[tuple[str, str]]:
        """Region and id of each AMI that goes: no other needs an image usage report."""
        return frozenset((region, image_id) for _, region, image_id in self.images)


def key_of(verdict: Verdict) -> Key:
    """Return the account, the region and the id of the AMI of *verdict*."""
    return verdict.image.account, verdict.image.region, verdict.image.image_id


def make_fleet_plan(
    survey: Survey,
    hub: str,
    now: datetime,
    *,
    names: Mapping[str, str],
    usd_per_gib_month: Mapping[str, Decimal | None],
    details: Details | None = None,
    narrowed: Narrowing | None = None,
    usage_reports: UsageReports | None = None,
    only: Collection[tuple[str, str]] | None = None,
) -> FleetPlan:
    """Return what a clean-up of a fleet would do now.

    Args:
        survey: A survey of the fleet that has not queried anything yet.
        hub: The account that it is entered from.
        now: The time.
        names: The accounts by their ids, with their names.
        usd_per_gib_month: The price of snapshot storage by region.
        details: Returns the snapshots of a place's AMIs that go and the Recycle Bin; None asks AWS.
        narrowed: Which regions the survey leaves out, and what says so.
        usage_reports: Makes the reports that the policy demands; None where nothing may be made: then what is shared
            stays.
        only: Region and id of each AMI that a report may be made on; None for all.
    """
    survey.query()
    # An AMI that only a report could let go counts as one that would: all else is read of it before it is reported on.
    unlimited = dataclasses.replace(survey.policy, max_deletions=None, usage_reports=False)
    if candidates := {verdict.image.image_id for verdict in survey.decide(now, unlimited, brief=True).selected}:
        survey.query_images(candidates)
    clock = clock_reports(survey.aws_time, now)
    asked = ask(survey, now, clock, usage_reports, only) if survey.policy.usage_reports else None
    decision = survey.decide(now, more=clock)
    sizes, places = _details(survey, decision, details or details_of)
    return FleetPlan(
        account=hub,
        regions=tuple(sorted({location.region for location in survey.locations})),
        policy=survey.policy,
        decision=decision,
        reports=[*clock, *survey.reports],
        made_at=now,
        snapshots=sizes,
        usd_per_gib_month=usd_per_gib_month,
        places=places,
        names=names,
        narrowed=narrowed,
        asked=asked,
    )


def _details(
    survey: Survey, decision: Decision, details: Details
) -> tuple[dict[str, Snapshot], dict[tuple[str, str], Bin]]:
    """Return the snapshots of what goes, by id, and the Recycle Bin of each place; neither decides anything."""
    going = by_place(verdict.image for verdict in decision.selected)
    busy = [location for location in survey.own_locations if location.place in going]
    found = in_parallel(busy, lambda location: details(location, going[location.place]), workers=survey.workers)
    sizes = {key: snapshot for some, _ in found for key, snapshot in some.items()}
    return sizes, {location.place: bin_ for location, (_, bin_) in zip(busy, found, strict=True)}


def by_place(images: Iterable[Image]) -> dict[tuple[str, str], list[Image]]:
    """Return *images* by their account and region."""
    found: dict[tuple[str, str], list[Image]] = defaultdict(list)
    for image in images:
        found[image.account, image.region].append(image)
    return dict(found)


def details_of(location: Location, images: Sequence[Image]) -> tuple[dict[str, Snapshot], Bin]:
    """Return the snapshots of *images*, which are in *location*, by id, and its Recycle Bin, as AWS says now."""
    try:
        found = snapshots(location.caller, [key for image in images for key in image.snapshot_ids])
    except AwsError:
        found = {}
    try:
        return found, Bin(recycle_bin.rules(location.caller))
    except AwsError as exc:
        return found, Bin(error=str(exc))


def load(path: Path, *, hub: str | None, now: datetime) -> SavedFleetPlan:
    """Return the fleet's plan in the file *path*; *hub* is None where it is not known yet.

    Raises:
        UsageError: The file is no plan of a fleet.
        SafetyError: The plan was made from another account, was blocked, or is older than a day.
    """
    text = read_text(
        path, what=_WHAT, limit_bytes=_LIMIT_BYTES, hint="Make one with `invoke cleanup --fleet --plan FILE`."
    )
    try:
        raw = json.loads(text)
        is_other = raw["format"] == FORMAT
        if not is_other and raw["format"] != FLEET_FORMAT:
            raise ValueError(raw["format"])
        made_at = parse_time(raw["made_at"])
        if made_at is None:
            raise ValueError(raw["made_at"])
        saved = SavedFleetPlan(
            account=str(raw["account"]),
            policy=policy_of(raw["policy"]),
            images=frozenset(_key(row) for row in raw["verdicts"] if row["action"] != "keep"),
            places=frozenset((str(row["account"]), row["region"]) for row in raw["sources"] if row["region"]),
        )
        blocks = list(raw["blocks"])
    except UsageError as exc:
        msg = f"{path} is no {_WHAT} that flags could make ({str(exc).rstrip('.')}): make a new one."
        raise UsageError(msg) from exc
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as exc:
        msg = f"{path} is no {_WHAT}: make one with `invoke cleanup --fleet --plan {path}`."
        raise UsageError(msg) from exc
    if is_other:
        msg = f"{path} is the plan of one account: `invoke cleanup --apply {path}` carries it out."
        raise UsageError(msg)
    _check(path, saved, made_at, raw["made_at"], blocks, hub=hub, now=now)
    return saved


def _key(row: Mapping[str, Any]) -> Key:
    return str(row.get("account")), row["region"], row["image_id"]


def _check(
    path: Path,
    saved: SavedFleetPlan,
    made_at: datetime,
    said: str,
    blocks: Sequence[object],
    *,
    hub: str | None,
    now: datetime,
) -> None:
    if hub is not None and saved.account != hub:
        msg = f"{path} was made from account {saved.account}, the credentials are for {hub}: choose another --profile."
        raise SafetyError(msg)
    if not timedelta(minutes=-5) <= now - made_at <= _PLAN_LIFE:
        wrong = "more than a day ago" if made_at < now else "which is still to come"
        msg = f"{path} was made {said}, {wrong}: make a new plan."
        raise SafetyError(msg)
    if blocks:
        msg = f"{path} was blocked when it was made ({blocks[0]}): make a new plan."
        raise SafetyError(msg)
