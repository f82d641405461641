"""`verify.before: handover`: a build verifies what it made before its id is written anywhere."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.bake import attest, base, build, compare, result
from gpu_ami.bake.build import Request
from gpu_ami.bake.job import Baked
from gpu_ami.bake.packer_events import Progress
from gpu_ami.errors import AwsError, DifferenceError, InterruptedRunError, SafetyError, UsageError
from gpu_ami.handover import publish, update_tfvars
from gpu_ami.measure.gate import BeforeHandOver
from gpu_ami.records import verification
from gpu_ami.records.ami_record import facts_of
from gpu_ami.settings import Verify
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.guest.script import Ran
from tests.bake.test_compare import _job, prepared
from tests.measure.conftest import GOOD, IMAGE, Host
from tests.measure.test_verify import environment
from tests.records.test_release import RECORD
from tests.support.account import REGION, Task, World, task
from tests.support.provenances import prove

__all__ = ["prepared"]
BEFORE = '{"gpu_ami_id": "ami-0123456789abcdef0"}\n'
SUBNET = 'subnet_id = "{}"\n'


class Build:
    """A build whose bake is over at once.

    Args:
        here: The account.
        host: What the verified instance does.
        root: The repository.
        ami: What the bake makes.
        patch: Plays the checks and Packer.
    """

    def __init__(self, here: World, host: Host, root: Path, ami: SandboxAmi, patch: pytest.MonkeyPatch) -> None:
        self.here, self.host, self.root, self.ami = here, host, root, ami
        self.file = root / "terraform" / "gpu-ami.auto.tfvars.json"
        self.file.write_text(BEFORE)
        (root / "packer" / "variables.auto.pkrvars.hcl").write_text(SUBNET.format(here.maker.location.subnet_id))
        self.baked = 0
        self.during: Callable[[], object] = lambda: None
        patch.setattr(build, "_check_and_validate", lambda *_: None)
        patch.setattr(build, "_bake", self._bake)
        # What Packer writes of it is for tests/bake/test_attest.py.
        patch.setattr(attest, "read", lambda *_: attest.Written())
        patch.setattr(attest, "found", lambda _: attest.Written())

    def _bake(self, run: Any, job: Any, _compared: Any, **_flags: Any) -> Baked:
        self.baked += 1
        self.during()
        run.workspace.release.write_text(json.dumps(RECORD))
        entry = {
            "name": "ami",
            "builder_type": "amazon-ebs",
            "artifact_id": f"{REGION}:{self.ami.id}",
            "packer_run_uuid": "u",
            "custom_data": {"run_id": job.run_id},
        }
        run.workspace.manifest.write_text(json.dumps({"builds": [entry], "last_run_uuid": "u"}))
        return Baked(job, Progress(scripts=("a", "b"), amis={REGION: self.ami.id}))

    def task(self, before: str, **more: Any) -> Task:
        """Return an invocation with the setting."""
        return task(self.here, self.root, verify=Verify(before=before), **more)  # type: ignore[arg-type]

    def run(
        self, before: str = "handover", max_usd: str | None = "5", *, if_stale: bool = False, **variables: str
    ) -> Task:
        """Build, with the gate that `invoke build` has."""
        done = self.task(before)
        job = _job(self.here, release_path=str(done.run.workspace.release), **variables)
        gate = BeforeHandOver(done.run, max_usd, clock=self.host.clock)
        built = build.build(done.run, job, gate, if_stale=if_stale)
        assert built.ami_id == self.ami.id
        return done

    def make_current(self) -> None:
        """Let the AMI be what a build would make; of a real one the template writes that."""
        found = compare.expected_fingerprints(self.task("never").run, _job(self.here)).values
        self.ami.add_tags({f"gpu-ami:fingerprint-{fact}": value for fact, value in found.items()})

    def forget_records(self) -> None:
        """Be on another machine, whose checkout has no record."""
        for path in (self.root / "terraform" / "verifications").glob("*.json"):
            path.unlink()

    @property
    def launches(self) -> int:
        """How many instances were started, or tried to."""
        return self.here.calls().count("RunInstances")

    @property
    def handed_over(self) -> str:
        """The AMI that Terraform would take."""
        return str(json.loads(self.file.read_text())["gpu_ami_id"])

    def assert_kept_back(self) -> None:
        """The AMI is there, not handed over, and of its verification nothing is left."""
        assert self.file.read_text() == BEFORE
        assert self.ami.id in self.here.there()
        alive = [one.id for one in self.here.maker.ec2.all_instances() if one.state != "terminated"]
        assert alive == []


@pytest.fixture
def building(
    here: World,
    host: Host,
    prepared: Task,
    repository_with_scripts: Path,
    ami: SandboxAmi,
    monkeypatch: pytest.MonkeyPatch,
) -> Build:
    """A build in an account with what it looks up."""
    del prepared
    return Build(here, host, repository_with_scripts, ami, monkeypatch)


def test_a_good_ami_is_verified_and_handed_over(building: Build) -> None:
    """In this order: the record is there, and the id is written."""
    done = building.run()

    assert building.handed_over == building.ami.id
    assert (building.root / "terraform" / "verifications" / f"{building.ami.id}.json").is_file()
    said = done.err.getvalue()
    assert "will be verified on a g5.xlarge before it is handed over: about $" in said
    assert "  gpu: ok, driver, runtime and a container of the baked image see the GPU" in said


@pytest.mark.parametrize("ends", ["well", "in a failed check", "in an error after it"])
def test_the_sandbox_says_that_it_invents_times(building: Build, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    """Wherever checks are shown: nobody may take a boot time from there for one of AWS's."""
    monkeypatch.setattr("gpu_ami.target.Aws.is_sandbox", True)
    if ends != "well":
        building.host.answers["verify-gpu"] = Ran(1, "", "verify-gpu: error 805\n")
    if ends == "in an error after it":
        building.here.aws.gate.fail("ExpiredToken", action="TerminateInstances")
    done = building.task("handover")
    job = _job(building.here, release_path=str(done.run.workspace.release))
    gate = BeforeHandOver(done.run, "5", clock=building.host.clock)

    with contextlib.nullcontext() if ends == "well" else pytest.raises((DifferenceError, AwsError)):
        build.build(done.run, job, gate)

    said = done.err.getvalue()
    assert "  gpu: " in said
    assert "The sandbox invents instances and their times: this says nothing about a GPU." in said


@pytest.mark.parametrize("before", ["never", "apply"])
def test_without_the_setting_a_build_is_as_it_was(building: Build, before: str) -> None:
    """Nothing is asked, started or recorded, with or without a limit; `update-tfvars` has no part in it."""
    done = building.run(before, max_usd=None)

    assert building.handed_over == building.ami.id
    assert "RunInstances" not in building.here.calls()
    assert not (building.root / "terraform" / "verifications").exists()
    assert "verif" not in done.err.getvalue()


def test_an_ami_that_fails_is_not_handed_over(building: Build) -> None:
    """Exit 9: the AMI stays to be looked at, and the variable is what it was."""
    building.host.answers["verify-gpu"] = Ran(1, "", "verify-gpu: error 805 of the CUDA driver\n")

    with pytest.raises(
        DifferenceError, match=rf"{building.ami.id} is not verified: gpu: .*805.*not handed over"
    ) as why:
        building.run()

    assert why.value.exit_code == 9
    building.assert_kept_back()


def test_without_capacity_the_ami_is_named_and_how_to_go_on(building: Build) -> None:
    """Exit 4: nothing is known of the AMI, and the bake is paid for; two commands finish it later."""
    building.here.aws.gate.fail("InsufficientInstanceCapacity", action="RunInstances")

    with pytest.raises(AwsError) as why:
        building.run()

    ami = building.ami.id
    assert why.value.exit_code == 4
    assert str(why.value).startswith(f"{ami} was made and is not handed over, for it could not be verified: No place")
    assert f"`invoke verify --ami {ami}`, then `invoke update-tfvars --ami {ami}`" in str(why.value)
    building.assert_kept_back()


def test_an_interrupt_ends_the_instance_and_names_the_ami(building: Build) -> None:
    """Exit 130, and nobody has to look for what was paid for."""

    def strike(_now: float) -> None:
        raise KeyboardInterrupt

    building.host.waited = strike

    with pytest.raises(InterruptedRunError, match=f"{building.ami.id} was made and is not handed over: its verif"):
        building.run()

    building.host.waited = lambda _now: None
    building.assert_kept_back()


@pytest.mark.parametrize(
    ("max_usd", "said"),
    [(None, "nobody is here to confirm what it may cost .*; give --max-usd"), ("0.01", "more than --max-usd 0.01")],
    ids=["nobody to ask", "too dear"],
)
def test_nothing_is_baked_that_nobody_agreed_to_verify(building: Build, max_usd: str | None, said: str) -> None:
    """An hour later the answer would be wanted from somebody who has gone home."""
    with pytest.raises(SafetyError, match=said):
        building.run(max_usd=max_usd)

    assert building.baked == 0
    building.assert_kept_back()


@pytest.mark.parametrize(("answer", "bakes"), [("yes\n", 1), ("y\n", 0), ("", 0)])
def test_a_person_is_asked_before_the_bake(
    building: Build, monkeypatch: pytest.MonkeyPatch, answer: str, bakes: int
) -> None:
    """With the price, and by the whole word."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: answer, raising=False)

    if bakes:
        building.run(max_usd=None)
    else:
        with pytest.raises(SafetyError, match="not confirmed"):
            building.run(max_usd=None)

    assert building.baked == bakes


def test_a_build_with_nothing_to_do_asks_nothing(building: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--if-stale` runs each night, and mostly there is nothing to verify."""
    building.ami.add_tags({"gpu-ami:verified": "2026-11-30T12:00:00Z/g5.xlarge"})
    monkeypatch.setattr(BeforeHandOver, "agree", pytest.fail)
    done = building.task("handover")
    monkeypatch.setattr(result, "unchanged", lambda _run, live: live.image_id)
    compared = compare.compare(done.run, _job(building.here))
    monkeypatch.setattr(build, "_compare", lambda *_: _unchanged(compared))

    built: Any = build.build(done.run, _job(building.here), BeforeHandOver(done.run), if_stale=True)

    assert built == building.ami.id


def _unchanged(compared: Any) -> Any:
    import dataclasses

    return dataclasses.replace(compared, differences=())


@pytest.mark.parametrize("where", ["here", "another machine"])
def test_what_was_rejected_is_made_anew(building: Build, where: str) -> None:
    """It is the family's newest finished AMI, and `--if-stale` would say for ever that there is nothing to build."""
    building.make_current()
    building.host.answers["verify-gpu"] = Ran(1, "", "verify-gpu: error 805\n")
    with pytest.raises(DifferenceError):
        building.run()
    if where == "another machine":
        building.forget_records()
    building.host.answers = dict(GOOD)
    rejected, building.ami = building.ami, building.here.image(0)
    building.ami.add_tags({"gpu-ami:image": IMAGE, "gpu-ami:handover": "pending"})
    # It is there from now on, and newer: until it is baked it is nobody's.
    building.ami.add_tags({"gpu-ami:finished": "false"})

    done = building.run(if_stale=True)

    assert f"  stale: {rejected.id} failed its verification" in done.err.getvalue()
    assert (building.baked, building.handed_over) == (2, building.ami.id)


def test_what_was_rejected_is_no_parent(building: Build) -> None:
    """What is wrong with it may be in every AMI on top of it; without the setting it is one as before."""
    building.make_current()
    building.ami.add_tags({"gpu-ami:chain-length": "0", "gpu-ami:verified": "2026-11-30T12:00:00Z/g5.xlarge/failed"})
    for before in ("handover", "apply", "never"):
        done, job = building.task(before), _job(building.here)
        compared = compare.compare(done.run, job)
        parent = base.on_parent(done.run, job, compared)
        said = f"A full bake: {building.ami.id} failed its verification."
        assert (said in done.err.getvalue()) is (before != "never")
        assert (parent is None) is (before != "never")
        # With `apply`, too: it refuses the AMI, and `--if-stale` would say for ever that there is nothing to build.
        assert [one.fact for one in compared.differences] == ([] if before == "never" else ["verification"])


@pytest.mark.parametrize("where", ["here", "another machine"])
def test_what_could_not_be_verified_is_caught_up_with(building: Build, where: str) -> None:
    """There was no capacity last night: tonight nothing is baked, but the AMI is verified and handed over; once."""
    building.make_current()
    building.here.aws.gate.fail("InsufficientInstanceCapacity", action="RunInstances", at=1)
    with pytest.raises(AwsError, match="No place"):
        building.run()
    building.assert_kept_back()

    done = building.run(if_stale=True)

    assert f"{building.ami.id} has not been verified yet" in done.err.getvalue()
    assert (building.baked, building.handed_over, building.launches) == (1, building.ami.id, 2)
    if where == "another machine":
        building.forget_records()
    building.run(if_stale=True)
    assert (building.baked, building.launches) == (1, 2)


@pytest.mark.parametrize(("max_usd", "error"), [("5", DifferenceError), ("0.01", SafetyError), (None, SafetyError)])
def test_catching_up_hands_nothing_over_that_is_not_good(
    building: Build, max_usd: str | None, error: type[Exception]
) -> None:
    """Nor does it start anything that nobody agreed to."""
    building.make_current()
    building.host.answers["verify-gpu"] = Ran(1, "", "verify-gpu: error 805\n")

    with pytest.raises(error):
        building.run(if_stale=True, max_usd=max_usd)

    assert building.baked == 0
    assert building.launches == (1 if max_usd == "5" else 0)
    building.assert_kept_back()


def test_what_would_be_refused_is_not_caught_up_with(building: Build) -> None:
    """Nothing is paid for the verification of an AMI that nobody may use."""
    path = prove(building.root, building.ami)
    building.make_current()
    path.write_text(path.read_text() + " ")

    with pytest.raises(SafetyError, match=r"was altered.* neither verified nor handed over"):
        building.run(if_stale=True)

    assert (building.baked, building.launches) == (0, 0)
    building.assert_kept_back()


def test_what_has_lost_its_provenance_before_the_hand_over_is_made_anew(building: Build) -> None:
    """The runner that had baked it is gone, and its file with it: the AMI would be refused every night from now on."""
    building.make_current()
    tags = building.here.maker.ec2.tags[building.ami.id]
    tags["gpu-ami:provenance"] = "0" * 64
    building.during = lambda: tags.pop("gpu-ami:provenance")

    done = building.run(if_stale=True)

    assert "but one is baked anew. The provenance of" in done.err.getvalue()
    assert (building.baked, building.launches, building.handed_over) == (1, 1, building.ami.id)


def test_what_was_applied_once_is_not_handed_over_again(building: Build) -> None:
    """The setting is turned on after somebody went back from it: the way back must not be undone by night."""
    building.make_current()
    building.ami.add_tags({"gpu-ami:handover": "applied"})

    building.run(if_stale=True)

    assert (building.baked, building.launches, building.file.read_text()) == (0, 0, BEFORE)


def test_without_the_setting_an_unverified_ami_is_up_to_date(building: Build) -> None:
    """Also one that failed by hand: what `--if-stale` does is what it always did."""
    building.make_current()
    building.ami.add_tags({"gpu-ami:verified": "2026-11-30T12:00:00Z/g5.xlarge/failed"})

    building.run("never", if_stale=True)

    assert (building.baked, building.launches, building.file.read_text()) == (0, 0, BEFORE)


def test_the_limit_counts_for_the_ami_that_was_made(building: Build) -> None:
    """The launch template got a larger disk during the bake: exit 8, nothing is started, and the AMI is named."""
    building.during = lambda: environment(building.here, 300, VolumeSize=60_000, Iops=80_000)

    with pytest.raises(SafetyError, match=rf"{building.ami.id} was made .*more than --max-usd 3.*Later: `invoke ver"):
        building.run(max_usd="3")

    assert (building.baked, building.launches) == (1, 0)
    building.assert_kept_back()


@pytest.mark.parametrize("larger", ["the build's volume", "the launch template's"])
def test_what_is_agreed_to_is_about_the_disk_that_there_will_be(building: Build, larger: str) -> None:
    """Not about 100 GiB: an hour later the AMI would be refused."""
    size = "2000" if larger == "the build's volume" else "80"
    if size == "80":
        environment(building.here, 300, VolumeSize=60_000, Iops=80_000)

    with pytest.raises(SafetyError, match="more than --max-usd 3"):
        building.run(max_usd="3", volume_size_gib=size)

    assert building.baked == 0


@pytest.mark.parametrize("before", ["never", "handover"])
def test_a_limit_that_is_no_amount_is_refused_at_once(building: Build, before: str) -> None:
    """Before credentials are asked for, as of `invoke verify`."""
    made = len(building.here.calls())

    with pytest.raises(UsageError, match="--max-usd 'much' is no amount"):
        building.run(before, max_usd="much")

    assert len(building.here.calls()) == made


@pytest.mark.parametrize(("before", "said"), [("never", False), ("handover", True)])
def test_a_dry_run_says_that_it_verifies(
    building: Build, monkeypatch: pytest.MonkeyPatch, before: str, *, said: bool
) -> None:
    """It is part of what the build does, and costs."""
    done = building.task(before, dry_run=True)
    monkeypatch.setattr(build, "prepare", lambda *_args, **_more: _job(building.here))

    build.run(done.run, Request(), BeforeHandOver(done.run))

    assert ("boot the AMI on a g5.xlarge and verify it" in " ".join(done.document["notes"])) is said


def test_types_without_a_gpu_are_refused_before_the_bake(building: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings' own list may be wrong, too."""
    wrong = Verify(before="handover", instance_types=("c7i.large",))
    plain: Callable[..., Task] = task
    monkeypatch.setattr(building, "task", lambda _before: plain(building.here, building.root, verify=wrong))

    with pytest.raises(UsageError, match=r"c7i\.large has no GPU"):
        building.run()

    assert building.baked == 0


@pytest.mark.parametrize("before", ["handover", "apply"])
def test_handing_over_by_hand_waits_for_nothing(building: Build, before: str) -> None:
    """Whoever names an AMI has decided; an apply still asks for its record."""
    by_hand, published = building.task(before), building.task(before)

    update_tfvars.run(by_hand.run, update_tfvars.Request(ami=building.ami.id))
    publish.run(published.run, publish.Request(ami=building.ami.id))

    assert building.handed_over == building.ami.id
    assert published.document["new"] == building.ami.id
    assert "RunInstances" not in building.here.calls()


@pytest.mark.parametrize("before", ["never", "handover", "apply"])
@pytest.mark.parametrize("where", ["record", "tag"])
def test_what_failed_is_handed_over_by_nobody(building: Build, before: str, where: str) -> None:
    """Exit 8 where the settings want verifications, by whatever way: a job would be the next to find it out.

    The failure may be another machine's. `--no-verify` skips this check as all others, and says who has decided.
    """
    ami, written = building.ami.id, building.handed_over
    if where == "tag":
        building.ami.add_tags({"gpu-ami:verified": "2026-11-30T13:00:00Z/g6.xlarge/failed"})
    else:
        digest, fingerprints = facts_of({tag["key"]: tag["value"] for tag in building.ami.get_tags()})
        bad = verification.CheckRecord(check="gpu", status="failed", detail="error 805")
        record = verification.Verification(
            ami_id=ami,
            region=REGION,
            account=building.here.account,
            instance_type="g5.xlarge",
            verified_at="2026-11-30T12:00:00Z",
            image_digest=digest,
            fingerprints=fingerprints,
            checks=(bad,),
            sandbox=False,
        )
        verification.RECORDS.write(building.root / "terraform", record)
    tasks = [building.task(before) for _ in range(3)]
    held, refusal = before != "never", rf"{ami} must not be.*its verification failed.*`invoke verify --ami {ami}`"

    acts: list[Callable[[], None]] = [
        lambda: update_tfvars.run(tasks[0].run, update_tfvars.Request(ami=ami)),
        lambda: publish.run(tasks[1].run, publish.Request(ami=ami)),
    ]
    for act in acts:
        with pytest.raises(SafetyError, match=refusal) if held else contextlib.nullcontext():
            act()

    assert building.handed_over == (written if held else ami)
    update_tfvars.run(tasks[2].run, update_tfvars.Request(ami=ami, verified=False))
    assert building.handed_over == ami
