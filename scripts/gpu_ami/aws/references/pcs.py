"""AWS Parallel Computing Service: the AMI and the launch template of each compute node group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.references.aliases import with_aliases
from gpu_ami.aws.references.reading import each, needed
from gpu_ami.aws.references.source import Found, SourceQuery, members
from gpu_ami.aws.references.templates import template_references

_GONE = ("ResourceNotFoundException",)
_OVER = "DELETED"


class PcsNodeGroups:
    """Compute node groups, those without a node too, in every state but deleted.

    A group's own AMI overrides the one of its template (PCS API reference, ComputeNodeGroup). A second query reads only
    groups that were modified.
    """

    name = "pcs"
    service = "pcs"
    is_essential = False
    is_use = True
    reads = members(
        "pcs:GetComputeNodeGroup",
        "computeNodeGroup.amiId",
        "computeNodeGroup.launchTemplateMode",
        "computeNodeGroup.customLaunchTemplate.id",
        "computeNodeGroup.customLaunchTemplate.version",
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the AMI of each group; its template is read by launch-templates."""
        clusters = list(caller.pages("pcs", "list_clusters", "clusters", page_key="nextToken", maxResults=100))
        listed = each(clusters, lambda cluster: _groups(caller, cluster), gone=_GONE)
        rows = [row for some in listed for row in some or () if row["status"] != _OVER]
        stamps = {row["arn"]: (row["modifiedAt"], row["status"]) for row in rows}
        known: dict[str, tuple[object, tuple[str, object]]] = query.memory.setdefault("groups", {})
        stale = [row for row in rows if known.get(row["arn"], (None,))[0] != stamps[row["arn"]]]
        for row, document in zip(stale, each(stale, lambda row: _read(caller, row), gone=_GONE), strict=True):
            known.pop(row["arn"], None)
            if document is not None:
                known[row["arn"]] = (stamps[row["arn"]], document)
        named = [known[arn][1] for arn in stamps if arn in known]
        found = with_aliases(caller, self.name, named)
        return Found([*found.references, *template_references(caller, query, self.name, named)], found.notes)


def _groups(caller: Caller, cluster: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(
        caller.pages(
            "pcs",
            "list_compute_node_groups",
            "computeNodeGroups",
            page_key="nextToken",
            clusterIdentifier=cluster["id"],
            maxResults=100,
        )
    )


def _read(caller: Caller, row: Mapping[str, Any]) -> tuple[str, object]:
    who = f"PCS node group {row['name']} of cluster {row['clusterId']}"
    answer = caller.call(
        "pcs", "get_compute_node_group", clusterIdentifier=row["clusterId"], computeNodeGroupIdentifier=row["id"]
    )
    group = needed(answer, "computeNodeGroup", who)
    document: dict[str, object] = {"amiId": group["amiId"]} if group.get("amiId") else {}
    # In the words of everybody else's templates.
    if template := group.get("customLaunchTemplate"):
        document["template"] = {"LaunchTemplateId": template["id"], "Version": template["version"]}
    elif not document:
        # A group has one or the other, unless PCS itself manages its template.
        needed(group, "launchTemplateMode", who)
    return who, document
