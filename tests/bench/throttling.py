"""Clean-up against an AWS that throttles: how near to what its buckets allow, how much memory, how it grows."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.measure import Pair, say
from tests.bench.throttled_aws import CHANGE, RATE, READ

ROOT = Path(__file__).parents[2]
REGIONS = ("ap-northeast-2", "us-east-1", "eu-west-1")
IMAGES, SELECTED_EVERY, RUNS = 5000, 10, 3
# The bounds: times what the buckets allow, MiB, and how much more than ten times as long ten times the AMIs may take.
SLOWER, MOST_MIB, GROWTH = 1.2, 200, 1.5


@dataclass(frozen=True)
class Measured:
    """One run: seconds, MiB, what it printed, and what AWS counted."""

    seconds: float
    rss_mib: float
    output: str
    state: dict[str, Any]


def measure(images: int, rate: float, program: Sequence[str], folder: str) -> Measured:
    """Run *program* against *images* AMIs in each region, the documented rates times *rate*; 0 is no throttling.

    Args:
        images: In each region.
        rate: See `Terms`.
        program: A Python module and its arguments; ``URL`` and ``FOLDER`` are replaced by the AWS and an empty folder.
        folder: That folder.
    """
    command = [sys.executable, "-m", "tests.bench.throttled_aws", str(images), str(SELECTED_EVERY), "0", str(rate)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        known = {"URL": json.loads(server.stdout.readline())["endpoint_url"], "FOLDER": folder}
        command_line = [sys.executable, "-m", *(known.get(argument, argument) for argument in program)]
        env = {"PATH": os.environ["PATH"], "HOME": folder, "PYTHONPATH": str(ROOT / "scripts")}
        output = Path(folder) / "out"
        with output.open("w") as out:
            started = time.perf_counter()
            process = subprocess.Popen(command_line, cwd=ROOT, env=env, stdout=out)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        server.stdin.write("\n")
        server.stdin.flush()
        state = json.loads(server.stdout.readline())
        server.stdin.close()
        return Measured(seconds, usage.ru_maxrss / 1024, output.read_text(), state)


def ours(images: int, rate: float, regions: Sequence[str]) -> Measured:
    """Clean up with `invoke cleanup`."""
    with tempfile.TemporaryDirectory() as folder:
        program = ["tests.bench.cleanup_ours", "URL", "FOLDER", ",".join(regions), "30d"]
        return measure(images, rate, program, folder)


def bare(images: int, regions: Sequence[str]) -> Measured:
    """Clean up with the least that boto3 must do."""
    with tempfile.TemporaryDirectory() as folder:
        return measure(images, RATE, ["tests.bench.bare_boto3", "URL", ",".join(regions), "30"], folder)


def allowed_s(images: int, rate: float) -> float:
    """Return what the buckets allow: first each selected AMI's permissions are read, then it is deregistered."""
    selected = images // SELECTED_EVERY
    return sum(max(0.0, selected - burst) / (per_s * rate) for burst, per_s in (READ, CHANGE))


def main() -> bool:
    """Print the measurements and return whether all are within their bounds.

    At high rates boto3's own work for the calls may take longer than the buckets. The bare boto3 of the same run tells
    that from what clean-up itself costs.
    """
    usual = ours(IMAGES, 1, REGIONS)
    runs = [(ours(IMAGES, RATE, REGIONS), bare(IMAGES, REGIONS)) for _ in range(RUNS)]
    small, large = ours(IMAGES // 10, 0, REGIONS[:1]), ours(IMAGES, 0, REGIONS[:1])
    selected = IMAGES // SELECTED_EVERY * len(REGIONS)
    assert all(least.output.split() == [str(selected)] for _, least in runs)
    whole = [usual, *(run for run, _ in runs)]
    deleted = [sum(result["status"] == "deleted" for result in json.loads(run.output)["results"]) for run in whole]
    pair = Pair(tuple(run.seconds for run, _ in runs), tuple(least.seconds for _, least in runs))
    usual_times = usual.seconds / allowed_s(IMAGES, 1)
    times = statistics.median(pair.ours_s) / allowed_s(IMAGES, RATE)
    checks = (
        (usual_times <= SLOWER, f"{usual_times:.2f} times what the documented buckets allow (at most {SLOWER})"),
        (times <= SLOWER, f"{times:.2f} times what {RATE} times those rates allow (at most {SLOWER})"),
        (pair.ratio <= SLOWER, f"at {RATE} times those rates, of bare boto3's time {pair} (at most {SLOWER})"),
        (set(deleted) == {selected}, f"{deleted} AMIs deleted (each time {selected})"),
        (max(run.rss_mib for run in whole) < MOST_MIB, f"{whole[0].rss_mib:.0f} MiB (less than {MOST_MIB})"),
        (
            large.seconds <= GROWTH * 10 * small.seconds,
            f"{IMAGES // 10} AMIs {small.seconds:.1f} s, {IMAGES} AMIs {large.seconds:.1f} s, not throttled (linear)",
        ),
    )
    name = f"{IMAGES} AMIs in {len(REGIONS)} regions"
    good = [say(name, text, good=is_good) for is_good, text in checks]
    print(f"     throttled: {usual.state['throttled']} of {usual.state['by_action']}")  # noqa: T201
    return all(good)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
