"""Draws `--chart`: each way to start as a bar of its phases, with the range of the whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from gpu_ami.coldstart.model import LABELS, Phase, Prediction
from gpu_ami.coldstart.report import Report
from gpu_ami.drawing import Drawing, Line, Rectangle, Shape, Text
from gpu_ami.units import show_duration

WIDTH = 960
_INK, _SOFT, _GRID = "#1f2933", "#616e7c", "#e4e7eb"
# Greys are the same for every way; what an AMI changes has colours.
COLOURS: dict[Phase, str] = {
    "queue": "#d8dee4",
    "launch": "#b8c1ca",
    "boot": "#95a1ae",
    "register": "#717f8e",
    "pull_unpack": "#c2410c",
    "create_start": "#e9a23b",
    "first_touch_imports": "#0f6f8c",
    "models": "#6b4c9a",
}
_LEFT, _RIGHT, _TOP = 232.0, 850.0, 132.0
_STEP, _BAR = 54.0, 24.0


def draw(answered: Report) -> Drawing:
    """Return the picture of *answered*."""
    predictions = answered.predictions
    end = nice_s(max(prediction.total.high for prediction in predictions))
    bottom = _TOP + _STEP * len(predictions)
    height = round(bottom + 106)
    title = f"One cold start on {answered.instance_type}, by how it starts"
    said = sentence(predictions)
    shapes = (
        Rectangle(0, 0, WIDTH, height, "#ffffff"),
        Text(24, 36, title, size=20, bold=True),
        Text(24, 60, said, size=14, fill=_SOFT),
        *_legend(),
        *_grid(end, bottom),
        *(shape for row, one in enumerate(predictions) for shape in _bar(one, _TOP + row * _STEP, end)),
        Text(24, height - 40, _what(answered), size=12, fill=_SOFT),
        Text(24, height - 20, _honesty(predictions, invented=answered.invented), size=12, fill=_SOFT),
    )
    return Drawing(WIDTH, height, title, said, shapes)


def sentence(predictions: Sequence[Prediction]) -> str:
    """Return what the picture says: the fastest way, and how the stock AMI compares."""
    fastest = min(predictions, key=lambda one: one.total.likely)
    stock = next(one for one in predictions if one.variant == "stock")
    times = show_duration(fastest.total.likely), show_duration(stock.total.likely)
    if fastest is stock:
        return f"Likely the fastest: the {LABELS['stock']} ({times[1]})."
    return f"Likely the fastest: {LABELS[fastest.variant]} ({times[0]}). The {LABELS['stock']} takes {times[1]}."


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _legend() -> Iterator[Shape]:
    x = 24.0
    for phase, colour in COLOURS.items():
        yield Rectangle(x, 82, 12, 12, colour, 2)
        yield Text(x + 17, 93, LABELS[phase], size=12.5, fill=_INK)
        x += 34 + 6.3 * len(LABELS[phase])
    yield Line(((x + 2, 88), (x + 26, 88)), _INK, 1.5)
    yield Text(x + 32, 93, "low to high, in all", size=12.5, fill=_INK)


def _grid(end_s: float, bottom: float) -> Iterator[Shape]:
    step = step_s(end_s)
    for number in range(round(end_s / step) + 1):
        x = _x(number * step, end_s)
        yield Line(((x, _TOP - 14), (x, bottom - 8)), _GRID)
        yield Text(x, bottom + 12, tick(number * step), size=12, fill=_SOFT, anchor="middle")
    yield Text((_LEFT + _RIGHT) / 2, bottom + 32, "from the job's submission to models ready", size=13, anchor="middle")


def _bar(prediction: Prediction, y: float, end_s: float) -> Iterator[Shape]:
    yield Text(_LEFT - 14, y + 17, _first_upper(LABELS[prediction.variant]), size=13, anchor="end")
    since = 0.0
    for phase in prediction.phases:
        left, right = _x(since, end_s), _x(since + phase.seconds.likely, end_s)
        yield Rectangle(left, y, right - left, _BAR, COLOURS[phase.name])
        since += phase.seconds.likely
    total = prediction.total
    low, high = _x(total.low, end_s), _x(total.high, end_s)
    middle = y + _BAR + 8
    yield Line(((low, middle), (high, middle)), _INK, 1.5)
    for x in (low, high):
        yield Line(((x, middle - 4), (x, middle + 4)), _INK, 1.5)
    yield Text(_x(since, end_s) + 8, y + 17, show_duration(total.likely), size=13.5, bold=True)


def _x(seconds: float, end_s: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * (seconds / end_s if end_s else 0.0)


def _what(answered: Report) -> str:
    """Return what is started, for whoever sees the picture alone."""
    known = answered.inputs

    def likely(name: str) -> str:
        value = known[name].range
        return f"{value.likely:g}" if value is not None else "?"

    return (
        f"Image of {likely('image_gib')} GiB, models of {likely('models_gib')} GiB. Volume at"
        f" {likely('throughput_mib_s')} MiB/s, provisioned rate {likely('rate_mib_s')} MiB/s,"
        f" {likely('prewarm_readers')} readers prewarm."
    )


def _honesty(predictions: Sequence[Prediction], *, invented: bool) -> str:
    phases = [phase for one in predictions for phase in one.phases]
    if not any(phase.source.startswith("fitted") for phase in phases):
        return "Predicted from public measurements, not measured here. Inputs and sources: invoke coldstart --inputs."
    names = dict.fromkeys(LABELS[phase.name] for phase in phases if phase.source.startswith("fitted"))
    if invented:
        return f"Fitted to hosts that the sandbox invented, which says nothing of AWS: {', '.join(names)}."
    return f"Fitted to hosts that were measured: {', '.join(names)}. The rest is predicted: invoke coldstart --inputs."


def step_s(end_s: float) -> float:
    """Return the distance of the grid's lines: five to nine of them, at times that people say."""
    longest = _STEPS_S[-1] * math.ceil(end_s / _STEPS_S[-1] / 9)
    return next((step for step in _STEPS_S if end_s / step <= 9), longest)


_STEPS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800, 86_400)


def nice_s(most_s: float) -> float:
    """Return the end of an axis that shows *most_s*."""
    step = step_s(max(most_s, 1.0))
    return math.ceil(max(most_s, 1.0) / step) * step


def tick(seconds: float) -> str:
    """Return what an axis says at *seconds*."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f}".removesuffix(".0") + " min"
    return f"{seconds / 3600:.1f}".removesuffix(".0") + " h"


__all__ = ["COLOURS", "WIDTH", "draw", "nice_s", "sentence", "step_s", "tick"]
