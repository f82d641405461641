"""What people see of what a clean-up, a sweep or a restore did."""

from __future__ import annotations

from collections.abc import Sequence

from gpu_ami.cleanup.decide import Reason
from gpu_ami.cleanup.execute import Result
from gpu_ami.cleanup.plan_document import Plan
from gpu_ami.cleanup.plan_tables import EDGE, View, count_of, gains, key_of, lines, staying, usage_lines
from gpu_ami.cleanup.restore import Restored
from gpu_ami.console import Table
from gpu_ami.units import show_count

_DONE = {"delete": "deleted", "disable": "disabled", "deprecate": "deprecated"}
_NOT_DONE = Reason("not-done", "it was not done")


def result_tables(plan: Plan, results: Sequence[Result], journal: str | None, view: View) -> list[Table]:
    """Return what was done of *plan*, failures last, and what stays and why.

    Args:
        plan: What was to be done.
        results: What came of it.
        journal: The journal to undo it from; None when nothing was done.
        view: How much to show.
    """
    said = [*_outcome(plan, results, view), *usage_lines(plan)]
    if journal:
        said.append(f"Journal: {journal}")
        # One that names nothing that was changed has nothing to undo.
        said += [f"Undo: `invoke cleanup --restore {journal}`"] if any(r.status != "kept" for r in results) else []
    many = len(plan.regions) > 1
    tables = [result_table(results, title="Results", many=many, edge=view.edge)] if results else []
    return [lines(said, view), *tables, *staying(plan, view)]


def sweep_result_table(results: Sequence[Result], journal: str | None) -> Table:
    """Return what was removed; failures last."""
    footer = [f"{sum(result.status == 'deleted' for result in results)} of {len(results)} done."]
    footer += [f"Journal: {journal}"] if journal else []
    return result_table(results, footer=tuple(footer))


def result_table(
    results: Sequence[Result],
    *,
    title: str = "",
    footer: tuple[str, ...] = (),
    many: bool = True,
    edge: int | None = None,
) -> Table:
    """Return what was done; failures last.

    Args:
        results: What came of each AMI or resource.
        title: Said above them.
        footer: Said below them.
        many: Whether they are in several regions.
        edge: So many columns at most.
    """
    rows = [
        (
            result.image_id,
            *((result.region,) if many else ()),
            result.status,
            ", ".join(f"{key} {outcome}" for key, outcome in result.snapshots.items()) or "none",
            result.error or "",
        )
        for result in sorted(results, key=lambda result: result.is_failed)
    ]
    columns = ("what", *(("region",) if many else ()), "outcome", "snapshots", "error")
    return Table(columns=columns, rows=rows, title=title, footer=footer, edge=edge)


def restored_table(results: Sequence[Restored]) -> Table:
    """Return what was brought back."""
    rows = [(result.image_id, result.region, result.status, result.error or result.reason or "") for result in results]
    return Table(columns=("what", "region", "outcome", "why"), rows=rows, edge=EDGE)


def _outcome(plan: Plan, results: Sequence[Result], view: View) -> list[str]:
    """Return what was done and what it saves; only what was done counts."""
    if not results:
        is_cut = plan.decision.selected or plan.selected_orphans
        return [f"Nothing of this plan was begun: {count_of(plan, view)}" if is_cut else count_of(plan, view)]
    mode = plan.policy.mode
    planned = {key_of(verdict) for verdict in plan.decision.selected}
    images = {
        (result.region, result.image_id): result.status
        for result in results
        if (result.region, result.image_id) in planned
    }
    snapshots = {
        (result.region, snapshot_id)
        for result in results
        for snapshot_id, outcome in result.snapshots.items()
        if outcome.status == "deleted"
    }
    done = plan.only({key for key, status in images.items() if status == _DONE[mode]}, snapshots, _NOT_DONE)
    tried = [status for status in images.values() if status != _DONE[mode]]
    parts = [f"{show_count(len(done.decision.selected), 'AMI')} {_DONE[mode]}"] if planned else []
    parts += [f"{tried.count(status)} {status}" for status in dict.fromkeys(tried)]
    if plan.selected_orphans:
        orphans = show_count(len(plan.selected_orphans), "orphan snapshot")
        parts.append(f"{len(done.selected_orphans)} of {orphans} deleted")
    # What the bin was seen not to have is among the errors.
    known = 1 if any(result.is_lost for result in results) else None
    return [f"{', '.join(parts)}.", *gains(done)[:known]]
