"""A signed build with the real Packer, tampered with in turn; KMS, whose signatures an independent library reads."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gpu_ami import process
from gpu_ami.bake import manifest
from gpu_ami.bake.result import BuildResult
from gpu_ami.deploy import apply
from gpu_ami.errors import AwsError, PipelineError, SafetyError, UsageError
from gpu_ami.handover import attested, publish, update_tfvars
from gpu_ami.process import Command
from gpu_ami.records import provenance
from gpu_ami.settings import Provenance, Settings
from gpu_ami.tools import packer_program
from tests.e2e.inprocess import Bench, bench
from tests.support.provenances import FakePacker, envelope, pae, private_pem, public_pem, said, statement

KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
VERIFIERS = ("keys/new.pub.pem", "keys/old.pub.pem")
ALIAS = "alias/gpu-ami-provenance"


@dataclass
class Signed:
    """A build that was signed.

    Attributes:
        here: Where.
        built: What it made.
        file: Its provenance, beside Terraform's code.
        kept: The same in the archive.
    """

    here: Bench
    built: BuildResult
    file: Path
    kept: Path

    def settings(self, **changed: object) -> Settings:
        """Return the settings with other ones of the provenance."""
        import msgspec

        whole = msgspec.structs.replace(self.here.run.settings.provenance, **changed)
        return msgspec.structs.replace(self.here.run.settings, provenance=whole)


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signed]:
    """One build, signed with the key that is named last among the verifiers: the other one is older."""
    with bench(tmp_path_factory.mktemp("signed") / "checkout", root_module=True) as here:
        root = here.run.workspace.root
        (root / "keys").mkdir()
        files = {"new.pem": private_pem(KEY), "new.pub.pem": public_pem(KEY), "old.pub.pem": public_pem(OTHER_KEY)}
        for name, content in files.items():
            (root / "keys" / name).write_bytes(content)
        settings = root / "pipeline.yaml"
        of_it = f"provenance: {{signer: keys/new.pem, verifiers: [{', '.join(VERIFIERS[::-1])}], required: true}}\n"
        before, _, after = settings.read_text().partition("provenance:\n")
        settings.write_text(before + of_it + after.partition("\n\n")[2])
        built = here.build()
        workspace = here.run.workspace
        file = provenance.path_of(workspace.terraform, built.ami_id)
        yield Signed(here, built, file, workspace.builds / built.ami_id / "provenance.json")


def test_a_build_is_signed_and_kept_where_it_is_looked_for(signed: Signed) -> None:
    """The tag holds the file's SHA-256, its archive the same bytes, and a library that is not Packer reads it."""
    here, built = signed.here, signed.built
    data = signed.file.read_bytes()
    (row,) = here.access.client("ec2").describe_images(ImageIds=[built.ami_id])["Images"]
    tags = {tag["Key"]: tag["Value"] for tag in row["Tags"]}

    assert signed.kept.read_bytes() == data
    assert tags["gpu-ami:provenance"] == provenance.digest(data)
    assert f"The provenance of {built.ami_id} is verified: " in here.said
    document = json.loads(data)
    payload = base64.b64decode(document["payload"])
    KEY.public_key().verify(base64.b64decode(document["signatures"][0]["sig"]), pae(payload), ec.ECDSA(hashes.SHA256()))
    found = provenance.parse(data, source="it")
    assert found.amis == built.amis
    assert set(found.said) >= {*said(), "image_repository"}
    release = (signed.kept.parent / "release.json").read_bytes()
    assert found.said["release_sha256"] == provenance.digest(release)
    assert found.said["models_digest"] == tags["gpu-ami:models-digest"] == json.loads(release)["models"]["digest"]


def test_the_key_is_nowhere_but_in_its_file(signed: Signed) -> None:
    """Not in a log, in the image, in what a build leaves, or in what it said."""
    root = signed.here.run.workspace.root
    secret = b"".join(private_pem(KEY).splitlines()[1:2])
    assert secret.decode() not in signed.here.said
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and path != root / "keys/new.pem":
            assert secret not in path.read_bytes(), path


def _byte(signed: Signed) -> Callable[[], object]:
    data = signed.file.read_bytes()
    at = data.index(b'"sig": "') + 12
    signed.file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    return lambda: signed.file.write_bytes(data)


def _tag(signed: Signed) -> Callable[[], object]:
    ec2, name = signed.here.access.client("ec2"), "gpu-ami:run"
    (tag,) = ec2.describe_tags(
        Filters=[{"Name": "key", "Values": [name]}, {"Name": "resource-id", "Values": [signed.built.ami_id]}]
    )["Tags"]

    def put(value: str) -> None:
        ec2.create_tags(Resources=[signed.built.ami_id], Tags=[{"Key": name, "Value": value}])

    put("20260101T000000Z-000000")
    return lambda: put(tag["Value"])


def _record(signed: Signed) -> Callable[[], object]:
    file = signed.kept.parent / "release.json"
    text = file.read_text()
    file.write_text(text.replace('"nvidia_driver": "', '"nvidia_driver": "9', 1))
    return lambda: file.write_text(text)


def _gone(signed: Signed) -> Callable[[], object]:
    data = signed.file.read_bytes()
    signed.file.unlink()
    signed.kept.unlink()

    def back() -> None:
        signed.file.write_bytes(data)
        signed.kept.write_bytes(data)

    return back


@pytest.mark.parametrize(
    ("tamper", "why"),
    [
        (_byte, "was altered"),
        (_tag, "is of the build .* and gpu-ami:run is 20260101T000000Z-000000"),
        (_record, "the archive's release record is another one"),
        (_gone, "names a file that is nowhere"),
    ],
    ids=["a byte", "a tag", "the release record", "deleted"],
)
def test_what_was_tampered_with_is_not_handed_over(
    signed: Signed, tamper: Callable[[Signed], Callable[[], object]], why: str
) -> None:
    """Neither to Terraform nor to SSM, whose paths share the judge; as it was, both take it."""
    run, ami = signed.here.run, signed.built.ami_id
    tfvars = run.workspace.terraform / "gpu-ami.auto.tfvars.json"
    tfvars.unlink(missing_ok=True)
    restore = tamper(signed)
    try:
        with pytest.raises(SafetyError, match=f"The provenance of {ami} is refused: .*{why}"):
            update_tfvars.run(run, update_tfvars.Request())
        with pytest.raises(SafetyError, match=why):
            publish.run(run, publish.Request())
        assert not tfvars.exists()
    finally:
        restore()
    update_tfvars.run(run, update_tfvars.Request())
    assert ami in tfvars.read_text()
    publish.run(run, publish.Request())


def test_terraform_does_not_apply_what_was_tampered_with(signed: Signed) -> None:
    """The real plan moves the environments to it, and nothing of that happens."""
    update_tfvars.run(signed.here.run, update_tfvars.Request())
    restore = _byte(signed)
    try:
        with pytest.raises(SafetyError, match=r"was altered.* Nothing was applied"):
            apply.run(signed.here.run, apply.Request(variables=("create_job_queue=false",)))
    finally:
        restore()
    assert not list((signed.here.run.workspace.terraform / "receipts").glob("*"))


def test_the_manifest_says_that_there_is_a_provenance(signed: Signed, capsys: pytest.CaptureFixture[str]) -> None:
    """It looks into the tree alone: signed, by whom is another question."""
    manifest.run(signed.here.run, manifest.Request())

    (build,) = json.loads(capsys.readouterr().out)
    assert build["provenance"] == {"state": "signed", "detail": ""}


TEMPLATE = """
variable "signer" { type = string }
source "null" "gpu" { communicator = "none" }
build {
  sources = ["source.null.gpu"]
  post-processor "provenance" {
    output_dir     = "out"
    signing_mode   = "kms"
    signer         = var.signer
    user_variables = { own = "own" }
  }
}
"""


def _kms_key(here: Bench, alias: str, spec: str = "ECC_NIST_P256") -> str:
    kms = here.access.client("kms")
    key = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec=spec)["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName=alias, TargetKeyId=key)
    return str(key)


def test_the_local_kms_signs_and_verifies_with_the_real_packer(signed: Signed, tmp_path: Path) -> None:
    """Packer refuses its own signature where a digest is hashed twice. Its envelope also holds each PKR_VAR_… there is.

    That is why a build takes those of no variable of the template out of Packer's environment.
    """
    here = signed.here
    key, other = _kms_key(here, ALIAS), _kms_key(here, "alias/other", "ECC_NIST_P384")
    (tmp_path / "t.pkr.hcl").write_text(TEMPLATE)
    environment = here.access.child_environment({"CHECKPOINT_DISABLE": "1", "PKR_VAR_stranger": "s3cret"})
    packer = str(packer_program().path)

    done = process.run(Command((packer, "build", f"-var=signer=awskms:///{ALIAS}", "."), tmp_path, environment))

    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = (tmp_path / "out").iterdir()
    document = json.loads(file.read_bytes())
    payload = base64.b64decode(document["payload"])
    public = serialization.load_der_public_key(here.access.client("kms").get_public_key(KeyId=key)["PublicKey"])
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(base64.b64decode(document["signatures"][0]["sig"]), pae(payload), ec.ECDSA(hashes.SHA256()))
    variables = json.loads(payload)["predicate"]["buildDefinition"]["externalParameters"]["userVariables"]
    assert variables == {"own": "own", "stranger": "s3cret"}

    def problem(uri: str) -> str:
        verifier = attested._of_kms(uri)
        return attested._verify(here.run, file, verifier)

    assert problem(f"awskms:///{ALIAS}") == ""
    assert problem("awskms:///alias/other").endswith("signature verification failed")
    here.access.client("kms").disable_key(KeyId=other)
    assert "KMS" in problem("awskms:///alias/other")
    assert "DisabledException" in problem("awskms:///alias/other")


def test_the_tests_packer_says_what_the_real_one_says(signed: Signed, tmp_path: Path) -> None:
    """The unit tests verify with a made-up program: its answers are the real one's, to the letter that is relied on."""
    file, broken = tmp_path / "provenance.json", tmp_path / "broken.pem"
    file.write_bytes(envelope(statement({"ap-northeast-2": signed.built.ami_id}, said()), KEY))
    broken.write_text("-----BEGIN PUBLIC KEY-----\nc2VjcmV0\n-----END PUBLIC KEY-----\n")
    keys = signed.here.run.workspace.root / "keys"
    flags = ("-signing-mode=key", f"-predicate-type={provenance.PREDICATE}")

    for name, says in ((keys / "new.pub.pem", ""), (keys / "old.pub.pem", "another"), (broken, "broken")):
        command = Command((str(packer_program().path), "verify-attestation", *flags, f"-verifier={name}", str(file)))
        real, ours = process.run(command), FakePacker().run(Command(("packer", *command.argv[1:])))
        assert (real.returncode, real.last_line) == (ours.returncode, ours.last_line), says


def test_kms_that_refuses_is_named_with_aws_and_a_private_verifier_with_the_settings(signed: Signed) -> None:
    """The exit code says whose fault it is, and nothing is handed over in either case."""
    run = signed.here.run
    cases: list[tuple[Provenance, type[PipelineError], str]] = [
        (
            Provenance(verifiers=("awskms:///alias/nowhere",)),
            AwsError,
            r"NotFoundException: Alias .* is not found\.$",
        ),
        (Provenance(verifiers=("keys/new.pem",)), UsageError, "is a private key"),
    ]
    whole = run.settings
    for given, error, why in cases:
        run.__dict__["settings"] = signed.settings(verifiers=given.verifiers)
        try:
            with pytest.raises(error, match=why):
                update_tfvars.run(run, update_tfvars.Request())
        finally:
            run.__dict__["settings"] = whole
