"""What EC2 is doing with an AMI right now: copying it, exporting it, storing it in S3."""

from __future__ import annotations

from collections.abc import Collection

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.images import Image
from gpu_ami.aws.references.source import OWN_IMAGES, Found, Reference, SourceQuery, ids_in, members

_PENDING = "pending"
_EXPORT_OVER = frozenset({"completed", "deleted"})
_STORE_OVER = frozenset({"Completed", "Failed"})


class Copies:
    """AMIs that are still being made from another one, in this region or any that is queried.

    A copy is a pending AMI of the region that it goes to, and names its source: the list of the account's own AMIs has
    it, where that was read a moment ago. Regions that a survey does not query
    are not looked at: roles are seldom allowed to call there, and each of them would have to answer.
    """

    name = "copies"
    service = "ec2"
    is_essential = False
    is_use = True
    reads = members("ec2:DescribeImages", "Images[].SourceImageId")

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the source of each pending AMI; one call, or none."""
        return Found(
            [
                Reference(target, self.name, f"{image_id} is being made from it in {caller.region}")
                for image_id, source in _pending(caller, query)
                for target in sorted(ids_in(source))
            ]
        )


def _pending(caller: Caller, query: SourceQuery) -> list[tuple[str, str]]:
    """Return each AMI that is still being made, and what it is made from, as EC2 says."""
    listed: Collection[Image] | None = query.listed.get(OWN_IMAGES)
    if listed is not None:
        return [(image.image_id, image.source_ami_id) for image in listed if image.state == _PENDING]
    pending = [{"Name": "state", "Values": [_PENDING]}]
    rows = caller.pages("ec2", "describe_images", "Images", Owners=["self"], Filters=pending, MaxResults=1000)
    return [(row["ImageId"], row.get("SourceImageId") or "") for row in rows]


class ExportTasks:
    """Exports of AMIs to virtual-machine images in S3 that are under way."""

    name = "export-tasks"
    service = "ec2"
    is_essential = False
    is_use = True
    reads = members("ec2:DescribeExportImageTasks", "ExportImageTasks[].ImageId")

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the AMI of each export in any state but completed and deleted; one call."""
        del query
        rows = caller.pages("ec2", "describe_export_image_tasks", "ExportImageTasks", MaxResults=500)
        return Found(
            [
                Reference(target, self.name, f"{row['Status']} export {row['ExportImageTaskId']}")
                for row in rows
                if row["Status"] not in _EXPORT_OVER
                for target in sorted(ids_in(row["ImageId"]))
            ]
        )


class StoreTasks:
    """AMIs that are being stored as objects in S3."""

    name = "store-tasks"
    service = "ec2"
    is_essential = False
    is_use = True
    reads = members("ec2:DescribeStoreImageTasks", "StoreImageTaskResults[].AmiId")

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the AMI of each task in progress, of those of the last 31 days that EC2 lists; one call."""
        del query
        rows = caller.pages("ec2", "describe_store_image_tasks", "StoreImageTaskResults", MaxResults=200)
        return Found(
            [
                Reference(target, self.name, f"being stored in s3://{row.get('Bucket')}/{row.get('S3objectKey')}")
                for row in rows
                if row["StoreTaskState"] not in _STORE_OVER
                for target in sorted(ids_in(row["AmiId"]))
            ]
        )
