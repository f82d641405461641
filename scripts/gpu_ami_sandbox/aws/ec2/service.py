"""The local EC2: moto's, with the parts that it lacks or gets wrong before it."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models.elastic_block_store import Volume

from gpu_ami_sandbox.aws import base_image
from gpu_ami_sandbox.aws.ec2 import xml_answers
from gpu_ami_sandbox.aws.ec2.allowed_images import AllowedImages
from gpu_ami_sandbox.aws.ec2.fleets import InstantFleets
from gpu_ami_sandbox.aws.ec2.image_making import ImageMaking
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.aws.ec2.recycle_bin import RecycleBinItems
from gpu_ami_sandbox.aws.ec2.regions import Regions
from gpu_ami_sandbox.aws.ec2.snapshots import SandboxSnapshot, Snapshots
from gpu_ami_sandbox.aws.ec2.spot_prices import SpotPrices
from gpu_ami_sandbox.aws.ec2.tasks import ImageTasks
from gpu_ami_sandbox.aws.ec2.templates import ImageReferences, LaunchTemplates
from gpu_ami_sandbox.aws.ec2.usage_reports import ImageUsageReports
from gpu_ami_sandbox.aws.ec2.volumes import Volumes


class SandboxEC2(
    InstantFleets,
    ImageMaking,
    ImageTasks,
    AllowedImages,
    Snapshots,
    LaunchTemplates,
    ImageReferences,
    ImageUsageReports,
    RecycleBinItems,
    Regions,
    SpotPrices,
    Volumes,
):
    """Every EC2 action; to add some, write a part (a subclass of `EC2Part`) and name it here."""

    def serialized(self, action_result: ActionResult) -> Any:
        """Return status, headers and body of an answer; refusals are moto's."""
        if isinstance(action_result.result, Exception):
            return super().serialized(action_result)
        body = xml_answers.render(self._get_action(), action_result.result, self.RESPONSE_KEY_PATH_TO_TRANSFORMER)
        return 200, {"Content-Type": "text/xml", **self.response_headers}, body

    @property
    def ec2_backend(self) -> Any:
        """Moto's state of this account and region, with the AMI that builds start from."""
        backend = super().ec2_backend
        ensure_base_image(backend)
        return backend


def ensure_base_image(backend: Any) -> None:
    """Add the base AMI to an EC2 backend of moto's, once."""
    image_id = base_image.base_image_id(backend.region_name)
    if image_id in backend.amis:
        return
    volume = Volume(
        backend, f"vol-{base_image.digits('volume', backend.region_name)}", base_image.ROOT_GIB, None, volume_type="gp3"
    )
    snapshot_id = f"snap-{base_image.digits('snapshot', backend.region_name)}"
    snapshot = SandboxSnapshot(backend, snapshot_id, volume, f"Created for {image_id}", owner_id=base_image.AMAZON)
    snapshot.start_time = base_image.CREATED
    snapshot.create_volume_permission_groups.add("all")
    ebs = {
        "SnapshotId": snapshot_id,
        "VolumeSize": base_image.ROOT_GIB,
        "VolumeType": "gp3",
        "Encrypted": False,
        "DeleteOnTermination": True,
        "Iops": 3000,
        "Throughput": 125,
    }
    image = SandboxAmi(
        backend,
        [{"DeviceName": "/dev/xvda", "Ebs": ebs}],
        ami_id=image_id,
        name=base_image.NAME,
        description="Amazon Linux AMI 2023.0.20260901 x86_64 ECS HVM EBS",
        owner_id=base_image.AMAZON,
        owner_alias="amazon",
        public=True,
        architecture="x86_64",
        virtualization_type="hvm",
        root_device_name="/dev/xvda",
        creation_date=base_image.CREATED,
    )
    image.imds_support = "v2.0"
    backend.snapshots[snapshot_id] = snapshot
    backend.amis[image_id] = image
