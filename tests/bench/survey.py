"""A fleet read in parts: the merge of hundreds of them, and what each part takes: ``python -m tests.bench survey``.

The parts of the first bench are made here, busy ones; those of the second by reading the fake organization of
`fleet_aws`, one shard after the other, each in a process of its own. Their plan is held to that of one run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.measure import say

ROOT = Path(__file__).parents[2]
ACCOUNTS, SHARDS, IMAGES, DELAY_S = 500, 20, 10, 0.05
# The bounds: of the merge with its decision, and of each shard.
MERGE_S, MERGE_MIB, SHARD_S, SHARD_MIB = 8.0, 500.0, 60.0, 200.0


def _ours(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.survey_ours", *map(str, arguments)]
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT / "scripts")}
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@contextmanager
def _served(accounts: int) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.bench.fleet_aws", str(accounts), str(IMAGES), str(DELAY_S)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()


def merging() -> bool:
    """Merge one part of each of 500 accounts, with 85,000 AMIs and 680,000 references, and decide."""
    with tempfile.TemporaryDirectory() as folder:
        made = _ours("make", folder)
        said = _ours("merge", folder)
    extent = f"{made['parts']} parts of {made['mib']:.1f} MiB, {said['images']} AMIs, {said['references']} references"
    took = f"{extent}, {said['selected']} go: {said['seconds']:.1f} s, {said['cpu_s']:.1f} s of a processor"
    assert said["failed"] == 0, said
    results = [say("survey merge", took, good=said["seconds"] <= MERGE_S)]
    return all([*results, say("survey merge memory", f"{said['rss_mib']:.0f} MiB", good=said["rss_mib"] <= MERGE_MIB)])


def spread(accounts: int = ACCOUNTS, shards: int = SHARDS) -> bool:
    """Read an organization shard by shard, merge the parts, and compare with one run over the same."""
    with tempfile.TemporaryDirectory() as folder, _served(accounts) as url:
        names = _ours("list", folder, url, shards)["shards"]
        parts = [_ours("shard", folder, url, name) for name in names]
        merged = _ours("merge", folder)
        one = _ours("one", folder, url)
        is_equal = Path(folder, "merged.json").read_bytes() == Path(folder, "one.json").read_bytes()
    slowest, busiest, largest = (max(part[key] for part in parts) for key in ("seconds", "cpu_s", "rss_mib"))
    places = sum(part["places"] for part in parts)
    of = f"{len(parts)} shards of {places} places ({accounts} accounts)"
    results = [
        say(
            "survey shard",
            f"{of}: {slowest:.1f} s the slowest, {busiest:.1f} s of a processor",
            good=slowest <= SHARD_S,
        ),
        say("survey shard memory", f"{largest:.0f} MiB the largest", good=largest <= SHARD_MIB),
        say("survey plan", f"{merged['selected']} go, by one run {one['selected']}", good=is_equal),
    ]
    return all(results)


def bench() -> bool:
    """Run both; whether each is within its bound."""
    return all([merging(), spread()])


if __name__ == "__main__":
    sys.exit(not bench())
