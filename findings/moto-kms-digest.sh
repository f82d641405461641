#!/usr/bin/env bash
# Signs a SHA-256 digest with moto's KMS (MessageType DIGEST) and checks the signature with cryptography.
set -euo pipefail

unset AWS_PROFILE AWS_ENDPOINT_URL
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check 'moto[kms]==5.2.5' boto3==1.44.8 botocore==1.44.8
"$work/venv/bin/python" - <<'PY'
import hashlib
import sys

import boto3
import moto
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

message = b'{"ami": "ami-0abc"}'
digest = hashlib.sha256(message).digest()
how = {"SigningAlgorithm": "ECDSA_SHA_256"}
with moto.mock_aws():
    kms = boto3.client("kms", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    key = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"]
    signature = kms.sign(KeyId=key, Message=digest, MessageType="DIGEST", **how)["Signature"]
    public = load_der_public_key(kms.get_public_key(KeyId=key)["PublicKey"])


def signed(content):
    try:
        public.verify(signature, content, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


print(f"moto {moto.__version__}")
print("a good guess: the signature of the digest holds for the message, as AWS documents MessageType DIGEST")
print(f"seen: holds for the message {signed(message)}; for the digest taken as a message {signed(digest)}")
if signed(message) or not signed(digest):
    sys.exit("the behaviour has changed: moto no longer hashes a digest once more")
PY
