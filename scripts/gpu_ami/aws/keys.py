"""The KMS key that encrypts the builder's volume and the AMI's snapshot."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_ami.aws.access import Access, aws_errors, error_code


@dataclass(frozen=True)
class Key:
    """A KMS key.

    Attributes:
        arn: Its ARN.
        state: ``Enabled``, ``Disabled``, ``PendingDeletion``, …
        usage: ``ENCRYPT_DECRYPT`` or ``SIGN_VERIFY``, …
        spec: ``SYMMETRIC_DEFAULT`` or an asymmetric one.
        is_amazons: Whether AWS manages it; such a key cannot be shared with other accounts.
    """

    arn: str
    state: str
    usage: str
    spec: str
    is_amazons: bool


def key(access: Access, name: str) -> Key | None:
    """Return the key that an id, alias or ARN names; None when there is none.

    Raises:
        AwsError: KMS refused for another reason.
    """
    client = access.client("kms")
    with aws_errors(f"look up the key {name}"):
        try:
            found = client.describe_key(KeyId=name)["KeyMetadata"]
        except client.exceptions.ClientError as exc:
            if error_code(exc) in {"NotFoundException", "InvalidArnException"}:
                return None
            raise
    return Key(
        arn=found["Arn"],
        state=found["KeyState"],
        usage=found.get("KeyUsage") or "ENCRYPT_DECRYPT",
        spec=found.get("KeySpec", "SYMMETRIC_DEFAULT"),
        is_amazons=found.get("KeyManager") == "AWS",
    )
