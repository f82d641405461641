"""Every input of the arithmetic: its unit, what is assumed where nothing is known, and how large it can be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from gpu_ami.cost.price_table import RATES, meant
from gpu_ami.errors import UsageError

_DAY_S = 86_400
_TIB = 65_536
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?|\.[0-9]+")


@dataclass(frozen=True)
class Spec:
    """One input.

    Attributes:
        unit: As text: ``s``, ``USD/h``.
        highest: More than this is a slip.
        default: What is assumed; None where it comes from prices or from other inputs.
        why: Where the assumption comes from.
        positive: Whether 0 makes no sense.
    """

    unit: str
    highest: float
    default: str | None = None
    why: str = ""
    positive: bool = False


SPECS: Mapping[str, Spec] = {
    "stock_boot_s": Spec("s", _DAY_S),
    "pull_s": Spec("s", _DAY_S),
    "models_s": Spec("s", _DAY_S),
    "baked_boot_s": Spec("s", _DAY_S),
    "lazy_load_s": Spec("s", _DAY_S),
    "touched_gib": Spec("GiB", _TIB),
    "reader_mb_s": Spec("MB/s", 10_000, positive=True),
    "avoided_gb": Spec("GB", _TIB, "18.85", "image 17 GB and models 1.85 GB"),
    "billed_gib": Spec("GiB", _TIB, "30", "data in one AMI's snapshots, upper bound", positive=True),
    "hydrated_gib": Spec("GiB", _TIB),
    "initialization_mib_s": Spec("MiB/s", 300, "300", "the launch template's volume initialization rate"),
    "extra_root_gib": Spec("GiB", _TIB, "0", "without the AMI the root volume has to hold the same image"),
    "instance_life_h": Spec("h", 8_784, "1", "one hour of jobs on an instance"),
    "retained_amis": Spec("AMIs", 10_000, "3", "cleanup.keep"),
    "copies": Spec("regions", 50, "0", "used in one region only"),
    "builds_per_month": Spec("builds", 10_000, "1", "one build a month"),
    "build_min": Spec("min", 1_440, "25", "a build takes 20 to 30 minutes; not measured", positive=True),
    "builder_gib": Spec("GiB", _TIB, "80", "packer's volume_size_gib"),
    "builder_iops": Spec("IOPS", 80_000, "6000", "packer's volume_iops"),
    "builder_mib_s": Spec("MiB/s", 2_000, "1000", "packer's volume_throughput_mib_s"),
    "builder_gb": Spec("GB", _TIB, "18.85", "the builder downloads image and models"),
    "failed_share": Spec("share", 0.95, "0.1", "one build in ten fails"),
    "ci_min": Spec("min", 1_440, "0", "built on your own machine or in free minutes"),
    "ci_usd_per_min": Spec("USD/min", 10, "0", "built on your own machine or in free minutes"),
    "fsr_hours_per_month": Spec("h", 8_784, "0", "Fast Snapshot Restore is off"),
    "jobs_per_month": Spec("jobs", 1e9, "10", "the original estimate's 10 jobs a month", positive=True),
    "jobs_per_instance": Spec("jobs", 1e6, "1", "each job starts an instance, which suits the AMI best", positive=True),
    "jobs_per_burst": Spec("jobs", 1e6, "5", "jobs that follow each other within 20 minutes", positive=True),
    "instance_usd_per_hour": Spec("USD/h", 1_000, positive=True),
    "builder_usd_per_hour": Spec("USD/h", 1_000, positive=True),
    "path_usd_per_gb": Spec("USD/GB", 1_000),
    "snapshot_usd_per_gib_month": Spec(RATES["snapshot_usd_per_gib_month"], 1_000, positive=True),
    "gp3_usd_per_gib_month": Spec(RATES["gp3_usd_per_gib_month"], 1_000, positive=True),
    "gp3_usd_per_iops_month": Spec(RATES["gp3_usd_per_iops_month"], 1_000, positive=True),
    "gp3_usd_per_mib_s_month": Spec(RATES["gp3_usd_per_mib_s_month"], 1_000, positive=True),
    "ipv4_usd_per_hour": Spec(RATES["ipv4_usd_per_hour"], 1_000),
    "initialization_usd_per_gib_mib_s": Spec(RATES["initialization_usd_per_gib_mib_s"], 1_000, positive=True),
    "fsr_usd_per_hour": Spec(RATES["fsr_usd_per_hour"], 1_000, positive=True),
    "cross_region_usd_per_gb": Spec(RATES["cross_region_usd_per_gb"], 1_000),
}


def parse_inputs(arguments: Iterable[str], *, flag: str) -> dict[str, Decimal]:
    """Return the inputs that *arguments* of the form ``name=value`` give; *flag* names them in errors.

    Raises:
        UsageError: An argument has another form, names no input, names one twice, or holds a value that cannot be.
    """
    given: dict[str, Decimal] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            msg = f"{flag} {argument!r} is not name=value: write for example {flag} pull_s=600."
            raise UsageError(msg)
        if name in given:
            msg = f"{flag} gives {name} twice: give it once."
            raise UsageError(msg)
        given[name] = checked(name, text, flag=flag)
    return given


def checked(name: str, value: object, *, flag: str) -> Decimal:
    """Return *value* as the input *name*.

    Raises:
        UsageError: There is no such input, or the value is not a number, negative, zero where that makes no sense,
            or absurdly large.
    """
    spec = SPECS.get(name)
    if spec is None:
        guess = meant(name, SPECS, otherwise=f"`invoke cost --inputs` prints all {len(SPECS)}")
        msg = f"{flag}: there is no input {name!r}: {guess}"
        raise UsageError(msg)
    number = _number(value)
    what = f"{flag}: {name} = {str(value)[:40]!r}"
    if number is None:
        example = spec.default or ("60" if spec.unit == "s" else "0.05")
        msg = f"{what} is not a number: give one in {spec.unit}, such as {example}."
        raise UsageError(msg)
    if number < 0 or (spec.positive and number == 0):
        msg = f"{what} must be {'above 0' if spec.positive else '0 or more'} {spec.unit}."
        raise UsageError(msg)
    if number > Decimal(str(spec.highest)):
        msg = f"{what} is more than {spec.highest:,g} {spec.unit}, which cannot be: check the unit."
        raise UsageError(msg)
    return number


def _number(value: object) -> Decimal | None:
    text = str(value).strip()
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:  # pragma: no cover - the pattern lets no such text through
        return None


def comma_list(text: str | None, flag: str) -> tuple[str, ...]:
    """Return the names in *text*, joined by commas: Invoke takes a second argument for a task.

    Raises:
        UsageError: One of them is empty or begins like a flag.
    """
    if text is None:
        return ()
    return tuple(checked_name(name, flag) for name in text.split(","))


def checked_name(text: str, flag: str) -> str:
    """Return *text* as a name.

    Raises:
        UsageError: It is empty or begins like a flag.
    """
    name = text.strip()
    if not name or name.startswith("-"):
        msg = f"{flag} {text!r} is not a name: give one, or several joined by commas without blanks."
        raise UsageError(msg)
    return name
