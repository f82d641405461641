"""What IAM would refuse: the calls of users and roles whose policies do not allow them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from moto.iam.models import iam_backends

from gpu_ami_sandbox.aws.policies import attached, decide, principal_of

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
    for needed, resource in _needed(account, service, action, parameters):
        verdict = decide(mine, needed, resource, context).verdict
        if verdict != "allowed":
            why = "with an explicit deny in" if verdict == "explicitDeny" else "because no statement allows it in"
            return Refusal(principal, needed, why)
    return None


def _request_tags(parameters: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the tags that an EC2 call gives what it makes, as condition keys."""
    keys = (name for name in parameters if name.startswith("TagSpecification.") and name.endswith(".Key"))
    tags = {str(parameters[name]): str(parameters.get(f"{name.removesuffix('Key')}Value", "")) for name in keys}
    return {f"aws:RequestTag/{key}": [value] for key, value in tags.items()}


def _needed(account: str, service: str, action: str, parameters: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
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
    yield f"{service}:{action}", None
    profile = parameters.get("IamInstanceProfile.Name")
    if action == "RunInstances" and profile:
        for found in iam_backends[account]["aws"].instance_profiles.values():
            if found.name == profile:
                yield from (("iam:PassRole", role.arn) for role in found.roles)
