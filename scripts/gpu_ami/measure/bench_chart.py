"""Draws the chart of a bench: each arm's cold start as a bar of its phases, with every host and the spread beside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gpu_ami import svg
from gpu_ami.coldstart.chart import COLOURS, WIDTH, nice_s, step_s, tick
from gpu_ami.drawing import Drawing, Line, Rectangle, Shape, Text
from gpu_ami.measure import bench_report, phases
from gpu_ami.measure.bench_report import Result
from gpu_ami.measure.timeline import Arm, Host
from gpu_ami.units import show_count, show_duration

_INK, _SOFT, _GRID, _WARN = "#1f2933", "#616e7c", "#e4e7eb", "#b42318"
_LEFT, _RIGHT, _TOP = 170.0, 800.0, 152.0
_STEP, _BAR = 62.0, 24.0
_LEGEND_COLUMNS = 4
_NAMES: dict[Arm, str] = {
    "stock": "Stock AMI",
    "plain": "Baked, no rate",
    "rated": "Baked, {} MiB/s",
    "live": "Live AMI",
}


def write(result: Result, path: Path) -> None:
    """Draw *result* to *path*, whose name ends with ``.svg`` or ``.png``.

    Raises:
        UsageError: The name ends otherwise, or the file cannot be written.
    """
    svg.check_path(path)
    svg.write(draw(result), path)


def draw(result: Result) -> Drawing:
    """Return the picture of *result*; an arm of which no host counts has a row that says so."""
    by_arm = {arm: _that_count(result, arm) for arm in result.arms}
    totals = [phases.total_s(host) or 0.0 for hosts in by_arm.values() for host in hosts]
    end = nice_s(max(totals, default=1.0))
    bottom = _TOP + _STEP * len(by_arm)
    height = round(bottom + (112 if result.times_are_invented else 82))
    title = f"One cold start through AWS Batch on {result.instance_type}, {result.region}"
    said = _sentence(result)
    shapes = (
        Rectangle(0, 0, WIDTH, height, "#ffffff"),
        Text(24, 36, title, size=20, bold=True),
        Text(24, 60, said, size=14, fill=_SOFT),
        *_legend(),
        *_grid(end, bottom),
        *(
            shape
            for row, (arm, hosts) in enumerate(by_arm.items())
            for shape in _row(result, arm, hosts, _TOP + row * _STEP, end)
        ),
        *_notes(result, height),
    )
    return Drawing(WIDTH, height, title, said, shapes)


def _that_count(result: Result, arm: Arm) -> list[Host]:
    """Return the hosts of *arm* that count, the fastest first."""
    hosts = [one.host for one in result.verdicts if one.host.arm == arm and one.void is None]
    return sorted(hosts, key=lambda host: phases.total_s(host) or 0.0)


def _sentence(result: Result) -> str:
    """Return what the picture says, in one line that fits it."""
    gate = result.gate
    if gate.passed is None:
        return _cut(f"Nothing is judged: {gate.rule}.", 122)
    if not gate.passed:
        return _cut(f"Gate refused: {gate.rule}.", 122)
    pairs = show_count(gate.of, "pair")
    return f"Gate passed: better in {gate.better} of {pairs}; by chance that happens in {gate.chance:.1%}."


def _notes(result: Result, height: int) -> Iterator[Shape]:
    note = "Bars: the phases of each arm's middle host. Line with marks: every host that counts, in all."
    yield Text(24, height - 18, note, size=12, fill=_SOFT)
    if result.times_are_invented:
        yield Text(24, height - 40, bench_report.INVENTED, size=13, fill=_WARN, bold=True)


def _legend() -> Iterator[Shape]:
    for number, (phase, colour) in enumerate(COLOURS.items()):
        row, column = divmod(number, _LEGEND_COLUMNS)
        x, y = 24 + column * 210.0, 80 + row * 22.0
        yield Rectangle(x, y, 12, 12, colour, 2)
        yield Text(x + 18, y + 11, phases.LABELS[phase], size=12.5, fill=_INK)


def _grid(end_s: float, bottom: float) -> Iterator[Shape]:
    step = step_s(end_s)
    for number in range(round(end_s / step) + 1):
        x = _x(number * step, end_s)
        yield Line(((x, _TOP - 14), (x, bottom - 8)), _GRID)
        yield Text(x, bottom + 12, tick(number * step), size=12, fill=_SOFT, anchor="middle")
    text = "from the job's submission to its models being ready"
    yield Text((_LEFT + _RIGHT) / 2, bottom + 34, text, size=13, anchor="middle")


def _row(result: Result, arm: Arm, hosts: Sequence[Host], y: float, end_s: float) -> Iterator[Shape]:
    rate = next(host.expected.rate_mib_s for host in result.hosts if host.arm == arm)
    every = sum(host.arm == arm for host in result.hosts)
    yield Text(_LEFT - 14, y + 12, _NAMES[arm].format(rate), size=13, anchor="end")
    counted = show_count(len(hosts), "host") if len(hosts) == every else f"{len(hosts)} of {every} hosts count"
    yield Text(_LEFT - 14, y + 29, counted, size=12, fill=_SOFT, anchor="end")
    if not hosts:
        why = next(one.void for one in result.verdicts if one.host.arm == arm)
        yield Text(_LEFT + 8, y + 17, _cut(f"none: {why}"), size=12.5, fill=_SOFT)
        return
    # Of an even number the slower of the two in the middle: nothing is made to look faster than it was.
    yield from _bar(hosts[len(hosts) // 2], y, end_s)
    yield from _spread([phases.total_s(host) or 0.0 for host in hosts], y, end_s)
    median = next(one.median_s for one in result.spreads if (one.arm, one.phase) == (arm, "total"))
    longest = max(phases.total_s(host) or 0.0 for host in hosts)
    yield Text(_x(longest, end_s) + 12, y + 17, f"median {show_duration(median or 0.0)}", size=13.5, bold=True)


def _bar(host: Host, y: float, end_s: float) -> Iterator[Shape]:
    """Yield the phases where they were; what took no time, or less by skew, has no width."""
    begin = phases.at(host, "submitted")
    assert begin is not None, "a host that counts was submitted"
    for span in phases.spans(host):
        first, last = phases.at(host, span.begins), phases.at(host, span.ends)
        if span.phase == "total" or first is None or last is None or last <= first:
            continue
        left, right = _x(first - begin, end_s), _x(last - begin, end_s)
        yield Rectangle(left, y, right - left, _BAR, COLOURS[span.phase])


def _spread(totals: Sequence[float], y: float, end_s: float) -> Iterator[Shape]:
    middle = y + _BAR + 9
    yield Line(((_x(totals[0], end_s), middle), (_x(totals[-1], end_s), middle)), _INK, 1.5)
    for seconds in totals:
        x = _x(seconds, end_s)
        yield Line(((x, middle - 5), (x, middle + 5)), _INK, 2)


def _x(seconds: float, end_s: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * seconds / end_s


def _cut(text: str, most: int = 96) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
