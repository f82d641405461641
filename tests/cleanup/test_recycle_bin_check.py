"""The Recycle Bin is believed only after it kept something."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gpu_ami.aws.caller import RefusedError
from gpu_ami.aws.images import Image, Snapshot
from gpu_ami.aws.recycle_bin import IMAGE, SNAPSHOT, Kind, Rule
from gpu_ami.cleanup.plan_document import Bin
from gpu_ami.cleanup.recycle_bin_check import BinProof
from tests.support.fake_caller import FakeCaller


def _images(*ids: str) -> dict[str, Any]:
    return {"Images": [{"ImageId": image_id} for image_id in ids]}


def _snapshots(*ids: str) -> dict[str, Any]:
    return {"Snapshots": [{"SnapshotId": snapshot_id} for snapshot_id in ids]}


AMI = Image(image_id="ami-1", region="r", tags={"a": "1"}, snapshot_ids=("snap-1",))
SNAP = Snapshot(snapshot_id="snap-1", region="r", tags={"a": "1"})
OTHER = Snapshot(snapshot_id="snap-2", region="r", tags={"b": "1"})


def _rule(name: str, kind: Kind, key: str) -> Rule:
    return Rule(identifier=name, kind=kind, retention=timedelta(days=7), tags=((key, None),))


RULES = (_rule("i", IMAGE, "a"), _rule("s", SNAPSHOT, "a"), _rule("t", SNAPSHOT, "b"))


class _Scene:
    """A bin that shows what it is told to, and time that passes while somebody waits."""

    def __init__(self, images: list[Any], snapshots: list[Any], *, is_required: bool = True) -> None:
        self.caller = FakeCaller({"list_images_in_recycle_bin": images, "list_snapshots_in_recycle_bin": snapshots})
        self.now = 0.0
        self.proof = BinProof(
            {"r": self.caller}, {"r": Bin(RULES)}, is_required=is_required, clock=lambda: self.now, sleep=self._sleep
        )
        self.claims = {"ami-1": self.proof.of_image(AMI), "snap-1": self.proof.of_snapshot(SNAP)}

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def why_not(self) -> str | None:
        """Return why neither the AMI nor its snapshot's like may go."""
        return self.proof.why_not(self.claims.values())


def test_a_bin_that_shows_all_of_it_is_believed() -> None:
    """One query is enough for the rest of the run."""
    scene = _Scene([_images("ami-1", "ami-2")], [_snapshots("snap-1")])
    assert len(scene.proof.due(scene.claims.values())) == 2

    scene.proof.judge(scene.claims)
    scene.proof.judge(scene.claims)

    assert not scene.proof.due(scene.claims.values())
    assert scene.why_not() is None
    assert scene.caller.calls == 2


def test_what_comes_late_is_waited_for() -> None:
    """EC2's lists lag a little behind its acts."""
    scene = _Scene([_images(), _images(), _images("ami-1")], [_snapshots("snap-1")])

    scene.proof.judge(scene.claims)

    assert scene.why_not() is None
    assert scene.now == 10.0


@pytest.mark.parametrize(
    ("images", "snapshots", "lost"),
    [
        ([_images("ami-2")], [_snapshots("snap-1")], "does not have ami-1"),
        ([_images("ami-1")], [_snapshots()], "does not have snap-1"),
        ([RefusedError("ec2: no", "UnauthorizedOperation")], [_snapshots("snap-1")], "could not be listed"),
    ],
)
def test_a_bin_without_it_is_not_believed(images: list[Any], snapshots: list[Any], lost: str) -> None:
    """A rule may say that it is available half an hour before it is."""
    scene = _Scene(images, snapshots)

    scene.proof.judge(scene.claims)

    assert lost in str(scene.why_not())
    assert "--permanent" in str(scene.why_not())
    assert scene.now == 60.0


def test_each_rule_is_proved_by_itself() -> None:
    """That AMIs are kept says nothing of snapshots, nor one rule of another: an older one may work already."""
    scene = _Scene([_images("ami-1")], [_snapshots("snap-1")])
    other = scene.proof.of_snapshot(OTHER)

    scene.proof.judge({"ami-1": scene.claims["ami-1"]})
    assert scene.proof.due([*scene.claims.values(), other]) == {scene.claims["snap-1"], other}
    scene.proof.judge({"snap-1": scene.claims["snap-1"], "snap-2": other})

    assert scene.why_not() is None
    assert "snap-2" in str(scene.proof.why_not([other]))


def test_who_gives_things_up_is_not_kept_waiting() -> None:
    """With --permanent the bin is nobody's business."""
    scene = _Scene([_images()], [_snapshots()], is_required=False)

    scene.proof.judge(scene.claims)

    assert not scene.proof.due(scene.claims.values())
    assert scene.why_not() is None
    assert scene.caller.calls == 0
