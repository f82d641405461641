"""Takes job queues and compute environments of AWS Batch away, in the one order in which Batch lets them go.

End the jobs, disable the queue, delete it, disable the environment, delete it: Batch deletes nothing that is enabled,
and no environment that a queue names (API reference, DeleteJobQueue and DeleteComputeEnvironment). botocore has no
waiters for any of it; the states waited for are those that Terraform's provider waits for. An environment that is
INVALID can be disabled and deleted like one that is VALID.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gpu_ami.aws.caller import Caller, RefusedError, making_sense
from gpu_ami.errors import AwsError
from gpu_ami.units import show_duration

QUEUE: Literal["job-queue"] = "job-queue"
ENVIRONMENT: Literal["compute-environment"] = "compute-environment"
# A queue and an environment may have one name: only both tell a piece.
Key = tuple[str, str]
# Disabling takes up to a minute and deleting some; what gives up has paid for a host meanwhile.
WITHIN_S = 1500.0
_EVERY_S = 10.0
_PAGE = 100
_SETTLED = ("VALID", "INVALID")
_GONE = "DELETED"
_ENDED_JOBS = ("SUCCEEDED", "FAILED")
# Without a filter ListJobs has jobs of one status only; with one, of each (its API reference).
_ALL_JOBS = [{"name": "JOB_NAME", "values": ["*"]}]
_REASON = "The bench is over."


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A queue or an environment that is to go.

    Attributes:
        kind: Which of the two.
        name: Its name.
        tags: The tags that it has to carry: without each of them it is somebody else's, and stays.
    """

    kind: Literal["job-queue", "compute-environment"]
    name: str
    tags: Mapping[str, str]

    @property
    def key(self) -> Key:
        """What tells it from all others of its region."""
        return self.kind, self.name


def tear_down(
    caller: Caller,
    pieces: Sequence[Piece],
    *,
    within_s: float = WITHIN_S,
    known_within_s: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    note: Callable[[str], None] = lambda _: None,
) -> dict[Key, str]:
    """Take *pieces* away, all at once, and wait until they are gone; one that is gone already is a success.

    Args:
        caller: Of the region in which they are.
        pieces: What is to go.
        within_s: How long to try, seconds.
        known_within_s: For how long a piece that Batch does not know may only be too new to be known, seconds.
        clock: Monotonic seconds.
        sleep: Waits some of them.
        note: Told what is waited for.

    Returns:
        Why each that is not gone is still there; empty when all went.
    """
    act = Teardown(caller, pieces, within_s=within_s, known_within_s=known_within_s, clock=clock)
    while not act.step():
        note(act.waiting)
        sleep(_EVERY_S)
    return act.failed


class Teardown:
    """Pieces on their way out; each `step` moves every one on by one call, so that nobody waits for another's.

    Args:
        caller: Of the region in which they are.
        pieces: What is to go.
        within_s: How long to try, seconds.
        known_within_s: For how long a piece that Batch does not know may only be too new to be known, seconds.
        clock: Monotonic seconds.

    Attributes:
        failed: Why each piece that is given up is still there.
        gone: The pieces that are gone.
    """

    def __init__(
        self,
        caller: Caller,
        pieces: Sequence[Piece],
        *,
        within_s: float = WITHIN_S,
        known_within_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._caller = caller.patient()
        self._left = {piece.key: piece for piece in pieces}
        self._within_s = within_s
        self._known_within_s = known_within_s
        self._clock = clock
        self._began = clock()
        self._seen: set[Key] = set()
        self._queues_of: dict[str, set[Key]] = {}
        self._states: dict[Key, str] = {}
        self._problems: dict[Key, str] = {}
        self.failed: dict[Key, str] = {}
        self.gone: list[Key] = []

    @property
    def waiting(self) -> str:
        """What is waited for, in words."""
        return ", ".join(f"{_what(key)} is {self._states.get(key, 'not known yet')}" for key in self._left)

    def step(self) -> bool:
        """Look at all that is left and move each of it on; return whether there is nothing left to do."""
        for kind, look in ((QUEUE, self._queues), (ENVIRONMENT, self._environments)):
            keys = [key for key in self._left if key[0] == kind]
            if not keys:
                continue
            try:
                rows = look([name for _, name in keys])
            except AwsError as exc:
                for key in keys:
                    self._trouble(key, exc)
                continue
            for key in keys:
                self._advance(key, rows.get(key[1]))
        if self._clock() - self._began >= self._within_s:
            for key in list(self._left):
                self._give_up(key, self._too_long(key))
        return not self._left

    def _queues(self, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        rows = _rows(self._caller, "describe_job_queues", "jobQueues", names)
        with making_sense(f"batch:DescribeJobQueues in {self._caller.region}"):
            found: dict[str, Mapping[str, Any]] = {str(row["jobQueueName"]): row for row in rows}
            for name, row in found.items():
                for item in row.get("computeEnvironmentOrder") or []:
                    environment = str(item["computeEnvironment"]).rpartition("/")[2]
                    self._queues_of.setdefault(environment, set()).add((QUEUE, name))
        return found

    def _environments(self, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        rows = _rows(self._caller, "describe_compute_environments", "computeEnvironments", names)
        with making_sense(f"batch:DescribeComputeEnvironments in {self._caller.region}"):
            return {str(row["computeEnvironmentName"]): row for row in rows}

    def _advance(self, key: Key, row: Mapping[str, Any] | None) -> None:
        if row is None or row.get("status") == _GONE:
            if key in self._seen or self._clock() - self._began >= self._known_within_s:
                del self._left[key]
                self.gone.append(key)
            return
        self._seen.add(key)
        status, state = str(row.get("status")), str(row.get("state"))
        self._states[key] = f"{state} and {status}"
        if status not in _SETTLED:
            return  # on its way somewhere; Batch refuses to change it meanwhile
        if not self._left[key].tags.items() <= (row.get("tags") or {}).items():
            self._give_up(key, "it does not carry the tags of what is to go: it is somebody else's and stays")
            return
        try:
            self._move_on(key, is_disabled=state == "DISABLED")
        except AwsError as exc:
            self._trouble(key, exc)

    def _move_on(self, key: Key, *, is_disabled: bool) -> None:
        kind, name = key
        queues = self._queues_of.get(name, set()) if kind == ENVIRONMENT else set()
        if queues & self._left.keys():
            return
        if not is_disabled:
            if kind == QUEUE:
                with contextlib.suppress(RefusedError):
                    self._end_jobs(name)
                self._caller.call("batch", "update_job_queue", jobQueue=name, state="DISABLED")
            else:
                self._caller.call("batch", "update_compute_environment", computeEnvironment=name, state="DISABLED")
        elif kind == QUEUE:
            self._caller.call("batch", "delete_job_queue", jobQueue=name)
        elif stuck := queues & self.failed.keys():
            self._give_up(key, f"it is disabled; {_what(min(stuck))}, which names it, is still there")
        else:
            self._caller.call("batch", "delete_compute_environment", computeEnvironment=name)

    def _end_jobs(self, queue: str) -> None:
        """Terminate what is in a queue; what cannot be, ends when the queue is deleted (API reference, DeleteJobQueue).

        CancelJob would say yes and do nothing to a job that starts or runs.
        """
        jobs = self._caller.pages(
            "batch", "list_jobs", "jobSummaryList", page_key="nextToken", jobQueue=queue, filters=_ALL_JOBS
        )
        with making_sense(f"batch:ListJobs in {self._caller.region}"):
            alive = [str(job["jobId"]) for job in jobs if job.get("status") not in _ENDED_JOBS]
        for job_id in alive:
            self._caller.call("batch", "terminate_job", jobId=job_id, reason=_REASON)

    def _trouble(self, key: Key, exc: AwsError) -> None:
        """Take note of a refusal, and try again later: Batch's view of what it has changed lags behind.

        "Cannot delete, found existing JobQueue relationship" still comes after the queue is gone (Terraform's
        provider for AWS, issues 2044 and 46925).
        """
        if isinstance(exc, RefusedError) and exc.is_hopeless:
            self._give_up(key, str(exc))
        else:
            self._problems[key] = str(exc)

    def _give_up(self, key: Key, why: str) -> None:
        if self._left.pop(key, None) is not None:
            self.failed[key] = why

    def _too_long(self, key: Key) -> str:
        state = self._states.get(key, "not known")
        problem = f": {self._problems[key]}" if key in self._problems else ""
        return f"it is {state} after {show_duration(self._clock() - self._began)} of waiting{problem}"


def _rows(caller: Caller, operation: str, key: str, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    for at in range(0, len(names), _PAGE):
        some: dict[str, Any] = {key: list(names[at : at + _PAGE])}
        yield from caller.pages("batch", operation, key, page_key="nextToken", **some)


def _what(key: Key) -> str:
    return f"{key[0].replace('-', ' ')} {key[1]}"
