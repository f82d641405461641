"""The table of all reference sources."""

from __future__ import annotations

from gpu_ami.aws.references.agentcore import CapacityProviders
from gpu_ami.aws.references.auto_scaling import AutoScalingGroups
from gpu_ami.aws.references.batch import BatchEnvironments
from gpu_ami.aws.references.beanstalk import BeanstalkConfigurations
from gpu_ami.aws.references.codebuild import CodeBuildFleets
from gpu_ami.aws.references.ecs import EcsVolumes
from gpu_ami.aws.references.emr import EmrClusters
from gpu_ami.aws.references.fleets import Fleets, SpotFleets
from gpu_ami.aws.references.group_changes import InstanceRefreshes, WarmPools
from gpu_ami.aws.references.image_builder import ImageBuilder
from gpu_ami.aws.references.image_references import ImageReferences
from gpu_ami.aws.references.image_tasks import Copies, ExportTasks, StoreTasks
from gpu_ami.aws.references.instances import Instances
from gpu_ami.aws.references.lambda_functions import LambdaFunctions
from gpu_ami.aws.references.launch_configurations import LaunchConfigurations
from gpu_ami.aws.references.maintenance_windows import MaintenanceWindows
from gpu_ami.aws.references.parameters import Parameters
from gpu_ami.aws.references.pcs import PcsNodeGroups
from gpu_ami.aws.references.protections import (
    AllowedImages,
    AwsBackup,
    DeregistrationProtection,
    FastRestores,
    LaunchPermissions,
    LifecycleManager,
    PublicSnapshots,
    SnapshotLocks,
)
from gpu_ami.aws.references.rds_custom import CustomEngineVersions
from gpu_ami.aws.references.root_volumes import RootVolumes
from gpu_ami.aws.references.sagemaker import HyperPodClusters
from gpu_ami.aws.references.schedules import Schedules
from gpu_ami.aws.references.source import Source
from gpu_ami.aws.references.spot_requests import SpotRequests
from gpu_ami.aws.references.stacks import Stacks
from gpu_ami.aws.references.state_machines import StateMachines
from gpu_ami.aws.references.templates import LaunchTemplates

# What is queried for a whole region at once, in this account and in every account of --account. The last of them find
# mentions in texts, which keep an AMI and are no uses (`Source.is_use`).
USES: tuple[Source, ...] = (
    Instances(),
    LaunchTemplates(),
    LaunchConfigurations(),
    AutoScalingGroups(),
    SpotRequests(),
    SpotFleets(),
    Fleets(),
    BatchEnvironments(),
    Parameters(),
    ImageBuilder(),
    PcsNodeGroups(),
    HyperPodClusters(),
    EmrClusters(),
    CodeBuildFleets(),
    InstanceRefreshes(),
    WarmPools(),
    RootVolumes(),
    Copies(),
    BeanstalkConfigurations(),
    CustomEngineVersions(),
    ExportTasks(),
    StoreTasks(),
    EcsVolumes(),
    CapacityProviders(),
    FastRestores(),
    Stacks(),
    LambdaFunctions(),
    StateMachines(),
    Schedules(),
    MaintenanceWindows(),
)
# What may name an AMI of another region. Everything else launches in its own: where there is no AMI that could go, it
# need not be asked.
_ANYWHERE = (Parameters, Copies, Stacks, LambdaFunctions, StateMachines, Schedules, MaintenanceWindows)
FROM_ANYWHERE = frozenset(source.name for source in USES if isinstance(source, _ANYWHERE))
# Sources that begin with what another one lists. They are queried after it by the same thread, so that one listing does
# for all of them: DescribeAutoScalingGroups, thrice in each region, would be thrice as often throttled, too. Where no
# instance is there is none whose root volume was replaced.
AFTER = {
    InstanceRefreshes.name: AutoScalingGroups.name,
    WarmPools.name: AutoScalingGroups.name,
    RootVolumes.name: Instances.name,
}
# What the list of the account's own AMIs answers, where that is read first.
BY_OWN_IMAGES = frozenset({Copies.name})
# Services, by botocore's names, that answer three or more calls one after the other where something is there: listing,
# listing what is in it, showing that. They begin first, so that those of a single call fill the time until the last.
LONGEST = ("autoscaling", "elasticbeanstalk", "ecs", "stepfunctions", "imagebuilder", "ssm", "pcs", "emr")
# What only the owning account can say.
OWN: tuple[Source, ...] = (
    AwsBackup(),
    LifecycleManager(),
    DeregistrationProtection(),
    SnapshotLocks(),
    PublicSnapshots(),
    AllowedImages(),
)
# What AWS answers AMI by AMI, and so is queried only for AMIs that would go.
PER_IMAGE: tuple[Source, ...] = (
    ImageReferences(),
    LaunchPermissions(),
)
SOURCES: tuple[Source, ...] = (*USES, *OWN, *PER_IMAGE)
