"""Amazon EMR: the custom AMIs of clusters, of their instance groups and of their instance fleets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_ami.aws.caller import Caller, UnansweredError
from gpu_ami.aws.references.reading import joined, needed
from gpu_ami.aws.references.source import Found, Reference, SourceQuery, members, references_in

# A terminated cluster never starts again; EMR lists it for two months.
_ALIVE = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING", "TERMINATING")
_OVER = frozenset({"TERMINATED", "TERMINATED_WITH_ERRORS"})
_PARTS_OVER = frozenset({"TERMINATED", "ENDED"})
# How the members of a cluster are listed, by its kind; it has one kind for its whole life (EMR management guide).
_PARTS = {
    "INSTANCE_GROUP": ("emr", "list_instance_groups", "InstanceGroups"),
    "INSTANCE_FLEET": ("emr", "list_instance_fleets", "InstanceFleets"),
}


class EmrClusters:
    """Clusters that are not terminated: each node that is added, or replaced, starts from the custom AMI."""

    name = "emr"
    service = "emr"
    is_essential = False
    is_use = True
    reads = (
        *members("emr:DescribeCluster", "Cluster.CustomAmiId"),
        *members("emr:ListInstanceGroups", "InstanceGroups[].CustomAmiId"),
        *members("emr:ListInstanceFleets", "InstanceFleets[].InstanceTypeSpecifications[].CustomAmiId"),
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the AMI of each cluster, and those of its groups or fleets."""
        del query
        rows = list(caller.pages("emr", "list_clusters", "Clusters", page_key="Marker", ClusterStates=list(_ALIVE)))
        return Found(joined(rows, lambda row: _references(caller, row)))


def _references(caller: Caller, row: Mapping[str, Any]) -> list[Reference]:
    who = f"EMR cluster {row['Id']} ({row.get('Name')})"
    cluster = needed(caller.call("emr", "describe_cluster", ClusterId=row["Id"]), "Cluster", who)
    if needed(cluster, "Status", who).get("State") in _OVER:
        return []
    kind = needed(cluster, "InstanceCollectionType", who)
    if kind not in _PARTS:
        msg = f"{who} is of the kind {kind}, of which nothing is known: what it starts from cannot be read."
        raise UnansweredError(msg)
    parts = list(caller.pages(*_PARTS[kind], page_key="Marker", ClusterId=row["Id"]))
    found = references_in({"CustomAmiId": cluster.get("CustomAmiId")}, EmrClusters.name, who)
    for part in parts:
        if (part.get("Status") or {}).get("State") not in _PARTS_OVER:
            of_part = {name: part.get(name) for name in ("CustomAmiId", "InstanceTypeSpecifications")}
            found += references_in(of_part, EmrClusters.name, f"{who}: {part.get('Name') or part.get('Id')}")
    return found
