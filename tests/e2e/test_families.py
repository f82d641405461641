"""Two families in one repository, built side by side by real Packers, and looked at afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.conftest import Checkout
from tests.support.schemas import problems

pytestmark = pytest.mark.e2e

TWO = """
region: ap-northeast-2
families:
  video:
    variables_file: packer/video.auto.pkrvars.hcl
    handover: {file: terraform/video.auto.tfvars.json, variable: video_ami_id}
  training:
    variables_file: packer/training.auto.pkrvars.hcl
    handover: {file: terraform/training.auto.tfvars.json, variable: training_ami_id}
"""


def test_two_families_are_built_side_by_side_in_one_sandbox(checkout: Checkout) -> None:
    """Each with its own AMI, manifest, record, variable and log; the tasks after it are about both."""
    (checkout.root / "pipeline.yaml").write_text(TWO)

    child = checkout.popen(
        "build", "--jobs", "2", "cleanup", "manifest", "--all-families", "--sandbox", "--output", "json"
    )
    out, err = child.communicate(timeout=400)

    assert child.returncode == 0, err
    lines: list[Any] = [json.loads(line) for line in out.splitlines()]
    assert [
        problems(task, line) for task, line in zip(("build", "build", "cleanup", "cleanup"), lines[:4], strict=True)
    ] == [[]] * 4
    built = {line["family"]: line for line in lines[:2]}
    kept = {line["family"]: line for line in lines[2:4]}
    shown = {line[0]["family"]: line[0] for line in lines[4:]}
    assert list(built) == list(kept) == list(shown) == ["video", "training"]
    assert built["video"]["ami_id"] != built["training"]["ami_id"]
    state = checkout.root / ".sandbox"
    for family, made in built.items():
        ami = made["ami_id"]
        assert made["name"].startswith(f"{family}-")
        assert made["manifest"] == f".sandbox/manifest-{family}.json"
        assert json.loads((state / "terraform" / f"{family}.auto.tfvars.json").read_text()) == {f"{family}_ami_id": ami}
        assert json.loads((state / f"release-{family}.json").read_text())["family"] == family
        assert shown[family]["amis"] == {"ap-northeast-2": ami}
        # It is younger than any that may go, and the only one in the scope of its family.
        assert [(verdict["image_id"], verdict["action"]) for verdict in kept[family]["verdicts"]] == [(ami, "keep")]
        assert f"Family {family}: its log is .sandbox/logs/build-" in err
        (log,) = (state / "logs").glob(f"build-*-{family}.log")
        assert "ending the builder" in log.read_text()
    assert not (state / "session.json").exists()
