"""Judges the KMS key that encrypts the builder's volume and the AMI's snapshots."""

from __future__ import annotations

from gpu_ami.aws.kms import Key
from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.variables import BuildVariables


def key(variables: BuildVariables, found: Key | None) -> Check:
    """Judge the key that encrypts the volume and the snapshot."""
    name = "encryption key"
    if not variables.kms_key_id:
        return Check(name, "ok", "the account's default EBS key")
    if found is None:
        return Check(
            name, "fail", f"KMS has no key {variables.kms_key_id}", "Fix kms_key_id: a key id, alias/NAME or an ARN."
        )
    if found.state != "Enabled":
        return Check(name, "fail", f"{found.arn} is {found.state}", "Enable the key, or name another in kms_key_id.")
    if found.usage != "ENCRYPT_DECRYPT" or found.spec != "SYMMETRIC_DEFAULT":
        return Check(
            name, "fail", f"{found.arn} is for {found.usage} ({found.spec})", "EBS needs a symmetric encryption key."
        )
    if variables.is_shared and found.is_amazons:
        return Check(
            name,
            "fail",
            f"{found.arn} is AWS's own: nobody else can be given it, so the AMI cannot be shared",
            "Name a customer-managed key in kms_key_id.",
        )
    if found.lets_auto_scaling is False:
        return Check(
            name,
            "warn",
            f"{found.arn} does not name Auto Scaling's role: the bake works, but Batch starts no instance of the AMI",
            "Add the two statements of docs/troubleshooting.md, 19, to the key's policy.",
        )
    return Check(name, "ok", found.arn)
