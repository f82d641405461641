"""What a build has left: removed, or named with what to do; never another build's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from moto.iam.models import iam_backends

from gpu_ami.aws import caller
from gpu_ami.bake import leftovers
from gpu_ami.bake.packer_events import POST_PROCESSING, WAITING, Progress
from gpu_ami.records.tags import is_finished
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.demo.factory import FAMILY, Maker
from tests.bake.test_compare import _job, prepared
from tests.support.account import OTHER_REGION, REGION, Task, World, other_region

__all__ = ["prepared"]
RUN = "r1"
TAGS = {"gpu-ami:run": RUN, "gpu-ami:family": FAMILY, "gpu-ami:pipeline": "gpu-ami-pipeline"}
PROFILE = "packer-6b0d1c69-f875-bf4d-11c3-b88282b5e568"
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})
COPIED = {"ami_regions": f'["{OTHER_REGION}"]'}
SHARING = Progress(scripts=("a", "validate-image"), step=2, script_tail=("x",), part="sharing the AMI")


def _ami(maker: Maker, run: str = RUN, **more: Any) -> SandboxAmi:
    """Make an AMI as a build that is not over has it, with its snapshot."""
    image = maker.image(1)
    image.add_tags({"gpu-ami:run": run, "gpu-ami:finished": "false"})
    for snapshot_id in image.snapshot_ids:
        maker.ec2.snapshots[snapshot_id].add_tags({"gpu-ami:run": run})
    for name, value in more.items():
        setattr(image, name, value)
    return image


def _profile(here: World, run: str = RUN, *, role: bool = True, profile: bool = True) -> None:
    iam = here.access.client("iam")
    tags = [{"Key": key, "Value": value} for key, value in (TAGS | {"gpu-ami:run": run}).items()]
    if role:
        iam.create_role(RoleName=PROFILE, AssumeRolePolicyDocument=TRUST, Tags=tags)
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
        iam.put_role_policy(RoleName=PROFILE, PolicyName=PROFILE, PolicyDocument=json.dumps(policy))
    if profile:
        iam.create_instance_profile(InstanceProfileName=PROFILE, Tags=tags)
    if role and profile:
        iam.add_role_to_instance_profile(InstanceProfileName=PROFILE, RoleName=PROFILE)


def _iam(here: World) -> tuple[set[str], set[str]]:
    """Return the names of the roles and of the profiles that Packer has named."""
    iam = iam_backends[here.account]["aws"]
    roles = {role.name for role in iam.roles.values() if role.name.startswith("packer-")}
    return roles, {found.name for found in iam.instance_profiles.values() if found.name.startswith("packer-")}


def _failed(here: World, prepared: Task, progress: Progress | None = SHARING, **variables: str) -> str:
    return leftovers.after_failure(prepared.run, _job(here, **variables), progress)


@pytest.mark.parametrize("part", [WAITING, POST_PROCESSING, None])
@pytest.mark.parametrize("state", ["available", "pending"])
def test_an_ami_that_the_failure_says_nothing_against_is_named(
    here: World, prepared: Task, part: str | None, state: str
) -> None:
    """EC2 goes on making it, or it is whole: hours of work that only a person may throw away."""
    image = _ami(here.maker, state=state)

    # Step by step nobody reads how far it came.
    left = _failed(here, prepared, replace(SHARING, part=part) if part else None)

    assert left.startswith(f"Left: the AMI {image.id} in {REGION} ({state}). `invoke sweep` removes")
    assert f"--region {REGION} --resources {image.id} --tags Key=gpu-ami:finished,Value=true " in left
    assert left.endswith(f"then run `invoke update-tfvars --ami {image.id}`.")
    assert ("aws ec2 wait image-available" in left) is (state == "pending")
    # Where the wait failed, Packer has not set its own tag either, and a sweep goes by both.
    given = dict(re.findall(r"Key=([\w:-]+),Value=(\w+)", left))
    assert not is_finished(here.maker.ec2.tags[image.id])
    assert is_finished(here.maker.ec2.tags[image.id] | given)
    assert here.there() == {image.id}
    assert set(image.snapshot_ids) <= here.snapshots_there()


def test_an_ami_that_ec2_could_not_make_goes(here: World, prepared: Task) -> None:
    """Nobody can launch it, and its snapshot costs money."""
    _ami(here.maker, state="failed")

    assert _failed(here, prepared, replace(SHARING, part=WAITING)) == ""
    assert here.there() == here.snapshots_there() == set()


def test_the_snapshots_of_an_ami_that_ec2_does_not_list_yet_stay(here: World, prepared: Task) -> None:
    """Its lists are seconds behind; the AMI that is to stay could start no instance without them."""
    image = _ami(here.maker)
    here.maker.ec2.tags[image.id].pop("gpu-ami:run")

    left = _failed(here, prepared, replace(SHARING, part=WAITING, ami_id=image.id))

    assert left.startswith(f"Left: the AMI {image.id} in {REGION}, which EC2 does not list yet. ")
    assert f"--resources {image.id}" in left
    assert set(image.snapshot_ids) <= here.snapshots_there()


def test_what_a_failed_build_made_is_taken_back_in_every_region(here: World, prepared: Task) -> None:
    """The plugin takes back the one of its own region at most; a copy would be found by nobody. Others' AMIs stay."""
    there = other_region(here)
    made, copy = _ami(here.maker), _ami(there)
    other = _ami(here.maker, run="r2")

    assert _failed(here, prepared, SHARING, **COPIED) == ""

    assert here.there() == {other.id}
    assert here.snapshots_there() == set(other.snapshot_ids)
    assert not [image for image in there.ec2.amis.values() if image.owner_id == here.account]
    for image, region in ((made, REGION), (copy, OTHER_REGION)):
        assert f"Removed the AMI {image.id} in {region} (available) that Packer had left." in prepared.err.getvalue()


@pytest.mark.parametrize("by", ["its tag", "its description"])
def test_a_pending_amis_snapshots_go_although_ec2_does_not_list_them(here: World, prepared: Task, by: str) -> None:
    """It names them once the AMI is made; a copy's have no tags of ours."""
    image = _ami(here.maker, state="pending", mappings=[])
    (snapshot,) = [found for found in here.maker.ec2.snapshots.values() if found.id in here.snapshots_there()]
    if by == "its tag":
        snapshot.description = ""
    else:
        here.maker.ec2.tags.pop(snapshot.id)
        snapshot.description = f"Copied for DestinationAmi {image.id} from SourceAmi ami-1 for SourceSnapshot snap-1."

    left = leftovers.after_interrupt(prepared.run, _job(here), replace(SHARING, part=WAITING))

    assert left == ""
    assert here.there() == here.snapshots_there() == set()


def test_a_protected_ami_is_named_with_what_lets_it_go(here: World, prepared: Task) -> None:
    """Protection is switched on before the tags: what fails after it leaves an AMI that EC2 lets nobody take back."""
    image = _ami(here.maker, deregistration_protection="enabled-without-cooldown")

    left = _failed(here, prepared)

    switch = f"`aws ec2 disable-image-deregistration-protection --image-id {image.id} --region {REGION}`"
    assert f"the AMI {image.id} in {REGION} (available), protected until {switch}" in left
    assert here.there() == {image.id}


@pytest.mark.parametrize(
    ("denied", "left"),
    [
        ("ec2:DeregisterImage", r"^Left: the AMI ami-\w+ in ap-northeast-2 \(available\) \(.*UnauthorizedOperation"),
        ("ec2:DescribeImages", r"^More of run r1 may be left \(AMIs in ap-northeast-2: .*UnauthorizedOperation"),
        ("ec2:DescribeSnapshots", r"^More of run r1 may be left \(AMIs in ap-northeast-2: .*DescribeSnapshots"),
        ("ec2:DeleteVolume", r"^Left: the volume vol-\w+ \(.*UnauthorizedOperation"),
        ("ec2:DescribeKeyPairs", r"^More of run r1 may be left \(key-pairs: .*UnauthorizedOperation"),
    ],
)
def test_what_cannot_be_removed_is_named_and_does_not_keep_the_rest(
    here: World, prepared: Task, denied: str, left: str
) -> None:
    """A missing permission for one thing is no reason to leave another running."""
    image = _ami(here.maker)
    volume = here.maker.ec2.create_volume(8, f"{REGION}a")
    volume.add_tags(TAGS)
    here.aws.gate.deny(denied)

    said = _failed(here, prepared)

    assert re.search(left, said), said
    assert (image.id in here.there()) is (denied in ("ec2:DeregisterImage", "ec2:DescribeImages"))
    assert (volume.id in here.maker.ec2.volumes) is (denied == "ec2:DeleteVolume")


def test_where_aws_does_not_answer_nothing_more_is_tried(
    here: World, prepared: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is gone, or the sandbox: the failure must be said now, not after a minute of tries."""
    monkeypatch.setattr(caller, "_FIRST_PAUSE_S", 0.0)
    _ami(here.maker)
    here.aws.gate.calls.clear()
    here.aws.gate.cut()

    left = _failed(here, prepared)

    assert left.startswith("More of run r1 may be left (instances: ")
    assert set(here.calls()) == {"DescribeInstances"}


@pytest.mark.parametrize("there", [{}, {"profile": False}, {"role": False}], ids=["both", "role", "profile"])
def test_the_temporary_role_and_profile_go(here: World, prepared: Task, there: Mapping[str, bool]) -> None:
    """A build that dies before the profile has its role leaves both apart; a profile that is kept keeps the role."""
    _profile(here, RUN, **there)

    assert _failed(here, prepared, Progress(scripts=(), profile=PROFILE)) == ""

    assert _iam(here) == (set(), set())
    assert ("Removed the role" in prepared.err.getvalue()) is there.get("role", True)


@pytest.mark.parametrize("there", [{}, {"profile": False}], ids=["both", "role"])
def test_step_by_step_role_and_profile_are_found_by_their_tag(
    here: World, prepared: Task, there: Mapping[str, bool]
) -> None:
    """Packer talks to the terminal then, so nobody has read their name."""
    _profile(here, RUN, **there)

    assert _failed(here, prepared, None) == ""

    assert _iam(here) == (set(), set())


def test_a_role_of_another_run_stays(here: World, prepared: Task) -> None:
    """Packer's name is only a name; the tag says whose it is."""
    _profile(here, run="r2")

    assert _failed(here, prepared, Progress(scripts=(), profile=PROFILE)) == ""

    assert _iam(here) == ({PROFILE}, {PROFILE})


def test_what_packer_complains_of_after_a_good_build_is_removed(here: World, prepared: Task) -> None:
    """It only prints "Please delete the role manually" and ends with 0: nobody reads that. The AMI stays, of course."""
    _profile(here, profile=False)
    image = _ami(here.maker)
    complaint = f"Error Throttling: Rate exceeded. Please delete the role manually: {PROFILE}"

    leftovers.after_success(prepared.run, _job(here), replace(SHARING, profile=PROFILE, complaints=(complaint,)))

    assert _iam(here)[0] == set()
    assert f"Removed the role {PROFILE} that Packer had left." in prepared.err.getvalue()
    assert "warning" not in prepared.err.getvalue()
    assert here.there() == {image.id}


def test_what_cannot_be_removed_after_a_good_build_is_a_warning(here: World, prepared: Task) -> None:
    """The AMI is made and handed over; whose role stays there has to be said."""
    _profile(here, profile=False)
    here.aws.gate.fail("Throttled", action="DeleteRole")
    done = replace(SHARING, profile=PROFILE, complaints=("Error 1", "Error 2"))

    leftovers.after_success(prepared.run, _job(here), done)

    said = prepared.err.getvalue()
    assert f"could not clean up: Error 1 Left: the role or instance profile {PROFILE} (" in said
    assert "Throttled" in said


def test_a_good_build_without_complaints_costs_no_call(here: World, prepared: Task) -> None:
    """Every build ends so."""
    here.aws.gate.calls.clear()

    leftovers.after_success(prepared.run, _job(here), replace(SHARING, profile=PROFILE))

    assert here.calls() == []


@pytest.mark.parametrize("spot", [True, False])
def test_the_launch_template_of_a_spot_builder_goes(here: World, prepared: Task, *, spot: bool) -> None:
    """The plugin forgets it where it could not end the builder. Without Spot there is none to search for."""
    here.maker.ec2.create_launch_template(
        "packer-fleet-launch-template-a1B2c3D", "", {"InstanceType": "c7i.large"}, {"launch-template": TAGS}
    )

    assert _failed(here, prepared, spot=str(spot).lower()) == ""

    assert (not here.maker.ec2.launch_templates) is spot


def test_before_the_first_script_no_ami_is_searched_for(here: World, prepared: Task) -> None:
    """A build without room for its builder is tried in the next placement: each try should cost little."""
    here.aws.gate.calls.clear()

    assert _failed(here, prepared, replace(SHARING, step=0, part="")) == ""

    assert "DescribeImages" not in here.calls()
