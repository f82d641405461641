"""A fleet's unused AMIs, found by ours and by c7n-org, side by side: how long it takes, and what is wrongly among them.

``python -m tests.bench.fleet_beside C7N_ORG``, with c7n and c7n-org from PyPI in an environment of their own. Nothing
is deleted: ours plans, theirs runs the policy `unused` of Cloud Custodian without actions. Ours is there twice: with
those of its sources that `unused` reads, and the few that no flag leaves out, without what a plan shows besides, which
is what the bound is about; and with all of them, as a user gets it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.fleet_aws import REGIONS, account_of, named_elsewhere, serving
from tests.bench.measure import say

ROOT = Path(__file__).parents[2]
ACCOUNTS, PLACES, IMAGES, DELAY_S, RUNS = 20, 3, 10, 0.05, 3
FASTER = 5.0
POLICY = """\
policies:
  - name: unused
    resource: aws.ami
    filters:
      - type: unused
        value: true
      - type: image-age
        days: 30
"""


@dataclass(frozen=True)
class Found:
    """What one tool found.

    Attributes:
        seconds: How long it took, its start included.
        cpu_s: The processor seconds of it and of its processes.
        unused: How many AMIs it would delete.
        wrong: How many of them another account's launch template names.
        calls: Requests.
    """

    seconds: float
    cpu_s: float
    unused: int
    wrong: int
    calls: int


def found(command: list[str], folder: Path, url: str) -> tuple[float, float]:
    """Run *command*; return its wall and its processor seconds."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT / "scripts")}
    env |= {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": REGIONS[0], "AWS_EC2_METADATA_DISABLED": "true"}
    env |= {"AWS_ACCESS_KEY_ID": "hub", "AWS_SECRET_ACCESS_KEY": "hub"}
    with (folder / "said").open("w") as said, (folder / "log").open("w") as log:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=said, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError((folder / "log").read_text()[-2000:])
    return seconds, usage.ru_utime + usage.ru_stime


def ours(mode: str) -> Found:
    """Plan the clean-up of the whole organization; see `fleet_ours` for the *mode*."""
    with serving(ACCOUNTS, IMAGES, DELAY_S) as (url, state), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "tests.bench.fleet_ours", url, str(ACCOUNTS), str(PLACES), mode]
        seconds, cpu_s = found(command, folder, url)
        said = json.loads((folder / "said").read_text())
        return Found(seconds, cpu_s, said["selected"], said["wrong"], state()["calls"])


def theirs(program: Path) -> Found:
    """Let c7n-org look for the unused AMIs of the same accounts and regions, as many at once as it does by itself."""
    with serving(ACCOUNTS, IMAGES, DELAY_S) as (url, state), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        accounts = [
            {
                "account_id": key,
                "name": key,
                "role": f"arn:aws:iam::{key}:role/reader",
                "regions": list(REGIONS[:PLACES]),
            }
            for key in map(account_of, range(ACCOUNTS))
        ]
        (folder / "accounts.json").write_text(json.dumps({"accounts": accounts}))
        (folder / "policy.yml").write_text(POLICY)
        files = ["-c", str(folder / "accounts.json"), "-u", str(folder / "policy.yml"), "-s", str(folder / "out")]
        seconds, cpu_s = found([str(program), "run", *files], folder, url)
        results = list((folder / "out").rglob("resources.json"))
        assert len(results) == ACCOUNTS * PLACES, f"{len(results)} results: {(folder / 'log').read_text()[-2000:]}"
        going = [row["ImageId"] for path in results for row in json.loads(path.read_text())]
        return Found(seconds, cpu_s, len(going), sum(map(named_elsewhere, going)), state()["calls"])


def main(program: str) -> int:
    """Compare them in turn; 1 when ours is not fast enough, or would delete what another account needs."""
    rounds = [(ours("unused"), ours("fleet"), theirs(Path(program))) for _ in range(RUNS)]
    names = ("ours, what c7n reads", "ours, all sources", "c7n-org")
    for name, some in zip(names, zip(*rounds, strict=True), strict=True):
        seconds, cpu_s = (
            statistics.median(values) for values in zip(*((r.seconds, r.cpu_s) for r in some), strict=True)
        )
        one = some[-1]
        text = f"{seconds:.1f} s, {cpu_s:.1f} s of the processor, {one.calls} calls, {one.unused} AMIs unused"
        say(f"fleet beside, {name}", f"{text}, {one.wrong} of them needed in another account", good=True)
    alike, whole = (statistics.median(found[2].seconds / found[mine].seconds for found in rounds) for mine in (0, 1))
    is_safe = all(own.wrong == 0 and own.unused > 0 for found in rounds for own in found[:2])
    text = f"{alike:.1f} times as fast with what c7n reads (at least {FASTER}), {whole:.1f} times with all sources"
    return 0 if say("fleet beside", text, good=alike >= FASTER and is_safe) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
