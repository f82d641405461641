"""The Recycle Bin: its rules (rbin) and what EC2 keeps in it for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from moto.core.responses import ActionResult, BaseResponse, EmptyResult
from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.moto_api._internal import mock_random

from gpu_ami_sandbox.aws.ec2.part import EC2Part
from gpu_ami_sandbox.aws.paging import page
from gpu_ami_sandbox.aws.refusals import refuse

IMAGE, SNAPSHOT, VOLUME = "EC2_IMAGE", "EBS_SNAPSHOT", "EBS_VOLUME"
_SHOWN = ("Identifier", "Description", "RetentionPeriod", "LockState", "RuleArn")


@dataclass
class Kept:
    """Something in the bin: the object as moto had it, and its tags, which leave with it."""

    thing: Any
    tags: dict[str, str]
    entered: datetime
    exits: datetime

    def shown(self) -> dict[str, datetime]:
        """Return the two times as EC2 names them."""
        return {"RecycleBinEnterTime": self.entered, "RecycleBinExitTime": self.exits}


@dataclass
class RecycleBin:
    """The Recycle Bin of one account and region.

    Attributes:
        rules: By identifier, as rbin shows them.
        images: Deregistered AMIs that can be restored, by id.
        snapshots: Deleted snapshots that can be restored, by id.
        volumes: Deleted volumes, by id.
        clock: What time it is, as moto's naive UTC.
    """

    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: dict[str, Kept] = field(default_factory=dict)
    snapshots: dict[str, Kept] = field(default_factory=dict)
    volumes: dict[str, Kept] = field(default_factory=dict)
    clock: Callable[[], datetime] = utcnow

    def add_rule(self, rule: dict[str, Any], arn_prefix: str) -> dict[str, Any]:
        """Add a rule and return it with its identifier and state."""
        identifier = mock_random.get_random_hex(11)
        locked = {"LockState": "unlocked"} if "LockConfiguration" not in rule else {"LockState": "locked"}
        self.rules[identifier] = (
            rule
            | locked
            | {
                "Identifier": identifier,
                "Status": "available",
                "RuleArn": f"{arn_prefix}:rule/{identifier}",
            }
        )
        return self.rules[identifier]

    def keep_image(self, backend: Any, image: Any) -> None:
        """Keep a deregistered AMI, if a rule says so."""
        self._keep(self.images, IMAGE, backend, image)

    def keep_snapshot(self, backend: Any, snapshot: Any) -> None:
        """Keep a deleted snapshot, if a rule says so."""
        self._keep(self.snapshots, SNAPSHOT, backend, snapshot)

    def keep_volume(self, backend: Any, volume: Any) -> None:
        """Keep a deleted volume, if a rule says so."""
        self._keep(self.volumes, VOLUME, backend, volume)

    def _keep(self, bin_: dict[str, Kept], kind: str, backend: Any, thing: Any) -> None:
        tags, now = dict(backend.tags.get(thing.id, {})), self.clock()
        if days := self.retention_days(kind, tags):
            bin_[thing.id] = Kept(thing, tags, now, now + timedelta(days=days))

    def retention_days(self, kind: str, tags: dict[str, str]) -> int:
        """Return for how long the bin keeps a resource with these tags: the longest matching rule, or 0."""
        days = [
            int(rule["RetentionPeriod"]["RetentionPeriodValue"])
            for rule in self.rules.values()
            if rule["ResourceType"] == kind and _applies(rule, tags)
        ]
        return max(days, default=0)

    def take(self, bin_: dict[str, Kept], backend: Any, resource_id: str) -> Any | None:
        """Take a resource that is still there out of the bin, tags and all; None when there is none."""
        kept = bin_.get(resource_id)
        if kept is None or kept.exits <= self.clock():
            return None
        del bin_[resource_id]
        backend.tags[resource_id].update(kept.tags)
        return kept.thing


def _applies(rule: dict[str, Any], tags: dict[str, str]) -> bool:
    def named(key: str) -> bool:
        expected = rule.get(key) or []
        return any(
            tags.get(tag["ResourceTagKey"]) is not None
            and tag.get("ResourceTagValue") in (None, tags[tag["ResourceTagKey"]])
            for tag in expected
        )

    # A rule with tags takes what carries one of them; one without takes the whole Region but what is excluded.
    return named("ResourceTags") if rule.get("ResourceTags") else not named("ExcludeResourceTags")


def recycle_bin(backend: Any) -> RecycleBin:
    """Return the Recycle Bin that belongs to an EC2 backend of moto's; a reset of moto empties it."""
    bin_: RecycleBin = vars(backend).setdefault("sandbox_recycle_bin", RecycleBin())
    return bin_


class RecycleBinItems(EC2Part):
    """EC2's side: what is in the bin, and bringing it back."""

    def list_images_in_recycle_bin(self) -> ActionResult:
        """List the AMIs in the bin."""
        rows = [
            {"ImageId": kept.thing.id, "Name": kept.thing.name, "Description": kept.thing.description} | kept.shown()
            for kept in self._requested(recycle_bin(self.ec2_backend).images, "ImageIds")
        ]
        return self._answer_page("Images", rows)

    def list_snapshots_in_recycle_bin(self) -> ActionResult:
        """List the snapshots in the bin."""
        rows = [
            {"SnapshotId": s.id, "Description": s.description, "VolumeId": s.volume_id} | kept.shown()
            for kept in self._requested(recycle_bin(self.ec2_backend).snapshots, "SnapshotIds")
            for s in (kept.thing,)
        ]
        return self._answer_page("Snapshots", rows)

    def list_volumes_in_recycle_bin(self) -> ActionResult:
        """List the volumes in the bin."""
        rows = [
            {"VolumeId": v.id, "VolumeType": v.volume_type, "Size": v.size, "CreateTime": v.create_time} | kept.shown()
            for kept in self._requested(recycle_bin(self.ec2_backend).volumes, "VolumeIds")
            for v in (kept.thing,)
        ]
        return self._answer_page("Volumes", rows)

    def delete_volume(self) -> ActionResult:
        """Delete a volume that hangs on nothing."""
        return self._keeping_volumes(super().delete_volume)

    def terminate_instances(self) -> ActionResult:
        """End instances; their volumes that go with them may be kept, too."""
        return self._keeping_volumes(super().terminate_instances)

    def _keeping_volumes(self, action: Callable[[], ActionResult]) -> ActionResult:
        backend = self.ec2_backend
        before = dict(backend.volumes)
        answer = action()
        for volume_id, volume in before.items():
            if volume_id not in backend.volumes:
                recycle_bin(backend).keep_volume(backend, volume)
        return answer

    def restore_image_from_recycle_bin(self) -> ActionResult:
        """Make a deregistered AMI usable again; its snapshots must be there already."""
        self.error_on_dryrun()
        backend, image_id = self.ec2_backend, self._get_param("ImageId")
        bin_ = recycle_bin(backend)
        kept = bin_.images.get(image_id)
        for snapshot_id in kept.thing.snapshot_ids if kept else []:
            if snapshot_id not in backend.snapshots:
                refuse("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
        image = bin_.take(bin_.images, backend, image_id)
        if image is None:
            refuse("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist in the Recycle Bin")
        backend.amis[image_id] = image
        backend.deleted_amis.remove(image_id)
        return ActionResult({"Return": True})

    def restore_snapshot_from_recycle_bin(self) -> ActionResult:
        """Make a deleted snapshot usable again."""
        self.error_on_dryrun()
        backend, snapshot_id = self.ec2_backend, self._get_param("SnapshotId")
        bin_ = recycle_bin(backend)
        snapshot = bin_.take(bin_.snapshots, backend, snapshot_id)
        if snapshot is None:
            refuse("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist in the Recycle Bin.")
        backend.snapshots[snapshot_id] = snapshot
        return ActionResult(snapshot)

    def _requested(self, bin_: dict[str, Kept], parameter: str) -> Iterable[Kept]:
        requested, now = self._get_param(parameter, []), recycle_bin(self.ec2_backend).clock()
        return [kept for key, kept in bin_.items() if kept.exits > now and (not requested or key in requested)]


class RecycleBinRules(BaseResponse):
    """The service rbin, which moto has no backend for."""

    def __init__(self) -> None:
        super().__init__(service_name="rbin")
        self.automated_parameter_parsing = True

    def create_rule(self) -> ActionResult:
        """Keep resources of one type for some days after their deletion."""
        names = ("ResourceType", "RetentionPeriod", "Description", "ResourceTags", "ExcludeResourceTags", "Tags")
        given = {name: self._get_param(name) for name in (*names, "LockConfiguration")}
        arn = f"arn:{self.partition}:rbin:{self.region}:{self.current_account}"
        rule = self._bin.add_rule({name: value for name, value in given.items() if value is not None}, arn)
        return ActionResult(rule)

    def get_rule(self) -> ActionResult:
        """Show one rule."""
        return ActionResult(self._rule())

    def list_rules(self) -> ActionResult:
        """List the rules for one type of resource, in pages."""
        kind, tags = self._get_param("ResourceType"), self._get_param("ResourceTags") or []
        rules = [r for r in self._bin.rules.values() if r["ResourceType"] == kind]
        rules = [r for r in rules if all(tag in (r.get("ResourceTags") or []) for tag in tags)]
        rows, token = page(rules, self._get_param("NextToken"), int(self._get_param("MaxResults") or 1000))
        shown = [{name: rule[name] for name in _SHOWN if name in rule} for rule in rows]
        return ActionResult({"Rules": shown, "NextToken": token})

    def update_rule(self) -> ActionResult:
        """Change what a rule keeps and for how long."""
        rule = self._rule()
        for name in ("RetentionPeriod", "Description", "ResourceTags", "ExcludeResourceTags"):
            if (value := self._get_param(name)) is not None:
                rule[name] = value
        return ActionResult(rule)

    def delete_rule(self) -> ActionResult:
        """Remove a rule; what is in the bin stays there until its time."""
        del self._bin.rules[self._rule()["Identifier"]]
        return EmptyResult()

    @property
    def _bin(self) -> RecycleBin:
        return recycle_bin(ec2_backends[self.current_account][self.region])

    def _rule(self) -> dict[str, Any]:
        identifier = str(self._get_param("Identifier"))
        if identifier not in self._bin.rules:
            refuse("ResourceNotFoundException", f"Rule {identifier} does not exist.")
        return self._bin.rules[identifier]
