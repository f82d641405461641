"""Amazon Bedrock AgentCore: the snapshots that capacity providers make volumes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.references.reading import each, needed
from gpu_ami.aws.references.source import Found, Reference, SourceQuery, members, references_in

_GONE = ("ResourceNotFoundException",)


class CapacityProviders:
    """Capacity providers on EC2, in every state. They choose the AMI themselves; volumes may come from a snapshot.

    A second query reads only providers that were updated.
    """

    name = "agentcore"
    service = "bedrock-agentcore"
    is_essential = False
    is_use = True
    reads = members(
        "bedrock-agentcore-control:GetCapacityProvider",
        "computeConfiguration.ec2Configuration.volumes[].ebsConfiguration.snapshotId",
        "computeConfiguration.ec2Configuration.launchTemplateSource.launchParameters.ephemeralVolumes[].ebs.snapshotId",
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the snapshots in each provider's configuration."""
        rows = list(
            caller.pages(
                "bedrock-agentcore-control",
                "list_capacity_providers",
                "capacityProviders",
                page_key="nextToken",
                maxResults=100,
            )
        )
        stamps = {_id(row): (row["lastUpdatedAt"], row["status"]) for row in rows}
        known: dict[str, tuple[object, list[Reference]]] = query.memory.setdefault("providers", {})
        stale = [row for row in rows if known.get(_id(row), (None,))[0] != stamps[_id(row)]]
        for row, found in zip(stale, each(stale, lambda row: _references(caller, row), gone=_GONE), strict=True):
            known.pop(_id(row), None)
            if found is not None:
                known[_id(row)] = (stamps[_id(row)], found)
        return Found([reference for key in stamps if key in known for reference in known[key][1]])


def _id(row: Mapping[str, Any]) -> str:
    return str(row["capacityProviderId"])


def _references(caller: Caller, row: Mapping[str, Any]) -> list[Reference]:
    who = f"AgentCore capacity provider {row['name']}"
    answer = caller.call("bedrock-agentcore-control", "get_capacity_provider", capacityProviderId=_id(row))
    return references_in(needed(answer, "computeConfiguration", who), CapacityProviders.name, who)
