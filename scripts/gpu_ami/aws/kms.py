"""Queries the KMS key that encrypts the builder's volume and the AMI's snapshot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError
from gpu_ami.errors import AwsError

# Auto Scaling may use AWS's own keys by itself, a customer-managed one only where the key says so.
_AUTO_SCALING = "AWSServiceRoleForAutoScaling"


@dataclass(frozen=True)
class Key:
    """A KMS key.

    Attributes:
        arn: Its ARN.
        state: ``Enabled``, ``Disabled``, ``PendingDeletion``, …
        usage: ``ENCRYPT_DECRYPT`` or ``SIGN_VERIFY``, …
        spec: ``SYMMETRIC_DEFAULT`` or an asymmetric one.
        is_amazons: Whether AWS manages it; such a key cannot be shared with other accounts.
        lets_auto_scaling: Whether its policy or a grant names the role by which Batch starts instances; None when that
            was not queried, or could not be.
    """

    arn: str
    state: str
    usage: str
    spec: str
    is_amazons: bool
    lets_auto_scaling: bool | None = None


def key(caller: Caller, name: str) -> Key | None:
    """Return the key that an id, alias or ARN names; None when there is none.

    Raises:
        AwsError: KMS refused for another reason.
    """
    try:
        found = caller.call("kms", "describe_key", doing=f"look up the key {name}", KeyId=name)["KeyMetadata"]
    except RefusedError as exc:
        if exc.code in {"NotFoundException", "InvalidArnException"}:
            return None
        raise
    is_amazons = found.get("KeyManager") == "AWS"
    return Key(
        arn=found["Arn"],
        state=found["KeyState"],
        usage=found.get("KeyUsage") or "ENCRYPT_DECRYPT",
        spec=found.get("KeySpec", "SYMMETRIC_DEFAULT"),
        is_amazons=is_amazons,
        lets_auto_scaling=None if is_amazons else _lets_auto_scaling(caller, found["Arn"]),
    )


def _lets_auto_scaling(caller: Caller, arn: str) -> bool | None:
    """Return whether the key's policy or a grant names Auto Scaling's role; None where one of them may not be read.

    No bake needs to know, so a refusal is no error.
    """
    try:
        text = caller.call("kms", "get_key_policy", KeyId=arn, PolicyName="default")["Policy"]
        if _AUTO_SCALING in text or _everybody(json.loads(text)):
            return True
        pages = caller.whole_pages("kms", "list_grants", page_key="Marker", next_key="NextMarker", KeyId=arn)
        return any(_AUTO_SCALING in grant.get("GranteePrincipal", "") for page in pages for grant in page["Grants"])
    except (AwsError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _everybody(policy: Mapping[str, Any]) -> bool:
    """Whether a statement is for every principal; who that is, its conditions say."""
    statements = policy["Statement"]
    given = [item.get("Principal") for item in ([statements] if isinstance(statements, dict) else statements)]
    return any(principal in ("*", {"AWS": "*"}, {"AWS": ["*"]}) for principal in given)


def why_not_signing(caller: Caller, name: str) -> str | None:
    """Return why the key *name*, an id, alias or ARN, signs no digest; None where it does. Nothing is signed.

    Of what is needed a dry run tells: KMS then answers ``DryRunOperationException`` (reference of Sign).

    Raises:
        AwsError: KMS refused to say, or cannot be reached.
    """
    try:
        found = caller.call("kms", "get_public_key", doing=f"look up the key {name}", KeyId=name)
        # Packer's library takes the first one that the key's description has.
        algorithm = caller.call("kms", "describe_key", KeyId=name)["KeyMetadata"]["SigningAlgorithms"][0]
        digest = bytes({"256": 32, "384": 48, "512": 64}[algorithm.rpartition("_")[2]])
        caller.call(
            "kms",
            "sign",
            doing=f"sign with the key {name}",
            KeyId=name,
            Message=digest,
            MessageType="DIGEST",
            SigningAlgorithm=algorithm,
            DryRun=True,
        )
    except RefusedError as exc:
        if exc.code == "DryRunOperationException":
            return None
        if exc.is_denied:
            raise
        return str(exc).rstrip(".")
    except (LookupError, TypeError):
        return f"it is for {found.get('KeyUsage', 'something else')}"
    return None
