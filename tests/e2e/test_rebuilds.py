"""One family over three builds: everything a bake leaves behind, nothing to do, and only what is new."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.ecr.models import ecr_backends

from gpu_ami.aws import images
from gpu_ami.aws.caller import Caller
from gpu_ami.bake import compare
from gpu_ami.bake.prepare import prepare
from gpu_ami.bake.result import BuildResult
from gpu_ami.bake.staleness import FACTS
from gpu_ami.handover import attested
from gpu_ami_sandbox.aws.ecr import blobs
from gpu_ami_sandbox.demo import content
from gpu_ami_sandbox.demo.demo_account import REPOSITORY
from tests.e2e.inprocess import Bench, bench
from tests.support.resources import tags_of

COPY, COPY_KEY, USER = "us-east-1", "alias/gpu-ami-copies", "210987654321"
UNIT = "arn:aws:organizations::123456789012:ou/o-abcde12345/ou-ab12-cdef3456"
ORGANIZATION = "arn:aws:organizations::123456789012:organization/o-abcde12345"
VARIABLES = (
    f'ami_regions=["{COPY}"]',
    f'region_kms_key_ids={{"{COPY}": "{COPY_KEY}"}}',
    "snapshot_copy_duration_minutes=30",
    f'ami_users=["{USER}"]',
    f'ami_ou_arns=["{UNIT}"]',
    f'ami_org_arns=["{ORGANIZATION}"]',
    "deregistration_protection=on",
    'extra_tags={"team": "video"}',
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A sandbox for all of them."""
    with bench(tmp_path_factory.mktemp("rebuilds") / "checkout") as opened:
        yield opened


@pytest.fixture(scope="module")
def key(here: Bench) -> str:
    """The ARN of a key of ours; the copy's region has another one."""
    copies = here.access.client("kms", region=COPY)
    copies.create_alias(AliasName=COPY_KEY, TargetKeyId=copies.create_key()["KeyMetadata"]["KeyId"])
    return str(here.access.client("kms").create_key()["KeyMetadata"]["Arn"])


@pytest.fixture(scope="module")
def variables(key: str) -> tuple[str, ...]:
    """The variables of every build here: other ones would be other settings."""
    return (f"kms_key_id={key}", *VARIABLES)


@pytest.fixture(scope="module")
def first(here: Bench, variables: tuple[str, ...]) -> BuildResult:
    """A first build that asks for everything, and to be incremental, which it cannot be."""
    built = here.build(*variables, incremental=True)
    assert "A full bake: ami-" in here.said, here.said
    return built


def _image(here: Bench, built: BuildResult, region: str) -> dict[str, Any]:
    client = here.access.client("ec2", region=region)
    (image,) = client.describe_images(ImageIds=[built.amis[region]])["Images"]
    return dict(image)


def _snapshot(here: Bench, image: dict[str, Any], region: str) -> dict[str, Any]:
    (snapshot_id,) = [mapping["Ebs"]["SnapshotId"] for mapping in image["BlockDeviceMappings"]]
    (row,) = here.access.client("ec2", region=region).describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"]
    return dict(row)


def _builder(here: Bench, run: str) -> dict[str, Any]:
    found = here.access.client("ec2").describe_instances(Filters=[{"Name": "tag:gpu-ami:run", "Values": [run]}])
    (reservation,) = found["Reservations"]
    return dict(reservation["Instances"][0])


def test_the_ami_and_its_copy_are_encrypted_with_their_own_keys(here: Bench, first: BuildResult, key: str) -> None:
    """A key does not reach another region, and the default one cannot be shared."""
    assert set(first.amis) == {here.access.region, COPY}
    for region, own in ((here.access.region, key), (COPY, COPY_KEY)):
        snapshot = _snapshot(here, _image(here, first, region), region)
        assert (snapshot["Encrypted"], snapshot["KmsKeyId"]) == (True, own)


def test_copies_are_asked_for_in_time(here: Bench, first: BuildResult) -> None:
    """With named keys the AMI of the own region is a copy too, and its price with it."""
    for region in (here.access.region, COPY):
        assert _snapshot(here, _image(here, first, region), region)["CompletionDurationMinutes"] == 30


def test_the_ami_and_its_copy_are_shared_with_exactly_these(here: Bench, first: BuildResult) -> None:
    """The other accounts run Batch in both regions."""
    for region, ami in first.amis.items():
        client = here.access.client("ec2", region=region)
        shown = client.describe_image_attribute(ImageId=ami, Attribute="launchPermission")["LaunchPermissions"]
        expected = [{"UserId": USER}, {"OrganizationArn": ORGANIZATION}, {"OrganizationalUnitArn": UNIT}]
        assert sorted(shown, key=str) == sorted(expected, key=str)


def test_everything_that_was_made_can_be_found_by_its_tags(here: Bench, first: BuildResult) -> None:
    """Sweep and clean-up live on these; the hand-over tag is on finished AMIs only."""
    run = tags_of(_image(here, first, here.access.region))["gpu-ami:run"]
    ours = {"gpu-ami:pipeline": "gpu-ami-pipeline", "gpu-ami:family": "gpu-batch", "gpu-ami:run": run}
    for region in first.amis:
        image = _image(here, first, region)
        for tags in (tags_of(image), tags_of(_snapshot(here, image, region))):
            assert ours.items() <= tags.items()
            assert (tags["gpu-ami:handover"], tags["team"]) == ("pending", "video")
            assert tags["gpu-ami:finished"] == "true"
    builder = _builder(here, run)
    assert ours.items() <= tags_of(builder).items()
    assert "gpu-ami:handover" not in tags_of(builder)
    (launch,) = here.calls("RunInstances")
    specified = {launch[key] for key in launch if key.endswith("ResourceType")}
    assert {"instance", "volume", "network-interface"} <= specified
    # Kept on the pending AMI and its snapshots: no skip_ami_run_tags.
    pending = [value for key, value in here.calls("CreateImage")[-1].items() if key.startswith("TagSpecification")]
    assert {run, "gpu-ami:run", "image", "snapshot", "gpu-ami:finished", "false"} <= set(pending)
    assert "gpu-ami:handover" not in pending


def test_the_builder_is_closed_and_ends_itself(here: Bench, first: BuildResult) -> None:
    """IMDSv2 with two hops on builder and AMI, a shutdown that terminates, waits that are long enough."""
    (launch,) = here.calls("RunInstances")
    assert launch["MetadataOptions.HttpTokens"] == "required"
    assert launch["MetadataOptions.HttpPutResponseHopLimit"] == "2"
    assert launch["InstanceInitiatedShutdownBehavior"] == "terminate"
    user_data = base64.b64decode(launch["UserData"]).decode().splitlines()
    assert user_data[0] == "#!/bin/bash"
    assert {"systemctl mask --now ecs.service", "shutdown -h +180"} <= set(user_data)
    for region in first.amis:
        assert _image(here, first, region)["ImdsSupport"] == "v2.0"
        assert _image(here, first, region)["DeprecationTime"]


def test_the_ami_is_protected_from_being_deregistered(here: Bench, first: BuildResult) -> None:
    """Nobody removes it by hand by mistake."""
    image = _image(here, first, here.access.region)

    assert image["DeregistrationProtection"].startswith("enabled")


def test_the_release_record_is_on_the_ami_and_its_copy(here: Bench, first: BuildResult) -> None:
    """Who meets the AMI in the console of another region sees what is in it."""
    record = json.loads(here.run.workspace.release.read_text())
    assert record["snapshot_gib"] == first.snapshot_gib
    assert first.snapshot_gib
    for region in first.amis:
        tags = tags_of(_image(here, first, region))
        assert tags["gpu-ami:image-digest"] == record["image"]["digest"] == here.sandbox.account.image_digest
        assert tags["gpu-ami:nvidia-driver"] == record["nvidia_driver"]
        assert tags["gpu-ami:kernel"] == record["kernel"]
        assert tags["gpu-ami:models-count"] == str(len(record["models"]["files"]))
        assert tags["gpu-ami:snapshot-gib"] == f"{first.snapshot_gib:.2f}"
        assert tags["gpu-ami:source-ami"] == here.sandbox.account.source_ami_id
        assert tags["gpu-ami:chain-length"] == "0"


def test_the_provenance_is_found_for_the_copy_too(here: Bench, first: BuildResult) -> None:
    """With named keys the plugin copies both from an AMI that it removes, under whose id there is nothing."""
    sources = {_image(here, first, region)["SourceImageId"] for region in first.amis}

    assert not sources & set(first.amis.values())
    assert [verdict.state for verdict in attested.check(here.run, first.amis)] == ["unsigned"] * 2


def test_the_manifest_carries_both_regions_and_the_fingerprints(here: Bench, first: BuildResult) -> None:
    """What a later job in CI knows of the build is this file."""
    manifest = json.loads(here.run.workspace.manifest.read_text())
    build = manifest["builds"][-1]

    assert set(build["artifact_id"].split(",")) == {f"{region}:{ami}" for region, ami in first.amis.items()}
    noted = {key: value for key, value in build["custom_data"].items() if key.startswith("fingerprint_")}
    tags = tags_of(_image(here, first, COPY))
    assert noted == {f"fingerprint_{fact}": tags[f"gpu-ami:fingerprint-{fact}"] for fact in FACTS}


def test_a_build_that_would_make_the_same_again_does_nothing(
    here: Bench, first: BuildResult, variables: tuple[str, ...]
) -> None:
    """A nightly build costs nothing on most nights, and says why it did nothing."""
    before = len(here.gate.calls)

    again = here.build(*variables, if_stale=True)

    assert (again.built, again.ami_id, again.name) == (False, first.ami_id, first.name)
    assert again.document()["built"] is False
    assert again.source_ami_id == first.source_ami_id
    assert f"Nothing to build: {first.ami_id} is made from what a build would be made from." in here.said
    changing = ("Run", "Create", "Delete", "Terminate", "Modify", "Register", "Deregister", "Put")
    assert not [call.action for call in here.gate.calls[before:] if call.action.startswith(changing)]
    assert compare.what_would_change(here.run, prepare(here.run, variables)) == []


def _push_another_image(here: Bench, monkeypatch: pytest.MonkeyPatch) -> str:
    """Move the tag to an image that shares all layers but the last; return its digest."""
    account, region = here.sandbox.account, here.access.region
    *shared, (name, size) = content._LAYERS
    monkeypatch.setattr(content, "_LAYERS", (*shared, (name, size + 1024)))
    image = content.container_image()
    ecr = ecr_backends[account.account_id][region]
    ecr.put_image(REPOSITORY, image.manifest, account.image_tag, image.media_type, image.digest)
    blobs(account.account_id, region).update(image.blobs)
    assert image.digest != account.image_digest
    return image.digest


def test_an_incremental_build_moves_only_what_is_new(
    here: Bench, first: BuildResult, variables: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image and the models are what a full bake would leave; the rest was there already."""
    account, s3 = here.sandbox.account, here.access.client("s3")
    digest = _push_another_image(here, monkeypatch)
    s3.delete_object(Bucket=account.models_bucket, Key="models/tracker.onnx")
    s3.put_object(Bucket=account.models_bucket, Key="models/new.pt", Body=b"new weights")
    # New weights of an old model have its size: `aws s3 sync` alone would take them for the same.
    old = s3.get_object(Bucket=account.models_bucket, Key="models/detector.pt")["Body"].read()
    s3.put_object(Bucket=account.models_bucket, Key="models/detector.pt", Body=old[::-1])
    blobs_before = len([call for call in here.gate.calls if "/blobs/" in call.action])
    objects_before = len([call for call in here.gate.calls if call.action.startswith("GET /gpu-ami-models")])

    built = here.build(*variables, incremental=True, if_stale=True)

    assert built.built
    assert [difference.fact for difference in built.differences] == ["image", "models"]
    assert f"An incremental bake on {first.ami_id}, number 1 of at most 10 on a full one." in here.said
    assert (built.chain_length, built.source_ami_id) == (1, first.ami_id)
    tags = tags_of(_image(here, built, here.access.region))
    assert tags["gpu-ami:chain-length"] == "1"
    assert tags["gpu-ami:fingerprint-base"] == account.source_ami_id
    root = here.sandbox.guest_root(_builder(here, tags["gpu-ami:run"])["InstanceId"])
    assert _models(root) == {"detector.pt", "ocr/recognizer.bin", "new.pt"}
    assert _digests(root) == {digest}
    assert json.loads((root / "etc/gpu-ami-release.json").read_text())["image"]["digest"] == digest
    assert (root / "opt/ml/models/detector.pt").read_bytes() == old[::-1]
    # Configuration and the one new layer; of the models the ones that are new.
    fetched = len([call for call in here.gate.calls if "/blobs/" in call.action]) - blobs_before
    assert fetched == 2
    objects = [call.action for call in here.gate.calls if call.action.startswith("GET /gpu-ami-models")]
    fetched_models = {name for name in objects[objects_before:] if name.endswith((".pt", ".bin", ".onnx"))}
    assert fetched_models == {f"GET /{account.models_bucket}/models/{name}" for name in ("new.pt", "detector.pt")}


def _models(root: Path) -> set[str]:
    folder = root / "opt/ml/models"
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _digests(root: Path) -> set[str]:
    """Return the digests by which Docker knows images of the repository."""
    found: set[str] = set()
    for path in (root / "var/lib/docker").rglob("*.json"):
        text = path.read_text(errors="replace")
        found |= {part[:71] for part in text.split(f"/{REPOSITORY}@")[1:]}
    return found


def test_an_incremental_image_is_what_a_full_bake_makes(
    here: Bench, first: BuildResult, variables: tuple[str, ...]
) -> None:
    """File by file: a shortcut that leads somewhere else would be found out only by a job."""
    incremental = images.newest_of_family(Caller(here.access, here.access.region), "gpu-batch")
    assert incremental is not None
    assert incremental.tags["gpu-ami:chain-length"] == "1"

    full = here.build(*variables)

    assert full.chain_length == 0
    assert [difference.fact for difference in full.differences] == []
    runs = incremental.tags["gpu-ami:run"], tags_of(_image(here, full, here.access.region))["gpu-ami:run"]
    on_top, fresh = (_content(here.sandbox.guest_root(_builder(here, run)["InstanceId"])) for run in runs)
    assert on_top == fresh


def _content(root: Path) -> dict[str, str]:
    """Return what is at each path that an image keeps: a link's target, a file's checksum; of folders that they are."""
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif name == "var/lib/docker/image/overlay2/repositories.json":
            found[name] = json.dumps(json.loads(path.read_text()), sort_keys=True)  # the order of names says nothing
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder"
    # The record says when and of what; each bake has a boot, and logs, of its own.
    return {name: value for name, value in found.items() if name != "etc/gpu-ami-release.json"}
