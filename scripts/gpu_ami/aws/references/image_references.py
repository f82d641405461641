"""DescribeImageReferences: EC2's own list of what uses an AMI, which leaves out Batch, groups, fleets and accounts."""

from __future__ import annotations

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.references.source import Found, Reference, SourceQuery, members, side_by_side

_WORKERS = 8
_MOST_IMAGES = 10
# Without this EC2 reads the ten newest versions of a launch template; 10,000 is the most there can be.
_VERSION_DEPTH = "10000"
_TYPES = [
    {
        "ResourceType": "ec2:LaunchTemplate",
        "ResourceTypeOptions": [{"OptionName": "version-depth", "OptionValues": [_VERSION_DEPTH]}],
    },
    # It counts terminated instances too, unless told which states matter.
    {
        "ResourceType": "ec2:Instance",
        "ResourceTypeOptions": [
            {"OptionName": "state-name", "OptionValues": ["pending", "running", "shutting-down", "stopping", "stopped"]}
        ],
    },
    {"ResourceType": "ssm:Parameter"},
    {"ResourceType": "imagebuilder:ImageRecipe"},
    {"ResourceType": "imagebuilder:ContainerRecipe"},
]


class ImageReferences:
    """DescribeImageReferences for the AMIs that nothing else needs."""

    name = "image-references"
    service = "ec2"
    is_essential = False
    is_use = True
    reads = members("ec2:DescribeImageReferences", "ImageReferences[].ImageId")

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return what EC2 says; ten AMIs a call."""
        selected = sorted(query.selected)
        chunks = [selected[start : start + _MOST_IMAGES] for start in range(0, len(selected), _MOST_IMAGES)]
        answers = side_by_side(lambda some: list(_query(caller, some)), chunks, query, workers=_WORKERS)
        return Found([reference for answer in answers for reference in answer])


def _query(caller: Caller, image_ids: list[str]) -> list[Reference]:
    rows = caller.pages("ec2", "describe_image_references", "ImageReferences", ImageIds=image_ids, ResourceTypes=_TYPES)
    return [
        Reference(row["ImageId"], ImageReferences.name, f"{row['ResourceType']} {row['Arn'].rpartition(':')[2]}")
        for row in rows
    ]
