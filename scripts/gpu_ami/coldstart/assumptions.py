"""Every input of the model as a range, with its unit and where it comes from; and how a person gives another one.

Low, likely and high are what one would expect of eight starts in ten, not the extremes that somebody has seen. The
sources are public measurements; `docs/coldstart.md` has them with the model's answers beside.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from gpu_ami.errors import UsageError

# What a fitted factor moves together.
Group = Literal["", "host", "pull", "code", "data", "application"]
# What `calibration.fit` gives with all points of measured.csv (1.1: ten per cent slower); a test holds these to it.
FITTED: Mapping[Group, float] = MappingProxyType(
    {"host": 1.119, "pull": 1.028, "code": 0.989, "data": 0.995, "application": 0.999}
)


@dataclass(frozen=True)
class Range:
    """Seconds, or an input: what it is when low, most likely, and when high."""

    low: float
    likely: float
    high: float

    def __add__(self, other: Range) -> Range:
        """Return the sum, both at the same end: a slow start is slow in all its parts, which is the cautious answer."""
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def times(self, factor: float) -> Range:
        """Return the range, *factor* times as large."""
        return Range(self.low * factor, self.likely * factor, self.high * factor)

    def document(self) -> dict[str, float]:
        """Return seconds as JSON-ready values, to a tenth."""
        return {"low_s": round(self.low, 1), "likely_s": round(self.likely, 1), "high_s": round(self.high, 1)}


@dataclass(frozen=True)
class Assumption:
    """One input.

    Attributes:
        unit: As text: ``s``, ``GiB``, ``MB/s``.
        range: What is assumed; None where it follows from other inputs.
        source: Where that comes from.
        highest: More than this is a slip.
        is_rate: Whether more of it makes a start faster.
        group: Which of the fitted factors applies to it.
        positive: Whether 0 makes no sense.
    """

    unit: str
    range: Range | None
    source: str
    highest: float
    is_rate: bool = False
    group: Group = ""
    positive: bool = False


# What is divided by and less than this is a slip of the unit, too; a millionth of it would not even be a number.
LEAST = 0.001
_DAY_S = 86_400.0
_TIB = 65_536.0


def _fixed(value: float) -> Range:
    return Range(value, value, value)


ASSUMPTIONS: Mapping[str, Assumption] = MappingProxyType(
    {
        # What is started.
        "image_gib": Assumption("GiB", _fixed(17), "this pipeline's image", _TIB),
        "compressed_gib": Assumption("GiB", None, "computed: compressed_share of image_gib", _TIB),
        "touched_gib": Assumption("GiB", None, "computed: touched_share of image_gib", _TIB),
        "models_gib": Assumption("GiB", _fixed(1.9), "this pipeline's models, in the AMI or from S3", _TIB),
        "snapshot_gib": Assumption("GiB", None, "computed: system_gib, image_gib and models_gib", _TIB),
        "volume_gib": Assumption(
            "GiB", _fixed(80), "packer's volume_size_gib: what FSR credits go by", _TIB, positive=True
        ),
        "rate_mib_s": Assumption(
            "MiB/s", _fixed(300), "terraform's volume_initialization_rate_mib_s", 300, is_rate=True
        ),
        "throughput_mib_s": Assumption(
            "MiB/s",
            _fixed(500),
            "terraform's volume_throughput_mib_s; 125 is what gp3 has for free",
            2_000,
            is_rate=True,
            positive=True,
        ),
        "readers": Assumption(
            "readers", _fixed(1), "a job reads its files one after the other", 4_096, is_rate=True, positive=True
        ),
        "prewarm_readers": Assumption(
            "readers", _fixed(32), "packer's prewarm_readers", 4_096, is_rate=True, positive=True
        ),
        "at_once": Assumption("instances", _fixed(1), "one instance starts at a time", 100_000, positive=True),
        # Sizes that are rarely known.
        "compressed_share": Assumption(
            "share",
            _fixed(0.55),
            "in gzip: 0.4 to 0.55 of a CUDA image, more of one with models in it",
            1,
            positive=True,
        ),
        "touched_share": Assumption(
            "share", Range(0.12, 0.18, 0.28), "3 of 17 GiB; public: 0.06 to 0.3 of an image is read at start", 1
        ),
        "system_gib": Assumption("GiB", _fixed(10), "operating system and driver: 8 to 10 GiB written", _TIB),
        "boot_gib": Assumption(
            "GiB",
            _fixed(0.3),
            "what boot reads with a GPU driver; two baked GPU hosts were up 100 to 115 s later, one 20 s after boot",
            100,
        ),
        "agent_gib": Assumption("GiB", _fixed(0.55), "what Docker, driver and agent read", 100),
        "container_gib": Assumption(
            "GiB",
            _fixed(0.4),
            "layers' metadata and the NVIDIA hook; ECS's own 3 and 4 min for start and create have been too short",
            100,
        ),
        # The host.
        "queue_s": Assumption(
            "s",
            Range(45, 60, 80),
            "Batch asks for hosts periodically, which is not published; whole starts in public had 35 to 100 s and "
            "more before their host",
            _DAY_S,
        ),
        "launch_s": Assumption(
            "s",
            Range(10.5, 17, 28),
            "pending to running: 16.4 to 18 s whatever the type, measured in public",
            _DAY_S,
            group="host",
        ),
        "boot_s": Assumption(
            "s", Range(15.5, 30, 59), "kernel, NVIDIA driver, cloud-init of a GPU host", _DAY_S, group="host"
        ),
        "register_s": Assumption(
            "s",
            Range(15.5, 30, 59),
            "Docker and agent up, host registered: GPU nodes are ready 45 to 170 s after launch",
            _DAY_S,
            group="host",
        ),
        "no_gpu_touch_share": Assumption(
            "share",
            _fixed(0.1),
            "of what boot and agent read first without a GPU: own AMIs were up as soon as stock ones",
            1,
        ),
        "no_gpu_share": Assumption("share", _fixed(0.37), "a host without a GPU boots in 9 s instead of 25", 1),
        "no_gpu_agent_share": Assumption(
            "share",
            Range(0.45, 0.5, 0.57),
            "and registers sooner, with no driver to load and no NVML for the agent to ask: 19 to 90 s after launch",
            1,
        ),
        "restored_share": Assumption(
            "share",
            Range(0.7, 0.85, 1),
            "boot and agent with Fast Snapshot Restore: 46 s of 64 measured, and 121 s where 180 were without",
            1,
        ),
        # The pull.
        "download_mb_s": Assumption(
            "MB/s",
            Range(67, 100, 150),
            "registry to a 4-vCPU host, compressed; a large one pulled at 1 Gbit/s and more",
            100_000,
            is_rate=True,
            group="pull",
            positive=True,
        ),
        "unpack_mb_s": Assumption(
            "MB/s",
            Range(117, 165, 234),
            "one core unpacks one layer at a time: 110 to 200 MB/s of unpacked bytes where no disk held it back",
            100_000,
            is_rate=True,
            group="pull",
            positive=True,
        ),
        "written_share": Assumption(
            "share",
            Range(0.65, 0.85, 1),
            "of its throughput a gp3 volume gives while many small files are written",
            1,
            is_rate=True,
            positive=True,
        ),
        "apart_share": Assumption(
            "share",
            Range(0.35, 0.5, 0.7),
            "of the shorter of download and unpacking that the longer does not hide: the first layer comes before it "
            "can be unpacked, the last is unpacked after it has come",
            1,
        ),
        "layers_s": Assumption(
            "s",
            Range(15, 30, 60),
            "20 to 40 layers, a second each: registry, checksum, commit; images of 1 to 2 GB took 60 to 90 s",
            _DAY_S,
            group="pull",
        ),
        "layer_share": Assumption(
            "share",
            Range(0.28, 0.35, 0.45),
            "of an image that is its largest layer, which one core unpacks however many there are",
            1,
            positive=True,
        ),
        "memory_gib": Assumption("GiB", _fixed(4), "memory of a host for each vCPU", 64),
        "held_share": Assumption(
            "share",
            Range(0.05, 0.1, 0.2),
            "of memory that Linux holds back from the disk: flushing starts at a tenth, writers wait at a fifth",
            1,
            is_rate=True,
        ),
        "cached_s": Assumption("s", Range(1, 1.7, 3), "the image is there: 1.2 and 2.6 s measured in public", _DAY_S),
        "create_s": Assumption("s", Range(2.5, 5, 10), "create and start, NVIDIA hook: 1 to 10 s", _DAY_S),
        # First touch.
        "code_mb_s": Assumption(
            "MB/s",
            Range(8.9, 14, 22),
            "one process that imports: 4 to 21 MB/s, most often 9 and more; Linux reads ahead within each file",
            100_000,
            is_rate=True,
            group="code",
            positive=True,
        ),
        "reader_mb_s": Assumption(
            "MB/s",
            Range(4.5, 7, 10.9),
            "one reader of large files: 4.4 to 21 MB/s measured, most of them 4.5 to 12, and 2x between days",
            100_000,
            is_rate=True,
            group="data",
            positive=True,
        ),
        "small_gain": Assumption(
            "power",
            Range(0.4, 0.5, 0.7),
            "4, 24 and 48 readers of small or few files got 2 to 7 times as much",
            1,
            is_rate=True,
        ),
        "large_gain": Assumption(
            "power", Range(0.8, 0.97, 1), "8 to 64 readers of large files got 13 to 65 times as much", 1, is_rate=True
        ),
        "code_gib": Assumption(
            "GiB", _fixed(3), "so much of what is touched is code; the rest is read as large files are", _TIB
        ),
        "fill_share": Assumption(
            "share",
            Range(0.5, 0.75, 1),
            "of what a provisioned rate still has to fill when a read begins: until it has that",
            1,
        ),
        "import_s": Assumption(
            "s",
            Range(12.5, 20, 32),
            "imports and CUDA with the files in memory: 12 to 30 s measured for vLLM",
            _DAY_S,
            group="application",
        ),
        "stream_mb_s": Assumption(
            "MB/s",
            Range(210, 320, 480),
            "one reader of files in place, however fast their disk: 310 to 340 MB/s of gp3, NVMe and S3 alike",
            100_000,
            is_rate=True,
            positive=True,
        ),
        "overlap_share": Assumption(
            "share", Range(0.3, 0.5, 1), "of a warm read that imports wait for: Linux reads ahead while they run", 1
        ),
        # Models.
        "s3_mb_s": Assumption(
            "MB/s",
            Range(147, 220, 330),
            "S3 to one host: 130 to 260 MB/s measured with parallel parts",
            100_000,
            is_rate=True,
            positive=True,
        ),
        "s3_gain": Assumption(
            "power",
            Range(0.35, 0.5, 0.65),
            "32, 50 and 256 readers of S3 got 4, 14 and 9 times as much as a plain copy",
            1,
            is_rate=True,
        ),
        "s3_most_mb_s": Assumption(
            "MB/s",
            Range(2_500, 3_500, 5_000),
            "S3 to one host, however many read: 1.9 GB/s by 256 workers, 3.1 by 32 and 3.3 by 50",
            100_000,
            is_rate=True,
            positive=True,
        ),
        "reread_share": Assumption(
            "share",
            Range(0, 0.5, 1),
            "of models from S3 on a small host's volume that is read back: 5 and 40 s measured",
            1,
        ),
        "load_mb_s": Assumption(
            "MB/s",
            Range(600, 900, 1_350),
            "file to GPU memory: 13 GB in 12 s, 16 GB in 18 and 33 s; while it is read, if that takes longer; hosts of "
            "8 GPUs loaded 57 GB in 13 s and 454 in 92",
            100_000,
            is_rate=True,
            positive=True,
        ),
        "load_s": Assumption(
            "s", Range(2.5, 5, 10), "framework: opens the files, makes tensors of them", _DAY_S, group="application"
        ),
        "warm_up_s": Assumption(
            "s",
            Range(15, 30, 60),
            "until it answers: kernels chosen and compiled, caches made; 30, 46 and 85 s of vLLM were measured",
            _DAY_S,
            group="application",
        ),
    }
)

_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
_RANGE = re.compile(rf"({_NUMBER})(?:\.\.({_NUMBER}))?(?:\.\.({_NUMBER}))?")


@dataclass(frozen=True)
class Input:
    """An input of one question: its range and where it comes from; None is not known and will be computed."""

    range: Range | None
    source: str
    is_given: bool = False


Inputs = Mapping[str, Input]


def assumed(factors: Mapping[Group, float] = FITTED) -> dict[str, Input]:
    """Return every input as it is assumed, moved by the fitted *factors* of their groups."""
    return {name: Input(_moved(item, factors.get(item.group, 1.0)), _said(item)) for name, item in ASSUMPTIONS.items()}


def _moved(item: Assumption, factor: float) -> Range | None:
    if item.range is None or not item.group:
        return item.range
    return item.range.times(1 / factor if item.is_rate else factor)


def _said(item: Assumption) -> str:
    if item.range is None:
        return item.source
    return f"assumed: {item.source}{', moved by the fit to public measurements' if item.group else ''}"


def with_given(inputs: Inputs, given: Mapping[str, Range], source: str) -> dict[str, Input]:
    """Return *inputs* with those *given*, of which *source* says where they come from."""
    return {**inputs, **{name: Input(value, f"given: {source}", is_given=True) for name, value in given.items()}}


def parse_ranges(arguments: Iterable[str], *, flag: str) -> dict[str, Range]:
    """Return the inputs that *arguments* give: ``name=7``, ``name=4..14`` or ``name=4..7..14``; *flag* is for errors.

    Raises:
        UsageError: An argument has another form, names no input or one twice, or holds a value that cannot be.
    """
    given: dict[str, Range] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            msg = f"{flag} {argument[:80]!r} is not name=value: write for example {flag} reader_mb_s=4..7..14."
            raise UsageError(msg)
        if name in given:
            msg = f"{flag} gives {name} twice: give it once."
            raise UsageError(msg)
        given[name] = parse_range(name, text, flag=flag)
    return given


def parse_range(name: str, text: str, *, flag: str) -> Range:
    """Return the range *text* of the input *name*; of two numbers the likely one is the geometric mean.

    Raises:
        UsageError: There is no such input, or *text* is not a number or range, is upside down, negative, zero where
            that makes no sense, or absurdly large.
    """
    item = ASSUMPTIONS.get(name)
    if item is None:
        msg = f"{flag}: there is no input {name[:40]!r}: {_meant(name)}"
        raise UsageError(msg)
    found = _RANGE.fullmatch(text.strip())
    what = f"{flag}: {name} = {text[:40]!r}"
    if found is None:
        msg = f"{what} is not a number or range: give one in {item.unit} without the unit, such as 7 or 4..7..14."
        raise UsageError(msg)
    numbers = [float(number) for number in found.groups() if number is not None]
    _check(item, numbers, what)
    low, high = numbers[0], numbers[-1]
    likely = numbers[1] if len(numbers) == 3 else math.sqrt(low * high)
    return Range(low, low if low == high else likely, high)


def _check(item: Assumption, numbers: list[float], what: str) -> None:
    if numbers != sorted(numbers):
        msg = f"{what} is upside down: give the low end first, then the likely value, then the high end."
        raise UsageError(msg)
    if numbers[0] < 0 or (item.positive and numbers[0] == 0):
        msg = f"{what} must be {'above 0' if item.positive else '0 or more'} {item.unit}."
        raise UsageError(msg)
    if item.positive and numbers[0] < LEAST:
        msg = f"{what} is less than {LEAST:g} {item.unit}, which cannot be: check the unit."
        raise UsageError(msg)
    if numbers[-1] > item.highest:
        msg = f"{what} is more than {item.highest:,g} {item.unit}, which cannot be: check the unit."
        raise UsageError(msg)


def _meant(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, ASSUMPTIONS, n=3, cutoff=0.7)
    return f"did you mean {' or '.join(close)}?" if close else "`invoke coldstart --inputs` prints all of them."


@dataclass(frozen=True)
class Ends:
    """The inputs as plain numbers, three times: all at their fast end, all likely, all at their slow end."""

    fast: Mapping[str, float]
    likely: Mapping[str, float]
    slow: Mapping[str, float]


def ends(inputs: Inputs) -> Ends:
    """Return *inputs* at their three ends; what is not known is left out."""
    known = {name: item.range for name, item in inputs.items() if item.range is not None}
    rates = {name for name in known if ASSUMPTIONS[name].is_rate}
    return Ends(
        fast={name: value.high if name in rates else value.low for name, value in known.items()},
        likely={name: value.likely for name, value in known.items()},
        slow={name: value.low if name in rates else value.high for name, value in known.items()},
    )


@dataclass(frozen=True)
class Width:
    """How far the ends of a range are from its likely value.

    Attributes:
        below: The likely value is so many times the low end.
        above: The high end is so many times the likely value.
    """

    below: float
    above: float


# So that most of the public points lie within, of which the model knew nothing. The wide ones are for what differs most
# and is less than half of what one asks about: hosts with a GPU and the queue, first reads of a cold volume, which are
# more often fast, and starts that are hardly described, which are more often slow. They stay a little below four from
# end to end, so that rounding to tenths of a second makes none wider.
NARROW, PLAIN_HOST = Width(1.575, 1.575), Width(1.65, 1.5)
WIDE, LAZY, VAGUE = Width(1.98, 1.98), Width(2.3, 1.7), Width(1.7, 2.3)


def widened(seconds: Range, width: Width) -> Range:
    """Return *seconds* with each end as far from the likely value as the model's misses are: by *width*.

    The inputs' own ranges do not say it: the ends of several are never met together, and what the model leaves out is
    in none of them. Seconds that are certain, because all that they follow from was given as one number, stay so.
    """
    if seconds.low == seconds.high:
        return seconds
    return Range(seconds.likely / width.below, seconds.likely, seconds.likely * width.above)


def held(seconds: Range, width: Width) -> Range:
    """Return *seconds* with no end further from the likely value than by *width*."""
    likely = seconds.likely
    return Range(max(seconds.low, likely / width.below), likely, min(seconds.high, likely * width.above))
