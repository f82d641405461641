"""The inputs of one question about cost: what is given, measured, looked up or assumed, each with its source."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from typing import Any, Literal

from gpu_ami.coldstart.assumptions import Range as Seconds
from gpu_ami.coldstart.bench_result import Measured
from gpu_ami.cost import cold_start
from gpu_ami.cost.figure import Figure, Number, Range
from gpu_ami.cost.model import Build, Case, Launch, Storage
from gpu_ami.cost.price_table import MARKETS, Market, PriceTable
from gpu_ami.cost.specs import SPECS, Spec
from gpu_ami.errors import UsageError

Network = Literal["nat", "endpoint", "gateway"]
NETWORKS: tuple[Network, ...] = ("nat", "endpoint", "gateway")

Figures = Mapping[str, Figure]
# The original estimate: 17 minutes and $0.10 of network saved at $0.20 an hour; one AMI of 30 GB, one build on the same
# instance in the middle of "20-30 minutes".
_SEED = {
    "instance_usd_per_hour": "0.20",
    "stock_boot_s": "120",
    "pull_s": "1020",
    "models_s": "60",
    "baked_boot_s": "120",
    "lazy_load_s": "60",
    "avoided_gb": "1",
    "path_usd_per_gb": "0.10",
    "initialization_mib_s": "0",
    "extra_root_gib": "0",
    "retained_amis": "1",
    "billed_gib": "30",
    "snapshot_usd_per_gib_month": "0.05",
    "copies": "0",
    "builds_per_month": "1",
    "build_min": "25",
    "builder_usd_per_hour": "0.20",
    "builder_gib": "0",
    "builder_iops": "0",
    "builder_mib_s": "0",
    "builder_gb": "0",
    "ipv4_usd_per_hour": "0",
    "failed_share": "0",
    "ci_min": "0",
    "fsr_hours_per_month": "0",
    "jobs_per_month": "10",
    "jobs_per_instance": "1",
}
PRESETS: Mapping[str, Mapping[str, str]] = {"seed": _SEED}


@dataclass(frozen=True, kw_only=True)
class CostRequest:
    """One question about cost.

    Attributes:
        region: Where the AMI is baked and used.
        instance_type: What runs the jobs.
        market: How these instances are bought.
        network: How they reach ECR and S3.
        builder_type: What bakes.
        builder_market: How the builder is bought.
        preset: A named set of inputs; None is the real thing.
        settings: Inputs from pipeline.yaml.
        given: Inputs from the command line.
        compare: Instance types to set beside.
        regions: Regions to set beside.
        measured: What a bench measured.
    """

    region: str
    instance_type: str = "g5.xlarge"
    market: Market = "spot"
    network: Network = "gateway"
    builder_type: str = "c7i.4xlarge"
    builder_market: Market = "on-demand"
    preset: str | None = None
    settings: Mapping[str, Decimal] = field(default_factory=dict)
    given: Mapping[str, Decimal] = field(default_factory=dict)
    compare: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    measured: Measured | None = None

    def __post_init__(self) -> None:
        """Refuse values that name nothing.

        Raises:
            UsageError: The market, network or preset is not known.
        """
        for flag, value, known in (
            ("--market", self.market, MARKETS),
            ("network", self.network, NETWORKS),
            ("--preset", self.preset, (None, *PRESETS)),
        ):
            if value not in known:
                names = ", ".join(name for name in known if name)
                msg = f"{flag} {value!r} is not known: give one of {names}."
                raise UsageError(msg)


@dataclass(frozen=True)
class Inputs:
    """Every input, and what moves: the instance's price, and the times that the model of cold starts computed.

    Attributes:
        figures: Every input but a moving price.
        hourly: The instance's price.
        instance_type: The host, for the model.
        spreads: The range of each time that the model computed or a bench measured; the others are given.
        measured: What a bench measured on this type.
    """

    figures: Figures
    hourly: Range
    instance_type: str = "g5.xlarge"
    spreads: Mapping[str, Seconds] = field(default_factory=dict)
    measured: Measured | None = None

    @property
    def loads_as_computed(self) -> bool:
        """Whether the wait for the volume follows from its initialization, and is not stated."""
        return "lazy_load_s" in self.spreads

    @property
    def spread(self) -> cold_start.Spread:
        """What the model is unsure of."""
        return cold_start.spread(self.figures, self.spreads)

    def case(self, hourly: Figure | None = None) -> Case:
        """Return the arithmetic's case at the instance price *hourly*, the middle one by default."""
        price = self.hourly.mid if hourly is None else hourly
        return case_of({**self.figures, "instance_usd_per_hour": price})

    def changed(self, changes: Mapping[str, Number]) -> Case:
        """Return the case with some inputs changed, for what-if questions."""
        return self.with_changes(changes).case()

    def with_changes(self, changes: Mapping[str, Number]) -> Inputs:
        """Return the inputs with *changes*, and what the model computes anew from them."""
        figures = {
            **self.figures,
            **{name: replace(self.figures[name], value=value) for name, value in changes.items()},
        }
        open_times = self.spreads.keys() - changes.keys()
        computed = cold_start.times(self.instance_type, figures, self.measured) if open_times else {}
        return replace(
            self,
            figures={**figures, **{name: computed[name][0] for name in open_times}},
            spreads={name: computed[name][1] for name in open_times},
        )


def gather(request: CostRequest, table: PriceTable, known: Iterable[Figure] = ()) -> Inputs:
    """Return the inputs of *request*.

    What is given on the command line beats the preset, which beats pipeline.yaml, which beats what was measured, which
    beats prices and assumptions. What a bench measured takes the place of what the model of cold starts would say.

    Args:
        request: The question.
        table: The prices.
        known: What was measured.
    """
    measured = _on_its_type(request)
    stated = {figure.name: figure for figure in (*known, *_measured_rate(measured))}
    stated |= _given(request.settings, "pipeline.yaml")
    stated |= _given(PRESETS.get(request.preset or "", {}), "the original estimate")
    stated |= _given(request.given, "command line")
    assumed = {name: _assumed(name, spec) for name, spec in SPECS.items() if spec.default is not None}
    known_figures = {**assumed, **_prices(request, table), **stated}
    figures, spreads = _derived(request.instance_type, known_figures, stated, measured)
    return Inputs(figures, _hourly(request, table, figures), request.instance_type, spreads, measured)


def _on_its_type(request: CostRequest) -> Measured | None:
    """Return what was measured, where that was on the type that is requested: of another one it says nothing."""
    measured = request.measured
    if measured is None or not measured.instance_types <= {request.instance_type}:
        return None
    return measured


def _measured_rate(measured: Measured | None) -> list[Figure]:
    """Return at which rate the hosts were that started as jobs do: their times are the AMI's at this rate only."""
    if measured is None:
        return []
    name = "initialization_mib_s"
    where = ", ".join(measured.sources)
    has_rate = measured.has("rated") and measured.judged != {"plain"}
    rates = [rate for rate in measured.rates_mib_s if rate] if has_rate else []
    if len(rates) == 1:
        return [Figure(name, Decimal(f"{rates[0]:g}"), SPECS[name].unit, f"given: the rate of the hosts of {where}")]
    if measured.has("plain") and not has_rate:
        return [Figure(name, Decimal(0), SPECS[name].unit, f"given: the hosts of {where} had no rate")]
    return []


def case_of(figures: Figures) -> Case:
    """Return the arithmetic's case that *figures* describe."""
    own = {name: figures[name].value for name in _names(Case) if name in figures}
    return Case(
        launch=Launch(**_values(Launch, figures)),
        storage=Storage(**_values(Storage, figures)),
        build=Build(**_values(Build, figures)),
        **own,
    )


def _names(kind: Any) -> list[str]:
    return [field.name for field in fields(kind)]


def _values(kind: Any, figures: Figures) -> dict[str, Number]:
    return {name: figures[name].value for name in _names(kind)}


def _assumed(name: str, spec: Spec) -> Figure:
    return Figure(name, Decimal(spec.default or 0), spec.unit, f"assumed: {spec.why}")


def _given(values: Mapping[str, Any], where: str) -> dict[str, Figure]:
    return {name: Figure(name, Decimal(value), SPECS[name].unit, f"given: {where}") for name, value in values.items()}


# The prices that the arithmetic takes from the table as they are.
_RATES = (
    "snapshot_usd_per_gib_month",
    "gp3_usd_per_gib_month",
    "gp3_usd_per_iops_month",
    "gp3_usd_per_mib_s_month",
    "ipv4_usd_per_hour",
    "initialization_usd_per_gib_mib_s",
    "fsr_usd_per_hour",
    "cross_region_usd_per_gb",
)

# All rates that a question can need, the network paths' included.
LOOKED_UP = (*_RATES, *(f"{path}_usd_per_gb" for path in NETWORKS))


def _prices(request: CostRequest, table: PriceTable) -> dict[str, Figure]:
    figures = {name: table.rate(request.region, name) for name in _RATES}
    path = table.rate(request.region, f"{request.network}_usd_per_gb")
    builder = table.hourly(request.region, request.builder_type, request.builder_market).mid
    figures["path_usd_per_gb"] = _renamed(path, "path_usd_per_gb", request.network)
    what = f"{request.builder_type} {request.builder_market}"
    figures["builder_usd_per_hour"] = _renamed(builder, "builder_usd_per_hour", what)
    return figures


def _renamed(figure: Figure, name: str, what: str) -> Figure:
    return replace(figure, name=name, source=f"{figure.source}, {what}")


def _derived(
    instance_type: str, figures: dict[str, Figure], stated: Collection[str], measured: Measured | None
) -> tuple[dict[str, Figure], dict[str, Seconds]]:
    """Return *figures* with what follows from others, unless it is *stated*, and the spread of computed times."""
    figures = dict(figures)
    if "hydrated_gib" not in stated:
        figures["hydrated_gib"] = Figure("hydrated_gib", figures["billed_gib"].value, "GiB", "computed: billed_gib")
    figures |= {name: figure for name, figure in cold_start.assumptions().items() if name not in stated}
    computed = cold_start.times(instance_type, figures, measured)
    figures |= {name: figure for name, (figure, _) in computed.items() if name not in stated}
    return figures, {name: seconds for name, (_, seconds) in computed.items() if name not in stated}


def _hourly(request: CostRequest, table: PriceTable, figures: Figures) -> Range:
    stated = figures.get("instance_usd_per_hour")
    if stated is not None:
        return Range(stated, stated, stated)
    prices = table.hourly(request.region, request.instance_type, request.market)
    what = f"{request.instance_type} {request.market}"
    low, mid, high = (
        _renamed(figure, "instance_usd_per_hour", what) for figure in (prices.low, prices.mid, prices.high)
    )
    return Range(low, mid, high)
