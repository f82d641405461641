"""Instances: every one that is not terminated needs the AMI it was launched from."""

from __future__ import annotations

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.references.source import Found, Reference, SourceQuery, ids_in, members, show_name

_GONE = "terminated"
_ALIVE = "instances"


class Instances:
    """Instances in every state but terminated: a stopped one starts again from its volumes, its group from the AMI."""

    name = "instances"
    service = "ec2"
    is_essential = True
    is_use = True
    reads = members("ec2:DescribeInstances", "Reservations[].Instances[].ImageId")

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the AMI of each instance."""
        references = []
        alive: set[str] = set()
        listed = caller.pages(
            "ec2", "describe_instances", "Reservations", IncludeManagedResources=True, MaxResults=1000
        )
        for reservation in listed:
            for instance in reservation["Instances"]:
                state = instance["State"]["Name"]
                if state != _GONE:
                    alive.add(str(instance["InstanceId"]))
                    who = f"{state} instance {show_name(instance.get('Tags'), instance['InstanceId'])}"
                    references += [
                        Reference(image_id, self.name, who) for image_id in sorted(ids_in(instance["ImageId"]))
                    ]
        query.listed[_ALIVE] = frozenset(alive)
        return Found(references)


def listed_instances(query: SourceQuery) -> frozenset[str] | None:
    """Return the instances that are not terminated, as `Instances` has listed them a moment ago; None if it has not."""
    found: frozenset[str] | None = query.listed.get(_ALIVE)
    return found
