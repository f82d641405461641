"""Rarer ways in which something in an account needs an AMI, one function each; the demo account does without them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from moto.ecs.models import ecs_backends
from moto.ssm.models import FakeMaintenanceWindow

from gpu_ami_sandbox.aws import held
from gpu_ami_sandbox.aws.auto_scaling import instance_refreshes, warm_instances
from gpu_ami_sandbox.aws.ec2.images import ISO, SandboxAmi
from gpu_ami_sandbox.aws.ec2.tasks import tasks
from gpu_ami_sandbox.aws.held import rows, things
from gpu_ami_sandbox.aws.image_builder import add_recipe
from gpu_ami_sandbox.demo.factory import INSTANCE_TYPE, Maker
from gpu_ami_sandbox.demo.uses import Use

# By the function's name without its underscore, in the order below.
RARE_USES: dict[str, Use] = {}


def _use(function: Use) -> Use:
    RARE_USES[function.__name__.lstrip("_")] = function
    return function


@_use
def _stack_resolved_parameter(make: Maker, image: SandboxAmi) -> None:
    # The SSM parameter has another value by now; a stack keeps what it resolved to until its next update.
    resolved = {"ParameterKey": "GpuImage", "ParameterValue": "/video/gone", "ResolvedValue": image.id}
    make.stack("resolved", Parameters=[resolved])


@_use
def _stack_output(make: Maker, image: SandboxAmi) -> None:
    make.stack("baked", Outputs=[{"OutputKey": "GpuImage", "OutputValue": image.id}])


@_use
def _lambda_published_version(make: Maker, image: SandboxAmi) -> None:
    make.function("launcher", {"GPU_AMI": make.filler()})
    make.function("launcher", {"GPU_AMI": image.id}, version="7")


@_use
def _state_machine_version(make: Maker, image: SandboxAmi) -> None:
    make.state_machine("nightly", make.definition(make.filler()), {"3": make.definition(image.id)})


@_use
def _schedule_input(make: Maker, image: SandboxAmi) -> None:
    where = (make.location.account_id, make.location.region, "scheduler")
    target = {
        "Arn": "arn:aws:scheduler:::aws-sdk:ec2:runInstances",
        "RoleArn": f"arn:aws:iam::{make.location.account_id}:role/scheduler",
        "Input": json.dumps({"ImageId": image.id, "MinCount": 1, "MaxCount": 1}),
    }
    shown = {"Name": "nightly", "GroupName": "default", "State": "ENABLED", "LastModificationDate": make.now}
    rows(*where, "ListSchedules").append({**shown, "Target": {"Arn": target["Arn"]}})
    things(*where, "GetSchedule")["nightly"] = {**shown, "Target": target}


@_use
def _maintenance_window_task(make: Maker, image: SandboxAmi) -> None:
    window = FakeMaintenanceWindow("patching", "", 2, 0, "cron(0 2 ? * SUN *)", "", 0, "", "")
    make.ssm.windows[window.id] = window
    automation = {"DocumentVersion": "1", "Parameters": {"SourceAmiId": [image.id]}}
    optional = dict.fromkeys(
        ("priority", "max_concurrency", "max_errors", "logging_info", "name", "description", "cutoff_behavior")
    )
    make.ssm.register_task_with_maintenance_window(
        window_id=window.id,
        targets=[],
        task_arn="AWS-UpdateLinuxAmi",
        service_role_arn=None,
        task_type="AUTOMATION",
        task_parameters=None,
        task_invocation_parameters={"Automation": automation},
        alarm_configurations=None,
        **optional,
    )


def _rows(make: Maker, service: str, operation: str, of: str = "") -> list[Any]:
    return held.rows(make.location.account_id, make.location.region, service, operation, of)


def _things(make: Maker, service: str, operation: str) -> dict[str, dict[str, Any]]:
    return held.things(make.location.account_id, make.location.region, service, operation)


def _arn(make: Maker, service: str, resource: str) -> str:
    return f"arn:aws:{service}:{make.location.region}:{make.location.account_id}:{resource}"


@_use
def _pcs_node_group(make: Maker, image: SandboxAmi) -> None:
    when = make.now - timedelta(days=90)
    cluster, group = "pcs_0123456789", "pcs_9876543210"
    row = {
        "name": "gpu",
        "id": group,
        "arn": _arn(make, "pcs", f"cluster/{cluster}/computenodegroup/{group}"),
        "clusterId": cluster,
        "createdAt": when,
        "modifiedAt": when,
        "status": "ACTIVE",
    }
    of_cluster = {"name": "research", "id": cluster, "arn": _arn(make, "pcs", f"cluster/{cluster}")}
    times = {"createdAt": when, "modifiedAt": when, "status": "ACTIVE"}
    _rows(make, "pcs", "ListClusters").append(of_cluster | times)
    _rows(make, "pcs", "ListComputeNodeGroups", cluster).append(row)
    scaling = {"minInstanceCount": 0, "maxInstanceCount": 8}
    template = {"id": make.template("pcs", make.filler()), "version": "1"}
    _things(make, "pcs", "GetComputeNodeGroup")[group] = row | {
        "amiId": image.id,
        "subnetIds": [make.location.subnet_id],
        "iamInstanceProfileArn": _arn(make, "iam", "instance-profile/AWSPCS-node"),
        "instanceConfigs": [{"instanceType": INSTANCE_TYPE}],
        "scalingConfiguration": scaling,
        "customLaunchTemplate": template,
    }


def _hyperpod(make: Maker, name: str, current: str, desired: str) -> None:
    arn = _arn(make, "sagemaker", f"cluster/{name.replace('-', '')[:12]:0<12}")
    row = {"ClusterArn": arn, "ClusterName": name, "ClusterStatus": "InService", "CreationTime": make.now}
    group = {"InstanceGroupName": "gpu", "CurrentCount": 0, "CurrentImageId": current, "DesiredImageId": desired}
    _rows(make, "sagemaker", "ListClusters").append(row)
    _things(make, "sagemaker", "DescribeCluster")[arn] = row | {"InstanceGroups": [group]}


@_use
def _hyperpod_current_image(make: Maker, image: SandboxAmi) -> None:
    _hyperpod(make, "training", image.id, make.filler())


@_use
def _hyperpod_desired_image(make: Maker, image: SandboxAmi) -> None:
    _hyperpod(make, "inference", "default", image.id)


def _emr(make: Maker, cluster_id: str, kind: str, custom: str | None) -> None:
    row = {"Id": cluster_id, "Name": "spark", "Status": {"State": "WAITING"}}
    more = {"InstanceCollectionType": kind} | ({"CustomAmiId": custom} if custom else {})
    _rows(make, "elasticmapreduce", "ListClusters").append(row)
    _things(make, "elasticmapreduce", "DescribeCluster")[cluster_id] = row | more


@_use
def _emr_cluster(make: Maker, image: SandboxAmi) -> None:
    _emr(make, "j-CLUSTER0000A", "INSTANCE_GROUP", image.id)


@_use
def _emr_instance_group(make: Maker, image: SandboxAmi) -> None:
    _emr(make, "j-GROUP00000A", "INSTANCE_GROUP", None)
    group = {"Id": "ig-1", "Name": "core", "Status": {"State": "RUNNING"}, "CustomAmiId": image.id}
    _rows(make, "elasticmapreduce", "ListInstanceGroups", "j-GROUP00000A").append(group)


@_use
def _emr_instance_fleet(make: Maker, image: SandboxAmi) -> None:
    _emr(make, "j-FLEET00000A", "INSTANCE_FLEET", None)
    types = [{"InstanceType": INSTANCE_TYPE}, {"InstanceType": "g6.xlarge", "CustomAmiId": image.id}]
    fleet = {"Id": "if-1", "Name": "task", "Status": {"State": "SUSPENDED"}, "InstanceTypeSpecifications": types}
    _rows(make, "elasticmapreduce", "ListInstanceFleets", "j-FLEET00000A").append(fleet)


@_use
def _codebuild_fleet(make: Maker, image: SandboxAmi) -> None:
    arn = _arn(make, "codebuild", "fleet/gpu:01234567-89ab-cdef-0123-456789abcdef")
    fleet = {"arn": arn, "name": "gpu", "imageId": image.id, "status": {"statusCode": "ACTIVE"}}
    _rows(make, "codebuild", "ListFleets").append(arn)
    _things(make, "codebuild", "BatchGetFleets")[arn] = fleet


@_use
def _rds_custom_version(make: Maker, image: SandboxAmi) -> None:
    version = {
        "Engine": "custom-sqlserver-se",
        "EngineVersion": "16.00.4215.2.golden",
        "Image": {"ImageId": image.id, "Status": "available"},
        "Status": "inactive",
    }
    _rows(make, "rds", "DescribeDBEngineVersions").append(version)


@_use
def _instance_refresh(make: Maker, image: SandboxAmi) -> None:
    base = {"LaunchTemplateId": make.template("refreshed", make.filler()), "Version": "$Default"}
    policy = {"LaunchTemplate": {"LaunchTemplateSpecification": base, "Overrides": [{"InstanceType": INSTANCE_TYPE}]}}
    make.group("refreshed", mixed_instances_policy=policy)
    override = {"InstanceType": INSTANCE_TYPE, "ImageId": image.id}
    desired = {"LaunchTemplate": {"LaunchTemplateSpecification": base, "Overrides": [override]}}
    refresh = {
        "InstanceRefreshId": "01234567-89ab-cdef-0123-456789abcdef",
        "AutoScalingGroupName": "refreshed",
        "Status": "Baking",
        "StartTime": make.now,
        "DesiredConfiguration": {"MixedInstancesPolicy": desired},
    }
    instance_refreshes(make.autoscaling, "refreshed").append(refresh)


@_use
def _warm_pool(make: Maker, image: SandboxAmi) -> None:
    template = make.template("warm", make.filler())
    make.group("warm", launch_template={"LaunchTemplateId": template, "Version": "1"})
    make.autoscaling.put_warm_pool("warm", 2, 0, "Stopped", None)
    # Its root volume was replaced in the pool.
    instance = {
        "InstanceId": "i-0123456789abcdef0",
        "AvailabilityZone": f"{make.location.region}a",
        "LifecycleState": "Warmed:Stopped",
        "HealthStatus": "Healthy",
        "ProtectedFromScaleIn": False,
        "LaunchTemplate": {"LaunchTemplateId": template, "Version": "1"},
        "ImageId": image.id,
    }
    warm_instances(make.autoscaling, "warm").append(instance)


def _replaced(make: Maker, **came_from: str) -> None:
    base = make.ec2.amis[make.filler()]
    rows = tasks(make.ec2, "root-volume")
    rows.append(
        {
            "ReplaceRootVolumeTaskId": f"replacevol-{len(rows):017x}",
            "InstanceId": make.instance(base).id,
            "TaskState": "succeeded",
            "StartTime": (make.now - timedelta(days=60)).strftime(ISO),
        }
        | came_from
    )


@_use
def _replaced_root_volume(make: Maker, image: SandboxAmi) -> None:
    _replaced(make, ImageId=image.id)


@_use
def _root_volume_from_snapshot(make: Maker, image: SandboxAmi) -> None:
    _replaced(make, SnapshotId=image.snapshot_ids[0])


@_use
def _pending_copy(make: Maker, image: SandboxAmi) -> None:
    copy = SandboxAmi(make.ec2, [], name=f"copy of {image.id}", creation_date=make.now)
    copy.source_image_id, copy.source_image_region = image.id, make.location.region
    copy.state = "pending"
    make.ec2.amis[copy.id] = copy


@_use
def _image_builder_parameter(make: Maker, image: SandboxAmi) -> None:
    # The parameter has moved on; the recipe asks for its first version.
    make.parameter("/golden", image.id)
    make.ssm.put_parameter("/golden", "", make.filler(), "String", "", "", True, [], "text", None, None)
    recipe = {"name": "golden", "version": "1.0.0", "parentImage": "ssm:/golden:1"}
    add_recipe(make.location.account_id, make.location.region, "image", recipe)


def _beanstalk(make: Maker, name: str, option: str, value: str, *, saved: bool = False) -> None:
    applications = _rows(make, "elasticbeanstalk", "DescribeApplications")
    application = {"ApplicationName": f"app-{name}", "ConfigurationTemplates": [name] if saved else []}
    applications.append(application)
    if not saved:
        row = {"EnvironmentName": name, "ApplicationName": f"app-{name}", "Status": "Ready"}
        _rows(make, "elasticbeanstalk", "DescribeEnvironments").append(row)
    options = [
        {"Namespace": "aws:autoscaling:asg", "OptionName": "MinSize", "Value": "0"},
        {"Namespace": "aws:autoscaling:launchconfiguration", "OptionName": option, "Value": value},
    ]
    settings = {"ApplicationName": f"app-{name}", "OptionSettings": options}
    _rows(make, "elasticbeanstalk", "DescribeConfigurationSettings", name).append(settings)


@_use
def _beanstalk_environment(make: Maker, image: SandboxAmi) -> None:
    _beanstalk(make, "video", "ImageId", image.id)


@_use
def _beanstalk_saved_configuration(make: Maker, image: SandboxAmi) -> None:
    _beanstalk(make, "kept-for-later", "ImageId", image.id, saved=True)


@_use
def _beanstalk_block_device(make: Maker, image: SandboxAmi) -> None:
    _beanstalk(make, "data", "BlockDeviceMappings", f"/dev/sdj=:100,/dev/sdh={image.snapshot_ids[0]}:80")


@_use
def _beanstalk_platform(make: Maker, image: SandboxAmi) -> None:
    _rows(make, "elasticbeanstalk", "DescribeApplications").append({"ApplicationName": "app-platform"})
    arn = _arn(make, "elasticbeanstalk", "platform/ours/1.0.0")
    row = {"PlatformArn": arn, "PlatformOwner": "self", "PlatformStatus": "Ready"}
    _rows(make, "elasticbeanstalk", "ListPlatformVersions").append(row)
    images = [{"VirtualizationType": "HVM", "ImageId": image.id}]
    _things(make, "elasticbeanstalk", "DescribePlatformVersion")[arn] = row | {"CustomAmiList": images}


@_use
def _export_task(make: Maker, image: SandboxAmi) -> None:
    task = {"ExportImageTaskId": "export-ami-0123456789abcdef0", "ImageId": image.id, "Status": "active"}
    tasks(make.ec2, "export").append(task)


@_use
def _store_task(make: Maker, image: SandboxAmi) -> None:
    task = {
        "AmiId": image.id,
        "TaskStartTime": make.now,
        "Bucket": "archive",
        "S3objectKey": f"{image.id}.bin",
        "ProgressPercentage": 40,
        "StoreTaskState": "InProgress",
    }
    tasks(make.ec2, "store").append(task)


@_use
def _ecs_volume(make: Maker, image: SandboxAmi) -> None:
    ecs = ecs_backends[make.location.account_id][make.location.region]
    ecs.create_cluster("services", None, None, None, None, None)
    service = ecs.create_service("services", "models", 0)
    volume = {"snapshotId": image.snapshot_ids[0], "roleArn": _arn(make, "iam", "role/ecs-volumes")}
    service.deployments[0]["volumeConfigurations"] = [{"name": "models", "managedEBSVolume": volume}]


def _agentcore(make: Maker, name: str, configuration: dict[str, Any]) -> None:
    row = {
        "capacityProviderId": name,
        "capacityProviderArn": _arn(make, "bedrock-agentcore", f"capacity-provider/{name}"),
        "name": name,
        "status": "READY",
        "lastUpdatedAt": make.now - timedelta(days=50),
    }
    _rows(make, "bedrock-agentcore", "ListCapacityProviders").append(row)
    provider = row | {"createdAt": row["lastUpdatedAt"], "computeConfiguration": {"ec2Configuration": configuration}}
    _things(make, "bedrock-agentcore", "GetCapacityProvider")[name] = provider


@_use
def _agentcore_volume(make: Maker, image: SandboxAmi) -> None:
    volume = {"name": "models", "sizeGiB": 80, "snapshotId": image.snapshot_ids[0]}
    _agentcore(make, "agents-0123456789", {"volumes": [{"ebsConfiguration": volume}]})


@_use
def _agentcore_ephemeral_volume(make: Maker, image: SandboxAmi) -> None:
    volumes = [{"deviceName": "/dev/sdf", "ebs": {"snapshotId": image.snapshot_ids[0]}}]
    _agentcore(make, "tools-0123456789", {"launchTemplateSource": {"launchParameters": {"ephemeralVolumes": volumes}}})


@_use
def _fast_snapshot_restore(make: Maker, image: SandboxAmi) -> None:
    for zone in ("a", "c"):
        row = {
            "SnapshotId": image.snapshot_ids[0],
            "AvailabilityZone": f"{make.location.region}{zone}",
            "State": "enabled",
            "OwnerId": make.location.account_id,
            "EnabledTime": make.now - timedelta(days=40),
        }
        tasks(make.ec2, "fast-restore").append(row)
