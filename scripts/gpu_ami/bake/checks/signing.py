"""What signing the provenance needs, where the settings want it: a bake whose statement cannot be signed has failed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpu_ami.aws import kms
from gpu_ami.bake.checks.catalog import CheckSpec
from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.checks.lookups import Lookups
from gpu_ami.errors import UsageError
from gpu_ami.handover import attested
from gpu_ami.records.provenance import MOST_REGIONS
from gpu_ami.settings import KeylessIdentity, Provenance

NAME = "provenance"
_LARGEST_KEY_BYTES = 64 * 1024
# Of a file with several PEM blocks Packer 1.16.0 reads the first, to which `openssl ecparam -genkey` writes the curve's
# name; of private keys PKCS #8, PKCS #1 and SEC 1, and not OpenSSH's own.
_BEGINS = re.compile(rb"^-----BEGIN ([A-Z0-9 ]{1,40})-----", re.MULTILINE)
_READ = (b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY")
# Where Packer finds a token by which Sigstore knows it: its own variable, and what GitHub gives a job that may ask.
_TOKENS = ("SIGSTORE_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The provenance that the settings want.

    Attributes:
        signer: Who signs it, as the settings have it.
        root: Where a key's file is looked for.
        is_required: Whether an AMI without one is refused.
        verifiers: Whose signature counts; none where the signer's does.
    """

    signer: str
    root: Path
    is_required: bool
    verifiers: tuple[str | KeylessIdentity, ...] = ()


def wanted(given: Provenance, root: Path) -> Wanted:
    """Return what is wanted of *given*, as `attested.policy` has it; *root* is the repository."""
    return Wanted(signer=given.signer, root=root, is_required=given.required, verifiers=given.verifiers)


def specs(lookups: Lookups, wants: Wanted | None) -> Iterator[CheckSpec]:
    """Yield the checks; none where nothing is signed and a provenance can be written."""
    if wants is None:
        return
    if too_many := judge_regions(len({lookups.access.region, *lookups.variables.ami_regions}), wants):
        yield CheckSpec(f"{NAME} regions", lambda: too_many, "", needs_credentials=False)
    if unverifiable := judge_verifiers(wants):
        yield CheckSpec(f"{NAME} verifiers", lambda: unverifiable, "", needs_credentials=False)
    if (file := attested.key_file(wants.root, wants.signer)) is not None:
        yield CheckSpec(NAME, lambda: judge_file(wants.signer, file), "", needs_credentials=False)
    elif wants.signer.startswith(attested.KMS):
        allow = "kms:GetPublicKey, kms:DescribeKey and kms:Sign on the key"
        yield CheckSpec(NAME, lambda: _kms_key(lookups, wants.signer.removeprefix(attested.KMS)), allow)
    elif wants.signer == "keyless":
        yield CheckSpec(NAME, _token, "", needs_credentials=False)


def judge_regions(regions: int, wants: Wanted) -> Check | None:
    """Judge the number of regions that the AMI is made in and copied to; None where nothing is to be said."""
    if regions <= MOST_REGIONS:
        return None
    found = f"an AMI in {regions} regions gets none: Packer names its file after each, {MOST_REGIONS} fit"
    if wants.signer == "none" and not wants.is_required:
        return Check(f"{NAME} regions", "warn", found, "Copy to fewer regions with ami_regions.")
    fix = "Copy to fewer regions with ami_regions, or set provenance in pipeline.yaml to signer: none, required: false."
    return Check(f"{NAME} regions", "fail", found, fix)


def judge_verifiers(wants: Wanted) -> Check | None:
    """Judge whose signature counts, of what would refuse the AMI once it is baked; None where nothing is to be said."""
    name = f"{NAME} verifiers"
    if wants.signer == "none" and wants.verifiers:
        found = "nobody signs, and only what is signed by one of provenance.verifiers is handed over"
        fix = "Name who signs in provenance.signer of pipeline.yaml, or leave verifiers out."
        return Check(name, "fail", found, fix)
    if wants.signer == "keyless" and not any(isinstance(one, KeylessIdentity) for one in wants.verifiers):
        fix = "Name the workflow's identity in provenance.verifiers of pipeline.yaml."
        return Check(name, "fail", "who may sign without a key is not said", fix)
    for verifier in wants.verifiers:
        if isinstance(verifier, KeylessIdentity) or verifier.startswith(attested.KMS):
            continue
        try:
            attested.public_key(wants.root, verifier)
        except UsageError as exc:
            return Check(name, "fail", str(exc).rstrip("."), "Correct provenance.verifiers of pipeline.yaml.")
    return None


def judge_file(named: str, path: Path) -> Check:
    """Judge the file *path* of a private key, of which nothing but its name is shown: whether Packer reads its kind."""
    fix = "Name a private key's PEM file, without a passphrase, in provenance.signer of pipeline.yaml."
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_KEY_BYTES)
    except OSError as exc:
        return Check(NAME, "fail", f"the signer's key {named} cannot be read: {exc.strerror}", fix)
    if b"ENCRYPTED" in content:
        return Check(NAME, "fail", f"the signer's key {named} has a passphrase, for which Packer cannot ask", fix)
    if b"PRIVATE KEY-----" not in content:
        return Check(NAME, "fail", f"{named} holds no private key", fix)
    first = _BEGINS.search(content)
    if first is None or first[1] not in _READ:
        begins = first[1].decode() if first else "no PEM block"
        how = f"{fix} `openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW` makes one."
        return Check(NAME, "fail", f"{named} begins with {begins}, and Packer reads the first block", how)
    return Check(NAME, "ok", f"signed with the key in {named}")


def _token() -> Check:
    if any(os.environ.get(name) for name in _TOKENS):
        return Check(NAME, "ok", "signed without a key, by the identity of this job")
    fix = "Build with the workflow, or name a key in provenance.signer of pipeline.yaml."
    return Check(NAME, "fail", "nothing here says who signs without a key: GitHub gives its jobs a token for it", fix)


def _kms_key(lookups: Lookups, name: str) -> Check:
    if problem := kms.why_not_signing(lookups.caller, name):
        fix = "Name a key that signs in provenance.signer of pipeline.yaml."
        return Check(NAME, "fail", f"the key {name} signs nothing: {problem}", fix)
    return Check(NAME, "ok", f"signed by KMS with {name}")
