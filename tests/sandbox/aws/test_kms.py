"""The local KMS signs what AWS signs: real Packer verifies it, and so does a library that knows nothing of moto."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tests.support.account import World

TEXT = b"DSSEv1 28 application/vnd.in-toto+json 2 {}"


def make_key(kms: Any, spec: str) -> str:
    """Return the id of a new key that signs."""
    return str(kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec=spec)["KeyMetadata"]["KeyId"])


@pytest.mark.parametrize(
    ("spec", "algorithm"),
    [
        ("ECC_NIST_P256", "ECDSA_SHA_256"),
        ("ECC_NIST_P384", "ECDSA_SHA_384"),
        ("RSA_2048", "RSASSA_PSS_SHA_256"),
        ("RSA_2048", "RSASSA_PKCS1_V1_5_SHA_512"),
    ],
)
def test_a_signature_of_a_digest_is_one_of_the_message(here: World, spec: str, algorithm: str) -> None:
    """Moto hashes the digest once more, and verifies that itself; `cryptography` signs nothing here, and would not."""
    kms = here.access.client("kms")
    key = make_key(kms, spec)
    name = algorithm.rpartition("_")[2]
    digest = hashlib.new(f"sha{name}", TEXT).digest()

    signed = kms.sign(KeyId=key, Message=digest, MessageType="DIGEST", SigningAlgorithm=algorithm)["Signature"]

    public = serialization.load_der_public_key(kms.get_public_key(KeyId=key)["PublicKey"])
    scheme = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[name]
    if isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signed, TEXT, ec.ECDSA(scheme))
    else:
        assert isinstance(public, rsa.RSAPublicKey)
        pad: Any = padding.PKCS1v15()
        if "PSS" in algorithm:
            pad = padding.PSS(mgf=padding.MGF1(scheme), salt_length=padding.PSS.DIGEST_LENGTH)
        public.verify(signed, TEXT, pad, scheme)
    given = {"KeyId": key, "Signature": signed, "SigningAlgorithm": algorithm}
    assert kms.verify(Message=digest, MessageType="DIGEST", **given)["SignatureValid"]
    assert kms.verify(Message=TEXT, **given)["SignatureValid"]
    with pytest.raises(ClientError, match="KMSInvalidSignatureException"):
        kms.verify(Message=TEXT + b" ", **given)


def test_a_key_that_is_off_signs_and_shows_nothing(here: World) -> None:
    """Else a build would sign in the sandbox with what AWS refuses; moto minds neither."""
    kms = here.access.client("kms")
    key = make_key(kms, "ECC_NIST_P256")
    sign = {"KeyId": key, "Message": TEXT, "SigningAlgorithm": "ECDSA_SHA_256"}
    with pytest.raises(ClientError, match="DryRunOperationException"):
        kms.sign(DryRun=True, **sign)

    kms.disable_key(KeyId=key)
    with pytest.raises(ClientError, match="DisabledException"):
        kms.sign(**sign)
    with pytest.raises(ClientError, match="DisabledException"):
        kms.get_public_key(KeyId=key)
    kms.schedule_key_deletion(KeyId=key)
    with pytest.raises(ClientError, match="KMSInvalidStateException"):
        kms.sign(**sign)


def test_what_does_not_fit_the_key_is_refused(here: World) -> None:
    """A digest of another length and an algorithm of another key are slips that AWS names."""
    kms = here.access.client("kms")
    key = make_key(kms, "ECC_NIST_P256")
    with pytest.raises(ClientError, match="Digest is invalid length for algorithm ECDSA_SHA_256"):
        kms.sign(KeyId=key, Message=b"short", MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256")
    with pytest.raises(ClientError, match="InvalidKeyUsageException"):
        kms.sign(KeyId=key, Message=TEXT, SigningAlgorithm="ECDSA_SHA_384")
    secret = kms.create_key()["KeyMetadata"]["KeyId"]
    with pytest.raises(ClientError, match="InvalidKeyUsageException"):
        kms.sign(KeyId=secret, Message=TEXT, SigningAlgorithm="ECDSA_SHA_256")
