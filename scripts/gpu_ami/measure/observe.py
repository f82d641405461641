"""Watches the hosts of a bench together, and reads of each what AWS and the probe say while it lives."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gpu_ami.aws import batch_resources, bench_hosts, ecs_tasks, launch_templates, log_lines, scaling
from gpu_ami.aws.batch_resources import Seen
from gpu_ami.aws.bench_hosts import Instance, RootDisk
from gpu_ami.aws.caller import Caller, RefusedError
from gpu_ami.aws.ecs_tasks import ContainerInstance, TaskSeen
from gpu_ami.errors import AwsError
from gpu_ami.measure import probe
from gpu_ami.measure.bench_making import Submitted
from gpu_ami.measure.probe import Probed
from gpu_ami.measure.timeline import NAMES, NO_LOG, SILENT, Facts, Host, Moment
from gpu_ami.measure.timeline import Clock as WhoseClock
from gpu_ami.measure.verify import Clock

EVERY_S = 15.0
# Calls a minute: so many for up to eight hosts, then so many for each.
_CALLS_A_MINUTE, _FEW_HOSTS, _CALLS_A_HOST = 40, 8, 5
# How often something that is not there yet is asked for once the job is over: streams and EBS's words come late.
_LOOKS, _KIND_LOOKS, _LINE_LOOKS = 4, 12, 28
# So many looks in a row may fail, and so often the last listing of instances is tried: then AWS cannot be asked.
_LOST_LOOKS, _LAST_LOOKS = 8, 4
# Of a job that waits: nothing that Batch does will help it.
_HOPELESS = ("MISCONFIGURATION:", "ACTION_REQUIRED")
_STARTED = ("STARTING", "RUNNING", "SUCCEEDED", "FAILED")
_NEVER = "its job never came so far"


@dataclass
class Watched:
    """What is known of one host so far.

    Attributes:
        made: Its place and its job.
        job: The job as Batch showed it last.
        container: Its container instance.
        task: Its task.
        tasks: All tasks of that container instance.
        instance: EC2's words on it.
        instances: All instances of its environment.
        disk: Its root volume; None where that was not seen.
        kind: How EBS fills it.
        copied_rate: The rate in Batch's own copy of the template; `has_copy` says whether that was read.
        has_copy: Whether the copy was read.
        asked: When Auto Scaling began to launch it.
        group_trouble: What Auto Scaling says of a launch that failed.
        probed: What the probe said.
        got: What needs no further look.
        why: Why something is not there, by its name.
        tries: How often each thing was asked for after the job was over.
        trouble: Why it never came to a measurement.
    """

    made: Submitted
    job: Seen | None = None
    container: ContainerInstance | None = None
    task: TaskSeen | None = None
    tasks: tuple[str, ...] = ()
    instance: Instance | None = None
    instances: tuple[str, ...] = ()
    disk: RootDisk | None = None
    kind: str = ""
    copied_rate: int | None = None
    has_copy: bool = False
    asked: float | None = None
    group_trouble: str = ""
    probed: Probed = field(default_factory=Probed)
    got: set[str] = field(default_factory=set)
    why: dict[str, str] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)
    trouble: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether Batch is done with the job, or there never was one."""
        return self.trouble is not None or (self.job is not None and self.job.is_over)

    @property
    def has_started(self) -> bool:
        """Whether the job came as far as a host."""
        return self.job is not None and self.job.status in _STARTED and bool(self.job.container_instance_arn)


@dataclass(frozen=True, kw_only=True)
class _Need:
    """One thing that is read of each host.

    Attributes:
        name: Its name.
        is_due: Whether it may be there.
        read: Reads it for some hosts at once; says by name of the host why it is not there, nothing where it is.
        at_once: Whether one call does for all hosts.
        calls: How many calls it takes, for all or for each.
        looks: How often it is asked for after the job is over.
    """

    name: str
    is_due: Callable[[Watched], bool]
    read: Callable[[Sequence[Watched]], Mapping[str, str]]
    at_once: bool = False
    calls: int = 1
    looks: int = _LOOKS


class Observer:
    """Watches the hosts of one wave.

    Args:
        caller: Calls the region.
        run_id: The run, by whose tag instances are found.
        log_group: Where the jobs' lines go; empty for Batch's own group.
        made: The hosts and their jobs.
    """

    def __init__(self, caller: Caller, run_id: str, log_group: str, made: Sequence[Submitted]) -> None:
        self._caller = caller
        self._run_id = run_id
        self._log_group = log_group or log_lines.DEFAULT_GROUP
        self.watched = [Watched(made=one, trouble=one.trouble) for one in made]
        self._lost = 0
        self._rows: Mapping[str, Instance] | AwsError = {}
        self._needs = (
            _Need(name="container", is_due=lambda one: one.has_started, read=self._containers),
            _Need(
                name="instance",
                is_due=lambda one: one.container is not None,
                read=self._instances,
                at_once=True,
                calls=0,  # what each look has seen already
            ),
            _Need(name="volume", is_due=_has_volume, read=self._volumes, at_once=True),
            _Need(name="kind", is_due=_has_volume, read=self._kinds, at_once=True, looks=_KIND_LOOKS),
            _Need(name="task", is_due=_has_task, read=self._tasks),
            _Need(name="copy", is_due=lambda one: one.instance is not None, read=self._copies),
            _Need(name="asked", is_due=lambda one: one.instance is not None, read=self._activities),
            _Need(
                name="tasks",
                is_due=lambda one: one.is_over and one.container is not None,
                read=self._all_tasks,
                calls=2,
            ),
            _Need(name="lines", is_due=_has_stream, read=self._lines, calls=2, looks=_LINE_LOOKS),
        )

    def watch(self, clock: Clock, within_s: float, note: Callable[[str], None]) -> None:
        """Watch until nothing more is to come of any host, or until time is over.

        Raises:
            AwsError: AWS cannot be asked any more.
        """
        began = clock.now()
        while True:
            self.look()
            if all(self._is_done(one) for one in self.watched):
                break
            if clock.now() - began > within_s:
                self._give_up(within_s)
                break
            note(self._far())
            clock.sleep(EVERY_S)
        self._see_instances_at_last(clock)

    def look(self) -> None:
        """Ask once for what may be there by now, and no more than the calls of one look.

        Raises:
            AwsError: AWS cannot be asked any more.
        """
        left = self._calls_a_look()
        left -= self._look_at_jobs()
        left -= self._see_instances()
        left -= sum(need.calls for need in self._needs if need.at_once and any(map(self._is_open(need), self.watched)))
        for need in self._needs:
            due = [one for one in self.watched if self._is_due(one, need)]
            if not due:
                continue
            if need.at_once:
                # A listing of all hosts is too cheap to wait for.
                self._ask(need, due)
                continue
            for one in due[: max(0, left // need.calls)]:
                self._ask(need, [one])
                left -= need.calls

    def hosts(self) -> list[Host]:
        """Return all that is known of each host."""
        return [host_of(one) for one in self.watched]

    def cut(self, why: str) -> None:
        """Note that whatever is not over was cut off."""
        for one in self.watched:
            if not self._is_done(one):
                one.trouble = one.trouble or why

    def _calls_a_look(self) -> int:
        alive = sum(not self._is_done(one) for one in self.watched)
        minute = _CALLS_A_MINUTE if alive <= _FEW_HOSTS else _CALLS_A_HOST * alive
        return math.floor(minute * EVERY_S / 60)

    def _look_at_jobs(self) -> int:
        ids = [one.made.job_id for one in self.watched if not one.is_over]
        if not ids:
            return 0
        try:
            found = batch_resources.jobs(self._caller.patient(), ids)
        except AwsError as exc:
            self._lost += 1
            if _is_hopeless(exc) or self._lost >= _LOST_LOOKS:
                raise
            return 1  # the hosts go on whether they are looked at or not
        self._lost = 0
        for one in self.watched:
            if seen := found.get(one.made.job_id):
                one.job = seen
                if seen.status == "RUNNABLE" and seen.reason.startswith(_HOPELESS):
                    one.trouble = f"its job cannot run: {seen.reason}"
                elif seen.is_over and not seen.container_instance_arn:
                    one.trouble = f"its job never ran: {seen.reason or 'Batch does not say why'}"
        return math.ceil(len(ids) / batch_resources.AT_ONCE)

    def _is_due(self, one: Watched, need: _Need) -> bool:
        if need.name in one.got or one.trouble is not None or not need.is_due(one):
            return False
        return one.tries[need.name] < need.looks

    def _is_open(self, need: _Need) -> Callable[[Watched], bool]:
        return lambda one: one.trouble is None and need.name not in one.got and one.tries[need.name] < need.looks

    def _is_done(self, one: Watched) -> bool:
        if one.trouble is not None:
            return True
        return one.is_over and not any(self._is_due(one, need) for need in self._needs)

    def _ask(self, need: _Need, due: Sequence[Watched]) -> None:
        try:
            missing = need.read(due)
        except AwsError as exc:
            if isinstance(exc, RefusedError) and exc.is_hopeless and not exc.is_denied:
                raise  # the credentials are over: nothing can be asked any more
            missing = {one.made.host.name: str(exc) for one in due}
        for one in due:
            why = missing.get(one.made.host.name)
            if why is None:
                one.got.add(need.name)
                one.why.pop(need.name, None)
                continue
            one.why[need.name] = why
            one.tries[need.name] += one.is_over

    def _containers(self, due: Sequence[Watched]) -> dict[str, str]:
        for one in due:
            assert one.job is not None
            arn = one.job.container_instance_arn
            one.container = ecs_tasks.container_instance(self._caller, one.made.cluster, arn)
            if one.container is None:
                return {one.made.host.name: "ECS no longer has its container instance"}
        return {}

    def _see_instances(self) -> int:
        """See which instances were started for each environment: one that ends is soon no longer listed."""
        try:
            self._rows = bench_hosts.instances(self._caller.patient(), self._run_id)
        except AwsError as exc:
            if isinstance(exc, RefusedError) and exc.is_hopeless and not exc.is_denied:
                raise
            self._rows = exc
            return 1
        for one in self.watched:
            mine = {key for key, row in self._rows.items() if row.name == one.made.host.name}
            one.instances = tuple(sorted(mine.union(one.instances)))
        return 1

    def _see_instances_at_last(self, clock: Clock) -> None:
        for number in range(_LAST_LOOKS):
            if number:
                clock.sleep(EVERY_S)
            self._see_instances()
            if not isinstance(self._rows, AwsError):
                return

    def _instances(self, due: Sequence[Watched]) -> dict[str, str]:
        found = self._rows
        if isinstance(found, AwsError):
            raise found
        missing = {}
        for one in due:
            assert one.container is not None
            one.instance = found.get(one.container.instance_id)
            if one.instance is None:
                missing[one.made.host.name] = f"EC2 does not show {one.container.instance_id} among the run's"
        return missing

    def _volumes(self, due: Sequence[Watched]) -> dict[str, str]:
        found = bench_hosts.disks(self._caller, [_volume(one) for one in due])
        for one in due:
            one.disk = found.get(_volume(one))
        return {one.made.host.name: "its volume went with it" for one in due if one.disk is None}

    def _kinds(self, due: Sequence[Watched]) -> dict[str, str]:
        found = bench_hosts.kinds(self._caller, [_volume(one) for one in due])
        for one in due:
            one.kind = found.get(_volume(one), "")
        return {one.made.host.name: "EBS says nothing of it" for one in due if not one.kind}

    def _tasks(self, due: Sequence[Watched]) -> dict[str, str]:
        (one,) = due
        assert one.job is not None
        seen = ecs_tasks.task(self._caller, one.made.cluster, one.job.task_arn)
        if seen is None:
            return {one.made.host.name: "ECS no longer has its task"}
        one.task = seen
        # Its times come with its change to RUNNING, which Batch may have heard of first.
        return {} if seen.started is not None else {one.made.host.name: seen.stopped_reason or "ECS shows no start"}

    def _copies(self, due: Sequence[Watched]) -> dict[str, str]:
        (one,) = due
        assert one.instance is not None
        if not one.instance.template_id:
            return {one.made.host.name: "its instance does not say which launch template it is from"}
        data = launch_templates.data(self._caller, one.instance.template_id, one.instance.template_version)
        if data is None:
            return {one.made.host.name: "Batch's launch template is not there"}
        one.has_copy, one.copied_rate = True, launch_templates.rate_of(data)
        return {}

    def _activities(self, due: Sequence[Watched]) -> dict[str, str]:
        (one,) = due
        assert one.instance is not None
        if not one.instance.group:
            return {one.made.host.name: "its instance does not say which group it is in"}
        found = scaling.activities(self._caller, one.instance.group)
        launch = scaling.launch_of(found, one.instance.instance_id)
        if launch is None:
            return {one.made.host.name: "Auto Scaling shows no launch of it"}
        one.asked = launch.started
        return {}

    def _all_tasks(self, due: Sequence[Watched]) -> dict[str, str]:
        (one,) = due
        assert one.container is not None
        assert one.job is not None
        listed = ecs_tasks.tasks_of(self._caller, one.made.cluster, one.container.arn)
        # ECS keeps stopped tasks for an hour only; its own has been there in any case.
        one.tasks = tuple(dict.fromkeys((*listed, one.job.task_arn)))
        return {}

    def _lines(self, due: Sequence[Watched]) -> dict[str, str]:
        (one,) = due
        assert one.job is not None
        found = log_lines.first_lines(self._caller, self._log_group, one.job.stream)
        if found is None:
            return {one.made.host.name: f"{self._log_group} has no stream {one.job.stream}"}
        one.probed = probe.parse(line.text for line in found)
        if one.probed.is_whole:
            return {}
        why = SILENT if not one.probed.at else f"the probe has said nothing after {list(one.probed.at)[-1]}"
        return {one.made.host.name: why}

    def _give_up(self, within_s: float) -> None:
        for one in self.watched:
            if not one.is_over:
                status = one.job.status if one.job else "not shown by Batch"
                said = f" ({one.job.reason})" if one.job and one.job.reason else ""
                one.trouble = f"its job was still {status} after {within_s / 60:.0f} min{said}"

    def _far(self) -> str:
        states = Counter((one.job.status if one.job else "SUBMITTED") for one in self.watched if not self._is_done(one))
        over = len(self.watched) - states.total()
        shown = ", ".join(f"{count} {status}" for status, count in sorted(states.items()))
        return f"{over} of {len(self.watched)} hosts are measured; {shown}"


def _is_hopeless(exc: AwsError) -> bool:
    return isinstance(exc, RefusedError) and exc.is_hopeless


def _has_volume(one: Watched) -> bool:
    return one.instance is not None and bool(one.instance.volume_id)


def _volume(one: Watched) -> str:
    return one.instance.volume_id if one.instance else ""


def _has_task(one: Watched) -> bool:
    # Not at STARTING: the pull is only known once it is over.
    return one.job is not None and bool(one.job.task_arn) and (one.job.status == "RUNNING" or one.is_over)


def _has_stream(one: Watched) -> bool:
    return one.is_over and one.job is not None and bool(one.job.stream)


def host_of(one: Watched) -> Host:
    """Return what is known of a host as the bench judges it."""
    job, task, row, said = one.job, one.task, one.instance, one.probed
    trouble = one.trouble
    if trouble is None and said.failed:
        trouble = f"the probe failed: {said.failed}"
    elif trouble is None and job is not None and job.status == "FAILED" and job.exit_code is None:
        trouble = f"its job failed: {job.reason or 'Batch does not say why'}"
    elif trouble is None and job is not None and job.exit_code == 0 and not said.at and "lines" in one.why:
        trouble = f"{NO_LOG}: {one.why['lines']}"  # and not that it said nothing of its boot
    facts = Facts(
        job_id=one.made.job_id,
        attempts=job.attempts if job and job.is_over else None,
        exit_code=job.exit_code if job else None,
        status=job.status if job else "",
        status_reason=(job.container_reason or job.reason) if job else "",
        instance_id=one.container.instance_id if one.container else "",
        said_instance_id=said.instance_id,
        boot_id=said.boot_id,
        instances=one.instances,
        tasks=one.tasks,
        instance_type=row.instance_type if row else "",
        zone=row.zone if row else "",
        ami_id=row.ami_id if row else "",
        digest=task.digest if task else "",
        pulled=_pulled(task),
        rate_mib_s=one.disk.rate_mib_s if one.disk else None,
        volume_kind=one.kind,
        volume_id=_volume(one) if one.disk else "",
        copied_rate_mib_s=one.copied_rate,
        is_copy_read=one.has_copy,
        models_bytes=said.models_bytes,
        models_skipped=said.models_skipped,
        group=row.group if row else "",
        is_fast_restored=one.disk.is_fast_restored if one.disk else None,
        has_task_metadata=said.knows_task if said.at else None,
    )
    plan = one.made.host
    return Host(
        arm=plan.arm.arm,
        round=plan.round,
        expected=plan.expected,
        facts=facts,
        moments=moments_of(one),
        trouble=trouble,
    )


def _pulled(task: TaskSeen | None) -> bool | None:
    """Return whether ECS noted a pull; None where its times are not known: they come with the task's start."""
    if task is None or (task.started is None and task.pull_started is None):
        return None
    return task.pull_started is not None


def moments_of(one: Watched) -> dict[str, Moment]:
    """Return the moments of a host, each with its clock; a missing one with the reason."""
    job, task, said = one.job, one.task, one.probed
    no_pull = "nothing was pulled" if task and task.started is not None else None

    def moment(at: float | None, clock: WhoseClock, source: str, resolution_s: float, *why: str | None) -> Moment:
        missing = None if at is not None else next((one for one in why if one), one.trouble or _NEVER)
        return Moment(at=at, clock=clock, source=source, resolution_s=resolution_s, missing=missing)

    no_task = one.why.get("task")
    no_line = one.why.get("lines") or (f"the probe failed: {said.failed}" if said.failed else None)
    found = {
        "submitted": moment(job.created if job else None, "batch", "batch:DescribeJobs createdAt", 0.001),
        "asked": moment(
            one.asked,
            "autoscaling",
            "autoscaling:DescribeScalingActivities StartTime",
            1.0,
            one.why.get("asked"),
        ),
        "launched": moment(
            one.instance.launched if one.instance else None,
            "ec2",
            "ec2:DescribeInstances LaunchTime",
            1.0,
            one.why.get("instance"),
        ),
        "kernel_up": moment(said.kernel_up, "host", "the probe: time less /proc/uptime", 0.01, no_line),
        "registered": moment(
            one.container.registered if one.container else None,
            "ecs",
            "ecs:DescribeContainerInstances registeredAt",
            0.001,
            one.why.get("container"),
        ),
        "placed": moment(task.created if task else None, "ecs", "ecs:DescribeTasks createdAt", 0.001, no_task),
        "pull_started": moment(
            task.pull_started if task else None, "host", "ecs:DescribeTasks pullStartedAt", 0.001, no_pull, no_task
        ),
        "pull_stopped": moment(
            task.pull_stopped if task else None, "host", "ecs:DescribeTasks pullStoppedAt", 0.001, no_pull, no_task
        ),
        "started": moment(task.started if task else None, "ecs", "ecs:DescribeTasks startedAt", 0.001, no_task),
        "running": moment(job.started if job else None, "batch", "batch:DescribeJobs startedAt", 0.001),
        **{name: moment(said.at.get(name), "host", "the probe", 0.001, no_line) for name in probe.MARKS},
        "ended": moment(job.stopped if job else None, "batch", "batch:DescribeJobs stoppedAt", 0.001),
    }
    return {name: found[name] for name in NAMES}
