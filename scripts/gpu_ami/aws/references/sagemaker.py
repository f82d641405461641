"""SageMaker HyperPod: the AMI that each instance group of a cluster runs, and the one that it is to run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.references.reading import joined, needed
from gpu_ami.aws.references.source import Found, Reference, SourceQuery, members, references_in

_GONE = ("ResourceNotFound", "ResourceNotFoundException")
_IMAGES = ("CurrentImageId", "DesiredImageId")


class HyperPodClusters:
    """HyperPod clusters in every state: a failed one is one that somebody is about to repair.

    Of an update that rolls, the current image is still what a broken node is replaced with. The image that single nodes
    were made from is not read: a node is never made again from that.
    """

    name = "hyperpod"
    service = "sagemaker"
    is_essential = False
    is_use = True
    reads = members("sagemaker:DescribeCluster", *(f"InstanceGroups[].{name}" for name in _IMAGES))

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return both AMIs of each instance group; ``default`` is Amazon's own."""
        del query
        rows = list(caller.pages("sagemaker", "list_clusters", "ClusterSummaries", MaxResults=100))
        return Found(joined(rows, lambda row: _references(caller, row), gone=_GONE))


def _references(caller: Caller, row: Mapping[str, Any]) -> list[Reference]:
    who = f"HyperPod cluster {row['ClusterName']}"
    answer = caller.call("sagemaker", "describe_cluster", ClusterName=row["ClusterArn"])
    return [
        reference
        for group in needed(answer, "InstanceGroups", who)
        for reference in references_in(
            {name: group[name] for name in _IMAGES if group.get(name)},
            HyperPodClusters.name,
            f"{who}: instance group {group.get('InstanceGroupName')}",
        )
    ]
