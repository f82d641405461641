"""AWS Batch: every way in which a compute environment may name an AMI."""

from __future__ import annotations

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.references.aliases import with_aliases
from gpu_ami.aws.references.source import Found, SourceQuery, members
from gpu_ami.aws.references.templates import template_references

_GONE = "DELETED"


class BatchEnvironments:
    """Compute environments in every state but deleted.

    AWS's documents disagree on which of imageId, imageIdOverride and the template wins, so all of them count. Batch
    also freezes ``$Latest`` and ``$Default`` when an environment is made or updated: every version of a template that
    is used there counts, however few count elsewhere.
    """

    name = "batch"
    service = "batch"
    is_essential = True
    is_use = True
    reads = members(
        "batch:DescribeComputeEnvironments",
        "computeEnvironments[].computeResources.imageId",
        "computeEnvironments[].computeResources.ec2Configuration[].imageIdOverride",
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return every AMI that each environment names, and those of its templates when not all versions are read."""
        rows = list(
            caller.pages(
                "batch", "describe_compute_environments", "computeEnvironments", page_key="nextToken", maxResults=100
            )
        )
        alive = [row for row in rows if row.get("status") != _GONE]
        named = [
            (f"compute environment {row['computeEnvironmentName']}", row.get("computeResources") or {}) for row in alive
        ]
        found = with_aliases(caller, self.name, named)
        templates = template_references(caller, query, self.name, named, every_version=True)
        return Found([*found.references, *templates], found.notes)
