"""Makes what a bench needs in AWS, and submits its jobs; each name is in the journal before AWS hears it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from gpu_ami.aws import batch_resources, launch_templates
from gpu_ami.aws.batch_resources import EnvironmentToMake, Standing
from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError
from gpu_ami.errors import AwsError
from gpu_ami.measure import probe
from gpu_ami.measure.bench_journal import Journal
from gpu_ami.measure.bench_plan import (
    JOB_S,
    MAKING_MIN,
    POWER_OFF_MIN,
    STUCK_S,
    ArmPlan,
    HostPlan,
    Plan,
    container,
    template_data,
)
from gpu_ami.measure.host_user_data import merged
from gpu_ami.measure.power_off import boothook
from gpu_ami.measure.verify import Clock
from gpu_ami.process import SHIELD, shielded
from gpu_ami.settings import Bench
from gpu_ami.units import show_count

_WORKERS = 8
_EVERY_S = 5.0
# Environments, and then queues.
_VALID_WITHIN_S = MAKING_MIN * 60 / 2
# What was VALID a moment ago another part of Batch may not know yet; so long it is tried again.
_KNOWN_WITHIN_S = 30.0
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
# A step that is told what it waits for.
Note = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What all rounds have in common: ids of launch templates by arm, ARNs of job definitions by name."""

    templates: dict[str, str]
    definitions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A host's job on its way.

    Attributes:
        host: The host.
        job_id: The job; empty where there is none.
        cluster: The ECS cluster of its environment.
        trouble: Why there is no job; None where there is one.
    """

    host: HostPlan
    job_id: str = ""
    cluster: str = ""
    trouble: str | None = None


class Maker:
    """Makes the pieces of one bench.

    Args:
        caller: Calls the region.
        plan: What to make.
        journal: Where each name goes first.
        bench: The settings of the probe.
        clock: How time goes on.
    """

    def __init__(self, caller: Caller, plan: Plan, journal: Journal, bench: Bench, clock: Clock) -> None:
        self._caller = caller
        self._plan = plan
        self._journal = journal
        self._bench = bench
        self._clock = clock

    def shared(self, own_user_data: str | None) -> Shared:
        """Make the launch template of each arm and the definition of each image.

        Raises:
            AwsError: AWS refused.
            UsageError: The journal cannot be written, or the live template's user data cannot be used.
        """
        user_data = merged(boothook(POWER_OFF_MIN), own_user_data)

        def template(arm: ArmPlan) -> str:
            self._journal.will("template", arm.template)
            content = template_data(self._plan, arm, user_data)
            return launch_templates.create(
                self._caller.patient(), arm.template, content, self._plan.tags, token=arm.template
            )

        def definition(arm: ArmPlan) -> str:
            self._journal.will("definition", arm.definition)
            command = probe.command(self._bench.python, self._bench.imports, self._bench.models)
            content = container(self._plan, arm, command, self._bench.models)
            return batch_resources.register_definition(
                self._caller.patient(), arm.definition, content, self._plan.tags, longest_s=JOB_S
            )

        arms = self._plan.arms
        images = {arm.definition: arm for arm in arms}
        templates = each(arms, template)
        definitions = each(images.values(), definition)
        return Shared(
            templates=dict(zip((arm.arm for arm in arms), templates, strict=True)),
            definitions=dict(zip(images, definitions, strict=True)),
        )

    def submit(self, hosts: Sequence[HostPlan], shared: Shared, note: Note) -> list[Submitted]:
        """Make environment and queue of each of *hosts*, and then submit their jobs one right after the other.

        Raises:
            AwsError: AWS refused, or did not get ready in time.
            UsageError: The journal cannot be written.
        """
        note(f"making {show_count(len(hosts), 'compute environment')}")
        each(hosts, lambda host: self._environment(host, shared.templates[host.arm.arm]))
        names = [host.name for host in hosts]
        environments = self._valid(names, batch_resources.environments, note)
        able = [host for host in hosts if environments[host.name].status == "VALID"]
        note(f"making {show_count(len(able), 'job queue')}")
        each(able, self._queue)
        queues = self._valid([host.name for host in able], batch_resources.queues, note)
        found = []
        for host in hosts:
            standing = (environments[host.name], queues.get(host.name))
            bad = next((one for one in standing if one is not None and one.status != "VALID"), None)
            if bad is not None:
                what = "environment" if bad is standing[0] else "queue"
                trouble = f"its {what} became {bad.status}: {bad.reason or 'Batch does not say why'}"
                found.append(Submitted(host=host, trouble=trouble))
                continue
            found.append(self._submitted(host, shared, environments[host.name].cluster_arn))
        return found

    def _submitted(self, host: HostPlan, shared: Shared, cluster: str) -> Submitted:
        """Submit a host's job; where that cannot be, it is this host's trouble, and the others' jobs go on."""
        began = self._clock.now()
        while True:
            try:
                job_id = self._job(host, shared.definitions[host.arm.definition])
            except RefusedError as exc:
                if exc.is_hopeless:
                    raise
                if exc.code != "ClientException" or self._clock.now() - began >= _KNOWN_WITHIN_S:
                    return Submitted(host=host, trouble=f"its job was not taken: {exc}")
            except AwsError as exc:
                return Submitted(host=host, trouble=f"whether its job was taken is not known: {exc}")
            else:
                return Submitted(host=host, job_id=job_id, cluster=cluster)
            self._clock.sleep(_EVERY_S)

    def _environment(self, host: HostPlan, template_id: str) -> None:
        plan = self._plan
        wanted = EnvironmentToMake(
            name=host.name,
            instance_type=plan.machine.name,
            vcpus=plan.machine.vcpus,
            subnet_id=host.place.subnet_id,
            security_group_ids=plan.security_group_ids,
            profile=plan.profile,
            image_type=plan.image_type,
            ami_id=host.arm.ami_id,
            template_id=template_id,
            template_version="1",
            # So the hosts of one environment are told from others of the run.
            tags={**plan.tags, "Name": host.name},
        )
        self._journal.will("environment", host.name)
        self._made(
            lambda: batch_resources.create_environment(self._caller, wanted),
            lambda: host.name in batch_resources.environments(self._caller, [host.name]),
        )

    def _queue(self, host: HostPlan) -> None:
        self._journal.will("queue", host.name)
        tags = self._plan.tags
        self._made(
            lambda: batch_resources.create_queue(self._caller, host.name, host.name, tags, stuck_s=STUCK_S),
            lambda: host.name in batch_resources.queues(self._caller, [host.name]),
        )

    def _made(self, make: Callable[[], None], is_there: Callable[[], bool]) -> None:
        """Make something; a refusal after a lost answer may be of the second try: then it is there."""
        try:
            make()
        except RefusedError as exc:
            if not exc.may_have_acted or not is_there():
                raise

    def _job(self, host: HostPlan, definition_arn: str) -> str:
        """Submit the one job of a queue. SubmitJob has no token, and a second job would find a warm host."""
        self._journal.will("job", host.name)
        once = Caller(self._caller.access, self._caller.region, tries=1)
        try:
            return batch_resources.submit(once, host.name, host.name, definition_arn, self._plan.tags)
        except UnansweredError:
            if found := batch_resources.alive_jobs(self._caller.patient(), host.name):
                return found[0]
            return batch_resources.submit(once, host.name, host.name, definition_arn, self._plan.tags)

    def _valid(
        self, names: Sequence[str], look: Callable[[Caller, Sequence[str]], dict[str, Standing]], note: Note
    ) -> dict[str, Standing]:
        """Wait until each of *names* is VALID, or INVALID.

        Raises:
            AwsError: Batch refused, or some are neither in time.
        """
        began = self._clock.now()
        while names:
            found = look(self._caller, names)
            open_ones = [name for name in names if name not in found or found[name].status not in ("VALID", "INVALID")]
            if not open_ones:
                return found
            if self._clock.now() - began > _VALID_WITHIN_S:
                status = found[open_ones[0]].status if open_ones[0] in found else "not there"
                msg = f"{open_ones[0]} is still {status} after {_VALID_WITHIN_S:.0f} s."
                raise AwsError(msg)
            note(f"waiting for {len(open_ones)} of {len(names)} to become valid")
            self._clock.sleep(_EVERY_S)
        return {}


def each(items: Iterable[_Item], act: Callable[[_Item], _Result]) -> list[_Result]:
    """Do *act* to each of *items*, some at a time, and return what came of it, in their order.

    What is under way when one fails, or when the process is asked to end, is waited for: what it makes must be known to
    whoever takes it away next.
    """
    pool = ThreadPoolExecutor(max_workers=_WORKERS)
    try:
        futures = [pool.submit(act, item) for item in items]
        return [future.result() for future in futures]
    finally:
        # Within a shield there is one already, whose end it is to say that something came meanwhile.
        held = contextlib.nullcontext() if SHIELD.is_up else shielded()
        SHIELD.is_up = True
        with held:
            pool.shutdown(wait=True, cancel_futures=True)
