"""What a sweep of a fleet would remove: one plan for each account, whose AMIs one graph judges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from gpu_ami.cleanup.decide import SourceReport, find_blocks
from gpu_ami.cleanup.incomplete_builds import SweepPlan, SweepVerdict, decide_sweep, why_idle, without_images
from gpu_ami.cleanup.inventory import Location, Survey
from gpu_ami.cleanup.sweep_planner import Leftovers, leftovers_of, plan_of, time_reports, verdicts_on
from gpu_ami.cleanup.sweep_scope import Ages
from gpu_ami.fleet.narrowing import Narrowing
from gpu_ami.invocation import Invocation


@dataclass(frozen=True, kw_only=True)
class FleetSweep:
    """What a sweep of a fleet would remove.

    Attributes:
        hub: The account that it is entered from.
        names: The accounts by their ids, with their names.
        plans: Of each account that could be entered.
        reports: How every query ended.
        images_kept: Why no AMI goes in any account; None where they may.
        narrowed: Which regions that are on are not swept, and what says so; None where all are.
    """

    hub: str
    names: Mapping[str, str]
    plans: tuple[SweepPlan, ...]
    reports: tuple[SourceReport, ...]
    images_kept: str | None = None
    narrowed: Narrowing | None = None

    @property
    def selected(self) -> list[tuple[str, SweepVerdict]]:
        """What would go, each with its account."""
        return [(plan.account, verdict) for plan in self.plans if not plan.blocks for verdict in plan.selected]

    @property
    def blocks(self) -> list[str]:
        """Why nothing goes in an account, with that account."""
        return [f"{self.label(plan.account)}: {block}" for plan in self.plans for block in plan.blocks]

    def label(self, account: str) -> str:
        """Return *account* with its name, where it has one."""
        name = self.names.get(account)
        return f"{account} ({name})" if name else account

    def problems(self) -> Iterator[str]:
        """Yield what could not be swept, account by account: a job should not look well then."""
        for report in self.reports:
            if report.name == "account" and report.status == "failed":
                yield f"what {self.label(str(report.account))} has stays: {report.error}"
        for block in self.blocks:
            yield f"what {block.partition(':')[0]} has stays:{block.partition(':')[2]}"
        if self.images_kept is not None and any(
            verdict.resource.kind == "image" and any(reason.detail == self.images_kept for reason in verdict.reasons)
            for plan in self.plans
            for verdict in plan.verdicts
        ):
            yield f"AMIs are kept: {self.images_kept}"

    def document(self) -> dict[str, Any]:
        """Return the plan as JSON-ready values; the contract with scripts."""
        verdicts = [{"account": plan.account, **one.document()} for plan in self.plans for one in plan.verdicts]
        going = len(self.selected)
        return {
            "account": self.hub,
            "accounts": [{"account": account, "name": name} for account, name in self.names.items()],
            "regions": sorted({region for plan in self.plans for region in plan.regions}),
            "narrowed": None if self.narrowed is None else self.narrowed.document(),
            "older_than_s": next((int(plan.older_than.total_seconds()) for plan in self.plans), 0),
            "sources": [report.document() for report in self.reports],
            "blocks": self.blocks,
            "verdicts": verdicts,
            "recycle_bin": [{"account": plan.account, **one.document()} for plan in self.plans for one in plan.bins],
            "totals": {"delete": going, "keep": len(verdicts) - going},
            "applied": False,
            "results": [],
            "journal": None,
            "journals": [],
        }


def make_plan(
    run: Invocation, survey: Survey, hub: str, names: Mapping[str, str], ages: Ages, kinds: Sequence[str]
) -> FleetSweep:
    """Return what a sweep of the fleet would remove now.

    What needs an AMI is read, in all accounts, only where an AMI would go: most sweeps find none.

    Args:
        run: The invocation.
        survey: Of the fleet; it has not queried anything yet.
        hub: The account that it is entered from.
        names: The accounts by their ids, with their names.
        ages: From when on a build is over.
        kinds: What to look for.
    """
    now = datetime.now(timezone.utc)
    leftovers = leftovers_of(survey.own_locations, kinds, run.settings.family, workers=survey.workers)
    aws_time = survey.aws_time
    verdicts = {one.account: _at_worst(one, ages, aws_time or now) for one in leftovers}
    if any(one.action == "delete" and one.resource.kind == "image" for some in verdicts.values() for one in some):
        survey.query()
        verdicts = verdicts_on(survey, leftovers, ages, aws_time or now)
    clock, seen = time_reports(aws_time, now), survey.reports
    listed = [report for one in leftovers for report in one.reports]
    blocks = find_blocks([report for report in (*seen, *listed) if report.status == "failed"], survey.policy)
    images_kept = blocks[0] if blocks and any(report.status == "failed" for report in (*seen, *listed)) else None
    of: dict[str, list[Location]] = {}
    for location in survey.own_locations:
        of.setdefault(location.account, []).append(location)
    plans = []
    for one in leftovers:
        some = verdicts[one.account]
        if why := _why_no_image(survey, some, one.account, images_kept):
            some = without_images(some, why)
        plans.append(plan_of(of[one.account], one, some, [*clock, *one.reports], survey, now))
    return FleetSweep(
        hub=hub, names=names, plans=tuple(plans), reports=(*clock, *seen, *listed), images_kept=images_kept
    )


def _at_worst(found: Leftovers, ages: Ages, now: datetime) -> list[SweepVerdict]:
    """Return the verdicts on what an account has as if nothing needed any AMI."""
    return decide_sweep(found.resources, (), {}, ages.older_than, now, ages.requested, found.unseen)


def _why_no_image(
    survey: Survey, verdicts: Sequence[SweepVerdict], account: str, images_kept: str | None
) -> str | None:
    """Return why no AMI of *account* goes; None where that is not so, or none would go anyway."""
    if not any(one.action == "delete" and one.resource.kind == "image" for one in verdicts):
        return None
    return images_kept or why_idle(survey, account)
