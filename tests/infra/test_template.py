"""What the template must say for a bake to be safe, and what no run of it in the sandbox can show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.bake.template import load_hcl
from tests.infra.box import PACKER


@pytest.fixture(scope="module")
def source() -> dict[str, Any]:
    """The builder's block."""
    document = load_hcl(PACKER / "aws-gpu-ami.pkr.hcl", what="template")
    found: dict[str, Any] = document["source"][0]["amazon-ebs"]["gpu"]
    return found


def test_waits_are_long_enough_by_both_numbers(source: dict[str, Any]) -> None:
    """With max_attempts alone the plugin polls every 2 seconds, gives up and leaves AMI and snapshot untagged."""
    (polling,) = source["aws_polling"]
    variables = load_hcl(PACKER / "variables.pkr.hcl", what="template")["variable"]
    defaults = {name: body.get("default") for block in variables for name, body in block.items()}

    assert set(polling) == {"delay_seconds", "max_attempts"}
    assert defaults["poll_delay_seconds"] * defaults["poll_max_attempts"] >= 2 * 3600


def test_run_tags_stay_on_the_pending_ami(source: dict[str, Any]) -> None:
    """An AMI whose build died while it was pending is found by them, and by nothing else."""
    assert "skip_ami_run_tags" not in source
    for argument in ("run_tags", "run_volume_tags", "spot_tags", "fleet_tags"):
        assert "local.run_tags" in source[argument]


def test_the_run_tags_say_how_long_the_build_may_take() -> None:
    """`invoke sweep` may run from a checkout with shorter times: it must leave a longer build alone."""
    blocks = load_hcl(PACKER / "aws-gpu-ami.pkr.hcl", what="template")["locals"]
    (tags,) = (block["run_tags"] for block in blocks if "run_tags" in block)

    assert tags["gpu-ami:may-take"] == (
        "${var.max_build_minutes + ceil(var.poll_delay_seconds * var.poll_max_attempts / 60)}"
    )


def test_the_builder_is_never_open_to_everybody(source: dict[str, Any]) -> None:
    """The plugin's own default for a temporary group is 0.0.0.0/0."""
    assert source["temporary_security_group_source_cidrs"] == "${local.caller_cidrs}"
    assert "length(var.caller_cidrs) == 0" in source["temporary_security_group_source_public_ip"]


def test_volumes_go_with_the_builder_and_are_encrypted(source: dict[str, Any]) -> None:
    """delete_on_termination is false by default: each bake would leave 80 GiB."""
    (mapping,) = source["launch_block_device_mappings"]

    assert (mapping["delete_on_termination"], mapping["encrypted"]) == (True, True)


def test_no_step_may_fail_or_be_left_out() -> None:
    """A step with exit codes of its own, retries or a list of builds it is for would let a half-made AMI through."""
    (build,) = load_hcl(PACKER / "aws-gpu-ami.pkr.hcl", what="template")["build"]
    steps = [provisioner["shell"] for provisioner in build["provisioner"] if "shell" in provisioner]

    assert len(steps) >= 10
    assert {key for step in steps for key in step} - {"__is_block__"} == {
        "script",
        "scripts",
        "skip_clean",
        "execute_command",
        "use_env_var_file",
        "env",
    }
    assert {step["execute_command"] for step in steps} == {"${local.as_root}"}


def test_a_step_leaves_its_files_only_where_they_hold_no_secret_and_are_cleaned_up() -> None:
    """Packer sends the inputs in a file: with an address of a model or a login it must not lie there any longer.

    What comes after cleanup.sh nobody empties /tmp after.
    """
    (build,) = load_hcl(PACKER / "aws-gpu-ami.pkr.hcl", what="template")["build"]
    blocks = [*build["provisioner"], *build["error-cleanup-provisioner"]]
    steps = [block["shell"] for block in blocks if "shell" in block]

    names = [(Path(name).stem, step) for step in steps for name in step.get("scripts") or [step["script"]]]

    cleaned = {name for name, step in names if not step.get("skip_clean")}
    secret = re.compile(r"ecs_env|MODEL_DOWNLOADS|model_downloads")
    with_secrets = {name for name, step in names if secret.search(str(step.get("env", "")))}
    assert with_secrets == {"download-models", "configure-ecs", "validate-image"}
    assert cleaned == {*with_secrets, "collect-logs"}
    assert "find /tmp /var/tmp -xdev -mindepth 1 -delete" in (PACKER / "scripts" / "cleanup.sh").read_text()
