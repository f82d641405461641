"""Builds that go wrong: the right message, the right exit code, and nothing left behind."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Checkout
from tests.e2e.leftovers import all_left_resources
from tests.support.steps import STEPS

# What those must leave that Packer brings a file from.
LEAST = {
    "list-contents": "mkdir -p /run/gpu-ami\necho '{}' >/run/gpu-ami/contents.json",
    "write-release": "echo '{}' >/etc/gpu-ami-release.json",
}
# The first, the last, one between two and the one that Packer brings a file from. `bake/test_packer_run.py` proves that
# each of the others is named, `test_build.py` that they run in this order, `infra/test_template.py` that none may fail.
SOME = (STEPS[0], "pull-image", "write-release", STEPS[-1])


@pytest.mark.parametrize("script", SOME)
def test_a_step_that_fails_is_named(scene: tuple[Checkout, Any], script: str) -> None:
    """The line tells the step, the reason and the log; Packer has cleaned up; nothing was handed over."""
    checkout, sandbox = scene
    for name in STEPS:
        # The steps before it do as little as they can: what they really do is another test's.
        least = LEAST.get(name, "true")
        (checkout.root / "packer" / "scripts" / f"{name}.sh").write_text(f"#!/usr/bin/env bash\n{least}\n")
    broken = checkout.root / "packer" / "scripts" / f"{script}.sh"
    broken.write_text("#!/usr/bin/env bash\necho 'broken on purpose' >&2\nexit 7\n")

    done = checkout.invoke("build", "--sandbox", "--output", "json")

    assert (done.returncode, done.stdout) == (5, ""), done.stderr
    last = done.stderr.strip().splitlines()[-1]
    position = STEPS.index(script) + 1
    assert re.search(
        rf"failed at step {position} of {len(STEPS)}: {script}: .*exit status: 7.*log is in \S+\.log", last
    )
    log = Path(last.rsplit(" ", 1)[-1].rstrip("."))
    assert "broken on purpose" in log.read_text()
    assert all_left_resources(sandbox) == []
    assert not (checkout.root / ".sandbox" / "terraform" / "gpu-ami.auto.tfvars.json").exists()


@pytest.mark.parametrize(
    ("variable", "detail"),
    [("image_tag=none", "has no image none"), (f"image_digest=sha256:{'0' * 64}", "has no image sha256:0")],
)
def test_a_missing_image_is_found_before_anything_starts(
    scene: tuple[Checkout, Any], variable: str, detail: str
) -> None:
    """Exit 8: the pipeline refused, nothing was paid for."""
    checkout, sandbox = scene

    done = checkout.invoke("build", "--sandbox", "--var", variable)

    assert done.returncode == 8, done.stderr
    assert detail in done.stderr.splitlines()[-1]
    assert all_left_resources(sandbox) == []


def test_an_empty_model_bucket_is_found_before_anything_starts(scene: tuple[Checkout, Any]) -> None:
    """A prefix without objects would bake an image without models."""
    checkout, sandbox = scene
    sandbox.access.client("s3").create_bucket(
        Bucket="no-models", CreateBucketConfiguration={"LocationConstraint": sandbox.access.region}
    )

    done = checkout.invoke("build", "--sandbox", "--var", "models_s3_bucket=no-models")

    assert done.returncode == 8, done.stderr
    assert "no-models has nothing under models/" in done.stderr


def test_an_unreachable_guest_fails_the_launch(scene: tuple[Checkout, Any]) -> None:
    """No SSH answer: Packer gives up and ends the instance."""
    checkout, sandbox = scene
    template = checkout.root / "packer" / "aws-gpu-ami.pkr.hcl"
    template.write_text(re.sub(r'ssh_timeout( +)= "10m"', r'ssh_timeout\1= "3s"', template.read_text()))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        done = checkout.invoke("build", "--sandbox", "--var", f"ssh_port={port}")

    assert done.returncode == 5, done.stderr
    assert "launching the builder" in done.stderr.splitlines()[-1]
    assert "imeout" in done.stderr.splitlines()[-1]
    assert all_left_resources(sandbox) == []


@pytest.mark.parametrize(
    ("change", "status", "problem"),
    [
        (("build {", "build {{"), 5, r"`packer validate` refuses: .*aws-gpu-ami\.pkr\.hcl line \d+"),
        (("instance_type            = ", "instance_typo            = "), 5, r"instance_typo"),
        (("  ami_name        =", "  ami_name ="), 5, r"`packer fmt` would change the layout of aws-gpu-ami\.pkr\.hcl"),
    ],
    ids=["syntax", "unknown argument", "layout"],
)
def test_a_broken_template_is_refused_with_its_place(
    scene: tuple[Checkout, Any], change: tuple[str, str], status: int, problem: str
) -> None:
    """Validation is worth its second: nothing has been launched yet."""
    checkout, _ = scene
    template = checkout.root / "packer" / "aws-gpu-ami.pkr.hcl"
    text = template.read_text()
    assert change[0] in text
    template.write_text(text.replace(change[0], change[1], 1))

    done = checkout.invoke("build", "--sandbox")

    assert done.returncode == status, done.stderr
    assert re.search(problem, done.stderr.strip().splitlines()[-1])


def test_a_broken_terraform_folder_is_exit_6(scene: tuple[Checkout, Any]) -> None:
    """An AMI that Terraform cannot take is not worth baking."""
    checkout, _ = scene
    extra = checkout.root / "terraform" / "broken.tf"
    extra.write_text("locals {\n  a = var.nope\n}\n")
    try:
        done = checkout.invoke("build", "--sandbox")
    finally:
        extra.unlink()

    assert done.returncode == 6, done.stderr
    problem = "`terraform validate` refuses: Reference to undeclared input variable (broken.tf line 2)"
    assert problem in done.stderr
