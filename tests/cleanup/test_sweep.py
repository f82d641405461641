"""`invoke sweep` as a whole: find, refuse, remove, leave nothing else touched."""

from __future__ import annotations

import json
import os
import signal
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from moto.iam.models import iam_backends

from gpu_ami.aws import build_resources
from gpu_ami.cleanup import sweep
from gpu_ami.cleanup.journal import new_path
from gpu_ami.cleanup.sweep import Request
from gpu_ami.errors import InterruptedRunError, PartialError, SafetyError, UsageError
from gpu_ami.process import interruptible
from gpu_ami.settings import EMBEDDED
from gpu_ami.streams import Results
from gpu_ami_sandbox.demo.factory import FAMILY
from tests.support.account import OTHER_REGION, REGION, Task, World, other_region, task
from tests.support.interrupts import ENDS, interrupts

__all__ = ["interrupts"]
RUN = "20250115T120000Z-abc123"
_READ = {"Effect": "Allow", "Action": "ecr:BatchGetImage", "Resource": "*"}
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [_READ]})
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})


def _tags(run: str = RUN, family: str = FAMILY) -> dict[str, str]:
    return {"gpu-ami:run": run, "gpu-ami:family": family, "gpu-ami:pipeline": "gpu-ami-pipeline"}


def incomplete_build(here: World, run: str = RUN) -> dict[str, str]:
    """Leave one of each kind behind, through AWS's API."""
    long_ago = datetime(2025, 1, 15, 12)  # noqa: DTZ001 - moto's time has no zone
    ec2, iam = here.access.client("ec2"), here.access.client("iam")
    image = here.image(100)
    here.maker.ec2.tags[image.id] = _tags(run)
    instance = here.maker.instance(image)
    instance.add_tags(_tags(run))
    instance.image_id, instance.launch_time = here.maker.filler(), long_ago
    volume = here.maker.ec2.create_volume(8, f"{REGION}a")
    volume.create_time = long_ago
    volume.add_tags(_tags(run))
    group = here.maker.ec2.create_security_group(f"packer_{run}", "temporary", here.maker.vpc_id(), _tags(run))
    pair = here.maker.ec2.create_key_pair(f"packer_{run}", "ed25519", _tags(run))
    pair.create_time = long_ago
    template = here.maker.ec2.create_launch_template(
        "packer-fleet-launch-template-a1B2c3D", "", {"InstanceType": "c7i.large"}, {"launch-template": _tags(run)}
    )
    template.create_time = long_ago
    name = f"packer-{run}"
    tags = [{"Key": k, "Value": v} for k, v in _tags(run).items()]
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST, Tags=tags)
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=POLICY)
    iam.create_instance_profile(InstanceProfileName=name, Tags=tags)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    profile = iam_backends[here.account]["aws"].get_instance_profile(name)
    profile.create_date = long_ago
    assert ec2.describe_key_pairs()["KeyPairs"]
    return {
        "instance": instance.id,
        "volume": volume.id,
        "security-group": group.id,
        "key-pair": f"packer_{run}",
        "launch-template": template.id,
        "instance-profile": name,
        "image": image.id,
    }


def _sweep(here: World, root: Path, *, task_options: dict[str, Any] | None = None, **request: Any) -> Task:
    done = task(here, root, **(task_options or {}))
    sweep.run(done.run, Request(**request))
    return done


def _found(done: Task) -> dict[str, str]:
    return {v["kind"]: v["id"] for v in done.document["verdicts"] if v["action"] == "delete"}


def test_every_kind_of_leftover_is_found_and_shown(here: World, tmp_path: Path) -> None:
    """Without --yes nothing is touched."""
    here.in_use()
    left = incomplete_build(here)

    done = _sweep(here, tmp_path)

    assert _found(done) == left
    assert left["image"] in here.there()
    assert done.journals == []
    assert "Nothing was removed. Add --yes to carry this out." in done.err.getvalue()
    dry = _sweep(here, tmp_path, yes=True, task_options={"dry_run": True})
    assert "Nothing was removed. Leave out --dry-run to carry this out." in dry.err.getvalue()
    assert left["image"] in here.there()


def test_leftovers_go_and_nothing_else_does(here: World, tmp_path: Path) -> None:
    """Afterwards the account is as if the build had never been."""
    kept = here.in_use()
    untagged = here.maker.instance(kept)
    other = here.maker.ec2.create_security_group("other", "x", here.maker.vpc_id(), _tags(family="other"))
    workers = here.maker.ec2.create_launch_template("workers", "", {}, {"launch-template": _tags()})
    workers.create_time = datetime(2025, 1, 15, 12)  # noqa: DTZ001 - moto's time has no zone
    left = incomplete_build(here)
    snapshots = here.maker.ec2.amis[left["image"]].snapshot_ids

    done = _sweep(here, tmp_path, yes=True)

    assert {result["status"] for result in done.document["results"]} == {"deleted"}
    assert _found(_sweep(here, tmp_path)) == {}
    assert here.there() == {kept.id}
    assert not set(snapshots) & here.snapshots_there()
    assert untagged.state == "running"
    assert here.maker.ec2.get_security_group_from_id(other.id) is not None
    assert list(here.maker.ec2.launch_templates) == [workers.id]
    roles = [role.name for role in iam_backends[here.account]["aws"].roles.values()]
    assert left["instance-profile"] not in roles
    (journal,) = [path for path in done.journals if path.name.startswith("sweep-")]
    events = [json.loads(line)["event"] for line in journal.read_text().splitlines()]
    assert events.count("will-remove") == events.count("removed") == 7


def test_a_first_build_that_died_can_be_swept(here: World, tmp_path: Path) -> None:
    """In a new account nothing needs any AMI: the builder, which costs by the second, goes all the same."""
    left = incomplete_build(here)

    done = _sweep(here, tmp_path, yes=True)

    assert {result["image_id"] for result in done.document["results"]} == set(left.values()) - {left["image"]}
    (kept,) = [result for result in done.document["verdicts"] if result["action"] == "keep"]
    assert kept["id"] == left["image"]
    assert "--allow-no-references" in kept["reasons"][0]["detail"]
    assert left["image"] in here.there()

    _sweep(here, tmp_path, yes=True, allow_no_references=True)
    assert here.there() == set()


def _lone_role(here: World, name: str = "packer-lone", **tags: str) -> str:
    """Leave a role without its profile, as DeleteRole does that is refused at the end of a build."""
    iam = here.access.client("iam")
    said = [{"Key": key, "Value": value} for key, value in (_tags() | tags).items()]
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST, Tags=said)
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=POLICY)
    iam_backends[here.account]["aws"].get_role(name).create_date = datetime(2025, 1, 15, 12)  # noqa: DTZ001 - as moto's
    return name


def _roles(here: World) -> set[str]:
    return {role.name for role in iam_backends[here.account]["aws"].roles.values()}


def test_a_role_without_its_profile_is_found(here: World, tmp_path: Path) -> None:
    """Whatever ended the build took the profile, or died before it was filled; one in a profile goes with that."""
    here.in_use()
    in_profile = incomplete_build(here)["instance-profile"]
    lone = _lone_role(here)
    others = {_lone_role(here, "packer-other", **{"gpu-ami:family": "other"}), _lone_role(here, "lone")}
    others.add(_lone_role(here, "packer-theirs"))
    here.access.client("iam").untag_role(RoleName="packer-theirs", TagKeys=["gpu-ami:run"])

    assert _found(_sweep(here, tmp_path))["role"] == lone
    done = _sweep(here, tmp_path, yes=True)

    assert {result["status"] for result in done.document["results"]} == {"deleted"}
    assert not {in_profile, lone} & _roles(here)
    assert others <= _roles(here)


def test_a_role_in_somebody_elses_profile_is_taken_out_of_it(here: World, tmp_path: Path) -> None:
    """IAM refuses to delete a role that a profile holds, and that profile is not ours to delete."""
    here.in_use()
    lone, iam = _lone_role(here), here.access.client("iam")
    iam.create_instance_profile(InstanceProfileName="theirs")
    iam.add_role_to_instance_profile(InstanceProfileName="theirs", RoleName=lone)

    _sweep(here, tmp_path, yes=True)

    assert lone not in _roles(here)
    # Who may see Packer's profiles alone would lose the whole kind by a denial.
    assert "GetInstanceProfile" not in here.calls()
    assert not iam.get_instance_profile(InstanceProfileName="theirs")["InstanceProfile"]["Roles"]


def test_who_may_not_list_roles_sweeps_the_rest(here: World, tmp_path: Path) -> None:
    """A role from before roles were looked for: the builder that costs by the second must go all the same."""
    here.in_use()
    left = incomplete_build(here)
    here.aws.gate.deny("iam:ListRoles")

    done = _sweep(here, tmp_path)

    assert _found(done) == left
    (source,) = [found for found in done.document["sources"] if found["name"] == "leftover-roles"]
    assert (source["status"], "ListRoles" in source["error"]) == ("skipped", True)


def test_an_unfinished_ami_goes_although_it_waits_for_its_hand_over(here: World, tmp_path: Path) -> None:
    """A copy that was refused at the last call has every tag of a finished AMI but the pipeline's own word."""
    here.in_use()
    image_id = incomplete_build(here)["image"]
    here.maker.ec2.amis[image_id].add_tags({"gpu-ami:handover": "pending", "gpu-ami:finished": "false"})

    assert _found(_sweep(here, tmp_path))["image"] == image_id
    _sweep(here, tmp_path, yes=True)

    assert image_id not in here.there()


@pytest.mark.parametrize(
    "tags",
    [
        {"gpu-ami:handover": "pending"},
        {"gpu-ami:handover": "pending", "gpu-ami:finished": "true"},
        {"gpu-ami:handover": "applied", "gpu-ami:finished": "false"},
    ],
    ids=["from before, or by hand", "finished", "applied all the same"],
)
def test_a_finished_ami_is_none_of_a_sweeps(here: World, tmp_path: Path, tags: dict[str, str]) -> None:
    """It is for `cleanup`, which knows ages, families and who may go back to what."""
    here.in_use()
    image_id = incomplete_build(here)["image"]
    here.maker.ec2.amis[image_id].add_tags(tags)

    assert "image" not in _found(_sweep(here, tmp_path))


@pytest.mark.parametrize(
    ("options", "request_", "regions"),
    [
        ({}, {}, [REGION, OTHER_REGION]),
        ({"region": REGION}, {}, [REGION, OTHER_REGION]),
        ({}, {"regions": (REGION,)}, [REGION]),
    ],
    ids=["default", "--region", "--regions"],
)
def test_copies_are_looked_for_where_the_template_makes_them(
    here: World, tmp_path: Path, options: dict[str, Any], request_: dict[str, Any], regions: list[str]
) -> None:
    """A failed copy lies in a region that nobody names on a nightly sweep's command line."""
    here.in_use()
    (tmp_path / "packer").mkdir()
    variables = tmp_path / "packer" / "variables.auto.pkrvars.hcl"
    variables.write_text(f'ami_regions = ["{OTHER_REGION}", "nowhere", "{OTHER_REGION}"]\n')
    there = other_region(here)
    copy = there.image(100)
    there.ec2.tags[copy.id] = _tags()

    done = _sweep(here, tmp_path, task_options=options, **request_)

    assert done.document["regions"] == regions
    assert ("image" in _found(done)) is (OTHER_REGION in regions)


def test_a_role_that_no_build_made_stays(here: World, tmp_path: Path) -> None:
    """Every team's Packer names its roles alike: one in our profile goes only by the tag that our builds set."""
    here.in_use()
    name = incomplete_build(here)["instance-profile"]
    here.access.client("iam").untag_role(RoleName=name, TagKeys=["gpu-ami:run"])

    done = _sweep(here, tmp_path, yes=True)

    assert {result["status"] for result in done.document["results"]} == {"deleted"}
    assert _found(_sweep(here, tmp_path)) == {}
    assert name in [role.name for role in iam_backends[here.account]["aws"].roles.values()]


def test_a_living_build_is_left_alone(here: World, tmp_path: Path) -> None:
    """Its run id says that it began an hour ago."""
    here.in_use()
    incomplete_build(here, run=f"{here.now - timedelta(hours=1):%Y%m%dT%H%M%SZ}-abc123")

    done = _sweep(here, tmp_path, yes=True)

    assert _found(done) == {}
    assert done.document["totals"]["keep"] == 7 + 1


@pytest.mark.parametrize("by", ["tfvars", "sharing", "receipt"])
def test_an_unfinished_ami_that_is_needed_stays(here: World, tmp_path: Path, by: str) -> None:
    """A build that lost its tags may have made the AMI that is live: the same proofs as for `cleanup`."""
    here.in_use()
    image_id = incomplete_build(here)["image"]
    if by == "tfvars":
        (tmp_path / "terraform.tfvars").write_text(f'gpu_ami_id = "{image_id}"\n')
    elif by == "sharing":
        here.maker.ec2.amis[image_id].launch_permissions.append({"UserId": "210987654321"})
    else:
        change = {"address": "a", "old": image_id, "new": here.maker.filler()}
        (tmp_path / "receipts").mkdir()
        (tmp_path / "receipts" / "1.json").write_text(json.dumps({"when": "2026-01-01T00:00:00Z", "changes": [change]}))

    done = _sweep(here, tmp_path, yes=True)

    assert image_id in here.there()
    assert len(done.document["results"]) == 6
    assert "image" not in _found(done)


@pytest.mark.parametrize("how", ["used", "tagged", "unread"])
def test_an_ami_that_is_needed_since_the_plan_stays(
    here: World, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that can have moved is read again before the first removal."""
    here.in_use()
    image_id = incomplete_build(here)["image"]

    def meanwhile(*arguments: Any, **named: Any) -> Path:
        if how == "used":
            here.maker.parameter("/now", image_id)
        elif how == "tagged":
            here.maker.ec2.amis[image_id].add_tags({"gpu-ami:handover": "pending"})
        else:
            here.aws.gate.deny("batch:*")
        return new_path(*arguments, **named)

    monkeypatch.setattr("gpu_ami.cleanup.sweep_carry_out.new_path", meanwhile)

    done = _sweep(here, tmp_path, yes=True)

    results = {result["image_id"]: result for result in done.document["results"]}
    assert results[image_id]["status"] == "kept"
    assert {"used": "/now", "tagged": "gpu-ami:handover", "unread": "batch"}[how] in results[image_id]["error"]
    assert image_id in here.there()
    assert sum(result["status"] == "deleted" for result in results.values()) == 6


def test_files_that_cannot_be_read_keep_only_amis(here: World, tmp_path: Path) -> None:
    """A state behind a backend that is not initialized says nothing about instances."""
    here.in_use()
    left = incomplete_build(here)
    (tmp_path / "a.tf").symlink_to(tmp_path / "gone")
    done = task(here, tmp_path)
    with pytest.raises(SafetyError, match=r"^AMIs are kept: .*a\.tf"):
        sweep.run(done.run, Request(yes=True))
    assert {result["status"] for result in done.document["results"]} == {"deleted"}
    assert left["image"] in here.there()

    here.maker.ec2.amis[left["image"]].add_tags({"gpu-ami:keep": "true"})

    assert _sweep(here, tmp_path, yes=True).document["results"] == []


def test_an_instance_goes_before_what_hangs_on_it(here: World, tmp_path: Path) -> None:
    """EC2 refuses to delete a group that an instance is in."""
    here.in_use()
    incomplete_build(here)
    here.aws.gate.calls.clear()

    _sweep(here, tmp_path, yes=True)

    calls = here.calls()
    ended = calls.index("TerminateInstances")
    assert ended < calls.index("DescribeInstances", ended) < calls.index("DeleteSecurityGroup")


def test_one_failure_does_not_stop_the_rest(here: World, tmp_path: Path) -> None:
    """It is listed and the exit code is 7."""
    here.in_use()
    incomplete_build(here)
    here.aws.gate.fail("DependencyViolation", "in use", action="DeleteSecurityGroup")

    with pytest.raises(PartialError, match="DependencyViolation"):
        _sweep(here, tmp_path, yes=True)

    assert set(_found(_sweep(here, tmp_path))) == {"security-group"}


def test_what_is_gone_meanwhile_counts_as_removed(here: World, tmp_path: Path) -> None:
    """Packer may have come back to life and cleaned up itself."""
    here.in_use()
    incomplete_build(here)
    here.aws.gate.fail("InvalidVolume.NotFound", "gone", action="DeleteVolume")

    results = _sweep(here, tmp_path, yes=True).document["results"]

    assert {result["status"] for result in results} == {"deleted"}


@pytest.mark.parametrize("action", ["ec2:DescribeKeyPairs", "iam:ListInstanceProfiles", "ec2:DescribeVolumes"])
def test_a_list_that_cannot_be_read_keeps_everything(here: World, tmp_path: Path, action: str) -> None:
    """Half a picture is none."""
    here.in_use()
    left = incomplete_build(here)
    here.aws.gate.deny(action)

    with pytest.raises(SafetyError, match="Everything is kept"):
        _sweep(here, tmp_path, yes=True)
    assert left["image"] in here.there()


@pytest.mark.parametrize(
    "action", ["batch:*", "imagebuilder:*", "sagemaker:ListClusters", "ec2:DescribeImageAttribute"]
)
def test_a_source_that_cannot_be_read_keeps_only_amis(here: World, tmp_path: Path, action: str) -> None:
    """Who needs an AMI matters to AMIs: builders go on costing money. The run ends as one that kept something."""
    here.in_use()
    left = incomplete_build(here)
    here.aws.gate.deny(action)
    others = {kind: identifier for kind, identifier in left.items() if kind != "image"}
    for yes in (False, True):
        done = task(here, tmp_path)

        with pytest.raises(SafetyError, match=r"^AMIs are kept: ") as told:
            sweep.run(done.run, Request(yes=yes))

        assert _found(done) == others
        (image,) = [verdict for verdict in done.document["verdicts"] if verdict["id"] == left["image"]]
        assert (image["action"], image["reasons"][0]["code"]) == ("keep", "blocked")
        assert done.document["blocks"] == []
        assert ("cleanup.skip_sources in pipeline.yaml" in str(told.value)) is action.startswith(("image", "sage"))
    assert {result["status"] for result in done.document["results"]} == {"deleted"}
    assert len(done.document["results"]) == len(others)
    assert left["image"] in here.there()


def test_where_no_ami_is_left_no_source_of_their_uses_matters(here: World, tmp_path: Path) -> None:
    """A region without some service must not stop what nothing in it can be about."""
    here.in_use()
    left = incomplete_build(here)
    here.maker.ec2.amis[left["image"]].add_tags({"gpu-ami:keep": "true"})
    here.aws.gate.deny("sagemaker:ListClusters", "batch:*")

    done = _sweep(here, tmp_path, yes=True)

    assert {result["status"] for result in done.document["results"]} == {"deleted"}


def test_a_source_is_no_kind_and_the_error_says_where_it_belongs(here: World, tmp_path: Path) -> None:
    """The flag is called like `invoke cleanup`'s, and takes something else."""
    with pytest.raises(UsageError, match=r"'hyperpod' is not a kind of resource: name it in cleanup\.skip_sources in"):
        _sweep(here, tmp_path, skip_source=("hyperpod",))


def test_a_kind_can_be_left_out(here: World, tmp_path: Path) -> None:
    """A role for cleaning up may have no IAM permissions."""
    here.in_use()
    incomplete_build(here)
    here.aws.gate.deny("iam:*")

    assert "instance-profile" not in _found(_sweep(here, tmp_path, skip_source=("instance-profile",)))
    with pytest.raises(UsageError, match="not a kind"):
        _sweep(here, tmp_path, skip_source=("everything",))


def test_a_service_that_the_role_may_not_read_is_left_out_by_the_settings(here: World, tmp_path: Path) -> None:
    """The same role sweeps every night; what uses an unfinished AMI is asked of the same sources."""
    here.in_use()
    incomplete_build(here)
    here.aws.gate.deny("imagebuilder:*")
    skipping = msgspec.structs.replace(EMBEDDED.cleanup, skip_sources=("image-builder",))

    done = _sweep(here, tmp_path, task_options={"cleanup": skipping})

    states = {source["name"]: source["status"] for source in done.document["sources"]}
    assert states["image-builder"] == "skipped"
    assert "image" in _found(done)


@pytest.mark.parametrize("text", ["1h", "0h", "soon"])
def test_an_age_that_could_hit_a_living_build_is_refused(here: World, tmp_path: Path, text: str) -> None:
    """Five hours is what the template's times add up to."""
    with pytest.raises(UsageError, match="--older-than"):
        _sweep(here, tmp_path, older_than=text)


def test_a_longer_age_is_taken(here: World, tmp_path: Path) -> None:
    """Whoever wants to inspect a failed builder for a week can."""
    assert _sweep(here, tmp_path, older_than="7d").document["older_than_s"] == 7 * 86400


def test_the_wrong_account_is_never_changed(here: World, tmp_path: Path) -> None:
    """As everywhere."""
    with pytest.raises(SafetyError):
        _sweep(here, tmp_path, yes=True, task_options={"account": "999999999999"})


def test_a_table_says_all_of_it(here: World, tmp_path: Path) -> None:
    """Kind, id, build, verdict, and what it adds up to."""
    here.in_use()
    left = incomplete_build(here)

    text = _sweep(here, tmp_path, task_options={"output": "table"}).out.getvalue()

    assert all(identifier in text for identifier in left.values())
    assert "7 resources to remove, 1 to keep" in text


def test_instances_that_do_not_end_are_waited_for_and_said(here: World) -> None:
    """Not forever: a stuck instance is somebody's to inspect."""
    caller = here.location().caller
    instance = here.maker.instance(here.image())
    seconds = iter(range(0, 10_000, 200))

    with pytest.raises(Exception, match="still not terminated"):
        build_resources.wait_until_terminated(
            caller, [instance.id], clock=lambda: float(next(seconds)), sleep=lambda _seconds: None
        )


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_says_where_it_is_written(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupts: None, number: signal.Signals
) -> None:
    """Exit code 130 and the journal's name; `kill` and a closed terminal say what Ctrl-C says."""
    here.in_use()
    incomplete_build(here)
    monkeypatch.setattr("gpu_ami.cleanup.sweep_carry_out.Sweep.run", lambda *_: signal.raise_signal(number))

    with interruptible(), pytest.raises(InterruptedRunError, match=r"sweep-.*\.jsonl"):
        _sweep(here, tmp_path, yes=True)


def test_a_disk_that_fills_up_shows_what_was_removed(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 7 and the table, and nothing goes that the journal does not have."""
    here.in_use()
    incomplete_build(here)
    lines, sync = iter(range(1, 1000)), os.fsync

    def full(handle: int) -> None:
        if next(lines) >= 4:
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr("os.fsync", full)
    done = task(here, tmp_path)
    with pytest.raises(PartialError, match=r"No space left on device; .+ Done before that: 1 of"):
        sweep.run(done.run, Request(yes=True))

    statuses = [result["status"] for result in done.document["results"]]
    assert statuses[:2] == ["deleted", "failed"]
    assert set(statuses[2:]) == {"kept"}


def test_a_killed_build_is_named_until_nothing_is_left_of_it(here: World, tmp_path: Path) -> None:
    """Its note goes with its last resource; one of another region is not this sweep's to judge."""
    here.in_use()
    incomplete_build(here)
    logs = tmp_path / "logs"
    logs.mkdir()
    note, clean, elsewhere = (
        logs / f"build-{name}.unfinished"
        for name in (
            f"{RUN}.{REGION}.{here.account}.{FAMILY}",
            f"20261130T080000Z-abcdef.{REGION}.{here.account}.{FAMILY}",
            f"20261130T080001Z-abcdef.us-east-1.{here.account}.{FAMILY}",
        )
    )
    for file in (note, clean, elsewhere):
        file.write_text("")

    _sweep(here, tmp_path, task_options={"dry_run": True})
    assert clean.exists()
    _sweep(here, tmp_path)
    assert (note.exists(), clean.exists(), elsewhere.exists()) == (True, False, True)

    _sweep(here, tmp_path, yes=True)
    assert (note.exists(), elsewhere.exists()) == (False, True)


@pytest.mark.parametrize("where", ["210987654321.{family}", "{account}.another"])
def test_a_build_that_was_not_looked_for_stays_named(here: World, tmp_path: Path, where: str) -> None:
    """With other credentials, or another family, a sweep finds nothing: the builder still runs, and costs."""
    here.in_use()
    (tmp_path / "logs").mkdir()
    whose = where.format(account=here.account, family=FAMILY)
    note = tmp_path / "logs" / f"build-{RUN}.{REGION}.{whose}.unfinished"
    note.write_text("")

    _sweep(here, tmp_path, yes=True)

    assert note.exists()


def test_a_file_that_cannot_be_read_keeps_no_build_named(here: World, tmp_path: Path) -> None:
    """It may be broken for good, and says nothing about what the build left; a list that failed does."""
    here.in_use()
    logs = tmp_path / "logs"
    logs.mkdir()
    note = logs / f"build-{RUN}.{REGION}.{here.account}.{FAMILY}.unfinished"
    note.write_text("")
    (tmp_path / "a.tf").symlink_to(tmp_path / "gone")

    here.aws.gate.deny("ec2:DescribeVolumes")
    with pytest.raises(SafetyError):
        _sweep(here, tmp_path, yes=True)
    assert note.exists()
    here.aws.gate.clear()
    done = _sweep(here, tmp_path, yes=True)

    assert "failed" in {source["status"] for source in done.document["sources"]}
    assert not note.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_what_failed_counts_for_more_than_its_report(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 7 although the table does not fit on the disk: what was not removed goes on, and costs."""
    here.in_use()
    incomplete_build(here)
    here.aws.gate.deny("ec2:TerminateInstances")
    done = task(here, tmp_path)

    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(done.run.console, "_out", Results(full))
        with pytest.raises(PartialError, match=r"were not removed, .* The result cannot be written to standard output"):
            sweep.run(done.run, Request(yes=True))


VERIFIED = "verify-20250115T120000Z-abc123"


def _verifying(here: World, minutes: float, *, run: str = VERIFIED, **tags: str) -> Any:
    """Start an instance as `invoke verify` does, so many minutes ago."""
    told = {"Name": "gpu-batch verification", "gpu-ami:may-take": "45"} | _tags(run) | tags
    listed = [{"Key": key, "Value": value} for key, value in told.items() if value]
    answer = here.access.client("ec2").run_instances(
        ImageId=here.maker.filler(),
        InstanceType="g5.xlarge",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": kind, "Tags": listed} for kind in ("instance", "volume")],
    )
    instance = here.maker.ec2.get_instance(answer["Instances"][0]["InstanceId"])
    instance.launch_time = datetime.now(timezone.utc).replace(tzinfo=None) - timedelta(minutes=minutes)
    return instance


@pytest.mark.parametrize(("minutes", "goes"), [(44, False), (46, True)])
def test_a_verification_that_was_killed_goes_when_its_time_is_over(
    here: World, tmp_path: Path, minutes: float, *, goes: bool
) -> None:
    """Five hours of a GPU instance cost more than the bake; its volume goes with it."""
    instance = _verifying(here, minutes)
    volumes = [volume.id for volume in here.maker.ec2.volumes.values()]
    assert volumes

    done = _sweep(here, tmp_path, yes=True)

    (verdict,) = done.document["verdicts"]
    assert (verdict["id"], verdict["action"]) == (instance.id, "delete" if goes else "keep")
    assert "verification" in verdict["reasons"][0]["detail"]
    assert instance.state == ("terminated" if goes else "running")
    assert list(here.maker.ec2.volumes) == ([] if goes else volumes)


def test_a_person_may_leave_a_verification_longer(here: World, tmp_path: Path) -> None:
    """Who wants to look at it says --older-than, as of a build."""
    instance = _verifying(here, 46)

    _sweep(here, tmp_path, yes=True, older_than="6h")

    assert instance.state == "running"


@pytest.mark.parametrize("tags", [{"gpu-ami:may-take": ""}, {"gpu-ami:may-take": "long"}], ids=["none", "no number"])
def test_a_verification_that_does_not_say_its_time_is_taken_for_a_build(
    here: World, tmp_path: Path, tags: dict[str, str]
) -> None:
    """What nobody can read gives more time, not less."""
    instance = _verifying(here, 46, **tags)

    _sweep(here, tmp_path, yes=True)

    assert instance.state == "running"


@pytest.mark.parametrize(
    "tags",
    [
        {"gpu-ami:pipeline": ""},
        {"gpu-ami:pipeline": "another-team"},
        {"gpu-ami:family": "other"},
        {"gpu-ami:family": ""},
        {"gpu-ami:run": ""},
    ],
    ids=["no pipeline", "another pipeline", "another family", "no family", "no run"],
)
def test_an_instance_without_all_three_tags_is_not_ours(here: World, tmp_path: Path, tags: dict[str, str]) -> None:
    """Another team may call its family as we do, and count its runs; Batch's own instances have no run."""
    theirs = _verifying(here, 10_000, **tags)
    ours = _verifying(here, 10_000)

    done = _sweep(here, tmp_path, yes=True)

    assert [verdict["id"] for verdict in done.document["verdicts"]] == [ours.id]
    assert (theirs.state, ours.state) == ("running", "terminated")


def test_a_wrong_clock_here_ends_no_young_instance(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four minutes are let pass elsewhere; here they would end a verification that goes on."""
    fast = SimpleNamespace(now=lambda zone: datetime.now(zone) + timedelta(minutes=4))
    monkeypatch.setattr(sweep, "datetime", fast)
    monkeypatch.setattr("gpu_ami.cleanup.incomplete_builds.datetime", fast)
    young, old = _verifying(here, 43), _verifying(here, 46, run=f"{VERIFIED}0")

    done = _sweep(here, tmp_path, yes=True)

    assert _found(done) == {"instance": old.id}
    assert (young.state, old.state) == ("running", "terminated")


def test_without_awss_time_nothing_goes(here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy may leave the date out: then nobody knows how old anything is."""
    monkeypatch.setattr("gpu_ami.aws.caller.Caller._note_time", lambda *_: None)
    instance = _verifying(here, 10_000)

    with pytest.raises(SafetyError, match="do not say what time it is"):
        _sweep(here, tmp_path, yes=True)

    assert instance.state == "running"
