"""Alternatives to a baked AMI, and the sensitivity of the break-even to its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from gpu_ami.cost import coldstart
from gpu_ami.cost.figure import Number, product, total
from gpu_ami.cost.inputs import Inputs
from gpu_ami.cost.model import HOURS_PER_MONTH, BreakEven, Case, time_usd
from gpu_ami.units import show_count

# A pull that is bound by the CPU, to instance store: 2 to 4 minutes for 17 GB; models from S3 take 2 to 15 s.
FAST_PULL_S = Decimal(180)
FAST_MODELS_S = Decimal(15)
# Batch's scalingPolicy.minScaleDownDelayMinutes starts at 20.
_KEEP_S = Decimal(1200)
_IMAGE_GIB = Decimal(17)
_FIVE_MINUTES_S = Decimal(300)
_SLOWER, _NONE = "volume initialized at 100 MiB/s", "volume not initialized"
_WEEKS_PER_MONTH = Decimal(52) / 12


@dataclass(frozen=True)
class Alternative:
    """Another way to start jobs.

    Attributes:
        name: What one would do.
        cold_start_s: From launch to a job that runs.
        usd_per_month: All cold starts of a month and what the way costs besides.
        note: What it needs or leaves open.
    """

    name: str
    cold_start_s: Number
    usd_per_month: Number
    note: str = ""


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
    return [
        Alternative(
            "stock AMI", case.launch.stock_s, product(case.launches_per_month, case.launch.stock_usd), "as today"
        ),
        _baked("baked AMI", case, f"initialized at {rate} MiB/s" if rate else "no provisioned initialization"),
        *_other_hydration(inputs, rate),
        *_fast_restore(inputs),
        _fast_pull(case),
        _keep_instances(inputs, case),
    ]


def sensitivities(inputs: Inputs) -> list[Sensitivity]:
    """Return the break-even for each of the usual what-ifs."""
    pull = inputs.figures["pull_s"].value
    reader = inputs.figures["reader_mb_s"].value
    everything_s = coldstart.lazy_s(_IMAGE_GIB, reader) if reader else None
    none = {"initialization_mib_s": Decimal(0)}
    questions: list[tuple[str, Mapping[str, Number]]] = [
        ("as it is", {}),
        ("+5 min saved per launch", {"pull_s": total(pull, _FIVE_MINUTES_S)}),
        ("-5 min saved per launch", {"pull_s": total(pull, -_FIVE_MINUTES_S)}),
        *([(_SLOWER, {"initialization_mib_s": Decimal(100)}), (_NONE, none)] if inputs.loads_as_computed else []),
        (f"{_NONE}, all {_IMAGE_GIB} GiB read", {**none, "lazy_load_s": everything_s}),
        ("one AMI kept", {"retained_amis": Decimal(1)}),
        ("a build a week", {"builds_per_month": _WEEKS_PER_MONTH}),
        ("30 GiB more root volume", {"extra_root_gib": Decimal(30)}),
    ]
    cases = [(change, inputs.changed(changes)) for change, changes in questions]
    return [Sensitivity(change, case.launch.saved_usd, case.break_even_launches) for change, case in cases]


def _baked(name: str, case: Case, note: str) -> Alternative:
    launches = product(case.launches_per_month, case.launch.baked_usd)
    return Alternative(name, case.launch.baked_s, total(launches, case.fixed_usd_per_month), note)


def _other_hydration(inputs: Inputs, rate: Number) -> list[Alternative]:
    if not inputs.loads_as_computed:
        return []
    others = [other for other in (Decimal(0), Decimal(100), Decimal(300)) if other != rate]
    return [
        _baked(
            "baked AMI",
            inputs.changed({"initialization_mib_s": other}),
            f"initialized at {other} MiB/s" if other else "volume not initialized",
        )
        for other in others
    ]


def _fast_restore(inputs: Inputs) -> list[Alternative]:
    gib = inputs.figures["builder_gib"].value or Decimal(1)
    refill = coldstart.fsr_refill_per_hour(gib)
    found = []
    for hours, when in ((Decimal(10), "10 h a month"), (HOURS_PER_MONTH, "always")):
        changes = {"initialization_mib_s": Decimal(0), "lazy_load_s": Decimal(60), "fsr_hours_per_month": hours}
        note = f"in one zone, {show_count(round(refill), 'launch', 'launches')} an hour at most"
        found.append(_baked(f"baked AMI, Fast Snapshot Restore {when}", inputs.changed(changes), note))
    return found


def _fast_pull(case: Case) -> Alternative:
    seconds = total(case.launch.stock_boot_s, FAST_PULL_S, FAST_MODELS_S)
    start_usd = total(time_usd(seconds, case.launch.instance_usd_per_hour), case.launch.network_usd)
    note = "instance store as Docker's data root; 2 to 4 min to pull, not measured"
    return Alternative("stock AMI, fast pull", seconds, product(case.launches_per_month, start_usd), note)


def _keep_instances(inputs: Inputs, case: Case) -> Alternative:
    """Return what it costs to let instances wait 20 minutes for the next job of a burst."""
    burst = inputs.figures["jobs_per_burst"].value
    bursts = product(case.jobs_per_month, 1 / burst) if burst else None
    burst_usd = total(case.launch.stock_usd, time_usd(_KEEP_S, case.launch.instance_usd_per_hour))
    note = f"Batch minScaleDownDelayMinutes = 20; cold for one job in {burst}"
    return Alternative("stock AMI, instances kept 20 min", case.launch.stock_s, product(bursts, burst_usd), note)
