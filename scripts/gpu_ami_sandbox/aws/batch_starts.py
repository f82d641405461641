"""Cold starts through Batch: a job waits, a host comes up, a task runs on it, lines are logged, the job ends.

Who gets one: a job whose command is the probe of a bench. Others run from their submission until they are terminated;
nobody knows how long they take. The moments that AWS's answers show are those of a real start, minutes apart and so
ahead of this machine's clock; what happens comes `HASTE` times as fast. All moments count from the submission.

Shapes and reasons: Batch's API reference and its guide ("Jobs stuck in a RUNNABLE status", "Job timeouts"), ECS's and
CloudWatch Logs' references. While its first attempt runs a job has none in ``attempts`` (sample events of Batch's
guide). How long Batch keeps an idle host is not documented: here as long as its environment.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from moto.batch.models import batch_backends
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import StateReason
from moto.logs.models import LogEvent

from gpu_ami_sandbox.aws import batch_amis as amis
from gpu_ami_sandbox.aws import batch_hosts as hosts
from gpu_ami_sandbox.aws import clock
from gpu_ami_sandbox.aws.batch_environments import Host, end_host, fleet, number_of, remove_deleted, standing, status_of
from gpu_ami_sandbox.aws.batch_faults import slowness_of
from gpu_ami_sandbox.aws.batch_task_rows import TaskRow
from gpu_ami_sandbox.aws.cold_starts import MODELS_BYTES, Timeline, Way, before_launch, timeline

# The seconds of a start pass so many times as fast as they do on AWS.
HASTE = 150.0
_RUNNABLE_S = 1.0
# Batch says why the head of a queue is stuck only after a while; a group tries again.
_STUCK_S, _AGAIN_S = 180.0, 60.0
_SHIPPED_S, _LATE_S = 2.0, 300.0
_SECOND_HOST_S = 15.0
_OLD_HOST_S = 900.0
_PROBE_S = 0.03
# What a host's system keeps of its memory.
_MEMORY = 0.96
_NO_CAPACITY = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
_JOB_TOO_LARGE = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"
_ENVIRONMENT_TOO_SMALL = "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"
_REASONS = {
    _NO_CAPACITY: "Service cannot fulfill the capacity requested for instance type [{type}]",
    _JOB_TOO_LARGE: (
        "The job resource requirement (vCPU/memory/GPU) is higher than that can be met by the CE(s) attached to the "
        "job queue."
    ),
    _ENVIRONMENT_TOO_SMALL: "CE(s) associated with the job queue cannot meet the job's minimum vCPU requirement.",
}
_INVALID = "ACTION_REQUIRED - CE(s) associated with the job queue are invalid."
_OVER = ("SUCCEEDED", "FAILED")
_EXITED = "Essential container in task exited"


def is_probe(command: Sequence[str]) -> bool:
    """Return whether *command* is the probe of a bench: Python source with the mark, and settings as a JSON object."""
    if len(command) < 4 or command[1] != "-c" or "gpu_ami_bench" not in command[2]:
        return False
    try:
        return isinstance(json.loads(command[3]), dict)
    except ValueError:
        return False


def begin(job: Any) -> ColdStart:
    """Let *job* wait for a host of its own."""
    start = ColdStart(job)
    vars(job.backend).setdefault("sandbox_starts", []).append(start)
    return start


def advance_all() -> None:
    """Bring every account up to date: what is due happens, in its order."""
    for regions in list(batch_backends.values()):
        for backend in list(regions.values()):
            _advance(backend)


def _advance(backend: Any) -> None:
    starts: list[ColdStart] = vars(backend).get("sandbox_starts", [])
    for start in starts:
        start.look_at_hosts()
    now = clock.seconds()
    while (due := min(starts, key=lambda start: start.due, default=None)) is not None and due.due <= now:
        due.step()
    remove_deleted(backend)


class ColdStart:
    """The start of one job, from its submission to its end.

    Attributes:
        job: moto's job; its status and times are set here.
        task: Its task; None before it is placed.
        stream: The name of its log's stream; empty before it runs.
    """

    def __init__(self, job: Any) -> None:
        self.job = job
        self.task: TaskRow | None = None
        self.stream = ""
        self._backend = job.backend
        self._environment = job.job_queue.environments[0]
        self._faults = amis.faults_on(self._backend, self._environment)
        self._began = clock.seconds()
        self._host: Host | None = None
        self._timeline: Timeline | None = None
        self._boot = 0.0
        self._now: float | None = None
        self._numbers = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._at(_RUNNABLE_S, self._become_runnable)

    # --- time

    @property
    def due(self) -> float:
        """When the next thing happens, in clock seconds; infinity when nothing does."""
        return self._began + self._agenda[0][0] / HASTE if self._agenda else float("inf")

    def step(self) -> None:
        """Let the next thing happen."""
        self._now, _, action = heapq.heappop(self._agenda)
        try:
            action()
        finally:
            self._now = None

    def _at(self, offset: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (offset, next(self._numbers), action))

    def _offset(self) -> float:
        """Return the seconds since the submission: of what happens now, or as far as it has come."""
        return (clock.seconds() - self._began) * HASTE if self._now is None else self._now

    def _time(self, offset: float | None = None) -> datetime:
        created: datetime = self.job.job_created_at
        return created + timedelta(seconds=self._offset() if offset is None else offset)

    # --- waiting for a host

    @property
    def is_over(self) -> bool:
        """Whether the job has ended."""
        return self.job.status in _OVER

    def _become_runnable(self) -> None:
        if self.is_over:
            return
        self.job.status = "RUNNABLE"
        if reason := self._misfit():
            self._at(_STUCK_S, lambda: self._stick(reason))
            return
        asked, launched = before_launch(self.job.job_id)
        self._at(asked, lambda: self._ask(launched - asked))

    def _misfit(self) -> str:
        """Return why no host could ever run the job; empty when one could."""
        if "misconfiguration" in self._faults:
            return _JOB_TOO_LARGE
        resources = self._environment.compute_resources
        kind = INSTANCE_TYPES.get(resources["instanceTypes"][0])
        vcpus, memory_mib, gpus = self.job.needs()
        if vcpus > int(resources["maxvCpus"]):
            return _ENVIRONMENT_TOO_SMALL
        if kind is None:
            return ""
        cards = sum(int(card["Count"]) for card in kind.get("GpuInfo", {}).get("Gpus", []))
        has = (int(kind["VCpuInfo"]["DefaultVCpus"]), int(kind["MemoryInfo"]["SizeInMiB"]) * _MEMORY, cards)
        return _JOB_TOO_LARGE if vcpus > has[0] or memory_mib > has[1] or gpus > has[2] else ""

    def _ask(self, wait_s: float) -> None:
        if self.is_over:
            return
        if status_of(self._environment)[0] == "INVALID":
            self._say(_INVALID)
        if status_of(self._environment)[0] != "VALID" or self._environment.state != "ENABLED":
            self._at(self._offset() + _AGAIN_S, lambda: self._ask(wait_s))
            return
        activity = hosts.ask(self._backend, self._environment, self._time())
        if "no-capacity" in self._faults:
            self._fail(activity, _insufficient(self._environment))
            self._at(self._offset() + _STUCK_S, lambda: self._stick(_NO_CAPACITY))
            return
        self._at(self._offset() + wait_s, lambda: self._launch(activity))

    def _fail(self, activity: dict[str, Any], why: str) -> None:
        hosts.settle(activity, self._time(), why)

    def _stick(self, reason: str) -> None:
        """Let the job be stuck at the head of its queue; the queue's time limit ends it."""
        if self.job.status != "RUNNABLE":
            return
        self._say(f"{reason} - {_REASONS[reason].format(type=self._environment.compute_resources['instanceTypes'][0])}")
        for limit in vars(self.job.job_queue).get("sandbox_time_limits", []):
            if limit["reason"] == reason and limit["state"] == "RUNNABLE":
                when = max(self._offset(), _RUNNABLE_S + float(limit["maxTimeSeconds"]))
                self._at(when, lambda: self._cancel(reason))

    def _say(self, reason: str) -> None:
        self.job.job_stopped_reason = reason

    def _cancel(self, reason: str) -> None:
        if self.job.status == "RUNNABLE":
            self.job.is_cancelled = True
            self._end(f"Canceled by JobStateTimeLimit action due to reason: {reason}", None)

    # --- the host

    def _launch(self, activity: dict[str, Any]) -> None:
        if self.is_over:
            hosts.settle(activity, self._time(), "The desired capacity was reduced before the launch.")
            return
        try:
            host = hosts.launch(self._backend, self._environment, activity, self._time(), self._faults)
        except amis.REFUSALS as refused:
            self._refused(activity, refused)
            return
        self._host, launched = host, self._offset()
        self._script(host, launched)
        if "second-host" in self._faults:
            self._at(launched + _SECOND_HOST_S, self._launch_second)

    def _refused(self, activity: dict[str, Any], refused: Exception) -> None:
        """Note a launch that EC2 refuses: what cannot work makes the environment invalid, the rest is tried again."""
        code = str(getattr(refused, "code", "") or getattr(refused, "error_type", "") or type(refused).__name__)
        why = str(getattr(refused, "message", "") or refused)
        self._fail(activity, f"{why} Launching EC2 instance failed.")
        if code.startswith(("Invalid", "Missing", "Unauthorized")):
            standing(self._environment).wrong = f"CLIENT_ERROR - {code}: {why}"
        self._at(self._offset() + _AGAIN_S, lambda: self._ask(2.5))

    def _script(self, host: Host, launched: float) -> None:
        """Say what comes when, now that it is known what the host is."""
        image, volume = self._backend.ec2_backend.amis[host.instance.image_id], hosts.root_volume(self._backend, host)
        rate = getattr(volume, "volume_initialization_rate", None)
        way = self._way(image, rate, is_restored=bool(getattr(volume, "fast_restored", False)))
        script = timeline(way, self.job.job_id, rate_mib_s=rate, factor=slowness_of(image))
        if "reused" in self._faults:
            script = self._on_an_old_host(host, script)
        self._timeline, self._boot = script, launched
        ready = launched + script.kernel_up + 4
        self._at(max(ready, launched), lambda: hosts.settle(host.activity, self._time(max(ready, launched))))
        if (after_s := hosts.switches_off_after_s(host)) is not None:
            self._at(ready + 20 + after_s, lambda: self._switch_off(host))
        self._at(max(launched + script.registered, launched), lambda: self._register(host, launched))
        self._at(launched + script.placed, self._place)

    def _way(self, image: Any, rate: int | None, *, is_restored: bool) -> Way:
        if "pulled" in self._faults or not amis.holds(image, self.digest):
            return "pulled"
        if rate:
            return "rated"
        return "restored" if is_restored else "lazy"

    def _on_an_old_host(self, host: Host, script: Timeline) -> Timeline:
        """Let the *host* have been there long before the job."""
        hosts.date(self._backend, host.instance, self._time(-_OLD_HOST_S))
        earlier, sooner = -self._offset() - _OLD_HOST_S, script.registered
        return Timeline(
            kernel_up=earlier + script.kernel_up,
            registered=earlier + script.registered,
            placed=script.placed - sooner,
            pull_started=None if script.pull_started is None else script.pull_started - sooner,
            pull_stopped=None if script.pull_stopped is None else script.pull_stopped - sooner,
            started=script.started - sooner,
            running=script.running - sooner,
            first_line=script.first_line - sooner,
            imports_done=script.imports_done - sooner,
            models_done=script.models_done - sooner,
            ended=script.ended - sooner,
        )

    def _register(self, host: Host, launched: float) -> None:
        if host.is_lost or self._timeline is None:
            return
        hosts.register(self._backend, self._environment, host, self._time(launched + self._timeline.registered))
        if "reused" in self._faults and host is self._host:
            old = TaskRow(self._backend, self._environment, host, self.job, self.digest, f"{self.job.job_id}/before")
            begun = launched + self._timeline.registered
            old.place(self._time(begun + 5))
            old.start(self._time(begun + 30), None)
            old.stop(self._time(begun + 300), 0, _EXITED)

    def _launch_second(self) -> None:
        activity = hosts.ask(self._backend, self._environment, self._time())
        try:
            second = hosts.launch(self._backend, self._environment, activity, self._time(), self._faults)
        except amis.REFUSALS as refused:
            self._fail(activity, str(refused))
            return
        launched = self._offset()
        self._at(launched + 18, lambda: hosts.settle(activity, self._time()))
        self._at(launched + 60, lambda: self._register(second, launched))

    # --- the task

    @property
    def digest(self) -> str:
        """The digest of the job's image."""
        return amis.digest_of(self._backend, self.job.image())

    def _place(self) -> None:
        if self.is_over or self._host is None or self._host.container is None or self._timeline is None:
            return
        self.job.status = "STARTING"
        self.job.job_stopped_reason = None
        digest = f"sha256:{'0' * 63}1" if "other-digest" in self._faults else self.digest
        self.task = TaskRow(self._backend, self._environment, self._host, self.job, digest, self.job.job_id)
        self.task.place(self._time())
        script, base = self._timeline, self._boot
        self._at(base + script.started, self._start)
        self._at(base + script.running, self._run)

    def _start(self) -> None:
        if self.is_over or self.task is None or self._timeline is None:
            return
        script, base = self._timeline, self._boot
        pull = None
        if script.pull_started is not None and script.pull_stopped is not None:
            pull = self._time(base + script.pull_started), self._time(base + script.pull_stopped)
        self.task.start(self._time(), pull)
        if "task-gone" in self._faults:
            self.task.forget()
        for offset, shipped, line in self._lines(pull):
            self._at(shipped, functools.partial(self._log, offset, shipped, line))
        if "hangs" not in self._faults:
            is_bad = "fails" in self._faults
            ended = base + (script.first_line + 3 if is_bad else script.ended)
            self._at(max(ended, base + script.running + 1), lambda: self._exit(int(is_bad)))

    def _run(self) -> None:
        if self.is_over or self.task is None:
            return
        self.job.status = "RUNNING"
        self.job.job_started_at = self._time()
        self.stream = f"{self.job.job_definition.name}/default/{self.task.id}"
        if (limit_s := self.job._get_attempt_duration()) is not None:
            self._at(self._offset() + float(limit_s), self._time_out)
        if "host-lost" in self._faults and self._host is not None:
            end_host(self._environment, self._host)

    def _exit(self, code: int) -> None:
        if not self.is_over:
            self._end(_EXITED, code)

    def _time_out(self) -> None:
        if not self.is_over:
            self._end("Job attempt duration exceeded timeout", 137)

    # --- what the probe says

    def _lines(self, pull: tuple[datetime, datetime] | None) -> list[tuple[float, float, dict[str, Any]]]:
        """Return the probe's lines, each with when it is said and when it has reached the log."""
        if "no-log" in self._faults or self._timeline is None or self.task is None or self._host is None:
            return []
        script, base = self._timeline, self._boot
        says = [(script.first_line, self._first_line(pull))]
        if "fails" in self._faults:
            says.append((script.first_line + 2, {"mark": "failed", "why": "ModuleNotFoundError: torch"}))
        elif "hangs" not in self._faults:
            read = 0 if script.pull_started is not None and "pulled" not in self._faults else MODELS_BYTES
            says.append((script.imports_done, {"mark": "imports_done"}))
            says.append((script.models_done, {"mark": "models_done", "models_bytes": read}))
        late = script.ended + _LATE_S if "late-log" in self._faults else 0.0
        rows = []
        for number, (offset, said) in enumerate(says, 1):
            moment = base + offset
            t = self._time(moment).timestamp()
            up = offset - script.kernel_up
            line = {"gpu_ami_bench": 1, **said, "t": round(t, 6), "up": round(up, 2)}
            line["probe_s"] = round(_PROBE_S * number, 4)
            rows.append((moment, base + max(offset + _SHIPPED_S, late), line))
        return rows

    def _first_line(self, pull: tuple[datetime, datetime] | None) -> dict[str, Any]:
        assert self.task is not None and self._host is not None  # noqa: PT018 - `_lines` has asked
        began, ended = (iso(moment) for moment in pull) if pull else (None, None)
        placed, started = self.task.row["createdAt"], self.task.row["startedAt"]
        times = {"pull_started_at": began, "pull_stopped_at": ended, "created_at": iso(placed)}
        return {
            "mark": "first_line",
            "instance_id": self._host.instance.id,
            "boot_id": str(number_of(self._host.instance.id, "boot")),
            "task": times | {"started_at": iso(started)},
        }

    def _log(self, offset: float, shipped: float, line: dict[str, Any]) -> None:
        """Put a line into the log; what a job has said before it is ended arrives all the same."""
        if self.is_over and self._time(offset) > self.job.job_stopped_at:
            return
        logs, group = self._backend.logs_backend, self.job.log_group()
        logs.ensure_log_group(group)
        logs.ensure_log_stream(group, self.stream)
        event = {"timestamp": _ms(self._time(offset)), "message": json.dumps(line)}
        logs.groups[group].streams[self.stream].events.append(LogEvent(_ms(self._time(shipped)), event))

    # --- the end

    def terminate(self, reason: str) -> None:
        """End the job as TerminateJob and CancelJob do."""
        if not self.is_over:
            self._end(reason, None if self.task is None else 137)

    def look_at_hosts(self) -> None:
        """Notice a host that has ended: whoever terminated it."""
        for host in fleet(self._environment).hosts:
            if host.is_lost or host.instance.state not in ("shutting-down", "terminated"):
                continue
            host.is_lost = True
            end_host(self._environment, host)
            mine = vars(self._backend)["sandbox_starts"]
            for start in (start for start in mine if start._host is host and not start.is_over):
                start._end(f"Host EC2 (instance {host.instance.id}) terminated.", None)

    def _switch_off(self, host: Host) -> None:
        if not host.is_lost:
            end_host(self._environment, host)
            why = "Client.InstanceInitiatedShutdown: Instance initiated shutdown"
            host.instance.state_reason = StateReason(why, "Client.InstanceInitiatedShutdown")
            self.look_at_hosts()

    def _end(self, reason: str, exit_code: int | None) -> None:
        self.job.end(self._time(), reason, exit_code)
        if self.task is not None:
            self.task.stop(self._time(), exit_code, reason)


def iso(moment: datetime) -> str:
    """Return *moment* as ECS's metadata shows it."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _insufficient(environment: Any) -> str:
    kind = environment.compute_resources["instanceTypes"][0]
    return (
        f"We currently do not have sufficient {kind} capacity in the Availability Zone you requested. Our system will "
        "be working on provisioning additional capacity. Launching EC2 instance failed."
    )
