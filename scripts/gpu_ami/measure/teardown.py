"""Takes away what a bench has made, by its journal: in Batch's order, with waits, and only what carries its tags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gpu_ami.aws import batch_resources, bench_hosts, instances, launch_templates
from gpu_ami.aws.batch_teardown import ENVIRONMENT, QUEUE, Piece, tear_down
from gpu_ami.aws.caller import Caller
from gpu_ami.errors import AwsError
from gpu_ami.measure.bench_journal import Journal, Replay
from gpu_ami.measure.bench_making import each
from gpu_ami.measure.verify import Clock
from gpu_ami.units import show_count

_EVERY_S = 10.0
# Hosts go with their environment, and their volumes some moments after them.
_HOSTS_WITHIN_S = 600.0
# What was made a moment ago Batch may not know yet.
_KNOWN_WITHIN_S = 20.0
_ENDED = ("terminated",)
Note = Callable[[str], None]


def places(
    caller: Caller,
    queues: Sequence[str],
    environments: Sequence[str],
    journal: Journal,
    tags: Mapping[str, str],
    clock: Clock,
    note: Note,
) -> list[str]:
    """Take queues and environments away, with their jobs and hosts; return what is left of them, and why.

    Args:
        caller: Calls the region.
        queues: Names of queues.
        environments: Names of environments.
        journal: Gets what is gone.
        tags: What each has to carry.
        clock: How time goes on.
        note: Told what is waited for.
    """
    pieces = [Piece(kind=QUEUE, name=name, tags=tags) for name in queues]
    pieces += [Piece(kind=ENVIRONMENT, name=name, tags=tags) for name in environments]
    if not pieces:
        return []
    left = tear_down(caller, pieces, known_within_s=_KNOWN_WITHIN_S, clock=clock.now, sleep=clock.sleep, note=note)
    for piece in pieces:
        if piece.key not in left:
            journal.gone("queue" if piece.kind == QUEUE else "environment", piece.name)
    return [f"{kind.replace('-', ' ')} {name}: {why}" for (kind, name), why in left.items()]


def everything(caller: Caller, replay: Replay, journal: Journal, clock: Clock, note: Note) -> list[str]:
    """Take away all that a journal names and is still there; return what is left, and why.

    Args:
        caller: Calls the region.
        replay: What the journal says.
        journal: The same journal, to be gone on with.
        clock: How time goes on.
        note: Told what is waited for.
    """
    tags = replay.whose.tags
    left = places(caller, replay.names("queue"), replay.names("environment"), journal, tags, clock, note)
    note("taking definitions and launch templates away")
    left += [why for why in each(replay.names("definition"), lambda name: _definition(caller, name, tags)) if why]
    left += [why for why in each(replay.names("template"), lambda name: _template(caller, name, tags)) if why]
    left += _hosts(caller, replay.whose.run_id, clock, note)
    if not left:
        journal.end()
    return left


def _definition(caller: Caller, name: str, tags: Mapping[str, str]) -> str:
    """Take the active revisions of a definition out of use; return why one is left, else nothing."""
    try:
        for arn, its_tags in batch_resources.definitions(caller, name).items():
            if not tags.items() <= its_tags.items():
                return f"job definition {name}: it does not carry the bench's tags, and stays"
            batch_resources.deregister(caller.patient(), arn)
    except AwsError as exc:
        return f"job definition {name}: {exc}"
    return ""


def _template(caller: Caller, name: str, tags: Mapping[str, str]) -> str:
    """Delete a launch template; return why it is left, else nothing."""
    try:
        found = launch_templates.named(caller, name)
        if found is None:
            return ""
        template_id, its_tags = found
        if not tags.items() <= its_tags.items():
            return f"launch template {name}: it does not carry the bench's tags, and stays"
        launch_templates.delete(caller.patient(), template_id)
    except AwsError as exc:
        return f"launch template {name}: {exc}"
    return ""


def _hosts(caller: Caller, run_id: str, clock: Clock, note: Note) -> list[str]:
    """Wait until instances and volumes of the run are gone. Ending one would have its group start another."""
    began = clock.now()
    while True:
        try:
            alive = [
                one.instance_id for one in bench_hosts.instances(caller, run_id).values() if one.state not in _ENDED
            ]
            disks = instances.volumes_of_run(caller, run_id)
        except AwsError as exc:
            return [f"whether instances and volumes are gone is not known: {exc}"]
        if not alive and not disks:
            return []
        if clock.now() - began > _HOSTS_WITHIN_S:
            return [f"{one}: it is still there and is billed" for one in (*alive, *disks)]
        note(f"waiting for {show_count(len(alive), 'instance')} and {show_count(len(disks), 'volume')} to go")
        clock.sleep(_EVERY_S)
