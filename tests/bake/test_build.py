"""The order of a build's work, with an emulated run of Packer."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from gpu_ami.aws import capacity, image_changes, images
from gpu_ami.aws.caller import Caller
from gpu_ami.bake import (
    archiving,
    attest,
    base,
    build,
    build_tables,
    packer_bake,
    preflight,
    release_tags,
    result,
    validate,
)
from gpu_ami.bake.compare import Comparison, expected_fingerprints
from gpu_ami.bake.job import Baked, Job
from gpu_ami.bake.packer_events import Progress
from gpu_ami.bake.packer_run import FailedBuildError
from gpu_ami.bake.staleness import FACTS, Difference
from gpu_ami.errors import AwsError, BuildError, InterruptedRunError, SafetyError, UsageError
from gpu_ami.handover import attested
from gpu_ami.records import archive, provenance, release
from gpu_ami.records.manifest_file import Build
from gpu_ami.records.tags import FINGERPRINT_PREFIX
from tests.bake.test_compare import _job, _live, prepared
from tests.records.test_release import RECORD
from tests.support.account import OTHER_REGION, REGION, Task, World, other_region, task
from tests.support.clock import Clock
from tests.support.provenances import TAGS, bucket_store, said, statement
from tests.support.resources import tags_of
from tests.support.schemas import problems

__all__ = ["prepared"]
PLACE = {"subnet_id": "subnet-0123456789abcdef0"}
SCRIPTS = ("wait-for-boot", "validate-image")


def _failed(progress: Progress) -> FailedBuildError:
    return FailedBuildError("The build failed.", progress)


STEP_FAILED = Progress(scripts=SCRIPTS, instance_id="i-1", step=2, script_tail=("FAIL  free space",))
NO_ROOM = Progress(scripts=SCRIPTS, errors=("api error InsufficientInstanceCapacity: x",))
NO_SSH = Progress(scripts=SCRIPTS, instance_id="i-1", errors=("Timeout waiting for SSH.",))
# Packer says "provisioning had errors" then, too.
NO_TAG = replace(STEP_FAILED, part="tagging the AMI ami-1", reason="TagPolicyViolation")


class Packer:
    """Packer's run, played: what each one ends with, and the variables that each one got."""

    def __init__(self, *ends: Progress | FailedBuildError) -> None:
        """End the runs so, in turn."""
        self.ends, self.given, self.logs = list(ends), [], []  # type: ignore[var-annotated]

    def __call__(self, run: Any, job: Job, log: Path, *, debug: bool = False) -> Progress | None:
        """Play one run."""
        self.given.append(dict(job.inputs.variables))
        self.logs.append(log.name)
        end = self.ends.pop(0)
        if isinstance(end, FailedBuildError):
            raise end
        return end


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Packer]:
    """Let Packer's runs end so."""

    def played(*ends: Progress | FailedBuildError) -> Packer:
        packer = Packer(*ends)
        monkeypatch.setattr(packer_bake, "_attempt", packer)
        return packer

    return played


def _compared(here: World, prepared: Task, job: Job) -> Comparison:
    from gpu_ami.bake.compare import compare

    return compare(prepared.run, job)


def test_a_bake_is_made_of_what_was_looked_up(here: World, prepared: Task) -> None:
    """A tag or a base AMI that moves meanwhile must not be baked under the old one's fingerprint."""
    job = _job(here)
    expected = expected_fingerprints(prepared.run, job)

    given = base.full(job, expected).inputs.variables

    assert given["source_ami"] == expected.values["base"]
    assert f"v1@{given['image_digest']}" == expected.values["image"]
    assert json.loads(given["fingerprints"]) == expected.values
    assert set(expected.values) == set(FACTS)


def test_a_value_of_the_wrong_type_is_told_before_credentials(
    here: World, prepared: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--packer-var volume_size_gib=abc` needs nobody to sign in first; Packer may say more of it."""
    asked: list[Job] = []
    monkeypatch.setattr(validate, "validate", lambda job, tests: asked.append(job))
    job = _job(here, volume_size_gib="abc")
    here.aws.gate.calls.clear()

    with pytest.raises(UsageError, match="volume_size_gib is 'abc', not a number"):
        build.build(prepared.run, job)

    assert (asked, here.aws.gate.calls) == ([job], [])


def test_what_cannot_be_looked_up_is_not_pinned(here: World, prepared: Task) -> None:
    """An empty pin would be worse than none: the template finds it itself, or says that it is not there."""
    here.aws.gate.deny("ecr:*", "ssm:*")
    job = _job(here)

    given = base.full(job, expected_fingerprints(prepared.run, job)).inputs.variables

    assert not {"source_ami", "image_digest"} & set(given)
    assert set(json.loads(given["fingerprints"])) == {"models", "scripts", "settings"}


def test_the_manifest_is_read_where_packer_writes_it(here: World, prepared: Task, tmp_path: Path) -> None:
    """`--var manifest_path=…` is documented: a paid bake counted as failed, and its AMI's id was lost."""
    workspace = prepared.run.workspace
    assert packer_bake.manifest_of(prepared.run, _job(here)) == workspace.manifest
    (tmp_path / "out").mkdir()
    job = _job(here, manifest_path=str(tmp_path / "out" / "m.json"))
    entry = {
        "name": "ami",
        "builder_type": "amazon-ebs",
        "artifact_id": f"{REGION}:ami-0123456789abcdef0",
        "packer_run_uuid": "u",
        "custom_data": {"run_id": job.run_id},
    }
    (tmp_path / "out" / "m.json").write_text(json.dumps({"builds": [entry], "last_run_uuid": "u"}))

    before = entry | {"artifact_id": f"{REGION}:ami-11111111", "packer_run_uuid": "t"}
    workspace.packer.mkdir()
    workspace.manifest.write_text(json.dumps({"builds": [before], "last_run_uuid": "t"}))

    made = packer_bake.read_manifest(prepared.run, Baked(job, None))

    # Every other task reads the workspace's: `status` would have advised going back to the AMI before.
    noted = json.loads(workspace.manifest.read_text())
    assert noted == {"builds": [before, entry], "last_run_uuid": "u"}
    assert "Noted in packer/manifest.json as well" in prepared.err.getvalue()
    workspace.manifest.write_text("{")
    assert packer_bake.read_manifest(prepared.run, Baked(job, None)) == made
    assert "Other tasks read packer/manifest.json, which does not name this build:" in prepared.err.getvalue()
    workspace.manifest.unlink()
    packer_bake.read_manifest(prepared.run, Baked(job, None))
    assert workspace.manifest.read_bytes() == (tmp_path / "out" / "m.json").read_bytes()
    assert made.amis == {REGION: "ami-0123456789abcdef0"}
    assert packer_bake.manifest_of(prepared.run, _job(here, manifest_path="m.json")) == job.packer.folder / "m.json"


def test_a_manifest_that_cannot_be_written_is_refused_before_the_bake(
    here: World, prepared: Task, tmp_path: Path
) -> None:
    """Packer makes no folder for it, and fails when all is done and paid."""
    job = _job(here, manifest_path=str(tmp_path / "nowhere" / "m.json"))
    here.aws.gate.calls.clear()

    with pytest.raises(UsageError, match="nowhere"):
        build.build(prepared.run, job)

    assert "RunInstances" not in here.calls()


def test_an_incremental_bake_starts_from_the_last_ami(here: World, prepared: Task, play: Callable[..., Packer]) -> None:
    """The parent is the source; the fingerprints say what a full bake would say."""
    live = _live(here, prepared)
    live.add_tags({"gpu-ami:chain-length": "3"})
    packer, job = play(Progress(scripts=SCRIPTS)), _job(here, **PLACE)

    build._bake(prepared.run, job, _compared(here, prepared, job), debug=False, incremental=True)

    (given,) = packer.given
    assert (given["source_ami"], given["chain_length"]) == (live.id, "4")
    assert json.loads(given["fingerprints"])["base"] != live.id
    assert f"An incremental bake on {live.id}, number 4 of at most 10" in prepared.err.getvalue()


def test_a_chain_that_is_long_enough_ends_in_a_full_bake(
    here: World, prepared: Task, play: Callable[..., Packer]
) -> None:
    """Each link keeps blocks of the ones before it: now and then a fresh start."""
    live = _live(here, prepared)
    live.add_tags({"gpu-ami:chain-length": "10"})
    packer, job = play(Progress(scripts=SCRIPTS)), _job(here, **PLACE)

    build._bake(prepared.run, job, _compared(here, prepared, job), debug=False, incremental=True)

    assert packer.given[0]["source_ami"] != live.id
    assert "chain_length" not in packer.given[0]
    assert f"A full bake: {live.id} is number 10 of a chain that may have 10." in prepared.err.getvalue()


def test_nothing_is_baked_on_an_ami_whose_provenance_is_refused(
    here: World, prepared: Task, play: Callable[..., Packer], tmp_path: Path
) -> None:
    """What is in it would go on in the child, under a signature that says where all of it comes from."""
    live = _live(here, prepared)
    live.add_tags({"gpu-ami:chain-length": "3", "gpu-ami:provenance": "0" * 64})
    packer, job = play(Progress(scripts=SCRIPTS)), _job(here, **PLACE)

    build._bake(prepared.run, job, _compared(here, prepared, job), debug=False, incremental=True)

    assert packer.given[0]["source_ami"] != live.id
    assert f"A full bake: The provenance of {live.id} is refused: its tag" in prepared.err.getvalue()


def test_a_parent_that_does_not_pass_is_followed_by_a_full_bake(
    here: World, prepared: Task, play: Callable[..., Packer]
) -> None:
    """Incremental is a shortcut: it must never be the reason that there is no image."""
    live = _live(here, prepared)
    live.add_tags({"gpu-ami:chain-length": "0"})
    packer, job = play(_failed(STEP_FAILED), Progress(scripts=SCRIPTS)), _job(here, **PLACE)

    baked = build._bake(prepared.run, job, _compared(here, prepared, job), debug=False, incremental=True)

    assert [given["source_ami"] == live.id for given in packer.given] == [True, False]
    assert packer.logs == ["build-r1.log", "build-r1-full.log"]
    assert "chain_length" not in baked.job.inputs.variables
    assert "validate-image failed on top of the last AMI, so a full bake follows." in prepared.err.getvalue()


@pytest.mark.parametrize("end", [NO_SSH, NO_TAG], ids=["no step reached", "every step passed"])
def test_a_bake_that_no_step_ended_is_not_the_parents_fault(
    here: World, prepared: Task, play: Callable[..., Packer], end: Progress
) -> None:
    """A network without a way in, or a tag that is refused, fails a full bake too, an hour later."""
    _live(here, prepared).add_tags({"gpu-ami:chain-length": "0"})
    packer, job = play(_failed(end)), _job(here, **PLACE)

    with pytest.raises(FailedBuildError):
        build._bake(prepared.run, job, _compared(here, prepared, job), debug=False, incremental=True)

    assert len(packer.given) == 1


def test_each_attempt_has_a_log_of_its_own(here: World, prepared: Task, play: Callable[..., Packer]) -> None:
    """The log of the first attempt says why there was a second."""
    packer = play(_failed(NO_ROOM), Progress(scripts=SCRIPTS))

    baked = packer_bake.bake(prepared.run, _job(here, **PLACE))

    assert packer.logs == ["build-r1.log", "build-r1-2.log"]
    assert [given["instance_type"] for given in packer.given] == ["c7i.4xlarge", "c6i.4xlarge"]
    assert (baked.attempts, baked.job.inputs.variables["instance_type"]) == (2, "c6i.4xlarge")


def test_a_build_without_a_place_says_what_to_set(here: World, prepared: Task) -> None:
    """Nothing to try is no success."""
    with pytest.raises(BuildError, match="in any of 0 placements: add fallback_subnet_ids"):
        packer_bake.bake(prepared.run, _job(here))


def test_step_by_step_is_one_attempt(here: World, prepared: Task, play: Callable[..., Packer]) -> None:
    """Nobody but the person at the terminal reads what Packer says then."""
    packer = play(_failed(NO_ROOM))

    with pytest.raises(FailedBuildError):
        packer_bake.bake(prepared.run, _job(here, **PLACE), debug=True)

    assert len(packer.given) == 1


@pytest.fixture
def made(here: World, prepared: Task) -> tuple[Baked, Build]:
    """A bake that is over: its AMI, with a copy, and its release record."""
    image, copy = here.image(1), here.image(2)
    job = _job(here)
    prepared.run.workspace.release.parent.mkdir(parents=True)
    prepared.run.workspace.release.write_text(json.dumps(RECORD))
    baked = Baked(job.given(release_path=str(prepared.run.workspace.release)), Progress(scripts=SCRIPTS))
    artifact_id = f"{prepared.run.access.region}:{image.id}"
    return baked, Build(builder_type="amazon-ebs", artifact_id=artifact_id, custom_data={"copy": copy.id})


def test_the_record_is_completed_and_written_on_the_ami(here: World, prepared: Task, made: tuple[Baked, Build]) -> None:
    """Packer cannot know the driver before the bake, nor the size of the snapshot before there is one."""
    baked, build = made

    recorded = release_tags.record(prepared.run, baked, build)
    assert release_tags.tag(prepared.run, build, recorded) == set()

    written = json.loads(prepared.run.workspace.release.read_text())
    assert written == RECORD | {"snapshot_gib": recorded.snapshot_gib}
    assert recorded.image.tags.get("gpu-ami:kernel") is None, "described before it was tagged"
    (image,) = here.access.client("ec2").describe_images(ImageIds=list(build.amis.values()))["Images"]
    assert tags_of(image)["gpu-ami:kernel"] == RECORD["kernel"]


@pytest.mark.parametrize(
    "content", [None, "{", json.dumps(RECORD | {"run_id": "another"}), json.dumps({"run_id": "r1"})]
)
def test_a_record_that_cannot_be_used_stops_the_hand_over(
    here: World, prepared: Task, made: tuple[Baked, Build], content: str | None
) -> None:
    """Nobody starts instances of an image that cannot say what it is; `build` names the AMI (below)."""
    baked, build = made
    prepared.run.workspace.release.unlink()
    if content is not None:
        prepared.run.workspace.release.write_text(content)

    with pytest.raises(BuildError, match="release record"):
        release_tags.record(prepared.run, baked, build)


def test_tags_that_ec2_refuses_are_a_warning(here: World, prepared: Task, made: tuple[Baked, Build]) -> None:
    """The AMI is as good without them; the line says which one lacks them."""
    baked, build = made
    here.aws.gate.deny("ec2:CreateTags")

    recorded = release_tags.record(prepared.run, baked, build)

    assert release_tags.tag(prepared.run, build, recorded) == set(build.amis.values())
    assert "has no tags with its release facts" in prepared.err.getvalue()


def test_tags_are_written_once_ec2_knows_the_ami(
    here: World, prepared: Task, made: tuple[Baked, Build], clock: Clock
) -> None:
    """A copy that is seconds old is not known everywhere, and no later run writes its tags."""
    baked, build = made
    for number in (1, 2, 3):
        here.aws.gate.fail("InvalidAMIID.NotFound", action="CreateTags", at=number)

    recorded = release_tags.record(prepared.run, baked, build)

    assert release_tags.tag(prepared.run, build, recorded) == set()

    (image,) = here.access.client("ec2").describe_images(ImageIds=list(build.amis.values()))["Images"]
    assert tags_of(image)["gpu-ami:kernel"] == RECORD["kernel"]
    assert "has no tags" not in prepared.err.getvalue()
    assert 0 < sum(clock.naps) < 60


def test_an_ami_is_called_finished_once_ec2_knows_it(here: World, prepared: Task, clock: Clock) -> None:
    """A paid bake must not end as a failed one because a part of EC2 is seconds behind."""
    image = here.image(1)
    for number in (1, 2):
        here.aws.gate.fail("InvalidSnapshot.NotFound", action="CreateTags", at=number)

    release_tags.finish(prepared.run, Build(builder_type="amazon-ebs", artifact_id=f"{REGION}:{image.id}"))

    assert here.maker.ec2.tags[image.id]["gpu-ami:finished"] == "true"
    assert 0 < sum(clock.naps) < 60


def test_an_ami_that_never_is_known_is_a_warning_after_half_a_minute(
    here: World, prepared: Task, made: tuple[Baked, Build], clock: Clock
) -> None:
    """Somebody deregistered it meanwhile: the build says so and ends."""
    baked, build = made
    here.aws.gate.fail("InvalidAMIID.NotFound", action="CreateTags")

    release_tags.tag(prepared.run, build, release_tags.record(prepared.run, baked, build))

    assert "has no tags with its release facts" in prepared.err.getvalue()
    assert 10 < sum(clock.naps) < 60


def test_every_ami_is_called_finished_that_of_the_pipelines_region_last(here: World, prepared: Task) -> None:
    """`--if-stale` goes by it: where a copy's mark fails, the build has not come to its end."""
    there = other_region(here)
    image, copy = here.image(1), there.image(1)
    made = Build(builder_type="amazon-ebs", artifact_id=f"{REGION}:{image.id},{OTHER_REGION}:{copy.id}")
    here.aws.gate.calls.clear()

    release_tags.finish(prepared.run, made)

    marks = [call for call in here.aws.gate.calls if call.action == "CreateTags"]
    assert [call.region for call in marks] == [OTHER_REGION, REGION]
    for maker, found in ((here.maker, image), (there, copy)):
        for resource in (found.id, *found.snapshot_ids):
            assert maker.ec2.tags[resource]["gpu-ami:finished"] == "true"


def test_an_ami_that_cannot_be_called_finished_is_not_handed_over(here: World, prepared: Task) -> None:
    """A sweep would take it for a failed build's; the line names every AMI and what to do by hand."""
    image = here.image(1)
    here.aws.gate.deny("ec2:CreateTags")

    with pytest.raises(BuildError, match=f"^{image.id} in {REGION} could not be tagged gpu-ami:finished=true .*sweep"):
        release_tags.finish(prepared.run, Build(builder_type="amazon-ebs", artifact_id=f"{REGION}:{image.id}"))


def test_release_facts_leave_room_for_all_other_tags(here: World, prepared: Task, made: tuple[Baked, Build]) -> None:
    """EC2 takes 50 and refuses all for one too many; twenty of the user's own and the pipeline's come near."""
    baked, build = made
    (ami,) = build.amis.values()
    present = here.maker.ec2.tags[ami]
    present |= {f"t{number}": "x" for number in range(38 - len(present))}

    recorded = release_tags.record(prepared.run, baked, build, first={"gpu-ami:provenance": "a" * 64})
    release_tags.tag(prepared.run, build, recorded)

    tags = here.maker.ec2.tags[ami]
    assert len(tags) == 50
    assert tags["gpu-ami:kernel"] == RECORD["kernel"]
    assert {"gpu-ami:provenance", "gpu-ami:snapshot-gib", "gpu-ami:models-digest"} <= set(tags)
    assert "gpu-ami:image-tag" not in tags


@pytest.mark.parametrize("end", ["EC2", "record", "bill", "interrupt"])
def test_a_build_cut_short_before_its_archive_keeps_the_provenance(
    here: World, prepared: Task, made: tuple[Baked, Build], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Packer's copy ends with the command, and a person is told how to use the AMI: it must not pass as one without."""
    baked, of = made
    run, (ami,) = prepared.run, of.amis.values()
    data = json.dumps(statement(dict(of.amis), said()))
    written = attest.Written({archive.PROVENANCE: data}, {"gpu-ami:provenance": provenance.digest(data.encode())})
    monkeypatch.setattr(attest, "read", lambda *_: written)
    monkeypatch.setattr(attest, "found", lambda _: written)
    # Of an ended sandbox, which gave the same id.
    archive.keep(run.workspace.builds, ami, {archive.PROVENANCE: "{}"})

    def ends(*_: object) -> None:
        raise KeyboardInterrupt

    if end == "EC2":
        store = bucket_store(here, run.workspace.root)
        here.aws.gate.deny("ec2:DescribeImages")
    elif end == "record":
        run.workspace.release.write_text(json.dumps(RECORD | {"run_id": "another"}))
    else:
        why = ends if end == "interrupt" else lambda *_: (_ for _ in ()).throw(BuildError("another bill"))
        monkeypatch.setattr(archiving, "_bill", why)

    with pytest.raises((AwsError, BuildError, KeyboardInterrupt)):
        build._archived(run, baked, of)

    assert archive.read(run.workspace.builds, ami) == {archive.PROVENANCE: data}
    if end == "EC2":  # the first of them stands for all
        assert store.shared(ami, archive.PROVENANCE) == data, "a workflow's machine ends with the build"
    here.aws.gate.clear()
    with pytest.raises(SafetyError, match=f"{ami} is refused: there is .*, but the AMI has no tag .* cut short"):
        attested.check(run, of.amis)


@pytest.mark.parametrize("there", ["of another build", "several", "no text", "no room"])
def test_a_provenance_that_is_not_the_build_s_is_kept_with_the_reason(
    prepared: Task, made: tuple[Baked, Build], tmp_path: Path, there: str
) -> None:
    """The build ends without a tag, and is told how to use the AMI all the same: that must not pass as one without."""
    baked, of = made
    run, (ami,) = prepared.run, of.amis.values()
    (folder := tmp_path / "out").mkdir()
    baked = Baked(baked.job.given(provenance_folder=str(folder)), baked.progress)
    data = json.dumps(statement(dict(of.amis), said(run_id="another"))).encode()
    data = b"\xff" + data[:40] if there == "no text" else data
    (folder / "gpu.a.provenance.json").write_bytes(data)
    (folder / "gpu.a.provenance.sigstore.json").write_text("{}")
    if there == "several":
        (folder / "gpu.b.provenance.json").write_text("{}")
    if there == "no room":
        run.workspace.builds.parent.mkdir(exist_ok=True)
        run.workspace.builds.write_text("")

    with pytest.raises(BuildError, match=r"[Pp]rovenance"):
        build._archived(run, baked, of)

    said_of_it = prepared.err.getvalue()
    if there == "no room":
        assert f"the provenance of {ami} is not kept here: The archive" in said_of_it
        return
    assert f"is kept: packer/builds/{ami}/provenance.json" in said_of_it
    kept = archive.read(run.workspace.builds, ami)
    assert kept == {archive.PROVENANCE: data.decode(errors="ignore"), archive.SIGSTORE: "{}"}
    with pytest.raises(SafetyError, match=f"{ami} is refused: there is .*, but the AMI has no tag .* cut short"):
        attested.check(run, of.amis)


def test_a_copy_that_ec2_refused_the_tags_of_is_not_handed_over(here: World, prepared: Task) -> None:
    """A map takes the copies, too, and without the tag nobody could judge one; it passed with a warning.

    With named keys the plugin copies from an AMI that it removes: the files lie under the id of the pipeline's region.
    """
    image, copy = here.image(1), other_region(here).image(1)
    copy.source_image_id = "ami-0fedcba9876543210"
    amis = {REGION: str(image.id), OTHER_REGION: str(copy.id)}
    data = json.dumps(statement(amis, said()))
    archive.keep(prepared.run.workspace.builds, str(image.id), {archive.PROVENANCE: data})
    for ami in (image, copy):
        ami.add_tags(dict(TAGS))
    finished = {region: images.describe(Caller(here.access, region), ami) for region, ami in amis.items()}
    tags = {"gpu-ami:provenance": provenance.digest(data.encode())}
    recorded = release_tags.Recorded(
        image=finished[REGION],
        snapshot_gib=None,
        release=release.parse(json.dumps(RECORD), source="x"),
        text="",
        tags=tags,
    )

    verdicts = build._judged(prepared.run, amis, finished, recorded, ())
    assert [(verdict.ami_id, verdict.state) for verdict in verdicts] == [(ami, "unsigned") for ami in amis.values()]
    for untagged in amis.values():
        with pytest.raises(
            SafetyError, match=f"{untagged} is refused: there is .*, but the AMI has no tag .* EC2 refused"
        ):
            build._judged(prepared.run, amis, finished, recorded, {untagged})


def test_a_build_with_nothing_to_do_shows_the_ami_that_there_is(here: World, prepared: Task) -> None:
    """The same keys as after a build: scripts go on with the id either way."""
    live = _live(here, prepared)
    image_changes.add_tags(
        Caller(prepared.run.access, prepared.run.settings.region), live.id, {"gpu-ami:chain-length": "2"}
    )
    found = _compared(here, prepared, _job(here)).live
    assert found is not None

    shown = result.unchanged(prepared.run, found)
    document = shown.document()

    assert (document["built"], document["ami_id"], document["chain_length"]) == (False, live.id, 2)
    assert (document["duration_s"], document["build_cost_usd"], document["attempts"]) == (0.0, 0.0, 0)
    table = build_tables.built_table(shown)
    assert table.columns[0] == "live"
    assert "Nothing was built" in table.footer[0]
    differences = (Difference("image", "a", "b", "the container image: a is now b"),)
    assert replace(shown, differences=differences).document()["differences"][0]["fact"] == "image"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({}, []),
        ({"if_stale": True}, ["# nothing at all when the family's last AMI was made from the same"]),
        ({"incremental": True}, ["# on the family's last AMI instead"]),
    ],
)
def test_a_dry_run_says_what_depends_on_a_look_at_aws(here: World, flags: dict[str, bool], said: list[str]) -> None:
    """The commands can be pasted; what is not known without AWS is a comment."""
    lines = build.command_lines(_job(here, **PLACE), debug=False, **flags)

    comments = [line for line in lines if line.startswith("#")]
    assert "fingerprints" in comments[0]
    for expected in said:
        assert any(line.startswith(expected) for line in comments)
    assert len([line for line in comments if "without room there" in line]) == 3
    assert (
        comments[-1]
        == "# without room there: the same with -var=subnet_id=subnet-0123456789abcdef0 -var=instance_type=m6i.4xlarge"
    )
    assert FINGERPRINT_PREFIX not in "".join(lines)


def test_a_dry_run_is_json_where_that_is_requested(
    here: World, prepared: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script got nothing to read, and no error either."""
    monkeypatch.setattr(build, "prepare", lambda *_args, **_more: _job(here, **PLACE))
    done = task(here, prepared.run.workspace.root, dry_run=True)

    build.run(done.run, build.Request(if_stale=True))

    assert problems("build", done.document) == []
    assert " build -machine-readable " in done.document["commands"][-1]
    assert "nothing at all when the family's last AMI was made from the same" in done.document["notes"]


def test_an_ami_of_a_sandbox_that_ends_is_not_what_to_go_on_with(here: World, prepared: Task) -> None:
    """`invoke apply` would be to another AWS, which has no such AMI; the way to keep one is what helps."""
    _live(here, prepared)
    found = _compared(here, prepared, _job(here)).live
    assert found is not None
    built = replace(result.unchanged(prepared.run, found), built=True, sandbox=True)

    fresh = " ".join(build_tables.built_table(built, kept=False).footer)
    (kept,) = build_tables.built_table(built, kept=True).footer

    assert "This AMI ends with the command: `invoke sandbox` in another terminal keeps the next one." in fresh
    assert "Next" not in fresh
    assert "Next: `invoke apply --sandbox`" in kept
    # Of `invoke build apply` nobody is told to do what is done a moment later.
    table = functools.partial(build_tables.built_table, coming=("apply", "status"))
    assert table(built, kept=True).footer == ("For a real AMI fill in pipeline.yaml and leave --sandbox out.",)
    assert table(replace(built, sandbox=False)).footer == ()
    assert build_tables.built_table(replace(built, sandbox=False), coming=("plan",)).footer != ()


def test_a_preflight_that_fails_is_not_called_done(
    here: World, prepared: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that is done, above the error, reads as if something else had failed."""
    monkeypatch.setattr(validate, "validate", lambda job, tests: None)
    found = preflight.Check("clock", "fail", "off", "Set it.")
    monkeypatch.setattr(build, "check", lambda *_: [found])

    with pytest.raises(SafetyError, match="Preflight failed"):
        build._check_and_validate(prepared.run, _job(here))

    assert "preflight and validation: failed after" in prepared.err.getvalue()


def test_if_stale_ends_before_anything_is_checked_or_started(
    here: World, prepared: Task, play: Callable[..., Packer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole task, but for Packer: it names the AMI, and nothing was validated, launched or handed over."""
    live, packer = _live(here, prepared), play()
    monkeypatch.setattr(build, "_check_and_validate", pytest.fail)

    built = build.build(prepared.run, _job(here), if_stale=True)

    assert (built.built, built.ami_id, packer.given) == (False, live.id, [])
    assert f"Nothing to build: {live.id} is made from what a build would be made from." in prepared.err.getvalue()


def test_if_stale_says_what_is_stale_and_builds(here: World, prepared: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads the log of a nightly build wants to know why there was one."""
    _live(here, prepared)
    here.access.client("s3").put_object(Bucket="models", Key="models/b.pt", Body=b"b")

    def stop(*_: object) -> None:
        msg = "on to the checks"
        raise BuildError(msg)

    monkeypatch.setattr(build, "_check_and_validate", stop)

    with pytest.raises(BuildError, match="on to the checks"):
        build.build(prepared.run, _job(here), if_stale=True)

    assert "  stale: the models: " in prepared.err.getvalue()


def test_a_builder_s_type_is_asked_for_and_never_costs_a_build(here: World) -> None:
    """EC2 picks a Spot builder's type; a price is only a line."""
    instance, caller = here.maker.instance(here.image(1)), Caller(here.access, here.access.region)

    assert capacity.type_of_instance(caller, instance.id) == "g5.xlarge"
    assert capacity.type_of_instance(caller, "") is None
    assert capacity.type_of_instance(caller, "i-0123456789abcdef0") is None


@pytest.mark.parametrize(
    ("end", "raised", "why"),
    [
        (BuildError("Another build ran."), BuildError, "Another build ran."),
        (AwsError("ami-2 cannot be described."), AwsError, "ami-2 cannot be described."),
        (KeyboardInterrupt(), InterruptedRunError, "the build was interrupted."),
    ],
    ids=["an error", "names one already", "Ctrl-C"],
)
def test_what_ends_a_build_after_packer_names_its_amis(end: BaseException, raised: type[Exception], why: str) -> None:
    """They are there, cost money, and no manifest or tfvars file may know of them."""
    amis = {"r": "ami-1", "s": "ami-2"}

    with pytest.raises(raised) as caught, build._naming_what_was_made("s", amis, is_finished=True):
        raise end

    assert str(caught.value) == (
        f"ami-1 in r, ami-2 in s was made but is not handed over: {why} `invoke update-tfvars --ami ami-2` does it."
    )


def test_what_nobody_called_finished_is_not_advised_as_it_is() -> None:
    """The next sweep would take it for a failed build's, hours after it went live: each one needs its tag first."""
    tags = "--tags Key=gpu-ami:finished,Value=true Key=gpu-ami:handover,Value=pending"

    with (
        pytest.raises(BuildError) as caught,
        build._naming_what_was_made("s", {"r": "ami-1", "s": "ami-2"}),
    ):
        raise BuildError("No.")  # noqa: EM101 - its own text

    assert str(caught.value).endswith(
        f"To use it, tag it as finished (`aws ec2 create-tags --region r --resources ami-1 {tags}`, "
        f"`aws ec2 create-tags --region s --resources ami-2 {tags}`), then run `invoke update-tfvars --ami ami-2`."
    )


@pytest.mark.parametrize("is_made", [False, True], ids=["Packer cut short", "Packer was done"])
def test_an_interrupt_takes_back_no_ami_that_packer_has_named(
    here: World, prepared: Task, monkeypatch: pytest.MonkeyPatch, *, is_made: bool
) -> None:
    """It comes while Packer ends with 0: the AMI is whole and paid for. One that Packer has not named goes."""
    left = here.image(1)
    left.add_tags({"gpu-ami:run": "r1", "gpu-ami:finished": "false"})
    amis = {REGION: left.id} if is_made else {}

    def cut(*_: object, view: Any, **__: object) -> Progress:
        view.update(Progress(scripts=SCRIPTS, step=2, amis=amis))
        raise KeyboardInterrupt

    monkeypatch.setattr("gpu_ami.bake.packer_run.bake", cut)

    with pytest.raises(InterruptedRunError) as caught:
        packer_bake.bake(prepared.run, _job(here, **PLACE))

    said = str(caught.value)
    assert (left.id in here.there()) is is_made
    assert said.startswith(f"{left.id} in {REGION} was made but is not handed over:") is is_made
    assert (f"create-tags --region {REGION} --resources {left.id}" in said) is is_made
    assert said.endswith("Packer's log: logs/build-r1.log.")


def test_a_second_build_of_the_folder_is_kept_out(here: World, prepared: Task) -> None:
    """Both would write one manifest and one release record, and neither would be true."""
    logs = prepared.run.workspace.logs
    logs.mkdir(parents=True, exist_ok=True)

    with FileLock(logs / "build.lock"), pytest.raises(SafetyError, match="Another build is under way here"):
        build.build(prepared.run, _job(here))
