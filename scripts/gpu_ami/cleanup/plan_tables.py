"""The tables of a clean-up or sweep: what was queried, what goes, what stays and why, and the results."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from gpu_ami.cleanup.decide import SourceReport, Verdict
from gpu_ami.cleanup.execute import Result
from gpu_ami.cleanup.incomplete_builds import SweepPlan
from gpu_ami.cleanup.plan_document import Plan
from gpu_ami.cleanup.restore import Restored
from gpu_ami.console import Table
from gpu_ami.units import show_usd

_SHOWN_REASONS = 3


def source_table(plan: Plan) -> Table:
    """Return what was queried: one row per source, its regions and accounts added up."""
    by_name: dict[str, list[SourceReport]] = {}
    for report in plan.reports:
        by_name.setdefault(report.name, []).append(report)
    rows = [
        (
            name,
            _status(some),
            str(sum(report.calls for report in some)),
            str(sum(report.references for report in some)),
            _remarks(some),
        )
        for name, some in by_name.items()
    ]
    columns = ("source", "status", "calls", "found", "remark")
    return Table(columns=columns, rows=rows, title="Sources", numeric=frozenset({"calls", "found"}))


def plan_table(plan: Plan) -> Table:
    """Return the verdict on each AMI, those that go first, and what it adds up to."""
    verdicts = sorted(plan.decision.verdicts, key=lambda verdict: not verdict.is_selected)
    many = len(plan.regions) > 1
    rows = [_row(plan, verdict, many=many) for verdict in verdicts]
    columns = ("AMI", *(("region",) if many else ()), "family", "made", "launched", "GiB", "verdict", "reason")
    return Table(columns=columns, rows=rows, title="AMIs", footer=_totals(plan), numeric=frozenset({"GiB"}))


def orphan_tables(plan: Plan) -> list[Table]:
    """Return a table of the snapshots that AMIs left behind; none when there are none."""
    if not plan.orphans:
        return []
    rows = [
        (
            orphan.snapshot.snapshot_id,
            orphan.snapshot.region,
            orphan.image_id,
            _ago(orphan.snapshot.started, plan.made_at),
            f"{orphan.gib:.1f}",
            orphan.action,
            "; ".join(reason.detail for reason in orphan.reasons[:_SHOWN_REASONS]),
        )
        for orphan in sorted(plan.orphans, key=lambda orphan: orphan.action)
    ]
    columns = ("snapshot", "region", "was for", "made", "GiB", "verdict", "reason")
    return [Table(columns=columns, rows=rows, title="Orphan snapshots", numeric=frozenset({"GiB"}))]


def sweep_table(plan: SweepPlan) -> Table:
    """Return the verdict on each resource of an incomplete build, and what it adds up to."""
    rows = [
        (
            verdict.resource.kind,
            verdict.resource.identifier,
            verdict.resource.region,
            verdict.resource.run,
            verdict.action,
            "; ".join(reason.detail for reason in verdict.reasons[:_SHOWN_REASONS]),
        )
        for verdict in sorted(plan.verdicts, key=lambda verdict: verdict.action)
    ]
    footer = [f"{_count(len(plan.selected), 'resource')} to remove, {len(rows) - len(plan.selected)} to keep"]
    footer += [f"Nothing may be removed: {block}" for block in plan.blocks]
    columns = ("kind", "id", "region", "build", "verdict", "reason")
    return Table(columns=columns, rows=rows, title="Resources of incomplete builds", footer=tuple(footer))


def result_table(results: Sequence[Result], journal: str | None, *, undo: bool = True) -> Table:
    """Return what was done; failures last."""
    rows = [
        (
            result.image_id,
            result.region,
            result.status,
            ", ".join(f"{key} {outcome}" for key, outcome in result.snapshots.items()) or "none",
            result.error or "",
        )
        for result in sorted(results, key=lambda result: result.is_failed)
    ]
    done = sum(1 for result in results if result.status in ("deleted", "disabled", "deprecated"))
    footer = [f"{done} of {len(results)} done."]
    if journal:
        footer.append(f"Journal: {journal}" + (f" (undo with `invoke cleanup --restore {journal}`)" if undo else ""))
    return Table(columns=("what", "region", "outcome", "snapshots", "error"), rows=rows, footer=tuple(footer))


def restored_table(results: Sequence[Restored]) -> Table:
    """Return what was brought back."""
    rows = [(result.image_id, result.region, result.status, result.error or result.reason or "") for result in results]
    return Table(columns=("what", "region", "outcome", "why"), rows=rows)


def _row(plan: Plan, verdict: Verdict, *, many: bool) -> tuple[str, ...]:
    image = verdict.image
    shown = [reason.detail for reason in verdict.reasons[:_SHOWN_REASONS]]
    if len(verdict.reasons) > _SHOWN_REASONS:
        shown.append(f"and {len(verdict.reasons) - _SHOWN_REASONS} more")
    return (
        image.image_id,
        *((image.region,) if many else ()),
        verdict.family,
        _ago(image.created, plan.made_at),
        _ago(image.last_launched, plan.made_at) if image.last_launched else "never",
        f"{plan.gib_of(image):.1f}",
        verdict.action,
        "; ".join(shown),
    )


def _totals(plan: Plan) -> tuple[str, ...]:
    decision = plan.decision
    selected = len(decision.selected)
    kept = len(decision.verdicts) - selected
    lines = [f"{_count(selected, 'AMI')} to {plan.policy.mode}, {kept} to keep"]
    if decision.outside:
        lines[0] += f", {decision.outside} outside the scope"
    if plan.selected_orphans:
        lines.append(f"{_count(len(plan.selected_orphans), 'orphan snapshot')} to delete")
    if plan.policy.mode == "delete" and (selected or plan.selected_orphans):
        usd = show_usd(plan.usd_per_month)
        lines.append(f"Saves at most {plan.gib:.1f} GiB of snapshots, {usd} a month (blocks that others share stay).")
        lines.append(_recovery(plan))
    lines += [f"Nothing may be changed: {block}" for block in decision.blocks]
    return tuple(lines)


def _recovery(plan: Plan) -> str:
    lost = plan.irrecoverable()
    if lost:
        errors = [bin_.error for bin_ in plan.bins.values() if bin_.error]
        why = f" ({errors[0]})" if errors else ""
        return (
            f"{len(lost)} of them cannot be brought back: no active Recycle Bin rules for AMI and snapshots{why}. "
            "--yes needs --permanent."
        )
    spans = [span for verdict in plan.decision.selected if (span := plan.kept_for(verdict.image)) is not None]
    until = plan.made_at + min(spans) if spans else None
    return f"Recoverable from the Recycle Bin until {until:%Y-%m-%d}." if until else "Recoverable from the Recycle Bin."


def _status(reports: Sequence[SourceReport]) -> str:
    found = [report.status for report in reports]
    return next(status for status in ("failed", "skipped", "ok") if status in found)


def _remarks(reports: Sequence[SourceReport]) -> str:
    said = [report.error for report in reports if report.error]
    said += [note for report in reports for note in report.notes]
    distinct = list(dict.fromkeys(said))
    return "; ".join(distinct[:3]) + (f"; and {len(distinct) - 3} more" if len(distinct) > 3 else "")


def _ago(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "unknown"
    days = (now - moment).days
    return f"{moment:%Y-%m-%d} ({days} d)"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
