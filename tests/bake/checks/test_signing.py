"""What signing needs is checked before anything is paid for; a private key is looked at, and never shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gpu_ami.bake import preflight
from gpu_ami.bake.checks import signing
from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.checks.lookups import Lookups
from gpu_ami.bake.checks.signing import Wanted, judge_file, judge_regions, wanted
from gpu_ami.bake.variables import typed
from gpu_ami.settings import KeylessIdentity, Provenance
from tests.bake.conftest import World
from tests.support.provenances import private_pem, public_pem
from tests.support.schemas import problems

KEY = ec.generate_private_key(ec.SECP256R1())


WORKFLOW = KeylessIdentity(identity="https://github.com/o/r/.github/workflows/build-ami.yml@refs/heads/main")


def of(
    account: World,
    signer: str,
    *regions: str,
    access: Any = None,
    root: Path = Path(),
    verifiers: tuple[Any, ...] = (),
) -> dict[str, Check]:
    """Return what the checks find in the account."""
    lookups = Lookups(access or account.access, typed({"ami_regions": list(regions)}))
    wants = wanted(Provenance(signer=signer, verifiers=verifiers), root)
    found = [check for spec in signing.specs(lookups, wants) for check in preflight._run(spec)]
    assert problems("doctor", [check.document() for check in found]) == []
    return {check.check: check for check in found}


def test_an_unsigned_statement_needs_nothing(world: World) -> None:
    """The default asks nobody, and `doctor` says nothing of it."""
    before = len(world.aws.gate.calls)

    assert of(world, "none") == {}
    assert len(world.aws.gate.calls) == before


def test_a_key_in_kms_is_tried_without_signing(world: World) -> None:
    """One that is off, is for something else, or may not be used fails the bake at its very end."""
    kms = world.client("kms")

    def make(**more: Any) -> str:
        return str(kms.create_key(**more)["KeyMetadata"]["KeyId"])

    good, secret = (
        make(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P384"),
        make(KeyUsage="ENCRYPT_DECRYPT", KeySpec="RSA_2048"),
    )
    kms.create_alias(AliasName="alias/good", TargetKeyId=good)

    assert of(world, "awskms:///alias/good")["provenance"] == Check("provenance", "ok", "signed by KMS with alias/good")
    assert "ENCRYPT_DECRYPT" in of(world, f"awskms:///{secret}")["provenance"].detail
    assert "UnsupportedOperationException" in of(world, f"awskms:///{make()}")["provenance"].detail
    gone = of(world, "awskms:///alias/gone")["provenance"]
    assert (gone.status, gone.is_blocking) == ("fail", True)
    assert "NotFoundException" in gone.detail
    kms.disable_key(KeyId=good)
    assert "DisabledException" in of(world, "awskms:///alias/good")["provenance"].detail
    denied = world.as_role({"Effect": "Allow", "Action": "ec2:*", "Resource": "*"})
    refused = of(world, "awskms:///alias/good", access=denied)["provenance"]
    assert refused.status == "fail"
    assert "allow kms:GetPublicKey, kms:DescribeKey and kms:Sign on the key" in refused.fix


def encrypted_pem() -> bytes:
    """Return a key with a passphrase."""
    form, lock = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    return KEY.private_bytes(serialization.Encoding.PEM, form, lock)


@pytest.mark.parametrize(
    ("content", "status", "why"),
    [
        (private_pem(KEY), "ok", "signed with the key in key.pem"),
        (None, "fail", "the signer's key key.pem cannot be read: No such file or directory"),
        (encrypted_pem(), "fail", "the signer's key key.pem has a passphrase, for which Packer cannot ask"),
        (public_pem(KEY), "fail", "key.pem holds no private key"),
        (b"", "fail", "key.pem holds no private key"),
        (
            b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + private_pem(KEY),
            "fail",
            "key.pem begins with EC PARAMETERS, and Packer reads the first block",
        ),
        (
            private_pem(KEY).replace(b" PRIVATE", b" OPENSSH PRIVATE"),
            "fail",
            "key.pem begins with OPENSSH PRIVATE KEY, and Packer reads the first block",
        ),
        (b"Bag Attributes: none\n" + private_pem(KEY), "ok", "signed with the key in key.pem"),
    ],
    ids=["good", "missing", "with a passphrase", "public", "empty", "of ecparam", "of ssh-keygen", "of pkcs12"],
)
def test_a_key_in_a_file_is_one_that_packer_reads(tmp_path: Path, content: bytes | None, status: str, why: str) -> None:
    """Its kind is told by its first line; what it holds is in no message."""
    if content is not None:
        (tmp_path / "key.pem").write_bytes(content)

    found = judge_file("key.pem", tmp_path / "key.pem")

    assert (found.check, found.status, found.detail) == ("provenance", status, why)
    assert private_pem(KEY).decode().splitlines()[1] not in found.detail + found.fix


def test_keyless_works_where_something_says_who_signs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On GitHub alone, and there only in a job that may ask for a token."""
    for name in ("SIGSTORE_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL"):
        monkeypatch.delenv(name, raising=False)
    assert of(world, "keyless")["provenance"].status == "fail"
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", "https://token")
    assert of(world, "keyless")["provenance"].status == "ok"


def test_more_regions_than_packers_file_names_are_said_before_the_bake(world: World) -> None:
    """Packer would fail after it: nothing is signed then, and an unsigned one is only missing."""
    regions = ("us-east-1", "us-east-2", "us-west-1", "us-west-2", "eu-west-1")
    assert of(world, "none", *regions[:4]) == {}
    assert of(world, "none", *regions)["provenance regions"].status == "warn"
    many = judge_regions(6, Wanted(signer="none", root=Path(), is_required=True))
    assert many is not None
    assert (many.status, many.detail.startswith("an AMI in 6 regions gets none")) == ("fail", True)


@pytest.mark.parametrize(
    ("signer", "verifiers", "why"),
    [
        ("none", ("key.pub.pem",), "nobody signs"),
        ("keyless", ("key.pub.pem",), "who may sign without a key is not said"),
        ("key.pem", ("key.pub.pem", "gone.pem"), r"gone\.pem, .* cannot be read: No such file"),
        ("key.pem", ("key.pem",), r"key\.pem, .* is a private key"),
        ("key.pem", ("awskms:///alias/x", WORKFLOW, "key.pub.pem"), None),
        ("keyless", (WORKFLOW,), None),
    ],
)
def test_whose_signature_counts_is_looked_at_before_the_bake(
    world: World, tmp_path: Path, signer: str, verifiers: tuple[Any, ...], why: str | None
) -> None:
    """What the hand-over would refuse for its settings is known before anything is paid for."""
    (tmp_path / "key.pem").write_bytes(private_pem(KEY))
    (tmp_path / "key.pub.pem").write_bytes(public_pem(KEY))

    found = of(world, signer, root=tmp_path, verifiers=verifiers).get("provenance verifiers")

    if why is None:
        assert found is None
    else:
        assert found is not None
        assert found.status == "fail"
        assert re.search(why, found.detail)
        assert private_pem(KEY).decode().splitlines()[1] not in found.detail + found.fix
