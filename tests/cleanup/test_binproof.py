"""The Recycle Bin is believed only after it kept something."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.aws.calls import RefusedError
from gpu_ami.cleanup.binproof import BinProof
from tests.aws.fakes import FakeCaller


class Time:
    """A clock that a sleep moves."""

    def __init__(self) -> None:
        """Begin at nought."""
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self.now += seconds


def _images(*ids: str) -> dict[str, Any]:
    return {"Images": [{"ImageId": each} for each in ids]}


def _snapshots(*ids: str) -> dict[str, Any]:
    return {"Snapshots": [{"SnapshotId": each} for each in ids]}


def _proof(images: list[Any], snapshots: list[Any], *, is_wanted: bool = True) -> tuple[BinProof, FakeCaller, Time]:
    caller = FakeCaller({"list_images_in_recycle_bin": images, "list_snapshots_in_recycle_bin": snapshots})
    time = Time()
    return (
        BinProof({"r": caller}, is_wanted=is_wanted, clock=lambda: time.now, sleep=time.sleep),
        caller,
        time,
    )


def test_a_bin_that_shows_all_of_it_is_believed() -> None:
    """One look is enough for the rest of the run."""
    proof, caller, _ = _proof([_images("ami-1", "ami-2")], [_snapshots("snap-1")])
    assert proof.is_due("r")

    proof.judge("r", ["ami-1"], ["snap-1"])

    assert not proof.is_due("r")
    assert proof.why_not("r") is None
    assert caller.calls == 2


def test_what_comes_late_is_waited_for() -> None:
    """EC2's lists lag a little behind its acts."""
    proof, _, time = _proof([_images(), _images(), _images("ami-1")], [_snapshots("snap-1")])

    proof.judge("r", ["ami-1"], ["snap-1"])

    assert proof.why_not("r") is None
    assert time.now == 10.0


@pytest.mark.parametrize(
    ("images", "snapshots", "lost"),
    [
        ([_images("ami-2")], [_snapshots("snap-1")], "does not have ami-1"),
        ([_images("ami-1")], [_snapshots()], "does not have snap-1"),
        ([RefusedError("ec2: no", "UnauthorizedOperation")], [_snapshots("snap-1")], "could not be looked into"),
    ],
)
def test_a_bin_without_it_is_not_believed(images: list[Any], snapshots: list[Any], lost: str) -> None:
    """A rule may say that it is available half an hour before it is."""
    proof, _, time = _proof(images, snapshots)

    proof.judge("r", ["ami-1"], ["snap-1"])

    assert lost in str(proof.why_not("r"))
    assert "--permanent" in str(proof.why_not("r"))
    assert time.now == 60.0


def test_who_gives_things_up_is_not_kept_waiting() -> None:
    """With --permanent the bin is nobody's business."""
    proof, _, _ = _proof([_images()], [_snapshots()], is_wanted=False)

    assert not proof.is_due("r")
    assert proof.why_not("r") is None
