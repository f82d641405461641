"""Clean-up, side by side: what each tool deletes of what is needed, and how long each takes for the same work.

``python -m tests.bench.cleanup CUSTODIAN AMICLEANER`` with the programs of Cloud Custodian and aws-amicleaner.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REGION = "ap-northeast-2"
ROOT = Path(__file__).parents[2]
IMAGES, SELECTED, TEMPLATES, DELAY_S, RUNS = 1000, 200, 50, 0.05, 3
# How much faster than Cloud Custodian ours must be, and how many calls it may make beyond one page of AMIs.
FASTER = 8.0
# Two for each source that has nothing here: once for the plan, once before the act.
MOST_CALLS = 1 + TEMPLATES + 2 * SELECTED + 120
# The ways of being needed that are in the facts about other tools, and others that they can be measured on.
MEASURED = (
    "running_instance",
    "stopped_instance",
    "template_default_version",
    "template_middle_version",
    "template_latest_version",
    "group_pinned_version",
    "group_mixed_base",
    "group_mixed_override",
    "launch_configuration",
    "group_launch_configuration",
    "parameter_ami_id",
    "parameter_other_name",
    "template_alias",
    "batch_image_id_override",
    "batch_image_id",
    "batch_pinned_template",
    "launch_permission",
)
MORE = (
    "spot_fleet",
    "ec2_fleet",
    "batch_template_override",
    "batch_frozen_latest",
    "parameter_list",
    "parameter_json",
    "image_builder_recipe",
    "image_builder_parent",
    "image_builder_mapping",
    "managed_instance",
    "managed_template",
    "public_launch_permission",
    "dlm_policy",
    "snapshot_lock",
    "public_snapshot",
)
# aws-amicleaner stops with an error when a group without instances has no launch configuration.
STOPS_AT = ("group_pinned_version", "group_mixed_base", "group_mixed_override", "instance_refresh", "warm_pool")
POLICY = """\
policies:
  - name: unused
    resource: aws.ami
    filters:
      - type: unused
        value: true
      - type: image-age
        days: {days}
{more}    actions:
      - type: deregister
        delete-snapshots: true
"""
_NOT_SHARED = """\
      - not:
          - type: cross-account
"""


@dataclass(frozen=True)
class Account:
    """A running account.

    Attributes:
        endpoint_url: Where it is.
        made: The AMIs in it, by what needs them.
    """

    endpoint_url: str
    made: dict[str, str]
    process: subprocess.Popen[str] = field(repr=False)

    def state(self) -> dict[str, Any]:
        """Return what is left, and the calls so far."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return dict(json.loads(self.process.stdout.readline()))


@dataclass(frozen=True)
class Ran:
    """One run of a tool: seconds, its own processor seconds, exit status, most memory, and what it left."""

    seconds: float
    cpu_s: float
    status: int
    rss_mib: float
    state: dict[str, Any]

    def gone(self, *, needed: bool) -> list[str]:
        """Return what it deleted of the needed (or the unused) AMIs."""
        return [reason for reason in self.state["gone"] if reason.startswith("unused_") is not needed]


# Given the account, a folder of its own and the least age in days, returns the command line.
Tool = Callable[[Account, Path, int], list[str]]


@contextlib.contextmanager
def account(module: str, *arguments: object) -> Iterator[Account]:
    """Start an account in a process of its own."""
    command = [sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        try:
            yield Account(said["endpoint_url"], said["made"], process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def ours(here: Account, folder: Path, days: int) -> list[str]:
    """Return our command line."""
    age = f"{days}d" if days else "1h"
    return [sys.executable, "-m", "tests.bench.cleanup_ours", here.endpoint_url, str(folder), REGION, age]


def custodian(program: Path, *, shared: bool = True) -> Tool:
    """Return Cloud Custodian's command line for unused AMIs and their snapshots."""

    def command(_here: Account, folder: Path, days: int) -> list[str]:
        policy = folder / "policy.yml"
        policy.write_text(POLICY.format(more="" if shared else _NOT_SHARED, days=days))
        return [str(program), "run", "--region", REGION, "-s", str(folder / "out"), str(policy)]

    return command


def amicleaner(program: Path) -> Tool:
    """Return aws-amicleaner's command line: groups by name, keeps none."""

    def command(_here: Account, _folder: Path, days: int) -> list[str]:
        group = ["--mapping-key", "name", "--mapping-values", "gpu-batch"]
        return [str(program), *group, "--keep-previous", "0", "--ami-min-days", str(days), "--force-delete"]

    return command


def run(tool: Tool, here: Account, days: int) -> Ran:
    """Run *tool* on the account, for AMIs of *days* at least, and measure it, its start included."""
    with tempfile.TemporaryDirectory() as folder:
        env = {"PATH": os.environ["PATH"], "HOME": folder, "AWS_ENDPOINT_URL": here.endpoint_url}
        env |= {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}
        env |= {"AWS_ACCESS_KEY_ID": "sandbox", "AWS_SECRET_ACCESS_KEY": "sandbox", "PYTHONPATH": str(ROOT / "scripts")}
        with (Path(folder) / "log").open("w") as log:
            started = time.perf_counter()
            process = subprocess.Popen(tool(here, Path(folder), days), cwd=ROOT, env=env, stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if os.environ.get("BENCH_LOG"):
            print((Path(folder) / "log").read_text()[-3000:])  # noqa: T201
    return Ran(seconds, usage.ru_utime + usage.ru_stime, process.returncode, usage.ru_maxrss / 1024, here.state())


def compare(tools: dict[str, Tool], reasons: Sequence[str]) -> dict[str, Ran]:
    """Return what each tool does to an account with the ways of being needed *reasons* and two unused AMIs."""
    found = {}
    for name, tool in tools.items():
        with account("cleanup_account", "reasons", *reasons) as here:
            found[name] = run(tool, here, 0)
    return found


def table(found: dict[str, Ran], reasons: Sequence[str]) -> str:
    """Return a Markdown table: each way of being needed, and which tool deleted it nevertheless."""
    rows = [f"| AMI needed by | {' | '.join(found)} |", "|---|" + "---|" * len(found)]
    for reason in reasons:
        cells = ["**deleted**" if reason in ran.state["gone"] else "kept" for ran in found.values()]
        rows.append(f"| {reason.replace('_', ' ')} | {' | '.join(cells)} |")
    needed = [sum(reason in ran.state["gone"] for reason in reasons) for ran in found.values()]
    unused = [f"{len(ran.gone(needed=False))} of 2" for ran in found.values()]
    rows.append(f"| **needed AMIs deleted (of {len(reasons)})** | {' | '.join(f'**{n}**' for n in needed)} |")
    rows.append(f"| unused AMIs deleted | {' | '.join(unused)} |")
    rows.append(f"| exit status | {' | '.join(str(ran.status) for ran in found.values())} |")
    return "\n".join(rows)


def speed(tools: dict[str, Tool], module: str, *arguments: object, runs: int = 1) -> dict[str, list[Ran]]:
    """Return how each tool does the same work on an account of its own, in turn, *runs* times each."""
    found: dict[str, list[Ran]] = {name: [] for name in tools}
    for _ in range(runs):
        for name, tool in tools.items():
            with account(module, *arguments) as here:
                found[name].append(run(tool, here, 30))
    return found


def speed_table(timed: dict[str, list[Ran]]) -> str:
    """Return a Markdown table of what the same work took: medians of the runs."""
    rows = [
        "| | seconds | own processor seconds | calls | at once | deleted | snapshots left | MiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, some in timed.items():
        seconds, cpu_s = (
            statistics.median(values) for values in zip(*((r.seconds, r.cpu_s) for r in some), strict=True)
        )
        ran = some[-1]
        counted = [ran.state["calls"], ran.state["at_once"], len(ran.state["gone"]), ran.state["snapshots"]]
        cells = [f"{seconds:.1f}", f"{cpu_s:.1f}", *counted]
        rows.append(f"| {name} | {' | '.join(map(str, cells))} | {ran.rss_mib:.0f} |")
    return "\n".join(rows)


def whole(ran: Ran) -> bool:
    """Return whether a run deleted all that it should, and nothing else."""
    return len(ran.gone(needed=False)) == SELECTED and not ran.gone(needed=True)


def compare_speed(tools: dict[str, Tool]) -> bool:
    """Print how long the same work takes each tool; return whether ours is fast enough with few enough calls."""
    title = (
        f"{IMAGES} AMIs, {SELECTED} of them to delete, {TEMPLATES} templates, {DELAY_S * 1000:.0f} ms added to a call"
    )
    sizes = (IMAGES, IMAGES // SELECTED, TEMPLATES)
    first_two, rest = dict(list(tools.items())[:2]), dict(list(tools.items())[2:])
    timed = speed(first_two, "cleanup_account", "many", *sizes, DELAY_S, runs=RUNS)
    timed |= speed(rest, "cleanup_account", "many", *sizes, DELAY_S)
    _say(f"### {title}: the sandbox's AWS, medians of {RUNS} runs\n\n{speed_table(timed)}")
    light = speed(tools, "throttled_aws", *sizes, 0, DELAY_S)
    _say(f"### The same against a light emulation of EC2\n\n{speed_table(light)}")
    ours_s, theirs_s = ([ran.seconds for ran in timed[name]] for name in ("ours", "Cloud Custodian"))
    ratio = statistics.median(theirs / own for own, theirs in zip(ours_s, theirs_s, strict=True))
    calls = timed["ours"][-1].state["calls"]
    good = all(map(whole, [*timed["ours"], *light["ours"]])) and ratio >= FASTER and calls <= MOST_CALLS
    bounds = f"(at least {FASTER:.0f}), {calls} calls (at most {MOST_CALLS})"
    _say(f"{'ok  ' if good else 'MISS'} cleanup: {ratio:.1f} times as fast as Cloud Custodian {bounds}")
    return good


def more_ways() -> tuple[str, ...]:
    """Return the ways of being needed that were not measured before, the rarer ones of the sandbox among them."""
    from gpu_ami_sandbox.demo.rare_uses import RARE_USES
    from gpu_ami_sandbox.demo.uses import USES
    from tests.bench.cleanup_account import MENTIONS

    return (*MORE, *(name for name in MENTIONS if name in USES), *RARE_USES)


def main(custodian_program: str, amicleaner_program: str) -> int:
    """Print the tables; 1 when ours deletes something needed, is too slow or makes too many calls."""
    cloud, cleaner = custodian(Path(custodian_program)), amicleaner(Path(amicleaner_program))
    private = custodian(Path(custodian_program), shared=False)
    tools = {"ours": ours, "c7n `unused`": cloud, "c7n + `not: cross-account`": private, "aws-amicleaner": cleaner}
    ways = more_ways()
    first, more = compare(tools, MEASURED), compare(tools, ways)
    _say("### Ways of being needed that were measured before\n\n" + table(first, MEASURED))
    _say("### More ways\n\n" + table(more, ways))
    for some in (MEASURED, ways):
        without = [reason for reason in some if reason not in STOPS_AT]
        spared = table(compare({"aws-amicleaner": cleaner}, without), without)
        _say("### aws-amicleaner without the groups at which it stops\n\n" + spared)
    safe = all(found["ours"].state["gone"] == ["unused_1", "unused_2"] for found in (first, more))
    fast = compare_speed({"ours": ours, "Cloud Custodian": cloud, "aws-amicleaner": cleaner})
    return 0 if safe and fast else 1


def _say(text: str) -> None:
    print(f"{text}\n", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
