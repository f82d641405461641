"""Lists the resources of incomplete builds, verifications and benches by their run tag, and removes them kind by kind.

Packer names the instance profile that it makes for one build ``packer-…`` and the role in it alike. What a bench makes
in Batch, and its launch templates, are named ``gpu-ami-bench-…``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gpu_ami.aws.batch_teardown import ENVIRONMENT, QUEUE, Piece, tear_down
from gpu_ami.aws.caller import Caller, RefusedError, making_sense
from gpu_ami.aws.image_changes import deregister
from gpu_ami.aws.images import Image, images_with, parse_time
from gpu_ami.errors import AwsError
from gpu_ami.records.tags import BENCH_NAME, BENCH_RUN, FAMILY_TAG, PIPELINE, PIPELINE_TAG, RUN_TAG

_PAGE = 1000
_BATCH_PAGE = 100
# EC2 takes at most so many values for a filter.
_FILTER_VALUES = 200
_GONE_STATES = frozenset({"terminated", "shutting-down"})
_TERMINATED_WITHIN_S = 300.0
_QUERY_EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class BuildResource:
    """One resource with a run tag.

    Attributes:
        kind: Such as ``instance``; a key of `KINDS`.
        identifier: Its id, or its name where AWS goes by names; of Batch's, the end of the ARN: a queue and an
            environment may have one name.
        region: Where; IAM's are listed with the first region.
        run: The build that made it.
        created: When it was made; None when AWS does not say.
        state: AWS's name of its state; empty when it has none.
        tags: Its tags.
    """

    kind: str
    identifier: str
    region: str
    run: str
    created: datetime | None
    state: str
    tags: Mapping[str, str]


def find(caller: Caller, kind: str, family: str) -> list[BuildResource]:
    """Return the resources of *kind* that carry the pipeline's tag and the run tag and belong to *family*.

    Another team's may have the same name of a family and runs of its own. Whatever a build or a verification of this
    pipeline makes gets the three tags at once, ever since there were builds.

    Raises:
        AwsError: AWS refused, or a list could not be read to its end.
    """
    ours = {PIPELINE_TAG: PIPELINE, FAMILY_TAG: family}
    with making_sense(f"{kind}s in {caller.region}"):
        found = [resource for resource in KINDS[kind].find(caller) if ours.items() <= resource.tags.items()]
    return [resource for resource in found if resource.run]


def remove(caller: Caller, resource: BuildResource) -> None:
    """Remove one resource; one that is gone already is a success.

    Raises:
        AwsError: AWS refused, or nobody knows.
    """
    act = KINDS[resource.kind].remove
    if act is None:
        for why in remove_from_batch(caller, [resource]).values():
            msg = f"{resource.identifier} is still there: {why}"
            raise AwsError(msg)
        return
    with _unless_gone():
        act(caller, resource.identifier)


def remove_from_batch(
    caller: Caller, resources: Sequence[BuildResource], *, sleep: Callable[[float], None] = time.sleep
) -> dict[str, str]:
    """Take queues and environments of Batch away, all at once, in the order in which Batch lets them go.

    Each has to carry the tags of its run still.

    Returns:
        Why each that is not gone is still there, by its identifier.
    """
    pieces = [
        Piece(
            kind=QUEUE if resource.kind == QUEUE else ENVIRONMENT,
            name=resource.identifier.partition("/")[2],
            tags={tag: resource.tags[tag] for tag in (PIPELINE_TAG, FAMILY_TAG, RUN_TAG)},
        )
        for resource in resources
    ]
    failed = tear_down(caller, pieces, sleep=sleep)
    return {f"{kind}/{name}": why for (kind, name), why in failed.items()}


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    """Take a refusal that says "there is no such thing" for done."""
    try:
        yield
    except RefusedError as exc:
        if not exc.code.endswith((".NotFound", "NoSuchEntity", ".NotFoundException")):
            raise


def images_of_run(caller: Caller, run: str) -> list[Image]:
    """Return the AMIs that the build *run* has made in the caller's region, by its tag.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    return images_with(caller, {f"tag:{RUN_TAG}": run})


def snapshots_of_run(caller: Caller, run: str, image_ids: Iterable[str]) -> list[str]:
    """Return the snapshots that the build *run* has made for AMIs in the caller's region.

    They are found by the run's tag, which a copy's have not, and by EC2's own description, which names the AMI.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    wanted = [{"Name": f"tag:{RUN_TAG}", "Values": [run]}]
    forms = ("*) for {}", "*) for {} *", "*DestinationAmi {} *")
    wanted += [{"Name": "description", "Values": [form.format(image) for form in forms]} for image in image_ids]
    found: dict[str, None] = {}
    for which in wanted:
        rows = caller.pages("ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=[which])
        with making_sense(f"ec2:DescribeSnapshots in {caller.region}"):
            found |= {str(row["SnapshotId"]): None for row in rows}
    return list(found)


def remove_temporary_profile(caller: Caller, name: str, run: str) -> list[str]:
    """Remove what is left of the instance profile and role *name* of the build *run*; return what there was of them.

    By name and with the very calls that Packer makes itself: a caller who may bake may make them.

    Raises:
        AwsError: IAM refused, or nobody knows.
    """
    there = []
    if _is_of_run(caller, "get_role", "Role", run, RoleName=name):
        there.append(f"role {name}")
        with _unless_gone():
            caller.call("iam", "remove_role_from_instance_profile", InstanceProfileName=name, RoleName=name)
        with _unless_gone():
            caller.call("iam", "delete_role_policy", RoleName=name, PolicyName=name)
        with _unless_gone():
            caller.call("iam", "delete_role", RoleName=name)
    if _is_of_run(caller, "get_instance_profile", "InstanceProfile", run, InstanceProfileName=name):
        there.append(f"instance profile {name}")
        with _unless_gone():
            caller.call("iam", "delete_instance_profile", InstanceProfileName=name)
    return there


def _is_of_run(caller: Caller, operation: str, key: str, run: str, **named: str) -> bool:
    tags: list[dict[str, str]] = []
    with _unless_gone(), making_sense(f"iam {key}"):
        tags = caller.call("iam", operation, **named)[key].get("Tags") or []
    return any((tag["Key"], tag.get("Value")) == (RUN_TAG, run) for tag in tags)


@dataclass(frozen=True, kw_only=True)
class AttachedVolume:
    """A volume that goes with its instance.

    Attributes:
        volume_id: The volume.
        instance_id: The instance.
        tags: Its tags.
    """

    volume_id: str
    instance_id: str
    tags: Mapping[str, str]


def volumes_of(caller: Caller, instance_ids: Iterable[str]) -> list[AttachedVolume]:
    """Return the volumes that EC2 deletes when it terminates the instances.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    found = []
    chosen = sorted(instance_ids)
    for start in range(0, len(chosen), _FILTER_VALUES):
        wanted = [{"Name": "attachment.instance-id", "Values": chosen[start : start + _FILTER_VALUES]}]
        for row in caller.pages("ec2", "describe_volumes", "Volumes", Filters=wanted, MaxResults=_PAGE):
            with making_sense(f"ec2:DescribeVolumes in {caller.region}"):
                tags = {tag["Key"]: tag.get("Value", "") for tag in row.get("Tags") or []}
                found += [
                    AttachedVolume(volume_id=row["VolumeId"], instance_id=attached["InstanceId"], tags=tags)
                    for attached in row["Attachments"]
                    if attached.get("DeleteOnTermination") and attached["InstanceId"] in chosen
                ]
    return found


def wait_until_terminated(
    caller: Caller,
    instance_ids: Iterable[str],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until the instances are gone: their groups and volumes cannot go before them.

    Raises:
        AwsError: EC2 refused, or they are still there after five minutes.
    """
    filters = [{"Name": "instance-id", "Values": sorted(instance_ids)}]
    began = clock()
    while True:
        rows = caller.pages("ec2", "describe_instances", "Reservations", Filters=filters, MaxResults=_PAGE)
        states = {instance["State"]["Name"] for row in rows for instance in row["Instances"]}
        if states <= {"terminated"}:
            return
        if clock() - began > _TERMINATED_WITHIN_S:
            msg = f"The instances {', '.join(filters[0]['Values'])} are still not terminated: run it again later."
            raise AwsError(msg)
        sleep(_QUERY_EVERY_S)


@dataclass(frozen=True)
class Kind:
    """How one kind of resource is found and removed; None where that takes more than a call: `remove_from_batch`."""

    find: Callable[[Caller], Iterator[BuildResource]]
    remove: Callable[[Caller, str], object] | None


def _listed(
    kind: str, operation: str, key: str, identifier: str, *, created: str = "", state: str = "State", paged: bool = True
) -> Callable[[Caller], Iterator[BuildResource]]:
    def find_all(caller: Caller) -> Iterator[BuildResource]:
        size: dict[str, Any] = {"MaxResults": 500} if paged else {}
        filters = [{"Name": "tag-key", "Values": [RUN_TAG]}]
        for row in caller.pages("ec2", operation, key, Filters=filters, **size):
            yield _resource(kind, caller, row, row[identifier], parse_time(row.get(created)), str(row.get(state) or ""))

    return find_all


def _images(caller: Caller) -> Iterator[BuildResource]:
    """Yield our own AMIs; without an owner EC2 would list all public ones."""
    for image in images_with(caller, {"tag-key": RUN_TAG}):
        yield BuildResource(
            kind="image",
            identifier=image.image_id,
            region=image.region,
            run=image.tags.get(RUN_TAG, ""),
            created=image.created,
            state=image.state,
            tags=image.tags,
        )


def _resource(
    kind: str, caller: Caller, row: Mapping[str, Any], identifier: str, created: datetime | None, state: str
) -> BuildResource:
    tags = {tag["Key"]: tag.get("Value", "") for tag in row.get("Tags") or []}
    return BuildResource(
        kind=kind,
        identifier=identifier,
        region=caller.region,
        run=tags.get(RUN_TAG, ""),
        created=created,
        state=state,
        tags=tags,
    )


def _instances(caller: Caller) -> Iterator[BuildResource]:
    filters = [{"Name": "tag-key", "Values": [RUN_TAG]}]
    for reservation in caller.pages("ec2", "describe_instances", "Reservations", Filters=filters, MaxResults=_PAGE):
        for row in reservation["Instances"]:
            state = row["State"]["Name"]
            if state not in _GONE_STATES:
                yield _resource("instance", caller, row, row["InstanceId"], parse_time(row.get("LaunchTime")), state)


def _free_volumes(caller: Caller) -> Iterator[BuildResource]:
    """Volumes that hang on nothing: the others go with their instance."""
    find_all = _listed("volume", "describe_volumes", "Volumes", "VolumeId", created="CreateTime")
    return (volume for volume in find_all(caller) if volume.state == "available")


def _templates(caller: Caller) -> Iterator[BuildResource]:
    """Launch templates that Packer made to launch its builder by a fleet, and a bench's.

    Others with our tags may launch workers.
    """
    filters = [{"Name": "tag-key", "Values": [RUN_TAG]}]
    for row in caller.pages("ec2", "describe_launch_templates", "LaunchTemplates", Filters=filters, MaxResults=200):
        made = parse_time(row.get("CreateTime"))
        template = _resource("launch-template", caller, row, row["LaunchTemplateId"], made, "")
        ours = BENCH_NAME if template.run.startswith(BENCH_RUN) else "packer-fleet-launch-template-"
        if row["LaunchTemplateName"].startswith(ours):
            yield template


def _in_batch(
    kind: str, operation: str, key: str, name: str, **which: Any
) -> Callable[[Caller], Iterator[BuildResource]]:
    """Find what a bench made in Batch: by its name **and** its run; the family's tag alone is on production's, too."""

    def find_all(caller: Caller) -> Iterator[BuildResource]:
        rows = caller.pages("batch", operation, key, page_key="nextToken", maxResults=_BATCH_PAGE, **which)
        for row in rows:
            tags = dict(row.get("tags") or {})
            run, status = tags.get(RUN_TAG, ""), str(row.get("status") or "")
            if row[name].startswith(BENCH_NAME) and run.startswith(BENCH_RUN) and status != "DELETED":
                named = f"{row[name]}:{row['revision']}" if "revision" in row else row[name]
                yield BuildResource(
                    kind=kind,
                    identifier=f"{kind}/{named}",
                    region=caller.region,
                    run=run,
                    created=None,
                    state=status,
                    tags=tags,
                )

    return find_all


def _deregister(caller: Caller, identifier: str) -> None:
    caller.call("batch", "deregister_job_definition", jobDefinition=identifier.partition("/")[2])


def _profiles(caller: Caller) -> Iterator[BuildResource]:
    """Instance profiles that Packer named; a listing leaves their tags out."""
    for row in caller.pages("iam", "list_instance_profiles", "InstanceProfiles", page_key="Marker"):
        name = row["InstanceProfileName"]
        if name.startswith("packer-"):
            tagged = caller.call("iam", "get_instance_profile", InstanceProfileName=name)["InstanceProfile"]
            yield _resource("instance-profile", caller, tagged, name, parse_time(row.get("CreateDate")), "")


def _remove_profile(caller: Caller, name: str) -> None:
    answer = caller.call("iam", "get_instance_profile", InstanceProfileName=name)
    for role in (row["RoleName"] for row in answer["InstanceProfile"]["Roles"]):
        is_builds = role.startswith("packer-") and _is_builds(caller, role)
        caller.call("iam", "remove_role_from_instance_profile", InstanceProfileName=name, RoleName=role)
        if is_builds:
            _remove_role(caller, role)
    caller.call("iam", "delete_instance_profile", InstanceProfileName=name)


def _roles(caller: Caller) -> Iterator[BuildResource]:
    """Roles that Packer named and that are in no profile of a build: the others go with theirs. No list has tags."""
    for row in caller.pages("iam", "list_roles", "Roles", page_key="Marker", MaxItems=_PAGE):
        name = row["RoleName"]
        if not name.startswith("packer-"):
            continue
        role = _resource("role", caller, _role(caller, name), name, parse_time(row.get("CreateDate")), "")
        if role.run and not any(_is_builds_profile(caller, profile) for profile in _profiles_with(caller, name)):
            yield role


def _profiles_with(caller: Caller, role: str) -> list[str]:
    key = {"page_key": "Marker", "RoleName": role}
    rows = caller.pages("iam", "list_instance_profiles_for_role", "InstanceProfiles", **key)
    return [row["InstanceProfileName"] for row in rows]


def _is_builds_profile(caller: Caller, name: str) -> bool:
    """Whether `_profiles` finds the profile, too."""
    if not name.startswith("packer-"):
        return False  # a caller may be allowed to see Packer's alone
    tags: list[dict[str, str]] = []
    with _unless_gone():
        found = caller.call("iam", "get_instance_profile", InstanceProfileName=name)["InstanceProfile"]
        tags = found.get("Tags") or []
    return any(tag["Key"] == RUN_TAG for tag in tags)


def _remove_lone_role(caller: Caller, role: str) -> None:
    for profile in _profiles_with(caller, role):
        caller.call("iam", "remove_role_from_instance_profile", InstanceProfileName=profile, RoleName=role)
    _remove_role(caller, role)


def _role(caller: Caller, name: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = caller.call("iam", "get_role", RoleName=name)["Role"]
    except RefusedError as exc:
        if exc.code != "NoSuchEntity":  # it went since the list was made
            raise
        return {}
    return found


def _is_builds(caller: Caller, role: str) -> bool:
    """Whether one of our builds made the role; Packer tags it as it does the profile. A profile leaves the tags out."""
    row = caller.call("iam", "get_role", RoleName=role)["Role"]
    return any(tag["Key"] == RUN_TAG for tag in row.get("Tags") or [])


def _remove_role(caller: Caller, role: str) -> None:
    for policy in caller.call("iam", "list_role_policies", RoleName=role)["PolicyNames"]:
        caller.call("iam", "delete_role_policy", RoleName=role, PolicyName=policy)
    for row in caller.call("iam", "list_attached_role_policies", RoleName=role)["AttachedPolicies"]:
        caller.call("iam", "detach_role_policy", RoleName=role, PolicyArn=row["PolicyArn"])
    caller.call("iam", "delete_role", RoleName=role)


# In the order in which they can be removed. A host of Batch's goes with its environment: ended before, its group might
# start another.
KINDS: dict[str, Kind] = {
    "job-queue": Kind(_in_batch("job-queue", "describe_job_queues", "jobQueues", "jobQueueName"), None),
    "compute-environment": Kind(
        _in_batch(
            "compute-environment",
            "describe_compute_environments",
            "computeEnvironments",
            "computeEnvironmentName",
        ),
        None,
    ),
    "instance": Kind(_instances, lambda c, i: c.call("ec2", "terminate_instances", InstanceIds=[i])),
    "volume": Kind(_free_volumes, lambda c, i: c.call("ec2", "delete_volume", VolumeId=i)),
    "security-group": Kind(
        _listed("security-group", "describe_security_groups", "SecurityGroups", "GroupId"),
        lambda c, i: c.call("ec2", "delete_security_group", GroupId=i),
    ),
    "key-pair": Kind(
        _listed("key-pair", "describe_key_pairs", "KeyPairs", "KeyName", created="CreateTime", paged=False),
        lambda c, i: c.call("ec2", "delete_key_pair", KeyName=i),
    ),
    "launch-template": Kind(
        _templates,
        lambda c, i: c.call("ec2", "delete_launch_template", LaunchTemplateId=i),
    ),
    "job-definition": Kind(
        _in_batch("job-definition", "describe_job_definitions", "jobDefinitions", "jobDefinitionName", status="ACTIVE"),
        _deregister,
    ),
    "instance-profile": Kind(_profiles, _remove_profile),
    "role": Kind(_roles, _remove_lone_role),
    "image": Kind(_images, deregister),
}
