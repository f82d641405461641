"""Draws `--chart`: cost over launches with and without the AMI, and what a cold start is made of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from gpu_ami import svg
from gpu_ami.cost.figure import Number, negative, total
from gpu_ami.cost.model import Case
from gpu_ami.cost.report import CostReport
from gpu_ami.cost.report_tables import headline
from gpu_ami.drawing import Anchor, Area, Dot, Drawing, Line, Point, Rectangle, Shape, Text
from gpu_ami.errors import UsageError
from gpu_ami.units import show_duration

WIDTH = 800
_INK, _SOFT, _GRID = "#1f2933", "#616e7c", "#e4e7eb"
_STOCK, _STOCK_TINT = "#c2410c", "#fbe3d6"
_BAKED, _BAKED_TINT = "#0f6f8c", "#d3eaf1"
_PHASES = {"boot": "#9aa5b1", "image pull": _STOCK, "start, models": "#e9a23b", "start from the volume": _BAKED}
# The plot's frame: left, top, right, bottom.
_PLOT = (70.0, 120.0, 768.0, 390.0)
_BARS = (196.0, 500.0, 690.0)
_BAR_STEP = 38.0


def draw(report: CostReport) -> Drawing:
    """Return the picture of *report*.

    Raises:
        UsageError: A price or time that the picture needs is unknown.
    """
    cases = (report.low, report.mid, report.high)
    if any(_costs(case) is None for case in cases):
        msg = "The chart needs figures that are unknown: see the warning above, add --live or --set NAME=VALUE."
        raise UsageError(msg)
    request = report.request
    what = f"the preset {request.preset}" if request.preset else f"{request.instance_type} {request.market}"
    title = f"Does a baked AMI pay? For {what} in {request.region}"
    said = headline(report)
    bars = _bars(report)
    height = round(_BARS[1] + _BAR_STEP * len(bars) + 44)
    shapes = (
        Rectangle(0, 0, WIDTH, height, "#ffffff"),
        Text(24, 34, title, size=19, bold=True),
        *(Text(24, 56 + 18 * row, line, size=13, fill=_SOFT) for row, line in enumerate(_sentences(said))),
        *_curves(report),
        *_timeline(bars),
        Text(24, height - 18, _honesty(report), size=12, fill=_SOFT),
    )
    return Drawing(WIDTH, height, title, said, shapes)


def write(report: CostReport, path: Path) -> None:
    """Draw *report* to *path*, whose name ends with ``.svg`` or ``.png``.

    Raises:
        UsageError: The name ends otherwise, a figure is unknown, or the file cannot be written.
    """
    svg.check_path(path)
    svg.write(draw(report), path)


@dataclass(frozen=True)
class _Costs:
    """The two straight lines of a case, USD a month over launches a month."""

    stock: float
    baked: float
    fixed: float

    def without(self, launches: float) -> float:
        """Return the cost without the AMI."""
        return launches * self.stock

    def with_ami(self, launches: float) -> float:
        """Return the cost with it."""
        return self.fixed + launches * self.baked


def _costs(case: Case) -> _Costs | None:
    stock, baked, fixed = case.launch.stock_usd, case.launch.baked_usd, case.fixed_usd_per_month
    if stock is None or baked is None or fixed is None:
        return None
    return _Costs(float(stock), float(baked), float(fixed))


@dataclass(frozen=True)
class _Axes:
    """Maps launches and USD to pixels."""

    launches: float
    usd: float

    def at(self, launches: float, usd: float) -> Point:
        """Return where a point of the plot lies."""
        left, top, right, bottom = _PLOT
        return left + (right - left) * launches / self.launches, bottom - (bottom - top) * usd / self.usd


def _curves(report: CostReport) -> Iterator[Shape]:
    low, mid, high = (costs for case in (report.low, report.mid, report.high) if (costs := _costs(case)))
    here = float(report.mid.launches_per_month or 0)
    crossing = report.mid.break_even_launches
    end = _nice(max(here * 1.5, float(crossing) * 1.5 if isinstance(crossing, Decimal) else here * 4, 10))
    axes = _Axes(end, _nice(1.05 * max(high.without(end), high.with_ami(end))))
    yield from _grid(axes)
    for cost, tint in (("without", _STOCK_TINT), ("with_ami", _BAKED_TINT)):
        if low != high:
            upper = [axes.at(x, getattr(high, cost)(x)) for x in (0, end)]
            lower = [axes.at(x, getattr(low, cost)(x)) for x in (end, 0)]
            yield Area((*upper, *lower), tint)
    yield from _here(axes, here)
    yield Line((axes.at(0, 0), axes.at(end, mid.without(end))), _STOCK, 2.5)
    yield Line((axes.at(0, mid.fixed), axes.at(end, mid.with_ami(end))), _BAKED, 2.5)
    if isinstance(crossing, Decimal):
        yield from _crossing(*axes.at(float(crossing), mid.without(float(crossing))), float(crossing))
    yield from _legend(report, low != high)


def _grid(axes: _Axes) -> Iterator[Shape]:
    left, _, right, bottom = _PLOT
    digits = 0 if all(usd == int(usd) for usd in _ticks(axes.usd)) else 2
    for usd in _ticks(axes.usd):
        y = axes.at(0, usd)[1]
        yield Line(((left, y), (right, y)), _GRID)
        yield Text(left - 8, y + 4, f"${usd:,.{digits}f}", size=12, fill=_SOFT, anchor="end")
    for launches in _ticks(axes.launches):
        x = axes.at(launches, 0)[0]
        yield Line(((x, bottom), (x, bottom + 5)), _SOFT)
        yield Text(x, bottom + 20, f"{launches:,.0f}", size=12, fill=_SOFT, anchor="middle")
    yield Line(((left, bottom), (right, bottom)), _SOFT, 1.2)
    yield Text((left + right) / 2, bottom + 40, "instance launches a month", size=13, anchor="middle")


def _here(axes: _Axes, launches: float) -> Iterator[Shape]:
    """Mark the launches that the question is about."""
    _, top, _, bottom = _PLOT
    x = axes.at(launches, 0)[0]
    yield Line(((x, top), (x, bottom)), _SOFT, 1.2, dash=4)
    anchor: Anchor = "start" if launches < axes.launches / 2 else "end"
    yield Text(x + (7 if anchor == "start" else -7), top + 12, f"{_count(launches)} a month", 12, _SOFT, anchor)


def _crossing(x: float, y: float, launches: float) -> Iterator[Shape]:
    """Mark the break-even. Both lines come from below on its left, so that the space above there is free."""
    count = _count(launches)
    text = f"pays from {count} {'launch' if count == '1' else 'launches'} on"
    yield Text(max(x - 12, _PLOT[0] + 7.8 * len(text)), y - 17, text, size=13, anchor="end", bold=True)
    yield Dot(x, y, 6, _INK)


def _legend(report: CostReport, moving: bool) -> Iterator[Shape]:
    y = 106.0
    yield Line(((70, y - 4), (92, y - 4)), _STOCK, 2.5)
    yield Text(99, y, "without the AMI", size=13)
    yield Line(((216, y - 4), (238, y - 4)), _BAKED, 2.5)
    yield Text(245, y, "with it", size=13)
    if moving:
        hourly = report.inputs.hourly
        prices = " / ".join(f"${figure.value:.2f}" for figure in (hourly.low, hourly.mid, hourly.high))
        text = f"USD a month; bands: instance at {prices} an hour"
    else:
        text = "USD a month"
    yield Text(_PLOT[2], y, text, size=12, fill=_SOFT, anchor="end")


_Bar = tuple[str, Sequence[tuple[str, Number]]]


def _timeline(bars: Sequence[_Bar]) -> Iterator[Shape]:
    left, top, right = _BARS
    longest = max(float(total(*(seconds for _, seconds in phases)) or 0) for _, phases in bars)
    scale = (right - left) / longest if longest else 0
    yield Text(24, top - 32, "One cold start, from launch to a job that runs", size=16, bold=True)
    x = left
    for phase, colour in _PHASES.items():
        yield Rectangle(x, top - 21, 11, 11, colour, 2)
        yield Text(x + 16, top - 11, phase, size=12, fill=_SOFT)
        x += 36 + 6.2 * len(phase)
    for row, (name, phases) in enumerate(bars):
        y = top + row * _BAR_STEP
        yield Text(left - 12, y + 17, name, size=13, anchor="end")
        x = left
        for phase, seconds in phases:
            width = float(seconds or 0) * scale
            yield Rectangle(x, y, width, 24, _PHASES[phase])
            x += width
        whole = float(total(*(seconds for _, seconds in phases)) or 0)
        yield Text(x + 8, y + 17, show_duration(whole), size=13, bold=True)


def _bars(report: CostReport) -> list[_Bar]:
    launch = report.mid.launch
    rate = report.inputs.figures["initialization_mib_s"].value
    baked = f"baked, {rate} MiB/s" if rate else "baked AMI"
    bars: list[_Bar] = [
        (
            "stock AMI",
            [("boot", launch.stock_boot_s), ("image pull", launch.pull_s), ("start, models", launch.models_s)],
        ),
        (baked, [("boot", launch.baked_boot_s), ("start from the volume", launch.lazy_load_s)]),
    ]
    if rate and report.inputs.loads_as_computed:
        cold = report.inputs.changed({"initialization_mib_s": Decimal(0)}).launch
        bars.append(
            ("baked, no init. rate", [("boot", cold.baked_boot_s), ("start from the volume", cold.lazy_load_s)])
        )
    return [*bars, ("stock, fast pull", _fast_pull(report))]


def _fast_pull(report: CostReport) -> list[tuple[str, Number]]:
    way = next(other for other in report.alternatives if other.name == "stock AMI, fast pull")
    launch = report.mid.launch
    # What follows the pull is as without it.
    rest = total(way.cold_start_s, negative(launch.stock_boot_s), negative(launch.models_s)) or Decimal(0)
    return [("boot", launch.stock_boot_s), ("image pull", max(rest, Decimal(0))), ("start, models", launch.models_s)]


def _honesty(report: CostReport) -> str:
    names = ("stock_boot_s", "pull_s", "models_s", "baked_boot_s", "lazy_load_s")
    guessed = [name for name in names if not report.inputs.figures[name].source.startswith(("measured", "given"))]
    if not guessed:
        return "Times of the first two bars were measured or given."
    return f"Predicted, not measured: {', '.join(guessed)}. Sources: --inputs."


def _sentences(said: str) -> list[str]:
    first, _, second = said.partition(". ")
    return [f"{first}.", second]


def _nice(most: float) -> float:
    """Return the end of an axis that shows *most*: the next multiple of a fifth of its magnitude."""
    step = 10.0 ** math.floor(math.log10(most)) / 2
    return math.ceil(most / step) * step


def _ticks(end: float) -> list[float]:
    """Return round numbers from 0 to *end*, three to eight of them."""
    rough = end / 6
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
    return [step * number for number in range(int(end / step + 1e-9) + 1)]


def _count(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}".removesuffix(".0")


__all__ = ["WIDTH", "draw", "write"]
