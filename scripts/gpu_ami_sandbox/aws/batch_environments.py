"""Batch's environments and queues as they come and go: states that take a moment, refusals, what Batch makes for them.

States and order: Batch's API reference and what the Terraform provider waits for. `Cannot delete, found existing
JobQueue relationship` is Batch's; it is said for a moment after the queue is gone, too (terraform-provider-aws #46925).
How the other refusals are worded is not documented: those texts are made up.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field
from typing import Any

from moto.batch import models
from moto.batch.exceptions import ClientException
from moto.ec2.models import ec2_backends
from moto.ecs.models import ecs_backends

from gpu_ami_sandbox.aws import clock
from gpu_ami_sandbox.aws.auto_scaling import ScalingGroup, scaling_groups
from gpu_ami_sandbox.aws.batch_amis import faults_on, image_of, wrong_tags

# How long things take here; minutes on AWS. Tests that are not about the wait have none of it.
CREATING_S = 0.2
UPDATING_S = 0.2
DELETING_S = 0.4
RELATED_S = 0.3
# Of each, in one region; fixed (Batch's quotas).
MOST = 50
_NUMBERS = uuid.UUID("5d0a1f0e-5b3c-4d55-9f0e-6f1c2b7d9a10")


@dataclass
class Standing:
    """How an environment or a queue stands, in clock seconds.

    Attributes:
        changing: What it is until `settles_at`: ``CREATING`` or ``UPDATING``.
        settles_at: From then on it is valid, or invalid.
        gone_at: From then on there is none; None while nobody has deleted it.
        wrong: Why it is invalid; empty while it is not.
    """

    changing: str = "CREATING"
    settles_at: float = 0.0
    gone_at: float | None = None
    wrong: str = ""


@dataclass
class Host:
    """An instance of an environment.

    Attributes:
        instance: moto's.
        container: ECS's container instance, moto's; None before it has registered.
        activity: The scaling activity that started it.
        is_lost: It has ended, and what hung on it knows.
    """

    instance: Any
    activity: dict[str, Any]
    container: Any = None
    is_lost: bool = False


@dataclass
class Fleet:
    """What Batch makes for one environment.

    Attributes:
        group: The Auto Scaling group's name.
        template_id: Batch's own copy of the launch template; empty before the first host.
        hosts: Its hosts.
        refusals: How many deletions have been refused for a relationship that is gone.
    """

    group: str
    template_id: str = ""
    hosts: list[Host] = field(default_factory=list)
    refusals: int = 0


class SandboxEnvironment(models.ComputeEnvironment):
    """An environment whose cluster has the name that rights on clusters rest on."""

    def set_ecs(self, arn: str, name: str) -> None:
        """Take moto's cluster, by Batch's name: ``AWSBatch-<environment>-<uuid>``."""
        number = name.rpartition("_")[2]
        mine = f"AWSBatch-{self.name}-{number}"
        clusters = ecs_backends[self.arn.split(":")[4]][self.arn.split(":")[3]].clusters
        cluster = clusters[mine] = clusters.pop(name)
        cluster.name, cluster.arn = mine, arn.replace(name, mine)
        super().set_ecs(cluster.arn, mine)


models.ComputeEnvironment = SandboxEnvironment


def number_of(*parts: str) -> uuid.UUID:
    """Return a UUID that belongs to *parts*, without using up the numbers that moto's ids are made of."""
    return uuid.uuid5(_NUMBERS, "/".join(parts))


def standing(thing: Any) -> Standing:
    """Return how moto's environment or queue *thing* stands, to change; what was there from the start is valid."""
    kept: Standing = vars(thing).setdefault("sandbox_standing", Standing())
    return kept


def fleet(environment: Any) -> Fleet:
    """Return what Batch makes for *environment*, to change."""
    group = f"AWSBatch-{environment.name}-asg-{number_of(environment.ecs_arn, 'group')}"
    kept: Fleet = vars(environment).setdefault("sandbox_fleet", Fleet(group))
    return kept


def status_of(thing: Any) -> tuple[str, str]:
    """Return status and reason of an environment or queue."""
    now, how = clock.seconds(), standing(thing)
    kind = "Compute environment" if isinstance(thing, models.ComputeEnvironment) else "JobQueue"
    if how.gone_at is not None:
        return "DELETING", f"{kind} is being deleted"
    if now < how.settles_at:
        return how.changing, f"{kind} is being {'created' if how.changing == 'CREATING' else 'updated'}"
    return ("INVALID", how.wrong) if how.wrong else ("VALID", f"{kind} Healthy")


def note_creation(thing: Any, backend: Any) -> None:
    """Let a new environment or queue be CREATING for a moment."""
    standing(thing).settles_at = clock.seconds() + CREATING_S
    if not isinstance(thing, models.ComputeEnvironment) or not thing.compute_resources:
        return
    if "invalid" in faults_on(backend, thing):
        standing(thing).wrong = "CLIENT_ERROR - Your compute environment has been INVALIDATED (made to fail)"
    elif why := wrong_tags(image_of(backend, thing)):
        # A start that is good after all would let a test of the fault pass.
        standing(thing).wrong = f"CLIENT_ERROR - {why}"


def note_update(thing: Any) -> None:
    """Let a changed environment or queue be UPDATING for a moment."""
    how = standing(thing)
    how.changing, how.settles_at = "UPDATING", clock.seconds() + UPDATING_S


def check_changeable(thing: Any, doing: str) -> None:
    """Refuse to change or delete what is being changed."""
    if status_of(thing)[0] in ("CREATING", "UPDATING", "DELETING"):
        msg = f"Cannot {doing}, resource is being modified."
        raise ClientException(msg)


def check_usable(thing: Any) -> None:
    """Refuse a queue on what is not there yet, or no longer."""
    if (status := status_of(thing)[0]) in ("CREATING", "DELETING"):
        msg = f"{thing.name} is {status}: it must be VALID."
        raise ClientException(msg)


def check_count(kind: str, things: Any) -> None:
    """Refuse one more than the region may have."""
    if len(things) >= MOST:
        msg = f"You have reached the maximum of {MOST} {kind} in this region."
        raise ClientException(msg)


def delete_queue(backend: Any, name: str) -> None:
    """Begin to delete a queue; its jobs end with it."""
    queue = backend.get_job_queue(name)
    if queue is None:
        return
    check_changeable(queue, "delete")
    if queue.state != "DISABLED":
        msg = f"Cannot delete, JobQueue {queue.name} must be DISABLED."
        raise ClientException(msg)
    standing(queue).gone_at = clock.seconds() + DELETING_S
    for job in queue.jobs:
        if job.status not in ("SUCCEEDED", "FAILED"):
            job.terminate(f"Job queue {queue.name} was deleted")


def delete_environment(backend: Any, name: str) -> None:
    """Begin to delete an environment; its hosts end with it."""
    environment = backend.get_compute_environment(name)
    if environment is None:
        return
    check_changeable(environment, "delete")
    if environment.state != "DISABLED":
        msg = f"Cannot delete, ComputeEnvironment {environment.name} must be DISABLED."
        raise ClientException(msg)
    if _has_relationship(backend, environment):
        msg = "Cannot delete, found existing JobQueue relationship."
        raise ClientException(msg)
    hangs = "delete-hangs" in faults_on(backend, environment)
    standing(environment).gone_at = math.inf if hangs else clock.seconds() + DELETING_S
    if not hangs:
        for host in fleet(environment).hosts:
            end_host(environment, host)


def _has_relationship(backend: Any, environment: Any) -> bool:
    if any(environment in queue.environments for queue in backend._job_queues.values()):
        return True
    until: float = vars(environment).get("sandbox_related_until", 0.0)
    if clock.seconds() < until:
        return True
    made = fleet(environment)
    if "stale-relationship" not in faults_on(backend, environment) or made.refusals:
        return False
    made.refusals += 1
    return True


def end_host(environment: Any, host: Host) -> None:
    """Terminate a host, if it still runs, and take it out of its cluster."""
    account, region = environment.arn.split(":")[4], environment.arn.split(":")[3]
    if host.instance.state in ("pending", "running", "stopping", "stopped"):
        ec2_backends[account][region].terminate_instances([host.instance.id])
    if host.container is not None:
        registered = ecs_backends[account][region].container_instances.get(environment.ecs_name, {})
        registered.pop(host.container.id, None)


def remove_deleted(backend: Any) -> None:
    """Take away the queues and environments whose deletion is over."""
    now = clock.seconds()
    for queue in [queue for queue in backend._job_queues.values() if _is_gone(queue, now)]:
        for environment in queue.environments:
            vars(environment)["sandbox_related_until"] = (standing(queue).gone_at or now) + RELATED_S
        backend.delete_job_queue(queue.name)
    for environment in [one for one in backend._compute_environments.values() if _is_gone(one, now)]:
        _remove(backend, environment)


def _is_gone(thing: Any, now: float) -> bool:
    gone_at = standing(thing).gone_at if "sandbox_standing" in vars(thing) else None
    return gone_at is not None and now >= gone_at


def _remove(backend: Any, environment: Any) -> None:
    made = fleet(environment)
    if made.template_id:
        backend.ec2_backend.delete_launch_template("", made.template_id)
    groups = scaling_groups(backend.account_id, backend.region_name)
    if (group := groups.get(made.group)) is not None:
        groups[made.group] = ScalingGroup(group.activities, is_deleted=True)
    backend.delete_compute_environment(environment.name)
