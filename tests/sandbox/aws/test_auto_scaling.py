"""Auto Scaling's refreshes and warm pools, and ECS's counts: every field, pages, what is not there."""

from __future__ import annotations

import pytest

from gpu_ami.aws.caller import Caller, RefusedError
from gpu_ami_sandbox.aws.auto_scaling import instance_refreshes, warm_instances
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.demo.rare_uses import RARE_USES
from tests.support.account import World, world


@pytest.fixture
def here(aws: LocalAws) -> World:
    """Return an empty account."""
    return world(aws)


@pytest.fixture
def caller(here: World) -> Caller:
    """Return a caller of it."""
    return here.location().caller


def test_a_groups_instance_refreshes_are_listed_in_pages(here: World, caller: Caller) -> None:
    """Newest first, as Auto Scaling keeps them for six weeks."""
    image = here.image()
    RARE_USES["instance_refresh"](here.maker, image)
    old = {"InstanceRefreshId": "old", "AutoScalingGroupName": "refreshed", "Status": "Successful"}
    instance_refreshes(here.maker.autoscaling, "refreshed").extend([old] * 60)

    listed = caller.pages(
        "autoscaling", "describe_instance_refreshes", "InstanceRefreshes", AutoScalingGroupName="refreshed"
    )
    rows = list(listed)

    assert [row["Status"] for row in rows] == ["Baking", *["Successful"] * 60]
    policy = rows[0]["DesiredConfiguration"]["MixedInstancesPolicy"]["LaunchTemplate"]
    assert policy["Overrides"] == [{"InstanceType": "g5.xlarge", "ImageId": image.id}]
    assert caller.calls == 2


def test_a_warm_pool_shows_its_instances(here: World, caller: Caller) -> None:
    """With the AMI that their root volume came from; moto's pools are always empty."""
    image = here.image()
    RARE_USES["warm_pool"](here.maker, image)

    answer = caller.call("autoscaling", "describe_warm_pool", AutoScalingGroupName="warm")

    assert answer["WarmPoolConfiguration"]["PoolState"] == "Stopped"
    assert [(row["LifecycleState"], row["ImageId"]) for row in answer["Instances"]] == [("Warmed:Stopped", image.id)]
    assert warm_instances(here.maker.autoscaling, "other") == []


@pytest.mark.parametrize("operation", ["describe_instance_refreshes", "describe_warm_pool"])
def test_a_group_that_is_not_there_is_refused(caller: Caller, operation: str) -> None:
    """With the code that Auto Scaling has for every mistake."""
    with pytest.raises(RefusedError, match="not found") as caught:
        caller.call("autoscaling", operation, AutoScalingGroupName="nobody")

    assert caught.value.code == "ValidationError"


def test_a_cluster_counts_its_services(here: World, caller: Caller) -> None:
    """Who has none is not asked for any."""
    RARE_USES["ecs_volume"](here.maker, here.image())
    caller.call("ecs", "create_cluster", clusterName="empty")

    rows = caller.call("ecs", "describe_clusters", clusters=["services", "empty"])["clusters"]

    assert {row["clusterName"]: row["activeServicesCount"] for row in rows} == {"services": 1, "empty": 0}
