"""Instances as EC2 starts them: from their AMI's volumes, only from AMIs that can be launched."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import InvalidAMIIdError
from moto.ec2.models.instance_types import INSTANCE_TYPES

from gpu_ami_sandbox.aws.ec2.allowed_images import is_hidden
from gpu_ami_sandbox.aws.ec2.gpus import check_fault
from gpu_ami_sandbox.aws.ec2.images import Images, note_launch
from gpu_ami_sandbox.aws.ec2.part import ALL_ROWS, EC2Part, matches
from gpu_ami_sandbox.aws.ec2.volumes import check_rates, fill
from gpu_ami_sandbox.aws.refusals import refuse


class Instances(Images, EC2Part):
    """EC2's instance actions."""

    def run_instances(self) -> ActionResult:
        """Start instances; each gets the volumes of its AMI, as the launch template and the request change them."""
        template = self._template_data()
        named = self._get_param("ImageId") or template.get("ImageId")
        if named is None:
            refuse("MissingParameter", "The request must contain the parameter ImageId")
        image = self._known_image(self._resolved_image(named))
        if is_hidden(self.ec2_backend, self.current_account, image):
            raise InvalidAMIIdError(image.id)
        if image.state != "available":
            refuse("InvalidAMIID.Unavailable", f"The image ID '{image.id}' is not available")
        self._check_place(template)
        self._check_architecture(template, image.architecture)
        self._check_type(template, image)
        check_fault(image)
        requested = self._get_param("BlockDeviceMappings", [])
        merged = merge_mappings(image.mappings, template.get("BlockDeviceMappings") or [], requested)
        self._check_sizes(merged)
        ebs = [mapping["Ebs"] for mapping in merged if "Ebs" in mapping] * int(self._get_param("MaxCount") or 1)
        check_rates(self.ec2_backend, [(e.get("VolumeInitializationRate"), e.get("SnapshotId")) for e in ebs])
        self.params = dict(self.params) | {"ImageId": image.id, "BlockDeviceMappings": merged}
        answer = super().run_instances()
        for instance in answer.result.instances:
            self._complete_volumes(instance)
        note_launch(image)
        return answer

    def terminate_instances(self) -> ActionResult:
        """End instances; one that is ended already is a success: moto would delete its interfaces again, and fail."""
        named = set(self._get_param("InstanceIds", []))
        for instance in self.ec2_backend.all_instances():
            for nic in instance.nics.values() if instance.id in named else ():
                nic.delete_on_termination = nic.delete_on_termination and nic.id in self.ec2_backend.enis
        return super().terminate_instances()

    def describe_instances(self) -> ActionResult:
        """List instances, in pages that stay whole while instances come and go."""
        answer = self._ask_moto(super().describe_instances, without="NextToken", MaxResults=ALL_ROWS)
        shown = [
            row for row in answer["Reservations"] if not all(self._hides(instance.id) for instance in row.instances)
        ]
        return self._answer_page("Reservations", shown)

    def describe_volumes(self) -> ActionResult:
        """List volumes; whether one goes with its instance, which moto leaves out, too."""
        answer = super().describe_volumes()
        for attached in (attached for volume in answer.result["Volumes"] for attached in volume.attachments):
            mapping = attached.instance.block_device_mapping.get(attached.device)
            attached.delete_on_termination = bool(mapping and mapping.delete_on_termination)
        return answer

    def _check_place(self, template: dict[str, Any]) -> None:
        """Refuse a launch that names no subnet where there is no default VPC, a dry run too: moto does not that one."""
        is_named = any(self._get_param(name) or template.get(name) for name in ("SubnetId", "NetworkInterfaces"))
        if not is_named and self.ec2_backend.get_default_vpc() is None:
            text = "No default VPC for this user. GroupName is only supported for EC2-Classic and default VPC."
            refuse("VPCIdNotSpecified", text)

    def _check_architecture(self, template: dict[str, Any], architecture: str) -> None:
        """Refuse a type that the AMI cannot run on; a type that moto does not know is moto's to refuse."""
        kind = self._get_param("InstanceType") or template.get("InstanceType")
        known = INSTANCE_TYPES.get(kind, {}).get("ProcessorInfo", {}).get("SupportedArchitectures", [])
        if known and architecture not in known:
            text = (
                f"The architecture '{','.join(known)}' of the specified instance type does not match the architecture "
                f"'{architecture}' of the specified AMI. Specify an instance type and an AMI that have matching "
                "architectures, and try again."
            )
            refuse("InvalidParameterValue", text)

    def _check_type(self, template: dict[str, Any], image: Any) -> None:
        """Refuse a type that the AMI's owner excludes."""
        kind = self._get_param("InstanceType") or template.get("InstanceType") or ""
        rules = image.instance_type_specification or {}
        supported, unsupported = (
            [entry["InstanceType"] for entry in rules.get(name, [])]
            for name in ("SupportedInstanceTypes", "UnsupportedInstanceTypes")
        )
        if (supported and not matches([kind], supported)) or matches([kind], unsupported):
            text = f"The instance type '{kind}' is not supported by the specified AMI '{image.id}'."
            refuse("InvalidParameterCombination", text)

    def _template_data(self) -> dict[str, Any]:
        named = self._get_param("LaunchTemplate", {})
        data: dict[str, Any] = self.ec2_backend._get_template_from_args(named).data if named else {}
        return data

    def _check_sizes(self, mappings: list[dict[str, Any]]) -> None:
        snapshots = self.ec2_backend.snapshots
        for ebs in (mapping["Ebs"] for mapping in mappings if "Ebs" in mapping):
            snapshot = snapshots.get(ebs.get("SnapshotId"))
            size = ebs.get("VolumeSize")
            if snapshot is not None and size is not None and int(size) < snapshot.volume_size:
                needed = f"expect size >= {snapshot.volume_size}GB"
                text = f"Volume of size {size}GB is smaller than snapshot '{snapshot.id}', {needed}"
                refuse("InvalidBlockDeviceMapping", text)

    def _complete_volumes(self, instance: Any) -> None:
        """Give volumes what moto drops: the rate to fill them at, IOPS and throughput of gp3."""
        requested = {m["DeviceName"]: m["Ebs"] for m in self._get_param("BlockDeviceMappings")}
        for device, attached in instance.get_block_device_mapping:
            volume, ebs = self.ec2_backend.get_volume(attached.volume_id), requested[device]
            if volume.volume_type == "gp3":
                volume.iops = int(ebs.get("Iops") or 3000)
                volume.throughput = int(ebs.get("Throughput") or 125)
            fill(self.ec2_backend, volume, ebs.get("VolumeInitializationRate"))


def merge_mappings(*layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the devices of an instance: each later layer changes single values of the earlier ones.

    The first layer is the AMI's. A device with ``NoDevice`` is left out; one without a volume (instance store)
    makes no volume and is left out too.
    """
    devices: dict[str, dict[str, Any]] = {}
    for mapping in (mapping for layer in layers for mapping in layer):
        name = mapping["DeviceName"]
        if "NoDevice" in mapping:
            devices.pop(name, None)
        elif "Ebs" in mapping:
            known = devices.get(name, {"DeviceName": name, "Ebs": {}})
            given = {key: value for key, value in mapping["Ebs"].items() if value is not None}
            devices[name] = {"DeviceName": name, "Ebs": deepcopy(known["Ebs"]) | given}
    return list(devices.values())
