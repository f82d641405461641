"""Root volumes that were replaced: EC2 goes on showing the AMI that their instance was launched from."""

from __future__ import annotations

from collections.abc import Iterable

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.references.instances import listed_instances
from gpu_ami.aws.references.reading import chunks
from gpu_ami.aws.references.source import Found, SourceQuery, members, references_in

# The original volume stayed where it was.
_OVER = "failed"
_GONE = "terminated"
_MOST_INSTANCES = 200


class RootVolumes:
    """Every replacement of a root volume that came from an AMI or a snapshot, as long as its instance lives.

    Of several replacements of one instance each counts, not the last alone: what is put back in a hurry is one of them.
    """

    name = "root-volumes"
    service = "ec2"
    is_essential = False
    is_use = True
    reads = members(
        "ec2:DescribeReplaceRootVolumeTasks", "ReplaceRootVolumeTasks[].ImageId", "ReplaceRootVolumeTasks[].SnapshotId"
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return what each root volume was replaced from; a task without either restored what was launched.

        Where no instance is, no task counts, and none is asked for. One that was not listed a moment ago is looked up.
        """
        there = listed_instances(query)
        if there is not None and not there:
            return Found()
        rows = [
            (row, {name: row[name] for name in ("ImageId", "SnapshotId") if row.get(name)})
            for row in caller.pages(
                "ec2", "describe_replace_root_volume_tasks", "ReplaceRootVolumeTasks", MaxResults=50
            )
            if row["TaskState"] != _OVER
        ]
        tasks = [(row, came_from) for row, came_from in rows if came_from]
        named = {str(row["InstanceId"]) for row, _ in tasks}
        known = named & (there or frozenset())
        alive = known | _alive(caller, named - known)
        return Found(
            [
                reference
                for row, came_from in tasks
                if row["InstanceId"] in alive
                for reference in references_in(
                    came_from, self.name, f"{row['TaskState']} root volume of instance {row['InstanceId']}"
                )
            ]
        )


def _alive(caller: Caller, instance_ids: Iterable[str]) -> set[str]:
    """Return those of *instance_ids* that EC2 still has and are not terminated."""
    found: set[str] = set()
    for some in chunks(sorted(instance_ids), _MOST_INSTANCES):
        reservations = caller.pages(
            "ec2",
            "describe_instances",
            "Reservations",
            IncludeManagedResources=True,
            Filters=[{"Name": "instance-id", "Values": list(some)}],
            MaxResults=1000,
        )
        rows = [instance for reservation in reservations for instance in reservation["Instances"]]
        found |= {str(row["InstanceId"]) for row in rows if row["State"]["Name"] != _GONE}
    return found
