"""An account with an AMI to verify, instances that answer as the test says, and time that goes as fast as it likes."""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from moto.iam.models import iam_backends

from gpu_ami.measure.verify import Clock
from gpu_ami_sandbox.aws import clock as sandbox_clock
from gpu_ami_sandbox.aws import run_command
from gpu_ami_sandbox.aws.ec2 import volumes
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.guest.script import Ran, Script
from tests.support.account import Task, World, task

ROOT = Path(__file__).parents[2]
IMAGE = "1.dkr.ecr.r.amazonaws.com/app@sha256:" + "a" * 64
CUDA = f"verify-gpu: CUDA contexts made: 1, in a container of {IMAGE}"
STARTUP = "Startup finished in 1.2s (kernel) + 20.1s (userspace) = 21.3s\n"
GOOD = {
    "verify-gpu": Ran(0, f"verify-gpu: driver 580.1\nverify-gpu: a container sees the GPU\n{CUDA}\n", ""),
    "systemd-analyze": Ran(0, STARTUP, ""),
    "gpu-ami-prewarm": Ran(0, "enabled\nprewarm: 16486 MiB of 9 files in 95.0 s\n", ""),
}


@dataclass
class Time:
    """The time of a test: it passes only while somebody waits.

    Attributes:
        now: Seconds that have passed.
        waited: Called at each wait, with the seconds that have passed by then.
    """

    now: float = 0.0
    waited: Callable[[float], object] = field(default=lambda _now: None)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.waited(self.now)

    @property
    def clock(self) -> Clock:
        """The time as whoever measures sees it."""
        return Clock(now=lambda: self.now, sleep=self.sleep)


@dataclass
class Host(Time):
    """What the instances of a test do, and its time.

    Attributes:
        answers: What a script leaves, by a word in it; None goes on for ever.
        scripts: What was run.
    """

    answers: dict[str, Ran | None] = field(default_factory=lambda: dict(GOOD))
    scripts: list[str] = field(default_factory=list)

    def start(self, region: str, instance_id: str, script: str) -> Script:
        """Run a script."""
        del region, instance_id
        self.scripts.append(script)
        future: concurrent.futures.Future[Ran] = concurrent.futures.Future()
        for word, ran in self.answers.items():
            if word in script and ran is not None:
                future.set_result(ran)
                break
        return Script(future)


@pytest.fixture
def host(here: World, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Instances of the account that run scripts."""
    made = Host()
    monkeypatch.setattr(sandbox_clock, "seconds", lambda: 1000.0 + made.now)
    monkeypatch.setattr(volumes, "HASTE", 1.0)
    monkeypatch.setattr(volumes, "LAG_S", 60.0)
    monkeypatch.setitem(run_command.RUNNERS, here.account, made)
    allow(here, ["ssm:UpdateInstanceInformation", "ssmmessages:*"])
    return made


def allow(here: World, actions: list[str]) -> None:
    """Make the profile that verified instances have, with rights to *actions*."""
    iam = iam_backends[here.account]["aws"]
    name = "gpu-ami-verify"
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    if name not in {role.name for role in iam.get_roles()}:
        iam.create_role(name, "{}", "/", None, "", [], "3600")
        iam.create_instance_profile(name, "/", [])
        iam.add_role_to_instance_profile(name, name)
    iam.put_role_policy(name, "ssm", json.dumps({"Version": "2012-10-17", "Statement": [statement]}))


@pytest.fixture
def ami(here: World) -> SandboxAmi:
    """A finished AMI of the family, as a build leaves it."""
    image = here.image(1)
    image.add_tags(
        {
            "gpu-ami:image": IMAGE,
            "gpu-ami:image-digest": IMAGE.rpartition("@")[2],
            "gpu-ami:fingerprint-scripts": "0123456789abcdef",
            "gpu-ami:handover": "pending",
        }
    )
    return image


@pytest.fixture
def repository_with_scripts(tmp_path: Path) -> Path:
    """A repository with the real script and a template without defaults that name a network."""
    scripts = tmp_path / "packer" / "scripts"
    scripts.mkdir(parents=True)
    (scripts / "verify-gpu.sh").write_text((ROOT / "packer" / "scripts" / "verify-gpu.sh").read_text())
    for name in ("variables.pkr.hcl", "aws-gpu-ami.pkr.hcl"):
        (tmp_path / "packer" / name).write_text((ROOT / "packer" / name).read_text())
    (tmp_path / "terraform").mkdir()
    return tmp_path


@pytest.fixture
def verifying(here: World, host: Host, repository_with_scripts: Path) -> Callable[..., Task]:
    """Make an invocation on the account."""
    del host

    def made(**settings: Any) -> Task:
        return task(here, repository_with_scripts, **settings)

    return made
