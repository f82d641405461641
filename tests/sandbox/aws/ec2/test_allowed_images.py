"""The local EC2's Allowed AMIs and the instance types of an AMI, as EC2's guide describes both."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import BASE, an_image, an_instance, refused, the_image

AMAZONS: dict[str, Any] = {"ImageProviders": ["amazon"]}


def allow(ec2: Any, state: str, *criteria: dict[str, Any]) -> None:
    """Set criteria and state."""
    assert ec2.replace_image_criteria_in_allowed_images_settings(ImageCriteria=list(criteria))["ReturnValue"]
    answer = ec2.enable_allowed_images_settings(AllowedImagesSettingsState=state)
    assert answer["AllowedImagesSettingsState"] == state


def test_the_setting_is_off_until_it_is_switched_on(ec2: Any) -> None:
    """The clean-up must be able to see that no AMI is hidden by it; the criteria stay when it is switched off."""
    assert ec2.get_allowed_images_settings()["State"] == "disabled"
    assert "ImageAllowed" not in the_image(ec2, BASE)
    allow(ec2, "enabled", AMAZONS)

    answer = ec2.get_allowed_images_settings()
    assert (answer["State"], answer["ManagedBy"]) == ("enabled", "account")
    assert [criterion["ImageProviders"] for criterion in answer["ImageCriteria"]] == [["amazon"]]
    assert ec2.disable_allowed_images_settings()["AllowedImagesSettingsState"] == "disabled"
    assert ec2.get_allowed_images_settings()["ImageCriteria"] == answer["ImageCriteria"]


@pytest.mark.parametrize(
    ("criteria", "is_allowed"),
    [
        ([AMAZONS], True),
        ([{"ImageProviders": ["591542846629"]}], True),
        ([{"ImageProviders": ["none"]}], False),
        ([{"ImageNames": ["golden-*"]}, AMAZONS], True),
        ([{"ImageNames": ["golden-*"], **AMAZONS}], False),
        ([{"ImageNames": ["al2023-*"]}], True),
        ([{"CreationDateCondition": {"MaximumDaysSinceCreated": 1}}], False),
        ([{"CreationDateCondition": {"MaximumDaysSinceCreated": 100000}}], True),
        ([{"DeprecationTimeCondition": {"MaximumDaysSinceDeprecated": 0}}], True),
        ([{"MarketplaceProductCodes": ["abc"]}], False),
        ([], False),
    ],
)
def test_what_is_refused_is_hidden_and_not_started(
    ec2: Any, criteria: list[dict[str, Any]], *, is_allowed: bool
) -> None:
    """In audit mode it is only marked. One's own AMIs are never hit."""
    own = an_image(ec2)
    allow(ec2, "audit-mode", *criteria)
    assert the_image(ec2, BASE)["ImageAllowed"] is is_allowed
    assert the_image(ec2, own)["ImageAllowed"] is True
    allow(ec2, "enabled", *criteria)

    listed = {image["ImageId"] for image in ec2.describe_images()["Images"]}

    assert (BASE in listed) is is_allowed
    assert own in listed
    if is_allowed:
        assert an_instance(ec2)
    else:
        for ask in (lambda: ec2.describe_images(ImageIds=[BASE]), lambda: an_instance(ec2)):
            with refused("InvalidAMIID.NotFound"):
                ask()


@pytest.mark.parametrize(
    ("given", "refuses"),
    [
        ({"SupportedInstanceTypes": ["g5.*"]}, True),
        ({"SupportedInstanceTypes": ["c7i.*"], "UnsupportedInstanceTypes": ["c7i.4xlarge"]}, True),
        ({"UnsupportedInstanceTypes": ["c7i.4xlarge"]}, True),
        ({"SupportedInstanceTypes": ["c7i.*", "g5.*"]}, False),
        ({"UnsupportedInstanceTypes": ["t3.*"]}, False),
    ],
)
def test_an_ami_runs_on_what_its_owner_lets_it(ec2: Any, given: dict[str, list[str]], *, refuses: bool) -> None:
    """EC2 enforces it at the launch; the owner may take it back."""
    own = an_image(ec2)
    launch = {"ImageId": own, "InstanceType": "c7i.4xlarge", "MinCount": 1, "MaxCount": 1}
    assert "InstanceTypeSpecification" not in the_image(ec2, own)
    ec2.replace_image_instance_type_specification(ImageId=own, InstanceTypeSpecification=given)

    shown = the_image(ec2, own)["InstanceTypeSpecification"]
    assert {name: [entry["InstanceType"] for entry in listed] for name, listed in shown.items()} == given
    if refuses:
        with refused("InvalidParameterCombination"):
            ec2.run_instances(**launch)
        ec2.replace_image_instance_type_specification(ImageId=own)
    assert ec2.run_instances(**launch)["Instances"]


def test_the_rules_of_others_amis_are_theirs(ec2: Any) -> None:
    """Only an owner says what an AMI runs on."""
    with refused("AuthFailure"):
        ec2.replace_image_instance_type_specification(
            ImageId=BASE, InstanceTypeSpecification={"UnsupportedInstanceTypes": ["t3.*"]}
        )
