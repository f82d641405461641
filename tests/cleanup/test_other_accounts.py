"""The account with every reason: nothing that is needed goes, and everything else does."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.sts import assume
from gpu_ami.cleanup.inventory import Location
from gpu_ami.cleanup.local_references import LocalSource, scan
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.demo import factory
from gpu_ami_sandbox.demo.rare_uses import RARE_USES
from gpu_ami_sandbox.demo.uses import USES
from tests.support.account import OTHER_REGION, REGION, World, other_region, reasons, selected

# Which source is the one that sees each reason.
SEEN_BY = {
    "running_instance": "instances",
    "stopped_instance": "instances",
    "managed_instance": "instances",
    "template_default_version": "launch-templates",
    "template_middle_version": "launch-templates",
    "template_latest_version": "launch-templates",
    "managed_template": "launch-templates",
    "template_alias": "launch-templates",
    "group_pinned_version": "launch-templates",
    "group_mixed_base": "launch-templates",
    "group_mixed_override": "launch-templates",
    "launch_configuration": "launch-configurations",
    "group_launch_configuration": "launch-configurations",
    "spot_fleet": "spot-fleets",
    "ec2_fleet": "launch-templates",
    "batch_image_id_override": "batch",
    "batch_image_id": "batch",
    "batch_pinned_template": "launch-templates",
    "batch_template_override": "launch-templates",
    "batch_frozen_latest": "launch-templates",
    "parameter_ami_id": "parameters",
    "parameter_other_name": "parameters",
    "parameter_list": "parameters",
    "parameter_json": "parameters",
    "image_builder_recipe": "image-builder",
    "image_builder_parent": "image-builder",
    "image_builder_mapping": "image-builder",
    "stack_parameter": "stacks",
    "stack_resolved_parameter": "stacks",
    "stack_output": "stacks",
    "lambda_variable": "lambda-functions",
    "lambda_published_version": "lambda-functions",
    "state_machine": "state-machines",
    "state_machine_version": "state-machines",
    "schedule_input": "schedules",
    "maintenance_window_task": "maintenance-windows",
    "launch_permission": "launch-permissions",
    "public_launch_permission": "launch-permissions",
    "deregistration_protection": "deregistration-protection",
    "aws_backup": "aws-backup",
    "dlm_policy": "lifecycle-manager",
    "snapshot_lock": "snapshot-locks",
    "public_snapshot": "public-snapshots",
    "pcs_node_group": "pcs",
    "hyperpod_current_image": "hyperpod",
    "hyperpod_desired_image": "hyperpod",
    "emr_cluster": "emr",
    "emr_instance_group": "emr",
    "emr_instance_fleet": "emr",
    "codebuild_fleet": "codebuild",
    "rds_custom_version": "rds-custom",
    "instance_refresh": "instance-refreshes",
    "warm_pool": "warm-pools",
    "replaced_root_volume": "root-volumes",
    "root_volume_from_snapshot": "root-volumes",
    "pending_copy": "copies",
    "image_builder_parameter": "image-builder",
    "beanstalk_environment": "beanstalk",
    "beanstalk_saved_configuration": "beanstalk",
    "beanstalk_block_device": "beanstalk",
    "beanstalk_platform": "beanstalk",
    "export_task": "export-tasks",
    "store_task": "store-tasks",
    "ecs_volume": "ecs-volumes",
    "agentcore_volume": "agentcore",
    "agentcore_ephemeral_volume": "agentcore",
    "fast_snapshot_restore": "fast-snapshot-restore",
}
EVERY_USE = USES | RARE_USES
# Reasons that no source sees: they are properties of the AMI.
PROPERTIES = {"keep_tag": "keep-tag", "recent_launch": "too-young"}
# EC2's own answer sees some of these too; it is left out where another source is to be judged.
SECOND_OPINION = "image-references"


def _with_every_use(here: World) -> dict[str, str]:
    here.newest()
    made = {}
    for number, (reason, use) in enumerate(EVERY_USE.items()):
        image = here.image(60 + number)
        use(here.maker, image)
        made[reason] = image.id
    return made


def test_every_reason_of_the_sandbox_is_judged_here() -> None:
    """A reason that somebody adds to the sandbox must get its line above."""
    assert set(EVERY_USE) == set(SEEN_BY) | set(PROPERTIES)
    assert not set(USES) & set(RARE_USES)


def test_nothing_that_is_needed_goes_and_everything_else_does(here: World) -> None:
    """The promise of the whole tool, on an account with every reason at once."""
    needed = _with_every_use(here)
    unused = {here.image(days).id for days in (45, 400)}

    plan = here.plan()

    assert plan.decision.blocks == ()
    assert selected(plan) == unused
    for reason, image_id in needed.items():
        assert (SEEN_BY | PROPERTIES)[reason] in reasons(plan, image_id), reason


@pytest.mark.parametrize("reason", SEEN_BY)
def test_without_its_source_a_needed_ami_would_go(here: World, reason: str) -> None:
    """Proof that the test above can fail: what keeps each AMI is the source that is said to see it."""
    here.newest()
    here.in_use()
    image = here.image()
    EVERY_USE[reason](here.maker, image)
    source = SEEN_BY[reason]
    # A template with an alias also needs the parameter.
    blind = {source, SECOND_OPINION} | ({"parameters"} if reason == "template_alias" else set())
    if "parameters" in blind:
        here.maker.image(70)
        USES["running_instance"](here.maker, here.image(71))

    assert image.id not in selected(here.plan(without={SECOND_OPINION}))
    assert image.id in selected(here.plan(without=blind))


@pytest.mark.parametrize("reason", ["stopped_instance", "template_middle_version", "parameter_ami_id"])
def test_ec2s_own_answer_is_a_source_of_its_own(here: World, reason: str) -> None:
    """Where our own eyes fail, EC2's second opinion still keeps the AMI."""
    here.newest()
    here.in_use()
    image = here.image()
    USES[reason](here.maker, image)
    ours = {SEEN_BY[reason]}
    if ours == {"parameters"}:
        USES["running_instance"](here.maker, here.image(71))

    assert SECOND_OPINION in reasons(here.plan(without=ours), image.id)
    assert image.id in selected(here.plan(without=ours | {SECOND_OPINION}))


def test_a_terminated_instance_needs_nothing(here: World) -> None:
    """Terminated instances stay listed for an hour; counting them would keep AMIs for nothing."""
    here.newest()
    here.in_use()
    image = here.image()
    here.maker.instance(image).terminate()
    rows = here.access.client("ec2").describe_instances()["Reservations"]

    assert rows[0]["Instances"][0]["State"]["Name"] == "terminated"
    assert image.id in selected(here.plan())


def _template_mapping(here: World, image: SandboxAmi) -> None:
    mapping = {"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": image.snapshot_ids[0]}}
    here.access.client("ec2").create_launch_template(
        LaunchTemplateName="data", LaunchTemplateData={"BlockDeviceMappings": [mapping]}
    )


def _group_override_image(here: World, image: SandboxAmi) -> None:
    base = {"LaunchTemplateId": here.maker.template("base", here.maker.filler()), "Version": "$Default"}
    policy = {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": base,
            "Overrides": [{"InstanceType": "g6.xlarge", "ImageId": image.id}],
        }
    }
    here.maker.group("override-image", mixed_instances_policy=policy)


def _alias_with_version(here: World, image: SandboxAmi) -> None:
    here.maker.parameter("/launch/versioned", image.id)
    ssm = here.access.client("ssm")
    ssm.put_parameter(Name="/launch/versioned", Value=here.maker.filler(), Type="String", Overwrite=True)
    here.maker.template("versioned", "resolve:ssm:/launch/versioned:1")


def _parameter_elsewhere(here: World, image: SandboxAmi) -> None:
    other_region(here).parameter("/images", json.dumps({REGION: image.id}))


def _recipe(here: World, image: SandboxAmi) -> None:
    USES["image_builder_recipe"](here.maker, image)


MORE: dict[str, tuple[Callable[[World, SandboxAmi], None], str]] = {
    "snapshot in a template's mapping": (_template_mapping, "launch-templates"),
    "image id in a group's override": (_group_override_image, "auto-scaling"),
    "alias pinned to an old version of a parameter": (_alias_with_version, "launch-templates"),
    "parameter of another region": (_parameter_elsewhere, "parameters"),
}


@pytest.mark.parametrize("case", MORE)
def test_reasons_that_no_other_tool_has_either(here: World, case: str) -> None:
    """References hide in overrides, mappings, versions of parameters and other regions."""
    use, source = MORE[case]
    here.newest()
    here.in_use()
    image = here.image()
    use(here, image)
    USES["running_instance"](here.maker, here.image(71))

    def locations() -> list[Any]:
        return [here.location(), here.location(OTHER_REGION)]

    assert source in reasons(here.plan(locations=locations()), image.id)
    assert image.id in selected(here.plan(locations=locations(), without={source, SECOND_OPINION}))


TREE: dict[str, tuple[str, Callable[[str], str]]] = {
    "terraform-code": ("terraform/main.tf", lambda ami: f"# the old one was {ami}\n"),
    "terraform-variables": ("terraform/gpu-ami.auto.tfvars.json", lambda ami: json.dumps({"gpu_ami_id": ami})),
    "terraform-state": ("terraform/terraform.tfstate", lambda ami: json.dumps({"resources": [{"image": ami}]})),
    "workflows": (".github/workflows/test.yml", lambda ami: f"env:\n  AMI: {ami}\n"),
    "manifests": (
        "packer/manifest.json",
        lambda ami: json.dumps(
            {"builds": [{"artifact_id": f"{REGION}:{ami}", "packer_run_uuid": "1"}], "last_run_uuid": "1"}
        ),
    ),
    "receipts": (
        "terraform/receipts/1.json",
        lambda ami: json.dumps(
            {"when": "2026-01-01T00:00:00Z", "changes": [{"address": "a", "old": None, "new": ami}]}
        ),
    ),
}


@pytest.mark.parametrize("source", TREE)
def test_what_the_working_tree_names_stays(here: World, tmp_path: Path, source: str) -> None:
    """Terraform breaks when an AMI that its files name is gone, applied or not."""
    here.newest()
    here.in_use()
    image = here.image()
    name, text = TREE[source]
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text(text(image.id))

    def local(skip: frozenset[str] = frozenset()) -> list[LocalSource]:
        return scan(tmp_path, state=lambda: None, skip=skip)

    assert source in reasons(here.plan(local=local()), image.id)
    assert image.id in selected(here.plan(local=local(frozenset({source}))))


def test_what_texts_of_another_account_mention_stays(here: World) -> None:
    """A pipeline account bakes and shares; the stacks and functions that launch its AMIs are elsewhere."""
    other = "310987654321"  # no other test's: only the own account is emptied
    here.newest()
    here.in_use()
    elsewhere = dataclasses.replace(here.maker.location, account_id=other)
    texts = ("stack_parameter", "lambda_variable", "state_machine", "schedule_input", "maintenance_window_task")
    images = {reason: here.image(100 + number) for number, reason in enumerate(texts)}
    for reason, image in images.items():
        EVERY_USE[reason](factory.Maker(elsewhere, here.maker.now), image)
    access = assume(here.access, f"arn:aws:iam::{other}:role/reader")
    there = Location(Caller(access, REGION), other, is_own=False)

    plan = here.plan(locations=[here.location(), there])

    assert plan.decision.blocks == ()
    assert {reason: reasons(plan, image.id) for reason, image in images.items()} == {
        reason: [SEEN_BY[reason]] for reason in texts
    }
    assert selected(here.plan(locations=[here.location()])) == {image.id for image in images.values()}
