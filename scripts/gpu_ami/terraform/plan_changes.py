"""What a plan does to one resource, and to the AMIs of one compute environment: parsed from a row of its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gpu_ami.records.batch_images import Images, Kind, in_terraform, kind_of
from gpu_ami.terraform import plan_references
from gpu_ami.terraform.plan_references import Configuration
from gpu_ami.terraform.plan_templates import Start

Action = Literal["create", "update", "replace", "delete", "forget", "read", "no-op"]
Word = Literal["create", "update", "replace", "delete", "forget", "move", "import", "delete-deposed"]
ENVIRONMENT = "aws_batch_compute_environment"
QUEUE = "aws_batch_job_queue"
# What Batch does on an update without a policy of its own.
DEFAULT_TIMEOUT_MINUTES = 30
# Batch changes these in place without touching instances; everything else replaces them.
_SCALING = frozenset({"min_vcpus", "max_vcpus", "desired_vcpus"})
_GPU_TYPE = "_NVIDIA"
ACTIONS: dict[tuple[str, ...], Action] = {
    ("no-op",): "no-op",
    ("create",): "create",
    ("read",): "read",
    ("update",): "update",
    ("delete", "create"): "replace",
    ("create", "delete"): "replace",
    ("delete",): "delete",
    ("forget",): "forget",
    ("create", "forget"): "replace",
}


@dataclass(frozen=True, kw_only=True)
class ResourceChange:
    """What the plan does to one resource.

    Attributes:
        address: Terraform's address.
        type: Such as ``aws_batch_job_queue``.
        action: What happens.
        because: The attributes that force a replacement.
        name: Its name on AWS; None when it has none, or Terraform will know it only after the apply.
        previous_address: The address that it had before; None when it keeps its own.
        imported: The id of what is imported; None when nothing is.
        deposed: The key of an object that an earlier replacement left behind at this address, and that this is about;
            None when it is about the live one.
    """

    address: str
    type: str
    action: Action
    because: tuple[str, ...] = ()
    name: str | None = None
    previous_address: str | None = None
    imported: str | None = None
    deposed: str | None = None

    @property
    def word(self) -> Word | None:
        """What happens, in a word; None when nothing does."""
        if self.deposed is not None and self.action == "delete":
            return "delete-deposed"
        if self.action == "no-op":
            return "move" if self.previous_address else "import" if self.imported else None
        return None if self.action == "read" else self.action

    @property
    def remark(self) -> str:
        """What a person must know beside the word; empty when there is nothing."""
        parts = [", ".join(self.because)] if self.because else []
        if self.previous_address:
            parts.append(f"from {self.previous_address}")
        if self.imported:
            parts.append(f"id {self.imported}")
        if self.deposed is not None:
            parts.append(f"{self.shown_name}, which an earlier replacement left behind")
        return "; ".join(parts)

    @property
    def shown_name(self) -> str:
        """Its name on AWS, or the key of a deposed object that has none: what `--allow-deposed` takes."""
        return self.name or self.deposed or self.address


@dataclass(frozen=True, kw_only=True)
class Slot:
    """What the plan does to the AMI of one image type of an environment.

    Attributes:
        image_type: The image type; "" where Batch chooses it.
        old: The AMI now; None for Batch's own.
        new: The AMI then; None for Batch's own, or when it is not known before the apply.
        is_known: Whether the plan says the AMI.
        takes: Whether the configuration gives it the variable that is handed over, as far as that can be followed.
        is_ours: Whether it is the pipeline's to look after.
    """

    image_type: str
    old: str | None
    new: str | None
    is_known: bool = True
    takes: bool = False
    is_ours: bool = True

    @property
    def moves(self) -> bool:
        """Whether the AMI changes, or may."""
        return not self.is_known or self.old != self.new


@dataclass(frozen=True, kw_only=True)
class EnvironmentChange(ResourceChange):
    """What the plan does to one compute environment.

    Attributes:
        kind: What it runs on.
        arn: Its ARN; None before it exists.
        cluster_arn: The ECS cluster of its instances; None before it exists.
        slots: What happens to its AMIs, by image type.
        conflict: Where and AMI, when it would name several for one instance; empty when it would not.
        old_conflict: The same of what it names now.
        blocks: How many ``ec2_configuration`` blocks it has and would have; None when that is not known.
        strategy: Its allocation strategy then.
        timeout_minutes: How long running jobs may go on when its instances are replaced.
        terminates_jobs: Whether running jobs are ended at once instead.
        replaces_instances: Whether the change makes Batch replace the instances.
        start: How its instances would be started, as far as the plan says it.
    """

    kind: Kind = "EC2"
    arn: str | None = None
    cluster_arn: str | None = None
    slots: tuple[Slot, ...] = ()
    conflict: tuple[tuple[str, str], ...] = ()
    old_conflict: tuple[tuple[str, str], ...] = ()
    blocks: tuple[int, int] | None = None
    strategy: str | None = None
    timeout_minutes: int = DEFAULT_TIMEOUT_MINUTES
    terminates_jobs: bool = False
    replaces_instances: bool = False
    start: Start = field(default_factory=Start)

    @property
    def is_ours(self) -> bool:
        """Whether it takes the variable that is handed over, or had one of our AMIs."""
        return self.kind == "EC2" and any(slot.is_ours for slot in self.slots)

    @property
    def ours(self) -> tuple[Slot, ...]:
        """The AMIs that are the pipeline's to look after; in an environment of somebody else's all of them."""
        return tuple(slot for slot in self.slots if slot.is_ours) or self.slots

    @property
    def _main(self) -> Slot:
        ranked = sorted(self.ours, key=lambda slot: (not slot.moves, not slot.image_type.endswith(_GPU_TYPE)))
        return ranked[0] if ranked else Slot(image_type="", old=None, new=None)

    @property
    def old_ami(self) -> str | None:
        """The AMI its instances are launched from now; None for Batch's own."""
        return self._main.old

    @property
    def new_ami(self) -> str | None:
        """The AMI then; None for Batch's own, or when it is not known before the apply."""
        return self._main.new

    @property
    def is_ami_known(self) -> bool:
        """Whether the plan says the AMI."""
        return self._main.is_known

    @property
    def moves_conflict(self) -> bool:
        """Whether what it names for one instance, in several places, changes: its `slots` show one of the places."""
        return self.action != "no-op" and {*self.conflict} != {*self.old_conflict}

    @property
    def moves_ami(self) -> bool:
        """Whether the AMI changes, or may."""
        return self.action != "no-op" and self._main.moves

    def document(self) -> dict[str, Any]:
        """Return the change as the tasks print it in JSON."""
        return {
            "address": self.address,
            "name": self.name,
            "action": self.action,
            "old_ami": self.old_ami,
            "new_ami": self.new_ami,
            "ours": self.is_ours,
            "previous_address": self.previous_address,
            "images": [
                {"image_type": slot.image_type or None, "old_ami": slot.old, "new_ami": slot.new} for slot in self.slots
            ],
        }


def parse(row: Mapping[str, Any], configuration: Configuration | None, variable: str | None) -> ResourceChange:
    """Return what a row of ``resource_changes`` does.

    Args:
        row: The row.
        configuration: What the plan was made from; None when it does not say.
        variable: The root variable that is handed over; None when nobody asks.

    Raises:
        TypeError, LookupError, AttributeError, ValueError: It is of another form.
    """
    change = row["change"]
    before, after, unknown = (change.get(key) or {} for key in ("before", "after", "after_unknown"))
    common: dict[str, Any] = {
        "address": str(row["address"]),
        "type": str(row["type"]),
        "action": ACTIONS[tuple(change["actions"])],
        "because": tuple(".".join(map(str, path)) for path in change.get("replace_paths") or []),
        "previous_address": row.get("previous_address") or None,
        "imported": _imported(change.get("importing")),
        "deposed": row.get("deposed") or None,
    }
    if row["type"] not in (ENVIRONMENT, QUEUE):
        return ResourceChange(**common, name=before.get("name") if row.get("deposed") else None)
    then = after or before
    name = then.get("compute_environment_name") or then.get("name") or before.get("compute_environment_name")
    common |= {"name": name or before.get("name")}
    if row["type"] == QUEUE:
        return ResourceChange(**common)
    policy: Mapping[str, Any] = next(iter(then.get("update_policy") or []), {})
    kind = kind_of(then.get("type"), _resources(then).get("type"), has_eks=bool(then.get("eks_configuration")))
    action = common["action"]
    updates = action == "update" and kind != "FARGATE" and _replaces_instances(before, after, unknown)
    takes = _takes(row, configuration, variable)
    old, new = (in_terraform(_resources(values)) for values in (before, after))
    return EnvironmentChange(
        **common,
        kind=kind,
        arn=before.get("arn") or None,
        cluster_arn=before.get("ecs_cluster_arn"),
        slots=_slots(old, new, _resources_unknown(unknown), takes),
        conflict=new.conflict,
        old_conflict=old.conflict,
        blocks=_blocks(before, after, unknown),
        strategy=_resources(then).get("allocation_strategy"),
        timeout_minutes=int(policy.get("job_execution_timeout_minutes") or DEFAULT_TIMEOUT_MINUTES),
        terminates_jobs=bool(policy.get("terminate_jobs_on_update")),
        replaces_instances=action in ("replace", "delete") or updates,
    )


def _imported(importing: Any) -> str | None:
    if not isinstance(importing, Mapping):
        return None
    return str(importing.get("id") or importing.get("identity") or "known after the apply")


def _resources(values: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(iter(values.get("compute_resources") or []), {})
    return found


def _resources_unknown(unknown: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is unknown of the compute resources; all of what names AMIs where all of them are."""
    if unknown.get("compute_resources") is True:
        return {"ec2_configuration": True, "image_id": True}
    return _resources(unknown)


@dataclass(frozen=True)
class _Takes:
    """Which places take the variable: each ``ec2_configuration`` by type or place, and ``image_id``."""

    by_type: frozenset[str] = frozenset()
    by_place: frozenset[int] = frozenset()
    image_id: bool = False

    def at(self, image_type: str, place: int | None) -> bool:
        return self.image_id or image_type in self.by_type or place in self.by_place


def _takes(row: Mapping[str, Any], configuration: Configuration | None, variable: str | None) -> _Takes:
    if configuration is None or variable is None:
        return _Takes()
    module = str(row.get("module_address") or "")
    arguments = configuration.expressions(module, str(row["type"]), str(row.get("name")))
    return _taken(module, arguments, configuration, variable)


def is_taken(configuration: Configuration | None, variable: str | None) -> bool:
    """Whether the configuration gives *variable* to an environment, also to one of which it now makes none."""
    if configuration is None or variable is None:
        return False
    found = configuration.all_of(ENVIRONMENT)
    return any(_taken(module, arguments, configuration, variable) != _Takes() for module, arguments in found)


def _taken(module: str, arguments: Mapping[str, Any], configuration: Configuration, variable: str) -> _Takes:
    by_type: set[str] = set()
    by_place: set[int] = set()
    in_image_id = False
    for resources in plan_references.blocks(arguments, "compute_resources"):
        in_image_id = in_image_id or configuration.takes(module, resources.get("image_id"), variable)
        for place, block in enumerate(plan_references.blocks(resources, "ec2_configuration")):
            if configuration.takes(module, block.get("image_id_override"), variable):
                image_type = (block.get("image_type") or {}).get("constant_value")
                if image_type:
                    by_type.add(str(image_type))
                else:
                    by_place.add(place)
    return _Takes(frozenset(by_type), frozenset(by_place), in_image_id)


def _slots(before: Images, after: Images, unknown: Mapping[str, Any], takes: _Takes) -> tuple[Slot, ...]:
    later = unknown.get("ec2_configuration")
    is_all_unknown = later is True or unknown.get("image_id") is True
    order = list(after.overrides or before.overrides)
    unknown_types = _unknown_types(order, later)
    found = []
    for image_type, old_type in _types(before, after):
        lost = is_all_unknown or image_type in unknown_types
        found.append(
            Slot(
                image_type=image_type,
                old=before.of(old_type),
                new=None if lost else after.of(image_type),
                is_known=not lost,
                takes=takes.at(image_type, order.index(image_type) if image_type in order else None),
            )
        )
    return tuple(found)


def _types(before: Images, after: Images) -> list[tuple[str, str]]:
    """Return each image type with the one whose place it takes; those that only go come last."""
    if not after.overrides:
        # Nothing is said of types: unknown, gone, or left to Batch.
        return [(name, name) for name in before.types]
    gone = [name for name in before.types if name not in after.overrides]
    pairs = [(name, name if name in before.types or not gone else gone.pop(0)) for name in after.overrides]
    return pairs + [(name, name) for name in gone if before.of(name)]


def _unknown_types(order: Sequence[str], later: Any) -> frozenset[str]:
    """Return the image types whose override is known only after the apply; "" where their type is not known either."""
    if not isinstance(later, list):
        return frozenset()
    places = [
        place
        for place, block in enumerate(later)
        if isinstance(block, Mapping) and (block.get("image_id_override") is True or block.get("image_type") is True)
    ]
    return frozenset(order[place] if place < len(order) else "" for place in places)


def _blocks(before: Mapping[str, Any], after: Mapping[str, Any], unknown: Mapping[str, Any]) -> tuple[int, int] | None:
    if not before or not after or _resources_unknown(unknown).get("ec2_configuration") is True:
        return None
    old, new = (len(_resources(values).get("ec2_configuration") or []) for values in (before, after))
    return old, new


def _replaces_instances(before: Mapping[str, Any], after: Mapping[str, Any], unknown: Mapping[str, Any]) -> bool:
    old, new, later = _resources(before), _resources(after), unknown.get("compute_resources")
    if later is True:
        return True
    changed = {key for key in {*old, *new} if old.get(key) != new.get(key)}
    coming = {key for key, value in _resources(unknown).items() if _any_true(value)}
    return bool((changed | coming) - _SCALING)


def _any_true(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_any_true, value.values()))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(map(_any_true, value))
    return value is True
