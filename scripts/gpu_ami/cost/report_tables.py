"""The tables of a cost report: launch, month, alternatives, sensitivities, comparison."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from gpu_ami.console import Table
from gpu_ami.cost.figure import Number
from gpu_ami.cost.model import BreakEven, Case
from gpu_ami.cost.report import CostReport
from gpu_ami.cost.whatif import Sensitivity
from gpu_ami.units import show_duration, show_usd


def tables(report: CostReport) -> list[Table]:
    """Return the report's tables: the answer first, the inputs last."""
    found = [
        _answer(report),
        _month(report),
        _alternatives(report),
        _what_ifs("What would change it", report.sensitivities),
    ]
    if report.bridge:
        title = f"From the preset {report.request.preset} to {report.request.instance_type} in {report.request.region}"
        found.append(_what_ifs(title, report.bridge, first="step"))
    if report.compared:
        found.append(_compared(report))
    return [*found, _inputs(report)]


def headline(report: CostReport) -> str:
    """Return the answer in two sentences: the waiting first, because that is what an AMI is for, then the money."""
    launch = report.mid.launch
    # Times are given, measured or assumed, but never unknown.
    saved_s, saved_h = launch.saved_s or Decimal(0), report.waiting_saved_h_per_month or Decimal(0)
    change = "less" if saved_s >= 0 else "more"
    launch_time, month = (show_duration(float(abs(seconds))) for seconds in (saved_s, saved_h * 3600))
    waiting = f"Waiting: {launch_time} {change} per cold start, {month} a month"
    launches = report.mid.break_even_launches
    if launches is None:
        money = "whether it pays is unknown"
    elif launches == "never":
        money = "it never pays, a launch costs more with the AMI"
    else:
        money = f"it pays from {_counted(launches, 'launch', 'launches')} a month on"
    net = report.mid.net_usd_per_month(report.mid.launches_per_month)
    return f"{waiting}. Money: {money}; {_signed(net)} a month at {_count(report.mid.launches_per_month)}."


def _answer(report: CostReport) -> Table:
    request = report.request
    cases = [report.mid] if report.low == report.high else [report.low, report.mid, report.high]
    columns = ("price",) if len(cases) == 1 else ("low price", "middle price", "high price")
    a_month = report.mid.launches_per_month
    launches = _counted(a_month, "launch", "launches")
    rows = [
        ("instance, an hour", *(_unit(case.launch.instance_usd_per_hour) for case in cases)),
        ("a cold start without the AMI", *(_exact(case.launch.stock_usd) for case in cases)),
        ("a cold start with it", *(_exact(case.launch.baked_usd) for case in cases)),
        ("saved per launch", *(_exact(case.launch.saved_usd) for case in cases)),
        ("pays from launches a month", *(_break_even(case.break_even_launches) for case in cases)),
        ("pays from jobs a month", *(_break_even(case.break_even_jobs) for case in cases)),
        (f"net at {launches} a month", *(_signed(case.net_usd_per_month(a_month)) for case in cases)),
    ]
    zones = [f"Spot by zone: {', '.join(f'{zone} ${usd:f}' for zone, usd in report.zones)}."] if report.zones else []
    what = f"preset {request.preset}" if request.preset else f"{request.instance_type} {request.market}"
    return Table(
        columns=("per launch", *columns),
        rows=rows,
        title=f"{what} in {request.region}, network path: {request.network}",
        footer=(headline(report), *zones),
        numeric=frozenset(columns),
    )


def _month(report: CostReport) -> Table:
    case = report.mid
    storage = case.storage
    regions = None if storage.copies is None else storage.copies + 1
    amis = _counted(storage.retained_amis, "AMI")
    kept = f"{amis} x {_count(storage.billed_gib)} GiB x {_counted(regions, 'region')}"
    launches = _counted(case.launches_per_month, "launch", "launches")
    hydration = _times(case.launches_per_month, case.launch.hydration_usd)
    rows = [
        ("one build", show_usd(case.build.usd), _builder(report)),
        ("builds", show_usd(_times(case.builds_per_month, case.build.usd)), f"{_count(case.builds_per_month)} a month"),
        ("snapshots", show_usd(storage.usd_per_month), f"{kept}, an upper bound"),
        ("AMI, all of it", show_usd(case.fixed_usd_per_month), "however little it is used"),
        ("volume initialization", show_usd(hydration), f"with {launches}"),
    ]
    return Table(columns=("a month", "USD", "of"), rows=rows, title="What the AMI costs", numeric=frozenset({"USD"}))


def _builder(report: CostReport) -> str:
    build, request = report.mid.build, report.request
    who = request.preset or f"{request.builder_type} {request.builder_market}"
    return f"{who}, {_count(build.build_min)} min, failed builds included"


def _alternatives(report: CostReport) -> Table:
    today = report.alternatives[0].usd_per_month
    rows = [
        (
            other.name,
            "unknown" if other.cold_start_s is None else show_duration(float(other.cold_start_s)),
            show_usd(other.usd_per_month),
            "" if index == 0 else _signed(_minus(other.usd_per_month, today)),
            other.note,
        )
        for index, other in enumerate(report.alternatives)
    ]
    return Table(
        columns=("way", "cold start", "USD a month", "against today", "note"),
        rows=rows,
        title=f"Other ways to start {_counted(report.mid.jobs_per_month, 'job')} a month",
        numeric=frozenset({"cold start", "USD a month", "against today"}),
    )


def _what_ifs(title: str, rows: Sequence[Sensitivity], first: str = "if") -> Table:
    columns = (first, "saved per launch", "pays from launches a month")
    shown = [(row.change, _exact(row.saved_per_launch_usd), _break_even(row.break_even_launches)) for row in rows]
    return Table(columns=columns, rows=shown, title=title, numeric=frozenset(columns[1:]))


def _compared(report: CostReport) -> Table:
    columns = ("an hour", "saved per launch", "pays from launches a month", "net a month")
    rows = [(row.region, row.instance_type, row.market, *_comparison(row.case)) for row in report.compared]
    return Table(
        columns=("region", "instance", "market", *columns), rows=rows, title="Beside it", numeric=frozenset(columns)
    )


def _comparison(case: Case) -> tuple[str, ...]:
    return (
        _unit(case.launch.instance_usd_per_hour),
        _exact(case.launch.saved_usd),
        _break_even(case.break_even_launches),
        _signed(case.net_usd_per_month(case.launches_per_month)),
    )


def _inputs(report: CostReport) -> Table:
    rows = [
        (figure.name, "unknown" if figure.value is None else f"{figure.value:f}", figure.unit, figure.source)
        for figure in report.figures
    ]
    footer = ("Change any of them with --set NAME=VALUE, or under cost.inputs in pipeline.yaml.",)
    return Table(columns=("input", "value", "unit", "source"), rows=rows, footer=footer, numeric=frozenset({"value"}))


def _times(count: Number, usd: Number) -> Number:
    return None if count is None or usd is None else count * usd


def _minus(one: Number, other: Number) -> Number:
    return None if one is None or other is None else one - other


def _count(number: Number) -> str:
    """Return a count as people say it: ``663``, ``10.1``, ``1,342``."""
    if number is None:
        return "unknown"
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}".removesuffix(".0")


def _counted(number: Number, noun: str, plural: str = "") -> str:
    """Return a count with its noun: ``1 launch``, ``10.1 launches``, ``unknown launches``."""
    text = _count(number)
    return f"{text} {noun if text == '1' else plural or f'{noun}s'}"


def _break_even(value: BreakEven) -> str:
    return _count(value) if value is None or isinstance(value, Decimal) else value


def _unit(usd: Number) -> str:
    """Return a unit price with all its digits."""
    return "unknown" if usd is None else f"${usd:f}"


def _exact(usd: Number) -> str:
    """Return a small amount to a tenth of a cent, one smaller than that to a hundredth."""
    if usd is None:
        return "unknown"
    return f"{'-' if usd < 0 else ''}${abs(usd):.{3 if abs(usd) >= Decimal('0.001') or not usd else 4}f}"


def _signed(usd: Number) -> str:
    """Return an amount with its sign: what is gained or lost."""
    return "unknown" if usd is None else f"{'-' if usd < 0 else '+'}${abs(usd):,.2f}"
