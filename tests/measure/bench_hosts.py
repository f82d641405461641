"""Hosts of a bench, made up: whole ones, and what is wrong with one of them said by the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from gpu_ami.measure.bench_gate import Limits
from gpu_ami.measure.bench_report import Result
from gpu_ami.measure.timeline import Arm, Clock, Expected, Facts, Host, Moment

BAKED, BASE, LIVE = "ami-0123456789abcdef0", "ami-0aaaaaaaaaaaaaaaa", "ami-0bbbbbbbbbbbbbbbb"
DIGEST = "sha256:" + "a" * 64
T0 = 1_796_000_000.0
CLOCKS: Mapping[str, Clock] = {
    "submitted": "batch",
    "asked": "autoscaling",
    "launched": "ec2",
    "kernel_up": "host",
    "registered": "ecs",
    "placed": "ecs",
    "pull_started": "host",
    "pull_stopped": "host",
    "started": "ecs",
    "running": "batch",
    "first_line": "host",
    "imports_done": "host",
    "models_done": "host",
    "ended": "batch",
}
# Seconds after the submission.
STOCK = {
    "submitted": 0.0,
    "asked": 12.0,
    "launched": 20.0,
    "kernel_up": 38.0,
    "registered": 90.0,
    "placed": 92.0,
    "pull_started": 93.25,
    "pull_stopped": 693.0,
    "started": 699.0,
    "running": 701.0,
    "first_line": 700.0,
    "imports_done": 760.0,
    "models_done": 800.0,
    "ended": 802.0,
}
RATED = {
    "submitted": 0.0,
    "asked": 12.0,
    "launched": 20.0,
    "kernel_up": 38.0,
    "registered": 98.0,
    "placed": 100.0,
    "started": 105.0,
    "running": 107.0,
    "first_line": 106.0,
    "imports_done": 160.0,
    "models_done": 200.0,
    "ended": 202.0,
}
_ARMS: Mapping[Arm, tuple[str, int | None]] = {
    "stock": (BASE, None),
    "plain": (BAKED, None),
    "rated": (BAKED, 300),
    "live": (LIVE, 300),
}
EXPECTED: Mapping[Arm, Expected] = {
    arm: Expected(ami_id=ami, is_baked=arm != "stock", digest=DIGEST, rate_mib_s=rate, instance_type="g5.xlarge")
    for arm, (ami, rate) in _ARMS.items()
}


def host(arm: Arm = "rated", round: int = 1, *, total_s: float | None = None, **facts: Any) -> Host:
    """Return a fresh, whole host of *arm*.

    Args:
        arm: The arm.
        round: The round.
        total_s: When its models are ready; all else is as much later or earlier.
        facts: What is other than on such a host.
    """
    seconds = dict(STOCK if arm == "stock" else RATED)
    late = 1.0 if total_s is None else total_s / seconds["models_done"]
    expected = EXPECTED[arm]
    number = f"{[*EXPECTED].index(arm)}{round}"
    known: dict[str, Any] = {
        "job_id": f"job-{number}",
        "attempts": 1,
        "exit_code": 0,
        "status": "SUCCEEDED",
        "instance_id": f"i-0{number:0>16}",
        "said_instance_id": f"i-0{number:0>16}",
        "boot_id": f"boot-{number}",
        "instances": (f"i-0{number:0>16}",),
        "tasks": (f"task-{number}",),
        "instance_type": "g5.xlarge",
        "zone": "ap-northeast-2a",
        "ami_id": expected.ami_id,
        "digest": DIGEST,
        "pulled": not expected.is_baked,
        "rate_mib_s": expected.rate_mib_s,
        "volume_kind": "provisioned-rate" if expected.rate_mib_s else "default",
        "volume_id": f"vol-0{number:0>16}",
        "copied_rate_mib_s": expected.rate_mib_s,
        "is_copy_read": True,
        # So that whole starts are compared; a stock AMI has none unless somebody puts them there.
        "models_bytes": 2_000_000_000,
        "group": "AWSBatch-gpu-ami-bench-0a1b2c-1-rated-asg-0123abcd-0000-4000-8000-000000000000",
        "has_task_metadata": True,
    }
    return Host(
        arm=arm,
        round=round,
        expected=expected,
        facts=Facts(**known | facts),
        moments={name: moment(name, T0 + 1000 * round + at * late) for name, at in seconds.items()},
    )


def never(one: Host, why: str) -> Host:
    """Return *one* as it is where no host came up for it."""
    return replace(one, trouble=why, facts=Facts(job_id=one.facts.job_id), moments={})


def moment(name: str, at: float | None, missing: str | None = None) -> Moment:
    """Return one moment."""
    return Moment(at=at, clock=CLOCKS[name], source=f"a source of {name}", resolution_s=0.001, missing=missing)


def moved(one: Host, **seconds: float | str) -> Host:
    """Return *one* with some moments at other seconds after its submission; a text is why one is missing."""
    changed = {
        name: moment(name, None, value) if isinstance(value, str) else moment(name, T0 + 1000 * one.round + value)
        for name, value in seconds.items()
    }
    return replace(one, moments={**one.moments, **changed})


def rounds(*totals: Mapping[Arm, float]) -> list[Host]:
    """Return whole hosts: of each round its arms with their totals, seconds."""
    return [
        host(arm, number, total_s=seconds)
        for number, arms in enumerate(totals, start=1)
        for arm, seconds in arms.items()
    ]


def result(hosts: Sequence[Host], **changed: Any) -> Result:
    """Return the result of a bench on AWS with *hosts*."""
    values: dict[str, Any] = {
        "run": "bench-20261130T120000Z-0a1b2c",
        "region": "ap-northeast-2",
        "account": "123456789012",
        "instance_type": "g5.xlarge",
        "ami_id": BAKED,
        "image_digest": DIGEST,
        "fingerprints": {"gpu-ami:fingerprint-scripts": "0123456789abcdef"},
        "has_models": True,
        "judged": "rated",
        "live_rate_mib_s": 300,
        "limits": Limits(),
        "hosts": hosts,
        "benched_at": "2026-11-30T12:30:00Z",
        "cost_usd": Decimal("1.2345"),
        "times_are_invented": False,
    }
    return Result(**values | changed)
