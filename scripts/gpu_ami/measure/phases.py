"""What lies between the moments of a host's start: named phases in seconds, as they were measured.

The names are those of `coldstart.model.PHASES`. A bench does not see where boot ends and Docker, driver and agent
begin, so its ``boot`` goes as far as the agent's registration, and its ``register`` is what ECS and Batch take from
there to a placed task; of both together the two mean the same.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from gpu_ami.measure.timeline import Arm, Host, Moment
from gpu_ami.units import show_duration

Phase = Literal[
    "queue", "launch", "boot", "register", "pull_unpack", "create_start", "first_touch_imports", "models", "total"
]
PHASES: tuple[Phase, ...] = get_args(Phase)
# Phase to the moments that it lies between.
BETWEEN: Mapping[Phase, tuple[str, str]] = {
    "queue": ("submitted", "launched"),
    "launch": ("launched", "kernel_up"),
    "boot": ("kernel_up", "registered"),
    "register": ("registered", "placed"),
    "pull_unpack": ("placed", "pull_stopped"),
    "create_start": ("pull_stopped", "started"),
    "first_touch_imports": ("started", "imports_done"),
    "models": ("imports_done", "models_done"),
    "total": ("submitted", "models_done"),
}
LABELS: Mapping[Phase, str] = {
    "queue": "queue, until launched",
    "launch": "launch, until the kernel",
    "boot": "boot, until registered",
    "register": "until the task is placed",
    "pull_unpack": "pull + unpack",
    "create_start": "create + start",
    "first_touch_imports": "first touch + imports",
    "models": "models",
    "total": "in all",
}
# Clocks of different services differ by so much: chrony keeps hosts within milliseconds of Amazon's time service, but
# services tell whole seconds. What is shorter says nothing, and what is more negative is a wrong clock.
SKEW_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Span:
    """One phase of one host.

    Attributes:
        phase: Its name.
        begins: The moment that begins it.
        ends: The moment that ends it.
        seconds: How long it took; negative by skew, never clamped; None where a moment is missing.
        is_exact: Whether both moments are of one clock.
        missing: Why there are no seconds; None where there are.
    """

    phase: Phase
    begins: str
    ends: str
    seconds: float | None
    is_exact: bool
    missing: str | None = None

    @property
    def is_judged(self) -> bool:
        """Whether it is long enough to say anything."""
        return is_judged(self.seconds)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One phase of all hosts of an arm that count.

    Attributes:
        arm: The arm.
        phase: The phase.
        hosts: On how many it was measured; 0 has no seconds.
        best_s: The fastest host's.
        median_s: The median.
        worst_s: The slowest host's.
        is_exact: Whether both moments are of one clock.
    """

    arm: Arm
    phase: Phase
    hosts: int
    best_s: float | None
    median_s: float | None
    worst_s: float | None
    is_exact: bool


def is_judged(seconds: float | None) -> bool:
    """Whether *seconds* are long enough to say anything."""
    return seconds is not None and abs(seconds) >= SKEW_S


def spans(host: Host) -> tuple[Span, ...]:
    """Return the phases of *host* in order, the total last."""
    return tuple(_span(host, phase) for phase in PHASES)


def total_s(host: Host) -> float | None:
    """Return the seconds from the job's submission to its models being ready; None where an end is missing."""
    return _span(host, "total").seconds


def seconds_until(host: Host, name: str) -> float | None:
    """Return the seconds from the job's submission to the moment *name*; None where an end is missing."""
    submitted, end = at(host, "submitted"), at(host, name)
    return None if submitted is None or end is None else end - submitted


def at(host: Host, name: str) -> float | None:
    """Return when *name* was on *host*, seconds since 1970; None where that is missing."""
    moment = host.moments.get(name)
    return None if moment is None else moment.at


def _span(host: Host, phase: Phase) -> Span:
    begins, ends = BETWEEN[phase]
    if _pulled_nothing(host):
        if phase == "pull_unpack":
            return _no_span(phase, begins, ends, "nothing was pulled")
        begins = "placed" if begins == "pull_stopped" else begins
    first, last = host.moments.get(begins), host.moments.get(ends)
    for name, moment in ((begins, first), (ends, last)):
        if moment is None or moment.at is None:
            return _no_span(phase, begins, ends, f"{name}: {_why(moment)}")
    assert first is not None and first.at is not None  # noqa: PT018 - one fact: the loop above has left otherwise
    assert last is not None and last.at is not None  # noqa: PT018
    seconds = last.at - first.at
    return Span(phase=phase, begins=begins, ends=ends, seconds=seconds, is_exact=first.clock == last.clock)


def _no_span(phase: Phase, begins: str, ends: str, why: str) -> Span:
    return Span(phase=phase, begins=begins, ends=ends, seconds=None, is_exact=False, missing=why)


def _pulled_nothing(host: Host) -> bool:
    """Whether the image was served from the AMI, as it has to be on a baked one; then ECS notes no pull at all."""
    return host.expected.is_baked and at(host, "pull_stopped") is None


def _why(moment: Moment | None) -> str:
    return (moment.missing if moment is not None else None) or "was not seen"


def spreads(hosts: Iterable[Host]) -> tuple[Spread, ...]:
    """Return every phase of every arm of *hosts*, arms in the order in which they come.

    Args:
        hosts: Those that count.
    """
    by_arm: dict[Arm, list[Host]] = {}
    for host in hosts:
        by_arm.setdefault(host.arm, []).append(host)
    return tuple(_spread(arm, phase, ours) for arm, ours in by_arm.items() for phase in PHASES)


def _spread(arm: Arm, phase: Phase, hosts: Sequence[Host]) -> Spread:
    found = [span for host in hosts if (span := _span(host, phase)).seconds is not None]
    seconds = sorted(span.seconds for span in found if span.seconds is not None)
    return Spread(
        arm=arm,
        phase=phase,
        hosts=len(seconds),
        best_s=seconds[0] if seconds else None,
        median_s=statistics.median(seconds) if seconds else None,
        worst_s=seconds[-1] if seconds else None,
        is_exact=bool(found) and all(span.is_exact for span in found),
    )


def show(seconds: float | None) -> str:
    """Return *seconds* as people read them; a negative time is skew between two clocks, and no time."""
    if seconds is None:
        return ""
    return "≤ 1 s" if seconds < 0 else show_duration(seconds)
