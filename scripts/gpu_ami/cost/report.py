"""The answer to one question about cost: as data, as tables for people, as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

from gpu_ami.cost.figure import Figure, Number, as_json, product
from gpu_ami.cost.inputs import PRESETS, CostRequest, Inputs, case_of, gather
from gpu_ami.cost.model import BreakEven, Case
from gpu_ami.cost.price_table import STALE_DAYS, PriceTable
from gpu_ami.cost.whatif import Alternative, Sensitivity, alternatives, sensitivities


@dataclass(frozen=True)
class Compared:
    """The same question for another instance type or region."""

    region: str
    instance_type: str
    market: str
    case: Case


@dataclass(frozen=True, kw_only=True)
class CostReport:
    """The answer; `document` is the contract with scripts.

    Attributes:
        request: The question.
        inputs: Every input with its source.
        low: The case at the low instance price: the smallest saving.
        mid: The case at the middle price.
        high: The case at the high price: the largest saving.
        alternatives: What else one could do.
        sensitivities: What would change the answer.
        compared: Other instance types and regions, when requested.
        bridge: From a preset to the real thing, a step each, when a preset was requested.
        zones: Spot prices by zone.
        warnings: What a reader should know before believing it.
    """

    request: CostRequest
    inputs: Inputs
    low: Case
    mid: Case
    high: Case
    alternatives: Sequence[Alternative]
    sensitivities: Sequence[Sensitivity]
    compared: Sequence[Compared]
    bridge: Sequence[Sensitivity]
    zones: Sequence[tuple[str, Decimal]]
    warnings: Sequence[str]

    @property
    def figures(self) -> list[Figure]:
        """Every input, the instance's price first."""
        hourly = self.inputs.hourly
        moving = [hourly.mid] if hourly.low == hourly.high else [hourly.low, hourly.mid, hourly.high]
        marks = [""] if len(moving) == 1 else ["_low", "", "_high"]
        named = [replace(figure, name=figure.name + mark) for figure, mark in zip(moving, marks, strict=True)]
        return [*named, *(self.inputs.figures[name] for name in sorted(self.inputs.figures) if name not in _MOVING)]

    @property
    def measured(self) -> list[str]:
        """The inputs that were measured, by name."""
        return [figure.name for figure in self.figures if figure.source.startswith("measured: ")]

    @property
    def waiting_saved_h_per_month(self) -> Number:
        """Hours a month that nobody waits any more."""
        return product(self.mid.launches_per_month, self.mid.launch.saved_s, 1 / Decimal(3600))

    def document(self) -> dict[str, Any]:
        """Return the answer as JSON-ready values: numbers as numbers, unknown as null, ``never`` as itself."""
        return {
            "region": self.request.region,
            "instance_type": self.request.instance_type,
            "market": self.request.market,
            "network": self.request.network,
            "preset": self.request.preset,
            "inputs": [figure.document() for figure in self.figures],
            "measured": self.measured,
            "build_usd": as_json(self.mid.build.usd),
            "storage_usd_per_month": as_json(self.mid.storage.usd_per_month),
            "fixed_usd_per_month": as_json(self.mid.fixed_usd_per_month),
            "hydration_usd_per_launch": as_json(self.mid.launch.hydration_usd),
            "launches_per_month": as_json(self.mid.launches_per_month),
            "saved_per_launch_s": as_json(self.mid.launch.saved_s, 1),
            "waiting_saved_h_per_month": as_json(self.waiting_saved_h_per_month, 2),
            **_outcome(self.mid),
            "low": _outcome(self.low),
            "mid": _outcome(self.mid),
            "high": _outcome(self.high),
            "cold_start": self.inputs.spread.document(),
            "spot_usd_per_hour_by_zone": {zone: float(usd) for zone, usd in self.zones},
            "alternatives": [
                {
                    "name": other.name,
                    "note": other.note,
                    "cold_start_s": as_json(other.cold_start_s, 1),
                    "usd_per_month": as_json(other.usd_per_month),
                    "low_s": round(other.spread.low, 1),
                    "high_s": round(other.spread.high, 1),
                }
                for other in self.alternatives
            ],
            "sensitivity": [_what_if(change) for change in self.sensitivities],
            "bridge": [_what_if(step) for step in self.bridge],
            "compared": [
                {"region": row.region, "instance_type": row.instance_type, "market": row.market} | _outcome(row.case)
                for row in self.compared
            ],
            "warnings": list(self.warnings),
        }


# Shown by their range instead.
_MOVING = frozenset({"instance_usd_per_hour"})


def report(request: CostRequest, table: PriceTable, *, today: date, known: Iterable[Figure] = ()) -> CostReport:
    """Return the answer to *request*.

    Args:
        request: The question.
        table: The prices.
        today: For the prices' age.
        known: What was measured.

    Raises:
        UsageError: There are no prices for a region or an instance type that was named.
    """
    known = tuple(known)
    _check(request, table)
    inputs = gather(request, table, known)
    mid = inputs.case()
    moving = request.market == "spot" and "instance_usd_per_hour" not in inputs.figures
    return CostReport(
        request=request,
        inputs=inputs,
        low=inputs.case(inputs.hourly.low),
        mid=mid,
        high=inputs.case(inputs.hourly.high),
        alternatives=alternatives(inputs),
        sensitivities=sensitivities(inputs),
        compared=_compared(request, table, known),
        bridge=_bridge(request, inputs, gather(replace(request, preset=None), table, known)) if request.preset else (),
        zones=sorted(table.zones(request.region, request.instance_type).items()) if moving else (),
        warnings=[*_stale(inputs, today), *_unknown(inputs), *_invented(inputs)],
    )


def _check(request: CostRequest, table: PriceTable) -> None:
    priced = {"instance_usd_per_hour"} & {*request.given, *request.settings, *PRESETS.get(request.preset or "", ())}
    if not priced:
        table.check_region(request.region)
        table.check_type(request.region, request.instance_type)
    for region in request.regions:
        table.check_region(region)
    for name in request.compare:
        if not any(
            table.hourly(region, name, request.market).mid.value for region in (request.region, *request.regions)
        ):
            table.check_region(request.region)
            table.check_type(request.region, name)


def _outcome(case: Case) -> dict[str, Any]:
    return {
        "instance_usd_per_hour": as_json(case.launch.instance_usd_per_hour),
        "saved_per_launch_usd": as_json(case.launch.saved_usd),
        "break_even_launches_per_month": _break_even_json(case.break_even_launches),
        "break_even_jobs_per_month": _break_even_json(case.break_even_jobs),
        "net_usd_per_month": as_json(case.net_usd_per_month(case.launches_per_month)),
    }


def _break_even_json(value: BreakEven) -> float | str | None:
    return as_json(value, 1) if isinstance(value, Decimal) else value


def _what_if(row: Sensitivity) -> dict[str, Any]:
    return {
        "change": row.change,
        "saved_per_launch_usd": as_json(row.saved_per_launch_usd),
        "break_even_launches_per_month": _break_even_json(row.break_even_launches),
    }


def _compared(request: CostRequest, table: PriceTable, known: tuple[Figure, ...]) -> list[Compared]:
    """Return the request's own instance type and region first, then those to set beside it."""
    if not request.compare and not request.regions:
        return []
    types = dict.fromkeys((request.instance_type, *request.compare))
    regions = dict.fromkeys((request.region, *request.regions))
    requests = [replace(request, region=region, instance_type=name) for region in regions for name in types]
    return [Compared(r.region, r.instance_type, r.market, gather(r, table, known).case()) for r in requests]


# How one gets from a preset's inputs to the real ones: what changes, and the inputs that it is.
_STEPS = {
    "the instance's real price": "instance_usd_per_hour",
    "the network path that is used": "avoided_gb path_usd_per_gb",
    "the builder that is used, failed builds included": (
        "build_min builder_usd_per_hour builder_gib builder_iops builder_mib_s builder_gb ipv4_usd_per_hour "
        "failed_share ci_min builds_per_month"
    ),
    "as many AMIs as are kept": "retained_amis billed_gib snapshot_usd_per_gib_month copies",
    "the volume initialized at a provisioned rate": (
        "initialization_mib_s hydrated_gib stock_boot_s pull_s models_s baked_boot_s lazy_load_s"
    ),
}


def _bridge(request: CostRequest, preset: Inputs, real: Inputs) -> list[Sensitivity]:
    """Return the break-even after each step from the preset's inputs to the real ones."""
    figures = {**preset.figures, "instance_usd_per_hour": preset.hourly.mid}
    target = {**real.figures, "instance_usd_per_hour": real.hourly.mid}
    steps = [_step(f"the preset {request.preset}", figures)]
    for change, names in _STEPS.items():
        figures |= {name: target[name] for name in names.split()}
        steps.append(_step(change, figures))
    return steps


def _step(change: str, figures: dict[str, Figure]) -> Sensitivity:
    case = case_of(figures)
    return Sensitivity(change, case.launch.saved_usd, case.break_even_launches)


def _stale(inputs: Inputs, today: date) -> list[str]:
    prices = [*inputs.figures.values(), inputs.hourly.mid]
    old = {figure.name: figure.as_of for figure in prices if figure.as_of and (today - figure.as_of).days > STALE_DAYS}
    if not old:
        return []
    oldest = min(old.values())
    names = ", ".join(sorted(old))
    days = (today - oldest).days
    return [f"Prices up to {days} days old ({names}): run `invoke prices`, or add --live."]


def _invented(inputs: Inputs) -> list[str]:
    measured = inputs.measured
    if measured is None or not measured.is_invented:
        return []
    return [f"{', '.join(measured.sources)}: the sandbox invents times, so nothing of this was measured."]


def _unknown(inputs: Inputs) -> list[str]:
    needed = inputs.case()
    if needed.launch.saved_usd is not None and needed.fixed_usd_per_month is not None:
        return []
    prices = [*inputs.figures.values(), inputs.hourly.mid]
    names = ", ".join(sorted(figure.name for figure in prices if figure.value is None))
    return [f"Unknown: {names}; what depends on it is unknown too. Add --live, or --set NAME=VALUE."]
