"""AMIs as EC2 keeps them: described, deprecated, protected, disabled, shared, deregistered."""

from __future__ import annotations

import functools
import time
from datetime import datetime, timezone
from typing import Any

from botocore import xform_name
from moto.core.responses import ActionResult
from moto.core.utils import get_service_model, utcnow
from moto.ec2.exceptions import InvalidAMIIdError, MalformedAMIIdError, UnvailableAMIIdError
from moto.ec2.models.amis import Ami
from moto.ec2.utils import random_ami_id

from gpu_ami.records.tags import AMI_ID
from gpu_ami_sandbox.aws.ec2.allowed_images import allowed
from gpu_ami_sandbox.aws.ec2.part import EC2Part, tag_values
from gpu_ami_sandbox.aws.ec2.recycle_bin import recycle_bin
from gpu_ami_sandbox.aws.ec2.shared_images import shared_with
from gpu_ami_sandbox.aws.ec2.snapshots import image_using, remove_snapshot
from gpu_ami_sandbox.aws.refusals import refuse

ISO = "%Y-%m-%dT%H:%M:%S.000Z"
# How long a new AMI stays pending: long enough for a progress display to see it, short enough not to be felt.
PENDING_S = 0.3
_UNPROTECTED = "disabled"
_BACKUP_TAG = "aws:backup:source-resource"
_BACKUP_REFUSAL = (
    "This image is managed by AWS Backup and cannot be deleted via EC2 APIs. "
    "To delete this image, please use the AWS Backup APIs, CLI, or console."
)
_FILTERS = {
    "architecture": lambda i: [i.architecture],
    "creation-date": lambda i: [i.creation_date.strftime(ISO)],
    "description": lambda i: [i.description or ""],
    "hypervisor": lambda i: [i.hypervisor],
    "image-id": lambda i: [i.id],
    "image-type": lambda i: [i.image_type],
    "is-public": lambda i: [str(i.is_public).lower()],
    "name": lambda i: [i.name or ""],
    "owner-alias": lambda i: [i.owner_alias or ""],
    "owner-id": lambda i: [i.owner_id],
    "platform": lambda i: [i.platform or ""],
    "root-device-name": lambda i: [i.root_device_name],
    "root-device-type": lambda i: [i.root_device_type],
    "source-image-id": lambda i: [i.source_image_id or ""],
    "source-image-region": lambda i: [i.source_image_region or ""],
    "source-instance-id": lambda i: [i.source_instance_id or ""],
    "state": lambda i: [i.state],
    "virtualization-type": lambda i: [i.virtualization_type],
    "block-device-mapping.device-name": lambda i: [m["DeviceName"] for m in i.mappings],
    "block-device-mapping.snapshot-id": lambda i: i.snapshot_ids,
    "block-device-mapping.volume-size": lambda i: [str(e["VolumeSize"]) for e in i.volumes],
    "block-device-mapping.volume-type": lambda i: [e["VolumeType"] for e in i.volumes if "VolumeType" in e],
    "block-device-mapping.encrypted": lambda i: [str(e.get("Encrypted", False)).lower() for e in i.volumes],
    "block-device-mapping.delete-on-termination": lambda i: [str(e["DeleteOnTermination"]).lower() for e in i.volumes],
}


class SandboxAmi(Ami):
    """An AMI with the volumes it was made from.

    Attributes:
        ready_at: The monotonic time from which on it is available.
        mappings: Its block device mappings, as EC2 shows them.
        made_of: The instance whose volumes it or, of a copy, its original was made of; None for others.
    """

    image_owner_alias: str | None

    def __init__(self, backend: Any, mappings: list[dict[str, Any]], ami_id: str = "", **details: Any) -> None:
        """Build the AMI; the caller adds it to ``backend.amis`` once it is complete."""
        self._state = "available"
        self.ready_at = 0.0
        self.mappings = mappings
        self.source_image_id: str | None = None
        self.source_image_region: str | None = None
        self.made_of: str | None = None
        self.deprecation_time: str | None = None
        self.last_launched_time: str | None = None
        self.deregistration_protection = _UNPROTECTED
        self.imds_support: str | None = None
        self.instance_type_specification: dict[str, list[dict[str, str]]] | None = None
        self.image_allowed: bool | None = None
        self.ena_support = True
        self.platform_details, self.usage_operation = "Linux/UNIX", "RunInstances"
        super().__init__(backend, ami_id or random_ami_id(), root_device_type="ebs", **details)
        # moto gives each AMI a 15 GiB snapshot of its own; ours come with the mappings.
        backend.snapshots.pop(self.ebs_snapshot.id)
        self.virtualization_type: str = details.get("virtualization_type") or "hvm"
        self.architecture: str = details.get("architecture") or "x86_64"
        self.hypervisor = "xen"
        self.image_location = f"{self.owner_alias or self.owner_id}/{self.name}"
        self.image_owner_alias = self.owner_alias

    @property
    def state(self) -> str:
        """What AWS calls the AMI's state; pending turns into available by itself."""
        return "pending" if self._state == "available" and time.monotonic() < self.ready_at else self._state

    @state.setter
    def state(self, value: str) -> None:
        self._state = value

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        """The mapping of each device, snapshots included."""
        return self.mappings

    @property
    def volumes(self) -> list[dict[str, Any]]:
        """What the EBS volumes of an instance of it look like."""
        return [mapping["Ebs"] for mapping in self.mappings if "Ebs" in mapping]

    @property
    def snapshot_ids(self) -> list[str]:
        """The snapshots that the AMI consists of."""
        return [ebs["SnapshotId"] for ebs in self.volumes if "SnapshotId" in ebs]

    @property
    def public(self) -> bool:
        """Whether every account may launch it."""
        return bool(self.is_public)


class Images(EC2Part):
    """EC2's actions on AMIs that exist."""

    # --- deprecation, protection, disabling

    def enable_image_deprecation(self) -> ActionResult:
        """Say from when on the AMI is deprecated; EC2 cuts the seconds off and refuses the past."""
        moment: datetime = self._get_param("DeprecateAt")
        moment = moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
        if moment < datetime.now(timezone.utc):
            refuse("InvalidParameterValue", "The deprecation date must be in the future.")
        return self._change_image(deprecation_time=moment.strftime("%Y-%m-%dT%H:%M:00.000Z"))

    def disable_image_deprecation(self) -> ActionResult:
        """Forget from when on the AMI is deprecated."""
        return self._change_image(deprecation_time=None)

    def enable_image_deregistration_protection(self) -> ActionResult:
        """Protect the AMI from being deregistered."""
        how = "with" if self._get_param("WithCooldown", False) else "without"
        return self._change_image(deregistration_protection=f"enabled-{how}-cooldown")

    def disable_image_deregistration_protection(self) -> ActionResult:
        """Allow the AMI to be deregistered again."""
        return self._change_image(deregistration_protection=_UNPROTECTED)

    def disable_image(self) -> ActionResult:
        """Hide the AMI and, as EC2 does, take its launch permissions away for good."""
        return self._change_image(state="disabled", launch_permissions=[])

    def enable_image(self) -> ActionResult:
        """Make a disabled AMI available again."""
        return self._change_image(state="available")

    def _change_image(self, **values: Any) -> ActionResult:
        self.error_on_dryrun()
        image = self._own_image(self._get_param("ImageId"))
        for name, value in values.items():
            setattr(image, name, value)
        return ActionResult({"Return": True})

    # --- describing AMIs

    def describe_images(self) -> ActionResult:
        """List AMIs: every requested id must exist, disabled ones only on request, in pages.

        A request that names a pending AMI is answered when the AMI is ready: a waiter would otherwise sleep
        seconds for the tenths of a second that the sandbox's AMIs are pending.
        """
        self.error_on_dryrun()
        backend = self.ec2_backend
        requested: list[str] = self._get_param("ImageIds", [])
        for image_id in requested:
            if image_id not in backend.deleted_amis:
                time.sleep(max(0.0, self._known_image(image_id).ready_at - time.monotonic()))
        owners = [self.current_account if owner == "self" else owner for owner in self._get_param("Owners", [])]
        users = self._get_param("ExecutableUsers", [])
        images = backend.describe_images(ami_ids=requested, exec_users=list(users), owners=owners)
        if owners:
            images = [image for image in images if {image.owner_id, image.owner_alias} & set(owners)]
        images = [image for image in images if self._is_visible(image, named=image.id in requested)]
        if not requested and not owners:
            images += shared_with(self.current_account, self.region)
        images = allowed(backend, self.current_account, images, named=requested)
        answer = self._answer_page("Images", self._filtered(images, self._image_values))
        answer.result["Images"] = [_shown(image) for image in answer.result["Images"]]
        return answer

    def describe_image_attribute(self) -> ActionResult:
        """Show one attribute; those that moto does not know of, too."""
        image_id, attribute = self._get_param("ImageId"), self._get_param("Attribute")
        image = self._own_image(image_id)
        shown = {
            "lastLaunchedTime": ("LastLaunchedTime", image.last_launched_time),
            "deregistrationProtection": ("DeregistrationProtection", image.deregistration_protection),
            "imdsSupport": ("ImdsSupport", image.imds_support),
        }
        if attribute not in shown:
            return super().describe_image_attribute()
        key, value = shown[attribute]
        return ActionResult({"ImageId": image_id, key: {"Value": value}})

    def modify_image_attribute(self) -> ActionResult:
        """Change who may launch an own AMI, its description or its metadata service."""
        image = self._own_image(self._get_param("ImageId"))
        answer = super().modify_image_attribute()
        for name, attribute in (("Description", "description"), ("ImdsSupport", "imds_support")):
            if (given := self._get_param(name)) is not None:
                setattr(image, attribute, given["Value"])
        return answer

    def replace_image_instance_type_specification(self) -> ActionResult:
        """Say on which instance types an own AMI may run, or no longer."""
        given = self._get_param("InstanceTypeSpecification")
        lists = {name: [{"InstanceType": kind} for kind in kinds] for name, kinds in (given or {}).items()}
        self._change_image(instance_type_specification=lists or None)
        return ActionResult({"ReturnValue": True})

    def _is_visible(self, image: SandboxAmi, *, named: bool) -> bool:
        mine = image.owner_id == self.current_account
        shared = image.is_public or {"UserId": self.current_account} in image.launch_permissions
        hidden = image.state == "disabled" and not named and not self._get_param("IncludeDisabled", False)
        return (mine or shared) and not hidden

    def _image_values(self, image: SandboxAmi, name: str) -> list[str] | None:
        values = _FILTERS.get(name)
        return values(image) if values else tag_values(self._tags_of(image.id), name)

    # --- letting go of AMIs

    def deregister_image(self) -> ActionResult:
        """Deregister an own, unprotected AMI, with the snapshots that no other AMI needs if requested."""
        self.error_on_dryrun()
        backend, image = self.ec2_backend, self._own_image(self._get_param("ImageId"))
        if _BACKUP_TAG in self._tags_of(image.id):
            refuse("AuthFailure", _BACKUP_REFUSAL)
        if image.deregistration_protection != _UNPROTECTED:
            refuse("OperationNotPermitted", f"The image {image.id} is protected from deregistration.")
        recycle_bin(backend).keep_image(backend, image)
        backend.deregister_image(image.id)
        selected = image.snapshot_ids if self._get_param("DeleteAssociatedSnapshots", False) else []
        results = [
            {"SnapshotId": snapshot_id, "ReturnCode": self._drop_snapshot(snapshot_id)} for snapshot_id in selected
        ]
        return ActionResult({"Return": True, "DeleteSnapshotResults": results})

    def _drop_snapshot(self, snapshot_id: str) -> str:
        backend = self.ec2_backend
        if snapshot_id not in backend.snapshots or image_using(backend, snapshot_id):
            return "skipped"
        if backend.snapshots[snapshot_id].lock is not None:
            return "client-error"
        remove_snapshot(backend, snapshot_id)
        return "success"

    def _known_image(self, image_id: str) -> SandboxAmi:
        if AMI_ID.fullmatch(image_id) is None:
            raise MalformedAMIIdError([image_id])
        image = self.ec2_backend.amis.get(image_id)
        if image is None:
            gone = image_id in self.ec2_backend.deleted_amis
            raise UnvailableAMIIdError(image_id) if gone else InvalidAMIIdError(image_id)
        return image  # type: ignore[no-any-return]  # moto's dictionary of untyped AMIs

    def _own_image(self, image_id: str) -> SandboxAmi:
        image = self._known_image(image_id)
        if image.owner_id != self.current_account:
            refuse("AuthFailure", f"Not authorized for image:{image_id}")
        return image


@functools.cache
def _members() -> tuple[tuple[str, str], ...]:
    """Return EC2's name of each property of an AMI, and moto's."""
    shape = get_service_model("ec2").shape_for("Image")
    return tuple((name, "id" if name == "ImageId" else xform_name(name)) for name in shape.members if name != "Tags")


def _shown(image: SandboxAmi) -> dict[str, Any]:
    """Return the AMI by EC2's names: moto would try several names for each property of a thousand AMIs."""
    return {name: getattr(image, own, None) for name, own in _members()} | {"Tags": image.get_tags()}


def note_launch(image: SandboxAmi) -> None:
    """Remember that an instance was launched from *image* just now."""
    image.last_launched_time = utcnow().strftime(ISO)
