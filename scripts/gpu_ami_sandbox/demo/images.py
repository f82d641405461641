"""Two years of AMIs of one family: needed in every way, needed by nothing, and what incomplete builds left behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gpu_ami_sandbox.aws.ec2.recycle_bin import IMAGE, SNAPSHOT, recycle_bin
from gpu_ami_sandbox.demo.factory import FAMILY, PIPELINE, DemoLocation, Maker
from gpu_ami_sandbox.demo.uses import USES

# Days since the AMIs were made that are kept because they are the newest: the one before, the live one, the next.
_NEWEST_DAYS = {"previous": 25, "live": 11, "next": 4}
_OLDEST_DAYS, _YOUNGEST_DAYS = 730, 40
_UNUSED = 9
_INCOMPLETE_BUILD_DAYS = 20
_BIN_DAYS = 14


@dataclass
class DemoImages:
    """The AMIs that were made.

    Attributes:
        live: The one that Batch's compute environment names.
        batch_template_id: The launch template of that environment; it names no AMI.
        in_use: AMI by what needs it.
        unused: AMIs that nothing needs.
        orphan_snapshots: Snapshots whose AMI is gone.
        leftovers: What an incomplete build left, by kind.
    """

    live: str = ""
    batch_template_id: str = ""
    in_use: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    orphan_snapshots: list[str] = field(default_factory=list)
    leftovers: dict[str, str] = field(default_factory=dict)


def add_images(location: DemoLocation, now: datetime, container: str) -> DemoImages:
    """Add the AMIs and everything that needs one of them.

    Args:
        location: Where.
        now: The time as moto keeps it, naive UTC.
        container: The container image in the newest AMIs, by its digest.
    """
    make, made = Maker(location, now), DemoImages()
    add_bin_rules(make)
    ages = _ages(len(USES) + _UNUSED)
    # Unused AMIs lie among the used ones, so that age alone tells nothing.
    every = len(ages) // _UNUSED
    uses = iter(USES.items())
    for number, age in enumerate(ages):
        image = make.image(age)
        image.add_tags({"gpu-ami:handover": "applied"})
        if number % every == every - 1 and len(made.unused) < _UNUSED:
            made.unused.append(image.id)
            continue
        reason, use = next(uses)
        use(make, image)
        made.in_use[reason] = image.id
    newest = {name: make.image(age) for name, age in _NEWEST_DAYS.items()}
    for name, image in newest.items():
        handover = "pending" if name == "next" else "applied"
        held = {"gpu-ami:image": container, "gpu-ami:image-digest": container.partition("@")[2]}
        image.add_tags({"gpu-ami:handover": handover} | held)
    made.live = made.in_use["batch_compute_environment"] = newest["live"].id
    made.batch_template_id = make.template("batch-video-analysis-gpu", None)
    made.orphan_snapshots = [_orphan(make)]
    made.leftovers = _incomplete_build(make)
    return made


def _ages(count: int) -> list[int]:
    """Return ages in days, oldest first: evenly over two years, the youngest older than 30 days."""
    return [_OLDEST_DAYS - number * (_OLDEST_DAYS - _YOUNGEST_DAYS) // (count - 1) for number in range(count)]


def add_bin_rules(make: Maker) -> None:
    """Keep deleted AMIs of the family and their snapshots for a while: the demo's clean-up can be undone."""
    for kind in (IMAGE, SNAPSHOT):
        rule = {
            "ResourceType": kind,
            "RetentionPeriod": {"RetentionPeriodValue": _BIN_DAYS, "RetentionPeriodUnit": "DAYS"},
            "ResourceTags": [{"ResourceTagKey": "gpu-ami:family", "ResourceTagValue": FAMILY}],
        }
        recycle_bin(make.ec2).add_rule(rule, f"arn:aws:rbin:{make.location.region}:{make.location.account_id}")


def _orphan(make: Maker) -> str:
    """Leave a snapshot behind, as deregistering an AMI alone does."""
    image = make.image(200)
    make.ec2.deregister_image(image.id)
    return image.snapshot_ids[0]


def _incomplete_build(make: Maker) -> dict[str, str]:
    """Leave the resources of a build whose machine was switched off: nothing of it was ever cleaned up."""
    image = make.image(_INCOMPLETE_BUILD_DAYS)
    run = make.ec2.tags[image.id]["gpu-ami:run"]
    tags = {"gpu-ami:pipeline": PIPELINE, "gpu-ami:family": FAMILY, "gpu-ami:run": run}
    began = make.now - timedelta(days=_INCOMPLETE_BUILD_DAYS)
    instance = make.instance(image)
    instance.image_id, instance.launch_time = make.filler(), began
    instance.key_name = f"packer_{run}"
    pair = make.ec2.create_key_pair(instance.key_name, "ed25519", tags)
    pair.create_time = began
    group = make.ec2.create_security_group(f"packer_{run}", "Temporary group for Packer", make.vpc_id(), tags)
    volume = make.ec2.create_volume(8, f"{make.location.region}a", volume_type="gp3")
    volume.create_time = began
    for resource in (instance, volume):
        resource.add_tags(tags | {"Name": "Packer Builder"})
    for _, attached in instance.get_block_device_mapping:
        make.ec2.get_volume(attached.volume_id).add_tags(tags)
    return _ids(image=image, instance=instance, key_pair=pair, security_group=group, volume=volume)


def _ids(**resources: Any) -> dict[str, str]:
    found: Mapping[str, Any] = resources
    return {kind: str(resource.id) for kind, resource in found.items()}
