"""Launch templates in full, and what EC2 says of who names an AMI."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.aws.access import Access
from tests.support.resources import BASE, an_image, an_instance, refused

OTHER = "ami-0123456789abcdef0"


def a_template(ec2: Any, name: str, *image_ids: str, **more: Any) -> str:
    """Make a template with one version per AMI and return its id."""
    first, *others = image_ids
    made = ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={"ImageId": first}, **more)
    for image_id in others:
        ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData={"ImageId": image_id})
    return str(made["LaunchTemplate"]["LaunchTemplateId"])


def test_more_templates_than_moto_shows(ec2: Any) -> None:
    """Moto ends at 15 without a token: an AMI named by the 16th would be deleted."""
    made = {a_template(ec2, f"template-{number}", BASE) for number in range(25)}

    pages = list(ec2.get_paginator("describe_launch_templates").paginate(MaxResults=10))

    assert [len(p["LaunchTemplates"]) for p in pages] == [10, 10, 5]
    assert {t["LaunchTemplateId"] for p in pages for t in p["LaunchTemplates"]} == made


def test_more_versions_than_moto_shows(ec2: Any) -> None:
    """The same for versions."""
    template = a_template(ec2, "template", *[BASE] * 25)

    pages = ec2.get_paginator("describe_launch_template_versions").paginate(LaunchTemplateId=template, MaxResults=10)

    numbers = [v["VersionNumber"] for p in pages for v in p["LaunchTemplateVersions"]]
    assert numbers == list(range(1, 26))


def test_latest_and_default_of_all_templates_in_one_call(ec2: Any) -> None:
    """A template whose latest is its default shows once."""
    a_template(ec2, "one", BASE)
    a_template(ec2, "two", BASE, OTHER)

    versions = ec2.describe_launch_template_versions(Versions=["$Latest", "$Default"])["LaunchTemplateVersions"]

    assert sorted((v["LaunchTemplateName"], v["VersionNumber"]) for v in versions) == [
        ("one", 1),
        ("two", 1),
        ("two", 2),
    ]


def test_versions_are_found_by_their_image(ec2: Any) -> None:
    """Moto ignores the filter and returns all."""
    template = a_template(ec2, "template", BASE, OTHER, BASE)

    def numbers(name: str, value: str) -> list[int]:
        found = ec2.describe_launch_template_versions(
            LaunchTemplateId=template, Filters=[{"Name": name, "Values": [value]}]
        )
        return [v["VersionNumber"] for v in found["LaunchTemplateVersions"]]

    assert numbers("image-id", OTHER) == [2]
    assert numbers("is-default-version", "true") == [1]
    assert numbers("instance-type", "c5.*") == []
    assert numbers("create-time", "20*") == [1, 2, 3]
    with refused("InvalidParameterValue"):
        numbers("colour", "red")


def test_templates_are_found_by_name_and_tag(ec2: Any) -> None:
    """As Terraform and the sweep query them."""
    tags = [{"ResourceType": "launch-template", "Tags": [{"Key": "of", "Value": "packer"}]}]
    template = a_template(ec2, "packer-fleet-1", BASE, TagSpecifications=tags)
    a_template(ec2, "other", BASE)

    for name, value in (("launch-template-name", "packer-fleet-*"), ("tag:of", "packer"), ("tag-key", "of")):
        found = ec2.describe_launch_templates(Filters=[{"Name": name, "Values": [value]}])["LaunchTemplates"]
        assert [t["LaunchTemplateId"] for t in found] == [template]
    found = ec2.describe_launch_templates(Filters=[{"Name": "create-time", "Values": ["20*"]}])["LaunchTemplates"]
    assert len(found) == 2


def test_an_unknown_template_is_refused(ec2: Any) -> None:
    """Moto answers with an empty list."""
    with refused("InvalidLaunchTemplateId.NotFound"):
        ec2.describe_launch_templates(LaunchTemplateIds=["lt-00000000000000000"])


def test_aliases_are_resolved_on_request(ec2: Any, access: Access) -> None:
    """`resolve:ssm:` hides an AMI from anybody who doesn't resolve it, versions and labels included."""
    ssm = access.client("ssm")
    ssm.put_parameter(Name="/gpu/ami-id", Value=OTHER, Type="String")
    ssm.put_parameter(Name="/gpu/ami-id", Value=BASE, Type="String", Overwrite=True)
    template = a_template(ec2, "template", "resolve:ssm:/gpu/ami-id", "resolve:ssm:/gpu/ami-id:1", OTHER)

    def images(**arguments: Any) -> list[str]:
        answer = ec2.describe_launch_template_versions(LaunchTemplateId=template, **arguments)
        return [v["LaunchTemplateData"]["ImageId"] for v in answer["LaunchTemplateVersions"]]

    assert images() == ["resolve:ssm:/gpu/ami-id", "resolve:ssm:/gpu/ami-id:1", OTHER]
    assert images(ResolveAlias=True) == [BASE, OTHER, OTHER]


def test_an_alias_of_nothing_is_refused(ec2: Any) -> None:
    """Not passed over in silence."""
    template = a_template(ec2, "template", "resolve:ssm:/gpu/none")

    with refused("InvalidParameterValue"):
        ec2.describe_launch_template_versions(LaunchTemplateId=template, ResolveAlias=True)


def test_a_template_without_an_image_needs_no_resolving(ec2: Any) -> None:
    """Batch's own template names none."""
    ec2.create_launch_template(LaunchTemplateName="template", LaunchTemplateData={"InstanceType": "c5.large"})

    (version,) = ec2.describe_launch_template_versions(LaunchTemplateName="template", ResolveAlias=True)[
        "LaunchTemplateVersions"
    ]

    assert "ImageId" not in version["LaunchTemplateData"]


def test_volume_initialization_rate_survives(ec2: Any) -> None:
    """The setting that makes the AMI fast must be readable, or Terraform shows a change for ever."""
    ebs = {"VolumeSize": 80, "VolumeType": "gp3", "Throughput": 500, "VolumeInitializationRate": 300}
    data = {"ImageId": BASE, "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": ebs}]}
    ec2.create_launch_template(LaunchTemplateName="template", LaunchTemplateData=data)

    (version,) = ec2.describe_launch_template_versions(LaunchTemplateName="template")["LaunchTemplateVersions"]

    assert version["LaunchTemplateData"]["BlockDeviceMappings"][0]["Ebs"] == ebs


def test_references_of_every_kind_that_ec2_looks_at(ec2: Any, access: Access, aws: Any) -> None:
    """Instances (terminated ones too), launch templates, parameters and recipes."""
    image = an_image(ec2)
    instance = an_instance(ec2, image)
    ec2.terminate_instances(InstanceIds=[instance])
    template = a_template(ec2, "template", BASE, image, BASE)
    ssm = access.client("ssm")
    for name in ("/gpu/ami-id", "plain"):
        ssm.put_parameter(Name=name, Value=image, Type="String")
    recipe = access.client("imagebuilder").create_image_recipe(
        name="recipe", semanticVersion="1.0.0", parentImage=image, components=[{"componentArn": "arn:aws:x"}]
    )["imageRecipeArn"]

    rows = ec2.describe_image_references(ImageIds=[image], IncludeAllResourceTypes=True)["ImageReferences"]

    own = f"{aws.account_id}:"
    assert {(r["ImageId"], r["ResourceType"], r["Arn"].partition(own)[2]) for r in rows if own in r["Arn"]} == {
        (image, "ec2:Instance", f"instance/{instance}"),
        (image, "ec2:LaunchTemplate", f"launch-template/{template}"),
        (image, "ssm:Parameter", "parameter/gpu/ami-id"),
        (image, "ssm:Parameter", "parameter/plain"),
        (image, "imagebuilder:ImageRecipe", recipe.partition(own)[2]),
    }


@pytest.mark.parametrize(("depth", "found"), [(None, 0), ("11", 1)], ids=["10 by default", "11"])
def test_references_look_only_at_the_newest_versions(ec2: Any, depth: str | None, found: int) -> None:
    """EC2's default of ten versions is why this action alone is not enough."""
    image = an_image(ec2)
    a_template(ec2, "template", image, *[BASE] * 10)
    options = [{"OptionName": "version-depth", "OptionValues": [depth]}] if depth else []
    kinds = [{"ResourceType": "ec2:LaunchTemplate", "ResourceTypeOptions": options}]

    rows = ec2.describe_image_references(ImageIds=[image], ResourceTypes=kinds)["ImageReferences"]

    assert len(rows) == found


def test_references_take_ten_images_at_a_time(ec2: Any) -> None:
    """As EC2 does."""
    with refused("InvalidParameterValue"):
        ec2.describe_image_references(ImageIds=[f"ami-{number:017x}" for number in range(11)])


def test_a_templates_own_tags_are_not_part_of_its_data(ec2: Any) -> None:
    """Moto mixes them in: Terraform would want to take them out again at each plan."""
    own = {"ResourceType": "launch-template", "Tags": [{"Key": "own", "Value": "1"}]}
    launched = {"ResourceType": "instance", "Tags": [{"Key": "launched", "Value": "1"}]}
    data = {"ImageId": BASE, "TagSpecifications": [launched]}
    ec2.create_launch_template(LaunchTemplateName="both", LaunchTemplateData=data, TagSpecifications=[own])
    ec2.create_launch_template(LaunchTemplateName="own", LaunchTemplateData={"ImageId": BASE}, TagSpecifications=[own])

    templates = {row["LaunchTemplateName"]: row for row in ec2.describe_launch_templates()["LaunchTemplates"]}
    versions = ec2.describe_launch_template_versions(Versions=["$Latest"])["LaunchTemplateVersions"]

    assert templates["both"]["Tags"] == templates["own"]["Tags"] == own["Tags"]
    assert {row["LaunchTemplateName"]: row["LaunchTemplateData"].get("TagSpecifications") for row in versions} == {
        "both": [launched],
        "own": None,
    }
