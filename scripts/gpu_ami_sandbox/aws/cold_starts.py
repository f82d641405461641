"""How long the parts of a cold start take in the sandbox: all of it is made up.

A stock AMI pulls, a baked one without a rate reads its blocks in as they are touched, one with a rate or a fast restore
has them soon. The order of these ways, and about how far they lie apart, is that of the public measurements of
docs/coldstart.md; no single number is anybody's measurement.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Way = Literal["pulled", "lazy", "rated", "restored"]

# Each start differs from the scripted one by so much at most, part by part.
_SPREAD = 0.08
_USUAL_RATE_MIB_S = 300
# The models that a baked AMI has in the sandbox's story.
MODELS_BYTES = 1_986_422_374


@dataclass(frozen=True)
class Parts:
    """Seconds of each part of a start, from EC2's launch on.

    Attributes:
        kernel: Launch to kernel.
        boot: Kernel to the agent's registration.
        place: Registration to the task.
        pull: The pull and unpacking; 0 where nothing is pulled.
        create: Creating and starting the container.
        report: Until Batch says RUNNING, after ECS does.
        speak: Container to its first words.
        imports: First touch of what the job imports.
        models: Reading the models.
        leave: Last words to the end of the container.
    """

    kernel: float
    boot: float
    place: float
    pull: float
    create: float
    report: float
    speak: float
    imports: float
    models: float
    leave: float


_PARTS: dict[Way, Parts] = {
    "pulled": Parts(14, 46, 4, 640, 4, 1.2, 0.6, 96, 0.3, 1.5),
    "lazy": Parts(14, 92, 4, 0, 24, 1.2, 0.8, 310, 170, 1.5),
    "rated": Parts(14, 56, 4, 0, 9, 1.2, 0.6, 40, 22, 1.5),
    "restored": Parts(14, 48, 4, 0, 5, 1.2, 0.5, 28, 14, 1.5),
}
# From SubmitJob to the request for a host, and from there to the launch.
_QUEUE_S, _LAUNCH_S = 26.0, 2.5


@dataclass(frozen=True)
class Timeline:
    """Seconds from the launch to each moment of one start; None where there is no such moment."""

    kernel_up: float
    registered: float
    placed: float
    pull_started: float | None
    pull_stopped: float | None
    started: float
    running: float
    first_line: float
    imports_done: float
    models_done: float
    ended: float


def before_launch(seed: str) -> tuple[float, float]:
    """Return the seconds from the submission to the request for a host, and to its launch."""
    spread = _Spread(f"{seed}/queue")
    asked = spread(_QUEUE_S)
    return asked, asked + spread(_LAUNCH_S)


def timeline(way: Way, seed: str, *, rate_mib_s: int | None = None, factor: float = 1.0) -> Timeline:
    """Return one start: the same for the same *seed*.

    Args:
        way: How the image comes.
        seed: Makes starts differ.
        rate_mib_s: Of the volume: a slower one takes longer.
        factor: How much slower all of it is, from the kernel on.
    """
    spread, parts = _Spread(f"{seed}/host"), _PARTS[way]
    slower = factor * (_USUAL_RATE_MIB_S / rate_mib_s if way == "rated" and rate_mib_s else 1.0)
    kernel_up = spread(parts.kernel)
    registered = kernel_up + slower * spread(parts.boot)
    placed = registered + spread(parts.place)
    pull_started = placed + spread(1.0) if parts.pull else None
    pull_stopped = None if pull_started is None else pull_started + factor * spread(parts.pull)
    started = (pull_stopped or placed) + slower * spread(parts.create)
    first_line = started + spread(parts.speak)
    imports_done = first_line + slower * spread(parts.imports)
    models_done = imports_done + slower * spread(parts.models)
    ended = models_done + spread(parts.leave)
    return Timeline(
        kernel_up=kernel_up,
        registered=registered,
        placed=placed,
        pull_started=pull_started,
        pull_stopped=pull_stopped,
        started=started,
        running=started + spread(parts.report),
        first_line=first_line,
        imports_done=imports_done,
        models_done=models_done,
        ended=max(ended, started + 2 * parts.report),
    )


class _Spread:
    """Gives each part a little more or less than its script, and always the same for one seed."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret: the same starts each time

    def __call__(self, seconds: float) -> float:
        return round(seconds * (1 + self._random.uniform(-_SPREAD, _SPREAD)), 3)
