"""`verify.before: apply`: no environment moves to an AMI without a verification that fits it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.deploy import apply, rollback, verified
from gpu_ami.deploy.history import were_live
from gpu_ami.errors import AwsError, SafetyError, TerraformError, UsageError
from gpu_ami.records import receipt as receipts
from gpu_ami.records import verification
from gpu_ami.records.ami_record import facts_of
from gpu_ami.records.verification import CheckRecord, Verification
from gpu_ami.settings import Verify
from gpu_ami.terraform import plan_changes
from tests.support import plans
from tests.support.account import REGION, Task, task
from tests.support.fake_terraform import FakeTerraform

FACTS = {"gpu-ami:image-digest": "sha256:" + "a" * 64, "gpu-ami:fingerprint-scripts": "0123456789abcdef"}
GOOD = CheckRecord(check="gpu", status="ok", detail="seen")


def hand_over(terraform: FakeTerraform, age: int = 5) -> str:
    """Hand an AMI over that says what it was made from."""
    image = terraform.here.image(age)
    image.add_tags(FACTS)
    ami = str(image.id)
    terraform.hand_over(ami)
    return ami


def record(terraform: FakeTerraform, ami: str, *checks: CheckRecord, **changed: Any) -> Path:
    """File what `invoke verify` would."""
    digest, fingerprints = facts_of(FACTS)
    values: dict[str, Any] = {
        "ami_id": ami,
        "region": REGION,
        "account": terraform.here.account,
        "instance_type": "g5.xlarge",
        "verified_at": "2026-11-30T12:00:00Z",
        "image_digest": digest,
        "fingerprints": fingerprints,
        "checks": checks or (GOOD,),
        "sandbox": False,
    }
    return verification.RECORDS.write(terraform.folder, Verification(**values | changed))


def tag_ami(terraform: FakeTerraform, ami: str, tags: dict[str, str]) -> None:
    """Tag the AMI, as a verification on another machine does."""
    (image,) = terraform.here.maker.ec2.describe_images(ami_ids=[ami])
    image.add_tags(tags)


def go(terraform: FakeTerraform, before: str = "apply") -> Task:
    """Apply."""
    done = task(terraform.here, terraform.folder.parent, verify=Verify(before=before))  # type: ignore[arg-type]
    apply.run(done.run, apply.Request(yes=True))
    return done


def is_live(terraform: FakeTerraform, ami: str) -> bool:
    """Whether both environments are on *ami*."""
    return terraform.live() == {"spot": ami, "on_demand": ami}


def test_a_verified_ami_is_applied(terraform: FakeTerraform) -> None:
    """Its record names it and what it was made from."""
    ami = hand_over(terraform)
    record(terraform, ami)

    go(terraform)

    assert is_live(terraform, ami)


@pytest.mark.parametrize("before", ["never", "handover"])
def test_without_the_setting_nobody_looks(terraform: FakeTerraform, before: str) -> None:
    """Who verifies before the hand-over has verified what was handed over; who does not, applies as before."""
    ami = hand_over(terraform)

    go(terraform, before)

    assert is_live(terraform, ami)


DRIVERS = CheckRecord(check="gpu", status="failed", detail="the GPUs have drivers of several versions")


@pytest.mark.parametrize(
    ("checks", "changed", "why"),
    [
        (None, {}, "there is no record"),
        ((DRIVERS,), {}, r"its verification failed \(gpu: the GPUs have drivers of several versions\)"),
        ((CheckRecord(check="boot", status="ok", detail="fast"),), {}, "no GPU was seen on it"),
        ((CheckRecord(check="gpu", status="not confirmed", detail="?"),), {}, "no GPU was seen on it"),
        ((GOOD,), {"image_digest": "sha256:" + "b" * 64}, "made from something else"),
        ((GOOD,), {"fingerprints": {}}, "made from something else"),
        ((GOOD,), {"sandbox": True}, "is of the sandbox"),
    ],
    ids=["none", "failed", "no GPU check", "not confirmed", "another image", "other scripts", "the sandbox's"],
)
def test_an_ami_that_nothing_vouches_for_is_refused(
    terraform: FakeTerraform, checks: tuple[CheckRecord, ...] | None, changed: dict[str, Any], why: str
) -> None:
    """Exit 8, with the command that helps; nothing moved, and no receipt says so."""
    ami = hand_over(terraform)
    if checks is not None:
        record(terraform, ami, *checks, **changed)

    with pytest.raises(SafetyError, match=f"{ami} is not verified.*{why}.*`invoke verify --ami {ami}`") as refused:
        go(terraform)

    assert refused.value.exit_code == 8
    assert terraform.live() == {}
    assert not list((terraform.folder / "receipts").glob("*.json"))


@pytest.mark.parametrize(
    ("tag", "is_held"),
    [
        ("2026-11-30T13:00:00Z/g6.xlarge/failed", True),
        ("2026-11-30T11:00:00Z/g6.xlarge/failed", False),
        ("2026-11-30T13:00:00Z/g6.xlarge", False),
        ("yesterday/g6.xlarge/failed", True),
        ("/failed", True),
        ("what a person writes", False),
    ],
)
def test_a_failure_on_another_machine_holds_it_up(terraform: FakeTerraform, tag: str, is_held: bool) -> None:
    """Its record is not at hand, but its tag is newer than ours: what was just shown to be wrong must not go live."""
    ami = hand_over(terraform)
    record(terraform, ami)
    tag_ami(terraform, ami, {"gpu-ami:verified": tag})
    why = rf"{ami} is not verified.*gpu-ami:verified={tag}.*`invoke verify --ami {ami}`"

    with pytest.raises(SafetyError, match=why) if is_held else contextlib.nullcontext():
        go(terraform)

    assert terraform.live() == ({} if is_held else {"spot": ami, "on_demand": ami})


@pytest.mark.parametrize("checks", [None, (DRIVERS,)], ids=["no record", "a record of a failure"])
def test_a_tag_alone_vouches_for_nothing(terraform: FakeTerraform, checks: tuple[CheckRecord, ...] | None) -> None:
    """Anybody may write one that says that all is well."""
    ami = hand_over(terraform)
    if checks:
        record(terraform, ami, *checks)
    tag_ami(terraform, ami, {"gpu-ami:verified": "2999-01-01T00:00:00Z/g5.xlarge"})

    with pytest.raises(SafetyError, match=f"{ami} is not verified"):
        go(terraform)

    assert terraform.live() == {}


def test_a_failure_during_the_question_counts(terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt may have waited for an hour, and somebody verified it meanwhile."""
    ami = hand_over(terraform)
    record(terraform, ami)
    failed = {"gpu-ami:verified": "2026-11-30T13:00:00Z/g6.xlarge/failed"}
    monkeypatch.setattr(apply, "_confirm", lambda *_args: tag_ami(terraform, ami, failed))

    with pytest.raises(SafetyError, match=f"{ami} is not verified"):
        go(terraform)

    assert terraform.live() == {}


@pytest.mark.parametrize("where", ["record", "tag"])
def test_what_was_live_and_failed_since_is_only_gone_back_to(terraform: FakeTerraform, where: str) -> None:
    """A rollback is wanted at once, and says it; any other way to it is a new decision, and nobody may miss this."""
    first = hand_over(terraform, 9)
    go(terraform, "never")
    record(terraform, hand_over(terraform, 5))
    go(terraform)
    if where == "record":
        record(terraform, first, DRIVERS)
    else:
        failed = {"gpu-ami:verified": "2026-11-30T13:00:00Z/g6.xlarge/failed"}
        tag_ami(terraform, first, failed)
    live = terraform.live()
    terraform.hand_over(first)

    with pytest.raises(SafetyError, match=rf"{first} is not verified.*failed.*`invoke rollback --to {first}`"):
        go(terraform)
    assert terraform.live() == live

    done = task(terraform.here, terraform.folder.parent, verify=Verify(before="apply"))
    rollback.run(done.run, rollback.Request(yes=True, to=first))
    assert is_live(terraform, first)
    assert f"{first} was live before, but its verification failed" in done.err.getvalue()


def test_the_record_of_another_ami_is_none(terraform: FakeTerraform) -> None:
    """Copying a file is no verification."""
    ami = hand_over(terraform)
    other = record(terraform, "ami-0123456789abcdef0")
    other.rename(verification.RECORDS.path_of(terraform.folder, ami))

    with pytest.raises(SafetyError, match="is about ami-0123456789abcdef0"):
        go(terraform)

    assert terraform.live() == {}


def test_a_record_without_a_time_is_none(terraform: FakeTerraform) -> None:
    """It could not be told whether it is newer than a tag that says of a failure."""
    ami = hand_over(terraform)
    record(terraform, ami, verified_at="yesterday")

    with pytest.raises(UsageError, match=rf"cannot be read.*`invoke verify --ami {ami}` again"):
        go(terraform)

    assert terraform.live() == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "gpu-ami-verification-2"}'])
def test_a_record_that_cannot_be_read_is_none(terraform: FakeTerraform, text: str) -> None:
    """Nor is half a file, or one of a later version."""
    ami = hand_over(terraform)
    path = verification.RECORDS.path_of(terraform.folder, ami)
    path.parent.mkdir()
    path.write_text(text)

    with pytest.raises(UsageError, match=rf"{path.name} cannot be read.*`invoke verify --ami {ami}` again"):
        go(terraform)

    assert terraform.live() == {}


def test_tags_that_cannot_be_read_vouch_for_nothing(terraform: FakeTerraform) -> None:
    """A check that fails means no."""
    ami = hand_over(terraform)
    record(terraform, ami)
    terraform.here.aws.gate.fail("UnauthorizedOperation", action="DescribeImages")

    with pytest.raises((AwsError, SafetyError)):
        go(terraform)

    assert terraform.live() == {}


def test_what_is_live_already_needs_no_verification(terraform: FakeTerraform) -> None:
    """The setting is turned on later, and a change of something else must not wait for it."""
    ami = hand_over(terraform)
    go(terraform, "never")
    terraform.outputs = {"url": {"actions": ["update"]}}

    done = go(terraform)

    assert done.document["applied"] is True
    assert is_live(terraform, ami)


def test_an_environment_that_is_on_it_already_may_change(terraform: FakeTerraform) -> None:
    """More vCPUs for the AMI that is live are no other AMI; an environment that goes uses none."""
    ami = hand_over(terraform)
    change = plans.change(plans.SPOT, before=plans.values(ami), after=plans.values(ami))
    gone = plans.change(plans.SPOT, ("delete",), before=plans.values(ami))
    settings = task(terraform.here, terraform.folder.parent, verify=Verify(before="apply")).run

    new = plans.change(plans.SPOT, ("create",), after=plans.values(ami))

    for row, is_held in ((change, False), (gone, False), (new, True)):
        found = plan_changes.parse(row, None, None)
        assert isinstance(found, plan_changes.EnvironmentChange)
        with pytest.raises(SafetyError) if is_held else contextlib.nullcontext():
            verified.check(settings, [found], lived=())


def test_a_rollback_is_not_held_up(terraform: FakeTerraform) -> None:
    """It is wanted at once, and goes to what has run before."""
    first = hand_over(terraform, 9)
    go(terraform, "never")
    second = hand_over(terraform, 5)
    record(terraform, second)
    go(terraform)

    done = task(terraform.here, terraform.folder.parent, verify=Verify(before="apply"))
    rollback.run(done.run, rollback.Request(yes=True))

    assert is_live(terraform, first)


@pytest.mark.parametrize("way", ["--terraform-var", "a place that only Terraform reads"])
def test_an_ami_that_comes_by_another_way_is_checked(
    terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """What counts is what the environment gets, not what the hand-over's file says: here there is none."""
    ami = str(terraform.here.image(5).id)
    variables: tuple[str, ...] = (f"gpu_ami_id={ami}",) if way == "--terraform-var" else ()
    if not variables:
        monkeypatch.setattr(FakeTerraform, "handed_over", ami)
    done = task(terraform.here, terraform.folder.parent, verify=Verify(before="apply"))

    with pytest.raises(SafetyError, match=f"{ami} is not verified"):
        apply.run(done.run, apply.Request(yes=True, variables=variables))

    assert terraform.live() == {}


def _parsed(row: dict[str, Any]) -> plan_changes.EnvironmentChange:
    found = plan_changes.parse(row, None, None)
    assert isinstance(found, plan_changes.EnvironmentChange)
    return found


def test_every_ami_of_an_environment_is_checked(terraform: FakeTerraform) -> None:
    """One image type has a verified AMI, and another one, or another place, has not."""
    good, bad = hand_over(terraform, 9), str(terraform.here.image(5).id)
    record(terraform, good)
    run = task(terraform.here, terraform.folder.parent, verify=Verify(before="apply")).run
    two = plans.values(good)
    two["compute_resources"][0]["ec2_configuration"].append({"image_type": "ECS_AL2023", "image_id_override": bad})
    several = plans.values(good)
    several["compute_resources"][0]["image_id"] = bad

    verified.check(run, [_parsed(plans.change(plans.SPOT, ("create",), after=plans.values(good)))], lived=())
    for after in (two, several):
        with pytest.raises(SafetyError, match=f"{bad} is not verified"):
            verified.check(run, [_parsed(plans.change(plans.SPOT, ("create",), after=after))], lived=())


def test_an_ami_that_the_plan_does_not_know_is_refused(terraform: FakeTerraform) -> None:
    """Nobody can say that it was verified, even where everything handed over was."""
    record(terraform, hand_over(terraform))
    run = task(terraform.here, terraform.folder.parent, verify=Verify(before="apply")).run
    row = plans.change(plans.SPOT, ("create",), after=plans.values(None))
    row["change"]["after_unknown"] = {"compute_resources": [{"ec2_configuration": [{"image_id_override": True}]}]}

    with pytest.raises(SafetyError, match=r"known only after the apply.*Name the AMI itself"):
        verified.check(run, [_parsed(row)], lived=())


def test_a_rollback_to_what_was_never_live_is_refused(terraform: FakeTerraform) -> None:
    """`--to` takes any AMI: it is no way round the verification."""
    hand_over(terraform, 9)
    go(terraform, "never")
    fresh = str(terraform.here.image(5).id)
    before = terraform.live()
    done = task(terraform.here, terraform.folder.parent, verify=Verify(before="apply"))

    with pytest.raises(SafetyError, match=f"{fresh} is not verified"):
        rollback.run(done.run, rollback.Request(yes=True, to=fresh))

    assert terraform.live() == before
    assert terraform.handed_over != fresh


@pytest.mark.parametrize("go_on", ["apply", "rollback"])
def test_a_rollback_that_was_cut_short_can_be_gone_on_with(terraform: FakeTerraform, go_on: str) -> None:
    """Its own advice is `invoke apply`; the AMI that it goes to has been live, and has no record."""
    first = hand_over(terraform, 9)
    go(terraform, "never")
    record(terraform, hand_over(terraform, 5))
    go(terraform)
    terraform.stops_after = 1
    done = task(terraform.here, terraform.folder.parent, verify=Verify(before="apply"))
    with pytest.raises(TerraformError, match="Run `invoke apply` again to go on"):
        rollback.run(done.run, rollback.Request(yes=True))
    assert not is_live(terraform, first)

    if go_on == "apply":
        go(terraform)
    else:
        again = task(terraform.here, terraform.folder.parent, verify=Verify(before="apply"))
        rollback.run(again.run, rollback.Request(yes=True, to=first))

    assert is_live(terraform, first)


def test_an_apply_that_failed_proves_nothing_of_its_ami(terraform: FakeTerraform) -> None:
    """Half of the environments have it, and the next act may begin from there."""
    first = hand_over(terraform, 9)
    go(terraform, "never")
    bad = hand_over(terraform, 5)
    terraform.stops_after = 1
    with pytest.raises(TerraformError):
        go(terraform, "never")

    with pytest.raises(SafetyError, match=f"{bad} is not verified"):
        go(terraform)

    history = receipts.load(terraform.folder / "receipts")
    assert were_live(history) == {first}


def test_a_record_is_no_receipt(terraform: FakeTerraform) -> None:
    """Earlier versions read terraform/receipts/ whole, and refuse what they do not know."""
    path = record(terraform, hand_over(terraform))

    assert path.parent == terraform.folder / "verifications"
    assert json.loads(path.read_text())["format"] == "gpu-ami-verification-1"
