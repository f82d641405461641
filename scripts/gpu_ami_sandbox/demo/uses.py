"""Every way in which something in an account needs an AMI: one function each, named after the way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from gpu_ami_sandbox.aws.ec2.images import ISO, SandboxAmi
from gpu_ami_sandbox.aws.ec2.part import managed
from gpu_ami_sandbox.aws.ec2.usage_reports import UseElsewhere, uses_elsewhere
from gpu_ami_sandbox.aws.image_builder import add_recipe
from gpu_ami_sandbox.demo.factory import INSTANCE_TYPE, Maker

OTHER_ACCOUNT = "210987654321"
Use = Callable[[Maker, SandboxAmi], None]
# By the function's name without its underscore, in the order below.
USES: dict[str, Use] = {}


def _use(function: Use) -> Use:
    USES[function.__name__.lstrip("_")] = function
    return function


@_use
def _running_instance(make: Maker, image: SandboxAmi) -> None:
    make.instance(image)


@_use
def _stopped_instance(make: Maker, image: SandboxAmi) -> None:
    make.instance(image).stop()


@_use
def _managed_instance(make: Maker, image: SandboxAmi) -> None:
    managed(make.ec2).add(make.instance(image).id)


@_use
def _template_default_version(make: Maker, image: SandboxAmi) -> None:
    make.template("default-version", image.id, make.filler())


@_use
def _template_middle_version(make: Maker, image: SandboxAmi) -> None:
    make.template("middle-version", make.filler(), image.id, make.filler())


@_use
def _template_latest_version(make: Maker, image: SandboxAmi) -> None:
    make.template("latest-version", make.filler(), image.id)


@_use
def _managed_template(make: Maker, image: SandboxAmi) -> None:
    managed(make.ec2).add(make.template("managed", image.id))


@_use
def _template_alias(make: Maker, image: SandboxAmi) -> None:
    make.parameter("/launch/alias", image.id)
    make.template("alias", "resolve:ssm:/launch/alias")


@_use
def _group_pinned_version(make: Maker, image: SandboxAmi) -> None:
    template = make.template("pinned", make.filler(), image.id, make.filler())
    make.group("pinned", launch_template={"LaunchTemplateId": template, "Version": "2"})


@_use
def _group_mixed_base(make: Maker, image: SandboxAmi) -> None:
    base = {"LaunchTemplateId": make.template("mixed-base", image.id), "Version": "$Default"}
    make.group("mixed-base", mixed_instances_policy={"LaunchTemplate": {"LaunchTemplateSpecification": base}})


@_use
def _group_mixed_override(make: Maker, image: SandboxAmi) -> None:
    base = {"LaunchTemplateId": make.template("mixed", make.filler()), "Version": "$Default"}
    other = {"LaunchTemplateId": make.template("mixed-override", image.id), "Version": "1"}
    overrides = [{"InstanceType": "g6.xlarge", "LaunchTemplateSpecification": other}]
    policy = {"LaunchTemplate": {"LaunchTemplateSpecification": base, "Overrides": overrides}}
    make.group("mixed-override", mixed_instances_policy=policy)


@_use
def _launch_configuration(make: Maker, image: SandboxAmi) -> None:
    make.launch_configuration("alone", image)


@_use
def _group_launch_configuration(make: Maker, image: SandboxAmi) -> None:
    make.launch_configuration("empty-group", image)
    make.group("empty-group", launch_config_name="empty-group")


@_use
def _spot_fleet(make: Maker, image: SandboxAmi) -> None:
    specification = {"ImageId": image.id, "InstanceType": INSTANCE_TYPE, "SubnetId": make.location.subnet_id}
    role = f"arn:aws:iam::{make.location.account_id}:role/fleet"
    make.ec2.request_spot_fleet("1", "0", role, "lowestPrice", [specification], [])


@_use
def _ec2_fleet(make: Maker, image: SandboxAmi) -> None:
    template = {"LaunchTemplateId": make.template("fleet", image.id), "Version": "1"}
    capacity = {"TotalTargetCapacity": 0, "DefaultTargetCapacityType": "on-demand"}
    configs = [{"LaunchTemplateSpecification": template}]
    make.ec2.create_fleet({}, {}, capacity, configs, "termination", False, False, "maintain", None, None, [])


@_use
def _batch_image_id_override(make: Maker, image: SandboxAmi) -> None:
    override = [{"imageType": "ECS_AL2023_NVIDIA", "imageIdOverride": image.id}]
    make.environment("image-id-override", ec2Configuration=override)


@_use
def _batch_image_id(make: Maker, image: SandboxAmi) -> None:
    make.environment("image-id", imageId=image.id)


@_use
def _batch_pinned_template(make: Maker, image: SandboxAmi) -> None:
    template = make.template("batch-pinned", make.filler(), image.id, make.filler())
    make.environment("batch-pinned", launchTemplate={"launchTemplateId": template, "version": "2"})


@_use
def _batch_template_override(make: Maker, image: SandboxAmi) -> None:
    base, other = make.template("batch-base", make.filler()), make.template("batch-override", image.id)
    overrides = [{"launchTemplateId": other, "version": "1", "targetInstanceTypes": [INSTANCE_TYPE]}]
    make.environment("batch-override", launchTemplate={"launchTemplateId": base, "overrides": overrides})


@_use
def _batch_frozen_latest(make: Maker, image: SandboxAmi) -> None:
    # Batch resolved $Latest when the environment was made; a newer version exists since.
    template = make.template("batch-frozen", image.id, make.filler())
    make.environment("batch-frozen", launchTemplate={"launchTemplateId": template, "version": "$Latest"})


@_use
def _parameter_ami_id(make: Maker, image: SandboxAmi) -> None:
    make.parameter("/gpu/ami-id", image.id, data_type="aws:ec2:image")


@_use
def _parameter_other_name(make: Maker, image: SandboxAmi) -> None:
    make.parameter("/video/blue", image.id)


@_use
def _parameter_list(make: Maker, image: SandboxAmi) -> None:
    make.parameter("/video/approved", f"{make.filler()},{image.id}", kind="StringList")


@_use
def _parameter_json(make: Maker, image: SandboxAmi) -> None:
    make.parameter("/video/release", f'{{"version": 7, "image": {{"id": "{image.id}"}}}}')


@_use
def _image_builder_recipe(make: Maker, image: SandboxAmi) -> None:
    recipe = {"name": "video tools", "version": "1.0.0", "parentImage": image.id}
    add_recipe(make.location.account_id, make.location.region, "image", recipe)


@_use
def _image_builder_parent(make: Maker, image: SandboxAmi) -> None:
    # The AMI came out of Image Builder itself, and a recipe starts from whatever is newest of that name.
    base = f"arn:aws:imagebuilder:{make.location.region}:{make.location.account_id}:image/base"
    image.add_tags({"Ec2ImageBuilderArn": f"{base}/1.0.0/1"})
    recipe = {"name": "on top of base", "version": "1.0.0", "parentImage": f"{base}/x.x.x"}
    add_recipe(make.location.account_id, make.location.region, "image", recipe)


@_use
def _image_builder_mapping(make: Maker, image: SandboxAmi) -> None:
    mapping = {"deviceName": "/dev/sdf", "ebs": {"snapshotId": image.snapshot_ids[0]}}
    recipe = {"name": "models", "version": "1.0.0", "parentImage": make.filler(), "blockDeviceMappings": [mapping]}
    add_recipe(make.location.account_id, make.location.region, "image", recipe)


@_use
def _stack_parameter(make: Maker, image: SandboxAmi) -> None:
    parameters = [{"ParameterKey": "Workers", "ParameterValue": "4"}]
    make.stack("video", Parameters=[*parameters, {"ParameterKey": "GpuImage", "ParameterValue": image.id}])


@_use
def _lambda_variable(make: Maker, image: SandboxAmi) -> None:
    make.function("resize-environment", {"QUEUE": "batch-video-analysis", "GPU_AMI": image.id})


@_use
def _state_machine(make: Maker, image: SandboxAmi) -> None:
    make.state_machine("reprocess", make.definition(image.id))


@_use
def _launch_permission(make: Maker, image: SandboxAmi) -> None:
    image.launch_permissions.append({"UserId": OTHER_ACCOUNT})
    # Seen by an image usage report alone.
    there = [UseElsewhere(OTHER_ACCOUNT, "ec2:Instance", 2), UseElsewhere(OTHER_ACCOUNT, "ec2:LaunchTemplate", 1)]
    uses_elsewhere(make.ec2)[image.id] = there


@_use
def _public_launch_permission(_make: Maker, image: SandboxAmi) -> None:
    image.launch_permissions.append({"Group": "all"})


@_use
def _deregistration_protection(_make: Maker, image: SandboxAmi) -> None:
    image.deregistration_protection = "enabled-with-cooldown"


@_use
def _keep_tag(_make: Maker, image: SandboxAmi) -> None:
    image.add_tags({"gpu-ami:keep": "true"})


@_use
def _aws_backup(make: Maker, image: SandboxAmi) -> None:
    instance = f"arn:aws:ec2:{make.location.region}:{make.location.account_id}:instance/i-0123456789abcdef0"
    image.name = f"AwsBackup_{image.id}"
    image.add_tags({"aws:backup:source-resource": instance})


@_use
def _dlm_policy(_make: Maker, image: SandboxAmi) -> None:
    image.add_tags({"aws:dlm:lifecycle-policy-id": "policy-0123456789abcdef0"})


@_use
def _snapshot_lock(make: Maker, image: SandboxAmi) -> None:
    snapshot = make.ec2.snapshots[image.snapshot_ids[0]]
    snapshot.lock = {
        "OwnerId": make.location.account_id,
        "SnapshotId": snapshot.id,
        "LockState": "governance",
        "LockDuration": 365,
        "LockCreatedOn": make.now,
        "LockDurationStartTime": make.now,
        "LockExpiresOn": make.now + timedelta(days=365),
    }


@_use
def _public_snapshot(make: Maker, image: SandboxAmi) -> None:
    make.ec2.snapshots[image.snapshot_ids[0]].create_volume_permission_groups.add("all")


@_use
def _recent_launch(make: Maker, image: SandboxAmi) -> None:
    image.last_launched_time = (make.now - timedelta(days=3)).strftime(ISO)
