"""What IAM would refuse: the calls of users and roles whose policies do not allow them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends

from gpu_ami_sandbox.aws.ec2.recycle_bin import recycle_bin
from gpu_ami_sandbox.aws.organizations import member
from gpu_ami_sandbox.aws.policies import attached, decide, principal_of

# What changes an AMI, a snapshot or a report: those are judged by their ARN and tags. A listing has no resource.
_CHANGES = re.compile(
    r"CreateTags|DeleteSnapshot|DeregisterImage|(Disable|Enable)Image(Deprecation)?|ModifyImageAttribute"
    r"|Restore(Image|Snapshot)FromRecycleBin|(Create|Delete)ImageUsageReport"
)
_NAMED = re.compile(r"ImageId|SnapshotId|ReportId|ResourceId\.\d+")
# By what their ids begin with; only a report has its account in its ARN.
_KINDS = {"ami": ":image", "snap": ":snapshot", "amiur": "{account}:image-usage-report"}
# To make one needs the right to it beside that to the AMI, and the right to tag it in the act (IAM's list of EC2).
_MADE = {"CreateImageUsageReport": "amiur-0"}
_S3 = {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject", "DELETE": "s3:DeleteObject"}


@dataclass(frozen=True)
class Refusal:
    """Who may not do what, and which kind of statement says so."""

    principal: str
    action: str
    why: str


def refusal(
    account: str, access_key: str, service: str, action: str, region: str, parameters: Mapping[str, Any]
) -> Refusal | None:
    """Return why the caller may not make this call; None when it may, or is neither a user nor a role of *account*."""
    principal = principal_of(account, access_key)
    if principal is None or action == "GetCallerIdentity":  # nobody can be denied that one
        return None
    mine = attached(account, principal) or []
    context = {"aws:RequestedRegion": [region], **_request_tags(parameters)}
    if action in _MADE:
        context["ec2:CreateAction"] = [action]
    for needed, resource in _needed(account, service, action, region, parameters):
        more = _of_resource(account, region, resource) if resource else {}
        verdict = decide(mine, needed, resource, context | more).verdict
        if verdict != "allowed":
            why = "with an explicit deny in" if verdict == "explicitDeny" else "because no statement allows it in"
            return Refusal(principal, needed, why)
    return None


def _request_tags(parameters: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the tags that an EC2 call gives what it makes, as condition keys."""
    keys = (name for name in parameters if name.startswith("TagSpecification.") and name.endswith(".Key"))
    tags = {str(parameters[name]): str(parameters.get(f"{name.removesuffix('Key')}Value", "")) for name in keys}
    return {f"aws:RequestTag/{key}": [value] for key, value in tags.items()}


def _of_resource(account: str, region: str, resource: str) -> dict[str, list[str]]:
    """Return the condition keys that a resource brings: its organization, or its tags."""
    service, owner, name = resource.split(":", 5)[2], resource.split(":", 5)[4], resource.rpartition("/")[2]
    if service == "iam":
        found = member(owner)
        return {} if found is None else {"aws:ResourceOrgID": [found[0].organization_id]}
    if service != "ec2":
        return {}
    backend = ec2_backends[account][region]
    kept = recycle_bin(backend)
    in_bin = kept.images.get(name) or kept.snapshots.get(name)
    tags = in_bin.tags if in_bin is not None else backend.tags.get(name, {})
    return {f"aws:ResourceTag/{key}": [value] for key, value in tags.items()}


def _resources(account: str, service: str, action: str, region: str, parameters: Mapping[str, Any]) -> list[str | None]:
    """Return what a call is about, by ARN; None where it is not named plainly."""
    if service == "sts" and action == "AssumeRole":
        return [str(parameters["RoleArn"])]
    if service != "ec2" or not _CHANGES.fullmatch(action):
        return [None]
    ids = [str(value) for name, value in parameters.items() if _NAMED.fullmatch(name)]
    return [_arn(account, region, name) for name in (*ids, *filter(None, [_MADE.get(action)]))] or [None]


def _arn(account: str, region: str, name: str) -> str | None:
    """Return the ARN of what has the id *name*; None for what is not judged by it."""
    kind = _KINDS.get(name.partition("-")[0])
    return None if kind is None else f"arn:aws:ec2:{region}:{kind.format(account=account)}/{name}"


def _needed(
    account: str, service: str, action: str, region: str, parameters: Mapping[str, Any]
) -> Iterator[tuple[str, str | None]]:
    """Yield the actions that a call needs, each with the resource where the call names it plainly."""
    if service == "s3":
        method, _, path = action.partition(" ")
        bucket, _, key = path.strip("/").partition("/")
        yield (
            (_S3.get(method, "s3:*"), f"arn:aws:s3:::{bucket}/{key}")
            if key
            else (
                "s3:ListBucket",
                f"arn:aws:s3:::{bucket}",
            )
        )
        return
    found = _resources(account, service, action, region, parameters)
    yield from ((f"{service}:{action}", resource) for resource in found)
    if action in _MADE and _request_tags(parameters):
        yield "ec2:CreateTags", _arn(account, region, _MADE[action])
    profile = parameters.get("IamInstanceProfile.Name")
    if action == "RunInstances" and profile:
        for found in iam_backends[account]["aws"].instance_profiles.values():
            if found.name == profile:
                yield from (("iam:PassRole", role.arn) for role in found.roles)
