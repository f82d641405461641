"""What the sources of 2026 cost a plan, side by side with the same plan without them: ``nox -s bench -- sources``."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_ami.aws.references.registry import SOURCES
from tests.bench.cleanup import IMAGES, REGION, SELECTED, TEMPLATES, Account, Ran, Tool, account, run
from tests.bench.measure import say

REGIONS = (REGION, "us-east-1", "us-west-2")
DELAY_S = 0.05
RUNS = 5
# What a plan asked before.
BEFORE = frozenset(
    {
        "instances",
        "launch-templates",
        "launch-configurations",
        "auto-scaling",
        "spot-requests",
        "spot-fleets",
        "fleets",
        "batch",
        "parameters",
        "image-builder",
        "image-references",
        "launch-permissions",
        "aws-backup",
        "lifecycle-manager",
        "deregistration-protection",
        "snapshot-locks",
        "public-snapshots",
        "allowed-images",
    }
)
NEW = tuple(source.name for source in SOURCES if source.name not in BEFORE)
MOST_FIRST_S, MOST_FURTHER_S, MOST_WALL = 0.4, 0.05, 1.10


def plan(regions: Sequence[str], skipped: Sequence[str] = ()) -> Tool:
    """Return the command line of a plan in *regions* without the sources *skipped*."""

    def command(here: Account, folder: Path, _days: int) -> list[str]:
        where, what = ",".join(regions), ",".join(skipped)
        return [sys.executable, "-m", "tests.bench.plan_ours", here.endpoint_url, str(folder), where, what]

    return command


@dataclass(frozen=True)
class Cost:
    """What the new sources cost.

    Attributes:
        more_cpu_s: More seconds of the processor, between the best runs of each: other work on the machine only adds.
        wall: The time that it takes, as a ratio: the median of the pairs.
        calls: More requests.
    """

    more_cpu_s: float
    wall: float
    calls: int


def cost(here: Account, regions: Sequence[str]) -> Cost:
    """Return what the new sources cost a plan in *regions* of *here*."""
    calls = [here.state()["calls"]]
    pairs: list[tuple[Ran, Ran]] = []
    for number in range(RUNS + 1):
        pair = (run(plan(regions), here, 0), run(plan(regions, NEW), here, 0))
        calls += [ran.state["calls"] for ran in pair]
        bad = [ran for ran in pair if ran.status != 0]
        if bad:
            msg = f"a plan ended with {bad[0].status}: run it with BENCH_LOG=1"
            raise RuntimeError(msg)
        if number:  # the first only warms files up
            pairs.append(pair)
    return Cost(
        min(own.cpu_s for own, _ in pairs) - min(theirs.cpu_s for _, theirs in pairs),
        statistics.median(own.seconds / theirs.seconds for own, theirs in pairs),
        (calls[1] - calls[0]) - (calls[2] - calls[1]),
    )


def bench() -> bool:
    """Measure an account in which every new source is empty, and one with something for each; one region and three."""
    if not NEW:
        return say("sources", "no new source is in the registry", good=False)
    good = True
    sizes = (IMAGES, IMAGES // SELECTED, TEMPLATES, DELAY_S)
    for kind, hits in (("empty", ""), ("with one hit each", json.dumps(REGIONS))):
        with account("cleanup_account", "many", *sizes, hits) as here:
            one, three = (cost(here, REGIONS[:count]) for count in (1, 3))
        further_s = (three.more_cpu_s - one.more_cpu_s) / 2
        text = (
            f"{len(NEW)} new sources, {kind}: {one.more_cpu_s:.2f} s of the processor more in one region (at most "
            f"{MOST_FIRST_S}), {further_s:.3f} s in each further one (at most {MOST_FURTHER_S}), {one.calls} and "
            f"{three.calls} calls more, {one.wall:.2f} and {three.wall:.2f} times as long (at most {MOST_WALL})"
        )
        is_good = (
            one.more_cpu_s <= MOST_FIRST_S and further_s <= MOST_FURTHER_S and max(one.wall, three.wall) <= MOST_WALL
        )
        good = say("sources", text, good=is_good) and good
    return good
