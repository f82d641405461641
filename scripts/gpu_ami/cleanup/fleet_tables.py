"""What people see of a fleet's clean-up: what it adds up to, what goes where, why shared AMIs stay, what was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gpu_ami.cleanup.execute import Result
from gpu_ami.cleanup.fleet_plan import FleetPlan
from gpu_ami.cleanup.grantees import GRANTEES
from gpu_ami.cleanup.inventory import Survey
from gpu_ami.cleanup.plan_tables import View, count_of, gains, lines, loses, sources_table, staying, usage_lines
from gpu_ami.console import Table
from gpu_ami.fleet.narrowing import Narrowing
from gpu_ami.units import show_count

if TYPE_CHECKING:
    from gpu_ami.cleanup.fleet_sweep_plan import FleetSweep

_SHOWN_REASONS = 2
# A unit whose accounts have no role holds a plan up once for each of them.
_SHOWN = 5


def answer_tables(plan: FleetPlan, survey: Survey, view: View) -> list[Table]:
    """Return a plan: what it adds up to, what goes, why shared AMIs stay, what else stays, what was queried."""
    said = [count_of(plan, view), _extent(plan, survey), *_narrowed(plan.narrowed), *gains(plan)]
    if loses(plan):
        said[-1] += " Deleting them needs --permanent."
    said += usage_lines(plan)
    blocks = plan.decision.blocks if view.all else plan.decision.blocks[:_SHOWN]
    said += [f"Nothing may be changed: {block}" for block in blocks]
    if more := len(plan.decision.blocks) - len(blocks):
        said.append(f"And for {show_count(more, 'more reason')}: --all has them.")
    return [lines(said, view), *_going(plan, view), *_kept(plan, survey, view), sources_table(plan, view)]


def outcome_tables(
    plan: FleetPlan,
    survey: Survey,
    results: Mapping[str, Sequence[Result]],
    journals: Mapping[str, str],
    view: View,
) -> list[Table]:
    """Return what was done, account by account, how to undo it, and what stays.

    Args:
        plan: What was to be done.
        survey: What it was made from.
        results: By account what came of each AMI.
        journals: By account where that is written down.
        view: How much to show.
    """
    rows = [
        (result.image_id, account, result.region, result.status, result.error or "")
        for account, some in results.items()
        for result in sorted(some, key=lambda result: result.is_failed)
    ]
    done = sum(result.is_done for some in results.values() for result in some)
    said = [f"{done} of {show_count(len(rows), 'AMI')} done, in {show_count(len(results), 'account')}."]
    said += [*_narrowed(plan.narrowed), *usage_lines(plan)]
    undo = "undo with `invoke cleanup --fleet --restore"
    changed = {account for account, some in results.items() if any(result.status != "kept" for result in some)}
    said += [
        f"{_label(plan, account)}: {undo} {journal}`" for account, journal in journals.items() if account in changed
    ]
    columns = ("AMI", "account", "region", "outcome", "error")
    tables = [Table(columns=columns, rows=rows, title="Results", edge=view.edge)] if rows else []
    return [lines(said, view), *tables, *_kept(plan, survey, view)]


def _extent(plan: FleetPlan, survey: Survey) -> str:
    read = sorted({location.account for location in survey.locations})
    busy = {verdict.image.region for verdict in plan.decision.verdicts}
    places = show_count(len(survey.locations), "place")
    idle = len({location.region for location in survey.locations} - busy)
    texts = f" Without such AMIs, read only for texts that may name one: {show_count(idle, 'region')}." if idle else ""
    return f"Read: {show_count(len(read), 'account')}, {places} (an account and a region each).{texts}"


def _narrowed(found: Narrowing | None) -> list[str]:
    """Return that regions are left out, if any are: what a text in one of them names could go."""
    return [] if found is None else [f"{found.text} A text there may name an AMI, and is not seen."]


def _label(plan: FleetPlan, account: str) -> str:
    name = plan.names.get(account)
    return f"{account} ({name})" if name else account


def _going(plan: FleetPlan, view: View) -> list[Table]:
    rows = [
        (
            verdict.image.image_id,
            _label(plan, verdict.image.account),
            verdict.image.region,
            f"{verdict.image.created:%Y-%m-%d}" if verdict.image.created else "unknown",
            f"{plan.gib_of(verdict.image):.1f}",
        )
        for verdict in plan.decision.selected
    ]
    if not rows:
        return []
    columns = ("AMI", "account", "region", "made", "GiB")
    title = f"To {plan.policy.mode}"
    return [Table(columns=columns, rows=rows, title=title, numeric=frozenset({"GiB"}), edge=view.edge)]


def _kept(plan: FleetPlan, survey: Survey, view: View) -> list[Table]:
    """Return why each AMI stays that another account needs or may need, and all by their first reason."""
    foreign = survey.foreign
    shared = [
        verdict
        for verdict in plan.decision.verdicts
        if not verdict.is_selected
        and (
            verdict.image.image_id in foreign
            or survey.permissions(verdict.image)
            or any(reason.code == GRANTEES for reason in verdict.reasons)
        )
    ]
    rows = [
        (verdict.image.image_id, verdict.image.region, verdict.image.name, view.details(verdict.reasons))
        for verdict in shared
    ]
    tables = []
    if rows:
        columns = ("AMI", "region", "name", "reason")
        tables.append(Table(columns=columns, rows=rows, title="To keep, for other accounts", edge=view.edge))
    return [*tables, *staying(plan, view)]


def sweep_answer(plan: FleetSweep) -> list[Table]:
    """Return what a sweep of a fleet would remove, where and why, and what stays."""
    view = View()
    going = show_count(len(plan.selected), "resource")
    accounts = show_count(len({account for account, _ in plan.selected}), "account")
    kept = sum(len(one.verdicts) for one in plan.plans) - len(plan.selected)
    return [lines([f"{going} of {accounts} to remove, {kept} to keep.", *_sweep_notes(plan)], view), *_swept(plan)]


def sweep_outcome(
    plan: FleetSweep, results: Mapping[str, Sequence[Result]], journals: Mapping[str, str]
) -> list[Table]:
    """Return what a sweep of a fleet removed, account by account, failures last; and what stays."""
    view = View()
    rows = [
        (result.image_id, account, result.region, result.status, result.error or "")
        for account, some in results.items()
        for result in sorted(some, key=lambda result: result.is_failed)
    ]
    done = sum(result.status == "deleted" for some in results.values() for result in some)
    said = [f"{done} of {len(rows)} done.", *_sweep_notes(plan)]
    said += [f"{plan.label(account)}: journal {journal}" for account, journal in journals.items()]
    columns = ("what", "account", "region", "outcome", "error")
    tables = [Table(columns=columns, rows=rows, title="Results", edge=view.edge)] if rows else []
    return [lines(said, view), *tables, *_swept(plan, only="keep")]


def _sweep_notes(plan: FleetSweep) -> list[str]:
    bins = [f"{plan.label(one.account)}: {text}" for one in plan.plans for bin_ in one.bins if (text := bin_.text())]
    problems = (f"{problem[0].upper()}{problem[1:]}" for problem in plan.problems())
    return [*_narrowed(plan.narrowed), *problems, *bins]


def _swept(plan: FleetSweep, *, only: str = "") -> list[Table]:
    """Return what goes and what stays, a table each, unless *only* one of them is meant."""
    tables = []
    for action, title in (("delete", "To remove"), ("keep", "To keep")):
        rows = [
            (
                verdict.resource.kind,
                verdict.resource.identifier,
                one.account,
                verdict.resource.region,
                "; ".join(reason.detail for reason in verdict.reasons[:_SHOWN_REASONS]),
            )
            for one in plan.plans
            for verdict in one.verdicts
            if ("keep" if one.blocks else verdict.action) == action
        ]
        if rows and only in ("", action):
            columns = ("kind", "id", "account", "region", "reason")
            tables.append(Table(columns=columns, rows=rows, title=title, edge=View().edge))
    return tables
