"""`invoke cost`: gathers the inputs from flags, settings, the last build and AWS, and shows the cost report."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gpu_ami import families
from gpu_ami.cost import inputs, price_table
from gpu_ami.cost.figure import Figure
from gpu_ami.cost.price_table import Market, PriceTable
from gpu_ami.cost.report import CostReport, report
from gpu_ami.cost.specs import checked, checked_name, comma_list, parse_inputs
from gpu_ami.errors import AwsError, UsageError
from gpu_ami.files import read_text
from gpu_ami.invocation import Invocation
from gpu_ami.records import manifest_file as manifests
from gpu_ami.records import release as releases
from gpu_ami.records.tags import FAMILY_TAG, REGION
from gpu_ami.units import show_duration

if TYPE_CHECKING:
    from gpu_ami.coldstart.bench_result import Measured
    from gpu_ami.cost.live_prices import LivePrices

_GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke cost`` requests.

    Attributes:
        preset: A named set of inputs.
        market: Another market than the settings' one.
        instance_type: Another instance type than the settings' one.
        jobs_per_month: How many jobs.
        values: Further inputs as ``name=value``.
        compare: Instance types to set beside, joined by commas.
        regions: Regions to set beside, joined by commas.
        live: Look prices and sizes up; what AWS does not say comes from the table, with a warning.
        strict: What AWS does not say is an error.
        chart: The file that the answer will be drawn to, checked before AWS is queried.
        inputs: Show every input with its source, too.
        measured: Results of a bench, whose seconds go before the model's.
    """

    preset: str | None = None
    market: str | None = None
    instance_type: str | None = None
    jobs_per_month: str | None = None
    values: Sequence[str] = ()
    compare: str | None = None
    regions: str | None = None
    live: bool = False
    strict: bool = False
    chart: str | None = None
    inputs: bool = False
    measured: Sequence[str] = ()


def run(run: Invocation, request: Request) -> None:
    """Say what the AMI costs and saves; `answer` and `show` say what can go wrong."""
    families.refuse_beside(run, {"--chart": request.chart is not None})
    show(run, answer(run, request), chart=request.chart, all_inputs=request.inputs)


def answer(run: Invocation, request: Request) -> CostReport:
    """Return what the AMI costs and saves.

    Raises:
        UsageError: A flag or setting cannot be used, or there are no prices for a region or type.
        AwsError: AWS did not say everything that was to be looked up, and it has to.
    """
    if request.chart is not None:
        from gpu_ami.svg import check_path

        check_path(Path(request.chart))
    chosen = run.settings.cost
    given = parse_inputs(request.values, flag="--set")
    if request.jobs_per_month is not None:
        given["jobs_per_month"] = checked("jobs_per_month", request.jobs_per_month, flag="--jobs-per-month")
    measured = _measured(run, request)
    found = _Known.read(run)
    question = inputs.CostRequest(
        region=run.settings.region,
        instance_type=chosen.instance_type
        if request.instance_type is None
        else checked_name(request.instance_type, "--instance-type"),
        market=chosen.market if request.market is None else cast("Market", request.market),
        network=chosen.network,
        builder_type=found.builder_type or inputs.CostRequest.builder_type,
        builder_market=found.builder_market,
        preset=request.preset,
        settings=_settings_inputs(run),
        given=given,
        compare=comma_list(request.compare, "--compare"),
        regions=comma_list(request.regions, "--regions"),
        measured=measured,
    )
    _check_type(question)
    kept = Figure("retained_amis", Decimal(run.settings.cleanup.keep), "AMIs", "given: cleanup.keep in pipeline.yaml")
    prices, known = price_table.load(), [kept, *found.figures]
    if request.live:
        with _tolerated(run, strict=request.strict):
            prices = _live_prices(run, question, prices, strict=request.strict)
            known = [*known, *_account_figures(run, found)]
    answered = report(question, prices, today=_today(), known=known)
    for warning in answered.warnings:
        run.console.warn(warning)
    return answered


def _measured(run: Invocation, request: Request) -> Measured | None:
    if not request.measured:
        return None
    from gpu_ami.coldstart.coldstart import load_measured

    return load_measured(run, request.measured, flag="--measured")


def _check_type(question: inputs.CostRequest) -> None:
    """Refuse to answer about one type by what was measured on another.

    Raises:
        UsageError: It was.
    """
    measured = question.measured
    others = sorted(measured.instance_types - {question.instance_type}) if measured else []
    if measured and others:
        names = ", ".join(measured.sources)
        msg = (
            f"{names} measured {others[0]}, and the question is about {question.instance_type}: "
            f"add --instance-type {others[0]}, or leave --measured out."
        )
        raise UsageError(msg)


def show(run: Invocation, answered: CostReport, *, chart: str | None = None, all_inputs: bool = False) -> None:
    """Print the answer, with *all_inputs* when requested, and draw it to the file *chart* when one is named.

    Raises:
        UsageError: The file is no picture's name or cannot be written, or what the picture needs is unknown.
    """
    draws = chart is not None and not run.options.dry_run
    if chart is not None and draws:
        from gpu_ami.cost.chart import write

        write(answered, Path(chart))

    from gpu_ami.cost.report_tables import headline, tables

    run.console.result(answered.document(), *tables(answered, all_inputs=all_inputs))
    if all_inputs and run.console.is_terminal:
        # The answer is on top of some hundred lines: of them all a person still has the last ones in view.
        run.console.say(headline(answered))
    if draws:
        run.console.say(f"Drew {chart}.")


@dataclass(frozen=True)
class _Known:
    """What this checkout knows of its last build."""

    figures: Sequence[Figure] = ()
    builder_type: str | None = None
    builder_market: Market = "on-demand"
    ami_id: str | None = None

    @classmethod
    def read(cls, run: Invocation) -> _Known:
        """Return what the manifest and the release record of the last build say."""
        figures = _release_figures(run)
        path = run.workspace.manifest
        builds = [build for build in manifests.load_if_any(path).last_run if build.amis]
        if len(builds) != 1:
            return cls(figures)
        noted = builds[0].custom_data or {}
        types = noted.get("instance_type", "").split(",")
        size = noted.get("volume_size_gib", "")
        if size.isdigit() and int(size):
            source = f"measured: {run.workspace.shown(path)}"
            figures = [*figures, Figure("builder_gib", Decimal(size), "GiB", source)]
        market: Market = "spot" if len(types) > 1 else "on-demand"
        return cls(figures, types[0] or None, market, builds[0].amis.get(run.settings.region))


def _release_figures(run: Invocation) -> list[Figure]:
    path = run.workspace.release
    if not path.exists():
        return []
    text = read_text(path, what="release record")
    try:
        record = releases.measured(text, source=run.workspace.shown(path))
    except UsageError as exc:
        run.console.warn(f"{exc} It is left out.")
        return []
    source = f"measured: {run.workspace.shown(path)} of {record.run_id}"
    values = {
        "build_min": ("min", record.bake_seconds / 60, "launch to release record"),
        "billed_gib": ("GiB", record.used_bytes / _GIB, "used on the root volume"),
    }
    return [
        Figure(name, Decimal(str(round(value, 2))), unit, f"{source}, {what}")
        for name, (unit, value, what) in values.items()
        if round(value, 2) > 0
    ]


def _settings_inputs(run: Invocation) -> Mapping[str, Decimal]:
    given = run.settings.cost.inputs
    return {name: checked(name, value, flag="cost.inputs in pipeline.yaml") for name, value in given.items()}


@contextlib.contextmanager
def _tolerated(run: Invocation, *, strict: bool) -> Iterator[None]:
    """Turn AWS's refusal inside the block into a warning, unless the caller is *strict*."""
    try:
        yield
    except AwsError as exc:
        if strict:
            raise
        run.console.warn(f"{exc} What is not known live comes from the table of {price_table.load().compiled}.")


def _account_figures(run: Invocation, found: _Known) -> list[Figure]:
    """Return what the account says about the AMIs: their size and how many there are."""
    from gpu_ami.aws import images
    from gpu_ami.aws.caller import Caller
    from gpu_ami.aws.sts import identify

    region, family = run.settings.region, run.settings.family
    figures = []
    size = None if found.ami_id is None else _written_gib(run, found.ami_id)
    if size:
        source = f"measured: FullSnapshotSizeInBytes of {found.ami_id}"
        figures.append(Figure("billed_gib", Decimal(str(size)), "GiB", source))
    own = images.own_images(Caller(run.access, region), identify(run.access).account)
    count = sum(1 for image in own if image.tags.get(FAMILY_TAG) == family)
    if count:
        source = f"measured: AMIs of family {family} in {region}"
        figures.append(Figure("retained_amis", Decimal(count), "AMIs", source))
    return figures


def _written_gib(run: Invocation, ami_id: str) -> float | None:
    from gpu_ami.aws import images
    from gpu_ami.aws.caller import Caller

    caller = Caller(run.access, run.access.region)
    return images.written_gib(caller, images.describe(caller, ami_id))


def _live_prices(run: Invocation, request: inputs.CostRequest, prices: PriceTable, *, strict: bool) -> PriceTable:
    from gpu_ami.cost import live_prices

    types = tuple(dict.fromkeys((request.instance_type, *request.compare, request.builder_type)))
    regions = tuple(dict.fromkeys((request.region, *request.regions)))
    for region in regions:
        if region.startswith("cn-") or REGION.fullmatch(region) is None:
            prices.check_region(region)  # before AWS is asked about the first
    for region in regions:
        found = _looked_up(run, region, types, needed=_needed(request) if strict else ())
        if found.missing:
            names = ", ".join(found.missing)
            run.console.warn(f"AWS gives no price in {region} of {names}: the table's is used where it has one.")
        prices = live_prices.overlay(prices, found)
    return prices


def _needed(request: inputs.CostRequest) -> Collection[str]:
    """Return what an answer cannot do without, by the names that `look_up` gives its problems."""
    hourly = {f"{request.instance_type} {request.market}", f"{request.builder_type} {request.builder_market}"}
    return hourly | {"snapshot_usd_per_gib_month", "gp3_usd_per_gib_month", f"{request.network}_usd_per_gb"}


def _looked_up(run: Invocation, region: str, types: tuple[str, ...], *, needed: Collection[str]) -> LivePrices:
    """Return the prices of *region*, kept ones when they are young enough.

    Raises:
        AwsError: AWS could not be queried, or has no price of what is *needed*.
    """
    from gpu_ami.aws.caller import Caller
    from gpu_ami.aws.price_list import SPOT_DAYS, look_up
    from gpu_ami.cost import live_prices

    now = datetime.now(timezone.utc)
    path = run.target.cache / f"prices-{region}.json"
    kept = live_prices.load_kept(path)
    if kept is not None and kept.covers(types, now) and not {*kept.missing} & {*needed}:
        age = show_duration((now - kept.looked_up).total_seconds())
        run.console.say(
            f"Prices of {region} were looked up {age} ago; {run.workspace.shown(path)} keeps them for a day."
        )
        return kept
    with run.console.step(f"prices of {region}"):
        answers = look_up(Caller(run.access, region), types=types, rates=inputs.LOOKED_UP, now=now)
        for name in needed:
            if name in answers.problems:
                raise AwsError(answers.problems[name])
    found = live_prices.summarise(answers, region, types=types, now=now, spot_days=SPOT_DAYS)
    live_prices.keep(path, found)
    return found


def _today() -> date:
    return datetime.now(timezone.utc).date()


__all__ = ["answer", "show"]
