"""The demo account holds what it says: each AMI is needed as named, and the unused ones by nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami_sandbox.account import DemoAccount
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.demo.demo_account import build_demo_account
from gpu_ami_sandbox.demo.uses import OTHER_ACCOUNT, USES
from tests.support.resources import REGION, tags_of, the_image

NOW = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)


@dataclass(frozen=True)
class World:
    """The demo account and the way to it."""

    account: DemoAccount
    access: Access

    def all(self, service: str, operation: str, key: str, **arguments: Any) -> list[dict[str, Any]]:
        """Return all rows of a listing."""
        pages = self.access.client(service).get_paginator(operation).paginate(**arguments)
        return [row for page in pages for row in page[key]]


@pytest.fixture(scope="module")
def world() -> Any:
    """One demo account for all tests here: none of them changes it."""
    aws = LocalAws(REGION)
    aws.start()
    yield World(build_demo_account(aws.account_id, REGION, NOW), Access(region=REGION, endpoint_url=aws.endpoint_url))
    aws.stop()


def named_in(rows: Any) -> str:
    """Return rows as text to look for an AMI id in."""
    return json.dumps(rows, default=str)


def versions(world: World, name: str, *, hidden: bool = False) -> list[str]:
    """Return the AMI of each version of a launch template, oldest first."""
    arguments: dict[str, Any] = {"LaunchTemplateName": name, "IncludeManagedResources": hidden}
    rows = world.all("ec2", "describe_launch_template_versions", "LaunchTemplateVersions", **arguments)
    ordered = sorted(rows, key=lambda row: row["VersionNumber"])
    return [row["LaunchTemplateData"].get("ImageId", "") for row in ordered]


def environments(world: World, name: str) -> str:
    """Return the compute resources of an environment as text."""
    arguments = {"computeEnvironments": [name]}
    (row,) = world.all("batch", "describe_compute_environments", "computeEnvironments", **arguments)
    return named_in(row["computeResources"])


def instances(world: World, state: str, *, hidden: bool = False) -> str:
    """Return the instances in *state* as text, *hidden* ones too."""
    rows = world.all("ec2", "describe_instances", "Reservations", IncludeManagedResources=hidden)
    return named_in([i for r in rows for i in r["Instances"] if i["State"]["Name"] == state])


def group(world: World, name: str) -> str:
    """Return an Auto Scaling group as text; it has no instances."""
    (row,) = world.all("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups", AutoScalingGroupNames=[name])
    assert row["Instances"] == []
    return named_in(row)


def parameter(world: World, name: str) -> str:
    """Return a parameter's value."""
    return str(world.access.client("ssm").get_parameter(Name=name)["Parameter"]["Value"])


def attribute(world: World, image_id: str, name: str) -> str:
    """Return one attribute of an AMI as text."""
    return named_in(world.access.client("ec2").describe_image_attribute(ImageId=image_id, Attribute=name))


def image_tags(world: World, image_id: str) -> dict[str, str]:
    """Return an AMI's tags."""
    return tags_of(the_image(world.access.client("ec2"), image_id))


def specified(world: World, name: str) -> str:
    """Return the AMI of the template version that a group's or fleet's launch template id refers to."""
    return versions(world, name)[0]


def recipe(world: World, name: str) -> dict[str, Any]:
    """Return an image recipe, whole."""
    client = world.access.client("imagebuilder")
    (arn,) = [
        row["arn"] for row in client.list_image_recipes(owner="Self")["imageRecipeSummaryList"] if name in row["arn"]
    ]
    return dict(client.get_image_recipe(imageRecipeArn=arn)["imageRecipe"])


def spot_fleets(world: World) -> str:
    """Return the spot fleets as text."""
    return named_in(world.all("ec2", "describe_spot_fleet_requests", "SpotFleetRequestConfigs"))


# What proves that an AMI is needed as its reason says; each is given the world and the AMI.
PROOFS: dict[str, Callable[[World, str], bool]] = {
    "running_instance": lambda w, i: i in instances(w, "running"),
    "stopped_instance": lambda w, i: i in instances(w, "stopped"),
    "managed_instance": lambda w, i: i in instances(w, "running", hidden=True) and i not in instances(w, "running"),
    "template_default_version": lambda w, i: versions(w, "default-version").index(i) == 0,
    "template_middle_version": lambda w, i: versions(w, "middle-version").index(i) == 1,
    "template_latest_version": lambda w, i: versions(w, "latest-version")[-1] == i,
    "managed_template": lambda w, i: versions(w, "managed", hidden=True) == [i] and versions(w, "managed") == [],
    "template_alias": lambda w, i: (
        versions(w, "alias") == [f"resolve:ssm:{'/launch/alias'}"] and parameter(w, "/launch/alias") == i
    ),
    "group_pinned_version": lambda w, i: versions(w, "pinned")[1] == i and '"Version": "2"' in group(w, "pinned"),
    "group_mixed_base": lambda w, i: specified(w, "mixed-base") == i and "mixed-base" in group(w, "mixed-base"),
    "group_mixed_override": lambda w, i: (
        specified(w, "mixed-override") == i and "Overrides" in group(w, "mixed-override")
    ),
    "launch_configuration": lambda w, i: (
        i in named_in(w.all("autoscaling", "describe_launch_configurations", "LaunchConfigurations"))
    ),
    "group_launch_configuration": lambda w, i: '"LaunchConfigurationName": "empty-group"' in group(w, "empty-group"),
    "spot_fleet": lambda w, i: i in spot_fleets(w),
    "ec2_fleet": lambda w, i: specified(w, "fleet") == i and len(w.all("ec2", "describe_fleets", "Fleets")) == 1,
    "batch_image_id_override": lambda w, i: f'"imageIdOverride": "{i}"' in environments(w, "image-id-override"),
    "batch_image_id": lambda w, i: f'"imageId": "{i}"' in environments(w, "image-id"),
    "batch_pinned_template": lambda w, i: (
        versions(w, "batch-pinned")[1] == i and '"version": "2"' in environments(w, "batch-pinned")
    ),
    "batch_template_override": lambda w, i: (
        specified(w, "batch-override") == i and "overrides" in environments(w, "batch-override")
    ),
    "batch_frozen_latest": lambda w, i: (
        versions(w, "batch-frozen")[0] == i and "$Latest" in environments(w, "batch-frozen")
    ),
    "parameter_ami_id": lambda w, i: parameter(w, "/gpu/ami-id") == i,
    "parameter_other_name": lambda w, i: parameter(w, "/video/blue") == i,
    "parameter_list": lambda w, i: i in parameter(w, "/video/approved").split(","),
    "parameter_json": lambda w, i: json.loads(parameter(w, "/video/release"))["image"]["id"] == i,
    "image_builder_recipe": lambda w, i: (
        i in named_in(w.access.client("imagebuilder").list_image_recipes(owner="Self")["imageRecipeSummaryList"])
    ),
    "image_builder_parent": lambda w, i: (
        image_tags(w, i)["Ec2ImageBuilderArn"].endswith(":image/base/1.0.0/1")
        and recipe(w, "on-top-of-base")["parentImage"].endswith(":image/base/x.x.x")
    ),
    "image_builder_mapping": lambda w, i: (
        the_image(w.access.client("ec2"), i)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        == recipe(w, "models")["blockDeviceMappings"][0]["ebs"]["snapshotId"]
    ),
    "stack_parameter": lambda w, i: i in named_in(w.all("cloudformation", "describe_stacks", "Stacks")),
    "lambda_variable": lambda w, i: i in named_in(w.all("lambda", "list_functions", "Functions")),
    "state_machine": lambda w, i: any(
        i in w.access.client("stepfunctions").describe_state_machine(stateMachineArn=m["stateMachineArn"])["definition"]
        for m in w.all("stepfunctions", "list_state_machines", "stateMachines")
    ),
    "launch_permission": lambda w, i: OTHER_ACCOUNT in attribute(w, i, "launchPermission"),
    "public_launch_permission": lambda w, i: '"Group": "all"' in attribute(w, i, "launchPermission"),
    "deregistration_protection": lambda w, i: "enabled-with" in attribute(w, i, "deregistrationProtection"),
    "keep_tag": lambda w, i: image_tags(w, i)["gpu-ami:keep"] == "true",
    "aws_backup": lambda w, i: "aws:backup:source-resource" in image_tags(w, i),
    "dlm_policy": lambda w, i: "aws:dlm:lifecycle-policy-id" in image_tags(w, i),
    "snapshot_lock": lambda w, i: (
        named_in(the_image(w.access.client("ec2"), i)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"])
        in named_in(w.access.client("ec2").describe_locked_snapshots()["Snapshots"])
    ),
    "public_snapshot": lambda w, i: (
        '"Group": "all"'
        in named_in(
            w.access.client("ec2").describe_snapshot_attribute(
                SnapshotId=the_image(w.access.client("ec2"), i)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"],
                Attribute="createVolumePermission",
            )["CreateVolumePermissions"]
        )
    ),
    "recent_launch": lambda w, i: "2026-10-29" in attribute(w, i, "lastLaunchedTime"),
    "batch_compute_environment": lambda w, i: i in environments(w, w.account.compute_environment),
}


@pytest.mark.parametrize("reason", [*USES, "batch_compute_environment"])
def test_each_image_is_needed_as_its_reason_says(world: World, reason: str) -> None:
    """A clean-up test that keeps an AMI for no reason would prove nothing: the set-up is asserted first."""
    image_id = world.account.images_in_use[reason]

    assert PROOFS[reason](world, image_id)


def test_every_reason_has_a_proof(world: World) -> None:
    """A new way of being in use comes with its proof."""
    assert set(PROOFS) == set(world.account.images_in_use) == {*USES, "batch_compute_environment"}
    assert len(set(world.account.images_in_use.values())) == len(PROOFS)


def test_nothing_names_the_unused_images(world: World) -> None:
    """They must be deletable, or the plan shows a newcomer nothing."""
    everything = "".join(
        named_in(rows)
        for rows in (
            world.all("ec2", "describe_instances", "Reservations"),
            world.all("ec2", "describe_launch_template_versions", "LaunchTemplateVersions", Versions=["$Latest"]),
            world.all("batch", "describe_compute_environments", "computeEnvironments"),
            world.all("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups"),
        )
    )
    ec2 = world.access.client("ec2")

    assert len(world.account.unused_images) == 9
    for image_id in world.account.unused_images:
        assert image_id not in everything
        assert ec2.describe_image_references(ImageIds=[image_id], IncludeAllResourceTypes=True)["ImageReferences"] == []
        image = the_image(ec2, image_id)
        assert NOW - datetime.fromisoformat(image["CreationDate"].replace("Z", "+00:00")) > timedelta(days=30)
        assert tags_of(image)["gpu-ami:handover"] == "applied"


def test_images_are_spread_over_two_years(world: World) -> None:
    """All of one family, with tags and an encrypted snapshot of their own."""
    images = world.all("ec2", "describe_images", "Images", Owners=["self"])

    ages = sorted((NOW - datetime.fromisoformat(i["CreationDate"].replace("Z", "+00:00"))).days for i in images)
    assert ages[:3] == [4, 11, 20]
    assert 720 <= ages[-1] <= 731
    assert len(images) > 40
    for image in images:
        assert {"gpu-ami:pipeline", "gpu-ami:family", "gpu-ami:run"} <= tags_of(image).keys()
        assert image["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
        assert image["SourceImageId"] == world.account.source_ami_id


def test_a_build_has_a_network_that_reaches_out(world: World) -> None:
    """Public subnet, route to an internet gateway, a group that lets 80 and 443 out and nothing in."""
    ec2, account = world.access.client("ec2"), world.account
    (subnet,) = ec2.describe_subnets(SubnetIds=[account.subnet_id])["Subnets"]
    (group,) = ec2.describe_security_groups(GroupIds=[account.security_group_id])["SecurityGroups"]
    routes = ec2.describe_route_tables(Filters=[{"Name": "association.subnet-id", "Values": [account.subnet_id]}])

    assert (subnet["VpcId"], subnet["MapPublicIpOnLaunch"]) == (account.vpc_id, True)
    assert group["IpPermissions"] == []
    assert sorted(rule["FromPort"] for rule in group["IpPermissionsEgress"]) == [80, 443]
    assert any(r.get("GatewayId", "").startswith("igw-") for r in routes["RouteTables"][0]["Routes"])
    profile = world.access.client("iam").get_instance_profile(InstanceProfileName=account.instance_profile)
    assert len(profile["InstanceProfile"]["Roles"]) == 1


def test_the_image_is_in_the_repository(world: World) -> None:
    """Under its immutable tag, as latest and by its digest."""
    (image,) = world.access.client("ecr").describe_images(repositoryName="batch-processor")["imageDetails"]

    assert image["imageDigest"] == world.account.image_digest
    assert sorted(image["imageTags"]) == sorted([world.account.image_tag, "latest"])
    host = f"{world.account.account_id}.dkr.ecr.{REGION}.amazonaws.com"
    assert world.account.ecr_repository_url == f"{host}/batch-processor"


def test_the_models_are_in_the_bucket(world: World) -> None:
    """With the checksums that the build is compared with."""
    s3, account = world.access.client("s3"), world.account

    found = {
        row["Key"].removeprefix(account.models_prefix): hashlib.sha256(
            s3.get_object(Bucket=account.models_bucket, Key=row["Key"])["Body"].read()
        ).hexdigest()
        for row in world.all("s3", "list_objects_v2", "Contents", Bucket=account.models_bucket)
    }

    assert found == account.model_checksums


def test_the_batch_queue_runs_on_the_live_image(world: World) -> None:
    """`status` starts from here."""
    (queue,) = world.all("batch", "describe_job_queues", "jobQueues", jobQueues=[world.account.job_queue])
    (environment,) = world.all(
        "batch", "describe_compute_environments", "computeEnvironments",
        computeEnvironments=[world.account.compute_environment],
    )  # fmt: skip

    assert queue["computeEnvironmentOrder"][0]["computeEnvironment"] == environment["computeEnvironmentArn"]
    (configuration,) = environment["computeResources"]["ec2Configuration"]
    assert configuration == {"imageType": "ECS_AL2023_NVIDIA", "imageIdOverride": world.account.live_ami_id}
    assert tags_of(the_image(world.access.client("ec2"), world.account.live_ami_id))["gpu-ami:handover"] == "applied"


def test_a_dead_build_left_something(world: World) -> None:
    """`sweep` needs resources that carry the run's tag, and an AMI that never was handed over."""
    ec2, left = world.access.client("ec2"), world.account.leftovers
    image = the_image(ec2, left["image"])
    run = tags_of(image)["gpu-ami:run"]
    (instance,) = ec2.describe_instances(InstanceIds=[left["instance"]])["Reservations"][0]["Instances"]
    (pair,) = ec2.describe_key_pairs(Filters=[{"Name": "key-pair-id", "Values": [left["key_pair"]]}])["KeyPairs"]
    (group,) = ec2.describe_security_groups(GroupIds=[left["security_group"]])["SecurityGroups"]
    (volume,) = ec2.describe_volumes(VolumeIds=[left["volume"]])["Volumes"]

    assert "gpu-ami:handover" not in tags_of(image)
    assert all(tags_of(thing)["gpu-ami:run"] == run for thing in (instance, pair, group, volume))
    assert instance["State"]["Name"] == "running"
    assert instance["LaunchTime"] == pair["CreateTime"] == volume["CreateTime"] == NOW - timedelta(days=20)
    assert (volume["State"], instance["KeyName"]) == ("available", pair["KeyName"])


def test_an_orphan_snapshot_belongs_to_no_image(world: World) -> None:
    """`cleanup --orphans` finds it."""
    (orphan,) = world.account.orphan_snapshots
    ec2 = world.access.client("ec2")
    filters = [{"Name": "block-device-mapping.snapshot-id", "Values": [orphan]}]

    (snapshot,) = ec2.describe_snapshots(SnapshotIds=[orphan])["Snapshots"]

    assert ec2.describe_images(Owners=["self"], Filters=filters)["Images"] == []
    assert tags_of(snapshot)["gpu-ami:family"] == world.account.family


@pytest.mark.parametrize("kind", ["EC2_IMAGE", "EBS_SNAPSHOT"])
def test_what_the_clean_up_deletes_can_be_restored(world: World, kind: str) -> None:
    """The demo's clean-up may be tried without `--permanent`."""
    rbin = world.access.client("rbin")
    (summary,) = rbin.list_rules(ResourceType=kind)["Rules"]

    rule = rbin.get_rule(Identifier=summary["Identifier"])

    tag = {"ResourceTagKey": "gpu-ami:family", "ResourceTagValue": world.account.family}
    assert rule["ResourceTags"] == [tag]


def test_the_account_survives_a_file(world: World) -> None:
    """Attached invocations read it from session.json."""
    document = json.loads(json.dumps(world.account.as_json()))

    assert DemoAccount(**document) == world.account


def test_the_account_is_the_same_each_time(aws: LocalAws) -> None:
    """Same seed, same ids: what one invocation printed is true in the next."""
    first = build_demo_account(aws.account_id, REGION, NOW)
    aws.reset()

    assert build_demo_account(aws.account_id, REGION, NOW) == first
