"""The answer of `invoke coldstart`: as data, as JSON for programs, as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gpu_ami.coldstart import volume
from gpu_ami.coldstart.assumptions import ASSUMPTIONS, Inputs, Range
from gpu_ami.coldstart.model import LABELS, PHASES, VARIANTS, Host, Prediction, Start, predict
from gpu_ami.coldstart.whatif import WhatIf, what_ifs
from gpu_ami.console import Table
from gpu_ami.units import show_count, show_duration, show_minutes


@dataclass(frozen=True, kw_only=True)
class Report:
    """Every way to start, phase by phase.

    Attributes:
        instance_type: The host.
        inputs: What the model was given.
        predictions: One for each way.
        what_ifs: What would change them.
        void: How many hosts of a bench were left out because they do not count.
        invented: Whether what is fitted was invented by the sandbox.
    """

    instance_type: str
    inputs: Inputs
    predictions: Sequence[Prediction]
    what_ifs: Sequence[WhatIf]
    void: int = 0
    invented: bool = False

    def document(self) -> dict[str, Any]:
        """Return the answer as JSON-ready values; seconds are numbers."""
        return {
            "instance_type": self.instance_type,
            "variants": [_variant(prediction) for prediction in self.predictions],
            "what_if": [row.document() for row in self.what_ifs],
            "void_hosts": self.void,
            "times_are_invented": self.invented,
            "inputs": [_input(name, self.inputs) for name in ASSUMPTIONS],
        }


def _variant(prediction: Prediction) -> dict[str, Any]:
    phases = [{"name": phase.name, **phase.seconds.document(), "source": phase.source} for phase in prediction.phases]
    return {"variant": prediction.variant, "phases": phases, "total": prediction.total.document()}


def _input(name: str, inputs: Inputs) -> dict[str, Any]:
    known = inputs[name]
    low, likely, high = _ends(known.range)
    return {
        "name": name,
        "low": low,
        "likely": likely,
        "high": high,
        "unit": ASSUMPTIONS[name].unit,
        "source": known.source,
    }


def _ends(known: Range | None) -> tuple[float | None, float | None, float | None]:
    if known is None:
        return None, None, None
    return float(f"{known.low:.4g}"), float(f"{known.likely:.4g}"), float(f"{known.high:.4g}")


def report(
    instance_type: str, inputs: Inputs, fitted: Callable[[Prediction], Prediction] = lambda prediction: prediction
) -> Report:
    """Return the answer for *instance_type* with *inputs*; *fitted* puts what was measured in its place."""
    host = Host.of(instance_type)
    predictions = [fitted(predict(Start(variant, host), inputs)) for variant in VARIANTS]
    return Report(instance_type=instance_type, inputs=inputs, predictions=predictions, what_ifs=what_ifs(inputs, host))


def tables(answered: Report, *, all_inputs: bool = False) -> list[Table]:
    """Return the phases of each way, what would change them and, when requested, every input."""
    found = [_phases(answered), _what_if(answered)]
    return [*found, _inputs(answered)] if all_inputs else found


_SHORT = {"rated": "rate", "fsr": "FSR", "fast_pull": "fast pull"}


def _phases(answered: Report) -> Table:
    """Return low, likely and high of each phase of each way, and in all."""
    ways = tuple(_SHORT.get(one.variant, one.variant) for one in answered.predictions)
    rows = [
        (LABELS[name], *(_cell(one.phases[number].seconds, one.phases[number].source) for one in answered.predictions))
        for number, name in enumerate(PHASES)
    ]
    totals = [one.total for one in answered.predictions]
    return Table(
        columns=("seconds", *ways),
        rows=[
            *rows,
            ("in all", *(_cell(total) for total in totals)),
            ("likely in all", *(show_duration(total.likely) for total in totals)),
        ],
        title=f"A cold start on {answered.instance_type}, from the job's submission to models ready",
        footer=(
            "Low-likely-high. Plain, rate, FSR and prewarmed are baked; fast pull is stock, to instance store (NVMe).",
            _what_is_fitted(answered),
            *_what_to_think_of_it(answered),
            *_credit(answered),
        ),
        numeric=frozenset(ways),
    )


def _cell(seconds: Range, source: str = "") -> str:
    mark = "*" if source.startswith("fitted") else ""
    return f"{seconds.low:.0f}-{seconds.likely:.0f}-{seconds.high:.0f}{mark}"


def _what_is_fitted(answered: Report) -> str:
    known = {phase.name for one in answered.predictions for phase in one.phases if phase.source.startswith("fitted")}
    if not known:
        return "Assumed, not measured here: `invoke coldstart --inputs` names each input; --fit takes a bench's result."
    fitted, rest = (", ".join(LABELS[name] for name in PHASES if (name in known) is wanted) for wanted in (True, False))
    return f"* fitted to hosts that were measured: {fitted}. Assumed for every way: {rest or 'nothing'}."


def _what_to_think_of_it(answered: Report) -> list[str]:
    said = []
    if answered.invented:
        said.append(
            "The sandbox invented these times: they show what the answer will look like and say nothing of AWS."
        )
    if answered.void:
        said.append(f"Left out as void, with a reason in the result: {show_count(answered.void, 'host')}.")
    return said


def _credit(answered: Report) -> list[str]:
    """Return a warning where more instances start at once than there are credits or than the Region initializes."""
    at_once = answered.inputs["at_once"].range
    size, rate = answered.inputs["volume_gib"].range, answered.inputs["rate_mib_s"].range
    assert at_once is not None
    assert size is not None
    assert rate is not None
    said = []
    if at_once.likely > (bucket := volume.fsr_bucket(size.likely)):
        said.append(
            f"Fast Snapshot Restore has {bucket:.0f} credits for this volume: the other instances read a cold one."
        )
    if rate.likely and volume.waves(at_once.likely, rate.likely) > 1:
        said.append("More volumes at once than the Region's 5,000 MiB/s: EBS refuses the others, which start later.")
    return said


def _what_if(answered: Report) -> Table:
    rows = [
        (
            row.change,
            LABELS[row.variant],
            show_duration(row.total.likely),
            show_minutes(row.total.low, row.total.high),
            _against(row.against_s),
        )
        for row in answered.what_ifs
    ]
    columns = ("if", "way to start", "total", "low to high", "against without")
    # Said again, as a small terminal shows no more than the end.
    totals = (
        f"{_SHORT.get(one.variant, one.variant)} {show_duration(one.total.likely)}" for one in answered.predictions
    )
    return Table(
        columns=columns,
        rows=rows,
        title="What would change it",
        footer=(f"Likely in all: {', '.join(totals)}.",),
        numeric=frozenset({"total", "against without"}),
    )


def _against(seconds: float) -> str:
    if abs(seconds) < 0.5:
        return "0 s"
    return f"{'-' if seconds < 0 else '+'}{show_duration(abs(seconds))}"


def _inputs(answered: Report) -> Table:
    rows = []
    for name in ASSUMPTIONS:
        low, likely, high = _ends(answered.inputs[name].range)
        shown = [f"{number:g}" if number is not None else "" for number in (low, likely, high)]
        rows.append((name, *shown, ASSUMPTIONS[name].unit, answered.inputs[name].source))
    footer = ("Change any of them with --set NAME=VALUE, NAME=LOW..HIGH or NAME=LOW..LIKELY..HIGH.",)
    columns = ("input", "low", "likely", "high", "unit", "source")
    return Table(columns=columns, rows=rows, footer=footer, numeric=frozenset(columns[1:4]))
