"""The physics of a cold start: seconds of each phase of each way to start, from the inputs of `assumptions.py`.

Pure. Each end of a range is one calculation: everything at its fast end, everything likely, everything at its slow end.
What a phase is made of is said at its function; where the numbers come from, in the inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from gpu_ami.coldstart import volume
from gpu_ami.coldstart.assumptions import (
    ASSUMPTIONS,
    LAZY,
    NARROW,
    PLAIN_HOST,
    VAGUE,
    WIDE,
    Ends,
    Inputs,
    Range,
    Width,
    ends,
    held,
    widened,
)

Variant = Literal["stock", "plain", "rated", "fsr", "prewarmed", "fast_pull"]
Phase = Literal["queue", "launch", "boot", "register", "pull_unpack", "create_start", "first_touch_imports", "models"]
ModelsFrom = Literal["ami", "s3"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
PHASES: tuple[Phase, ...] = get_args(Phase)
_BAKED = frozenset({"plain", "rated", "fsr", "prewarmed"})

LABELS: Mapping[str, str] = {
    "stock": "stock AMI",
    "plain": "baked, plain",
    "rated": "baked, provisioned rate",
    "fsr": "baked, Fast Snapshot Restore",
    "prewarmed": "baked, prewarmed",
    "fast_pull": "stock, fast pull (NVMe)",
    "queue": "queue",
    "launch": "launch",
    "boot": "boot",
    "register": "register",
    "pull_unpack": "pull + unpack",
    "create_start": "create + start",
    "first_touch_imports": "first touch + imports",
    "models": "models",
}


@dataclass(frozen=True)
class Host:
    """What the instance type says: whether it has a GPU, and how many vCPUs."""

    has_gpu: bool = True
    vcpus: float = 4.0

    @classmethod
    def of(cls, instance_type: str) -> Host:
        """Return what the name says; one that cannot be read is a GPU host of 4 vCPUs.

        AWS's sizes: ``large`` has 2 vCPUs, ``xlarge`` 4 and ``Nxlarge`` 4N.
        """
        family, _, size = instance_type.partition(".")
        number = size.removesuffix("xlarge")
        if size.startswith("metal"):
            vcpus = _METAL_VCPUS
        elif size.endswith("xlarge") and (not number or (number.isascii() and number.isdigit() and len(number) < 4)):
            vcpus = 4.0 * int(number or 1)
        else:
            vcpus = 2.0 if size in _SMALL else 4.0
        return cls(not family or family.startswith(("g", "p", "trn", "inf")), vcpus)


_METAL_VCPUS = 96.0
_SMALL = frozenset({"nano", "micro", "small", "medium", "large"})


@dataclass(frozen=True)
class Start:
    """One way to start on one kind of host.

    Attributes:
        variant: The way.
        host: The instance.
        has_credit: Whether Fast Snapshot Restore had a credit; None: by its bucket.
        models_from: Where the models are; None: in the AMI when one is baked.
    """

    variant: Variant
    host: Host = Host()
    has_credit: bool | None = None
    models_from: ModelsFrom | None = None


@dataclass(frozen=True)
class PhaseTime:
    """One phase: how long, and from what that follows."""

    name: Phase
    seconds: Range
    source: str


@dataclass(frozen=True)
class Widths:
    """How wide the ranges of a start's parts are.

    Attributes:
        queue: Until the launch.
        host: Each phase from the launch to the registration, and all of them.
        rest: Those after it, and what ends after it.
        reading: Imports and models, and both of them: what is read.
    """

    queue: Width
    host: Width
    rest: Width
    reading: Width


@dataclass(frozen=True)
class Prediction:
    """All phases of one way to start.

    Attributes:
        variant: The way.
        phases: All of them, in order.
        widths: How wide sums of them are; None: as wide as their phases, since a range of them was given or measured.
    """

    variant: Variant
    phases: Sequence[PhaseTime]
    widths: Widths | None

    @property
    def total(self) -> Range:
        """From the job's submission to its models being ready."""
        return self.over(PHASES[0], PHASES[-1])

    def over(self, first: Phase, last: Phase) -> Range:
        """Return the time from the beginning of *first* to the end of *last*."""
        seconds = [phase.seconds for phase in self.phases]
        if self.widths is None:
            return sum(_over(first, last, seconds), Range(0, 0, 0))
        return in_all(first, last, seconds, self.widths)


def predict(start: Start, inputs: Inputs) -> Prediction:
    """Return how long each phase of *start* takes with *inputs*."""
    three = ends(inputs)
    seconds = times(start, three)
    is_assumed = not any(
        item.is_given and item.range is not None and item.range.low != item.range.high for item in inputs.values()
    )
    known = widths(start, three.likely) if is_assumed else None
    if known is not None:
        seconds = spread(seconds, known)
    sources = [_source(start, name, inputs) for name in PHASES]
    phases = [PhaseTime(*phase) for phase in zip(PHASES, seconds, sources, strict=True)]
    return Prediction(start.variant, phases, known)


_HOST: tuple[Phase, ...] = ("launch", "boot", "register")
_READING: tuple[Phase, ...] = ("first_touch_imports", "models")


def widths(start: Start, values: Mapping[str, float], *, is_vague: bool = False) -> Widths:
    """Return how well the parts of *start* are known.

    Args:
        start: The way and the host.
        values: The likely inputs.
        is_vague: Whether the start is hardly described: then much that is not said may be in it.
    """
    is_lazy = start.variant == "plain" or (start.variant == "fsr" and not _has_credit(start, values))
    host = WIDE if start.host.has_gpu else PLAIN_HOST
    if is_vague:
        return Widths(VAGUE, VAGUE, VAGUE, LAZY if is_lazy else VAGUE)
    return Widths(WIDE, host, NARROW, LAZY if is_lazy else NARROW)


def spread(seconds: Sequence[Range], known: Widths) -> list[Range]:
    """Return the *seconds* of each phase as wide as its kind is known to be."""
    kinds = {"queue": known.queue} | dict.fromkeys(_HOST, known.host) | dict.fromkeys(_READING, known.reading)
    return [widened(one, kinds.get(name, known.rest)) for name, one in zip(PHASES, seconds, strict=True)]


def in_all(first: Phase, last: Phase, seconds: Sequence[Range], known: Widths) -> Range:
    """Return the sum of *seconds*, which are of all phases, from the beginning of *first* to the end of *last*.

    Phases are slow for different reasons: the registry, the volume, the application. That all of many are at their slow
    ends at once is far less likely than that one is. Until a host registers they are slow together; public boots alone
    are alike.

    Args:
        first: The first phase.
        last: The last one.
        seconds: Those of all phases.
        known: How well they are known.
    """
    total = sum(_over(first, last, seconds), Range(0, 0, 0))
    if last in ("queue", "register"):
        return total
    return held(total, known.reading if first in _READING else known.rest)


def _over(first: Phase, last: Phase, seconds: Sequence[Range]) -> Sequence[Range]:
    return seconds[PHASES.index(first) : PHASES.index(last) + 1]


def times(start: Start, three: Ends) -> list[Range]:
    """Return the seconds of each phase, in order; what prediction of many points calls.

    How far a host has come when something begins to fill its volume is the likely time at each end: else a slow host
    would be a head start, and hide a slow volume.
    """
    likely = likely_s(start, three.likely)
    fast, slow = (_seconds(start, derived(values), likely) for values in (three.fast, three.slow))
    return [Range(min(a, b), b, max(b, c)) for a, b, c in zip(fast, likely, slow, strict=True)]


def likely_s(start: Start, values: Mapping[str, float]) -> list[float]:
    """Return the likely seconds of each phase, in order: a third of the work of `times`, for fitting."""
    return _seconds(start, derived(values), ())


def derived(values: Mapping[str, float]) -> dict[str, float]:
    """Return *values* with the sizes that follow from others where they are not known."""
    found = dict(values)
    share = found["compressed_share"]
    if "image_gib" not in found:
        found["image_gib"] = found["compressed_gib"] / share if "compressed_gib" in found else _default("image_gib")
    image = found["image_gib"]
    found.setdefault("compressed_gib", image * share)
    found.setdefault("touched_gib", image * found["touched_share"])
    found.setdefault("models_gib", _default("models_gib"))
    found.setdefault("snapshot_gib", found["system_gib"] + image + found["models_gib"])
    # A snapshot of nothing cannot be; what is said to be read is in it.
    found["snapshot_gib"] = max(found["snapshot_gib"], found["touched_gib"], found["models_gib"], _LEAST_GIB)
    return found


_LEAST_GIB = 0.001


def _default(name: str) -> float:
    known = ASSUMPTIONS[name].range
    assert known is not None, "only an input with a value of its own can be a default"
    return known.likely


@dataclass(frozen=True)
class _Scene:
    """One calculation: the way to start and the numbers, with what follows from both for all phases.

    Attributes:
        start: The way to start.
        values: The numbers.
        is_baked: Whether image and models are on the volume.
        rate_mib_s: The provisioned rate; it goes before Fast Snapshot Restore where both are set (EBS user guide).
        is_restored: Whether the volume had its data from the start: without a credit it is as lazy as any other.
        throughput_mib_s: What the volume gives once it has its data.
    """

    start: Start
    values: Mapping[str, float]
    is_baked: bool
    rate_mib_s: float
    is_restored: bool
    throughput_mib_s: float


def _scene(start: Start, values: Mapping[str, float]) -> _Scene:
    restored = start.variant == "fsr" and _has_credit(start, values)
    throughput = values["throughput_mib_s"]
    return _Scene(
        start,
        values,
        is_baked=start.variant in _BAKED,
        rate_mib_s=values["rate_mib_s"] if start.variant == "rated" else 0.0,
        is_restored=restored,
        throughput_mib_s=min(throughput, volume.FSR_LIMIT_MIB_S) if restored else throughput,
    )


def _has_credit(start: Start, values: Mapping[str, float]) -> bool:
    if start.has_credit is not None:
        return start.has_credit
    return values["at_once"] <= volume.fsr_bucket(values["volume_gib"])


# How far the host has come: seconds since its launch, and since it was up, when prewarm begins.
_Clock = tuple[float, float]


def _seconds(start: Start, values: Mapping[str, float], kept: Sequence[float]) -> list[float]:
    """Return the seconds of each phase; *kept* has those that the clock goes by, its own when empty."""
    scene = _scene(start, values)
    found: list[float] = []
    since_launch = since_up = 0.0
    for number, phase in enumerate(_PHASES):
        taken = phase(scene, (since_launch, since_up))
        found.append(taken)
        passed = kept[number] if kept else taken
        if number:
            since_launch += passed
        if number > _UP:
            since_up += passed
    return found


def _queue(scene: _Scene, _: _Clock) -> float:
    """Until Batch asks for a host; beyond the Region's limit also for earlier volumes to be full, half of it likely."""
    values = scene.values
    if not scene.rate_mib_s:
        return values["queue_s"]
    rounds = volume.waves(values["at_once"], scene.rate_mib_s) - 1
    return values["queue_s"] + rounds / 2 * volume.hydration_s(values["snapshot_gib"], scene.rate_mib_s)


def _launch(scene: _Scene, _: _Clock) -> float:
    return scene.values["launch_s"]


def _boot(scene: _Scene, _: _Clock) -> float:
    """Boot itself, and on a baked AMI the first touch of what it reads: Amazon's own AMIs are warm."""
    return _up(scene, "boot_s", "boot_gib", "no_gpu_share")


def _register(scene: _Scene, _: _Clock) -> float:
    """Docker, driver and agent until the host can take a task."""
    return _up(scene, "register_s", "agent_gib", "no_gpu_agent_share")


def _up(scene: _Scene, seconds: str, gib: str, no_gpu: str) -> float:
    """Return what a part of coming up takes: by itself, and on a baked AMI for what it reads first."""
    values, has_gpu = scene.values, scene.start.host.has_gpu
    taken = values[seconds] * (1.0 if has_gpu else values[no_gpu])
    touched = _first_touch_s(scene, values[gib]) * (1.0 if has_gpu else values["no_gpu_touch_share"])
    return (values["restored_share"] if scene.is_restored else 1.0) * (taken + touched)


def _pull(scene: _Scene, _: _Clock) -> float:
    """Download and unpack, side by side as far as layers allow, and no faster than the disk takes it.

    Docker downloads several layers at once and unpacks one after the other, each on one core, while later ones are
    still coming. All bytes are written twice, as they come and unpacked; what Linux may still hold in memory at the
    end need not have been written (vm.dirty_background_ratio, vm.dirty_ratio). A fast pull goes to instance store and
    unpacks layers side by side, the largest of which is still one core's.
    """
    values = scene.values
    if scene.is_baked:
        return values["cached_s"]
    compressed, image = values["compressed_gib"] * volume.MB_PER_GIB, values["image_gib"] * volume.MB_PER_GIB
    vcpus = scene.start.host.vcpus
    cores = vcpus / 4
    layers_s = values["layers_s"] * min(1.0, values["image_gib"] / _ALL_LAYERS_GIB)
    unpack_s = layers_s + image / (values["unpack_mb_s"] * min(1.5, math.pow(cores, 0.2)))
    if scene.start.variant == "fast_pull":
        unpack_s *= max(values["layer_share"], 2 / vcpus)
        return _beside(compressed / (1.5 * values["download_mb_s"] * math.sqrt(cores)), unpack_s, values["apart_share"])
    held = values["held_share"] * values["memory_gib"] * vcpus
    written = max(0.0, values["image_gib"] + values["compressed_gib"] - held)
    written_s = volume.warm_s(written, values["throughput_mib_s"] * values["written_share"])
    download_s = compressed / (values["download_mb_s"] * min(2.0, math.sqrt(cores)))
    return _beside(download_s, max(unpack_s, layers_s + written_s), values["apart_share"])


# An image of less has fewer layers: nginx is there in seconds.
_ALL_LAYERS_GIB = 2.0


def _beside(one_s: float, other_s: float, apart_share: float) -> float:
    """Return what two things take of which the shorter is hidden by the longer, but for *apart_share* of it."""
    return max(one_s, other_s) + apart_share * min(one_s, other_s)


def _create(scene: _Scene, _: _Clock) -> float:
    return scene.values["create_s"] + _first_touch_s(scene, scene.values["container_gib"])


def _imports(scene: _Scene, clock: _Clock) -> float:
    """Imports with the files in memory, and before that what they read: after a pull it is in the page cache."""
    values = scene.values
    if not scene.is_baked:
        return values["import_s"]
    code = min(values["touched_gib"], values["code_gib"])
    data = values["touched_gib"] - code
    lazy = _lazy_s(scene, code, "code_mb_s", "small_gain") + _lazy_s(scene, data, "reader_mb_s", "small_gain")
    # Blocks that are there come ahead of what needs them; on first touch each is waited for.
    return values["import_s"] + _read_s(scene, values["touched_gib"], lazy, clock, values["overlap_share"])


def _models(scene: _Scene, clock: _Clock) -> float:
    """Read from the volume, or fetch from S3, and load into GPU memory: while it is read, after it was fetched."""
    values = scene.values
    gib = values["models_gib"]
    if not gib:
        return values["warm_up_s"]
    megabytes = gib * volume.MB_PER_GIB
    # Each GPU is loaded over its own lanes: a host of 8 is no slower for the eightfold model.
    load_s = megabytes / (values["load_mb_s"] * math.sqrt(max(1.0, scene.start.host.vcpus / _VCPUS_A_GPU)))
    # Many readers open files and make tensors of them side by side, too.
    ready_s = values["load_s"] / math.sqrt(max(values["readers"], 1.0)) + values["warm_up_s"]
    if scene.is_baked and scene.start.models_from != "s3":
        read_s = _read_s(scene, gib, _lazy_s(scene, gib, "reader_mb_s", "large_gain"), clock)
        return ready_s + max(load_s, read_s)
    network = min(2.0, math.sqrt(max(1.0, scene.start.host.vcpus / _VCPUS_A_GPU)))
    readers = math.pow(max(values["readers"], 1.0), values["s3_gain"])
    one_mb_s = values["s3_mb_s"]
    fetched_s = megabytes / min(one_mb_s * network * readers, max(one_mb_s, values["s3_most_mb_s"]))
    if scene.start.variant == "fast_pull":
        # What one reader fetches is loaded once it is there; many load some of it while the rest is still coming.
        apart = values["apart_share"] if values["readers"] > 1 else 1.0
        return ready_s + _beside(load_s, fetched_s, apart)
    on_disk = volume.warm_s(gib, values["throughput_mib_s"])
    reread = 0.0 if scene.is_restored else values["reread_share"] * on_disk
    return ready_s + load_s + max(fetched_s, on_disk) + reread


# Hosts of one GPU have 4 to 16 vCPUs, those of 8 GPUs 96 or 192.
_VCPUS_A_GPU = 8.0
# In the order of `PHASES`.
_PHASES: tuple[Callable[[_Scene, _Clock], float], ...] = (
    _queue,
    _launch,
    _boot,
    _register,
    _pull,
    _create,
    _imports,
    _models,
)
# The last phase before prewarm can begin.
_UP = PHASES.index("boot")


def _first_touch_s(scene: _Scene, gib: float) -> float:
    """Return how long the host itself waits for *gib* of its own volume; half as long where that fills meanwhile."""
    if not scene.is_baked or scene.is_restored:
        return 0.0
    share = 0.5 if scene.rate_mib_s else 1.0
    return share * volume.lazy_s(gib, scene.values["code_mb_s"])


def _lazy_s(scene: _Scene, gib: float, rate: str, gain: str) -> float:
    """Return how long the job's own readers wait; of many small files each has less to wait for at once."""
    values = scene.values
    together = volume.together_mb_s(values[rate], values["readers"], values[gain], scene.throughput_mib_s)
    return volume.lazy_s(gib, together)


def _read_s(scene: _Scene, gib: float, lazy_s: float, clock: _Clock, warm_share: float = 1.0) -> float:
    """Return how long the job takes to read *gib* from a baked volume.

    Args:
        scene: The calculation.
        gib: How much it reads.
        lazy_s: What that takes when all of it is on first touch.
        clock: How far the host has come.
        warm_share: How much of a warm read it waits for.
    """
    values = scene.values
    streams = values["stream_mb_s"] * max(values["readers"], 1.0)
    warm = warm_share * max(volume.warm_s(gib, scene.throughput_mib_s), volume.lazy_s(gib, streams))
    if scene.is_restored:
        return warm
    since_launch, since_up = clock
    if scene.rate_mib_s:
        return max(warm, _filling_s(scene, gib, lazy_s, since_launch))
    if scene.start.variant == "prewarmed":
        return min(lazy_s, max(warm, _prewarm_s(scene, gib, since_up)))
    return lazy_s


def _filling_s(scene: _Scene, gib: float, lazy_s: float, since_launch: float) -> float:
    """Return what reading *gib* takes while a provisioned rate fills the volume, from when it was made.

    What is there already is read at once, the rest by first touch, unless the rate gets there before: at the end for
    all data, some way before that for a part of them.
    """
    values = scene.values
    whole = volume.hydration_s(values["snapshot_gib"], scene.rate_mib_s)
    left = max(0.0, whole - since_launch)
    part = min(1.0, gib / values["snapshot_gib"])
    share = values["fill_share"] + (1 - values["fill_share"]) * part
    return min(lazy_s * left / whole, left * share)


def _prewarm_s(scene: _Scene, gib: float, since_up: float) -> float:
    """Return how long prewarm still needs for *gib*."""
    values = scene.values
    rate = volume.together_mb_s(
        values["reader_mb_s"], values["prewarm_readers"], values["large_gain"], scene.throughput_mib_s
    )
    return max(0.0, volume.lazy_s(gib, rate) - since_up)


# Which inputs a phase rests on: the ones that a person may want to measure.
_RESTS_ON: Mapping[Phase, Mapping[str, tuple[str, ...]]] = {
    "queue": {"": ("queue_s",)},
    "launch": {"": ("launch_s",)},
    "boot": {"": ("boot_s",), "baked": ("boot_s", "boot_gib", "code_mb_s")},
    "register": {"": ("register_s",), "baked": ("register_s", "agent_gib", "code_mb_s")},
    "pull_unpack": {"": ("compressed_gib", "download_mb_s", "image_gib", "unpack_mb_s"), "baked": ("cached_s",)},
    "create_start": {"": ("create_s",), "baked": ("create_s", "container_gib", "code_mb_s")},
    "first_touch_imports": {
        "": ("import_s",),
        "baked": ("import_s", "touched_gib", "code_mb_s"),
        "rated": ("import_s", "touched_gib", "snapshot_gib", "rate_mib_s"),
        "fsr": ("import_s", "touched_gib", "throughput_mib_s", "stream_mb_s"),
        "prewarmed": ("import_s", "touched_gib", "reader_mb_s", "prewarm_readers"),
    },
    "models": {
        "": ("models_gib", "s3_mb_s", "throughput_mib_s", "load_s", "warm_up_s"),
        "baked": ("models_gib", "reader_mb_s", "load_s", "warm_up_s"),
        "rated": ("models_gib", "snapshot_gib", "rate_mib_s", "stream_mb_s", "load_s", "warm_up_s"),
        "fsr": ("models_gib", "throughput_mib_s", "stream_mb_s", "load_s", "warm_up_s"),
        "prewarmed": ("models_gib", "reader_mb_s", "prewarm_readers", "load_s", "warm_up_s"),
    },
}


def _source(start: Start, name: Phase, inputs: Inputs) -> str:
    """Return from what a phase follows, those that a person gave first: ``given`` when all of it was."""
    known = _RESTS_ON[name]
    names = known.get(start.variant) or (known.get("baked") if start.variant in _BAKED else None) or known[""]
    given = [one for one in names if inputs[one].is_given]
    kind = "given" if len(given) == len(names) else "partly given" if given else "assumed"
    return f"{kind}: {', '.join(names)}"
