"""`invoke update-tfvars`: the check of the AMI, the file, the output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.errors import DifferenceError, SafetyError, UsageError
from gpu_ami.handover import update_tfvars
from gpu_ami.settings import Handover
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from tests.support.account import OTHER_REGION, REGION, Task, World, other_region, task


@pytest.fixture
def image(here: World) -> SandboxAmi:
    """A fresh AMI of ours."""
    return here.image(0)


def _hand_over(here: World, root: Path, *, verified: bool = True, check: bool = False, **arguments: Any) -> Task:
    done = task(here, root, **arguments.pop("settings", {}))
    amis = update_tfvars.chosen_amis(done.run, manifest=arguments.pop("manifest", None), ami=arguments.pop("ami", None))
    update_tfvars.hand_over(
        done.run, update_tfvars.plan_hand_over(done.run, amis, **arguments), verified=verified, check=check
    )
    return done


def _manifest(root: Path, amis: dict[str, str]) -> str:
    artifact = ",".join(f"{region}:{ami}" for region, ami in amis.items())
    build = {"builder_type": "amazon-ebs", "artifact_id": artifact, "packer_run_uuid": "r"}
    file = root / "manifest.json"
    file.write_text(json.dumps({"builds": [build], "last_run_uuid": "r"}))
    return str(file)


def test_an_ami_is_looked_up_and_handed_over(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """The settings' file gets it, and what was found is said."""
    done = _hand_over(here, tmp_path, ami=image.id)

    file = tmp_path / "terraform" / "gpu-ami.auto.tfvars.json"
    assert json.loads(file.read_text()) == {"gpu_ami_id": image.id}
    assert done.document == {
        "file": "terraform/gpu-ami.auto.tfvars.json",
        "variable": "gpu_ami_id",
        "old": None,
        "new": image.id,
        "changed": True,
    }
    assert f"Looked up {image.id} in {REGION}: available and ours." in done.err.getvalue()


@pytest.mark.parametrize(
    ("request_", "settings", "coming", "said"),
    [
        ({}, {}, (), True),
        ({"file": "x.tfvars.json"}, {}, (), False),
        ({}, {"dry_run": True}, (), False),
        ({}, {}, ("status",), True),
        ({}, {}, ("plan",), False),
        ({}, {}, ("apply", "status"), False),
    ],
)
def test_what_follows_is_said(
    here: World,
    tmp_path: Path,
    image: SandboxAmi,
    request_: dict[str, Any],
    settings: dict[str, Any],
    coming: tuple[str, ...],
    said: bool,
) -> None:
    """A file that was written is half of a hand-over; another root module's file is not what `apply` reads.

    Nor is anybody told to run what the same command line goes on with.
    """
    if request_:
        request_ = {"file": str(tmp_path / "x.tfvars.json")}
    done = task(here, tmp_path, **settings)
    done.run.coming = coming

    update_tfvars.run(done.run, update_tfvars.Request(ami=image.id, **request_))

    assert ("Next: `invoke plan` shows" in done.err.getvalue()) is said


def _give_away(_here: World, image: SandboxAmi) -> None:
    image.owner_id = "210987654321"
    image.launch_permissions.append({"Group": "all"})


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda _here, image: setattr(image, "_state", "pending"), "is still pending: wait until it is available"),
        (lambda _here, image: setattr(image, "_state", "failed"), "is failed"),
        (lambda _here, image: setattr(image, "_state", "disabled"), "is disabled"),
        (lambda _here, image: setattr(image, "architecture", "arm64"), "is arm64, but g5.xlarge"),
        (lambda _here, image: setattr(image, "deprecation_time", "2026-01-01T00:00:00.000Z"), "since 2026-01-01"),
        (lambda here, image: here.maker.ec2.tags[image.id].pop("gpu-ami:family"), "carries no gpu-ami:pipeline"),
        (lambda here, image: here.maker.ec2.amis.pop(image.id), f"does not exist in {REGION}"),
        (lambda _here, image: image.add_tags({"gpu-ami:finished": "false"}), "the next sweep takes it .* create-tags"),
        (_give_away, "belongs to account 210987654321"),
    ],
)
def test_an_ami_that_would_not_do_is_refused(
    here: World, tmp_path: Path, image: SandboxAmi, spoil: Any, problem: str
) -> None:
    """Terraform would take any id, and Batch would start nothing, half an hour later."""
    spoil(here, image)

    with pytest.raises(SafetyError, match=f"The AMI {image.id} .*{problem}") as caught:
        _hand_over(here, tmp_path, ami=image.id)

    assert "--no-verify skips this check" in str(caught.value)
    assert not (tmp_path / "terraform").exists()
    _hand_over(here, tmp_path, ami=image.id, verified=False)
    assert image.id in (tmp_path / "terraform" / "gpu-ami.auto.tfvars.json").read_text()


def test_each_region_is_looked_up_where_it_is(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """A region map gets all AMIs of a manifest, and each must be there."""
    other = other_region(here).image(0)
    file = tmp_path / "x.tfvars"
    file.write_text(f'gpu_ami_ids = {{\n  {REGION} = null # Seoul\n  {OTHER_REGION} = ""\n}}\n')
    arguments: dict[str, Any] = {
        "manifest": _manifest(tmp_path, {REGION: image.id, OTHER_REGION: other.id}),
        "file": str(file),
        "variable": "gpu_ami_ids",
    }

    done = _hand_over(here, tmp_path, **arguments)

    assert (
        file.read_text()
        == f'gpu_ami_ids = {{\n  {REGION} = "{image.id}" # Seoul\n  {OTHER_REGION} = "{other.id}"\n}}\n'
    )
    assert done.document["new"] == {REGION: image.id, OTHER_REGION: other.id}
    del other_region(here).ec2.amis[other.id]
    with pytest.raises(SafetyError, match=f"The AMI {other.id} does not exist in {OTHER_REGION}"):
        _hand_over(here, tmp_path, **arguments)


def test_a_region_map_in_a_table(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """One row per entry, and a line on those that stay."""
    (tmp_path / "x.tfvars.json").write_text(f'{{"m": {{"{REGION}": "ami-11111111", "eu-west-1": "ami-22222222"}}}}')
    arguments: dict[str, Any] = {"ami": image.id, "file": str(tmp_path / "x.tfvars.json"), "variable": "m"}

    done = _hand_over(here, tmp_path, settings={"output": "table"}, **arguments)

    assert f'm["{REGION}"]' in done.out.getvalue()
    assert "m keeps its other entries: eu-west-1." in done.err.getvalue()
    again = _hand_over(here, tmp_path, **arguments)
    assert f"has m = {image.id} already; left alone" in again.err.getvalue()


def test_a_check_and_a_dry_run_change_nothing(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """Exit 9 says that there would be a change."""
    with pytest.raises(DifferenceError, match=f"gpu_ami_id in .* is not set, not {image.id}"):
        _hand_over(here, tmp_path, ami=image.id, check=True)
    _hand_over(here, tmp_path, ami=image.id, settings={"dry_run": True})

    assert not (tmp_path / "terraform").exists()


def test_the_settings_may_name_a_literal_in_code(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """As the seed of this project did by hand."""
    code = tmp_path / "terraform" / "modules" / "pipeline" / "batch-video-analysis-gpu.tf"
    code.parent.mkdir(parents=True)
    code.write_text('resource "aws_launch_template" "gpu" {\n  image_id = "ami-NEW" # 새 AMI\n}\n')
    handover = Handover(file=str(code.relative_to(tmp_path)), variable="resource.aws_launch_template.gpu.image_id")

    _hand_over(here, tmp_path, ami=image.id, settings={"handover": handover})

    assert code.read_text() == f'resource "aws_launch_template" "gpu" {{\n  image_id = "{image.id}" # 새 AMI\n}}\n'


def test_the_same_variable_elsewhere_is_refused(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """One of the two would win unseen."""
    (tmp_path / "terraform").mkdir()
    (tmp_path / "terraform" / "terraform.tfvars").write_text('gpu_ami_id = "ami-11111111"\n')

    with pytest.raises(UsageError, match=r"auto\.tfvars\.json but is .* of .*terraform\.tfvars: keep it in"):
        _hand_over(here, tmp_path, ami=image.id)


def test_a_file_that_cannot_take_an_id_is_known_before_a_build(here: World, tmp_path: Path) -> None:
    """Not half an hour and an AMI later."""
    (tmp_path / "terraform").mkdir()
    file = tmp_path / "terraform" / "x.tfvars"
    run = task(here, tmp_path, handover=Handover(file="terraform/x.tfvars")).run
    with pytest.raises(UsageError, match="does not exist"):
        update_tfvars.check_target(run)
    file.write_text("gpu_ami_id = null\n")

    update_tfvars.check_target(run)

    assert file.read_text() == "gpu_ami_id = null\n"
    file.write_text("gpu_ami_id = null\na = 1\na = 2\n")
    with pytest.raises(UsageError, match=r"a occurs twice in .*, which Terraform refuses"):
        update_tfvars.check_target(run)


def test_a_byte_order_mark_alone_is_a_difference(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """The id in the file is right, and Terraform reads nothing of it."""
    (tmp_path / "terraform").mkdir()
    file = tmp_path / "terraform" / "gpu-ami.auto.tfvars.json"
    file.write_text(f'\ufeff{{"gpu_ami_id": "{image.id}"}}')

    with pytest.raises(DifferenceError, match="begins with a byte-order mark, so Terraform cannot read it: run"):
        _hand_over(here, tmp_path, ami=image.id, check=True)
    done = _hand_over(here, tmp_path, ami=image.id)

    assert file.read_text() == f'{{"gpu_ami_id": "{image.id}"}}'
    assert done.document["changed"] is True
    assert "which Terraform takes for no JSON: it is left out." in done.err.getvalue()


def test_two_ways_to_name_the_ami_are_refused(here: World, tmp_path: Path) -> None:
    """Whichever was meant, the other would be ignored in silence."""
    with pytest.raises(UsageError, match="--ami and --manifest"):
        update_tfvars.chosen_amis(task(here, tmp_path).run, ami="ami-12345678", manifest="m.json")


def test_a_link_out_of_the_repository_is_refused(here: World, tmp_path: Path) -> None:
    """Nobody would see that change in a review."""
    (tmp_path / "repo").mkdir()
    (tmp_path / "x.tfvars").write_text("gpu_ami_id = null\n")
    (tmp_path / "repo" / "x.tfvars").symlink_to("../x.tfvars")

    with pytest.raises(UsageError, match="leads out of the repository"):
        update_tfvars.plan_hand_over(
            task(here, tmp_path / "repo").run, {REGION: "ami-12345678"}, file=str(tmp_path / "repo" / "x.tfvars")
        )


def test_the_sandbox_keeps_to_its_own_files(here: World, tmp_path: Path, image: SandboxAmi) -> None:
    """An AMI of the local AWS must not get into code that is applied on AWS."""
    import dataclasses

    from gpu_ami.invocation import Invocation

    run = task(here, tmp_path).run
    local = Invocation(tmp_path, dataclasses.replace(run.options, sandbox=True), run.console)
    local.__dict__.update(access=run.access, settings=run.settings)
    for name in ("terraform/x.tfvars", ".sandbox/terraform/x.tfvars"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("gpu_ami_id = null\n")

    with pytest.raises(SafetyError, match=r"terraform/x\.tfvars is no file of the sandbox's"):
        update_tfvars.plan_hand_over(local, {REGION: image.id}, file=str(tmp_path / "terraform/x.tfvars"))
    assert update_tfvars.plan_hand_over(
        local, {REGION: image.id}, file=str(tmp_path / ".sandbox/terraform/x.tfvars")
    ).changed
