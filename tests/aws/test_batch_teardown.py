"""Queues and environments on their way out, against a Batch that refuses and lags as AWS's does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from gpu_ami.aws.batch_teardown import ENVIRONMENT, QUEUE, Piece, tear_down
from gpu_ami.aws.caller import RefusedError, UnansweredError
from tests.support.clock import Clock
from tests.support.fake_caller import FakeCaller

OURS = {"gpu-ami:pipeline": "gpu-ami-pipeline", "gpu-ami:family": "gpu-batch", "gpu-ami:run": "bench-1"}
NAME = "gpu-ami-bench-0a1b2c-1-rated"
PIECES = [Piece(kind=QUEUE, name=NAME, tags=OURS), Piece(kind=ENVIRONMENT, name=NAME, tags=OURS)]
STALE = RefusedError("Cannot delete, found existing JobQueue relationship", "ClientException")
DENIED = RefusedError("no", "AccessDeniedException")


@dataclass
class Batch:
    """A Batch with one queue and one environment of one name, which changes a state one look after it is told to.

    Attributes:
        clock: The time that its callers wait by.
        refusals: By operation, what it answers first.
        hangs: What never leaves ``DELETING``.
    """

    clock: Clock = field(default_factory=Clock)
    refusals: dict[str, list[Exception]] = field(default_factory=dict)
    hangs: str = ""
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=lambda: {"a": "RUNNABLE", "b": "RUNNING", "c": "SUCCEEDED"})
    acts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with both there, enabled."""
        there = {"state": "ENABLED", "status": "VALID", "tags": OURS, "next": []}
        order = [{"order": 1, "computeEnvironment": f"arn:aws:batch:r:1:compute-environment/{NAME}"}]
        self.rows.setdefault(QUEUE, {"jobQueueName": NAME, "computeEnvironmentOrder": order} | there)
        self.rows.setdefault(ENVIRONMENT, {"computeEnvironmentName": NAME} | there | {"next": []})

    def tear_down(self, pieces: list[Piece] = PIECES, **more: Any) -> Mapping[tuple[str, str], str]:
        """Tear down."""
        return tear_down(self.caller(), pieces, clock=self.clock, sleep=self.clock.sleep, **more)

    def caller(self) -> FakeCaller:
        """Return a caller of it."""
        return FakeCaller(
            {
                "describe_job_queues": lambda **_: self._look(QUEUE, "jobQueues"),
                "describe_compute_environments": lambda **_: self._look(ENVIRONMENT, "computeEnvironments"),
                "list_jobs": lambda **asked: self._list(asked),
                "terminate_job": lambda jobId, reason: self._act(f"terminate {jobId}"),  # noqa: N803
                "update_job_queue": lambda **_: self._act("disable job-queue"),
                "delete_job_queue": lambda **_: self._act("delete job-queue"),
                "update_compute_environment": lambda **_: self._act("disable compute-environment"),
                "delete_compute_environment": lambda **_: self._act("delete compute-environment"),
            }
        )

    def _look(self, kind: str, key: str) -> dict[str, Any]:
        self._refuse(f"describe {kind}")
        row = self.rows.get(kind)
        if row is None:
            return {key: []}
        shown = {name: value for name, value in row.items() if name != "next"}
        if row["next"]:
            row.update(row["next"].pop(0))
        if row["status"] == "gone":
            del self.rows[kind]
        return {key: [shown]}

    def _list(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        self._refuse("list jobs")
        # Without a filter Batch would list running jobs alone.
        return {"jobSummaryList": [{"jobId": k, "status": v} for k, v in self.jobs.items() if asked["filters"]]}

    def _act(self, what: str) -> dict[str, Any]:
        self._refuse(what)
        self.acts.append(what)
        verb, _, kind = what.partition(" ")
        if verb == "disable":
            status = self.rows[kind]["status"]
            assert status in ("VALID", "INVALID")
            self.rows[kind].update(status="UPDATING", next=[{"state": "DISABLED", "status": status}])
        elif verb == "delete":
            assert self.rows[kind]["state"] == "DISABLED"
            assert kind == QUEUE or QUEUE not in self.rows
            ends = [] if self.hangs == kind else [{"status": "gone"}]
            self.rows[kind].update(status="DELETING", next=ends)
        return {}

    def _refuse(self, what: str) -> None:
        if waiting := self.refusals.get(what):
            raise waiting.pop(0) if len(waiting) > 1 or waiting[0] is STALE else waiting[0]


ORDER = [
    *("terminate a", "terminate b", "disable job-queue", "delete job-queue"),
    *("disable compute-environment", "delete compute-environment"),
]


@pytest.mark.parametrize("status", ["VALID", "INVALID"])
def test_everything_goes_in_the_order_that_batch_documents(status: str) -> None:
    """An environment without capacity or role turns INVALID; it must not stay for that."""
    batch = Batch()
    batch.rows[ENVIRONMENT]["status"] = status

    assert batch.tear_down() == {}

    assert batch.acts == ORDER
    assert batch.rows == {}


def test_a_relationship_that_batch_still_sees_is_waited_out() -> None:
    """The queue is gone and the environment's delete refused: whoever gave up here would leave it for good."""
    batch = Batch(refusals={"delete compute-environment": [STALE]})

    assert batch.tear_down() == {}
    assert batch.acts == ORDER


def test_a_network_that_fails_for_a_while_is_waited_out() -> None:
    """A teardown that stops at the first lost answer leaves a host that costs by the second."""
    lost = [UnansweredError("no answer"), UnansweredError("no answer"), STALE]
    batch = Batch(refusals={"describe job-queue": list(lost), "disable compute-environment": list(lost)})

    assert batch.tear_down() == {}
    assert batch.rows == {}


@pytest.mark.parametrize("lacking", OURS)
def test_what_lacks_one_tag_is_somebody_elses(lacking: str) -> None:
    """Production's queue has the family's tag, too: nothing of it may be touched, no job ended."""
    batch = Batch()
    batch.rows[QUEUE]["tags"] = {key: value for key, value in OURS.items() if key != lacking}
    batch.rows[ENVIRONMENT]["tags"] = dict(OURS, **{lacking: "other"})

    failed = batch.tear_down()

    assert set(failed) == {piece.key for piece in PIECES}
    assert all("somebody else's" in why for why in failed.values())
    assert batch.acts == []


@pytest.mark.parametrize("code", ["AccessDeniedException", "ExpiredTokenException"])
def test_who_may_not_delete_a_queue_still_stops_its_environment(code: str) -> None:
    """Nobody's second try is better; the disabled environment starts no more hosts, and the reason is said at once."""
    batch = Batch(refusals={"delete job-queue": [RefusedError("may not", code)]})

    failed = batch.tear_down()

    assert failed[QUEUE, NAME] == "may not"
    assert f"job queue {NAME}, which names it" in failed[ENVIRONMENT, NAME]
    assert batch.rows[ENVIRONMENT]["state"] == "DISABLED"
    assert batch.clock.now < 120


def test_who_may_not_list_jobs_removes_the_queue_all_the_same() -> None:
    """Batch ends a queue's jobs when it deletes the queue."""
    batch = Batch(refusals={"list jobs": [DENIED]})

    assert batch.tear_down() == {}
    assert batch.acts == ORDER[2:]


def test_what_hangs_is_given_up_with_its_state() -> None:
    """An environment whose service role went before it stays in DELETING for ever."""
    batch = Batch(hangs=ENVIRONMENT)

    ((key, why),) = batch.tear_down(within_s=600).items()

    assert key == (ENVIRONMENT, NAME)
    assert "DISABLED and DELETING after 10 m 00 s" in why
    assert QUEUE not in batch.rows


def test_a_refusal_that_never_ends_is_told() -> None:
    """Somebody's queue may really name the environment: its message is what helps."""
    batch = Batch(refusals={"disable compute-environment": [RefusedError("being modified", "ClientException")]})

    (why,) = batch.tear_down().values()

    assert "being modified" in why
    assert batch.clock.now == pytest.approx(1500, abs=10)


def test_a_piece_that_batch_does_not_know_yet_is_waited_for() -> None:
    """Ctrl-C while CreateComputeEnvironment is under way: it shows up a moment after the teardown began."""
    batch = Batch()
    del batch.rows[QUEUE]
    row = batch.rows.pop(ENVIRONMENT)
    late = Clock()

    def sleep(seconds: float) -> None:
        late.sleep(seconds)
        if late.now == 20:
            batch.rows[ENVIRONMENT] = row

    assert tear_down(batch.caller(), PIECES[1:], known_within_s=30, clock=late, sleep=sleep) == {}
    assert batch.acts == ORDER[-2:]


def test_what_batch_calls_deleted_is_gone() -> None:
    """It shows such a row for some time; nothing is called for it any more."""
    batch = Batch()
    batch.rows[ENVIRONMENT].update(status="DELETED")

    assert batch.tear_down(PIECES[1:]) == {}
    assert batch.acts == []
