"""The tables of a cost report: launch, month, alternatives, sensitivities, comparison."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from gpu_ami.coldstart.assumptions import Range
from gpu_ami.console import Table
from gpu_ami.cost.figure import Number
from gpu_ami.cost.model import BreakEven, Case
from gpu_ami.cost.report import CostReport
from gpu_ami.cost.whatif import NOT_INITIALIZED, SLOWER, Alternative, Sensitivity
from gpu_ami.units import show_duration, show_minutes, show_usd

# A screen of 100 columns and 40 lines holds the answer, what it costs, the other ways and what would change it.
_EDGE = 100
# Of the what-ifs: the answer itself, what the other ways say, and what changes little.
_LEFT_OUT = frozenset({"as it is", SLOWER, NOT_INITIALIZED, "a build a week", "30 GiB more root volume"})


def tables(report: CostReport, *, all_inputs: bool = False) -> list[Table]:
    """Return the report's tables: the answer first, every input last, when requested."""
    found = [
        _answer(report),
        _month(report),
        _alternatives(report),
        _what_ifs("What would change it", _telling(report)),
    ]
    if report.bridge:
        title = f"From the preset {report.request.preset} to {report.request.instance_type} in {report.request.region}"
        found.append(_what_ifs(title, report.bridge, first="step"))
    if report.compared:
        found.append(_compared(report))
    return [*found, _inputs(report)] if all_inputs else found


def _telling(report: CostReport) -> list[Sensitivity]:
    """Return the what-ifs that the other tables do not say, and as many as one screen holds."""
    return [row for row in report.sensitivities if row.change not in _LEFT_OUT]


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
        *_per_job(report, cases),
        (f"net at {launches} a month", *(_signed(case.net_usd_per_month(a_month)) for case in cases)),
    ]
    what = f"preset {request.preset}" if request.preset else f"{request.instance_type} {request.market}"
    return Table(
        columns=("per launch", *columns),
        rows=rows,
        title=f"{what} in {request.region}, network path: {request.network}",
        footer=(headline(report), *_unsure(report)),
        numeric=frozenset(columns),
        edge=_EDGE,
        compact=True,
    )


def _per_job(report: CostReport, cases: Sequence[Case]) -> list[tuple[str, ...]]:
    """Return the break-even in jobs, where that is another number than in launches."""
    if report.mid.jobs_per_instance == 1:
        return []
    return [("pays from jobs a month", *(_break_even(case.break_even_jobs) for case in cases))]


def _unsure(report: CostReport) -> list[str]:
    """Return what the model of cold starts is unsure of, or hosts differ in; nothing where all times are given."""
    if not report.inputs.spreads:
        return []
    spread = report.inputs.spread
    stock, baked, saved = (_from_to(one) for one in (spread.stock, spread.baked, spread.saved))
    times = f"{_how_known(report)}: {stock} without the AMI, {baked} with it, {saved} less."
    return [f"{times} `invoke cost --inputs` shows each input's source; --set changes it."]


def _how_known(report: CostReport) -> str:
    """Return which of the times were measured."""
    known = [name for name in report.inputs.spreads if name in report.measured]
    rest = [name for name in report.inputs.spreads if name not in known]
    if not known:
        return "The times are predicted (`invoke coldstart`)"
    return f"Measured: {', '.join(known)}; predicted (`invoke coldstart`): {', '.join(rest)}" if rest else "As measured"


def _from_to(seconds: Range) -> str:
    """Return the range in minutes: ``5 to 14 min``."""
    return show_minutes(seconds.low, seconds.high)


def _month(report: CostReport) -> Table:
    case = report.mid
    storage = case.storage
    regions = None if storage.copies is None else storage.copies + 1
    amis = _counted(storage.retained_amis, "AMI")
    kept = f"{amis} x {_count(storage.billed_gib)} GiB x {_counted(regions, 'region')}"
    launches = _counted(case.launches_per_month, "launch", "launches")
    hydration = _times(case.launches_per_month, case.launch.hydration_usd)
    builds = f"{_count(case.builds_per_month)} x {show_usd(case.build.usd)}: {_builder(report)}"
    rows = [
        ("builds", show_usd(_times(case.builds_per_month, case.build.usd)), builds),
        ("snapshots", show_usd(storage.usd_per_month), f"{kept}, an upper bound"),
        ("AMI, all of it", show_usd(case.fixed_usd_per_month), "however little it is used"),
        ("volume initialization", show_usd(hydration), f"with {launches}"),
    ]
    return Table(
        columns=("a month", "USD", "of"),
        rows=rows,
        title="What the AMI costs",
        numeric=frozenset({"USD"}),
        edge=_EDGE,
        compact=True,
    )


def _builder(report: CostReport) -> str:
    build, request = report.mid.build, report.request
    who = request.preset or f"{request.builder_type} {request.builder_market}"
    return f"{who}, {_count(build.build_min)} min, failed ones too"


def _alternatives(report: CostReport) -> Table:
    today = report.alternatives[0].usd_per_month
    rows = [
        (
            _way(other),
            "unknown" if other.cold_start_s is None else show_duration(float(other.cold_start_s)),
            "" if other.spread.low == other.spread.high else _from_to(other.spread),
            show_usd(other.usd_per_month),
            "" if index == 0 else _signed(_minus(other.usd_per_month, today)),
        )
        for index, other in enumerate(report.alternatives)
    ]
    numeric = ("cold start", "low to high", "USD a month", "against today")
    return Table(
        columns=("way", *numeric),
        rows=rows,
        title=f"Other ways to start {_counted(report.mid.jobs_per_month, 'job')} a month",
        numeric=frozenset(numeric),
        edge=_EDGE,
        compact=True,
    )


def _way(other: Alternative) -> str:
    """Return a way as short as a row of one screen has to be; the document has its note."""
    name = other.name.replace("Fast Snapshot Restore", "FSR")
    note = other.note.replace("no provisioned initialization", "no provisioned rate")
    return f"{name}, {note}" if other.name == "baked AMI" else name


def _what_ifs(title: str, rows: Sequence[Sensitivity], first: str = "if") -> Table:
    columns = (first, "saved per launch", "pays from launches a month")
    shown = [(row.change, _exact(row.saved_per_launch_usd), _break_even(row.break_even_launches)) for row in rows]
    return Table(columns=columns, rows=shown, title=title, numeric=frozenset(columns[1:]), edge=_EDGE, compact=True)


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
    zones = [f"Spot by zone: {', '.join(f'{zone} ${usd:f}' for zone, usd in report.zones)}."] if report.zones else []
    footer = (
        *zones,
        "Change any of them with --set NAME=VALUE, or under cost.inputs in pipeline.yaml.",
    )
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
