"""KMS's signatures: of a digest the signature is of that digest; keys that are off sign nothing and show nothing."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.kms.responses import KmsResponse

from gpu_ami_sandbox.aws.refusals import refuse

_HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


class SandboxKMS(KmsResponse):
    """KMS; moto takes each message for a raw one, and hashes a digest once more."""

    def sign(self) -> str:
        """Sign a message, or with ``MessageType=DIGEST`` a digest as it is; a dry run says that it would."""
        key = self._signing_key()
        algorithm = self._algorithm(key)
        message, how = self._message(algorithm)
        if self._get_param("DryRun"):
            refuse("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
        private = key.private_key.private_key
        if isinstance(private, rsa.RSAPrivateKey):
            signature = private.sign(message, _padding(algorithm), how)
        else:
            signature = private.sign(message, ec.ECDSA(how))
        encoded = base64.b64encode(signature).decode()
        return json.dumps({"KeyId": key.arn, "Signature": encoded, "SigningAlgorithm": algorithm})

    def verify(self) -> str:
        """Verify a signature of a message or of a digest."""
        key = self._signing_key()
        algorithm = self._algorithm(key)
        message, how = self._message(algorithm)
        signature, public = base64.b64decode(self._get_param("Signature")), key.private_key.private_key.public_key()
        try:
            if isinstance(public, rsa.RSAPublicKey):
                public.verify(signature, message, _padding(algorithm), how)
            else:
                public.verify(signature, message, ec.ECDSA(how))
        except InvalidSignature:
            refuse("KMSInvalidSignatureException", "")
        return json.dumps({"KeyId": key.arn, "SignatureValid": True, "SigningAlgorithm": algorithm})

    def get_public_key(self) -> str:
        """Show the public half of a key that may be used and has one."""
        key = self._usable_key()
        if key.key_spec == "SYMMETRIC_DEFAULT":
            refuse("UnsupportedOperationException", f"{key.arn} has no public half.")
        return str(super().get_public_key())

    def _usable_key(self) -> Any:
        name = self._get_param("KeyId")
        self._validate_key_id(name)
        key = self.kms_backend.describe_key(name)
        if key.key_state == "PendingDeletion":
            refuse("KMSInvalidStateException", f"{key.arn} is pending deletion.")
        if not key.enabled:
            refuse("DisabledException", f"{key.arn} is disabled.")
        return key

    def _signing_key(self) -> Any:
        key = self._usable_key()
        if key.key_usage != "SIGN_VERIFY":
            refuse("InvalidKeyUsageException", f"{key.arn} key usage is {key.key_usage} which is not valid for Sign.")
        return key

    def _algorithm(self, key: Any) -> str:
        algorithm = str(self._get_param("SigningAlgorithm"))
        if algorithm not in key.signing_algorithms:
            text = f"Algorithm {algorithm} and key spec {key.key_spec} are incompatible with each other."
            refuse("InvalidKeyUsageException", text)
        return algorithm

    def _message(self, algorithm: str) -> tuple[bytes, Any]:
        """Return what is signed, and how it is hashed: a digest is not hashed again."""
        message, how = self._get_param("Message"), _HASHES[algorithm.rpartition("_")[2]]
        if self._get_param("MessageType", "RAW") != "DIGEST":
            return message, how
        if len(message) != how.digest_size:
            refuse("ValidationException", f"Digest is invalid length for algorithm {algorithm}.")
        return message, Prehashed(how)


def _padding(algorithm: str) -> Any:
    if "PKCS1" in algorithm:
        return padding.PKCS1v15()
    scheme = _HASHES[algorithm.rpartition("_")[2]]
    return padding.PSS(mgf=padding.MGF1(scheme), salt_length=padding.PSS.DIGEST_LENGTH)
