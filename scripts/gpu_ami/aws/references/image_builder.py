"""EC2 Image Builder: the AMIs and snapshots that recipes start from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from gpu_ami.aws.calls import Caller, RefusedError
from gpu_ami.aws.images import images_with
from gpu_ami.aws.references.source import Found, Look, Reference, references_in

_WORKERS = 8
# Image Builder says on each AMI which of its images it is.
_TAG = "Ec2ImageBuilderArn"
_IMAGE = re.compile(r"arn:[^:]+:imagebuilder:[^:]*:(?P<owner>[^:]*):image/(?P<name>[^/]+)/(?P<version>.+)")
_AMAZON = "aws"


@dataclass(frozen=True)
class _Kind:
    """How a kind of recipe is listed and read."""

    name: str
    listing: str
    rows: str
    reading: str
    answer: str

    def read(self, caller: Caller, arn: str) -> Mapping[str, Any] | None:
        """Return a recipe; None when it was deleted meanwhile. A listing lacks its volumes."""
        try:
            recipe = caller.call("imagebuilder", self.reading, **{f"{self.answer}Arn": arn})[self.answer]
        except RefusedError as exc:
            if exc.code == "ResourceNotFoundException":
                return None
            raise
        return {"parentImage": str(recipe["parentImage"])} | dict(recipe)


_KINDS = (
    _Kind("image recipe", "list_image_recipes", "imageRecipeSummaryList", "get_image_recipe", "imageRecipe"),
    _Kind(
        "container recipe",
        "list_container_recipes",
        "containerRecipeSummaryList",
        "get_container_recipe",
        "containerRecipe",
    ),
)


class ImageBuilder:
    """Own image and container recipes, all versions. A recipe never changes: a second look reads only new ones."""

    name = "image-builder"
    service = "imagebuilder"
    is_essential = False
    is_use = True

    def look(self, caller: Caller, look: Look) -> Found:
        """Return the parent image, the instance image and the snapshots of each recipe."""
        listed = {
            str(row["arn"]): kind
            for kind in _KINDS
            for row in caller.pages(
                "imagebuilder", kind.listing, kind.rows, page_key="nextToken", owner="Self", maxResults=25
            )
        }
        known: dict[str, Mapping[str, Any]] = look.memory.setdefault("recipes", {})
        new = [arn for arn in listed if arn not in known]
        with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
            read = pool.map(lambda arn: listed[arn].read(caller, arn), new)
            known.update({arn: recipe for arn, recipe in zip(new, read, strict=True) if recipe is not None})
        recipes = {
            f"{kind.name} {arn.rpartition('recipe/')[2]}": known[arn] for arn, kind in listed.items() if arn in known
        }
        named = [each for who, recipe in recipes.items() for each in references_in(recipe, self.name, who)]
        return Found([*named, *_of_parents(caller, recipes)])


def _of_parents(caller: Caller, recipes: Mapping[str, Mapping[str, Any]]) -> Iterator[Reference]:
    """Yield the own AMIs that are the Image Builder images from which recipes start; one call if there are any."""
    parents = {who: _IMAGE.fullmatch(recipe["parentImage"]) for who, recipe in recipes.items()}
    own = {who: parent for who, parent in parents.items() if parent and parent["owner"] != _AMAZON}
    if not own:
        return
    for image in images_with(caller, {"tag-key": _TAG}):
        built = _IMAGE.fullmatch(image.tags.get(_TAG, ""))
        for who, parent in own.items():
            if built and parent["name"] == built["name"] and _covers(parent["version"], built["version"]):
                yield Reference(image.image_id, ImageBuilder.name, f"{who}: parentImage {parent[0]}")


def _covers(wanted: str, version: str) -> bool:
    """Return whether *wanted*, such as ``1.x.x``, stands for *version*, ``1.0.2/3``; any build does unless it is named.

    Of a pattern all versions count, not the newest alone: Image Builder decides late which that is.
    """
    asked, there = re.split("[./]", wanted), re.split("[./]", version)
    return all(part in ("x", own) for part, own in zip(asked, there, strict=False))
