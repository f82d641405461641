"""Builds that go wrong: the right words, the right exit code, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.bake.variables import template_scripts
from tests.e2e.conftest import ROOT, Checkout, make_checkout
from tests.e2e.test_build import leftovers

SCRIPTS = template_scripts(ROOT / "packer")


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Checkout, Any]]:
    """A checkout whose scripts the tests break, and its running sandbox."""
    checkout = make_checkout(tmp_path_factory.mktemp("spoilt") / "checkout")
    with checkout.sandbox() as sandbox:
        yield checkout, sandbox


@pytest.fixture
def scene(spoilt: tuple[Checkout, Any]) -> Iterator[tuple[Checkout, Any]]:
    """The spoilt checkout with whole sources again."""
    checkout, _ = spoilt
    yield spoilt
    shutil.rmtree(checkout.root / "packer")
    fresh = make_checkout(checkout.root.parent / f"fresh-{time.monotonic_ns()}")
    shutil.move(fresh.root / "packer", checkout.root / "packer")
    shutil.rmtree(fresh.root)


def _all_leftovers(sandbox: Any) -> list[str]:
    """Return what any build of these tests left; the demo account's own dead build is not one of them."""
    ec2 = sandbox.access.client("ec2")
    instances = [{"Name": "resource-type", "Values": ["instance"]}, {"Name": "key", "Values": ["gpu-ami:run"]}]
    tags = ec2.describe_tags(Filters=instances)["Tags"]
    runs = {tag["Value"] for tag in tags if tag["ResourceId"] != sandbox.account.leftovers["instance"]}
    return [left for run in runs for left in leftovers(sandbox, run)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_step_that_fails_is_named(scene: tuple[Checkout, Any], script: str) -> None:
    """The line tells the step, the reason and the log; Packer has cleaned up; nothing was handed over."""
    checkout, sandbox = scene
    for name in SCRIPTS:
        # The steps before it do as little as they can: what they really do is another test's.
        least = "echo '{}' >/etc/gpu-ami-release.json" if name == "write-release" else "true"
        (checkout.root / "packer" / "scripts" / f"{name}.sh").write_text(f"#!/usr/bin/env bash\n{least}\n")
    broken = checkout.root / "packer" / "scripts" / f"{script}.sh"
    broken.write_text("#!/usr/bin/env bash\necho 'broken on purpose' >&2\nexit 7\n")

    done = checkout.invoke("build", "--sandbox", "--output", "json")

    assert (done.returncode, done.stdout) == (5, ""), done.stderr
    last = done.stderr.strip().splitlines()[-1]
    position = SCRIPTS.index(script) + 1
    assert re.search(
        rf"failed at step {position} of {len(SCRIPTS)}: {script}: .*exit status: 7.*log is in \S+\.log", last
    )
    log = Path(last.rsplit(" ", 1)[-1].rstrip("."))
    assert "broken on purpose" in log.read_text()
    assert _all_leftovers(sandbox) == []
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
    assert _all_leftovers(sandbox) == []


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
    assert _all_leftovers(sandbox) == []


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


@pytest.mark.parametrize(
    "said",
    ["launching the builder", f"step 1 of {len(SCRIPTS)}", f"step 5 of {len(SCRIPTS)}", "making the AMI"],
)
def test_ctrl_c_leaves_nothing_behind(scene: tuple[Checkout, Any], said: str) -> None:
    """Whatever Packer was doing, one Ctrl-C ends the build, the instance and everything made for it."""
    checkout, sandbox = scene
    child = checkout.popen("build", "--sandbox")
    assert child.stderr is not None
    lines: list[str] = []
    for line in child.stderr:
        lines.append(line)
        if said in line:
            child.send_signal(signal.SIGINT)
            break
    rest, _ = child.stderr.read(), child.wait(timeout=120)
    if child.stdout is not None:
        child.stdout.close()
    child.stderr.close()

    assert said in "".join(lines), "".join(lines)
    assert child.returncode == 130, rest
    assert "interrupted" in rest.strip().splitlines()[-1]
    assert _all_leftovers(sandbox) == []


class Trap:
    """A server on another loopback port: whoever connects there has left the sandbox."""

    def __init__(self) -> None:
        """Listen at once."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


BACKEND = """\
terraform {
  backend "s3" {
    bucket = "leak"
    key    = "leak"
    region = "eu-west-1"
  }
}
"""


def test_no_variable_of_the_user_leads_the_sandbox_off_loopback(checkout: Checkout, tmp_path: Path) -> None:
    """Each of these gets past a plain AWS_ENDPOINT_URL; together they must change nothing."""
    trap = Trap()
    there = f"http://127.0.0.1:{trap.port}"
    config = tmp_path / "config"
    config.write_text(f"[profile leak]\nregion = eu-west-1\nendpoint_url = {there}\naws_access_key_id = a\n")
    (checkout.root / "packer" / "variables.auto.pkrvars.hcl").write_text('subnet_id = "subnet-leak"\n')
    (checkout.root / "terraform" / "terraform.tfvars").write_text('gpu_ami_id = "ami-leak"\n')
    (checkout.root / "terraform" / "backend.tf").write_text(BACKEND)
    leaks = {
        "AWS_PROFILE": "leak",
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(config),
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_ENDPOINT_URL": there,
        "AWS_ENDPOINT_URL_EC2": there,
        "AWS_ENDPOINT_URL_SSM": there,
        "AWS_ENDPOINT_URL_S3": there,
        "AWS_ENDPOINT_URL_STS": there,
        "AWS_REGION": "eu-west-1",
        "AWS_CA_BUNDLE": str(tmp_path / "none.pem"),
        "HTTP_PROXY": there,
        "HTTPS_PROXY": there,
        "http_proxy": there,
        "https_proxy": there,
        "ALL_PROXY": there,
        "PKR_VAR_subnet_id": "subnet-leak",
        "PACKER_LOG": "1",
        "PACKER_CONFIG": str(tmp_path / "packerconfig"),
        "TF_VAR_gpu_ami_id": "ami-leak",
        "TF_CLI_ARGS": "-nonsense",
        "TF_CLI_ARGS_init": "-backend-config=bucket=leak",
        "TF_WORKSPACE": "leak",
        "TF_CLI_CONFIG_FILE": str(tmp_path / "none.rc"),
    }
    try:
        done = checkout.invoke("build", "--sandbox", "--output", "json", **leaks)
    finally:
        trap.close()

    assert done.returncode == 0, done.stderr
    assert trap.connections == 0
    built = json.loads(done.stdout)
    handed = json.loads((checkout.root / built["tfvars"]).read_text())
    assert handed == {"gpu_ami_id": built["ami_id"]}
    for file in (checkout.root / ".sandbox").rglob("*"):
        if file.is_file() and os.access(file, os.R_OK) and file.stat().st_size < 1_000_000:
            assert b"subnet-leak" not in file.read_bytes(), file
