"""Instances: every one that is not terminated needs the AMI it was launched from."""

from __future__ import annotations

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.references.source import Found, Reference, SourceQuery, ids_in, members, show_name

_GONE = "terminated"


class Instances:
    """Instances in every state but terminated: a stopped one starts again from its volumes, its group from the AMI."""

    name = "instances"
    service = "ec2"
    is_essential = True
    is_use = True
    reads = members("ec2:DescribeInstances", "Reservations[].Instances[].ImageId")

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the AMI of each instance."""
        del query
        references = []
        listed = caller.pages(
            "ec2", "describe_instances", "Reservations", IncludeManagedResources=True, MaxResults=1000
        )
        for reservation in listed:
            for instance in reservation["Instances"]:
                state = instance["State"]["Name"]
                if state != _GONE:
                    who = f"{state} instance {show_name(instance.get('Tags'), instance['InstanceId'])}"
                    references += [
                        Reference(image_id, self.name, who) for image_id in sorted(ids_in(instance["ImageId"]))
                    ]
        return Found(references)
