"""Which AMIs a compute environment of AWS Batch names, by image type: one reader for plan, state and Batch.

An environment names AMIs in ``ec2Configuration`` (one or two image types, each with an override of its own), in the
old ``imageId``, in its launch template and in that template's overrides for some instance types. The Batch user guide
("Launch templates", AMI selection order) puts the template's override first, then ``imageId``, then
``imageIdOverride``, then the template; the API's model says of ``imageId`` that ``imageIdOverride`` goes before it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Kind = Literal["EC2", "FARGATE", "EKS", "UNMANAGED"]
# Why an environment is left alone, for people.
LEFT_ALONE: dict[Kind, str] = {
    "FARGATE": "Fargate takes no AMI",
    "EKS": "EKS: its nodes are another matter",
    "UNMANAGED": "unmanaged: Batch starts no instances",
}
_GPU_TYPE = "_NVIDIA"


@dataclass(frozen=True, kw_only=True)
class Images:
    """The AMIs that one environment names.

    Attributes:
        overrides: Image type to AMI, in the environment's order; None for Batch's own. "" where no type is given.
        image_id: The old field, for instances of every type; None where it is not set.
        template_overrides: The AMIs of its launch template's overrides, which are for some instance types.
        template: The AMI of its launch template.
    """

    overrides: Mapping[str, str | None] = field(default_factory=dict)
    image_id: str | None = None
    template_overrides: tuple[str, ...] = ()
    template: str | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """The image types; "" alone where the environment leaves them to Batch."""
        return tuple(self.overrides) or ("",)

    def of(self, image_type: str) -> str | None:
        """Return the AMI of an image type in the order of the user guide; None for Batch's own.

        What is for some instance types only, a template's override, is in `conflict`.
        """
        return self.image_id or self._override(image_type) or self.template

    def _override(self, image_type: str) -> str | None:
        if image_type not in self.overrides and len(self.overrides) == 1 and "" in (image_type, *self.overrides):
            return next(iter(self.overrides.values()))
        return self.overrides.get(image_type)

    @property
    def own(self) -> frozenset[str]:
        """Every AMI that the environment names itself."""
        return frozenset(ami for ami in (self.image_id, *self.overrides.values()) if ami)

    @property
    def named(self) -> frozenset[str]:
        """Every AMI that may be launched; what a launch template names counts only where nothing goes before it."""
        below = {self.template} if self.template and self.has_open_type else set()
        return self.own | below | {*self.template_overrides}

    @property
    def has_open_type(self) -> bool:
        """Whether instances of some image type are launched from another AMI than the environment itself names."""
        return self.image_id is None and not all(self.overrides.get(image_type) for image_type in self.types)

    @property
    def conflict(self) -> tuple[tuple[str, str], ...]:
        """Pairs of where and AMI, when several places name different AMIs for one instance; empty when none does.

        Which of them counts cannot be said: AWS's own documents disagree, or it depends on the instance type.
        """
        over_all = [("a launch template override", ami) for ami in self.template_overrides]
        over_all += [("image_id", self.image_id)] if self.image_id else []
        types = self.overrides.items()
        others = [("image_id_override" + (f" of {name}" if name else ""), ami) for name, ami in types if ami]
        others += [("the launch template", self.template)] if self.template and self.has_open_type else []
        found = tuple(dict.fromkeys(over_all + others))
        return found if over_all and len({ami for _, ami in found}) > 1 else ()

    @property
    def without_overrides(self) -> Images:
        """This without what its launch template gives some instance types; Terraform's record never has that."""
        return replace(self, template_overrides=())

    def main(self, prefer: Collection[str] = ()) -> str | None:
        """Return the AMI to show for the environment: one of *prefer*, else that of a GPU type, else the first."""
        found = [(name, ami) for name in self.types if (ami := self.of(name))]
        found += [("", ami) for ami in self.template_overrides]
        ranked = sorted(found, key=lambda one: (one[1] not in prefer, not one[0].endswith(_GPU_TYPE)))
        return ranked[0][1] if ranked else None

    def differences(self, other: Images) -> Iterator[tuple[str, str, str | None]]:
        """Yield image type, AMI here and AMI there for each AMI that this names and *other* does not name there.

        Of an image type for which this names none nothing is said: Batch's own AMI need not show.
        """
        if self.image_id and self.image_id != other.image_id and self.image_id not in other.overrides.values():
            yield "", self.image_id, other.main()
        for image_type, ami in self.overrides.items():
            there = other._override(image_type) or (None if self.image_id else other.image_id)
            if ami and there != ami:
                yield image_type, ami, there

    def with_templates(self, template: str | None, overrides: Iterable[str]) -> Images:
        """Return this with the AMIs of its launch template and of that template's overrides."""
        return replace(self, template=template, template_overrides=tuple(dict.fromkeys(overrides)))


def in_terraform(resources: Mapping[str, Any]) -> Images:
    """Return what ``compute_resources`` of a plan or a state names.

    Raises:
        TypeError, AttributeError: It is of another form.
    """
    rows = resources.get("ec2_configuration") or []
    return _images(resources.get("image_id"), ((row.get("image_type"), row.get("image_id_override")) for row in rows))


def in_batch(resources: Mapping[str, Any]) -> Images:
    """Return what ``computeResources`` of Batch's description names; templates are looked up elsewhere.

    Raises:
        TypeError, AttributeError: It is of another form.
    """
    rows = resources.get("ec2Configuration") or []
    return _images(resources.get("imageId"), ((row.get("imageType"), row.get("imageIdOverride")) for row in rows))


def _images(image_id: Any, rows: Iterable[tuple[Any, Any]]) -> Images:
    overrides = {str(image_type or ""): str(ami) if ami else None for image_type, ami in rows}
    return Images(overrides=overrides, image_id=str(image_id) if image_id else None)


def kind_of(management: Any, on: Any, *, has_eks: bool) -> Kind:
    """Return what an environment runs on.

    Args:
        management: ``MANAGED`` or ``UNMANAGED``.
        on: The type of its resources: ``EC2``, ``SPOT``, ``FARGATE`` or ``FARGATE_SPOT``.
        has_eks: Whether it has an EKS cluster.
    """
    if str(management).upper() == "UNMANAGED":
        return "UNMANAGED"
    if has_eks:
        return "EKS"
    return "FARGATE" if str(on).upper().startswith("FARGATE") else "EC2"
