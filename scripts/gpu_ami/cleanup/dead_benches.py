"""Which resources of benches may go: by the tags that a bench puts on all it makes, and by AWS's clock alone.

A bench's queues and environments look like production's: its name, its run **and** the end of its time have to be
there before any is touched. Batch does not say when it made a thing, so the bench says so itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta, timezone

from gpu_ami.aws.build_resources import BuildResource
from gpu_ami.cleanup.decide import CLOCK_TOLERANCE, Reason
from gpu_ami.records.tags import BEGAN_TAG, BENCH_RUN, KEEP_TAG, MAY_TAKE_TAG

QUEUE, ENVIRONMENT = "job-queue", "compute-environment"
# What goes together, in the order in which Batch lets it go.
TOGETHER = (QUEUE, ENVIRONMENT)
# What benches alone make, and all that they make; hosts and their volumes are Batch's doing.
BENCHES_ALONE = frozenset({*TOGETHER, "job-definition"})
_MADE = BENCHES_ALONE | {"launch-template", "instance", "volume"}
_BEGAN = re.compile(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z")
_MINUTES = re.compile(r"[0-9]{1,6}")
_STANDS = "it may start another host, which needs this"


def is_of_bench(resource: BuildResource) -> bool:
    """Whether a bench made it, or Batch for a bench, by its run."""
    return resource.run.startswith(BENCH_RUN)


def began(resource: BuildResource) -> datetime | None:
    """Return when the bench that made it began, by its tag; None without one that can be read."""
    text = resource.tags.get(BEGAN_TAG, "")
    if not _BEGAN.fullmatch(text):
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return None  # such as the 31st of February


def reasons(
    resource: BuildResource, of_run: Iterable[BuildResource], requested: timedelta, now: datetime
) -> Iterable[Reason]:
    """Yield why a resource stays that a bench made; nothing where the bench must be over.

    Args:
        resource: The resource.
        of_run: All that was found of its bench: one that may go on holds the others, too.
        requested: What a person wants to be left alone, of whatever made it.
        now: The time, by AWS's clock.
    """
    start, end = began(resource), _end(resource, requested)
    if resource.kind not in _MADE:
        yield Reason("not-of-a-bench", f"no bench makes a {resource.kind.replace('-', ' ')}: its run is another's")
    if start is None:
        yield Reason("no-date", f"it has no readable tag {BEGAN_TAG}: nobody knows whether its bench is over")
    elif start > now + CLOCK_TOLERANCE:
        yield Reason("future-date", f"its bench begins in the future, {start:%Y-%m-%d %H:%M} UTC")
    elif end is None:
        yield Reason("no-date", f"it has no readable tag {MAY_TAKE_TAG}: nobody knows whether its bench is over")
    elif (latest := max([end, *_ends(of_run, requested)])) > now:
        yield Reason("may-be-alive", f"its bench may go on until {latest:%Y-%m-%d %H:%M} UTC")
    if KEEP_TAG in resource.tags:
        yield Reason("keep-tag", f"tagged {KEEP_TAG}={resource.tags[KEEP_TAG]}")


def _ends(of_run: Iterable[BuildResource], requested: timedelta) -> list[datetime]:
    return [end for resource in of_run if (end := _end(resource, requested)) is not None]


def _end(resource: BuildResource, requested: timedelta) -> datetime | None:
    """Return when the bench must be over; None where its tags do not say."""
    start, minutes = began(resource), resource.tags.get(MAY_TAKE_TAG, "")
    if start is None or not _MINUTES.fullmatch(minutes):
        return None
    try:
        return start + max(timedelta(minutes=int(minutes)), requested)
    except OverflowError:  # a person's "a thousand years"
        return datetime.max.replace(tzinfo=timezone.utc)


def held_back(
    resources: Sequence[BuildResource], kept: Collection[BuildResource], unseen: Collection[tuple[str, str]]
) -> dict[str, str]:
    """Return why resources of benches stay as long as something is there that needs them, by their identifier.

    A queue keeps its environment, and an environment the rest: of a host that is ended its group may start another.

    Args:
        resources: All that was found.
        kept: Those that stay by themselves.
        unseen: Kinds that could not be listed, or were not to be, each with its region.
    """
    held: dict[str, str] = {}
    for resource in sorted(
        (one for one in resources if is_of_bench(one) and one.kind != QUEUE), key=lambda one: one.kind != ENVIRONMENT
    ):
        over = QUEUE if resource.kind == ENVIRONMENT else ENVIRONMENT
        what = "queue" if over == QUEUE else "environment"
        standing = [
            one.identifier
            for one in resources
            if one.kind == over
            and (one.region, one.run) == (resource.region, resource.run)
            and (one in kept or one.identifier in held)
        ]
        if (over, resource.region) in unseen:
            held[resource.identifier] = f"the {what}s of its bench could not be listed"
        elif standing:
            held[resource.identifier] = f"the {what} of its bench stays, {standing[0]}: {_STANDS}"
    return held
