"""What people see of a plan: what it adds up to, then what goes, then what stays and why, then what was queried."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from gpu_ami.cleanup.decide import Reason, SourceReport, Verdict, age_of, denied_together, show_span
from gpu_ami.cleanup.incomplete_builds import SweepPlan
from gpu_ami.cleanup.plan_document import Orphan, Plan, SavedPlan
from gpu_ami.cleanup.usage_reports import LIMITS
from gpu_ami.console import Table
from gpu_ami.units import show_count, show_usd

_T = TypeVar("_T")
_SHOWN_REASONS = 3
# As much as two windows side by side, a mail and a job's log show without breaking lines.
EDGE = 100


@dataclass(frozen=True, kw_only=True)
class View:
    """How much of a plan is shown.

    Attributes:
        all: Whether each AMI that stays and each source has a line; otherwise only counts and what is unusual.
        wide: Whether each AMI has a line with its verdict and every reason in full, however long that gets.
        saved: The earlier plan that is carried out; None where there is none.
        file: Its name, as the caller typed it.
    """

    all: bool = False
    wide: bool = False
    saved: SavedPlan | None = None
    file: str = ""

    @property
    def edge(self) -> int | None:
        """So many columns at most; None for no limit."""
        return None if self.wide else EDGE

    def covers(self, image: tuple[str, str]) -> bool:
        """Return whether an AMI, by its region and id, is what the plan that is carried out is about."""
        return self.saved is None or image in self.saved.images

    def details(self, reasons: Sequence[Reason]) -> str:
        """Return *reasons* as a cell has them."""
        told = [reason.detail if self.wide else _told(reason) for reason in reasons]
        # Of a fleet a public snapshot is a reason twice: who may launch the AMI, and that of one account alone.
        different = list(dict.fromkeys(told))
        shown = different if self.wide else different[:_SHOWN_REASONS]
        more = [f"and {len(different) - len(shown)} more"] if len(different) > len(shown) else []
        return "; ".join([*shown, *more])


def plan_tables(plan: Plan, view: View) -> list[Table]:
    """Return a plan: what it adds up to, what goes, what stays and why, what was queried."""
    verdicts = _every(plan, view) if view.wide else [*_going(plan, view), *staying(plan, view)]
    return [lines(_answer(plan, view), view), *verdicts, sources_table(plan, view)]


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
    footer = [f"{show_count(len(plan.selected), 'resource')} to remove, {len(rows) - len(plan.selected)} to keep"]
    footer += [f"Nothing may be removed: {block}" for block in plan.blocks]
    footer += [text for bin_ in plan.bins if (text := bin_.text()) is not None]
    columns = ("kind", "id", "region", "build", "verdict", "reason")
    return Table(columns=columns, rows=rows, title="Resources of incomplete builds", footer=tuple(footer))


def lines(texts: Iterable[str], view: View) -> Table:
    """Return *texts* alone, as what comes before the tables."""
    return Table(columns=(), rows=[], footer=tuple(texts), edge=view.edge)


def _answer(plan: Plan, view: View) -> list[str]:
    """Return what the plan adds up to, and what is the same for all that goes."""
    decision = plan.decision
    said = [count_of(plan, view)]
    if decision.selected:
        said.append(f"Each of them: {_shared_reasons(plan)}.")
    if plan.selected_orphans:
        said.append(f"{show_count(len(plan.selected_orphans), 'orphan snapshot')} to delete.")
    said += gains(plan)
    if loses(plan):
        said[-1] += " Deleting them needs --permanent."
    said += usage_lines(plan)
    return said + [f"Nothing may be changed: {block}" for block in decision.blocks]


def usage_lines(plan: Plan) -> list[str]:
    """Return what was made on AWS to make the plan, what became of it, and what it cannot tell."""
    if plan.asked is None:
        return []
    asked = plan.asked
    if asked.is_dry and asked.answers:
        shared = show_count(len(asked.answers), "shared AMI")
        return [f"No image usage report was made, as --dry-run makes none: {shared} stay for that."]
    if not asked.answers:
        return ["No image usage report was made: no shared AMI would go."]
    states = [answer.status for answer in asked.answers]
    shared = show_count(len(states), "shared AMI")
    found = f"other accounts use {states.count('used')} and do not use {states.count('unused')}"
    unknown = f"; of {states.count('unknown')} it is not known" if "unknown" in states else ""
    made = f"Made {show_count(asked.made, 'image usage report')}"
    reused = f" and read {asked.reused} that another run had made" if asked.reused else ""
    said = [f"{made}{reused}. Of {shared} that would go, {found}{unknown}."]
    said.append(f"What such reports do not tell: {'; '.join(LIMITS)}.")
    if asked.left:
        names = ", ".join(one.place for one in asked.left)
        first = asked.left[0]
        said.append(
            f"Image usage reports that could not be deleted: {names} ({first.report_id}: {first.error}). EC2 deletes "
            "them after 30 days, and a new run takes over those that are no longer pending."
        )
    elif asked.deleted:
        said.append(f"Deleted {show_count(asked.deleted, 'image usage report')} again.")
    return said


def count_of(plan: Plan, view: View) -> str:
    """Return how many AMIs go and how many stay; of an earlier plan, how many of those that it names."""
    decision, mode = plan.decision, plan.policy.mode
    going = show_count(len(decision.selected), "AMI")
    staying = [verdict for verdict in decision.verdicts if not verdict.is_selected]
    outside = f", {decision.outside} outside the scope" if decision.outside else ""
    if view.saved is None:
        return f"{going} to {mode}, {len(staying)} to keep{outside}."
    by_now = sum(view.covers(key_of(verdict)) for verdict in staying)
    gone = len(view.saved.images) - len(decision.selected) - by_now
    text = f"{going} to {mode}, of {len(view.saved.images)} in {view.file}"
    text += f", {by_now} to keep by now" if by_now else ""
    text += f", {gone} gone already or out of the scope" if gone else ""
    return f"{text}. {show_count(len(staying) - by_now, 'other')} to keep{outside}."


def what_goes(plan: Plan) -> str:
    """Return what carrying *plan* out does: ``delete 9 AMIs and 1 orphan snapshot``."""
    acts = {plan.policy.mode: show_count(len(plan.decision.selected), "AMI")} if plan.decision.selected else {}
    said = [f"{mode} {amis}" for mode, amis in acts.items()]
    if plan.selected_orphans:
        snapshots = show_count(len(plan.selected_orphans), "orphan snapshot")
        said.append(snapshots if "delete" in acts else f"delete {snapshots}")
    return " and ".join(said)


def _shared_reasons(plan: Plan) -> str:
    """Return why all that go may go, as far as it is the same for all of them; ages have a column."""
    first, *others = plan.decision.selected
    families = {verdict.family for verdict in plan.decision.selected}
    said = {
        "old": f"not made or launched for {show_span(plan.policy.older_than)} or more",
        "not-among-newest": f"not among the {plan.policy.keep} newest of "
        + (first.family if len(families) == 1 else "their family"),
    }
    codes = [{reason.code for reason in verdict.reasons} for verdict in others]
    shared = [reason for reason in first.reasons if all(reason.code in some for some in codes)]
    return "; ".join(said.get(reason.code, reason.detail) for reason in shared)


def gains(plan: Plan) -> list[str]:
    """Return what deleting saves, and whether there is a way back; nothing where nothing is deleted."""
    if not (plan.decision.selected and plan.policy.mode == "delete") and not plan.selected_orphans:
        return []
    usd = show_usd(plan.usd_per_month)
    saves = f"Saves at most {plan.gib:.1f} GiB of snapshots, {usd} a month (blocks that others share stay)."
    return [saves, _recovery(plan)]


def loses(plan: Plan) -> bool:
    """Return whether something goes for which there is no way back."""
    return bool(gains(plan)) and bool(plan.irrecoverable())


def _recovery(plan: Plan) -> str:
    lost = plan.irrecoverable()
    if lost:
        errors = [bin_.error for bin_ in plan.bins.values() if bin_.error]
        why = f" ({errors[0]})" if errors else ""
        return f"{len(lost)} of them cannot be brought back: no active Recycle Bin rules for AMI and snapshots{why}."
    spans = [span for verdict in plan.decision.selected if (span := plan.kept_for(verdict.image)) is not None]
    until = plan.made_at + min(spans) if spans else None
    return f"Recoverable from the Recycle Bin until {until:%Y-%m-%d}." if until else "Recoverable from the Recycle Bin."


def _every(plan: Plan, view: View) -> list[Table]:
    """Return the verdict on each AMI and orphan snapshot with every reason, those that go first."""
    tables = []
    if plan.decision.verdicts:
        verdicts = sorted(plan.decision.verdicts, key=lambda verdict: not verdict.is_selected)
        rows = [
            (*cells, f"{plan.gib_of(v.image):.1f}", v.action, view.details(v.reasons))
            for v, cells in _image_rows(plan, verdicts)
        ]
        tables.append(_table((*_image_columns(plan, verdicts), "GiB", "verdict", "reason"), rows, "AMIs", view))
    if plan.orphans:
        rows = [
            (*_orphan_row(plan, orphan), f"{orphan.gib:.1f}", orphan.action, view.details(orphan.reasons))
            for orphan in sorted(plan.orphans, key=lambda orphan: orphan.action)
        ]
        columns = (*_orphan_columns(plan), "GiB", "verdict", "reason")
        tables.append(_table(columns, rows, "Orphan snapshots", view))
    return tables


def _going(plan: Plan, view: View) -> list[Table]:
    """Return the AMIs that go, and the orphan snapshots; no table where there are none."""
    tables = []
    if plan.decision.selected:
        rows = [(*cells, f"{plan.gib_of(v.image):.1f}") for v, cells in _image_rows(plan, plan.decision.selected)]
        columns = (*_image_columns(plan, plan.decision.selected), "GiB")
        tables.append(_table(columns, rows, f"To {plan.policy.mode}", view))
    if plan.selected_orphans:
        rows = [(*_orphan_row(plan, orphan), f"{orphan.gib:.1f}") for orphan in plan.selected_orphans]
        tables.append(_table((*_orphan_columns(plan), "GiB"), rows, "Orphan snapshots to delete", view))
    return tables


def staying(plan: Plan, view: View) -> list[Table]:
    """Return the AMIs and orphan snapshots that stay: each of them, or how many for which reason."""
    verdicts = [verdict for verdict in plan.decision.verdicts if not verdict.is_selected]
    orphans = [orphan for orphan in plan.orphans if orphan.action != "delete"]
    if view.all:
        return _each(plan, verdicts, orphans, view)
    tables = []
    if view.saved is not None:
        # What is in the plan and stays all the same is for whoever approved the plan; the rest is counted above.
        verdicts = [verdict for verdict in verdicts if view.covers(key_of(verdict))]
        orphans = []
        tables += _each(plan, verdicts, [], view)
    elif verdicts:
        tables.append(_groups("AMIs", "To keep, by the first reason", verdicts, lambda v: v.reasons, view))
    if orphans:
        title = "Orphan snapshots to keep, by the first reason"
        tables.append(_groups("snapshots", title, orphans, lambda orphan: orphan.reasons, view))
    return tables


def _each(plan: Plan, verdicts: Sequence[Verdict], orphans: Sequence[Orphan], view: View) -> list[Table]:
    tables = []
    if verdicts:
        ordered = [verdict for some in _by_reason(verdicts, lambda v: v.reasons).values() for verdict in some]
        # A reason that is about them has the dates; without them its text fits a small terminal.
        images = _image_rows(plan, ordered, with_use=view.wide)
        rows = [(*cells, view.details(verdict.reasons)) for verdict, cells in images]
        columns = (*_image_columns(plan, ordered, with_use=view.wide), "reason")
        tables.append(_table(columns, rows, "To keep", view))
    if orphans:
        rows = [(*_orphan_row(plan, orphan), view.details(orphan.reasons)) for orphan in orphans]
        tables.append(_table((*_orphan_columns(plan), "reason"), rows, "Orphan snapshots to keep", view))
    return tables


def _groups(
    what: str, title: str, items: Sequence[_T], reasons_of: Callable[[_T], Sequence[Reason]], view: View
) -> Table:
    rows = [
        (str(len(some)), code, _example([reasons_of(item)[0] for item in some]))
        for code, some in _by_reason(items, reasons_of).items()
    ]
    footer = ("Add --all to see each of them, --wide to see every reason of each.",)
    columns = (what, "reason", "such as")
    return Table(columns=columns, rows=rows, title=title, footer=footer, numeric=frozenset({what}), edge=view.edge)


def _by_reason(items: Iterable[_T], reasons_of: Callable[[_T], Sequence[Reason]]) -> dict[str, list[_T]]:
    """Return *items* by the code of their first reason, the largest group first."""
    groups: dict[str, list[_T]] = {}
    for item in items:
        groups.setdefault(reasons_of(item)[0].code, []).append(item)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def _example(reasons: Sequence[Reason]) -> str:
    """Return what stands for a group's *reasons*, all of one code."""
    different = list(dict.fromkeys(map(_told, reasons)))
    return different[0] + (" …" if len(different) > 1 else "")


def _told(reason: Reason) -> str:
    # What blocks everything is told once, in the answer.
    return "would go, were not everything kept" if reason.code == "blocked" else reason.detail


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], title: str, view: View) -> Table:
    return Table(columns=columns, rows=rows, title=title, numeric=frozenset({"unused for", "GiB"}), edge=view.edge)


def _image_columns(plan: Plan, verdicts: Sequence[Verdict], *, with_use: bool = True) -> tuple[str, ...]:
    """Return the headings for *verdicts*; a region or a family that all have has no column."""
    where = (*(("region",) if len(plan.regions) > 1 else ()), *(("family",) if _many_families(verdicts) else ()))
    return ("AMI", *where, "made", *(("launched", "unused for") if with_use else ()))


def _image_rows(
    plan: Plan, verdicts: Sequence[Verdict], *, with_use: bool = True
) -> list[tuple[Verdict, tuple[str, ...]]]:
    many = _many_families(verdicts)
    return [(verdict, _image_row(plan, verdict, with_family=many, with_use=with_use)) for verdict in verdicts]


def _image_row(plan: Plan, verdict: Verdict, *, with_family: bool, with_use: bool) -> tuple[str, ...]:
    image = verdict.image
    age = age_of(image, plan.made_at)
    launched = _date(image.last_launched) if image.last_launched else "never"
    unused = f"{max(0, age.days)} d" if age is not None else "unknown"
    return (
        image.image_id,
        *((image.region,) if len(plan.regions) > 1 else ()),
        *((verdict.family,) if with_family else ()),
        _date(image.created),
        *((launched, unused) if with_use else ()),
    )


def _many_families(verdicts: Sequence[Verdict]) -> bool:
    return len({verdict.family for verdict in verdicts}) > 1


def _orphan_columns(plan: Plan) -> tuple[str, ...]:
    return ("snapshot", *(("region",) if len(plan.regions) > 1 else ()), "was for", "made")


def _orphan_row(plan: Plan, orphan: Orphan) -> tuple[str, ...]:
    region = (orphan.snapshot.region,) if len(plan.regions) > 1 else ()
    return (orphan.snapshot.snapshot_id, *region, orphan.image_id, _date(orphan.snapshot.started))


def sources_table(plan: Plan, view: View) -> Table:
    """Return what was queried: one row per source, or per remark where there is one; regions and accounts added up."""
    by_name: dict[str, list[SourceReport]] = {}
    for report in plan.reports:
        by_name.setdefault(report.name, []).append(report)
    states = {name: _status(some) for name, some in by_name.items()}
    counts = [f"{list(states.values()).count(status)} {status}" for status in dict.fromkeys(states.values())]
    footer = (f"{show_count(len(states), 'source')}: {', '.join(counts) or 'none'}.",)
    told = () if view.wide else denied_together(plan.reports)
    remarks = {name: _remarks(some, told, view) for name, some in by_name.items()}
    if not view.all:
        return Table(("status", "sources", "remark"), _unusual(states, remarks), "Sources", footer, edge=view.edge)
    rows = [
        (
            name,
            states[name],
            str(sum(report.calls for report in some)),
            str(sum(report.references for report in some)),
            remarks[name],
        )
        for name, some in by_name.items()
    ]
    columns = ("source", "status", "calls", "found", "remark")
    numeric = frozenset({"calls", "found"})
    return Table(columns=columns, rows=rows, title="Sources", footer=footer, numeric=numeric, edge=view.edge)


def _unusual(states: Mapping[str, str], remarks: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return the sources of which there is something to say, those of which it is the same in one row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for name, status in states.items():
        if status != "ok" or remarks[name]:
            rows.setdefault((status, remarks[name]), []).append(name)
    return [(status, ", ".join(names), remark) for (status, remark), names in rows.items()]


def _status(reports: Sequence[SourceReport]) -> str:
    found = [report.status for report in reports]
    return next(status for status in ("failed", "skipped", "ok") if status in found)


def _remarks(reports: Sequence[SourceReport], told: Collection[SourceReport], view: View) -> str:
    """Return what is to be said of a source; of those in *told* the answer has said it, for all together."""
    said = [_denial(report, view) if report in told else report.error for report in reports if report.error]
    said += [note for report in reports for note in report.notes]
    distinct = list(dict.fromkeys(said))
    shown = distinct if view.wide else distinct[:_SHOWN_REASONS]
    more = len(distinct) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _denial(report: SourceReport, view: View) -> str:
    return f"not allowed: {report.denied}" if view.all else "not allowed, as said above"


def key_of(verdict: Verdict) -> tuple[str, str]:
    """Return the region and id of the AMI of *verdict*."""
    return verdict.image.region, verdict.image.image_id


def _date(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else "unknown"
