"""Builds that a person stops, a closed terminal, or nothing that a program could catch."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpu_ami_sandbox.session import Sandbox
from tests.e2e.conftest import Checkout
from tests.e2e.leftovers import all_left_resources
from tests.e2e.terminal import Terminal
from tests.support.steps import STEPS


def _stopped(checkout: Checkout, said: str, number: signal.Signals) -> tuple[int, str]:
    """Send a signal to a build that has *said* something; return its status and the last line of what it said then."""
    child = checkout.popen("build", "--sandbox")
    assert child.stderr is not None
    lines: list[str] = []
    for line in child.stderr:
        lines.append(line)
        if said in line:
            child.send_signal(number)
            break
    rest, _ = child.stderr.read(), child.wait(timeout=120)
    if child.stdout is not None:
        child.stdout.close()
    child.stderr.close()
    assert said in "".join(lines), "".join(lines)
    return child.returncode, (rest.strip().splitlines() or [""])[-1]


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("launching the builder", signal.SIGTERM),
        ("making the AMI", signal.SIGINT),
    ],
)
def test_a_stopped_build_leaves_nothing_behind(
    scene: tuple[Checkout, Sandbox], said: str, number: signal.Signals
) -> None:
    """Whatever Packer was doing, one Ctrl-C or `kill` ends the build, the instance and everything made for it."""
    checkout, sandbox = scene

    status, last = _stopped(checkout, said, number)

    assert status == 130, last
    assert "interrupted" in last
    assert all_left_resources(sandbox) == []


def test_a_closed_terminal_leaves_nothing_behind(scene: tuple[Checkout, Sandbox]) -> None:
    """An SSH session that breaks: before this the builder went on, and was paid for, with Packer gone."""
    checkout, sandbox = scene
    terminal = Terminal(checkout, "build", "--sandbox")
    assert terminal.until(f"step 5 of {len(STEPS)}"), terminal.said

    assert terminal.wait() == 130

    assert all_left_resources(sandbox) == []
    assert not list((checkout.root / ".sandbox" / "logs").glob("*.unfinished"))


@contextlib.contextmanager
def _swept(sandbox: Any, run_id: str) -> Iterator[None]:
    """Remove what the build *run_id* left, whatever comes of the block."""
    try:
        yield
    finally:
        ec2, mine = sandbox.access.client("ec2"), [{"Name": "tag:gpu-ami:run", "Values": [run_id]}]
        for reservation in ec2.describe_instances(Filters=mine)["Reservations"]:
            ec2.terminate_instances(InstanceIds=[i["InstanceId"] for i in reservation["Instances"]])
        for pair in ec2.describe_key_pairs(Filters=mine)["KeyPairs"]:
            ec2.delete_key_pair(KeyName=pair["KeyName"])
        for group in ec2.describe_security_groups(Filters=mine)["SecurityGroups"]:
            ec2.delete_security_group(GroupId=group["GroupId"])


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files that no other test looks at; its name is short, for the sockets in it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_a_killed_build_is_named_by_the_next_invocation(scene: tuple[Checkout, Sandbox], temporary: Path) -> None:
    """Nobody can catch kill -9: what goes on, and costs, has to be said later, and Packer's files go then."""
    checkout, sandbox = scene
    # In the usual one the next start of any other test's command would remove what is looked for here.
    checkout = replace(checkout, env={**checkout.env, "TMPDIR": str(temporary)})
    status, _ = _stopped(checkout, f"step 2 of {len(STEPS)}", signal.SIGKILL)
    assert status == -signal.SIGKILL
    (note,) = (checkout.root / ".sandbox" / "logs").glob("*.unfinished")
    run_id = note.name.removeprefix("build-").partition(".")[0]
    with _swept(sandbox, run_id):
        assert all_left_resources(sandbox), "the builder goes on"
        root = temporary / f"gpu-ami-{os.getuid()}"
        files = [path for path in root.glob("*/packer-log*") if _belongs_to_a_dead(path)]
        assert files, "Packer keeps its log in our folder"
        packers = [int(note.name.removeprefix("child-")) for path in files for note in path.parent.glob("child-*")]
        end = time.monotonic() + 300
        while any(Path(f"/proc/{pid}/cmdline").exists() for pid in packers):
            assert time.monotonic() < end, "its pipe is broken: it ends with its next line"
            time.sleep(0.05)

        told = checkout.invoke("manifest", "--sandbox")

    assert not any(path.exists() for path in files)
    assert f"Build {run_id} was killed before it had cleaned up" in told.stderr
    assert "`invoke sweep --sandbox` shows what is left" in told.stderr
    note.unlink()


def _belongs_to_a_dead(path: Path) -> bool:
    return not Path("/proc", path.parent.name.partition("-")[0]).exists()
