"""Image Builder's recipes, which keep AMIs alive that nothing else names."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.aws.access import Access
from tests.support.resources import BASE, refused

COMPONENT = [{"componentArn": "arn:aws:imagebuilder:ap-northeast-2:aws:component/update-linux/x.x.x"}]


@pytest.fixture
def builder(access: Access) -> Any:
    """A client of Image Builder."""
    return access.client("imagebuilder")


def test_image_recipes_read_back(builder: Any, aws: Any) -> None:
    """In the listing and one by one."""
    arn = builder.create_image_recipe(
        name="Video Tools", semanticVersion="1.2.3", parentImage=BASE, components=COMPONENT, description="d"
    )["imageRecipeArn"]

    (listed,) = builder.list_image_recipes(owner="Self")["imageRecipeSummaryList"]
    recipe = builder.get_image_recipe(imageRecipeArn=arn)["imageRecipe"]

    assert arn.endswith(f":{aws.account_id}:image-recipe/video-tools/1.2.3")
    assert (listed["arn"], listed["parentImage"], listed["owner"]) == (arn, BASE, aws.account_id)
    assert (recipe["name"], recipe["version"], recipe["description"]) == ("Video Tools", "1.2.3", "d")
    assert recipe["components"] == COMPONENT


def test_container_recipes_name_the_image_they_are_built_on(builder: Any) -> None:
    """The build host's AMI is needed too."""
    arn = builder.create_container_recipe(
        containerType="DOCKER",
        name="tools",
        semanticVersion="1.0.0",
        components=COMPONENT,
        parentImage="amazonlinux:2023",
        instanceConfiguration={"image": BASE},
        targetRepository={"service": "ECR", "repositoryName": "tools"},
    )["containerRecipeArn"]

    (listed,) = builder.list_container_recipes(owner="Self")["containerRecipeSummaryList"]
    recipe = builder.get_container_recipe(containerRecipeArn=arn)["containerRecipe"]

    assert (listed["arn"], listed["instanceImage"]) == (arn, BASE)
    assert recipe["instanceConfiguration"] == {"image": BASE}


def test_an_unknown_recipe_is_refused(builder: Any) -> None:
    """Not an empty answer."""
    arn = "arn:aws:imagebuilder:ap-northeast-2:123456789012:image-recipe/none/1.0.0"

    with refused("ResourceNotFoundException"):
        builder.get_image_recipe(imageRecipeArn=arn)


def test_recipes_come_in_pages(builder: Any) -> None:
    """All of them, once each."""
    for number in range(3):
        builder.create_image_recipe(
            name="tools", semanticVersion=f"1.0.{number}", parentImage=BASE, components=COMPONENT
        )
    first = builder.list_image_recipes(owner="Self", maxResults=2)

    second = builder.list_image_recipes(owner="Self", maxResults=2, nextToken=first["nextToken"])

    assert [len(p["imageRecipeSummaryList"]) for p in (first, second)] == [2, 1]
    assert "nextToken" not in second
