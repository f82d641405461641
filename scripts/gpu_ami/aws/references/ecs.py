"""Amazon ECS: the snapshots that services make their tasks' volumes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpu_ami.aws.caller import Caller, UnansweredError
from gpu_ami.aws.references.reading import chunks, joined, names, needed
from gpu_ami.aws.references.source import Found, Reference, SourceQuery, members, references_in

_MOST_CLUSTERS, _MOST_SERVICES = 100, 10
_GONE = ("ClusterNotFoundException",)
_MISSING = "MISSING"


class EcsVolumes:
    """Volumes that ECS makes for the tasks of a service, as its deployments configure them.

    Task definitions only say that a volume is configured at launch, and a task names the volume that was made for it:
    neither holds the snapshot (ECS API reference). What somebody gives a single task when running it is seen nowhere.
    A draining or inactive service starts no task any more.
    """

    name = "ecs-volumes"
    service = "ecs"
    is_essential = False
    is_use = True
    reads = members(
        "ecs:DescribeServices", "services[].deployments[].volumeConfigurations[].managedEBSVolume.snapshotId"
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the snapshots of each service; Batch's clusters, which have none, cost a hundredth of a call each."""
        del query
        arns = names(caller, "ecs", "list_clusters", "clusterArns", maxResults=100)
        busy = joined(chunks(arns, _MOST_CLUSTERS), lambda some: _busy(caller, some))
        parts = joined(busy, lambda arn: _services(caller, arn), gone=_GONE)
        return Found(joined(parts, lambda part: _references(caller, *part), gone=_GONE))


def _busy(caller: Caller, arns: Sequence[str]) -> list[str]:
    """Return those of *arns* that have services."""
    answer = caller.call("ecs", "describe_clusters", clusters=list(arns))
    rows = _shown(caller, "DescribeClusters", answer, "clusters", "clusterArn", arns)
    counts = {str(row["clusterArn"]): needed(row, "activeServicesCount", f"ECS {row['clusterArn']}") for row in rows}
    return [arn for arn, count in counts.items() if count]


def _services(caller: Caller, cluster: str) -> list[tuple[str, Sequence[str]]]:
    """Return the services of a cluster, as many together as can be described at once."""
    arns = names(caller, "ecs", "list_services", "serviceArns", cluster=cluster, maxResults=100)
    return [(cluster, some) for some in chunks(arns, _MOST_SERVICES)]


def _references(caller: Caller, cluster: str, arns: Sequence[str]) -> list[Reference]:
    answer = caller.call("ecs", "describe_services", cluster=cluster, services=list(arns))
    found: list[Reference] = []
    for row in _shown(caller, "DescribeServices", answer, "services", "serviceArn", arns):
        who = f"ECS service {row['serviceArn'].rpartition('service/')[2]}"
        volumes = [deployment.get("volumeConfigurations") or [] for deployment in needed(row, "deployments", who)]
        found += references_in({"volumeConfigurations": volumes}, EcsVolumes.name, who)
    return found


def _shown(
    caller: Caller, action: str, answer: Mapping[str, Any], key: str, arn: str, requested: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the rows of *answer*, which must be about each of *requested* that is still there."""
    rows = list(needed(answer, key, f"ecs:{action} in {caller.region}"))
    failures = answer.get("failures") or []
    if refused := [failure for failure in failures if failure.get("reason") != _MISSING]:
        msg = f"ecs:{action} in {caller.region} could not show {refused[0].get('arn')}: {refused[0].get('reason')}."
        raise UnansweredError(msg)
    told = {row[arn] for row in rows} | {failure.get("arn") for failure in failures}
    if missing := sorted(set(requested) - told):
        msg = f"ecs:{action} in {caller.region} said nothing about {missing[0]}: the answer is cut off."
        raise UnansweredError(msg)
    return rows
