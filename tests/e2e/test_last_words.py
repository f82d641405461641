"""Builds that fail once the scripts have passed, or leave something: the real Packer, any call of which is refused."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gpu_ami.bake import base, compare, packer_bake
from gpu_ami.bake.job import Job
from gpu_ami.bake.prepare import prepare
from gpu_ami.bake.template import template_scripts
from gpu_ami.errors import BuildError, InterruptedRunError
from gpu_ami_sandbox.aws.gate import Answer, Call, Environ, Fault, error_answer
from tests.e2e.inprocess import Bench, bench
from tests.e2e.leftovers import left_resources
from tests.support.resources import tags_of

# Of the template's steps those of the first provisioner and the last; what they really do is another test's.
SHORT = ("wait-for-boot", "update-system", "validate-image")
_STEP = re.compile(
    r'^  provisioner "\w+" \{\n(?:    .*?/scripts/([\w-]+)\.sh"\]?|    .*?)\n(?:    .*\n)*  \}\n\n?', re.MULTILINE
)
COPY = "us-east-1"
COPIED = f'ami_regions=["{COPY}"]'
TEMPORARY = "iam_instance_profile="
NO = "made to fail"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A sandbox whose builds take seconds."""
    with bench(tmp_path_factory.mktemp("last-words") / "checkout") as here:
        folder = here.run.workspace.root / "packer"
        for name in (*SHORT, "collect-logs"):
            (folder / "scripts" / f"{name}.sh").write_text("#!/usr/bin/env bash\ntrue\n")
        template = folder / "aws-gpu-ami.pkr.hcl"
        template.write_text(_STEP.sub(lambda step: step[0] if step[1] in SHORT else "", template.read_text()))
        assert template_scripts(folder) == SHORT
        yield here


@pytest.fixture
def here(opened: Bench) -> Iterator[Bench]:
    """The sandbox without the faults of the test before."""
    opened.gate.clear()
    opened.err.truncate(opened.err.seek(0))
    yield opened
    opened.gate.clear()


def _job(here: Bench, *variables: str) -> Job:
    job = prepare(here.run, variables)
    return base.full(job, compare.expected_fingerprints(here.run, job))


def _fails(here: Bench, job: Job) -> str:
    """Run Packer alone, without the checks before it; return the line of its failure."""
    with pytest.raises(BuildError) as caught:
        packer_bake.bake(here.run, job)
    said = str(caught.value)
    assert "\n" not in said
    assert "The whole log is in" in said
    return said


def _images(here: Bench, job: Job) -> dict[str, list[dict[str, Any]]]:
    """Return the AMIs of a build, by region."""
    mine = [{"Name": "tag:gpu-ami:run", "Values": [job.run_id]}]

    def listed(region: str) -> list[dict[str, Any]]:
        return list(here.access.client("ec2", region=region).describe_images(Owners=["self"], Filters=mine)["Images"])

    return {region: listed(region) for region in (here.access.region, COPY)}


def _snapshots(here: Bench, job: Job) -> list[str]:
    found = here.access.client("ec2").describe_snapshots(
        OwnerIds=["self"], Filters=[{"Name": "tag:gpu-ami:run", "Values": [job.run_id]}]
    )
    return [row["SnapshotId"] for row in found["Snapshots"]]


def _roles(here: Bench) -> list[str]:
    roles = here.access.client("iam").list_roles()["Roles"]
    return [role["RoleName"] for role in roles if role["RoleName"].startswith("packer-")]


def _made(here: Bench) -> bool:
    return any(call.action == "CreateImage" for call in here.gate.calls)


def _on_the_new_ami(here: Bench, then: Callable[[Environ], Answer | None]) -> Fault:
    """Do *then* when the plugin looks at the AMI that it has had made."""

    def answer(call: Call, environ: Environ) -> Answer | None:
        return then(environ) if _made(here) and "ImageId.1" in call.parameters else None

    return here.gate.add(Fault(answer, "DescribeImages"))


def test_a_refused_image_is_the_fault_of_no_script(here: Bench) -> None:
    """The last script has passed, whatever Packer's cleanup provisioner is called."""
    here.gate.fail("TagPolicyViolation", action="CreateImage")
    job = _job(here)

    said = _fails(here, job)

    assert said.startswith("The build failed at making the AMI: Error creating AMI: "), said
    assert "TagPolicyViolation" in said
    assert left_resources(here.sandbox, job.run_id) == []


def test_the_ami_of_a_failed_wait_is_named(here: Bench) -> None:
    """It is there and becomes available; only the tags of a finished one are missing."""
    refused: list[bool] = []

    def once(environ: Environ) -> Answer | None:
        # The plugin looks once more, for the reason.
        refused.append(True)
        return error_answer(environ, "AuthFailure", NO) if len(refused) == 1 else None

    _on_the_new_ami(here, once)
    job = _job(here)

    said = _fails(here, job)

    (image,) = _images(here, job)[here.access.region]
    assert said.startswith("The build failed at waiting for the AMI: Error waiting for AMI: "), said
    assert f"Left: the AMI {image['ImageId']} in {here.access.region} (available). `invoke sweep` removes that" in said
    assert tags_of(image)["gpu-ami:finished"] == "false"
    assert left_resources(here.sandbox, job.run_id) == [image["ImageId"]]


def test_a_refused_copy_takes_the_ami_back(here: Bench) -> None:
    """The plugin removes the one in its own region; nothing is left in either."""
    here.gate.fail("TagPolicyViolation", action="CopyImage")
    job = _job(here, COPIED)

    said = _fails(here, job)

    assert said.startswith("The build failed at copying the AMI: "), said
    assert f"to region ({COPY})" in said
    assert _images(here, job) == {here.access.region: [], COPY: []}
    assert _snapshots(here, job) == []


def test_a_copy_that_cannot_be_tagged_is_no_finished_ami(here: Bench) -> None:
    """The home AMI had all its tags by then, and protection keeps both: the reason is the tags, and both are named."""

    def answer(call: Call, environ: Environ) -> Answer | None:
        return error_answer(environ, "TagPolicyViolation", NO) if call.region == COPY else None

    here.gate.add(Fault(answer, "CreateTags"))
    job = _job(here, COPIED, "deregistration_protection=on")

    said = _fails(here, job)

    images = {region: image for region, (image,) in _images(here, job).items()}
    copy = images[COPY]["ImageId"]
    assert said.startswith(f"The build failed at tagging the AMI {copy}: "), said
    assert "TagPolicyViolation" in said.partition("Left: ")[0]
    for region, image in images.items():
        assert f"the AMI {image['ImageId']} in {region} (available), protected until " in said
    # Which of the two the plugin tags first is chance; once both orders were tried, it was the home AMI's turn, too.
    image = images[here.access.region]
    here.access.client("ec2").create_tags(
        Resources=[image["ImageId"]], Tags=[{"Key": "gpu-ami:handover", "Value": "pending"}]
    )
    live = compare.compare(here.run, job).live
    assert live is None or live.image_id != image["ImageId"]


def test_ctrl_c_while_the_ami_is_pending_takes_it_back(here: Bench) -> None:
    """Packer ends the builder and forgets the AMI that EC2 goes on making, and its snapshot."""
    made = {image.id for image in _backend(here).amis.values()}

    def press(_environ: Environ) -> None:
        for image in _backend(here).amis.values():
            if image.id not in made:
                image.state, image.ready_at = "pending", 0.0
        os.kill(os.getpid(), signal.SIGINT)

    _on_the_new_ami(here, press)
    job = _job(here, TEMPORARY)

    with pytest.raises(InterruptedRunError, match="The build was interrupted; what it had started is ended"):
        packer_bake.bake(here.run, job)

    assert "(pending) that Packer had left." in here.err.getvalue()
    assert (_images(here, job)[here.access.region], _snapshots(here, job), _roles(here)) == ([], [], [])
    assert left_resources(here.sandbox, job.run_id) == []


def _backend(here: Bench) -> Any:
    from moto.ec2.models import ec2_backends

    return ec2_backends[here.sandbox.account.account_id][here.access.region]


def test_a_role_that_packer_could_not_delete_goes(here: Bench) -> None:
    """Packer ends with 0 and says so in its log alone."""
    here.gate.fail("ServiceFailure", action="DeleteRole", at=1)
    job = _job(here, TEMPORARY)

    baked = packer_bake.bake(here.run, job)

    assert baked.progress is not None
    assert f"Removed the role {baked.progress.profile} that Packer had left." in here.err.getvalue()
    assert _roles(here) == []
    (image,) = _images(here, job)[here.access.region]
    assert image["ImageId"] in baked.progress.amis.values()
    assert json.loads(here.run.workspace.manifest.read_text())["builds"][-1]["custom_data"]["run_id"] == job.run_id


def test_credentials_that_run_out_name_the_builder_that_they_leave(here: Bench) -> None:
    """From stopping it on AWS refuses everything: neither Packer nor we can end what goes on costing money.

    The last test here: its builder stays.
    """
    over: list[bool] = []

    def answer(call: Call, environ: Environ) -> Answer | None:
        over.extend([True] if call.action == "StopInstances" else [])
        return error_answer(environ, "ExpiredToken", "The security token is expired", 403) if over else None

    here.gate.add(Fault(answer))
    job = _job(here)

    said = _fails(here, job)

    assert said.startswith("The build failed at stopping the builder: Error stopping instance: "), said
    assert "ExpiredToken" in said
    assert f"More of run {job.run_id} may be left (instances: " in said
