"""What `kill -9` of a real `invoke verify` leaves is found by `invoke sweep`, and goes when its time is over."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from gpu_ami.cleanup import sweep
from gpu_ami.measure import bench
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from tests.measure.conftest import Host, Time
from tests.measure.test_bench import Benching, baked, benching, go, left, live, passing
from tests.support.account import REGION, World, task

__all__ = ["baked", "benching", "live", "passing"]

# Of a real process, once.
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SETTINGS = f"region: {REGION}\nfamily: gpu-batch\n"
WITHIN_S = 300


def _start(here: World, root: Path, ami: SandboxAmi, *flags: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GPU_AMI_"))}
    environment |= {
        "AWS_ENDPOINT_URL": here.aws.endpoint_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": str(root),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "invoke", *flags, "--ami", ami.id, "--yes", "--max-usd", "500"],
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _is_made(here: World) -> bool:
    """Whether the local EC2, which goes on when its caller is dead, is done with the launch."""
    ec2 = here.maker.ec2
    made = [*ec2.all_instances(), *ec2.volumes.values()]
    return len(made) == 2 and all("gpu-ami:run" in ec2.tags.get(thing.id, {}) for thing in made)


@pytest.mark.parametrize("phase", ["RunInstances", "SendCommand"])
def test_what_a_killed_verification_leaves_is_swept(
    here: World, host: Host, ami: SandboxAmi, repository_with_scripts: Path, phase: str
) -> None:
    """In the middle of its checks, or before it has heard the instance's id: the tags are there from the launch on."""
    root = repository_with_scripts
    shutil.copy2(ROOT / "tasks.py", root / "tasks.py")
    (root / "pipeline.yaml").write_text(SETTINGS)
    host.answers, host.now = dict.fromkeys(host.answers), 10.0

    child = _start(here, root, ami, "verify", "--subnet-id", here.maker.location.subnet_id)
    try:
        end = time.monotonic() + WITHIN_S
        while phase not in here.calls() or not _is_made(here):
            assert child.poll() is None, child.communicate()
            assert time.monotonic() < end, "it did not come so far"
            host.now += 1  # until its agent is online
            time.sleep(0.05)
    finally:
        child.kill()
        child.communicate()

    (instance,) = here.maker.ec2.all_instances()
    assert instance.state in ("pending", "running")
    assert instance.instance_initiated_shutdown_behavior == "terminate"
    (volume,) = here.maker.ec2.volumes

    young = task(here, root)
    sweep.run(young.run, sweep.Request(yes=True))
    (verdict,) = young.document["verdicts"]
    assert (verdict["id"], verdict["reasons"][0]["code"]) == (instance.id, "may-be-alive")
    assert instance.state != "terminated"

    then = datetime.now(timezone.utc).replace(tzinfo=None) - timedelta(minutes=46)
    instance.launch_time = then
    old = task(here, root)
    sweep.run(old.run, sweep.Request(yes=True))

    assert instance.state == "terminated"
    assert volume not in here.maker.ec2.volumes
    assert [result["status"] for result in old.document["results"]] == ["deleted"]


def test_what_a_killed_bench_leaves_is_taken_away(
    here: World, baked: SandboxAmi, benching: Benching, passing: Time, repository_with_scripts: Path
) -> None:
    """With its jobs under way: another bench is told of it, and its journal is enough."""
    root = repository_with_scripts
    shutil.copy2(ROOT / "tasks.py", root / "tasks.py")
    (root / "pipeline.yaml").write_text(SETTINGS + "bench: {hosts: 1, arms: [stock, rated]}\n")

    child = _start(here, root, baked, "bench")
    try:
        end = time.monotonic() + WITHIN_S
        while here.calls().count("SubmitJob") < 2:
            assert child.poll() is None, child.communicate()
            assert time.monotonic() < end, "it did not come so far"
            passing.now += 30  # until its environments and queues are valid
            time.sleep(0.05)
    finally:
        child.kill()
        child.communicate()
    assert len(left(here)) >= 7
    (journal,) = (root / "logs").glob("bench-*.jsonl")

    told = benching(dry_run=True)
    go(told, passing, baked)
    assert f"invoke bench --teardown logs/{journal.name}" in told.err.getvalue()
    bench.run(benching().run, bench.Request(teardown=str(journal)), clock=passing.clock)

    assert left(here) == []
