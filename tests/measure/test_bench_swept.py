"""A bench that was killed: what is left is another machine's to sweep, once its time is over by AWS's clock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gpu_ami.aws.caller import Caller
from gpu_ami.cleanup import sweep, sweep_planner
from gpu_ami.measure import bench_decision, bench_plan, teardown
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from tests.measure.conftest import Time
from tests.measure.test_bench import Benching, baked, benching, go, left, live, passing
from tests.support.account import REGION, World

__all__ = ["baked", "benching", "live", "passing"]


class _Killed(BaseException):
    """What nobody catches."""


@pytest.mark.parametrize("after_s", [0.0, 400.0], ids=["while it makes things", "while hosts run"])
def test_a_killed_bench_is_swept_when_its_time_is_over(
    here: World,
    passing: Time,
    live: str,
    baked: SandboxAmi,
    benching: Benching,
    monkeypatch: pytest.MonkeyPatch,
    after_s: float,
) -> None:
    """Not a minute before: it may be at work. Then nothing of it is there, hosts and volumes included."""

    def kill(now: float) -> None:
        if now >= after_s:
            raise _Killed

    with monkeypatch.context() as killed:
        killed.setattr(teardown, "everything", lambda *_arguments, **_more: [])
        passing.waited = kill
        with pytest.raises(_Killed):
            go(benching(), passing, baked)
    passing.waited = lambda _now: None
    there = left(here)
    assert there

    # The next bench takes network and template from production, whatever this one has left.
    early = benching()
    assert bench_decision._live(early.run, Caller(here.access, REGION)).environment.name == live
    sweep.run(early.run, sweep.Request(yes=True), sleep=passing.sleep)
    assert early.document["results"] == []
    assert left(here) == there

    _pass(monkeypatch, passing, timedelta(minutes=bench_plan.may_take_min(1)))
    late = benching()
    sweep.run(late.run, sweep.Request(yes=True), sleep=passing.sleep)

    assert {result["status"] for result in late.document["results"]} == {"deleted"}
    assert left(here) == []


def _pass(monkeypatch: pytest.MonkeyPatch, passing: Time, span: timedelta) -> None:
    """Let time pass for AWS: on its hosts, and in the date of its answers."""
    passing.now += span.total_seconds()
    note = Caller._note_time

    def later(self: Caller, answer: Any) -> None:
        before = self.aws_time
        note(self, answer)
        if before is None and self.aws_time is not None:
            self.aws_time += span

    monkeypatch.setattr(Caller, "_note_time", later)
    # This machine's clock would be called wrong.
    monkeypatch.setattr(sweep_planner, "clock_reports", lambda *_times: [])
