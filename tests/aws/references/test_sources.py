"""Each source of references: which states count, all pages, every field that can name an AMI."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.aws.caller import RefusedError, UnansweredError
from gpu_ami.aws.images import Image
from gpu_ami.aws.references.auto_scaling import AutoScalingGroups
from gpu_ami.aws.references.batch import BatchEnvironments
from gpu_ami.aws.references.fleets import Fleets, SpotFleets
from gpu_ami.aws.references.image_builder import ImageBuilder, own_images_of
from gpu_ami.aws.references.image_references import ImageReferences
from gpu_ami.aws.references.instances import Instances
from gpu_ami.aws.references.launch_configurations import LaunchConfigurations
from gpu_ami.aws.references.parameters import Parameters
from gpu_ami.aws.references.protections import (
    AllowedImages,
    AwsBackup,
    DeregistrationProtection,
    LaunchPermissions,
    LifecycleManager,
    SnapshotLocks,
)
from gpu_ami.aws.references.registry import SOURCES
from gpu_ami.aws.references.source import Found, Source, SourceQuery
from gpu_ami.aws.references.spot_requests import SpotRequests
from gpu_ami.aws.references.templates import LaunchTemplates
from tests.support.fake_caller import FakeCaller, Script


def _ami(number: int) -> str:
    return f"ami-{number:017x}"


def _find(source: Source, script: Script, query: SourceQuery | None = None) -> Found:
    return source.find(FakeCaller(script), query or SourceQuery())


def _targets(found: Found) -> list[str]:
    return sorted({reference.target for reference in found.references})


def test_instances_count_in_every_state_but_terminated() -> None:
    """A stopped instance's AMI is what its repair starts from."""
    states = ["pending", "running", "stopping", "stopped", "shutting-down", "terminated"]
    rows = [
        {"Instances": [{"InstanceId": f"i-{n}", "ImageId": _ami(n), "State": {"Name": state}, "Tags": []}]}
        for n, state in enumerate(states)
    ]
    pages: Any = [{"Reservations": rows[:3], "NextToken": "1"}, {"Reservations": rows[3:]}]

    found = _find(Instances(), {"describe_instances": pages})

    assert _targets(found) == [_ami(n) for n in range(5)]
    assert found.references[3].detail == "stopped instance i-3"


def test_a_reason_shows_the_instances_name() -> None:
    """Nobody knows instances by their ids."""
    row = {
        "InstanceId": "i-1",
        "ImageId": _ami(1),
        "State": {"Name": "running"},
        "Tags": [{"Key": "Name", "Value": "batch worker"}],
    }

    (reference,) = _find(Instances(), {"describe_instances": [{"Reservations": [{"Instances": [row]}]}]}).references

    assert reference.detail == "running instance i-1 (batch worker)"


@pytest.mark.parametrize(
    ("state", "counts"), [("open", True), ("active", True), ("disabled", True), ("closed", False), ("failed", False)]
)
def test_spot_requests_count_until_they_are_over(state: str, counts: bool) -> None:
    """A persistent request launches its AMI again after each interruption."""
    row = {"SpotInstanceRequestId": "sir-1", "State": state, "LaunchSpecification": {"ImageId": _ami(1)}}

    found = _find(SpotRequests(), {"describe_spot_instance_requests": [{"SpotInstanceRequests": [row]}]})

    assert bool(found.references) is counts


def test_launch_configurations_name_images_and_snapshots() -> None:
    """A mapping's snapshot goes with the AMI that it was made for."""
    row = {
        "LaunchConfigurationName": "lc",
        "ImageId": _ami(1),
        "UserData": _ami(2),
        "BlockDeviceMappings": [{"Ebs": {"SnapshotId": "snap-12345678"}}],
    }

    found = _find(LaunchConfigurations(), {"describe_launch_configurations": [{"LaunchConfigurations": [row]}]})

    assert _targets(found) == [_ami(1), "snap-12345678"]


def test_groups_name_images_in_their_overrides() -> None:
    """Auto Scaling lets each override have its own AMI, or an alias; tags are no use."""
    row = {
        "AutoScalingGroupName": "g",
        "MixedInstancesPolicy": {
            "LaunchTemplate": {"Overrides": [{"ImageId": _ami(1)}, {"ImageId": "resolve:ssm:/x"}]}
        },
        "Tags": [{"Key": "before", "Value": _ami(9)}],
    }
    values = {"Parameters": [{"Name": "/x", "Value": _ami(2), "Version": 1}], "InvalidParameters": []}

    found = _find(
        AutoScalingGroups(),
        {"describe_auto_scaling_groups": [{"AutoScalingGroups": [row]}], "get_parameters": [values]},
    )

    assert _targets(found) == [_ami(1), _ami(2)]


@pytest.mark.parametrize(
    ("state", "counts"),
    [("active", True), ("modifying", True), ("deleted_running", True), ("deleted", False), ("failed", False)],
)
def test_fleets_count_until_they_are_over(state: str, counts: bool) -> None:
    """An EC2 fleet's overrides may name an AMI of their own."""
    row = {
        "FleetId": "fleet-1",
        "FleetState": state,
        "LaunchTemplateConfigs": [{"Overrides": [{"ImageId": _ami(1)}]}],
    }

    assert bool(_find(Fleets(), {"describe_fleets": [{"Fleets": [row]}]}).references) is counts


@pytest.mark.parametrize(("state", "counts"), [("active", True), ("cancelled_running", True), ("cancelled", False)])
def test_spot_fleets_count_until_they_are_over(state: str, counts: bool) -> None:
    """A spot fleet refills itself from its specifications."""
    row = {
        "SpotFleetRequestId": "sfr-1",
        "SpotFleetRequestState": state,
        "SpotFleetRequestConfig": {"LaunchSpecifications": [{"ImageId": _ami(1)}]},
    }
    script: Script = {"describe_spot_fleet_requests": [{"SpotFleetRequestConfigs": [row]}]}

    assert bool(_find(SpotFleets(), script).references) is counts


def _environment(**resources: Any) -> Script:
    row = {"computeEnvironmentName": "ce", "status": "VALID", "computeResources": resources}
    return {"describe_compute_environments": [{"computeEnvironments": [row]}]}


@pytest.mark.parametrize(
    "resources",
    [
        {"imageId": _ami(1)},
        {"ec2Configuration": [{"imageType": "A"}, {"imageType": "B", "imageIdOverride": _ami(1)}]},
        {"launchTemplate": {"overrides": [{"imageIdFromTheFuture": _ami(1)}]}},
    ],
)
def test_batch_names_images_in_many_fields(resources: dict[str, Any]) -> None:
    """AWS's documents disagree on which field wins, and new fields appear: all of them count."""
    assert _targets(_find(BatchEnvironments(), _environment(**resources))) == [_ami(1)]


@pytest.mark.parametrize(
    ("status", "counts"), [("VALID", True), ("INVALID", True), ("DELETING", True), ("DELETED", False)]
)
def test_batch_environments_count_until_they_are_deleted(status: str, counts: bool) -> None:
    """An invalid or disabled environment is one that somebody is about to repair."""
    row = {"computeEnvironmentName": "ce", "status": status, "computeResources": {"imageId": _ami(1)}}
    script: Script = {"describe_compute_environments": [{"computeEnvironments": [row]}]}

    assert bool(_find(BatchEnvironments(), script).references) is counts


def test_an_environment_without_resources_needs_nothing() -> None:
    """Unmanaged environments have none."""
    row = {"computeEnvironmentName": "ce", "status": "VALID"}

    assert not _find(
        BatchEnvironments(), {"describe_compute_environments": [{"computeEnvironments": [row]}]}
    ).references


def test_recipes_name_parents_and_build_instances() -> None:
    """A container recipe launches an AMI to build in."""
    build = {"image": _ami(2), "blockDeviceMappings": [{"ebs": {"snapshotId": "snap-00000000000000003"}}]}
    script = _recipes({"parentImage": _ami(1)}) | {
        "list_container_recipes": [{"containerRecipeSummaryList": [{"arn": "a:container-recipe/y/1"}]}],
        "get_container_recipe": [{"containerRecipe": {"parentImage": "amazonlinux", "instanceConfiguration": build}}],
    }

    found = _find(ImageBuilder(), script)

    assert [r.detail for r in found.references] == [
        "image recipe x/1: parentImage",
        "container recipe y/1: instanceConfiguration.image",
        "container recipe y/1: instanceConfiguration.blockDeviceMappings[0].ebs.snapshotId",
    ]


def _recipes(*recipes: dict[str, Any]) -> Script:
    rows = [{"arn": f"a:image-recipe/x/{number}"} for number, _ in enumerate(recipes, start=1)]
    return {
        "list_image_recipes": [{"imageRecipeSummaryList": rows}],
        "get_image_recipe": [{"imageRecipe": recipe} for recipe in recipes],
        "list_container_recipes": [{"containerRecipeSummaryList": []}],
    }


_BASE = "arn:aws:imagebuilder:r:123456789012:image/base"


@pytest.mark.parametrize(
    ("parent", "needed"),
    [
        (f"{_BASE}/x.x.x", [1, 2]),
        (f"{_BASE}/1.x.x", [1]),
        (f"{_BASE}/1.0.2", [1]),
        (f"{_BASE}/1.0.2/1", [1]),
        (f"{_BASE}/1.0.2/2", []),
        (f"{_BASE}/3.x.x", []),
        (f"{_BASE}-other/x.x.x", []),
    ],
)
def test_a_recipe_may_start_from_an_image_of_image_builder(parent: str, needed: list[int]) -> None:
    """Such a parent is no AMI id; the AMI says in a tag which image it is."""
    own = [
        Image(image_id=_ami(number), region="r", tags={"Ec2ImageBuilderArn": f"{_BASE}/{version}/1"})
        for number, version in ((1, "1.0.2"), (2, "2.0.0"))
    ]
    recipes = _recipes({"parentImage": parent}, {"parentImage": _ami(3)})

    found = own_images_of(_find(ImageBuilder(), recipes).references, own)

    assert sorted(reference.target for reference in found) == [*(_ami(number) for number in needed), _ami(3)]
    assert {built.detail for built in found if built.target != _ami(3)} <= {f"image recipe x/1: parentImage {parent}"}


def test_amazons_own_parents_are_not_looked_for() -> None:
    """Most recipes start from them; none is an own AMI."""
    parent = "arn:aws:imagebuilder:r:aws:image/amazon-linux-2023-x86/x.x.x"

    assert not _find(ImageBuilder(), _recipes({"parentImage": parent})).references


def test_a_recipe_that_was_made_again_is_read_again() -> None:
    """Under its old ARN it may have another parent."""
    query = SourceQuery()
    for number, made in ((1, "2026-11-01"), (2, "2026-11-02")):
        script = _recipes({"parentImage": _ami(number)})
        script["list_image_recipes"] = [
            {"imageRecipeSummaryList": [{"arn": "a:image-recipe/x/1", "dateCreated": made}]}
        ]
        assert _targets(ImageBuilder().find(FakeCaller(script), query)) == [_ami(number)]


def test_a_second_look_reads_only_new_recipes() -> None:
    """One that was deleted between list and read is not there."""
    gone = RefusedError("no", "ResourceNotFoundException")
    query = SourceQuery()
    script = _recipes({"parentImage": _ami(1)}, {"parentImage": _ami(2)})
    script["get_image_recipe"] = [{"imageRecipe": {"parentImage": _ami(1)}}, gone]
    first = FakeCaller(script)
    assert _targets(ImageBuilder().find(first, query)) == [_ami(1)]

    second = FakeCaller(_recipes({"parentImage": _ami(3)}, {"parentImage": _ami(3)}))

    assert _targets(ImageBuilder().find(second, query)) == [_ami(1), _ami(3)]
    assert [operation for operation, _ in second.requests].count("get_image_recipe") == 1


@pytest.mark.parametrize("answer", [{}, {"imageRecipe": {}}, {"imageRecipe": None}])
def test_a_recipe_that_came_cut_off_is_an_error(answer: Any) -> None:
    """Its parent would be taken for unused."""
    script = _recipes({"parentImage": _ami(1)})
    script["get_image_recipe"] = [answer]

    with pytest.raises((LookupError, TypeError)):
        _find(ImageBuilder(), script)


# --- launch templates


def _templates(**versions: list[dict[str, Any]]) -> Script:
    rows = [
        {
            "LaunchTemplateId": f"lt-{name}",
            "LaunchTemplateName": name,
            "LatestVersionNumber": len(some),
            "DefaultVersionNumber": 1,
        }
        for name, some in versions.items()
    ]

    def read(LaunchTemplateId: str = "", LaunchTemplateName: str = "", **_: Any) -> dict[str, Any]:  # noqa: N803
        name = LaunchTemplateName or LaunchTemplateId.removeprefix("lt-")
        return {
            "LaunchTemplateVersions": [
                {"LaunchTemplateName": name, "VersionNumber": number, "LaunchTemplateData": data}
                for number, data in enumerate(versions[name], start=1)
            ]
        }

    return {"describe_launch_templates": [{"LaunchTemplates": rows}], "describe_launch_template_versions": read}


def _of(*numbers: int) -> list[dict[str, Any]]:
    return [{"ImageId": _ami(number)} for number in numbers]


def test_all_versions_of_all_templates_count() -> None:
    """Somebody pins the middle one; nobody can see who."""
    found = _find(LaunchTemplates(), _templates(a=_of(1, 2, 3), b=_of(4)))

    assert _targets(found) == [_ami(n) for n in (1, 2, 3, 4)]


def test_fewer_versions_count_when_asked_but_always_the_default() -> None:
    """What launches without a version is the default, however old."""
    found = _find(LaunchTemplates(), _templates(a=_of(1, 2, 3, 4)), SourceQuery(template_versions=1))

    assert _targets(found) == [_ami(1), _ami(4)]


def test_a_second_look_reads_only_templates_with_new_versions() -> None:
    """Versions never change, so fifty templates cost one call the second time."""
    memory: dict[str, Any] = {}
    _find(LaunchTemplates(), _templates(a=_of(1), b=_of(2)), SourceQuery(memory=memory))
    caller = FakeCaller(_templates(a=_of(1), b=_of(2, 3)))

    found = LaunchTemplates().find(caller, SourceQuery(memory=memory))

    assert _targets(found) == [_ami(1), _ami(2), _ami(3)]
    assert caller.calls == 2


def test_a_template_that_is_deleted_meanwhile_needs_nothing() -> None:
    """Between listing and reading, somebody may clean up too."""
    script = _templates(a=_of(1))
    script["describe_launch_template_versions"] = [RefusedError("gone", "InvalidLaunchTemplateId.NotFound")]

    assert not _find(LaunchTemplates(), script).references


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (RefusedError("no", "UnauthorizedOperation"), RefusedError),
        (
            {"LaunchTemplateVersions": [{"LaunchTemplateName": "a", "VersionNumber": 2, "LaunchTemplateData": {}}]},
            UnansweredError,
        ),
        ({"LaunchTemplateVersions": []}, UnansweredError),
    ],
    ids=["denied", "without its default version", "without any version"],
)
def test_a_template_that_cannot_be_read_whole_is_an_error(answer: Any, error: type[Exception]) -> None:
    """The default version cannot be deleted: a list without it, an empty one too, is cut off."""
    script = _templates(a=_of(1, 2))
    script["describe_launch_template_versions"] = [answer]

    with pytest.raises(error):
        _find(LaunchTemplates(), script)


def test_aliases_are_resolved_with_versions_and_labels() -> None:
    """resolve:ssm names a parameter, one of its versions, a label or a shared parameter's ARN."""
    arn = "arn:aws:ssm:r:1:parameter/shared"
    data = [{"ImageId": f"resolve:ssm:{name}"} for name in ("/a", "/a:2", "/a:live", arn, "/gone")]
    rows = [
        {"Name": "/a", "Value": _ami(1), "Version": 3},
        {"Name": "/a", "Selector": ":2", "Value": _ami(2), "Version": 2},
        {"Name": "/a", "Selector": ":live", "Value": _ami(3), "Version": 1},
        {"Name": "shared", "ARN": arn, "Value": _ami(4), "Version": 1},
    ]
    script = _templates(t=data) | {"get_parameters": [{"Parameters": rows, "InvalidParameters": ["/gone"]}]}

    found = _find(LaunchTemplates(), script)

    assert _targets(found) == [_ami(n) for n in (1, 2, 3, 4)]
    assert found.notes == ["launch template t version 5 names the SSM parameter /gone, which does not exist"]


def test_an_alias_about_which_nothing_is_said_is_an_error() -> None:
    """It may well be an alias of an AMI."""
    script = _templates(t=[{"ImageId": "resolve:ssm:/a"}]) | {"get_parameters": [{"Parameters": []}]}

    with pytest.raises(UnansweredError, match="/a"):
        _find(LaunchTemplates(), script)


PIN = {"LaunchTemplateId": "lt-a", "Version": "2"}


@pytest.mark.parametrize(
    ("source", "script", "expected"),
    [
        (
            AutoScalingGroups(),
            {
                "describe_auto_scaling_groups": [
                    {"AutoScalingGroups": [{"AutoScalingGroupName": "g", "LaunchTemplate": PIN}]}
                ]
            },
            [2],
        ),
        (
            Fleets(),
            {
                "describe_fleets": [
                    {
                        "Fleets": [
                            {
                                "FleetId": "f",
                                "FleetState": "active",
                                "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": PIN}],
                            }
                        ]
                    }
                ]
            },
            [2],
        ),
        (
            BatchEnvironments(),
            _environment(launchTemplate={"launchTemplateName": "a", "version": "$Latest"}),
            [1, 2, 3],
        ),
    ],
    ids=["group", "fleet", "batch"],
)
def test_with_few_versions_whoever_pins_one_reads_it(source: Source, script: Script, expected: list[int]) -> None:
    """`--template-versions` must not lose a pinned version, and Batch freezes $Latest: there all versions count."""
    whole = {**script, **_templates(a=_of(1, 2, 3))}

    assert _targets(_find(source, whole, SourceQuery(template_versions=1))) == [_ami(n) for n in expected]
    assert _targets(_find(source, whole)) == []  # launch-templates reads all of them


def test_a_named_template_that_comes_without_versions_is_an_error() -> None:
    """What an environment launches from has a version; an empty list would call its AMI unused."""
    script = _environment(launchTemplate={"launchTemplateName": "a", "version": "1"}) | _templates(a=[])

    with pytest.raises(UnansweredError, match="a came without any version"):
        _find(BatchEnvironments(), script, SourceQuery(template_versions=1))


def test_a_template_may_be_named_like_an_id() -> None:
    """Requested as an id it does not exist, and the AMI that the environment launches would seem unused."""
    name = "lt-0123456789abcdef0"
    template = {"launchTemplateName": name, "version": "1"}
    script = _environment(launchTemplate=template) | _templates(**{name: _of(1)})
    caller = FakeCaller(script)

    found = BatchEnvironments().find(caller, SourceQuery(template_versions=1))

    assert _targets(found) == [_ami(1)]
    assert [p["LaunchTemplateName"] for o, p in caller.requests if o == "describe_launch_template_versions"] == [name]


def test_a_named_template_that_is_gone_needs_nothing() -> None:
    """An environment may outlive its template; that must not stop every clean-up."""
    script = _environment(launchTemplate={"launchTemplateName": "a", "version": "1"})
    script["describe_launch_template_versions"] = [RefusedError("gone", "InvalidLaunchTemplateName.NotFoundException")]

    assert not _find(BatchEnvironments(), script, SourceQuery(template_versions=1)).references


# --- parameters


def _parameters(**values: str) -> Script:
    rows = [{"Name": f"/{n}", "Type": "String", "Version": len(v)} for n, v in values.items()]

    def read(Names: list[str], **_: Any) -> dict[str, Any]:  # noqa: N803 - AWS's name
        found = [{"Name": name, "Value": values[name[1:]]} for name in Names if name[1:] in values]
        return {"Parameters": found, "InvalidParameters": [name for name in Names if name[1:] not in values]}

    return {"describe_parameters": [{"Parameters": rows}], "get_parameters": read}


def test_any_value_that_holds_an_id_counts() -> None:
    """Alone, in a list, in JSON, with an old id: the parameter's name means nothing."""
    script = _parameters(a=_ami(1), b=f"x,{_ami(2)}", c=f'{{"id":"{_ami(3)}"}}', d="ami-12345678", e="none")

    found = _find(Parameters(), script)

    assert _targets(found) == [_ami(1), _ami(2), _ami(3), "ami-12345678"]
    assert all(r.detail in {f"SSM parameter /{n}" for n in "abcd"} for r in found.references)


def test_parameters_are_listed_over_pages_and_read_by_tens() -> None:
    """The eleventh parameter is where tools that read one page lose AMIs."""
    script = _parameters(**{f"p{n}": _ami(n) for n in range(25)})
    rows = script["describe_parameters"][0]["Parameters"]  # type: ignore[index]
    script["describe_parameters"] = [{"Parameters": rows[:12], "NextToken": "1"}, {"Parameters": rows[12:]}]
    caller = FakeCaller(script)

    assert len(Parameters().find(caller, SourceQuery()).references) == 25
    assert caller.calls == 2 + 3


def test_secrets_are_named_but_never_read() -> None:
    """A plan is printed and kept: no secret may come near it."""
    rows = [{"Name": f"/secret{n}", "Type": "SecureString"} for n in range(7)]
    caller = FakeCaller({"describe_parameters": [{"Parameters": rows}]})

    found = Parameters().find(caller, SourceQuery())

    assert found.notes == [
        "7 SecureString parameters were not read: /secret0, /secret1, /secret2, /secret3, /secret4 and 2 more"
    ]
    assert caller.calls == 1
    one = Parameters().find(FakeCaller({"describe_parameters": [{"Parameters": rows[:1]}]}), SourceQuery())
    assert one.notes == ["1 SecureString parameter was not read: /secret0"]


def test_a_second_look_reads_only_values_that_changed() -> None:
    """A parameter that was pointed at a selected AMI a moment ago is what the second query is for."""
    memory: dict[str, Any] = {}
    _find(Parameters(), _parameters(a="none", b=_ami(2)), SourceQuery(memory=memory))
    caller = FakeCaller(_parameters(a=_ami(1), b=_ami(2)))

    assert _targets(Parameters().find(caller, SourceQuery(memory=memory))) == [_ami(1), _ami(2)]
    assert caller.requests[1][1]["Names"] == ["/a"]


def test_a_parameter_that_is_deleted_meanwhile_needs_nothing() -> None:
    """SSM then says that it does not exist."""
    script = _parameters(a=_ami(1))
    script["get_parameters"] = [{"Parameters": [], "InvalidParameters": ["/a"]}]

    assert not _find(Parameters(), script).references


# --- single AMIs


def test_ec2_is_asked_about_ten_amis_at_a_time_and_all_versions() -> None:
    """Its defaults cover ten versions of a template and count terminated instances."""
    row = {"ImageId": _ami(1), "ResourceType": "ec2:Instance", "Arn": "arn:aws:ec2:r:1:instance/i-1"}
    caller = FakeCaller({"describe_image_references": [{"ImageReferences": [row]}]})

    found = ImageReferences().find(caller, SourceQuery(selected={_ami(n) for n in range(25)}))

    assert found.references[0].detail == "ec2:Instance instance/i-1"
    assert sorted(len(given["ImageIds"]) for _, given in caller.requests) == [5, 10, 10]
    options = {t["ResourceType"]: t.get("ResourceTypeOptions", []) for t in caller.requests[0][1]["ResourceTypes"]}
    assert options["ec2:LaunchTemplate"][0]["OptionValues"] == ["10000"]
    assert "terminated" not in options["ec2:Instance"][0]["OptionValues"]


def _permissions(**by_image: Any) -> Script:
    def read(ImageId: str, **_: Any) -> dict[str, Any]:  # noqa: N803 - AWS's name
        if isinstance(by_image[ImageId], Exception):
            raise by_image[ImageId]
        return {"ImageId": ImageId, "LaunchPermissions": by_image[ImageId]}

    return {"describe_image_attribute": read}


def test_sharing_is_looked_up_once_and_only_for_what_would_go() -> None:
    """One call per selected AMI is what AWS's rates allow; of public ones too, for the journal."""
    images = [Image(image_id="a", region="r"), Image(image_id="p", region="r", public=True)]
    memory: dict[str, Any] = {}
    caller = FakeCaller(_permissions(a=[{"UserId": "2"}, {"OrganizationArn": "o"}], b=[], p=[{"Group": "all"}]))

    found = LaunchPermissions().find(caller, SourceQuery(images, {"a", "b", "p"}, memory=memory))
    LaunchPermissions().find(caller, SourceQuery(images, {"a", "b", "p"}, memory=memory))

    assert [(r.target, r.detail) for r in found.references] == [
        ("p", "public: every account may launch it"),
        ("a", "shared with 2, o"),
    ]
    assert caller.calls == 3
    assert memory["permissions"]["a"] == ({"UserId": "2"}, {"OrganizationArn": "o"})


def test_an_ami_that_is_gone_meanwhile_is_shared_with_nobody() -> None:
    """It must not fail the run; any other refusal does."""
    gone, denied = RefusedError("x", "InvalidAMIID.NotFound"), RefusedError("x", "UnauthorizedOperation")

    assert not _find(LaunchPermissions(), _permissions(a=gone), SourceQuery(selected={"a"})).references
    with pytest.raises(RefusedError):
        _find(LaunchPermissions(), _permissions(a=denied), SourceQuery(selected={"a"}))


@pytest.mark.parametrize(
    ("source", "image", "counts"),
    [
        (AwsBackup(), {"name": "AwsBackup_i-1"}, True),
        (AwsBackup(), {"tags": {"aws:backup:source-resource": "x"}}, True),
        (AwsBackup(), {"name": "backup", "tags": {"backup": "aws:backup:x"}}, False),
        (LifecycleManager(), {"tags": {"aws:dlm:lifecycle-policy-id": "x"}}, True),
        (LifecycleManager(), {"tags": {"dlm:managed": "true"}}, True),
        (LifecycleManager(), {}, False),
        (DeregistrationProtection(), {"protection": "enabled-without-cooldown"}, True),
        (DeregistrationProtection(), {"protection": "disabled after 2026-12-01"}, True),
        (DeregistrationProtection(), {"protection": "disabled"}, False),
        (DeregistrationProtection(), {"protection": ""}, False),
    ],
)
def test_protections_are_read_from_the_ami_itself(source: Source, image: dict[str, Any], counts: bool) -> None:
    """EC2 would refuse these, or somebody else deletes them; they cost no call."""
    caller = FakeCaller({})

    found = source.find(caller, SourceQuery([Image(image_id="a", region="r", **image)]))

    assert (bool(found.references), caller.calls) == (counts, 0)


def test_locked_snapshots_keep_their_ami_until_the_lock_expires() -> None:
    """Deregistering the AMI would leave the locked snapshot behind for years."""
    rows = [{"SnapshotId": "snap-1", "LockState": "compliance"}, {"SnapshotId": "snap-2", "LockState": "expired"}]

    found = _find(SnapshotLocks(), {"describe_locked_snapshots": [{"Snapshots": rows}]})

    assert [(r.target, r.detail) for r in found.references] == [("snap-1", "snapshot snap-1 is locked (compliance)")]


@pytest.mark.parametrize(("state", "notes"), [("disabled", 0), ("enabled", 1), ("audit-mode", 1)])
def test_allowed_amis_are_mentioned_when_they_are_on(state: str, notes: int) -> None:
    """A listing with hidden AMIs must not pass for a whole one."""
    assert len(_find(AllowedImages(), {"get_allowed_images_settings": [{"State": state}]}).notes) == notes


def test_sources_have_unique_names_and_say_what_they_are() -> None:
    """Plans, flags and reasons go by these names."""
    assert len({source.name for source in SOURCES}) == len(SOURCES)
    assert {source.name for source in SOURCES if source.is_essential} == {
        "instances",
        "launch-templates",
        "auto-scaling",
        "batch",
        "parameters",
    }
