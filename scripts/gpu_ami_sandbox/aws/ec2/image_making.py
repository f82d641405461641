"""Making AMIs: of an instance, of snapshots, of an AMI in another region."""

from __future__ import annotations

import time
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import InvalidAMIIdError
from moto.ec2.models import ec2_backends

from gpu_ami_sandbox.aws.ec2 import images
from gpu_ami_sandbox.aws.ec2.part import EC2Part
from gpu_ami_sandbox.aws.ec2.snapshots import new_snapshot
from gpu_ami_sandbox.aws.refusals import refuse

# In a snapshot's description: a placeholder for the AMI that will be made of it.
_OF_IMAGE = "(image)"


class ImageMaking(EC2Part):
    """EC2's actions that make AMIs."""

    def create_image(self) -> ActionResult:
        """Make an AMI of an instance: one snapshot of each of its volumes."""
        self.error_on_dryrun()
        backend = self.ec2_backend
        instance = backend.get_instance(self._get_param("InstanceId"))
        if instance.state not in ("running", "stopped"):
            refuse("IncorrectInstanceState", "Instance is not in state 'running' or 'stopped'.")
        self._check_name()
        source = backend.amis.get(instance.image_id)
        text = f"Created by CreateImage({instance.id}) for {_OF_IMAGE}"
        mappings = []
        for device, attached in instance.get_block_device_mapping:
            volume = backend.get_volume(attached.volume_id)
            snapshot = new_snapshot(backend, volume, text, ready_at=time.monotonic() + images.PENDING_S)
            ebs = {
                "SnapshotId": snapshot.id,
                "VolumeSize": volume.size,
                "VolumeType": volume.volume_type,
                "Encrypted": volume.encrypted,
                "DeleteOnTermination": attached.delete_on_termination,
                "Iops": volume.iops,
                "Throughput": volume.throughput,
            }
            mappings.append({"DeviceName": device, "Ebs": {k: v for k, v in ebs.items() if v is not None}})
        return self._add_image(
            mappings,
            lineage={
                "source_image_id": instance.image_id,
                "source_image_region": self.region,
                "imds_support": source.imds_support if source else None,
                "made_of": instance.id,
            },
            instance=instance,
            root_device_name=instance.root_device_name,
        )

    def register_image(self) -> ActionResult:
        """Make an AMI of snapshots that exist."""
        self.error_on_dryrun()
        self._check_name()
        snapshots = self.ec2_backend.snapshots
        mappings: list[dict[str, Any]] = self._get_param("BlockDeviceMappings", [])
        if not mappings:
            refuse("InvalidRequest", "The root device mapping is missing.")
        for ebs in (mapping["Ebs"] for mapping in mappings if "Ebs" in mapping):
            ebs.setdefault("DeleteOnTermination", True)
            if (snapshot_id := ebs.get("SnapshotId")) is None:
                continue
            if snapshot_id not in snapshots:
                refuse("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
            ebs.setdefault("VolumeSize", snapshots[snapshot_id].volume_size)
        return self._add_image(
            mappings,
            lineage={"imds_support": self._get_param("ImdsSupport")},
            root_device_name=self._get_param("RootDeviceName") or mappings[0]["DeviceName"],
            architecture=self._get_param("Architecture"),
            virtualization_type=self._get_param("VirtualizationType"),
        )

    def copy_image(self) -> ActionResult:
        """Copy an AMI with its snapshots from another region (or this one)."""
        self.error_on_dryrun()
        self._check_name()
        self._check_duration()
        source = ec2_backends[self.current_account][self._get_param("SourceRegion")]
        original = source.amis.get(self._get_param("SourceImageId"))
        if original is None:
            raise InvalidAMIIdError(self._get_param("SourceImageId"))
        mappings = []
        for mapping in original.mappings:
            copied = dict(mapping)
            if "SnapshotId" in mapping.get("Ebs", {}):
                copied["Ebs"] = mapping["Ebs"] | self._copied_snapshot(source, original, mapping["Ebs"]["SnapshotId"])
            mappings.append(copied)
        return self._add_image(
            mappings,
            tags=dict(source.tags.get(original.id, {})) if self._get_param("CopyImageTags") else {},
            lineage={
                "source_image_id": original.id,
                "source_image_region": source.region_name,
                "imds_support": original.imds_support,
                "made_of": original.made_of,
            },
            source_ami=original,
            root_device_name=original.root_device_name,
        )

    def _check_duration(self) -> None:
        """Refuse a time for the copy that EC2 does not promise: it goes by quarters of an hour, up to two days."""
        minutes = self._get_param("SnapshotCopyCompletionDurationMinutes")
        if minutes is not None and int(minutes) not in range(15, 48 * 60 + 1, 15):
            text = (
                f"Value ({minutes}) for SnapshotCopyCompletionDurationMinutes is invalid: 15 to 2880, in steps of 15."
            )
            refuse("InvalidParameterValue", text)

    def _copied_snapshot(self, source: Any, image: images.SandboxAmi, snapshot_id: str) -> dict[str, Any]:
        old = source.snapshots[snapshot_id]
        text = f"Copied for DestinationAmi {_OF_IMAGE} from SourceAmi {image.id} for SourceSnapshot {snapshot_id}."
        new = new_snapshot(self.ec2_backend, old.volume, text, ready_at=time.monotonic() + images.PENDING_S)
        new.encrypted = old.encrypted or bool(self._get_param("Encrypted", False))
        if new.encrypted:
            new.kms_key_id = self._get_param("KmsKeyId") or None
        new.full_snapshot_size_in_bytes = old.full_snapshot_size_in_bytes
        new.completion_duration_minutes = self._get_param("SnapshotCopyCompletionDurationMinutes")
        return {"SnapshotId": new.id, "Encrypted": new.encrypted}

    def _add_image(
        self,
        mappings: list[dict[str, Any]],
        *,
        lineage: dict[str, str | None],
        tags: dict[str, str] | None = None,
        **details: Any,
    ) -> ActionResult:
        backend, given = self.ec2_backend, self._parse_tag_specification()
        image = images.SandboxAmi(
            backend,
            mappings,
            name=self._get_param("Name"),
            description=self._get_param("Description", ""),
            tags=(tags or {}) | given.get("image", {}),
            **details,
        )
        for name, value in lineage.items():
            setattr(image, name, value)
        image.ready_at = time.monotonic() + images.PENDING_S
        for snapshot_id in image.snapshot_ids:
            snapshot = backend.snapshots[snapshot_id]
            snapshot.add_tags(given.get("snapshot", {}))
            snapshot.description = (snapshot.description or "").replace(_OF_IMAGE, image.id)
        backend.amis[image.id] = image
        return ActionResult({"ImageId": image.id})

    def _check_name(self) -> None:
        name = self._get_param("Name")
        for image in self.ec2_backend.amis.values():
            if image.name == name and image.owner_id == self.current_account:
                refuse("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {image.id}")
