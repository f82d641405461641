"""The services that few accounts use: what names an AMI or a snapshot, which states count, what is asked how often."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError
from gpu_ami.aws.references.agentcore import CapacityProviders
from gpu_ami.aws.references.auto_scaling import AutoScalingGroups
from gpu_ami.aws.references.beanstalk import BeanstalkConfigurations
from gpu_ami.aws.references.codebuild import CodeBuildFleets
from gpu_ami.aws.references.ecs import EcsVolumes
from gpu_ami.aws.references.emr import EmrClusters
from gpu_ami.aws.references.group_changes import InstanceRefreshes, WarmPools
from gpu_ami.aws.references.image_builder import ImageBuilder
from gpu_ami.aws.references.image_tasks import Copies, ExportTasks, StoreTasks
from gpu_ami.aws.references.pcs import PcsNodeGroups
from gpu_ami.aws.references.protections import FastRestores
from gpu_ami.aws.references.rds_custom import CustomEngineVersions
from gpu_ami.aws.references.registry import USES
from gpu_ami.aws.references.root_volumes import RootVolumes
from gpu_ami.aws.references.sagemaker import HyperPodClusters
from gpu_ami.aws.references.source import Found, Source, SourceQuery
from gpu_ami.cleanup.grantees import Reached
from gpu_ami.cleanup.inventory import Location, Survey, query_source
from tests.support.account import EVERYTHING, World
from tests.support.fake_caller import FakeCaller, Script

THEN, NOW = datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2026, 11, 1, tzinfo=timezone.utc)
SNAPSHOT = "snap-0123456789abcdef0"
NEW: tuple[Source, ...] = (
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
)


def _ami(number: int) -> str:
    return f"ami-{number:017x}"


def _find(source: Source, script: Script, query: SourceQuery | None = None) -> Found:
    return source.find(FakeCaller(script), query or SourceQuery())


def _targets(found: Found) -> list[str]:
    return sorted({reference.target for reference in found.references})


def _details(found: Found) -> list[str]:
    return [reference.detail for reference in found.references]


@pytest.mark.parametrize("source", NEW, ids=lambda source: source.name)
def test_a_service_that_is_not_used_costs_one_call(here: World, source: Source) -> None:
    """Fifteen more sources in each region must not slow down an account that has none of it."""
    report = query_source(here.location(), source, SourceQuery()).report

    assert (report.status, report.calls, report.references) == ("ok", 1, 0)
    assert not source.is_essential


# --- PCS


def _node_groups(*rows: dict[str, Any], groups: Callable[..., dict[str, Any]] | None = None) -> Script:
    listed = [
        {"id": f"g{n}", "name": f"n{n}", "arn": f"arn:{n}", "clusterId": "c", "modifiedAt": THEN, "status": "ACTIVE"}
        | row
        for n, row in enumerate(rows)
    ]

    def read(computeNodeGroupIdentifier: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        return {"computeNodeGroup": {"amiId": _ami(int(computeNodeGroupIdentifier[1:]))}}

    return {
        "list_clusters": [{"clusters": [{"id": "c", "name": "research"}]}],
        "list_compute_node_groups": [{"computeNodeGroups": listed}],
        "get_compute_node_group": groups or read,
    }


def test_node_groups_count_until_they_are_deleted() -> None:
    """One that is suspended, or failed to be updated, has instances again tomorrow."""
    states = ["ACTIVE", "SUSPENDED", "UPDATE_FAILED", "DELETING", "DELETED"]

    found = _find(PcsNodeGroups(), _node_groups(*({"status": state} for state in states)))

    assert _targets(found) == [_ami(n) for n in range(4)]
    assert _details(found)[0] == "PCS node group n0 of cluster c: amiId"


def test_a_second_look_reads_only_node_groups_that_were_modified() -> None:
    """One call for each group is what the source costs; one that was deleted meanwhile needs nothing any more."""
    query = SourceQuery()
    _find(PcsNodeGroups(), _node_groups({}, {}, {}), query)
    script = _node_groups({}, {"modifiedAt": NOW})
    script["get_compute_node_group"] = [{"computeNodeGroup": {"amiId": _ami(9)}}]
    second = FakeCaller(script)

    found = PcsNodeGroups().find(second, query)

    assert _targets(found) == [_ami(0), _ami(9)]
    assert [operation for operation, _ in second.requests].count("get_compute_node_group") == 1


@pytest.mark.parametrize("operation", ["list_compute_node_groups", "get_compute_node_group"])
def test_a_cluster_or_group_that_is_deleted_meanwhile_needs_nothing(operation: str) -> None:
    """Somebody may tidy up between listing and reading; a denial is something else."""
    script = _node_groups({})
    script[operation] = [RefusedError("gone", "ResourceNotFoundException")]
    assert not _find(PcsNodeGroups(), script).references

    script[operation] = [RefusedError("no", "AccessDeniedException")]
    with pytest.raises(RefusedError):
        _find(PcsNodeGroups(), script)


def test_a_node_groups_template_is_read_where_not_every_version_counts() -> None:
    """It pins a version that is neither default nor among the newest."""
    group = {"customLaunchTemplate": {"id": "lt-1", "version": "2"}}
    versions = [
        {"LaunchTemplateName": "t", "VersionNumber": n, "LaunchTemplateData": {"ImageId": _ami(n)}} for n in (1, 2, 3)
    ]
    script = _node_groups({}) | {
        "get_compute_node_group": [{"computeNodeGroup": group}],
        "describe_launch_template_versions": [{"LaunchTemplateVersions": versions}],
    }

    assert _targets(_find(PcsNodeGroups(), script, SourceQuery(template_versions=1))) == [_ami(2)]
    assert not _find(PcsNodeGroups(), script).references


@pytest.mark.parametrize("answer", [{}, {"computeNodeGroup": None}, {"computeNodeGroup": {}}])
def test_a_node_group_that_came_cut_off_is_an_error_with_its_name(answer: dict[str, Any]) -> None:
    """A group has an AMI of its own, a template, or says that PCS has one for it."""
    script = _node_groups({}) | {"get_compute_node_group": [answer]}

    with pytest.raises(UnansweredError, match="PCS node group n0 of cluster c came without"):
        _find(PcsNodeGroups(), script)


def test_a_node_group_whose_template_is_pcss_own_needs_nothing() -> None:
    """PCS then brings its own AMI, too."""
    script = _node_groups({}) | {"get_compute_node_group": [{"computeNodeGroup": {"launchTemplateMode": "MANAGED"}}]}

    assert not _find(PcsNodeGroups(), script).references


# --- SageMaker HyperPod


def _hyperpod(answer: Any) -> Script:
    row = {"ClusterName": "training", "ClusterArn": "arn:training", "ClusterStatus": "Failed"}
    return {"list_clusters": [{"ClusterSummaries": [row]}], "describe_cluster": [answer]}


def test_both_images_of_an_instance_group_count() -> None:
    """A broken node is replaced with the current one as long as the update rolls; ``default`` is Amazon's."""
    groups = [
        {"InstanceGroupName": "gpu", "CurrentImageId": _ami(1), "DesiredImageId": _ami(2)},
        {"InstanceGroupName": "login", "CurrentImageId": "default"},
    ]

    found = _find(HyperPodClusters(), _hyperpod({"InstanceGroups": groups}))

    assert _targets(found) == [_ami(1), _ami(2)]
    assert _details(found)[0] == "HyperPod cluster training: instance group gpu: CurrentImageId"


def test_a_hyperpod_cluster_that_came_cut_off_is_an_error_with_its_name() -> None:
    """Every cluster has its instance groups."""
    with pytest.raises(UnansweredError, match="HyperPod cluster training came without InstanceGroups"):
        _find(HyperPodClusters(), _hyperpod({"ClusterArn": "arn:training"}))
    assert not _find(HyperPodClusters(), _hyperpod(RefusedError("gone", "ResourceNotFound"))).references


# --- EMR


def _emr(**cluster: Any) -> Script:
    row = {"Id": "j-1", "Name": "spark"}
    return {
        "list_clusters": [{"Clusters": [row]}],
        "describe_cluster": [
            {"Cluster": {"Status": {"State": "WAITING"}, "InstanceCollectionType": "INSTANCE_GROUP"} | cluster}
        ],
        "list_instance_groups": [{"InstanceGroups": []}],
        "list_instance_fleets": [{"InstanceFleets": []}],
    }


def test_a_cluster_and_each_of_its_instance_groups_may_have_an_ami() -> None:
    """Graviton and Intel groups of one cluster cannot share one; a group that has ended launches nothing."""
    groups = [
        {"Name": name, "CustomAmiId": _ami(n), "Status": {"State": state}}
        for n, (name, state) in enumerate([("core", "RUNNING"), ("task", "ARRESTED"), ("old", "ENDED")], start=2)
    ]
    script = _emr(CustomAmiId=_ami(1)) | {"list_instance_groups": [{"InstanceGroups": groups}]}
    caller = FakeCaller(script)

    found = EmrClusters().find(caller, SourceQuery())

    assert _targets(found) == [_ami(1), _ami(2), _ami(3)]
    assert _details(found)[1] == "EMR cluster j-1 (spark): core: CustomAmiId"
    assert "TERMINATED" not in caller.requests[0][1]["ClusterStates"]


def test_instance_fleets_name_an_ami_for_each_type() -> None:
    """Fleets and groups are listed by different operations, and a cluster has only one of them."""
    fleet = {"Name": "task", "InstanceTypeSpecifications": [{"InstanceType": "a"}, {"CustomAmiId": _ami(1)}]}
    script = _emr(InstanceCollectionType="INSTANCE_FLEET") | {"list_instance_fleets": [{"InstanceFleets": [fleet]}]}
    caller = FakeCaller(script)

    assert _targets(EmrClusters().find(caller, SourceQuery())) == [_ami(1)]
    assert "list_instance_groups" not in [operation for operation, _ in caller.requests]


def test_a_cluster_that_ended_meanwhile_needs_nothing() -> None:
    """EMR goes on showing it for two months."""
    assert not _find(EmrClusters(), _emr(CustomAmiId=_ami(1), Status={"State": "TERMINATED"})).references


@pytest.mark.parametrize(
    "change", [{"InstanceCollectionType": None}, {"InstanceCollectionType": "SWARM"}, {"Status": None}]
)
def test_a_cluster_that_cannot_be_understood_is_an_error_with_its_name(change: dict[str, Any]) -> None:
    """What it has of groups or fleets would not be looked at."""
    with pytest.raises(UnansweredError, match=r"EMR cluster j-1 \(spark\)"):
        _find(EmrClusters(), _emr(**change))


# --- CodeBuild


def test_fleets_are_read_by_the_hundred() -> None:
    """BatchGetFleets takes no more, and says of each whether it is there."""
    arns = [f"arn:fleet/f{n:03d}" for n in range(150)]

    def read(names: list[str]) -> dict[str, Any]:
        there = [{"arn": arn, "name": arn[-4:], "imageId": _ami(int(arn[-3:]))} for arn in names if arn != arns[0]]
        return {"fleets": there, "fleetsNotFound": [arn for arn in names if arn == arns[0]]}

    pages: Any = [{"fleets": arns[:100], "nextToken": "2"}, {"fleets": arns[100:]}]
    caller = FakeCaller({"list_fleets": pages, "batch_get_fleets": read})

    found = CodeBuildFleets().find(caller, SourceQuery())

    assert len(_targets(found)) == 149
    assert _details(found)[0] == "CodeBuild fleet f001: imageId"
    assert caller.calls == 4


def test_a_fleet_about_which_nothing_is_said_is_an_error_with_its_name() -> None:
    """It may well have an AMI of ours; a fleet on CodeBuild's own image has none."""
    script: Script = {"list_fleets": [{"fleets": ["arn:a", "arn:b"]}]}
    script["batch_get_fleets"] = [{"fleets": [{"arn": "arn:a", "name": "a"}]}]

    with pytest.raises(UnansweredError, match="nothing about arn:b"):
        _find(CodeBuildFleets(), script)


@pytest.mark.parametrize("answer", [{}, {"fleets": None}, {"fleets": [{"arn": "arn:a"}]}, {"fleets": "arn:a"}])
def test_a_listing_of_names_that_came_cut_off_is_an_error(answer: dict[str, Any]) -> None:
    """No list is not an empty one."""
    with pytest.raises(UnansweredError, match="codebuild:ListFleets in r: the answer has no list fleets"):
        _find(CodeBuildFleets(), {"list_fleets": [answer]})


# --- RDS Custom


def _version(number: int, **more: Any) -> dict[str, Any]:
    return {"Engine": "custom-oracle-ee", "EngineVersion": f"19.cev{number}", "Image": {"ImageId": _ami(number)}} | more


def test_engine_versions_are_read_in_every_state_and_to_the_end() -> None:
    """An inactive one starts the database that is restored; AWS's own versions have no AMI."""
    pages: Any = [
        {"DBEngineVersions": [_version(1), _version(2, Status="inactive")], "Marker": "2"},
        {"DBEngineVersions": [_version(3), {"Engine": "custom-sqlserver-se", "EngineVersion": "15.00.4249.2.v1"}]},
    ]
    asked: list[dict[str, Any]] = []

    def listed(**parameters: Any) -> dict[str, Any]:
        asked.append(parameters)
        return dict(pages[len(asked) - 1])

    found = _find(CustomEngineVersions(), {"describe_db_engine_versions": listed})

    assert _targets(found) == [_ami(1), _ami(2), _ami(3)]
    assert _details(found)[0] == "RDS engine version custom-oracle-ee 19.cev1: ImageId"
    assert all(one["IncludeAll"] is True and one["Filters"][0]["Name"] == "engine" for one in asked)


def test_where_rds_does_not_know_an_engine_all_versions_are_read() -> None:
    """A region without one of these engines refuses its name: the versions of the others are there all the same."""

    def listed(**parameters: Any) -> dict[str, Any]:
        if "Filters" in parameters:
            msg = "Unrecognized engine name: custom-oracle-se2"
            raise RefusedError(msg, "InvalidParameterValue")
        return {"DBEngineVersions": [{"Engine": "mysql", "EngineVersion": "8"}, _version(1)]}

    assert _targets(_find(CustomEngineVersions(), {"describe_db_engine_versions": listed})) == [_ami(1)]


def test_engine_versions_that_may_not_be_read_are_not_read_another_way() -> None:
    """A denial is no word about an engine."""
    caller = FakeCaller({"describe_db_engine_versions": [RefusedError("no", "AccessDenied")]})

    with pytest.raises(RefusedError):
        CustomEngineVersions().find(caller, SourceQuery())
    assert caller.calls == 1


def test_an_engine_version_without_a_name_is_cut_off() -> None:
    """With it may have gone what else it needs."""
    script: Script = {"describe_db_engine_versions": [{"DBEngineVersions": [{"Image": {"ImageId": _ami(1)}}]}]}

    with pytest.raises(UnansweredError, match="came without Engine"):
        _find(CustomEngineVersions(), script)


# --- Auto Scaling


def _groups(*names: str, **more: Any) -> Script:
    return {
        "describe_auto_scaling_groups": [{"AutoScalingGroups": [{"AutoScalingGroupName": n} | more for n in names]}]
    }


def _refresh(state: str, desired: dict[str, Any] | None) -> dict[str, Any]:
    return {"InstanceRefreshId": "1", "Status": state} | ({"DesiredConfiguration": desired} if desired else {})


NO_REFRESH: dict[str, Any] = {"InstanceRefreshes": []}
OVERRIDE = {"MixedInstancesPolicy": {"LaunchTemplate": {"Overrides": [{"ImageId": _ami(1)}]}}}


@pytest.mark.parametrize(
    ("state", "counts"),
    [
        ("Pending", True),
        ("InProgress", True),
        ("Baking", True),
        ("Cancelling", True),
        ("RollbackInProgress", True),
        ("SomethingNew", True),
        ("Successful", False),
        ("Failed", False),
        ("Cancelled", False),
        ("RollbackFailed", False),
        ("RollbackSuccessful", False),
    ],
)
def test_instance_refreshes_count_until_they_are_over(state: str, counts: bool) -> None:
    """The group itself shows its old configuration until the refresh has succeeded."""
    script = _groups("g") | {"describe_instance_refreshes": [{"InstanceRefreshes": [_refresh(state, OVERRIDE)]}]}

    found = _find(InstanceRefreshes(), script)

    assert bool(found.references) is counts
    assert not counts or _details(found)[0].startswith(f"{state} instance refresh of Auto Scaling group g: ")


def test_a_desired_configuration_may_name_an_alias_or_a_pinned_version() -> None:
    """As a group's own configuration may."""
    pinned = {"LaunchTemplate": {"LaunchTemplateId": "lt-1", "Version": "2"}}
    alias = {"MixedInstancesPolicy": {"LaunchTemplate": {"Overrides": [{"ImageId": "resolve:ssm:/x"}]}}}
    rows = [_refresh("InProgress", pinned), _refresh("Pending", alias), _refresh("Pending", None)]
    versions = [
        {"LaunchTemplateName": "t", "VersionNumber": n, "LaunchTemplateData": {"ImageId": _ami(n)}} for n in (1, 2, 3)
    ]
    script = _groups("g") | {
        "describe_instance_refreshes": [{"InstanceRefreshes": rows}],
        "describe_launch_template_versions": [{"LaunchTemplateVersions": versions}],
        "get_parameters": [{"Parameters": [{"Name": "/x", "Value": _ami(7), "Version": 1}], "InvalidParameters": []}],
    }

    assert _targets(_find(InstanceRefreshes(), script, SourceQuery(template_versions=1))) == [_ami(2), _ami(7)]


@pytest.mark.parametrize(
    ("source", "operation"),
    [(InstanceRefreshes(), "describe_instance_refreshes"), (WarmPools(), "describe_warm_pool")],
    ids=["refreshes", "warm pools"],
)
def test_a_group_that_is_deleted_meanwhile_needs_nothing(source: Source, operation: str) -> None:
    """Auto Scaling has one code for that and for other mistakes."""
    script = _groups("g", WarmPoolConfiguration={"MinSize": 1})
    script[operation] = [RefusedError("AutoScalingGroup name not found - g", "ValidationError")]
    assert not _find(source, script).references

    for message in ("1 validation error detected", "Launch template lt-1 not found", "The role is not found"):
        script[operation] = [RefusedError(message, "ValidationError")]
        with pytest.raises(RefusedError):
            _find(source, script)


def test_only_groups_with_a_warm_pool_are_asked_for_its_instances() -> None:
    """Most groups have none, and say so."""
    rows = [
        {"AutoScalingGroupName": "a"},
        {"AutoScalingGroupName": "b", "WarmPoolConfiguration": {"PoolState": "Stopped"}},
    ]
    pool = {"Instances": [{"InstanceId": "i-1", "ImageId": _ami(1)}, {"InstanceId": "i-2"}]}
    caller = FakeCaller({"describe_auto_scaling_groups": [{"AutoScalingGroups": rows}], "describe_warm_pool": [pool]})

    found = WarmPools().find(caller, SourceQuery())

    assert _details(found) == ["instance i-1 in the warm pool of Auto Scaling group b: ImageId"]
    assert caller.calls == 2


GROUPS = ("auto-scaling", "instance-refreshes", "warm-pools")


def _auto_scaling(caller: Caller, *names: str) -> Survey:
    sources = [source for source in USES if source.name in names]
    return Survey([Location(caller, "1", is_own=False)], EVERYTHING, uses=sources, own=(), per_image=())


def test_groups_are_listed_once_for_all_that_begin_with_them() -> None:
    """Each of three sources listed them anew, in each region; and what changed since is listed anew before the act."""
    more: Script = {
        "describe_instance_refreshes": [{"InstanceRefreshes": [_refresh("InProgress", OVERRIDE)]}],
        "describe_warm_pool": [{"Instances": [{"InstanceId": "i-1", "ImageId": _ami(2)}]}],
    }
    caller = FakeCaller(_groups("g", WarmPoolConfiguration={"MinSize": 1}) | more)
    survey = _auto_scaling(caller, *GROUPS)

    survey.query()
    assert Counter(operation for operation, _ in caller.requests)["describe_auto_scaling_groups"] == 1
    assert {reference.target for reference in survey.references} == {_ami(1), _ami(2)}
    assert [report.name for report in survey.reports] == list(GROUPS)
    caller._script["describe_auto_scaling_groups"] = [{"AutoScalingGroups": []}]
    survey.query_again(())

    assert Counter(operation for operation, _ in caller.requests)["describe_auto_scaling_groups"] == 2
    assert survey.references == []


def test_a_list_of_groups_that_failed_is_nobody_elses() -> None:
    """What was not listed is not empty: each source lists by itself then, and fails by itself."""
    denied = RefusedError("autoscaling:DescribeAutoScalingGroups: AccessDenied: no", "AccessDenied")
    group = _groups("g") | {"describe_instance_refreshes": [{"InstanceRefreshes": [_refresh("Pending", OVERRIDE)]}]}
    group["describe_auto_scaling_groups"] = [denied, denied, {"AutoScalingGroups": [{"AutoScalingGroupName": "g"}]}]
    survey = _auto_scaling(FakeCaller(group), *GROUPS)

    survey.query()

    assert {report.name: report.status for report in survey.reports} == dict(
        zip(GROUPS, ("failed", "failed", "ok"), strict=True)
    )


@pytest.mark.parametrize("names", [GROUPS[1:], GROUPS[2:]])
def test_sources_of_groups_need_no_other(names: tuple[str, ...]) -> None:
    """A survey may have any sources."""
    pool = {"describe_warm_pool": [{"Instances": [{"InstanceId": "i-1", "ImageId": _ami(2)}]}]}
    script = _groups("g", WarmPoolConfiguration={"MinSize": 1}) | pool | {"describe_instance_refreshes": [NO_REFRESH]}
    survey = _auto_scaling(FakeCaller(script), *names)

    survey.query()

    assert [reference.target for reference in survey.references] == [_ami(2)]


@pytest.mark.parametrize(
    ("source", "operation"),
    [(InstanceRefreshes(), "describe_instance_refreshes"), (WarmPools(), "describe_warm_pool")],
    ids=["refreshes", "warm pools"],
)
def test_what_listed_groups_have_is_there_whether_it_can_be_shown_or_not(source: Source, operation: str) -> None:
    """A region without an operation has nothing of its kind where that is what lists; the groups were listed before."""
    query = SourceQuery()
    AutoScalingGroups().find(FakeCaller(_groups("g", WarmPoolConfiguration={"MinSize": 1})), query)
    refused = RefusedError(f"autoscaling:{operation} in r: InvalidAction: not supported", "InvalidAction")

    report = query_source(Location(FakeCaller({operation: [refused]}), "1"), source, query).report

    assert report.status == "failed"


def test_a_groups_own_instances_name_what_their_root_volumes_were_replaced_from() -> None:
    """A refresh that replaces root volumes leaves the instance, and EC2 shows what it was launched from."""
    row = {"AutoScalingGroupName": "g", "Instances": [{"InstanceId": "i-1", "ImageId": _ami(1)}]}

    found = _find(AutoScalingGroups(), {"describe_auto_scaling_groups": [{"AutoScalingGroups": [row]}]})

    assert _details(found) == ["Auto Scaling group g: Instances[0].ImageId"]
    assert "autoscaling:DescribeAutoScalingGroups AutoScalingGroups[].Instances[].ImageId" in AutoScalingGroups.reads


# --- root volumes


def _tasks(*rows: dict[str, Any], alive: tuple[str, ...] = ("i-1",)) -> Script:
    tasks = [{"InstanceId": "i-1", "TaskState": "succeeded"} | row for row in rows]

    def describe(Filters: list[dict[str, Any]], **_: Any) -> dict[str, Any]:  # noqa: N803
        states = {"i-1": "stopped", "i-2": "terminated"}
        requested = [i for i in Filters[0]["Values"] if i in (*alive, "i-2")]
        rows = [{"InstanceId": i, "State": {"Name": states.get(i, "running")}} for i in requested]
        return {"Reservations": [{"Instances": rows}]}

    return {
        "describe_replace_root_volume_tasks": [{"ReplaceRootVolumeTasks": tasks}],
        "describe_instances": describe,
    }


@pytest.mark.parametrize(
    ("state", "counts"),
    [
        ("pending", True),
        ("in-progress", True),
        ("failing", True),
        ("succeeded", True),
        ("failed-detached", True),
        ("failed", False),
    ],
)
def test_replacements_of_root_volumes_count_unless_the_old_one_stayed(state: str, counts: bool) -> None:
    """EC2 shows the AMI that an instance was launched from, whatever its disk is by now."""
    found = _find(RootVolumes(), _tasks({"TaskState": state, "ImageId": _ami(1)}))

    assert bool(found.references) is counts
    assert not counts or _details(found) == [f"{state} root volume of instance i-1: ImageId"]


def test_a_root_volume_counts_as_long_as_its_instance_lives() -> None:
    """Tasks stay listed after the instance has gone."""
    rows = [
        {"ImageId": _ami(1)},
        {"InstanceId": "i-2", "ImageId": _ami(2)},
        {"InstanceId": "i-3", "SnapshotId": SNAPSHOT},
    ]

    assert _targets(_find(RootVolumes(), _tasks(*rows))) == [_ami(1)]
    assert _targets(_find(RootVolumes(), _tasks(*rows, alive=("i-1", "i-3")))) == [_ami(1), SNAPSHOT]


def test_a_root_volume_that_was_restored_to_its_launch_needs_no_look_at_instances() -> None:
    """Such a task names neither AMI nor snapshot; instances are looked up two hundred at a time."""
    caller = FakeCaller(_tasks({}))
    assert not RootVolumes().find(caller, SourceQuery()).references
    assert caller.calls == 1

    ids = tuple(f"i-1{n:03d}" for n in range(201))
    many = FakeCaller(_tasks(*({"InstanceId": i, "ImageId": _ami(1)} for i in ids), alive=ids))
    assert len(RootVolumes().find(many, SourceQuery()).references) == 201
    assert many.calls == 3


def _instances(*ids: str, state: str = "running") -> dict[str, Any]:
    rows = [{"InstanceId": key, "ImageId": _ami(5), "State": {"Name": state}} for key in ids]
    return {"Reservations": [{"Instances": rows}]}


def _with_instances(script: Script) -> tuple[FakeCaller, Survey]:
    caller = FakeCaller(script)
    sources = [source for source in USES if source.name in ("instances", "root-volumes")]
    return caller, Survey([Location(caller, "1", is_own=False)], EVERYTHING, uses=sources, own=(), per_image=())


def test_where_no_instance_lives_nobody_asks_for_root_volumes() -> None:
    """Most regions of most accounts have none; one that is there at the last look before the act counts."""
    tasks = _tasks({"ImageId": _ami(1)})
    caller, survey = _with_instances(tasks | {"describe_instances": [_instances("i-1", state="terminated")]})

    survey.query()
    assert [operation for operation, _ in caller.requests] == ["describe_instances"]
    assert [(report.name, report.status) for report in survey.reports] == [("instances", "ok"), ("root-volumes", "ok")]
    caller._script["describe_instances"] = [_instances("i-1")]
    survey.query_again(())

    assert {reference.target for reference in survey.references} == {_ami(1), _ami(5)}


def test_an_instance_that_is_younger_than_the_list_is_looked_up() -> None:
    """It may have been launched, and its root volume replaced, since the instances were listed."""
    tasks = _tasks({"ImageId": _ami(1)}, {"InstanceId": "i-3", "ImageId": _ami(3)})
    caller, survey = _with_instances(tasks | {"describe_instances": [_instances("i-1"), _instances("i-3")]})

    survey.query()

    assert {reference.target for reference in survey.references} == {_ami(1), _ami(3), _ami(5)}
    filters = [given.get("Filters") for operation, given in caller.requests if operation == "describe_instances"]
    assert filters == [None, [{"Name": "instance-id", "Values": ["i-3"]}]]


def test_instances_that_could_not_be_listed_are_not_none() -> None:
    """Root volumes are asked for as if nobody had tried."""
    denied = RefusedError("ec2:DescribeInstances: UnauthorizedOperation: no", "UnauthorizedOperation")
    _, survey = _with_instances(_tasks({"ImageId": _ami(1)}) | {"describe_instances": [denied, _instances("i-1")]})

    survey.query()

    assert [report.status for report in survey.reports] == ["failed", "ok"]
    assert [reference.target for reference in survey.references] == [_ami(1)]


# --- copies, exports, stores


@pytest.mark.parametrize("is_fleet", [False, True], ids=["an account", "a fleet"])
def test_a_list_of_own_amis_says_what_is_being_copied(is_fleet: bool) -> None:
    """Of all that a region is asked for, pending AMIs were asked for twice; before the act they are asked for anew."""
    copied = {"ImageId": _ami(9), "OwnerId": "1", "State": "pending", "SourceImageId": _ami(1)}
    caller = FakeCaller({"describe_images": [{"Images": [copied]}]})
    reached = Reached(members={}) if is_fleet else None
    survey = Survey([Location(caller, "1")], EVERYTHING, uses=[Copies()], own=(), per_image=(), reached=reached)

    survey.query()
    assert [(use.target, use.what) for use in survey.references] == [(_ami(1), f"{_ami(9)} is being made from it in r")]
    assert [given.get("Filters") for _, given in caller.requests] == [None]
    caller._script["describe_images"] = [{"Images": []}]
    survey.query_again(())

    assert survey.references == []
    assert caller.requests[-1][1]["Filters"] == [{"Name": "state", "Values": ["pending"]}]


@pytest.mark.parametrize("is_own", [True, False], ids=["own", "another account"])
def test_without_a_list_of_own_amis_copies_are_asked_for(is_own: bool) -> None:
    """One that could not be read, or was not asked for, says nothing."""
    row = {"ImageId": _ami(9), "State": "pending", "SourceImageId": _ami(1)}
    denied = [RefusedError("ec2:DescribeImages: UnauthorizedOperation: no", "UnauthorizedOperation")] if is_own else []
    caller = FakeCaller({"describe_images": [*denied, {"Images": [row]}]})
    reached = Reached(members={}) if is_own else None
    location = Location(caller, "1", is_own=is_own)
    survey = Survey([location], EVERYTHING, uses=[Copies()], own=(), per_image=(), reached=reached)

    survey.query()

    assert survey.states_of(location)["copies"].references[0].target == _ami(1)


def test_the_source_of_a_pending_ami_is_needed() -> None:
    """A copy to another region is listed there, and its source may be in any region."""
    rows = [{"ImageId": _ami(9), "State": "pending", "SourceImageId": _ami(1), "SourceImageRegion": "elsewhere"}]
    caller = FakeCaller({"describe_images": [{"Images": [*rows, {"ImageId": _ami(8), "State": "pending"}]}]})

    found = Copies().find(caller, SourceQuery())

    assert [(use.target, use.detail) for use in found.references] == [
        (_ami(1), f"{_ami(9)} is being made from it in r")
    ]
    assert caller.requests[0][1]["Filters"] == [{"Name": "state", "Values": ["pending"]}]


@pytest.mark.parametrize(
    ("state", "counts"),
    [("active", True), ("deleting", True), ("cancelling", True), ("completed", False), ("deleted", False)],
)
def test_exports_count_until_they_are_over(state: str, counts: bool) -> None:
    """An export of a hundred gibibytes takes hours."""
    row = {"ExportImageTaskId": "export-1", "ImageId": _ami(1), "Status": state}

    found = _find(ExportTasks(), {"describe_export_image_tasks": [{"ExportImageTasks": [row]}]})

    assert _details(found) == ([f"{state} export export-1"] if counts else [])


@pytest.mark.parametrize(("state", "counts"), [("InProgress", True), ("Completed", False), ("Failed", False)])
def test_stores_count_until_they_are_over(state: str, counts: bool) -> None:
    """EC2 lists those of the last month."""
    row = {"AmiId": _ami(1), "StoreTaskState": state, "Bucket": "b", "S3objectKey": "k.bin"}

    found = _find(StoreTasks(), {"describe_store_image_tasks": [{"StoreImageTaskResults": [row]}]})

    assert _details(found) == (["being stored in s3://b/k.bin"] if counts else [])


# --- Image Builder's parameters


def _recipe(recipe: dict[str, Any]) -> Script:
    return {
        "list_image_recipes": [{"imageRecipeSummaryList": [{"arn": "a:image-recipe/x/1"}]}],
        "get_image_recipe": [{"imageRecipe": recipe}],
        "list_container_recipes": [{"containerRecipeSummaryList": [{"arn": "a:container-recipe/y/1"}]}],
        "get_container_recipe": [
            {"containerRecipe": {"parentImage": "amazonlinux", "instanceConfiguration": {"image": "ssm:/build"}}}
        ],
    }


def test_recipes_may_start_from_a_parameter() -> None:
    """By its name or, where another account shares it, its ARN; what it says now counts."""
    arn = "arn:aws:ssm:r:210987654321:parameter/golden"
    values = [
        {"Name": "golden", "ARN": arn, "Value": _ami(1), "Version": 4},
        {"Name": "/build", "Value": _ami(2), "Version": 1},
    ]
    script = _recipe({"parentImage": f"ssm:{arn}"})
    script["get_parameters"] = [{"Parameters": values, "InvalidParameters": []}]

    found = _find(ImageBuilder(), script)

    assert {use.target: use.detail for use in found.references} == {
        _ami(1): f"image recipe x/1: parentImage ssm:{arn}",
        _ami(2): "container recipe y/1: instanceConfiguration.image ssm:/build",
    }


def test_a_recipes_parameter_is_read_again_and_again() -> None:
    """The recipe never changes; what its parameter says does."""
    query = SourceQuery()
    for number in (1, 2):
        script = _recipe({"parentImage": "ssm:/golden"})
        rows = [{"Name": "/golden", "Value": _ami(number), "Version": number}]
        script["get_parameters"] = [{"Parameters": rows, "InvalidParameters": ["/build"]}]
        found = ImageBuilder().find(FakeCaller(script), query)
        assert _targets(found) == [_ami(number)]
    assert found.notes == ["container recipe y/1 names the SSM parameter /build, which does not exist"]


def test_a_recipes_parameter_about_which_nothing_is_said_is_an_error() -> None:
    """It may well name an AMI of ours."""
    script = _recipe({"parentImage": "ssm:/golden"}) | {"get_parameters": [{"Parameters": []}]}

    with pytest.raises(UnansweredError, match=r"/build|/golden"):
        _find(ImageBuilder(), script)


# --- Elastic Beanstalk


def _beanstalk(settings: Callable[..., dict[str, Any]], **more: Any) -> Script:
    application = {"ApplicationName": "app", "ConfigurationTemplates": ["saved"]}
    rows = [
        {"EnvironmentName": name, "ApplicationName": "app", "Status": status} for name, status in ENVIRONMENTS.items()
    ]
    script: Script = {
        "describe_applications": [{"Applications": [application]}],
        "describe_environments": [{"Environments": rows}],
        "describe_configuration_settings": settings,
        "list_platform_versions": [{"PlatformSummaryList": []}],
    }
    return script | more


ENVIRONMENTS = {"live": "Ready", "late": "Terminated"}


def _options(*options: tuple[str, str, str]) -> dict[str, Any]:
    rows = [dict(zip(("Namespace", "OptionName", "Value"), option, strict=True)) for option in options]
    return {"OptionSettings": rows}


def test_environments_and_saved_configurations_name_their_ami() -> None:
    """A draft that failed to deploy is tried again; a variable's value is nobody's business here."""
    launch = "aws:autoscaling:launchconfiguration"

    def settings(ApplicationName: str, EnvironmentName: str = "", TemplateName: str = "") -> dict[str, Any]:  # noqa: N803
        assert ApplicationName == "app"
        if TemplateName:
            return {"ConfigurationSettings": [_options((launch, "ImageId", _ami(1)))]}
        assert EnvironmentName == "live"
        variable = ("aws:elasticbeanstalk:application:environment", "SECRET", _ami(9))
        draft = _options((launch, "BlockDeviceMappings", f"/dev/sdh={SNAPSHOT}"))
        return {"ConfigurationSettings": [_options((launch, "ImageId", _ami(2)), variable), draft]}

    found = _find(BeanstalkConfigurations(), _beanstalk(settings))

    assert {use.target: use.detail for use in found.references} == {
        _ami(1): "Elastic Beanstalk saved configuration saved of app: ImageId",
        _ami(2): "Elastic Beanstalk environment live of app: ImageId",
        SNAPSHOT: "Elastic Beanstalk environment live of app: BlockDeviceMappings",
    }


@pytest.mark.parametrize("rows", [[], None, [{}]])
def test_a_configuration_that_came_without_settings_is_an_error_with_its_name(rows: Any) -> None:
    """Elastic Beanstalk leaves out what the caller may not see without a word."""
    script = _beanstalk(lambda **_: {"ConfigurationSettings": rows})

    with pytest.raises(
        UnansweredError, match=r"Elastic Beanstalk (saved configuration|environment) \w+ of app came without"
    ):
        _find(BeanstalkConfigurations(), script)


def _refusing(which: str, message: str, code: str = "InvalidParameterValue") -> Script:
    """Return an Elastic Beanstalk that shows *which*, environment or saved configuration, to nobody."""

    def settings(ApplicationName: str, **given: str) -> dict[str, Any]:  # noqa: N803 - AWS's name
        assert ApplicationName == "app"
        if which in given:
            text = f"elasticbeanstalk:DescribeConfigurationSettings in r: {code}: {message}"
            raise RefusedError(text, code)
        return {"ConfigurationSettings": [_options(("aws:autoscaling:launchconfiguration", "ImageId", _ami(1)))]}

    return _beanstalk(settings)


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("EnvironmentName", "No Environment found for EnvironmentName = 'live'."),
        ("EnvironmentName", "No Application named 'app' found."),
        ("TemplateName", "No Configuration Template named 'app/saved' found."),
        ("TemplateName", "No Application named 'app' found."),
    ],
)
def test_a_configuration_that_is_deleted_meanwhile_needs_nothing(which: str, message: str) -> None:
    """Elastic Beanstalk has one code for that and for other mistakes; the other configuration still counts."""
    found = _find(BeanstalkConfigurations(), _refusing(which, message))

    assert _targets(found) == [_ami(1)]
    assert found.notes == []


PLATFORM = "No Platform named 'arn:aws:elasticbeanstalk:r::platform/Puma with Ruby 2.6/2.11.13' found."
STACK = "No Solution Stack named '64bit Amazon Linux 2017.09 v4.4.6 running Node.js' found."


@pytest.mark.parametrize("message", [PLATFORM, STACK])
def test_a_saved_configuration_on_a_retired_platform_is_named(message: str) -> None:
    """It is there and AWS shows nothing of it: no deleted one, and nothing that should stop clean-up for ever."""
    found = _find(BeanstalkConfigurations(), _refusing("TemplateName", message))

    assert _targets(found) == [_ami(1)]
    (note,) = found.notes
    assert note.startswith("Elastic Beanstalk saved configuration saved of app is on a retired platform")
    assert "no AMI in it was seen" in note


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("EnvironmentName", PLATFORM),
        ("EnvironmentName", STACK),
        ("EnvironmentName", "No Configuration Template named 'app/saved' found."),
        ("TemplateName", "No Environment found for EnvironmentName = 'live'."),
        ("TemplateName", "No Application Version named 'app-1' found."),
        ("TemplateName", "No S3 Bucket found"),
        ("TemplateName", "Nothing was given"),
    ],
)
def test_whatever_else_is_not_there_is_no_deleted_configuration(which: str, message: str) -> None:
    """An environment on a retired platform still replaces its instances from the AMI that it names."""
    with pytest.raises(RefusedError):
        _find(BeanstalkConfigurations(), _refusing(which, message))


@pytest.mark.parametrize("code", ["InvalidParameterCombination", "AccessDenied"])
def test_another_code_is_another_problem(code: str) -> None:
    """Whatever its words."""
    with pytest.raises(RefusedError):
        _find(BeanstalkConfigurations(), _refusing("EnvironmentName", "No Environment found for", code))


@pytest.mark.parametrize(("message", "is_gone"), [("No Platform named 'arn:x' found.", True), (STACK, False)])
def test_an_own_platform_that_is_deleted_meanwhile_needs_nothing(message: str, *, is_gone: bool) -> None:
    """Only the platform itself is what was asked for."""
    script = _beanstalk(
        lambda **_: {"ConfigurationSettings": [_options()]},
        list_platform_versions=[{"PlatformSummaryList": [{"PlatformArn": "arn:platform/ours/1"}]}],
        describe_platform_version=[RefusedError(message, "InvalidParameterValue")],
    )
    if is_gone:
        assert not _find(BeanstalkConfigurations(), script).references
    else:
        with pytest.raises(RefusedError):
            _find(BeanstalkConfigurations(), script)


def test_own_platforms_name_their_amis() -> None:
    """Custom platforms are retired; who has one still launches from it."""
    platforms = [
        {"PlatformArn": "arn:platform/ours/1", "PlatformStatus": "Ready"},
        {"PlatformArn": "arn:platform/ours/0", "PlatformStatus": "Deleted"},
    ]
    script = _beanstalk(
        lambda **_: {"ConfigurationSettings": [_options()]},
        list_platform_versions=[{"PlatformSummaryList": platforms}],
        describe_platform_version=[{"PlatformDescription": {"CustomAmiList": [{"ImageId": _ami(1)}]}}],
    )
    caller = FakeCaller(script)

    found = BeanstalkConfigurations().find(caller, SourceQuery())

    assert _details(found) == ["Elastic Beanstalk platform ours/1: CustomAmiList[0].ImageId"]
    assert [operation for operation, _ in caller.requests].count("describe_platform_version") == 1


# --- ECS


def _ecs(services: int, **more: Any) -> Script:
    arns = [f"arn:aws:ecs:r:1:service/c/s{n:02d}" for n in range(services)]

    def read(services: list[str], **_: Any) -> dict[str, Any]:
        rows = [{"serviceArn": arn, "deployments": [_deployment(int(arn[-2:]))]} for arn in services]
        return {"services": rows, "failures": []}

    rows = [{"clusterArn": "arn:c", "activeServicesCount": services}, {"clusterArn": "arn:b", "activeServicesCount": 0}]
    script: Script = {
        "list_clusters": [{"clusterArns": ["arn:c", "arn:b"]}],
        "describe_clusters": [{"clusters": rows, "failures": []}],
        "list_services": [{"serviceArns": arns}],
        "describe_services": read,
    }
    return script | more


def _deployment(number: int) -> dict[str, Any]:
    return {"volumeConfigurations": [{"name": "v", "managedEBSVolume": {"snapshotId": f"snap-{number:017x}"}}]}


def test_services_name_the_snapshots_of_their_volumes() -> None:
    """Ten services a call; clusters without services, as Batch makes them, are not asked for any."""
    caller = FakeCaller(_ecs(12))

    found = EcsVolumes().find(caller, SourceQuery())

    assert _targets(found) == [f"snap-{n:017x}" for n in range(12)]
    path = "volumeConfigurations[0][0].managedEBSVolume.snapshotId"
    assert _details(found)[0] == f"ECS service c/s00: {path}"
    assert [operation for operation, _ in caller.requests].count("list_services") == 1
    assert caller.calls == 5


def test_what_ecs_says_is_missing_was_deleted_meanwhile() -> None:
    """Any other failure hides something."""
    arn = "arn:aws:ecs:r:1:service/c/s00"
    gone = {"services": [], "failures": [{"arn": arn, "reason": "MISSING"}]}
    assert not _find(EcsVolumes(), _ecs(1, describe_services=[gone])).references
    assert not _find(EcsVolumes(), _ecs(1, list_services=[RefusedError("x", "ClusterNotFoundException")])).references

    hidden = {"services": [], "failures": [{"arn": arn, "reason": "ACCESS"}]}
    with pytest.raises(UnansweredError, match=re.escape(f"could not show {arn}: ACCESS")):
        _find(EcsVolumes(), _ecs(1, describe_services=[hidden]))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"describe_services": [{"services": []}]}, "service/c/s00"),
        ({"describe_clusters": [{"clusters": [{"clusterArn": "arn:c", "activeServicesCount": 1}]}]}, "arn:b"),
        ({"describe_clusters": [{"clusters": [{"clusterArn": "arn:c"}, {"clusterArn": "arn:b"}]}]}, "ECS arn:c"),
        ({"describe_services": [{"services": [{"serviceArn": "arn:aws:ecs:r:1:service/c/s00"}]}]}, "ECS service c/s00"),
    ],
    ids=["a service", "a cluster", "a count", "deployments"],
)
def test_what_is_missing_from_ecss_answers_is_an_error_with_its_name(change: dict[str, Any], named: str) -> None:
    """A cluster without a count, or a service without deployments, was cut off."""
    with pytest.raises(UnansweredError, match=re.escape(named)):
        _find(EcsVolumes(), _ecs(1, **change))


# --- AgentCore


def _providers(*updated: datetime, configuration: Any = None) -> Script:
    rows = [
        {"capacityProviderId": f"p{n}", "name": f"agents{n}", "lastUpdatedAt": when, "status": "READY"}
        for n, when in enumerate(updated)
    ]
    volume = {"ec2Configuration": {"volumes": [{"ebsConfiguration": {"snapshotId": SNAPSHOT}}]}}
    return {
        "list_capacity_providers": [{"capacityProviders": rows}],
        "get_capacity_provider": [{"computeConfiguration": configuration or volume}],
    }


def test_capacity_providers_name_snapshots_and_are_read_again_when_updated() -> None:
    """The AMI is AWS's; a volume with models may come from ours."""
    query = SourceQuery()
    found = _find(CapacityProviders(), _providers(THEN, THEN), query)
    path = "ec2Configuration.volumes[0].ebsConfiguration.snapshotId"
    assert _details(found) == [f"AgentCore capacity provider agents{n}: {path}" for n in (0, 1)]

    other = {
        "ec2Configuration": {"launchTemplateSource": {"ephemeralVolumes": [{"ebs": {"snapshotId": "snap-12345678"}}]}}
    }
    caller = FakeCaller(_providers(THEN, NOW, configuration=other))

    assert _targets(CapacityProviders().find(caller, query)) == [SNAPSHOT, "snap-12345678"]
    assert caller.calls == 2


def test_a_capacity_provider_that_came_cut_off_is_an_error_with_its_name() -> None:
    """One that was deleted meanwhile needs nothing."""
    script = _providers(THEN)
    script["get_capacity_provider"] = [{"name": "agents0"}]
    with pytest.raises(UnansweredError, match="agents0 came without computeConfiguration"):
        _find(CapacityProviders(), script)

    script["get_capacity_provider"] = [RefusedError("gone", "ResourceNotFoundException")]
    assert not _find(CapacityProviders(), script).references


# --- fast snapshot restore


def _restores(**states: str) -> Script:
    rows = [
        {"SnapshotId": SNAPSHOT, "AvailabilityZone": f"r{zone}", "State": state, "OwnerId": "1"}
        for zone, state in states.items()
    ]
    return {
        "describe_fast_snapshot_restores": [
            {"FastSnapshotRestores": rows[:1], "NextToken": "2"},
            {"FastSnapshotRestores": rows[1:]},
        ]
    }


def _priced(usd: str | None) -> SourceQuery:
    return SourceQuery(fast_restore_usd_per_hour=lambda: None if usd is None else Decimal(usd))


def test_fast_snapshot_restore_says_its_zones_and_what_it_costs_a_month() -> None:
    """Nothing says more plainly that an AMI is live than paying for it by the hour, in each zone."""
    script = _restores(c="enabling", a="enabled", b="optimizing", d="disabling", e="disabled")

    (reference,) = _find(FastRestores(), script, _priced("0.75")).references

    assert reference.target == SNAPSHOT
    assert reference.detail == f"fast snapshot restore of {SNAPSHOT} in ra, rb, rc, $1,642.50 a month"


def test_a_price_that_is_not_known_is_never_zero() -> None:
    """Seoul's is not in the table."""
    (reference,) = _find(FastRestores(), _restores(a="enabled"), _priced(None)).references

    assert reference.detail == f"fast snapshot restore of {SNAPSHOT} in ra, at a price that is not known"


def test_fast_snapshot_restore_that_is_being_switched_off_protects_nothing() -> None:
    """Somebody has just said that it is not wanted; nor is its price looked up."""

    def never() -> Decimal | None:
        raise AssertionError

    query = SourceQuery(fast_restore_usd_per_hour=never)

    assert not _find(FastRestores(), _restores(a="disabling", b="disabled"), query).references
