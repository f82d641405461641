"""The judge of an AMI's provenance, on each path to production: with the AMI in AWS, and the signatures real."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gpu_ami.aws import images
from gpu_ami.aws.caller import Caller
from gpu_ami.deploy import apply, proven, rollback
from gpu_ami.errors import AwsError, PipelineError, SafetyError, UsageError
from gpu_ami.handover import attested, publish, update_tfvars
from gpu_ami.handover.attested import Verdict
from gpu_ami.process import Command, Finished
from gpu_ami.records import archive, provenance
from gpu_ami.settings import KeylessIdentity, Provenance
from gpu_ami.terraform import plan_changes
from gpu_ami_sandbox.aws import ssm
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from tests.support import plans
from tests.support.account import OTHER_REGION, REGION, Task, World, other_region, task
from tests.support.fake_terraform import FakeTerraform
from tests.support.provenances import FakePacker, bucket_store, private_pem, prove, public_pem, said, statement

KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


@pytest.fixture
def packer(monkeypatch: pytest.MonkeyPatch) -> FakePacker:
    """The program that verifies signatures."""
    return FakePacker().install(monkeypatch)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with keys in it."""
    (tmp_path / "keys").mkdir()
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    files = {
        "new.pub.pem": public_pem(KEY),
        "old.pub.pem": public_pem(OTHER_KEY),
        "new.pem": private_pem(KEY),
        "rsa.pub.pem": rsa_key.public_bytes(serialization.Encoding.PEM, form),
        "broken.pem": b"-----BEGIN PUBLIC KEY-----\nc2VjcmV0\n-----END PUBLIC KEY-----\n",
        "text.pem": b"a key",
    }
    for name, content in files.items():
        (tmp_path / "keys" / name).write_bytes(content)
    return tmp_path


def judge(here: World, root: Path, ami: SandboxAmi, *verifiers: Any, region: str = REGION, **more: Any) -> Verdict:
    """Judge *ami*; the signature of one of *verifiers* counts."""
    done = task(here, root, provenance=Provenance(verifiers=verifiers, **more))
    (verdict,) = attested.check(done.run, {region: str(ami.id)})
    return verdict


def test_without_a_tag_an_ami_passes_unless_one_is_required(here: World, root: Path, packer: FakePacker) -> None:
    """AMIs of before there was provenance go on; where it is required, the line says how one of them still may."""
    ami = here.image(5)

    assert judge(here, root, ami, "keys/new.pub.pem").state == "none"
    with pytest.raises(SafetyError, match=rf"{ami.id} is refused: it has none .*provenance.required: true") as refused:
        judge(here, root, ami, required=True)
    assert refused.value.exit_code == 8
    assert packer.commands == []


def test_an_ami_that_has_lost_its_tag_is_refused(here: World, root: Path) -> None:
    """Else it would be enough to take the tag away."""
    ami = here.image(5)
    path = prove(root, ami)
    del here.maker.ec2.tags[ami.id]["gpu-ami:provenance"]

    with pytest.raises(SafetyError, match=f"there is terraform/provenance/{ami.id}.json, but the AMI has no tag"):
        judge(here, root, ami)
    path.unlink()
    archive.keep(root / "packer/builds", str(ami.id), {archive.PROVENANCE: "{}"})
    with pytest.raises(SafetyError, match="there is packer/builds/"):
        judge(here, root, ami)


def test_an_ami_that_has_lost_its_tag_is_refused_where_only_the_bucket_has_its_file(here: World, root: Path) -> None:
    """The runner that baked it is gone with its tree, and EC2 had refused the tag: a person's machine let it pass."""
    ami, old = here.image(5), here.image(9)
    data = prove(root, ami)
    store = bucket_store(here, root)
    store.share(str(ami.id), {archive.PROVENANCE: data.read_text()})
    store.share(str(old.id), {archive.RELEASE: "{}"})
    data.unlink()
    del here.maker.ec2.tags[ami.id]["gpu-ami:provenance"]

    with pytest.raises(SafetyError, match=rf"there is s3://states/gpu/builds/{ami.id}/provenance\.json, but the AMI"):
        judge(here, root, ami)
    assert judge(here, root, old).state == "none"
    # A copy's lies under the AMI that it was made from, beside those that are other builds'.
    old.source_image_id = str(ami.id)
    assert judge(here, root, old).state == "none"
    store.share(str(ami.id), {archive.PROVENANCE: json.dumps(statement({REGION: str(old.id)}, said()))})
    with pytest.raises(SafetyError, match=f"there is s3://.*/{ami.id}/"):
        judge(here, root, old)
    # Who may not read there has AMIs of before there was provenance, too.
    here.aws.gate.deny("s3:*")
    done = task(here, root)
    assert [verdict.state for verdict in attested.check(done.run, {REGION: str(ami.id)})] == ["none"]
    assert f"Whether {ami.id}, which has no tag gpu-ami:provenance, had a provenance" in done.err.getvalue()
    here.aws.gate.clear()
    here.aws.gate.fail("NoSuchBucket", service="s3", status=404)
    with pytest.raises(AwsError, match="NoSuchBucket"):
        judge(here, root, ami)


def test_an_unsigned_statement_is_compared_and_no_more(here: World, root: Path, packer: FakePacker) -> None:
    """The default: it is written, held to the tags, and called what it is; required asks for no signature."""
    ami = here.image(5)
    prove(root, ami)

    assert judge(here, root, ami, required=True).state == "unsigned"
    assert packer.commands == []
    with pytest.raises(SafetyError, match=r"is not signed, and pipeline\.yaml says under provenance whose signature"):
        judge(here, root, ami, "keys/new.pub.pem")


def test_any_one_of_the_verifiers_is_enough(here: World, root: Path, packer: FakePacker) -> None:
    """After a rotation the envelopes of the old key still verify; a key in KMS that cannot be asked is no obstacle."""
    ami = here.image(5)
    prove(root, ami, OTHER_KEY)
    rotated = ("keys/new.pub.pem", "awskms:///alias/x", "keys/old.pub.pem")

    verdict = judge(here, root, ami, *rotated)

    assert (verdict.state, verdict.detail) == ("verified", "keys/old.pub.pem")
    assert verdict.document() == {"state": "verified", "detail": "keys/old.pub.pem"}
    files = {command.argv[-1] for command in packer.commands}
    assert (len(files), len(packer.commands)) == (1, 3)
    assert judge(here, root, ami, *reversed(rotated)).state == "verified"
    assert len(packer.commands) == 4, "who fits is enough"
    assert not any(str(root / "terraform") in file for file in files), "Packer gets what was read here, not the file"


@pytest.mark.parametrize(
    ("verifiers", "error", "why"),
    [
        (("keys/new.pub.pem",), SafetyError, "is signed by another key than keys/new.pub.pem: after a rotation"),
        (("keys/rsa.pub.pem",), SafetyError, "is signed by another key than keys/rsa.pub.pem"),
        (("awskms:///alias/x",), AwsError, "could not be verified with awskms:///alias/x: .*AccessDeniedException"),
        (("keys/no.pem",), UsageError, "The public key keys/no.pem, .* cannot be read: No such file"),
        (("keys/old.pub.pem", "keys/no.pem"), UsageError, "keys/no.pem"),
        (("keys/new.pem", "keys/old.pub.pem"), UsageError, "keys/new.pem, .*is a private key, .*openssl pkey -pubout"),
        (("keys/text.pem",), UsageError, "keys/text.pem, .* is no PEM file"),
        (("keys/broken.pem",), UsageError, "keys/broken.pem, .* is no key that Packer can use: .*unsupported PEM"),
    ],
    ids=["another", "RSA", "KMS", "missing", "one missing", "private", "text", "broken"],
)
def test_a_signature_of_nobody_who_counts_is_refused(
    here: World, root: Path, packer: FakePacker, verifiers: tuple[str, ...], error: type[PipelineError], why: str
) -> None:
    """One line that says which, by the exit code of its kind; of a private key nothing is ever shown."""
    ami = here.image(5)
    prove(root, ami, OTHER_KEY)

    with pytest.raises(error, match=why) as refused:
        judge(here, root, ami, *verifiers)

    secret = (root / "keys/new.pem").read_text().splitlines()[1]
    assert secret not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_verifiers_the_signer_is_the_one(here: World, root: Path, packer: FakePacker) -> None:
    """Whoever has the key need name nobody else; whoever has not, and who signs without one, must."""
    ami = here.image(5)
    prove(root, ami, KEY)

    assert judge(here, root, ami).state == "signed"
    assert judge(here, root, ami, signer="keys/new.pem").state == "verified"
    with pytest.raises(AwsError, match="alias/x"):
        judge(here, root, ami, signer="awskms:///alias/x")
    with pytest.raises(UsageError, match=r"signer's key keys/gone\.pem is not on this machine: name its public half"):
        judge(here, root, ami, signer="keys/gone.pem")
    with pytest.raises(UsageError, match="signer: keyless, and nobody's identity"):
        judge(here, root, ami, signer="keyless")


@pytest.mark.parametrize(
    ("signer", "verifiers", "is_at_hand"),
    [
        ("none", (), True),
        ("none", ("keys/new.pub.pem",), False),
        ("keyless", (), False),
        ("keys/new.pem", ("keys/old.pub.pem",), True),
        ("/gone/production.pem", ("keys/old.pub.pem",), False),
        ("awskms:///alias/here", (), True),
        ("awskms:///alias/production", ("keys/old.pub.pem",), False),
    ],
)
def test_in_the_sandbox_nobody_signs_whose_key_is_elsewhere(
    here: World, root: Path, monkeypatch: pytest.MonkeyPatch, signer: str, verifiers: tuple[str, ...], is_at_hand: bool
) -> None:
    """With the settings of production everything can still be tried there; what is on AWS is held to them."""
    kms = here.access.client("kms")
    key = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/here", TargetKeyId=key)
    given = Provenance(signer=signer, verifiers=verifiers, required=True)
    run = task(here, root, provenance=given).run

    assert attested.policy(run) == given
    monkeypatch.setattr(type(run.target), "is_sandbox", True)
    assert attested.policy(run) == (given if is_at_hand else Provenance(required=True))


def test_in_the_sandbox_nobody_is_asked_who_signs_without_a_key(
    here: World, root: Path, packer: FakePacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packer would ask Sigstore, and the sandbox reaches nothing outside, nor does its dry run; the others count."""
    ami = here.image(5)
    prove(root / ".sandbox", ami, KEY, sandbox="true")
    identity = KeylessIdentity(identity="https://github.com/o/r/.github/workflows/build-ami.yml@refs/heads/main")
    monkeypatch.setattr(type(task(here, root).run.target), "is_sandbox", True)

    for verifiers, who in (((identity, "keys/new.pub.pem"), "keys/new.pub.pem"), ((identity,), "keys/new.pem")):
        verdict = judge(here, root, ami, *verifiers, signer="keys/new.pem")
        assert (verdict.state, verdict.detail) == ("verified", who)
        assert judge(here, root, ami, *verifiers, signer="keyless").state == "signed", "by whom nobody is asked"
    with pytest.raises(SafetyError, match=r"is signed by another key than keys/old\.pub\.pem"):
        judge(here, root, ami, identity, "keys/old.pub.pem", signer="keys/new.pem")

    assert not any("keyless" in flag for command in packer.commands for flag in command.argv)
    dry = task(here, root, provenance=Provenance(signer="keyless", verifiers=(identity,)), dry_run=True).run
    assert attested.policy(dry) == Provenance()


def test_a_keyless_signature_goes_to_packer_with_its_bundle(
    here: World, root: Path, packer: FakePacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its certificate is over in minutes: the bundle beside it shows that it was not when it signed.

    It may be as large as where it is archived.
    """
    ami = here.image(5)
    path = prove(root, ami, KEY)
    bundle = json.dumps({"bundle": "x" * 2_000_000})
    provenance.bundle_of(path).write_text(bundle)
    beside: list[str] = []

    def run(command: Command, *, timeout_s: float | None = None) -> Finished:
        beside.append(provenance.bundle_of(Path(command.argv[-1])).read_text())
        packer.commands.append(command)
        return Finished(0, "Attestation verified.", "")

    monkeypatch.setattr(packer, "run", run)
    identity = KeylessIdentity(identity="https://github.com/o/r/.github/workflows/build-ami.yml@refs/heads/main")

    assert judge(here, root, ami, identity).detail == identity.identity
    assert beside == [bundle]
    assert f"-keyless-identity={identity.identity}" in packer.commands[0].argv
    assert "-keyless-oidc-issuer=https://token.actions.githubusercontent.com" in packer.commands[0].argv


def _one_byte(path: Path, _ami: SandboxAmi, _here: World) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b"gpu-batch", b"gpu-botch", 1))


def _one_tag(_path: Path, ami: SandboxAmi, _here: World) -> None:
    ami.add_tags({"gpu-ami:image-digest": "sha256:" + "d" * 64})


def _the_record(path: Path, ami: SandboxAmi, _here: World) -> None:
    archive.keep(path.parents[2] / "packer/builds", str(ami.id), {archive.RELEASE: '{"run_id": "x"}'})


def _gone(path: Path, _ami: SandboxAmi, _here: World) -> None:
    path.unlink()


def _of_another(path: Path, ami: SandboxAmi, here: World) -> None:
    other = here.image(9)
    data = prove(path.parents[2], other).read_bytes()
    path.write_bytes(data)
    ami.add_tags({"gpu-ami:provenance": provenance.digest(data)})


def _too_large(path: Path, _ami: SandboxAmi, _here: World) -> None:
    with path.open("r+b") as file:
        file.truncate(100 * 1024 * 1024)


TAMPERING: dict[str, tuple[Callable[[Path, SandboxAmi, World], None], str]] = {
    "one byte": (_one_byte, "was altered: it is not the file whose SHA-256 the tag gpu-ami:provenance holds"),
    "one tag": (_one_tag, "the tag gpu-ami:image-digest is sha256:dddd"),
    "the record": (_the_record, "the archive's release record is another one"),
    "gone": (_gone, "names a file that is nowhere: restore terraform/provenance/ami-"),
    "another's": (_of_another, f"is about ami-[0-9a-f]+ in {REGION}"),
    "100 MB": (_too_large, "is larger than 4 MiB"),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_each_path_refuses_what_was_tampered_with(
    terraform: FakeTerraform, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 8 and one line, also where provenance is not required; nothing is handed over, published or applied."""
    monkeypatch.setattr(ssm, "VALIDATION_S", 0.0)
    here, root = terraform.here, terraform.folder.parent
    tamper, why = TAMPERING[what]
    image = here.image(5)
    ami = str(image.id)
    path = prove(root, image)
    terraform.hand_over(ami)
    tamper(path, image, here)

    def refused(call: Callable[[Task], object]) -> None:
        with pytest.raises(SafetyError, match=f"The provenance of {ami} is refused: .*{why}") as caught:
            call(task(here, root))
        assert caught.value.exit_code == 8
        assert "\n" not in str(caught.value)

    refused(lambda done: update_tfvars.run(done.run, update_tfvars.Request(ami=ami, file=str(root / "x.tfvars.json"))))
    refused(lambda done: publish.run(done.run, publish.Request(ami=ami)))
    refused(lambda done: apply.run(done.run, apply.Request(yes=True)))
    refused(lambda done: rollback.run(done.run, rollback.Request(to=ami, yes=True)))
    assert not (root / "x.tfvars.json").exists()
    assert terraform.live() == {}
    assert not list((root / "terraform/receipts").glob("*.json"))
    assert here.access.client("ssm").describe_parameters()["Parameters"] == []


def test_each_path_takes_what_is_untouched(
    terraform: FakeTerraform, packer: FakePacker, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing would be shown above; `apply` verifies twice, the second time after a person has said yes."""
    monkeypatch.setattr(ssm, "VALIDATION_S", 0.0)
    here = terraform.here
    assert terraform.folder.parent == root
    images_made = [here.image(age) for age in (9, 5)]
    settings = Provenance(verifiers=("keys/new.pub.pem",), required=True)

    def done() -> Task:
        return task(here, root, provenance=settings)

    for image in images_made:
        prove(root, image, KEY)
        update_tfvars.run(done().run, update_tfvars.Request(ami=str(image.id)))
        apply.run(done().run, apply.Request(yes=True))
    publish.run(done().run, publish.Request(ami=str(images_made[1].id)), sleep=lambda _seconds: None)
    verified = len(packer.commands)
    rollback.run(done().run, rollback.Request(yes=True))

    assert terraform.live() == dict.fromkeys(("spot", "on_demand"), str(images_made[0].id))
    assert len(packer.commands) == verified + 2


@pytest.mark.parametrize("of_another_family", [False, True])
def test_what_is_tampered_with_during_the_question_is_not_applied(
    terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch, of_another_family: bool
) -> None:
    """The prompt may have waited for an hour; what is made for another family was judged before it only."""
    here, root = terraform.here, terraform.folder.parent
    ours, theirs = here.image(5), here.image(9)
    for image in (ours, theirs):
        prove(root, image)
    terraform.hand_over(str(ours.id))
    row = plans.change("aws_batch_compute_environment.training", ("create",), after=plans.values(str(theirs.id)))
    made = plan_changes.parse(row, None, None)
    assert isinstance(made, plan_changes.EnvironmentChange)
    other, moves = apply._Move(task(here, root).run, [made], frozenset()), apply._moves
    # Which these are, `test_ownership.py` shows: this Terraform's plans have no configuration to tell them by.
    monkeypatch.setattr(apply, "_moves", lambda *given: [*moves(*given), other])
    tampered = theirs if of_another_family else ours
    monkeypatch.setattr(apply, "_confirm", lambda *_args: _one_tag(root, tampered, here))

    with pytest.raises(SafetyError, match=f"The provenance of {tampered.id} is refused"):
        apply.run(task(here, root).run, apply.Request(yes=True))

    assert terraform.live() == {}


def test_an_ami_known_only_after_the_apply_is_refused_where_provenance_is_required(terraform: FakeTerraform) -> None:
    """What is not known is not proven; where none is required, an AMI without one passes anyway."""
    row = plans.change(plans.SPOT, ("create",), after=plans.values(None))
    row["change"]["after_unknown"] = {"compute_resources": [{"ec2_configuration": [{"image_id_override": True}]}]}
    change = plan_changes.parse(row, None, None)
    assert isinstance(change, plan_changes.EnvironmentChange)
    root = terraform.folder.parent

    proven.check(task(terraform.here, root).run, [change])
    with pytest.raises(SafetyError, match=r"known only after the apply.*provenance\.required: true.*Name the AMI"):
        proven.check(task(terraform.here, root, provenance=Provenance(required=True)).run, [change])


def test_an_ami_that_is_not_there_is_refused_where_provenance_is_required(terraform: FakeTerraform) -> None:
    """An environment in another region, say: nobody has looked at its AMI."""
    ami = "ami-0fedcba9876543210"
    row = plans.change(plans.SPOT, ("create",), after=plans.values(ami))
    change = plan_changes.parse(row, None, None)
    assert isinstance(change, plan_changes.EnvironmentChange)
    root = terraform.folder.parent

    proven.check(task(terraform.here, root).run, [change])
    with pytest.raises(SafetyError, match=rf"{ami} is not there in {REGION}: .*provenance\.required: true"):
        proven.check(task(terraform.here, root, provenance=Provenance(required=True)).run, [change])


def test_the_archive_and_the_bucket_are_asked_in_turn(here: World, root: Path) -> None:
    """Another machine has no working tree of the build's; what it finds it leaves beside the code, to be committed."""
    ami = here.image(5)
    path = prove(root, ami)
    data = path.read_bytes()
    path.unlink()
    archive.keep(root / "packer/builds", str(ami.id), {archive.PROVENANCE: data, archive.SIGSTORE: "{}"})
    done = task(here, root)

    update_tfvars.run(done.run, update_tfvars.Request(ami=str(ami.id)))

    assert path.read_bytes() == data
    assert provenance.bundle_of(path).read_text() == "{}"
    shown = f"The provenance of {ami.id} is unsigned: terraform/provenance/{ami.id}.json, to be committed."
    assert shown in done.err.getvalue()
    update_tfvars.run(task(here, root, dry_run=True).run, update_tfvars.Request(ami=str(ami.id)))


def test_a_file_in_the_archive_that_cannot_be_one_is_refused(here: World, root: Path) -> None:
    """Read no further than a provenance goes, and as an AMI that is not to be used: exit 8."""
    ami = here.image(5)
    prove(root, ami).unlink()
    kept = archive.keep(root / "packer/builds", str(ami.id), {archive.PROVENANCE: "{}"}) / archive.PROVENANCE

    with kept.open("r+b") as file:
        file.truncate(100 * 1024 * 1024)
    with pytest.raises(SafetyError, match=rf"{ami.id} is refused: .*is larger than 4 MiB"):
        judge(here, root, ami)
    kept.write_bytes(b"\xff\xfe{")
    with pytest.raises(SafetyError, match=rf"{ami.id} is refused: .*is not UTF-8"):
        judge(here, root, ami)


def test_a_copy_is_known_by_its_snapshots(here: World, root: Path) -> None:
    """EC2 names a source for what was made from an instance, too: that has another content, and nobody's provenance."""
    ami = here.image(5)
    prove(root, ami)
    other = other_region(here)
    ec2 = here.access.client("ec2", region=OTHER_REGION)
    copied = ec2.copy_image(SourceImageId=str(ami.id), SourceRegion=REGION, Name="copy", CopyImageTags=True)["ImageId"]
    copy = other.ec2.amis[copied]

    assert judge(here, root, copy, region=OTHER_REGION).state == "unsigned"

    other.ec2.snapshots[copy.snapshot_ids[0]].description = f"Created by CreateImage(i-0123456789abcdef0) for {copied}"
    with pytest.raises(SafetyError, match=f"is about {ami.id} in {REGION}"):
        judge(here, root, copy, region=OTHER_REGION)


def test_what_was_baked_on_another_ami_goes_by_its_own_files(here: World, root: Path) -> None:
    """EC2 names the parent of an incremental bake as its source, as it does of a copy: there is another build's."""
    parent, child = here.image(9), here.image(5)
    prove(root, parent)
    archive.keep(root / "packer/builds", str(parent.id), {archive.RELEASE: "{}"})
    path = prove(root, child)
    child.source_image_id = str(parent.id)

    assert judge(here, root, child).state == "unsigned"
    # At the hand-over of a build its provenance is in the archive only, and the parent's beside the code.
    archive.keep(root / "packer/builds", str(child.id), {archive.PROVENANCE: path.read_text()})
    data = path.read_bytes()
    path.unlink()
    assert judge(here, root, child).data == data
    (root / "packer/builds" / str(child.id) / archive.PROVENANCE).unlink()
    with pytest.raises(SafetyError, match=f"names a file that is nowhere: restore terraform/provenance/{child.id}"):
        judge(here, root, child)


def test_a_copy_of_the_build_that_has_lost_its_tag_is_refused(here: World, root: Path) -> None:
    """Its provenance names it, and lies under the AMI that it was copied from."""
    ami = here.image(5)
    other = other_region(here)
    ec2 = here.access.client("ec2", region=OTHER_REGION)
    copied = ec2.copy_image(SourceImageId=str(ami.id), SourceRegion=REGION, Name="copy", CopyImageTags=True)["ImageId"]
    path = prove(root, ami)
    path.write_text(json.dumps(statement({REGION: str(ami.id), OTHER_REGION: copied}, said())))

    with pytest.raises(SafetyError, match=f"there is terraform/provenance/{ami.id}.json, but the AMI has no tag"):
        judge(here, root, other.ec2.amis[copied], region=OTHER_REGION)
    # With named keys the plugin copies from an AMI that it removes, and so does whoever copies the copy.
    other.ec2.amis[copied].source_image_id = "ami-0fedcba9876543210"
    with pytest.raises(SafetyError, match=f"there is terraform/provenance/{ami.id}.json, but the AMI has no tag"):
        judge(here, root, other.ec2.amis[copied], region=OTHER_REGION)
    archive.keep(root / "packer/builds", str(ami.id), {archive.PROVENANCE: path.read_text()})
    path.write_text("{")
    with pytest.raises(SafetyError, match=f"there is packer/builds/{ami.id}/provenance.json, but"):
        judge(here, root, other.ec2.amis[copied], region=OTHER_REGION)
    (root / "packer/builds" / str(ami.id) / archive.PROVENANCE).unlink()
    assert judge(here, root, other.ec2.amis[copied], region=OTHER_REGION).state == "none"


def test_a_copy_is_known_by_the_file_of_its_tag_under_whichever_id(here: World, root: Path) -> None:
    """With named keys EC2's source of a copy is gone, and with --region nothing says which AMI it was baked beside."""
    ami = here.image(5)
    other = other_region(here)
    copy = other.image(5)
    copy.source_image_id = "ami-0fedcba9876543210"
    path = prove(root, ami)
    path.write_text(json.dumps(statement({REGION: str(ami.id), OTHER_REGION: str(copy.id)}, said())))
    other.ec2.tags[copy.id] |= here.maker.ec2.tags[ami.id] | {
        "gpu-ami:provenance": provenance.digest(path.read_bytes())
    }

    verdict = judge(here, root, copy, region=OTHER_REGION)

    assert (verdict.state, verdict.data) == ("unsigned", path.read_bytes())
    path.with_name(f"{ami.id}.txt").write_bytes(path.read_bytes())
    path.unlink()
    with pytest.raises(SafetyError, match=f"names a file that is nowhere: restore terraform/provenance/{copy.id}"):
        judge(here, root, copy, region=OTHER_REGION)


def test_what_only_shows_says_that_it_is_refused(here: World, root: Path) -> None:
    """`status` goes on: what is refused is what it is for."""
    ami = here.image(5)
    _one_tag(prove(root, ami), ami, here)
    done = task(here, root)

    verdict = attested.shown(done.run, images.describe(Caller(here.access, REGION), str(ami.id)))

    assert verdict.state == "refused"
    assert "gpu-ami:image-digest" in verdict.detail
    assert json.dumps(verdict.document())
