"""What the model of cold starts says in the terms of cost: five times in seconds, each with its spread.

The model is `gpu_ami.coldstart`; nothing is assumed about time here, and what a bench measured goes before it. Cost
begins at the launch: nobody pays for the queue before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from gpu_ami.coldstart.assumptions import Inputs as ModelInputs
from gpu_ami.coldstart.assumptions import Range, assumed, ends, with_given
from gpu_ami.coldstart.bench_result import INVENTED, Measured, fitted
from gpu_ami.coldstart.model import PHASES, Host, Phase, Prediction, Start, Variant, derived, predict
from gpu_ami.cost.figure import Figure
from gpu_ami.units import show_duration

_BOOT: tuple[Phase, Phase] = ("launch", "register")
_PULL: tuple[Phase, Phase] = ("pull_unpack", "pull_unpack")
_READY: tuple[Phase, Phase] = ("create_start", "models")
_LOAD: tuple[Phase, Phase] = ("pull_unpack", "models")
STOCK: Mapping[str, tuple[Phase, Phase]] = {"stock_boot_s": _BOOT, "pull_s": _PULL, "models_s": _READY}
BAKED: Mapping[str, tuple[Phase, Phase]] = {"baked_boot_s": _BOOT, "lazy_load_s": _LOAD}
STOCK_VARIANT: Variant = "stock"
# Inputs of cost that are the model's, too.
_SHARED = {"touched_gib": "touched_gib", "reader_mb_s": "reader_mb_s", "hydrated_gib": "snapshot_gib"}


@dataclass(frozen=True)
class Spread:
    """What the model is unsure of, in seconds; of a time that is given or measured both ends are the same."""

    stock: Range
    baked: Range
    saved: Range

    def document(self) -> dict[str, dict[str, float]]:
        """Return it as JSON-ready values."""
        return {"stock": self.stock.document(), "baked": self.baked.document(), "saved": self.saved.document()}


def assumptions() -> dict[str, Figure]:
    """Return the inputs that cost shares with the model, as the model assumes them."""
    inputs = assumed()
    touched = derived(ends(inputs).likely)["touched_gib"]
    reader = inputs["reader_mb_s"].range
    assert reader is not None, "what one reader gets is always assumed"
    return {
        "touched_gib": _assumed("touched_gib", touched, "GiB", inputs["touched_share"].source),
        "reader_mb_s": _assumed("reader_mb_s", reader.likely, "MB/s", inputs["reader_mb_s"].source),
    }


def _assumed(name: str, value: float, unit: str, source: str) -> Figure:
    return Figure(name, Decimal(f"{value:.3g}"), unit, source)


def model_inputs(figures: Mapping[str, Figure], rate_mib_s: Decimal | None) -> ModelInputs:
    """Return the model's inputs as *figures* have them, at this rate; what is as assumed keeps its range."""
    as_assumed = {name: figure.value for name, figure in assumptions().items()}
    given = {
        theirs: _fixed(float(value))
        for name, theirs in _SHARED.items()
        if (value := figures[name].value) is not None and value != as_assumed.get(name)
    }
    if rate_mib_s:
        given["rate_mib_s"] = _fixed(float(rate_mib_s))
    return with_given(assumed(), given, "the inputs of cost")


def predicted(
    instance_type: str, variant: Variant, inputs: ModelInputs, measured: Measured | None = None
) -> Prediction:
    """Return the phases of one way to start, those that were *measured* as they were.

    What was measured at one rate says nothing about another one.
    """
    prediction = predict(Start(variant, Host.of(instance_type)), inputs)
    if measured is None:
        return prediction
    if variant == "rated" and measured.has("rated"):
        rate = inputs["rate_mib_s"].range
        assert rate is not None, "a rate is always known"
        measured = measured if measured.rates_mib_s == {rate.likely} else measured.without("rated")
    return fitted(prediction, measured)


def baked_variant(rate_mib_s: Decimal | None) -> Variant:
    """Return which way a baked AMI starts at this rate of initialization."""
    return "rated" if rate_mib_s else "plain"


def times(
    instance_type: str, figures: Mapping[str, Figure], measured: Measured | None = None
) -> dict[str, tuple[Figure, Range]]:
    """Return the five times that the model computes from *figures*, or that were *measured*, each with its spread."""
    rate = figures["initialization_mib_s"].value
    inputs = model_inputs(figures, rate)
    found: dict[str, tuple[Figure, Range]] = {}
    for names, variant in ((STOCK, STOCK_VARIANT), (BAKED, baked_variant(rate))):
        prediction = predicted(instance_type, variant, inputs, measured)
        for name, phases in names.items():
            found[name] = figure(name, prediction, phases)
    return found


def figure(name: str, prediction: Prediction, phases: tuple[Phase, Phase]) -> tuple[Figure, Range]:
    """Return the seconds of *phases*, first and last, as an input of cost, and the range that its value lies in."""
    seconds = prediction.over(*phases)
    whole = Decimal(round(seconds.likely))
    ends = f"{show_duration(seconds.low)} to {show_duration(seconds.high)}"
    return Figure(name, whole, "s", _source(prediction, phases, ends)), Range(
        min(seconds.low, float(whole)), float(whole), max(seconds.high, float(whole))
    )


_FITTED = "fitted: "


def _source(prediction: Prediction, phases: tuple[Phase, Phase], ends: str) -> str:
    """Return where the seconds come from; measured is only what was measured from end to end, and not invented."""
    parts = PHASES[PHASES.index(phases[0]) : PHASES.index(phases[1]) + 1]
    sources = {one.name: one.source for one in prediction.phases if one.name in parts}
    known = [name for name, source in sources.items() if source.startswith(_FITTED)]
    if not known:
        return f"computed: the model of cold starts, {ends}; not measured"
    # The last one known is of this way's own hosts; launch is of all.
    hosts = sources[known[-1]].removeprefix(_FITTED).partition(", with ")[0]
    if len(known) < len(parts):
        return f"computed: {', '.join(known)} of {hosts}, the rest by the model of cold starts, {ends}; not measured"
    word = "computed" if INVENTED in hosts else "measured"
    return f"{word}: {hosts}, {ends}"


def spread(figures: Mapping[str, Figure], computed: Mapping[str, Range]) -> Spread:
    """Return how unsure the whole is; what is shared by both ways is no reason to doubt their difference.

    Args:
        figures: The five times.
        computed: The spread of those that the model computed.
    """
    ranges = {name: computed.get(name) or _fixed(float(figures[name].value or 0)) for name in (*STOCK, *BAKED)}
    stock = _sum(ranges[name] for name in STOCK)
    baked = _sum(ranges[name] for name in BAKED)
    boots, others = (ranges["stock_boot_s"], ranges["baked_boot_s"]), (ranges["pull_s"], ranges["models_s"])
    load = ranges["lazy_load_s"]
    saved = Range(
        boots[0].high - boots[1].high + others[0].low + others[1].low - load.high,
        stock.likely - baked.likely,
        boots[0].low - boots[1].low + others[0].high + others[1].high - load.low,
    )
    return Spread(stock, baked, saved)


def _sum(ranges: Iterable[Range]) -> Range:
    return sum(ranges, Range(0, 0, 0))


def _fixed(value: float) -> Range:
    return Range(value, value, value)
