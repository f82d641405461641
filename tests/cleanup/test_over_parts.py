"""A fleet's clean-up over many machines, through files: what one machine's would do, or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from moto.ec2.models import ec2_backends
from moto.ssm.models import ssm_backends

from gpu_ami.aws import image_changes as ec2
from gpu_ami.aws.references.registry import USES
from gpu_ami.cleanup.execute import Apply
from gpu_ami.cleanup.fleet_merge import MergedSurvey
from gpu_ami.cleanup.inventory import Survey
from gpu_ami.cleanup.policy import Flags
from gpu_ami.errors import PartialError, SafetyError, UsageError
from gpu_ami.fleet import fleet
from gpu_ami.locks import only_one
from gpu_ami.settings import Cleanup, FleetAccount, LeftOut
from gpu_ami_sandbox.aws.server import LocalAws
from tests.support.demo_organization import REGION, DemoOrganization, demo_organization, timeless
from tests.support.schemas import problems
from tests.support.spread import Spread

# It is the sandbox and the decisions over it, whatever the Python.
pytestmark = pytest.mark.slow
UNUSED = "gpu-batch-shared-unused"


@pytest.fixture
def whole(aws_server: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spread]:
    """The demo organization as if just made, and nobody's workflow."""
    for name in ("GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    with demo_organization(aws_server, tmp_path) as made:
        yield Spread(made)


@pytest.fixture
def spread(whole: Spread, monkeypatch: pytest.MonkeyPatch) -> Spread:
    """The same, of which only the sources that find something are queried: the others would take most of the time."""
    few = tuple(source for source in USES if source.name in {"launch-templates", "batch", "parameters", "copies"})
    for kind in (Survey, MergedSurvey):
        defaults: dict[str, Any] = kind.__init__.__kwdefaults__ or {}
        monkeypatch.setitem(defaults, "uses", few)
    return whole


def everything(demo: DemoOrganization) -> set[str]:
    """Return the names of all AMIs of the fleet, with their accounts."""
    accounts = (demo.hub, *demo.ids.values())
    return {
        f"{account} {region} {name}"
        for account in accounts
        for region in demo.regions
        for name in demo.images(account, region)
    }


def test_three_parts_go_the_whole_way_as_one_machine_does(whole: Spread) -> None:
    """The same plan, byte for byte but for times, and each owner's apply deletes exactly what it names."""
    demo = whole.demo
    before = everything(demo)
    listed = whole.lists()
    assert listed["shards"] == ["1/3", "2/3", "3/3"]
    assert problems("fleet", listed) == []
    for name in listed["shards"]:
        said = whole.survey(name)
        assert problems("survey", said) == []
        assert (said["failed"], len(said["accounts"])) == ([], 1)
    # Neither secrets nor values: what was read is ids, names and counts.
    assert b"ASIA" not in whole.part("1/3").read_bytes()

    merged, error = whole.merge()
    one = demo.cleanup()

    assert error is None
    assert problems("cleanup", merged) == []
    assert timeless(merged) == timeless(one)
    assert merged["owners"] == [demo.hub, demo.ids["video"]]
    gone = []
    for owner in merged["owners"]:
        done, error = whole.apply(owner)
        assert error is None
        assert {row["account"] for row in done["results"]} == {owner}
        assert {row["status"] for row in done["results"]} == {"deleted"}
        gone += [row["image_id"] for row in done["results"]]
    assert sorted(gone) == sorted(row["image_id"] for row in one["verdicts"] if row["action"] != "keep")
    assert len(before - everything(demo)) == len(gone)


def test_what_cannot_be_read_keeps_everything_and_is_named(spread: Spread) -> None:
    """A source that fails in one shard: its part is whole and says so; without it the place is missing."""
    demo, video = spread.demo, spread.demo.ids["video"]
    names = spread.lists()["shards"]
    spread.survey(names[0])
    spread.survey(names[2])
    demo.aws.gate.fail("UnauthorizedOperation", "No.", action="DescribeLaunchTemplates", status=403)
    with pytest.raises(PartialError, match=r"was written, and .* could not be read, so a plan by it keeps everything"):
        spread.survey(names[1])

    plan, error = spread.merge()
    assert isinstance(error, SafetyError)
    assert "may not do ec2:DescribeLaunchTemplates" in plan["blocks"][0]
    with pytest.raises(SafetyError, match="was blocked when it was made"):
        spread.apply(video)

    part = next(spread.part(name) for name in names if video in _accounts(spread, name))
    part.unlink()
    plan, error = spread.merge()

    assert isinstance(error, SafetyError)
    missing = [row for row in plan["sources"] if row["name"] == "part"]
    assert {(row["account"], row["region"]) for row in missing} == {(video, name) for name in demo.regions}
    assert ": no part has it: `invoke survey --shard " in missing[0]["error"]
    assert plan["owners"] == []
    assert problems("cleanup", plan) == []


def _accounts(spread: Spread, shard: str) -> list[str]:
    shards: list[list[str]] = json.loads(spread.listing.read_text())["shards"]
    return shards[int(shard.partition("/")[0]) - 1]


def test_a_machine_that_lags_behind_is_told(spread: Spread, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another attempt, another policy, another hub, a shard that is none, and a merge that has no right to change."""
    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    monkeypatch.setenv("GITHUB_RUN_ATTEMPT", "1")
    monkeypatch.setenv("GITHUB_REPOSITORY", "o/r")
    for name in spread.surveys():
        assert spread.part(name).exists()
    plan, error = spread.merge(flags=Flags())
    assert isinstance(error, SafetyError)
    assert "it was made by another policy" in plan["blocks"][0]
    assert "): give surveys and plan the same flags, settings" in plan["blocks"][0]

    monkeypatch.setenv("GITHUB_RUN_ATTEMPT", "2")
    with pytest.raises(UsageError, match="is of run 7 of o/r, attempt 1, this is run 7 of o/r, attempt 2: run all of"):
        spread.survey("1/3")
    plan, error = spread.merge()
    assert isinstance(error, SafetyError)
    assert "this is run 7 of o/r, attempt 2" in plan["blocks"][0]

    monkeypatch.setenv("GITHUB_RUN_ATTEMPT", "1")
    with pytest.raises(UsageError, match="--shard '4/3' is not a shard of the list, which has 1/3 to 3/3"):
        spread.survey("4/3")
    changed = json.loads(spread.listing.read_text())
    spread.listing.write_text(json.dumps(changed | {"hub": changed["hub"] | {"account": "999999999999"}}))
    with pytest.raises(SafetyError, match="was made from account 999999999999"):
        spread.survey("1/3")
    plan, error = spread.merge()
    assert isinstance(error, SafetyError)
    assert "it was made by another list" in plan["blocks"][0]


def test_a_region_that_was_switched_on_since_the_list_is_not_left_unread(spread: Spread) -> None:
    """The account is trouble then, and everything stays until the fleet is listed anew."""
    (shard,) = spread.lists(1)["shards"]
    changed = json.loads(spread.listing.read_text())
    row = next(row for row in changed["members"] if row["account"] == spread.demo.ids["video"])
    row["on"] = row["on"][:-1]
    spread.listing.write_text(json.dumps(changed))

    with pytest.raises(PartialError, match="was switched on or off since the list was made"):
        spread.survey(shard)

    _, error = spread.merge()
    assert isinstance(error, SafetyError)


def test_an_owners_apply_believes_no_part(spread: Spread, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grant since the plan, to a stranger before it looks or while it acts, keeps the AMI; another account's goes."""
    demo = spread.demo
    spread.surveys()
    plan, _ = spread.merge()
    granted = demo.images(demo.hub)[UNUSED]
    unit = demo.images(demo.hub, demo.regions[1])[f"{UNUSED}-unit"]
    granted.launch_permissions.append({"UserId": "998877665544"})
    act = Apply.images

    def granting(self: Apply, verdicts: Any) -> Any:
        unit.launch_permissions.append({"UserId": "998877665544"})
        return act(self, verdicts)

    monkeypatch.setattr(Apply, "images", granting)
    done, error = spread.apply(demo.hub)

    assert error is None
    assert [(row["image_id"], row["status"]) for row in done["results"]] == [(unit.id, "kept")]
    assert "which is not in the fleet" in done["results"][0]["error"]
    (verdict,) = [row for row in done["verdicts"] if row["image_id"] == granted.id]
    assert verdict["reasons"][0]["code"] == "grantees"
    assert UNUSED in demo.images(demo.hub)
    assert f"{UNUSED}-unit" in demo.images(demo.hub, demo.regions[1])
    with pytest.raises(UsageError, match=f"removes nothing in account {demo.ids['research']}, it does in {demo.hub}, "):
        spread.apply(demo.ids["research"])
    assert plan["owners"] == [demo.hub, demo.ids["video"]]


def test_an_owners_apply_sees_what_a_grantee_has_begun_to_use(spread: Spread) -> None:
    """Its account is read again, in every region: a parameter, a copy that it has begun in another one."""
    demo = spread.demo
    spread.surveys()
    spread.merge()
    image = demo.images(demo.hub)[UNUSED]
    reader = next(entry["UserId"] for entry in image.launch_permissions if "UserId" in entry)
    demo.maker(reader).parameter("/n", image.id)
    unit = demo.images(demo.hub, demo.regions[1])[f"{UNUSED}-unit"]
    copy = ec2_backends[demo.ids["video"]][demo.regions[2]].register_image("copy")
    copy.state, copy.source_image_id = "pending", unit.id

    done, error = spread.apply(demo.hub)

    assert error is None
    found = {row["image_id"]: row["reasons"][0]["detail"] for row in done["verdicts"]}
    assert "SSM parameter /n, in account" in found[image.id]
    assert f"{copy.id} is being made from it in {demo.regions[2]}, in account" in found[unit.id]
    assert UNUSED in demo.images(demo.hub)


def test_an_apply_reads_every_region_that_the_plan_was_made_by(spread: Spread, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings name fewer by now; in one of the others a text names what goes."""
    demo = spread.demo
    spread.surveys()
    spread.merge()
    image = demo.images(demo.hub)[UNUSED]
    run, elsewhere = DemoOrganization.run, next(name for name in demo.regions if name.startswith("eu-"))

    def narrow(self: DemoOrganization, fleet: Any = None, **options: Any) -> Any:
        made = run(self, fleet, **options)
        vars(made)["settings"] = msgspec.structs.replace(made.settings, cleanup=Cleanup(regions=(REGION,)))
        return made

    monkeypatch.setattr(DemoOrganization, "run", narrow)
    ssm_backends[demo.hub][elsewhere].put_parameter("/n", "", image.id, "String", "", "", False, [], "text", None, None)

    for owners in ((demo.hub,), ()):
        done, _ = spread.apply(*owners)

        (verdict,) = [row for row in done["verdicts"] if row["image_id"] == image.id]
        assert verdict["reasons"][0]["detail"] == "SSM parameter /n"
    assert UNUSED in demo.images(demo.hub)


def test_an_owner_that_nobody_reads_is_no_job_well_done(spread: Spread, monkeypatch: pytest.MonkeyPatch) -> None:
    """None at all, as of a variable that is not set; one that has left the fleet, or was left out, since the plan."""
    demo, video = spread.demo, spread.demo.ids["video"]
    spread.surveys()
    spread.merge()
    with pytest.raises(UsageError, match="removes nothing in account '', it does in "):
        spread.apply("")
    decision = LeftOut(id=video, reason="it moves out", until=date(2099, 1, 1))
    fleets: dict[str, dict[str, Any]] = {
        "is left out until 2099-01-01 by now: it moves out": {"left_out": (*demo.fleet.left_out, decision)},
        "is not in the fleet any more: make a new plan": {
            "organization": None,
            "left_out": (),
            "accounts": (FleetAccount(id=demo.hub),),
        },
    }
    made = DemoOrganization.run
    for message, changed in fleets.items():
        other = msgspec.structs.replace(demo.fleet, **changed)
        monkeypatch.setattr(DemoOrganization, "run", lambda self, fleet=other: made(self, fleet))

        with pytest.raises(SafetyError, match=message):
            spread.apply(video)


def test_a_last_check_that_fails_keeps_everything_and_is_exit_8(
    spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that deleted nothing because it could not look must not look well."""
    demo, act = spread.demo, Apply.images
    spread.surveys()
    spread.merge()
    before = everything(demo)

    def refused(self: Apply, verdicts: Any) -> Any:
        demo.aws.gate.fail("UnauthorizedOperation", "No.", action="DescribeLaunchTemplates", status=403)
        return act(self, verdicts)

    monkeypatch.setattr(Apply, "images", refused)
    done, error = spread.apply(demo.hub, demo.ids["video"])

    assert isinstance(error, SafetyError)
    assert str(error).startswith("Everything is kept: the check right before found: ")
    assert {row["status"] for row in done["results"]} == {"kept"}
    assert everything(demo) == before


def test_two_applies_at_once(spread: Spread, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one machine the lock refuses the second; from another machine it finds the AMI gone, which is no failure."""
    demo, video = spread.demo, spread.demo.ids["video"]
    spread.surveys()
    spread.merge()
    with only_one(demo.folder / "logs", "cleanup"), pytest.raises(SafetyError, match="Another clean-up is under way"):
        spread.apply(video)
    deregister = ec2.deregister

    def second(caller: Any, image_id: str) -> Any:
        deregister(caller, image_id)
        return deregister(caller, image_id)

    monkeypatch.setattr(ec2, "deregister", second)
    done, error = spread.apply(video)

    assert error is None
    assert [row["status"] for row in done["results"]] == ["deleted"]
    # Whoever comes later finds nothing to do.
    done, error = spread.apply(video)
    assert (error, done["results"]) == (None, [])


def test_what_lies_beside_the_parts_is_no_reference(spread: Spread) -> None:
    """The plan names the AMIs that go: read as a record of builds it would keep them for ever."""
    demo = spread.demo
    spread.surveys()
    unused = demo.images(demo.hub)[UNUSED].id
    for name in ("release.json", "manifest.json", "main.tf"):
        (spread.folder / name).write_text(json.dumps({"ami": unused}))

    plan, _ = spread.merge()

    assert unused in {row["image_id"] for row in plan["verdicts"] if row["action"] != "keep"}
    (demo.folder / "main.tf").write_text(f'ami = "{unused}"')
    plan, _ = spread.merge()
    assert unused not in {row["image_id"] for row in plan["verdicts"] if row["action"] != "keep"}


def test_a_clock_that_is_off_or_unknown_is_told(spread: Spread, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list would date everything wrong; and without AWS's time nobody knows how old a part is."""
    spread.surveys(1)
    monkeypatch.setattr(fleet, "aws_now", lambda _: datetime.now(timezone.utc) - timedelta(hours=2))
    with pytest.raises(SafetyError, match=r"This machine says .*: set the clock"):
        spread.lists()

    spread.demo.aws.gate.fail("InternalError", "No.", action="GetCallerIdentity", status=500)
    plan, error = spread.merge()

    assert isinstance(error, SafetyError)
    (clock,) = [row for row in plan["sources"] if row["name"] == "clock"]
    assert "the age of the parts is not" in clock["error"]
