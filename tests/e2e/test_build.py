"""`invoke build --sandbox`: what it leaves in the account, in the image and on this machine."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.bake.template import template_scripts
from gpu_ami.records import archive, bill, image_facts
from tests.e2e.conftest import ROOT, Checkout, with_root_module
from tests.e2e.leftovers import all_left_resources, left_resources


@pytest.fixture(scope="module")
def image(live: Any, built: dict[str, Any]) -> dict[str, Any]:
    """The AMI as the local EC2 describes it."""
    images = live.access.client("ec2").describe_images(ImageIds=[built["ami_id"]])["Images"]
    assert len(images) == 1
    found: dict[str, Any] = images[0]
    return found


@pytest.fixture(scope="module")
def root(live: Any, shared: Checkout, built: dict[str, Any]) -> Path:
    """The guest's root as the bake left it."""
    instances = live.access.client("ec2").describe_instances(
        Filters=[{"Name": "tag:gpu-ami:run", "Values": [_run_id(shared, built)]}]
    )
    (reservation,) = instances["Reservations"]
    found: Path = live.guest_root(reservation["Instances"][0]["InstanceId"])
    assert (found / "etc" / "os-release").is_file()
    return found


def _run_id(shared: Checkout, built: dict[str, Any]) -> str:
    manifest = json.loads((shared.root / built["manifest"]).read_text())
    return str(manifest["builds"][-1]["custom_data"]["run_id"])


def test_the_result_has_the_documented_keys(built: dict[str, Any]) -> None:
    """Scripts read these names; more may be added, none may go."""
    assert set(built) >= {
        "ami_id",
        "region",
        "amis",
        "name",
        "source_ami_id",
        "snapshot_gib",
        "duration_s",
        "manifest",
        "tfvars",
        "build_cost_usd",
        "sandbox",
    }
    assert built["amis"] == {built["region"]: built["ami_id"]}
    assert built["sandbox"] is True
    assert built["manifest"] == ".sandbox/manifest.json"


def test_every_step_ran_once_and_in_order(shared: Checkout, built: dict[str, Any]) -> None:
    """What names a step that fails counts them so; a step that Packer never ran could not fail either."""
    logs = [path.read_text() for path in (shared.root / ".sandbox" / "logs").glob("*.log")]
    (log,) = [text for text in logs if f":{built['ami_id']}" in text]

    ran = re.findall(r"Provisioning with shell script: \S*/([\w-]+)\.sh", log)

    assert tuple(ran) == template_scripts(ROOT / "packer")


def test_the_ami_exists_with_tags_and_snapshot(
    live: Any, shared: Checkout, built: dict[str, Any], image: dict[str, Any]
) -> None:
    """Everything we make can be found again: clean-up and sweep live on these tags."""
    tags = {tag["Key"]: tag["Value"] for tag in image["Tags"]}
    assert image["State"] == "available"
    assert image["SourceImageId"] == built["source_ami_id"] == live.account.source_ami_id
    assert tags["gpu-ami:family"] == "gpu-batch"
    assert tags["gpu-ami:run"] == _run_id(shared, built)
    assert tags["gpu-ami:handover"] == "pending"
    assert "gpu-ami:pipeline" in tags

    (snapshot_id,) = [mapping["Ebs"]["SnapshotId"] for mapping in image["BlockDeviceMappings"] if "Ebs" in mapping]
    (snapshot,) = live.access.client("ec2").describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"]
    assert {tag["Key"] for tag in snapshot["Tags"]} >= {"gpu-ami:family", "gpu-ami:run", "gpu-ami:pipeline"}
    assert snapshot["Encrypted"]


def test_terraform_takes_exactly_this_id(shared: Checkout, built: dict[str, Any]) -> None:
    """`validate` accepts anything; only evaluation shows that the id arrives and passes the validation rule."""
    folder = shared.root / ".sandbox" / "terraform"
    assert json.loads((folder / "gpu-ami.auto.tfvars.json").read_text()) == {"gpu_ami_id": built["ami_id"]}

    shown = subprocess.run(
        ["terraform", "console"], input="var.gpu_ami_id\n", cwd=folder, capture_output=True, text=True, check=True
    )

    assert json.loads(shown.stdout) == built["ami_id"]


def test_the_models_are_in_the_image_byte_for_byte(live: Any, root: Path) -> None:
    """They moved through S3, the AWS CLI and the guest; a job must find what was uploaded."""
    models = root / "opt" / "ml" / "models"
    expected = live.account.model_checksums
    assert expected

    found = {
        str(path.relative_to(models)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in models.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }

    assert expected.items() <= found.items()


def test_the_ecs_agent_will_use_the_baked_image(root: Path) -> None:
    """Only prefer-cached skips the pull; any other value makes the bake pointless."""
    lines = (root / "etc" / "ecs" / "ecs.config").read_text().splitlines()
    config = dict(line.split("=", 1) for line in lines if "=" in line)

    assert config["ECS_IMAGE_PULL_BEHAVIOR"] == "prefer-cached"
    assert config["ECS_ENABLE_GPU_SUPPORT"] == "true"


def test_nothing_of_the_build_stays_in_the_image(root: Path) -> None:
    """Every instance would share these secrets and identities."""
    assert not list((root / "etc" / "ssh").glob("ssh_host_*"))
    assert not [path for path in root.rglob("authorized_keys") if path.is_file() and path.stat().st_size]
    assert not [path for path in root.rglob(".bash_history") if path.is_file()]
    assert not [path for path in root.rglob("config.json") if ".docker" in path.parts]
    assert not (root / "root" / ".aws").exists()
    assert not list((root / "var" / "lib" / "ecs" / "data").glob("*"))
    assert (root / "etc" / "machine-id").read_bytes() in {b"", b"uninitialized\n"}


def test_nothing_of_the_build_stays_in_the_account(live: Any, shared: Checkout, built: dict[str, Any]) -> None:
    """An instance, key pair, group or volume left behind is billed or fills a quota."""
    assert left_resources(live, _run_id(shared, built)) == []


def test_manifest_shows_this_build(shared: Checkout, built: dict[str, Any]) -> None:
    """The task reads what real Packer wrote."""
    (build,) = shared.document("manifest", "--sandbox")

    assert build["amis"] == built["amis"]
    assert build["gone"] == []
    assert build["builder_type"] == "amazon-ebs"
    assert build["custom_data"]["source_ami"] == built["source_ami_id"]


def test_the_release_record_came_out_of_the_image(shared: Checkout, built: dict[str, Any], root: Path) -> None:
    """The same facts beside the manifest and inside the image."""
    outside = json.loads((shared.root / ".sandbox" / "release.json").read_text())
    inside = json.loads((root / "etc" / "gpu-ami-release.json").read_text())

    # What only EC2 knows, once there is a snapshot.
    assert outside.pop("snapshot_gib") == built["snapshot_gib"]
    assert outside == inside
    assert outside["run_id"] == _run_id(shared, built)
    moved = {row["name"]: row["old"] for row in outside["packages_moved"]}
    assert {"glibc", "jq"} <= set(moved)
    assert not {"docker", "containerd", "runc", "ecs-init"} & set(moved), "AWS tests these together"


def test_the_build_is_archived(shared: Checkout, built: dict[str, Any], root: Path) -> None:
    """Record, bill and what the pipeline knows: each names the next by what it is, and the image holds the first."""
    files = archive.read(shared.root / ".sandbox" / "builds", built["ami_id"])

    assert files[archive.RELEASE] == (root / "etc" / "gpu-ami-release.json").read_text()
    record = json.loads(files[archive.RELEASE])
    assert record["bill_sha256"] == bill.digest(files[archive.BILL])
    found = bill.parse(files[archive.BILL], source="x")
    assert found.run_id == record["run_id"] == _run_id(shared, built)
    assert found.packages["openssl-libs"].startswith("1:3.2.2-")
    assert {"kernel", "docker", "jq", "ecs-init"} <= set(found.packages)
    facts = image_facts.archived(built["ami_id"], files, where="x")
    assert facts is not None
    assert None not in facts.kinds.values()


def test_the_handed_over_variable_is_in_step(shared: Checkout, built: dict[str, Any]) -> None:
    """After a build nothing is left to hand over."""
    done = shared.invoke("update-tfvars", "--sandbox", "--check", "--output", "json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["new"] == built["ami_id"]


def test_the_ami_reaches_code_that_people_keep(shared: Checkout, built: dict[str, Any]) -> None:
    """The value that was edited by hand is replaced in place."""
    code = shared.root / ".sandbox" / "by-hand.tf"
    text = 'resource "aws_launch_template" "gpu" {\n  image_id = "ami-NEW" # 새 AMI\n}\n'
    code.write_text(text)
    path = "resource.aws_launch_template.gpu.image_id"

    done = shared.document("update-tfvars", "--sandbox", "--file", ".sandbox/by-hand.tf", "--var", path)

    assert (done["old"], done["new"]) == ("ami-NEW", built["ami_id"])
    assert code.read_text() == text.replace("ami-NEW", built["ami_id"])


def test_the_ami_is_published(shared: Checkout, built: dict[str, Any], live: Any) -> None:
    """The parameter shows it, and a second time there is nothing to do."""
    first = shared.document("publish", "--sandbox")
    again = shared.document("publish", "--sandbox")

    found = live.access.client("ssm").get_parameter(Name=first["parameter"])["Parameter"]
    assert (found["Value"], found["DataType"]) == (built["ami_id"], "aws:ec2:image")
    assert (first["changed"], again["changed"]) == (True, False)
    assert (shared.root / first["receipt"]).is_file()


def test_the_ami_proves_itself_on_a_gpu_type(shared: Checkout, built: dict[str, Any], live: Any) -> None:
    """Its instance has the baked files and a GPU; rigged, the same AMI is refused, and applied to nothing."""
    good = shared.document("verify", "--sandbox")
    ec2, tags = live.access.client("ec2"), [{"Key": "sandbox:gpu", "Value": "driver-mismatch"}]
    ec2.create_tags(Resources=[built["ami_id"]], Tags=tags)
    settings = shared.root / "pipeline.yaml"
    text = settings.read_text()
    try:
        rigged = shared.invoke("verify", "--sandbox", "--output", "json")
        settings.write_text(text.replace("before: never", "before: apply"))
        with with_root_module(shared):
            refused = shared.invoke("apply", "--sandbox")
    finally:
        settings.write_text(text)
        ec2.delete_tags(Resources=[built["ami_id"]], Tags=tags)

    checks = {check["check"]: check for check in good["checks"]}
    assert {name: check["status"] for name, check in checks.items()} == dict.fromkeys(
        ("gpu", "cuda", "boot", "prewarm", "volume"), "ok"
    )
    assert any("CUDA contexts made: 1, in a container of" in line for line in checks["gpu"]["evidence"])
    assert any(line.startswith("prewarm: ") for line in checks["prewarm"]["evidence"])
    assert rigged.returncode == 9, rigged.stderr
    gpu = json.loads(rigged.stdout)["checks"][0]
    assert (gpu["check"], gpu["status"]) == ("gpu", "failed")
    assert "Failed to initialize NVML: Driver/library version mismatch" in gpu["evidence"]
    assert (refused.returncode, f"{built['ami_id']} is not verified" in refused.stderr) == (8, True), refused.stderr
    assert all_left_resources(live) == []
