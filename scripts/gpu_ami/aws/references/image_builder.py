"""EC2 Image Builder: the AMIs and snapshots that recipes start from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from gpu_ami.aws.caller import Caller, RefusedError
from gpu_ami.aws.images import Image
from gpu_ami.aws.references.aliases import resolve
from gpu_ami.aws.references.source import Found, Reference, SourceQuery, ids_in, members, references_in, strings_in

_WORKERS = 8
# Image Builder says on each AMI which of its images it is.
_TAG = "Ec2ImageBuilderArn"
_IMAGE = re.compile(r"arn:[^:]+:imagebuilder:[^:]*:(?P<owner>[^:]*):image/(?P<name>[^/]+)/(?P<version>.+)")
_AMAZON = "aws"
# How a recipe names an SSM parameter instead of an AMI, by name or, another account's, by ARN (Image Builder's API
# reference: ImageRecipe.parentImage, InstanceConfiguration.image).
_PARAMETER = "ssm:"


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
    """Own image and container recipes, all versions. A second query reads only those that were made meanwhile."""

    name = "image-builder"
    service = "imagebuilder"
    is_essential = False
    is_use = True
    reads = (
        *members(
            "imagebuilder:GetImageRecipe", "imageRecipe.parentImage", "imageRecipe.blockDeviceMappings[].ebs.snapshotId"
        ),
        *members(
            "imagebuilder:GetContainerRecipe",
            "containerRecipe.parentImage",
            "containerRecipe.instanceConfiguration.image",
            "containerRecipe.instanceConfiguration.blockDeviceMappings[].ebs.snapshotId",
        ),
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the parent image, the instance image and the snapshots of each recipe.

        A parent that is an image of Image Builder is a reference to that; `own_images_of` knows which AMIs it is. One
        that is a parameter is what the parameter says now: its value may change between two queries.
        """
        listed = {
            (str(row["arn"]), str(row.get("dateCreated"))): kind
            for kind in _KINDS
            for row in caller.pages(
                "imagebuilder", kind.listing, kind.rows, page_key="nextToken", owner="Self", maxResults=25
            )
        }
        known: dict[tuple[str, str], Mapping[str, Any]] = query.memory.setdefault("recipes", {})
        new = [key for key in listed if key not in known]
        with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
            read = pool.map(lambda key: listed[key].read(caller, key[0]), new)
            known.update({key: recipe for key, recipe in zip(new, read, strict=True) if recipe is not None})
        references: list[Reference] = []
        named = [(f"{kind.name} {key[0].rpartition('recipe/')[2]}", known.get(key, {})) for key, kind in listed.items()]
        for who, recipe in named:
            references += references_in(recipe, self.name, who)
            parent = _IMAGE.fullmatch(recipe.get("parentImage", ""))
            if parent and parent["owner"] != _AMAZON:
                references.append(Reference(parent[0], self.name, f"{who}: parentImage {parent[0]}"))
        parameters = _in_parameters(caller, named)
        return Found([*references, *parameters.references], parameters.notes)


def _in_parameters(caller: Caller, named: Iterable[tuple[str, Mapping[str, Any]]]) -> Found:
    """Return what the recipes' parameters name now."""
    asked = [
        (who, path, text.strip().removeprefix(_PARAMETER))
        for who, recipe in named
        for path, text in strings_in({key: recipe.get(key) for key in ("parentImage", "instanceConfiguration")})
        if text.strip().startswith(_PARAMETER)
    ]
    values = resolve(caller, {name for _, _, name in asked})
    return Found(
        [
            Reference(target, ImageBuilder.name, f"{who}: {path} ssm:{name}")
            for who, path, name in asked
            for target in sorted(ids_in(values.get(name, "")))
        ],
        [f"{who} names the SSM parameter {name}, which does not exist" for who, _, name in asked if name not in values],
    )


def own_images_of(references: Sequence[Reference], images: Iterable[Image]) -> list[Reference]:
    """Return *references*, those to images of Image Builder as references to the AMIs among *images* that they are.

    Which account was queried does not matter: an image may be shared, and only its owner sees the tag of its AMI.
    """
    parents = [(_IMAGE.fullmatch(found.target), found) for found in references if found.target.startswith("arn:")]
    if not parents:
        return list(references)
    found = [reference for reference in references if not reference.target.startswith("arn:")]
    for image in images:
        built = _IMAGE.fullmatch(image.tags.get(_TAG, ""))
        for parent, reference in parents:
            if built and parent and parent["name"] == built["name"] and _covers(parent["version"], built["version"]):
                found.append(replace(reference, target=image.image_id))
    return found


def _covers(pattern: str, version: str) -> bool:
    """Return whether *pattern*, such as ``1.x.x``, fits *version*, ``1.0.2/3``; any build does unless it is named.

    Of a pattern all versions count, not the newest alone: Image Builder decides late which that is.
    """
    parts, there = re.split("[./]", pattern), re.split("[./]", version)
    return all(part in ("x", own) for part, own in zip(parts, there, strict=False))
