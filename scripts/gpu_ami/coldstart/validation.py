"""How good the model is: each public measurement beside what the model says of it without knowing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpu_ami.coldstart.assumptions import FITTED
from gpu_ami.coldstart.calibration import Judged, Score, score
from gpu_ami.coldstart.points import described
from gpu_ami.console import Table
from gpu_ami.units import show_count


def document(judged: Sequence[Judged]) -> dict[str, Any]:
    """Return how good the model is, as JSON-ready values."""
    model, baseline = scores(judged)
    rows = [
        {
            "id": one.point.id,
            "what": one.point.what,
            "measured_s": round(one.measured_s, 1),
            **one.predicted.document(),
            "error": round(one.error, 3),
            "is_inside": one.predicted.low <= one.measured_s <= one.predicted.high,
        }
        for one in judged
    ]
    return {
        "validation": rows,
        "model": model.document(),
        "baseline": baseline.document(),
        "fitted": {name or "other": factor for name, factor in FITTED.items()},
    }


def scores(judged: Sequence[Judged]) -> tuple[Score, Score]:
    """Return how good the model is, and how good the mean of the others would be."""
    measured = [one.measured_s for one in judged]
    return score(measured, [one.predicted for one in judged]), score(measured, [one.baseline for one in judged])


def tables(judged: Sequence[Judged]) -> list[Table]:
    """Return each point with its prediction, and the scores beside those of the mean."""
    rows = [
        (
            one.point.what,
            described(one.point),
            f"{one.measured_s:.0f}",
            f"{one.predicted.low:.0f} / {one.predicted.likely:.0f} / {one.predicted.high:.0f}",
            f"{100 * one.error:+.0f} %",
            "yes" if one.predicted.low <= one.measured_s <= one.predicted.high else "no",
        )
        for one in judged
    ]
    points = Table(
        columns=("measured in public", "what it is to the model", "s", "low / likely / high", "error", "inside"),
        rows=rows,
        title="Each point, predicted by the model fitted on all others",
        numeric=frozenset({"s", "low / likely / high", "error"}),
    )
    named = zip(("this model", "the mean of the others"), scores(judged), strict=True)
    summary = Table(
        columns=("who answers", "inside low to high", "median error", "median high / low"),
        rows=[(who, f"{100 * one.inside:.0f} %", f"{100 * one.error:.0f} %", f"{one.width:.2f}") for who, one in named],
        title=f"How good that is, over {show_count(len(judged), 'point')}",
        numeric=frozenset({"inside low to high", "median error", "median high / low"}),
    )
    return [points, summary]
