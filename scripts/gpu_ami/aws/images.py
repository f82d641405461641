"""Lists and describes AMIs and the account's own snapshots.

`Image` is what an AMI is everywhere in this package, whoever owns it and whatever it is needed for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError, making_sense
from gpu_ami.errors import AwsError
from gpu_ami.records.tags import FAMILY_TAG, HANDOVER_TAG, PIPELINE_TAG, is_finished

_GIB = 1024**3
_LONG_AGO = datetime.min.replace(tzinfo=timezone.utc)
# EC2 takes at most 200 values for a filter.
_FILTER_VALUES = 200
_PAGE = 1000
# EC2 lists an AMI for a while after it was deregistered.
_DEREGISTERED = "deregistered"
_EBS = "ebs"
_TIMES = ("CreationDate", "LastLaunchedTime", "DeprecationTime")


class TypeRules(msgspec.Struct, frozen=True):
    """Which instance types an AMI's owner lets it run on (``InstanceTypeSpecification``); EC2 enforces it at a launch.

    How the two lists go together is from the reference of ReplaceImageInstanceTypeSpecification.

    Attributes:
        supported: Names, with ``*`` for any characters; empty for all types.
        unsupported: Those that are excluded even so.
    """

    supported: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()

    def allow(self, instance_type: str) -> bool:
        """Return whether EC2 starts the AMI on *instance_type*."""
        if any(fnmatchcase(instance_type, pattern) for pattern in self.unsupported):
            return False
        return not self.supported or any(fnmatchcase(instance_type, pattern) for pattern in self.supported)


# A struct is made in a fifth of a frozen dataclass's time: clean-up makes one for each of thousands of AMIs.
class Image(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An AMI as EC2 describes it.

    Attributes:
        image_id: The AMI.
        account: The account that owns it; empty only where nothing says it, as in an old journal.
        region: Where it is.
        name: Its name; empty when EC2 gives none.
        state: ``available``, ``disabled``, ``pending``, …
        state_reason: Why: EC2's message; empty when it gives none.
        is_amazons: Whether it is one of Amazon's own.
        source_ami_id: The AMI it was made from; empty when EC2 does not say.
        created: When it was made; None when EC2 gives no date.
        last_launched: EC2's last known launch, up to 24 hours late; None when there was none since 2017.
        deprecated_at: From when on it is deprecated.
        tags: Its tags; EC2 shows only the owner's own.
        snapshot_ids: Its snapshots, in the order of its devices.
        volume_gib: The size of its volumes in all.
        root_gib: The size of its root volume; 0 when it has none.
        protection: Deregistration protection as EC2 reports it; empty when EC2 says nothing.
        public: Whether every account may launch it.
        architecture: Such as ``x86_64``; empty when EC2 says nothing.
        root_device: ``ebs`` or ``instance-store``; empty when EC2 says nothing.
        type_rules: Which instance types it may run on; None when its owner says nothing.
        problems: What in EC2's description made no sense; such an AMI is never touched.
    """

    image_id: str
    account: str = ""
    region: str
    name: str = ""
    state: str = "available"
    state_reason: str = ""
    is_amazons: bool = False
    source_ami_id: str = ""
    created: datetime | None = None
    last_launched: datetime | None = None
    deprecated_at: datetime | None = None
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)
    snapshot_ids: tuple[str, ...] = ()
    volume_gib: int = 0
    root_gib: int = 0
    protection: str = ""
    public: bool = False
    architecture: str = ""
    root_device: str = _EBS
    type_rules: TypeRules | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """An own snapshot as EC2 describes it.

    Attributes:
        snapshot_id: The snapshot.
        region: Where it is.
        description: EC2's text; of an AMI's snapshot it names the AMI.
        started: When it was started; None when EC2 gives no date.
        state: ``completed``, ``pending``, ``error``, …
        volume_gib: The size of the volume.
        full_gib: Data in it (FullSnapshotSizeInBytes); None when EC2 does not say.
        tags: Its tags.
    """

    snapshot_id: str
    region: str
    description: str = ""
    started: datetime | None = None
    state: str = "completed"
    volume_gib: int = 0
    full_gib: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def own_images(caller: Caller, account: str, *, is_checked: bool = False) -> list[Image]:
    """Return every AMI that *account* owns in the caller's region, disabled and deprecated ones too.

    Args:
        caller: Calls EC2.
        account: Whose AMIs.
        is_checked: Whether one of another account is no answer: of many accounts, these would be the wrong one's.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    found = _own(caller)
    strangers = [image.account for image in found if image.account != account]
    if is_checked and strangers:
        msg = f"ec2:DescribeImages in {caller.region}: AMIs of {strangers[0]} came where {account}'s were asked for."
        raise UnansweredError(msg)
    return [image for image in found if image.account == account]


def some_images(caller: Caller, image_ids: Iterable[str]) -> list[Image]:
    """Return those of *image_ids* that exist and are the caller's own, disabled ones too.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    found: list[Image] = []
    for some in _chunks(sorted(set(image_ids)), _FILTER_VALUES):
        found += _own(caller, Filters=[{"Name": "image-id", "Values": some}])
    return found


def images_with(caller: Caller, filters: Mapping[str, str]) -> list[Image]:
    """Return the own AMIs that pass all of EC2's *filters*, disabled and deprecated ones too.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    return _own(caller, Filters=[{"Name": name, "Values": [value]} for name, value in filters.items()])


def _own(caller: Caller, **which: Any) -> list[Image]:
    """Return the caller's own AMIs that are still there."""
    rows = caller.pages(
        "ec2",
        "describe_images",
        "Images",
        Owners=["self"],
        IncludeDisabled=True,
        IncludeDeprecated=True,
        **which,
        MaxResults=_PAGE,
    )
    with making_sense(f"ec2:DescribeImages in {caller.region}"):
        return [image for image in (_image(row, caller.region) for row in rows) if image.state != _DEREGISTERED]


def look_up(caller: Caller, image_id: str) -> Image | None:
    """Return the AMI *image_id* of the caller's region, whoever owns it; None when EC2 does not show one.

    Raises:
        AwsError: EC2 refused or gave no usable answer.
    """
    row = look_up_row(caller, image_id)
    return None if row is None else image_of(caller, row)


def look_up_row(caller: Caller, image_id: str) -> dict[str, Any] | None:
    """Return all that EC2 says of the AMI *image_id*, for `image_of` and for what is judged by other rules of EC2's.

    Raises:
        AwsError: EC2 refused or gave no usable answer.
    """
    try:
        answer = caller.call(
            "ec2", "describe_images", ImageIds=[image_id], IncludeDeprecated=True, IncludeDisabled=True
        )
    except RefusedError as exc:
        if exc.code in ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"):
            return None
        raise
    with making_sense(f"ec2:DescribeImages in {caller.region}"):
        return next((row for row in answer["Images"] if row["ImageId"] == image_id), None)


def image_of(caller: Caller, row: Mapping[str, Any]) -> Image:
    """Return the AMI that *row* of the caller's region is about.

    Raises:
        AwsError: The row makes no sense, or lacks what an AMI is judged by.
    """
    with making_sense(f"ec2:DescribeImages in {caller.region}"):
        # What an AMI is judged by is never made up; a listing goes on without it.
        if missing := [key for key in ("State", "Architecture") if not row.get(key)]:
            raise KeyError(*missing)
        return _image(row, caller.region)


def describe(caller: Caller, image_id: str) -> Image:
    """Return the AMI *image_id* of the caller's region, which must be there.

    Raises:
        AwsError: EC2 refused, or there is no such AMI.
    """
    found = look_up(caller, image_id)
    if found is None:
        msg = f"The AMI {image_id} does not exist in {caller.region}: was it deregistered?"
        raise AwsError(msg)
    return found


def is_gone(caller: Caller, image_id: str, problem: RefusedError) -> bool:
    """Return whether EC2's refusal means that the AMI is not there any more.

    ``InvalidAMIID.Unavailable`` is said of deregistered AMIs, but also of those that are in no state for the request.

    Raises:
        AwsError: EC2 refused to say, or gave no usable answer.
    """
    if problem.code == "InvalidAMIID.Unavailable":
        return not some_images(caller, [image_id])
    return problem.code == "InvalidAMIID.NotFound"


def snapshots(caller: Caller, snapshot_ids: Iterable[str]) -> dict[str, Snapshot]:
    """Return those of *snapshot_ids* that exist, by id.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    found: dict[str, Snapshot] = {}
    for some in _chunks(sorted(set(snapshot_ids)), _FILTER_VALUES):
        filters = [{"Name": "snapshot-id", "Values": some}]
        rows = caller.pages(
            "ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=filters, MaxResults=_PAGE
        )
        with making_sense(f"ec2:DescribeSnapshots in {caller.region}"):
            found |= {found.snapshot_id: found for found in (_snapshot(row, caller.region) for row in rows)}
    return found


def written_gib(caller: Caller, image: Image) -> float | None:
    """Return how much data the snapshots of *image* hold (FullSnapshotSizeInBytes); None when EC2 does not say.

    Raises:
        AwsError: EC2 refused, as when a snapshot is gone, or gave no usable answer.
    """
    if not image.snapshot_ids:
        return None
    rows = caller.pages("ec2", "describe_snapshots", "Snapshots", SnapshotIds=list(image.snapshot_ids))
    with making_sense(f"ec2:DescribeSnapshots in {caller.region}"):
        sizes = [row.get("FullSnapshotSizeInBytes") for row in rows]
        if not sizes or None in sizes:
            return None
        return round(sum(int(size or 0) for size in sizes) / _GIB, 2)


def own_snapshots(caller: Caller, account: str) -> list[Snapshot]:
    """Return every snapshot that *account* owns in the caller's region.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    rows = caller.pages("ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"], MaxResults=_PAGE)
    with making_sense(f"ec2:DescribeSnapshots in {caller.region}"):
        return [_snapshot(row, caller.region) for row in rows if row["OwnerId"] == account]


def public_snapshots(caller: Caller) -> list[str]:
    """Return the account's own snapshots that every account may make volumes of.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    rows = caller.pages(
        "ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"], RestorableByUserIds=["all"], MaxResults=_PAGE
    )
    with making_sense(f"ec2:DescribeSnapshots in {caller.region}"):
        return [str(row["SnapshotId"]) for row in rows]


def shown(caller: Caller, image_ids: Iterable[str]) -> dict[str, Image]:
    """Return those of *image_ids* that EC2 shows, whoever owns them, by id.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    found: dict[str, Image] = {}
    for some in _chunks(sorted(set(image_ids)), _FILTER_VALUES):
        filters = [{"Name": "image-id", "Values": some}]
        rows = caller.pages("ec2", "describe_images", "Images", IncludeDeprecated=True, Filters=filters)
        with making_sense(f"ec2:DescribeImages in {caller.region}"):
            found |= {image.image_id: image for image in (_image(row, caller.region) for row in rows)}
    return found


def launch_permissions(caller: Caller, image_id: str) -> tuple[dict[str, str], ...]:
    """Return who besides the owner may launch *image_id*, as EC2 lists it: ``{"UserId": …}``, ``{"Group": "all"}``, ….

    Raises:
        AwsError: EC2 refused or gave no usable answer.
    """
    answer = caller.call("ec2", "describe_image_attribute", ImageId=image_id, Attribute="launchPermission")
    permissions = answer.get("LaunchPermissions")
    if answer.get("ImageId") != image_id or not isinstance(permissions, list):
        msg = f"The launch permissions of {image_id} came without a list: the answer is cut off or malformed."
        raise UnansweredError(msg)
    return tuple({key: str(value) for key, value in entry.items()} for entry in permissions)


def snapshot_is_shared(caller: Caller, snapshot_id: str) -> bool:
    """Return whether another account may make volumes of the snapshot.

    Raises:
        AwsError: EC2 refused or gave no usable answer.
    """
    answer = caller.call(
        "ec2", "describe_snapshot_attribute", SnapshotId=snapshot_id, Attribute="createVolumePermission"
    )
    permissions = answer.get("CreateVolumePermissions")
    if not isinstance(permissions, list):
        msg = f"The permissions of {snapshot_id} came without a list: the answer is cut off or malformed."
        raise UnansweredError(msg)
    return bool(permissions)


def parse_time(text: object) -> datetime | None:
    """Return the UTC moment that EC2's *text* names; None when it is not one."""
    if isinstance(text, datetime):
        return text.astimezone(timezone.utc) if text.tzinfo else text.replace(tzinfo=timezone.utc)
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment.astimezone(timezone.utc) if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _image(row: Mapping[str, Any], region: str) -> Image:
    """Return the AMI that a row of DescribeImages is about; nothing else reads such rows."""
    mappings = row.get("BlockDeviceMappings") or []
    volumes = [mapping.get("Ebs") or {} for mapping in mappings]
    times = {key: parse_time(row.get(key)) for key in _TIMES}
    unread = [key for key in _TIMES if times[key] is None and row.get(key)]
    return Image(
        image_id=row["ImageId"],
        # Thousands of AMIs have one owner and few parents: one text for all of them.
        account=sys.intern(row["OwnerId"]),
        region=region,
        name=row.get("Name") or "",
        state=row.get("State") or "unknown",
        state_reason=(row.get("StateReason") or {}).get("Message", ""),
        is_amazons=row.get("ImageOwnerAlias") == "amazon",
        source_ami_id=sys.intern(row.get("SourceImageId") or ""),
        created=times["CreationDate"],
        last_launched=times["LastLaunchedTime"],
        deprecated_at=times["DeprecationTime"],
        tags=_tags(row),
        snapshot_ids=tuple(dict.fromkeys(volume["SnapshotId"] for volume in volumes if volume.get("SnapshotId"))),
        volume_gib=sum(int(volume.get("VolumeSize") or 0) for volume in volumes),
        root_gib=_root_gib(mappings, row.get("RootDeviceName")),
        protection=row.get("DeregistrationProtection") or "",
        public=bool(row.get("Public")),
        architecture=row.get("Architecture") or "",
        root_device=row.get("RootDeviceType") or "",
        type_rules=_type_rules(row),
        problems=tuple(f"{key} {row[key]!r} is not a date" for key in unread),
    )


def _type_rules(row: Mapping[str, Any]) -> TypeRules | None:
    given = row.get("InstanceTypeSpecification")
    if not given:
        return None
    supported, unsupported = (
        tuple(entry["InstanceType"] for entry in given.get(key) or [])
        for key in ("SupportedInstanceTypes", "UnsupportedInstanceTypes")
    )
    return TypeRules(supported, unsupported)


def _root_gib(mappings: Iterable[Mapping[str, Any]], root: str | None) -> int:
    for mapping in mappings:
        if root and mapping.get("DeviceName") == root:
            return int((mapping.get("Ebs") or {}).get("VolumeSize") or 0)
    return 0


def _snapshot(row: Mapping[str, Any], region: str) -> Snapshot:
    size = row.get("FullSnapshotSizeInBytes")
    return Snapshot(
        snapshot_id=row["SnapshotId"],
        region=region,
        description=row.get("Description") or "",
        started=parse_time(row.get("StartTime")),
        state=row.get("State") or "unknown",
        volume_gib=int(row.get("VolumeSize") or 0),
        full_gib=None if size is None else round(int(size) / _GIB, 2),
        tags=_tags(row),
    )


def _tags(row: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in row.get("Tags") or []}


def _chunks(values: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(values), size):
        yield list(values[start : start + size])


def newest_of_family(caller: Caller, family: str) -> Image | None:
    """Return the newest finished AMI of ours in *family* that can be launched; None when there is none.

    One that a failed build has left is none, although Packer may have put all its own tags on it.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    filters = {f"tag:{FAMILY_TAG}": family, "tag-key": HANDOVER_TAG, "state": "available"}
    ours = [image for image in images_with(caller, filters) if PIPELINE_TAG in image.tags and not image.problems]
    finished = [image for image in ours if is_finished(image.tags)]
    return max(finished, key=lambda image: (image.created or _LONG_AGO, image.image_id), default=None)
