"""A fleet: what reading many accounts and regions takes, beside the commit before there were fleets.

``python -m tests.bench.fleet COMMIT`` compares with that commit, whose scripts are taken from git.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from tests.bench.fleet_aws import serving
from tests.bench.measure import say

ROOT = Path(__file__).parents[2]
# The commit before there were fleets.
BEFORE = "8d3048ebe6fe"
IMAGES, REGIONS = 10, 17
# Accounts beside the commit before, and of the fleet that is planned over.
SOME, MANY = 20, 100
DELAY_S, WORKERS, RUNS = 0.15, 256, 5
# The bounds: shares of before, milliseconds of processor a call, MiB, times the least that the calls take.
MEMORY, PROCESSOR, MS_A_CALL, MOST_MIB, SLOWER, ONE_ACCOUNT = 1 / 20, 1 / 3, 1.2, 250, 1.5, 1.05


@dataclass(frozen=True)
class Ran:
    """One run: what the worker said of itself, and the calls that AWS counted."""

    said: dict[str, Any]
    calls: int

    @property
    def cpu_s(self) -> float:
        """Its processor seconds."""
        return float(self.said["cpu_s"])

    @property
    def rss_mib(self) -> float:
        """Its most memory."""
        return float(self.said["rss_mib"])

    @property
    def seconds(self) -> float:
        """How long it took."""
        return float(self.said["seconds"])

    @property
    def places(self) -> int:
        """How many places it read."""
        return int(self.said["places"])


def ran(scripts: Path, accounts: int, regions: int, mode: str, *, delay_s: float = 0.0) -> Ran:
    """Let the code in *scripts* read an organization; see `fleet_ours` for the *mode*."""
    with serving(accounts, IMAGES, delay_s) as (url, state):
        command = [sys.executable, "-m", "tests.bench.fleet_ours", url, str(accounts), str(regions), mode]
        env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(scripts)}
        done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True)
        calls = int(state()["calls"])
    said = json.loads(done.stdout)
    assert said["failed"] == 0, said
    return Ran(said, calls)


@contextmanager
def scripts_of(commit: str) -> Iterator[Path]:
    """Yield the scripts of *commit*, from git."""
    packed = subprocess.run(["git", "archive", commit, "scripts"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder) / "scripts"


def beside(before: Path, accounts: int = SOME) -> bool:
    """Compare memory and processor of reading the same places to the end, beyond a first place."""
    ours = ROOT / "scripts"
    first, all_ = ran(ours, 1, 1, "places"), ran(ours, accounts, REGIONS, "places")
    was_first, was = ran(before, 1, 1, "places"), ran(before, accounts, REGIONS, "places")
    more = all_.places - 1
    memory, was_memory = ((one.rss_mib - start.rss_mib) / more for one, start in ((all_, first), (was, was_first)))
    cpu, was_cpu = ((one.cpu_s - start.cpu_s) / more for one, start in ((all_, first), (was, was_first)))
    of = f"of {all_.places}"
    said = f"{memory:.3f} MiB a place {of}, before {was_memory:.3f}: 1/{was_memory / memory:.1f}"
    results = [say("fleet memory", said, good=memory <= MEMORY * was_memory)]
    said = f"{cpu * 1000:.1f} ms a place {of}, before {was_cpu * 1000:.1f}: 1/{was_cpu / cpu:.1f}"
    results.append(say("fleet processor", said, good=cpu <= PROCESSOR * was_cpu))
    calls = f"{all_.calls / all_.places:.1f} calls a place, before {was.calls / was.places:.1f}"
    return all([*results, say("fleet calls", calls, good=all_.calls <= was.calls)])


def plan(accounts: int = MANY) -> bool:
    """Plan over a fleet with a network's delay: how near it is to what its calls must take."""
    one = ran(ROOT / "scripts", accounts, REGIONS, "fleet", delay_s=DELAY_S)
    least = max(one.calls * DELAY_S / WORKERS, one.cpu_s)
    of = f"{one.places} places, {one.calls} calls ({one.calls / one.places:.1f} a place), {one.said['selected']} go"
    said = f"{of}: {one.seconds:.1f} s, the least {least:.1f} s"
    results = [say("fleet time", said, good=one.seconds <= SLOWER * least)]
    a_call = one.cpu_s * 1000 / one.calls
    results.append(say("fleet processor a call", f"{a_call:.2f} ms", good=a_call <= MS_A_CALL))
    return all([*results, say("fleet peak memory", f"{one.rss_mib:.0f} MiB", good=one.rss_mib <= MOST_MIB)])


def one_account(before: Path) -> bool:
    """Compare one account in three regions: who has no fleet pays nothing for it."""
    pairs = [
        (ran(ROOT / "scripts", 1, 3, "places", delay_s=0.05), ran(before, 1, 3, "places", delay_s=0.05))
        for _ in range(RUNS)
    ]
    ours, theirs = (statistics.median(pair[number].seconds for pair in pairs) for number in (0, 1))
    said = f"{ours:.2f} s / {theirs:.2f} s = {ours / theirs:.3f}"
    return say("fleet of one account", said, good=ours <= ONE_ACCOUNT * theirs)


def main(commit: str = BEFORE) -> bool:
    """Run all of them; whether each is within its bound."""
    with scripts_of(commit) as before:
        return all([beside(before), plan(), one_account(before)])


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:]))
