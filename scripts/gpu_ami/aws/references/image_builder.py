"""EC2 Image Builder: the AMIs that recipes start from."""

from __future__ import annotations

from gpu_ami.aws.calls import Caller
from gpu_ami.aws.references.source import Found, Look, references_in

_LISTS = (
    ("list_image_recipes", "imageRecipeSummaryList", "image recipe"),
    ("list_container_recipes", "containerRecipeSummaryList", "container recipe"),
)


class ImageBuilder:
    """Own image and container recipes, all versions."""

    name = "image-builder"
    service = "imagebuilder"
    is_essential = False
    is_use = True

    def look(self, caller: Caller, look: Look) -> Found:
        """Return the parent image and the instance image of each recipe."""
        del look
        references = []
        for operation, key, kind in _LISTS:
            rows = caller.pages("imagebuilder", operation, key, page_key="nextToken", owner="Self", maxResults=25)
            for row in rows:
                references += references_in(row, self.name, f"{kind} {row['arn'].rpartition('recipe/')[2]}")
        return Found(references)
