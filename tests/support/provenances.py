"""Provenances as Packer writes and verifies them; only the program is made up, the signatures are real.

`tests/e2e/test_provenance.py` holds the texts of this Packer to the real one's.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gpu_ami import tools
from gpu_ami.handover import attested
from gpu_ami.handover.build_store import BuildStore
from gpu_ami.process import Command, Finished
from gpu_ami.records import provenance
from gpu_ami.tools.tool import Tool
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from tests.support.account import REGION, World

TYPE = "application/vnd.in-toto+json"
DIGEST = "sha256:" + "a" * 64
# What a bake tags an AMI with, as far as its provenance repeats it.
TAGS: Mapping[str, str] = {
    "gpu-ami:run": "20261130T120000Z-abc123",
    "gpu-ami:source-ami": "ami-0123456789abcdef0",
    "gpu-ami:source-ami-name": "al2023-ami-ecs-gpu",
    "gpu-ami:image-digest": DIGEST,
    "gpu-ami:models-digest": "sha256:" + "b" * 64,
    "gpu-ami:pipeline-version": "0.1.0",
    "gpu-ami:git-commit": "0123456789012345678901234567890123456789",
    "gpu-ami:fingerprint-scripts": "0123456789abcdef0123456789abcdef",
    "gpu-ami:fingerprint-base": "ami-0123456789abcdef0",
}
PAIRS = {name: tag for name, tag in provenance._TAGS.items() if name != "family"}


def said(tags: Mapping[str, str] = TAGS, **changed: str) -> dict[str, str]:
    """Return what the template writes down of a bake with these *tags*."""
    found = {name: tags[tag] for name, tag in PAIRS.items()}
    prefix = "gpu-ami:fingerprint-"
    found |= {f"fingerprint_{tag.removeprefix(prefix)}": tags[tag] for tag in tags if tag.startswith(prefix)}
    return {**found, "family": "gpu-batch", "release_sha256": "c" * 64, "sandbox": "false", **changed}


def statement(amis: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, Any]:
    """Return Packer's statement about *amis*, region to id."""
    pairs = ",".join(f"{region}:{ami}" for region, ami in sorted(amis.items()))
    record = json.dumps({"builderId": "mitchellh.amazonebs", "id": pairs}, separators=(",", ":")).encode()
    byproduct = {"name": "cloud-artifact-identity", "content": base64.b64encode(record).decode()}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": f"mitchellh.amazonebs:{pairs}", "digest": {"sha256": hashlib.sha256(record).hexdigest()}}],
        "predicateType": provenance.PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": "https://packer.io/buildtypes/hcl2/v1",
                "externalParameters": {"userVariables": dict(variables)},
            },
            "runDetails": {"builder": {"id": "https://packer.io/local-build"}, "byproducts": [byproduct]},
        },
    }


def pae(payload: bytes) -> bytes:
    """Return what DSSE signs of *payload*."""
    return b"DSSEv1 %d %s %d %s" % (len(TYPE), TYPE.encode(), len(payload), payload)


def envelope(content: Mapping[str, Any], key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return *content* signed with *key*, as Packer lays it out."""
    payload = json.dumps(content, separators=(",", ":")).encode()
    signature = key.sign(pae(payload), ec.ECDSA(hashes.SHA256()))
    signatures = [{"keyid": "0" * 64, "sig": base64.b64encode(signature).decode()}]
    document = {"payloadType": TYPE, "payload": base64.b64encode(payload).decode(), "signatures": signatures}
    return json.dumps(document, indent=2).encode()


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return *key* as a file."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public half of *key* as a file."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def prove(
    root: Path,
    image: SandboxAmi,
    key: ec.EllipticCurvePrivateKey | None = None,
    *,
    region: str = REGION,
    **changed: str,
) -> Path:
    """Tag *image* as a bake does and leave its provenance where a hand-over does; return the file."""
    image.add_tags(dict(TAGS))
    content = statement({region: str(image.id)}, said() | changed)
    data = json.dumps(content, indent=2).encode() if key is None else envelope(content, key)
    path = provenance.path_of(root / "terraform", str(image.id))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    image.add_tags({"gpu-ami:provenance": provenance.digest(data)})
    return path


@dataclass
class FakePacker:
    """``packer verify-attestation`` with keys in files; of a KMS key it says what *kms* is.

    Attributes:
        kms: What it says of every key in KMS.
        commands: What it was called with.
    """

    kms: str = 'load KMS public key "awskms:///alias/x": operation error KMS: GetPublicKey, AccessDeniedException'
    commands: list[Command] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakePacker:
        """Put it in the real one's place, where provenance is verified."""
        monkeypatch.setattr(tools, "packer_program", lambda: Tool("packer", "1.16.0", Path("packer"), "PATH"))
        monkeypatch.setattr(attested, "process", _Process(self))
        return self

    def run(self, command: Command, *, timeout_s: float | None = None) -> Finished:
        """Verify, as it does."""
        self.commands.append(command)
        program, task, *flags, file = command.argv
        assert (program, task) == ("packer", "verify-attestation")
        given = dict(flag.lstrip("-").split("=", 1) for flag in flags)
        assert given["predicate-type"] == provenance.PREDICATE
        problem = self._problem(given, Path(file))
        return Finished(1, "", problem) if problem else Finished(0, "Attestation verified.", "")

    def _problem(self, given: Mapping[str, str], file: Path) -> str:
        if given["signing-mode"] == "kms":
            return self.kms
        name = given.get("verifier") or given["key"]
        content = Path(name).read_bytes()
        document = json.loads(file.read_bytes())
        assert set(document) == {"payloadType", "payload", "signatures"}
        try:
            public: Any = serialization.load_pem_private_key(content, None).public_key()
        except ValueError:
            try:
                public = serialization.load_pem_public_key(content)
            except ValueError:
                return f'load verifier "{name}": unsupported PEM verifier data'
        for one in document["signatures"]:
            try:
                if isinstance(public, ec.EllipticCurvePublicKey):
                    payload = base64.b64decode(document["payload"])
                    public.verify(base64.b64decode(one["sig"]), pae(payload), ec.ECDSA(hashes.SHA256()))
                    return ""
            except InvalidSignature:
                pass
        return f'verify attestation envelope "{file}": signature verification failed'


@dataclass(frozen=True)
class _Process:
    """`process`, as the judge uses it."""

    packer: FakePacker

    def run(self, command: Command, *, timeout_s: float | None = None) -> Finished:
        """Run *command*."""
        return self.packer.run(command, timeout_s=timeout_s)


def bucket_store(here: World, root: Path) -> BuildStore:
    """Let Terraform in *root* be connected to a state in S3; return the archives of builds beside that."""
    here.access.client("s3").create_bucket(
        Bucket="states", CreateBucketConfiguration={"LocationConstraint": here.access.region}
    )
    file = root / "terraform/.terraform/terraform.tfstate"
    file.parent.mkdir(parents=True, exist_ok=True)
    config = {"bucket": "states", "key": "gpu/terraform.tfstate", "region": here.access.region}
    file.write_text(json.dumps({"version": 3, "backend": {"type": "s3", "config": config}}))
    return BuildStore(root / "packer/builds", root / "terraform", here.access)
