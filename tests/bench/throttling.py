"""Clean-up against an AWS that throttles: how near to what its buckets allow, how much memory, how it grows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.throttled_aws import CHANGE, READ

ROOT = Path(__file__).parents[2]
REGIONS = ("ap-northeast-2", "us-east-1", "eu-west-1")
IMAGES, DOOMED_EVERY, RATE = 5000, 10, 10
# The bounds: times what the buckets allow, MiB, and how much more than ten times as long ten times the AMIs may take.
SLOWER, MOST_MIB, GROWTH = 1.2, 200, 1.5


@dataclass(frozen=True)
class Measured:
    """One run: seconds, MiB, its document, and what AWS counted."""

    seconds: float
    rss_mib: float
    document: dict[str, Any]
    state: dict[str, Any]

    @property
    def failed(self) -> int:
        """How many AMIs were not deleted."""
        return sum(each["status"] != "deleted" for each in self.document["results"])


def measure(images: int, rate: float, regions: tuple[str, ...]) -> Measured:
    """Clean *images* AMIs in each of *regions*, the documented rates times *rate*; 0 is no throttling."""
    command = [sys.executable, "-m", "tests.bench.throttled_aws", str(images), str(DOOMED_EVERY), "0", str(rate)]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdin is not None
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["endpoint_url"]
        ours = [sys.executable, "-m", "tests.bench.cleanup_ours", url, folder, ",".join(regions), "30d"]
        env = {"PATH": os.environ["PATH"], "HOME": folder, "PYTHONPATH": str(ROOT / "scripts")}
        output = Path(folder) / "out"
        with output.open("w") as out:
            started = time.perf_counter()
            process = subprocess.Popen(ours, cwd=ROOT, env=env, stdout=out)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        server.stdin.write("\n")
        server.stdin.flush()
        state = json.loads(server.stdout.readline())
        server.stdin.close()
        return Measured(seconds, usage.ru_maxrss / 1024, json.loads(output.read_text()), state)


def allowed_s(images: int, rate: float) -> float:
    """Return what the buckets allow: first each doomed AMI's permissions are read, then it is deregistered."""
    doomed = images // DOOMED_EVERY
    return sum(max(0.0, doomed - burst) / (per_s * rate) for burst, per_s in (READ, CHANGE))


def main() -> int:
    """Print the measurements; 1 when one misses its bound."""
    whole = measure(IMAGES, RATE, REGIONS)
    small, large = measure(IMAGES // 10, 0, REGIONS[:1]), measure(IMAGES, 0, REGIONS[:1])
    least, doomed = allowed_s(IMAGES, RATE), IMAGES // DOOMED_EVERY * len(REGIONS)
    checks = (
        (
            whole.seconds <= SLOWER * least,
            f"{whole.seconds:.1f} s, the buckets allow {least:.1f} s (at most {SLOWER} times)",
        ),
        (
            not whole.failed and len(whole.document["results"]) == doomed,
            f"{whole.failed} of {len(whole.document['results'])} AMIs failed (none of {doomed})",
        ),
        (whole.rss_mib < MOST_MIB, f"{whole.rss_mib:.0f} MiB (less than {MOST_MIB})"),
        (
            large.seconds <= GROWTH * 10 * small.seconds,
            f"{IMAGES // 10} AMIs {small.seconds:.1f} s, {IMAGES} AMIs {large.seconds:.1f} s, not throttled (linear)",
        ),
    )
    for good, text in checks:
        print(f"{'ok  ' if good else 'MISS'} {IMAGES} AMIs in {len(REGIONS)} regions: {text}")  # noqa: T201
    print(f"     throttled: {whole.state['throttled']} of {whole.state['by_action']}")  # noqa: T201
    return 0 if all(good for good, _ in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
