"""Alternatives to a baked AMI, and the sensitivity of the break-even to its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from gpu_ami.coldstart import volume
from gpu_ami.coldstart.assumptions import Range
from gpu_ami.coldstart.model import Variant
from gpu_ami.cost import cold_start
from gpu_ami.cost.figure import Number, product, total
from gpu_ami.cost.inputs import Inputs
from gpu_ami.cost.model import HOURS_PER_MONTH, BreakEven, Case, time_usd
from gpu_ami.units import show_count

# Batch's scalingPolicy.minScaleDownDelayMinutes starts at 20.
_KEEP_S = Decimal(1200)
_IMAGE_GIB = Decimal(17)
_FIVE_MINUTES_S = Decimal(300)
PREWARMED = "baked AMI, prewarmed"
SLOWER, NOT_INITIALIZED = "volume initialized at 100 MiB/s", "volume not initialized"
_WEEKS_PER_MONTH = Decimal(52) / 12


@dataclass(frozen=True)
class Alternative:
    """Another way to start jobs.

    Attributes:
        name: What one would do.
        cold_start_s: From launch to a job that runs.
        usd_per_month: All cold starts of a month and what the way costs besides.
        note: What it needs or leaves open.
        spread: What the model is unsure of, in seconds.
    """

    name: str
    cold_start_s: Number
    usd_per_month: Number
    note: str
    spread: Range


@dataclass(frozen=True)
class Sensitivity:
    """The break-even if one thing were different."""

    change: str
    saved_per_launch_usd: Number
    break_even_launches: BreakEven


def alternatives(inputs: Inputs) -> list[Alternative]:
    """Return the ways to start jobs, priced for the same month; the first is a stock AMI, the second the baked one."""
    case = inputs.case()
    rate = inputs.figures["initialization_mib_s"].value
    stock_usd = product(case.launches_per_month, case.launch.stock_usd)
    return [
        Alternative("stock AMI", case.launch.stock_s, stock_usd, "as today", inputs.spread.stock),
        _baked("baked AMI", inputs, f"initialized at {rate} MiB/s" if rate else "no provisioned initialization"),
        *_other_hydration(inputs, rate),
        *_prewarmed(inputs),
        *_fast_restore(inputs),
        _fast_pull(inputs, case),
        _keep_instances(inputs, case),
    ]


def sensitivities(inputs: Inputs) -> list[Sensitivity]:
    """Return the break-even for each of the usual what-ifs."""
    pull = inputs.figures["pull_s"].value
    none = {"initialization_mib_s": Decimal(0)}
    questions: list[tuple[str, Mapping[str, Number]]] = [
        ("as it is", {}),
        ("+5 min saved per launch", {"pull_s": total(pull, _FIVE_MINUTES_S)}),
        ("-5 min saved per launch", {"pull_s": total(pull, -_FIVE_MINUTES_S)}),
        *(
            [(SLOWER, {"initialization_mib_s": Decimal(100)}), (NOT_INITIALIZED, none)]
            if inputs.loads_as_computed
            else []
        ),
        (f"{NOT_INITIALIZED}, all {_IMAGE_GIB} GiB read", {**none, "lazy_load_s": _everything_s(inputs)}),
        ("one AMI kept", {"retained_amis": Decimal(1)}),
        ("a build a week", {"builds_per_month": _WEEKS_PER_MONTH}),
        ("30 GiB more root volume", {"extra_root_gib": Decimal(30)}),
    ]
    cases = [(change, inputs.changed(changes)) for change, changes in questions]
    prewarmed = [("prewarmed, and not initialized", one.case()) for one in _with_prewarm(inputs)]
    return [Sensitivity(change, case.launch.saved_usd, case.break_even_launches) for change, case in cases + prewarmed]


def _everything_s(inputs: Inputs) -> Number:
    """Return what a job waits that reads the whole image from a volume that nothing fills."""
    changes = {"initialization_mib_s": Decimal(0), "touched_gib": _IMAGE_GIB}
    figures = {name: replace(inputs.figures[name], value=value) for name, value in changes.items()}
    return cold_start.times(inputs.instance_type, {**inputs.figures, **figures})["lazy_load_s"][0].value


def _baked(name: str, inputs: Inputs, note: str) -> Alternative:
    case = inputs.case()
    launches = product(case.launches_per_month, case.launch.baked_usd)
    month = total(launches, case.fixed_usd_per_month)
    return Alternative(name, case.launch.baked_s, month, note, inputs.spread.baked)


def _other_hydration(inputs: Inputs, rate: Number) -> list[Alternative]:
    if not inputs.loads_as_computed:
        return []
    others = [other for other in (Decimal(0), Decimal(100), Decimal(300)) if other != rate]
    return [
        _baked(
            "baked AMI",
            inputs.with_changes({"initialization_mib_s": other}),
            f"initialized at {other} MiB/s" if other else "volume not initialized",
        )
        for other in others
    ]


def _prewarmed(inputs: Inputs) -> list[Alternative]:
    note = "32 readers beside the ECS agent read ahead, and no rate is paid for"
    return [_baked(PREWARMED, changed, note) for changed in _with_prewarm(inputs)]


def _with_prewarm(inputs: Inputs) -> list[Inputs]:
    """Return the inputs of a baked AMI that is read ahead instead of initialized; nothing where its wait is stated."""
    if not inputs.loads_as_computed:
        return []
    return [_hydrated(inputs, "prewarmed", {"initialization_mib_s": Decimal(0)})]


def _hydrated(inputs: Inputs, variant: Variant, changes: Mapping[str, Number]) -> Inputs:
    """Return *inputs* with *changes*, and with the times of a baked AMI that starts as *variant* does.

    A boot that is given stays: it is the AMI's, however its volume gets its data.
    """
    model = cold_start.model_inputs(inputs.figures, None)
    prediction = cold_start.predicted(inputs.instance_type, variant, model, inputs.measured)
    computed = {name: cold_start.figure(name, prediction, phases) for name, phases in cold_start.BAKED.items()}
    wanted = [name for name in computed if name == "lazy_load_s" or name in inputs.spreads]
    changed = inputs.with_changes({**changes, **{name: computed[name][0].value for name in wanted}})
    return replace(changed, spreads={**changed.spreads, **{name: computed[name][1] for name in wanted}})


def _fast_restore(inputs: Inputs) -> list[Alternative]:
    gib = inputs.figures["builder_gib"].value or Decimal(1)
    refill = volume.fsr_refill_per_hour(float(gib))
    note = f"in one zone, {show_count(round(refill), 'launch', 'launches')} an hour at most"
    found = []
    for hours, when in ((Decimal(10), "10 h a month"), (HOURS_PER_MONTH, "always")):
        changed = _hydrated(inputs, "fsr", {"initialization_mib_s": Decimal(0), "fsr_hours_per_month": hours})
        found.append(_baked(f"baked AMI, Fast Snapshot Restore {when}", changed, note))
    return found


def _fast_pull(inputs: Inputs, case: Case) -> Alternative:
    model = cold_start.model_inputs(inputs.figures, None)
    rest = cold_start.predicted(inputs.instance_type, "fast_pull", model).over("pull_unpack", "models")
    boot = inputs.spreads.get("stock_boot_s") or _fixed(case.launch.stock_boot_s)
    spread = boot + rest
    seconds = Decimal(round(spread.likely))
    start_usd = total(time_usd(seconds, case.launch.instance_usd_per_hour), case.launch.network_usd)
    note = "instance store as Docker's data root; 2 to 4 min to pull, not measured"
    return Alternative("stock AMI, fast pull", seconds, product(case.launches_per_month, start_usd), note, spread)


def _fixed(seconds: Number) -> Range:
    value = float(seconds or 0)
    return Range(value, value, value)


def _keep_instances(inputs: Inputs, case: Case) -> Alternative:
    """Return what it costs to let instances wait 20 minutes for the next job of a burst."""
    burst = inputs.figures["jobs_per_burst"].value
    bursts = product(case.jobs_per_month, 1 / burst) if burst else None
    burst_usd = total(case.launch.stock_usd, time_usd(_KEEP_S, case.launch.instance_usd_per_hour))
    note = f"Batch minScaleDownDelayMinutes = 20; cold for one job in {burst}"
    month = product(bursts, burst_usd)
    return Alternative("stock AMI, instances kept 20 min", case.launch.stock_s, month, note, inputs.spread.stock)
