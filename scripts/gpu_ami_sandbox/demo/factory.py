"""Makes AMIs, and what needs them, straight in moto's backends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from moto.autoscaling.models import autoscaling_backends
from moto.batch.models import batch_backends
from moto.ec2.models import ec2_backends
from moto.ec2.models.elastic_block_store import Volume
from moto.ec2.utils import random_volume_id
from moto.ssm.models import ssm_backends

from gpu_ami_sandbox.aws.base_image import base_image_id
from gpu_ami_sandbox.aws.batch import service_linked_role
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.aws.ec2.snapshots import new_snapshot
from gpu_ami_sandbox.aws.held import rows, things

FAMILY = "gpu-batch"
PIPELINE = "gpu-ami-pipeline"
INSTANCE_TYPE = "g5.xlarge"
_ROOT_GIB = 80


@dataclass(frozen=True)
class DemoLocation:
    """Where instances of the demo account run: account, region and network."""

    account_id: str
    region: str
    subnet_id: str
    security_group_id: str
    instance_profile: str

    def compute_resources(self, **more: Any) -> dict[str, Any]:
        """Return the compute resources of a Batch environment that runs nothing yet."""
        return {
            "type": "SPOT",
            "allocationStrategy": "SPOT_PRICE_CAPACITY_OPTIMIZED",
            "minvCpus": 0,
            "maxvCpus": 64,
            "desiredvCpus": 0,
            "instanceTypes": [INSTANCE_TYPE],
            "subnets": [self.subnet_id],
            "securityGroupIds": [self.security_group_id],
            "instanceRole": f"arn:aws:iam::{self.account_id}:instance-profile/{self.instance_profile}",
        } | more


class Maker:
    """Makes AMIs and what needs them, in one region of the demo account."""

    def __init__(self, location: DemoLocation, now: datetime) -> None:
        """Work on the backends of *location*; *now* is naive UTC, as moto keeps time."""
        self.location, self.now = location, now
        self.ec2 = ec2_backends[location.account_id][location.region]
        self.autoscaling = autoscaling_backends[location.account_id][location.region]
        self.batch = batch_backends[location.account_id][location.region]
        self.ssm = ssm_backends[location.account_id][location.region]

    def image(self, age_days: int, name: str = "", snapshot_ids: list[str] | None = None) -> SandboxAmi:
        """Make an AMI of the family, as a build *age_days* ago left it."""
        made = self.now - timedelta(days=age_days, minutes=age_days * 37 % 600)
        run = made.strftime("%Y%m%d%H%M%S")
        tags = {"gpu-ami:pipeline": PIPELINE, "gpu-ami:family": FAMILY, "gpu-ami:run": run}
        name = name or f"{FAMILY}-{run}"
        snapshots = snapshot_ids or [self._snapshot(made, tags)]
        ebs = {
            "SnapshotId": snapshots[0],
            "VolumeSize": _ROOT_GIB,
            "VolumeType": "gp3",
            "Encrypted": True,
            "DeleteOnTermination": True,
        }
        image = SandboxAmi(
            self.ec2,
            [{"DeviceName": "/dev/xvda", "Ebs": ebs}],
            name=name,
            description="GPU AMI for AWS Batch",
            root_device_name="/dev/xvda",
            creation_date=made,
            tags=tags | {"Name": name},
        )
        image.source_image_id, image.source_image_region = base_image_id(self.location.region), self.location.region
        image.imds_support = "v2.0"
        snapshot = self.ec2.snapshots[snapshots[0]]
        snapshot.description = snapshot.description or f"Created by CreateImage(i-{run}000) for {image.id}"
        self.ec2.amis[image.id] = image
        return image

    def _snapshot(self, made: datetime, tags: dict[str, str]) -> str:
        volume = Volume(self.ec2, random_volume_id(), _ROOT_GIB, None, encrypted=True, volume_type="gp3")
        snapshot = new_snapshot(self.ec2, volume, "")
        snapshot.start_time = made
        snapshot.add_tags(tags)
        return str(snapshot.id)

    def template(self, name: str, *image_ids: str | None) -> str:
        """Make a launch template with one version per AMI and return its id."""
        versions = [{"InstanceType": INSTANCE_TYPE} | ({"ImageId": i} if i else {}) for i in image_ids]
        template = self.ec2.create_launch_template(name, "", versions[0], {})
        for data in versions[1:]:
            template.create_version(data, "")
        return str(template.id)

    def instance(self, image: SandboxAmi) -> Any:
        """Start an instance."""
        mapping = {"DeviceName": "/dev/xvda", "Ebs": image.volumes[0]}
        return self.ec2.run_instances(
            image.id,
            1,
            None,
            [],
            instance_type=INSTANCE_TYPE,
            is_instance_type_default=False,
            region_name=self.location.region,
            subnet_id=self.location.subnet_id,
            security_group_ids=[self.location.security_group_id],
            block_device_mappings=[mapping],
        ).instances[0]

    def group(self, name: str, **launch: Any) -> None:
        """Make an Auto Scaling group without instances."""
        sources = {"launch_config_name": None, "launch_template": {}, "mixed_instances_policy": None} | launch
        self.autoscaling.create_auto_scaling_group(
            name=name,
            availability_zones=[],
            desired_capacity=0,
            max_size=4,
            min_size=0,
            vpc_zone_identifier=self.location.subnet_id,
            default_cooldown=None,
            health_check_period=None,
            health_check_type=None,
            load_balancers=[],
            target_group_arns=[],
            placement_group=None,
            termination_policies=[],
            tags=[],
            **sources,
        )

    def launch_configuration(self, name: str, image: SandboxAmi) -> None:
        """Make a launch configuration."""
        self.autoscaling.create_launch_configuration(
            name, image.id, None, "", "", [], None, INSTANCE_TYPE, False, None, None, False, False, []
        )

    def environment(self, name: str, **resources: Any) -> None:
        """Make a Batch compute environment without instances."""
        role = service_linked_role(self.location.account_id)
        self.batch.create_compute_environment(
            name, "MANAGED", "ENABLED", self.location.compute_resources(**resources), role, {}
        )

    def parameter(self, name: str, value: str, kind: str = "String", data_type: str = "text") -> None:
        """Put an SSM parameter."""
        self.ssm.put_parameter(name, "", value, kind, "", "", False, [], data_type, None, None)

    def stack(self, name: str, **shown: Any) -> None:
        """Make a CloudFormation stack that shows what is given: parameters, outputs, another state."""
        row = {"StackName": name, "CreationTime": self.now, "StackStatus": "CREATE_COMPLETE", **shown}
        self._rows("cloudformation", "DescribeStacks").append(row)

    def function(self, name: str, variables: dict[str, str], version: str = "$LATEST") -> None:
        """Make a Lambda function, or one more version of it, with environment variables."""
        row = {"FunctionName": name, "Version": version, "Environment": {"Variables": variables}}
        self._rows("lambda", "ListFunctions").append(row)

    def state_machine(self, name: str, definition: str, versions: Mapping[str, str] | None = None) -> None:
        """Make a state machine, with the definitions of its published *versions* by their numbers."""
        where = self.location
        arn = f"arn:aws:states:{where.region}:{where.account_id}:stateMachine:{name}"
        shown = {"stateMachineArn": arn, "name": name, "type": "STANDARD", "creationDate": self.now}
        described = things(where.account_id, where.region, "states", "DescribeStateMachine")
        described[arn] = {**shown, "definition": definition, "revisionId": "1"}
        self._rows("states", "ListStateMachines").append(shown)
        for number, text in (versions or {}).items():
            version = f"{arn}:{number}"
            described[version] = {**shown, "stateMachineArn": version, "definition": text}
            row = {"stateMachineVersionArn": version, "creationDate": self.now}
            self._rows("states", "ListStateMachineVersions", arn).append(row)

    def definition(self, image_id: str) -> str:
        """Return the definition of a state machine that launches an AMI."""
        launch = {
            "Type": "Task",
            "Resource": "arn:aws:states:::aws-sdk:ec2:runInstances",
            "Parameters": {"ImageId": image_id, "MinCount": 1, "MaxCount": 1},
            "End": True,
        }
        return json.dumps({"StartAt": "Launch", "States": {"Launch": launch}})

    def _rows(self, service: str, operation: str, of: str = "") -> list[Any]:
        return rows(self.location.account_id, self.location.region, service, operation, of)

    def vpc_id(self) -> str:
        """Return the VPC of the demo account."""
        return str(self.ec2.get_subnet(self.location.subnet_id).vpc_id)

    def filler(self) -> str:
        """Return an AMI id for versions that are not what a case is about: the base AMI."""
        return base_image_id(self.location.region)
