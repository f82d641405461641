"""EC2 Image Builder's recipes, which moto has no backend for: they too start from AMIs."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult, BaseResponse
from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends

from gpu_ami_sandbox.aws.paging import page
from gpu_ami_sandbox.aws.refusals import refuse

Recipes = dict[str, dict[str, Any]]


_SUMMARY = frozenset({"arn", "containerType", "dateCreated", "name", "owner", "parentImage", "platform", "tags"})


def recipes(account_id: str, region: str, kind: str) -> Recipes:
    """Return the recipes of one *kind* (``image`` or ``container``) by ARN; a reset of moto empties them."""
    kept: dict[str, Recipes] = vars(ec2_backends[account_id][region]).setdefault("sandbox_recipes", {})
    return kept.setdefault(kind, {})


def add_recipe(account_id: str, region: str, kind: str, recipe: dict[str, Any]) -> str:
    """Add a recipe with ``name``, ``version`` and what else it has; return its ARN."""
    where = f"arn:aws:imagebuilder:{region}:{account_id}:{kind}-recipe"
    arn = f"{where}/{recipe['name'].lower().replace(' ', '-')}/{recipe['version']}"
    recipes(account_id, region, kind)[arn] = recipe | {
        "arn": arn,
        "owner": account_id,
        "platform": "Linux",
        "dateCreated": utcnow().strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    }
    return arn


class ImageBuilder(BaseResponse):
    """The service imagebuilder, as far as recipes go."""

    def __init__(self) -> None:
        super().__init__(service_name="imagebuilder")
        self.automated_parameter_parsing = True

    def create_image_recipe(self) -> ActionResult:
        """Add an image recipe."""
        names = ("name", "parentImage", "description", "components", "blockDeviceMappings", "tags")
        return ActionResult({"imageRecipeArn": self._create("image", names)})

    def create_container_recipe(self) -> ActionResult:
        """Add a container recipe."""
        names = ("name", "parentImage", "containerType", "instanceConfiguration", "components", "tags")
        return ActionResult({"containerRecipeArn": self._create("container", names)})

    def get_image_recipe(self) -> ActionResult:
        """Show an image recipe."""
        return ActionResult({"imageRecipe": self._get("image", self._get_param("imageRecipeArn"))})

    def get_container_recipe(self) -> ActionResult:
        """Show a container recipe."""
        return ActionResult({"containerRecipe": self._get("container", self._get_param("containerRecipeArn"))})

    def list_image_recipes(self) -> ActionResult:
        """List the account's image recipes, in pages."""
        return self._list("image", "imageRecipeSummaryList")

    def list_container_recipes(self) -> ActionResult:
        """List the account's container recipes, in pages."""
        return self._list("container", "containerRecipeSummaryList")

    def _create(self, kind: str, names: tuple[str, ...]) -> str:
        given = {name: value for name in names if (value := self._get_param(name)) is not None}
        given["version"] = self._get_param("semanticVersion")
        return add_recipe(self.current_account, self.region, kind, given)

    def _get(self, kind: str, arn: str) -> dict[str, Any]:
        found = recipes(self.current_account, self.region, kind).get(arn)
        if found is None:
            refuse("ResourceNotFoundException", f"The resource with ARN '{arn}' does not exist.")
        return found

    def _list(self, kind: str, key: str) -> ActionResult:
        # A listing has less than the recipe itself.
        rows = [
            {name: value for name, value in recipe.items() if name in _SUMMARY}
            | {"instanceImage": recipe.get("instanceConfiguration", {}).get("image")}
            for recipe in recipes(self.current_account, self.region, kind).values()
        ]
        shown, token = page(rows, self._get_param("nextToken"), int(self._get_param("maxResults") or 25))
        return ActionResult({key: shown, "nextToken": token})
