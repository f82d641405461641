"""After an apply: how long Batch is waited for."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.aws import batch
from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller
from gpu_ami.deploy import wait
from gpu_ami.deploy.wait import OutcomeUnknownError
from gpu_ami.errors import TerraformError
from tests.support.environments import environment


class _Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def _wait(monkeypatch: pytest.MonkeyPatch, *statuses: str, limit_s: float = 30 * 60) -> tuple[list[str], _Clock]:
    left, clock = list(statuses), _Clock()
    notes: list[str] = []

    def environments(_caller: Caller, _names: Any) -> list[batch.Environment]:
        return [environment(left.pop(0) if len(left) > 1 else left[0])]

    monkeypatch.setattr(batch, "environments", environments)
    wait.wait_until_ended(
        Caller(Access(region="r"), "r"),
        ["gpu"],
        note=notes.append,
        poll_s=10,
        limit_s=limit_s,
        clock=lambda: clock.now,
        sleep=clock.sleep,
    )
    return notes, clock


@pytest.mark.parametrize("end", ["VALID", "INVALID"])
def test_it_waits_until_batch_has_decided(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """An update takes minutes; each poll is noted."""
    notes, clock = _wait(monkeypatch, "UPDATING", "UPDATING", end)

    assert notes == ["gpu is UPDATING", "gpu is UPDATING"]
    assert clock.now == 20


def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch goes on by itself; the line says where to look."""
    with pytest.raises(TerraformError, match=r"still UPDATING after 30 m 00 s.*invoke status"):
        _wait(monkeypatch, "UPDATING")


def test_without_time_it_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has ended by then is seen."""
    notes, _ = _wait(monkeypatch, "VALID", limit_s=0)
    assert notes == []

    with pytest.raises(OutcomeUnknownError, match="still UPDATING"):
        _wait(monkeypatch, "UPDATING", limit_s=0)


@pytest.mark.parametrize(
    ("more", "minutes"),
    [({}, 60), ({"timeout_minutes": 360}, 390), ({"timeout_minutes": 360, "terminates_jobs": True}, 30)],
)
def test_it_waits_as_long_as_the_environment_lets_jobs_run(more: dict[str, Any], minutes: int) -> None:
    """And half an hour for Batch's own work; an update that ends jobs at once waits for none."""
    assert wait.allowed_s(environment("UPDATING", **more)) == minutes * 60
