"""`invoke sweep --fleet`: each account's leftovers go by its own role, and an AMI only when no account needs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends

from gpu_ami.aws import build_resources
from gpu_ami.aws.references.registry import USES
from gpu_ami.cleanup import sweep
from gpu_ami.cleanup.incomplete_builds import Sweep
from gpu_ami.cleanup.inventory import Survey
from gpu_ami.errors import AwsError, PartialError, SafetyError
from gpu_ami.invocation import Readings
from gpu_ami.settings import Fleet, OrganizationScope
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.demo.factory import FAMILY, PIPELINE
from gpu_ami_sandbox.fleet import CLEANUP_ROLE, REFUSES
from tests.support.demo_organization import REGION, DemoOrganization, demo_organization
from tests.support.schemas import problems

RUN = "20250115T120000Z-abc123"
TAGS = {"gpu-ami:run": RUN, "gpu-ami:family": FAMILY, "gpu-ami:pipeline": PIPELINE}
# It is the sandbox and the decisions over it, whatever the Python.
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Left:
    """What died in the demo organization: in video two AMIs and a key pair, in research an AMI and a key pair."""

    demo: DemoOrganization
    needed: str
    unneeded: str
    idle: str

    @property
    def images(self) -> set[str]:
        """The AMIs of dead builds that are there still."""
        there = {key for name in ("video", "research") for key in ec2_backends[self.demo.ids[name]][REGION].amis}
        return {self.needed, self.unneeded, self.idle} & there

    def pairs(self, name: str) -> list[str]:
        """Return the key pairs of the account *name*."""
        return list(ec2_backends[self.demo.ids[name]][REGION].key_pairs)


@pytest.fixture
def left(aws_server: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Left]:
    """Dead builds in two accounts; only the sources that find something are queried, the others take long."""
    few = tuple(source for source in USES if source.name in {"launch-templates", "batch", "parameters"})
    defaults: dict[str, Any] = Survey.__init__.__kwdefaults__ or {}
    monkeypatch.setitem(defaults, "uses", few)
    with demo_organization(aws_server, tmp_path) as demo:
        video, research = demo.maker(demo.ids["video"]), demo.maker(demo.ids["research"])
        made = []
        for maker, name in ((video, "needed"), (video, "unneeded"), (research, "idle")):
            image = maker.image(200, f"gpu-batch-died-{name}")
            maker.ec2.tags[image.id] = dict(TAGS)
            made.append(image.id)
        for maker in (video, research):
            pair = maker.ec2.create_key_pair(f"packer_{RUN}", "ed25519", TAGS)
            pair.create_time = datetime(2025, 1, 15, 12)  # noqa: DTZ001 - moto's time has no zone
        research.template("looks-at-video", made[0])
        yield Left(demo, *made)


def going(plan: dict[str, Any]) -> set[tuple[str, str]]:
    """Return what goes, each with its account."""
    return {(row["account"], row["id"]) for row in plan["verdicts"] if row["action"] == "delete"}


def reasons(plan: dict[str, Any], identifier: str) -> str:
    """Return why something stays."""
    (row,) = [row for row in plan["verdicts"] if row["id"] == identifier]
    assert row["action"] == "keep"
    return "; ".join(reason["detail"] for reason in row["reasons"])


def test_what_died_goes_account_by_account_and_what_another_one_needs_stays(left: Left) -> None:
    """The AMI that a template of research names stays in video; of research nothing is used, so its own stays, too."""
    video, research = left.demo.ids["video"], left.demo.ids["research"]

    plan, error = left.demo.sweep()

    assert error is None
    assert problems("sweep", plan) == []
    assert (plan["narrowed"]["by"], plan["narrowed"]["read"]) == (["--regions"], [REGION])
    # Of the demo's own AMIs none looks like a dead build's.
    assert {(video, left.unneeded), (video, f"packer_{RUN}"), (research, f"packer_{RUN}")} == going(plan)
    assert f"in account {research} (research)" in reasons(plan, left.needed)
    assert f"nothing at all was found that needs any AMI of {research}" in reasons(plan, left.idle)
    assert left.images == {left.needed, left.unneeded, left.idle}

    done, error = left.demo.sweep(yes=True)

    assert error is None
    assert {row["status"] for row in done["results"]} == {"deleted"}
    assert left.images == {left.needed, left.idle}
    assert (left.pairs("video"), left.pairs("research")) == ([], [])
    journals = {row["account"]: left.demo.folder / row["journal"] for row in done["journals"]}
    assert {video, research} <= set(journals)
    for account, path in journals.items():
        assert json.loads(path.read_text().splitlines()[0])["account"] == account
    again, error = left.demo.sweep()
    assert (going(again), error) == (set(), None)


def test_an_account_that_cannot_be_entered_keeps_all_amis_and_is_named(left: Left) -> None:
    """Something in it may need them; what costs money in the others goes meanwhile."""
    left_out = tuple(one for one in left.demo.fleet.left_out if one.id != left.demo.ids[REFUSES])
    fleet = Fleet(organization=OrganizationScope(), left_out=left_out)

    done, error = left.demo.sweep(fleet=fleet, yes=True)

    assert isinstance(error, SafetyError)
    assert str(error).startswith(f"Not everything was swept: what {left.demo.ids[REFUSES]} (finance) has stays: ")
    assert "docs/fleet.md" in str(error)
    assert left.images == {left.needed, left.unneeded, left.idle}
    assert left.pairs("video") == []
    assert "could not be read" in reasons(done, left.unneeded)


def test_without_the_right_to_change_one_account_the_others_are_swept(left: Left) -> None:
    """A builder's cost goes on by the second: nobody waits for another account's role."""
    video = left.demo.ids["video"]
    roles = iam_backends[video]["aws"].roles
    roles.pop(next(role.id for role in roles.values() if role.name == CLEANUP_ROLE))

    done, error = left.demo.sweep(yes=True)

    assert isinstance(error, PartialError)
    assert video in str(error)
    assert "docs/fleet.md" in str(error)
    assert {row["status"] for row in done["results"] if row["account"] == video} == {"failed"}
    assert left.pairs("video") == [f"packer_{RUN}"]
    assert left.pairs("research") == []


def test_a_use_in_another_account_since_the_plan_keeps_the_ami(left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole graph is read again right before."""
    begun = Sweep.run

    def used_meanwhile(self: Sweep, verdicts: Any) -> Any:
        if any(verdict.resource.identifier == left.unneeded for verdict in verdicts):
            left.demo.maker(left.demo.ids["research"]).template("made-meanwhile", left.unneeded)
        return begun(self, verdicts)

    monkeypatch.setattr(Sweep, "run", used_meanwhile)
    done, _ = left.demo.sweep(yes=True)

    (row,) = [row for row in done["results"] if row["image_id"] == left.unneeded]
    assert row["status"] == "kept"
    assert "made-meanwhile" in row["error"]
    assert left.unneeded in left.images


def test_who_sweeps_has_entered_the_accounts_himself(left: Left) -> None:
    """An account that has joined since another family's sweep came to nothing may launch what would go."""
    readings = Readings()
    for acts in (False, True):
        run = left.demo.run()
        run.readings = readings
        left.demo.aws.gate.calls.clear()

        sweep.run(run, sweep.Request(fleet=True, regions=(REGION,), yes=acts))

        assert "ListAccounts" in {call.action for call in left.demo.aws.gate.calls}


def test_a_source_that_fails_anywhere_keeps_the_amis_alone(left: Left) -> None:
    """Named with its place; the exit says that not everything was swept."""
    left.demo.aws.gate.fail("UnauthorizedOperation", "No.", action="DescribeLaunchTemplateVersions", status=403)

    done, error = left.demo.sweep(yes=True)

    assert isinstance(error, SafetyError)
    assert "AMIs are kept: " in str(error)
    assert left.images == {left.needed, left.unneeded, left.idle}
    assert left.pairs("research") == []
    assert {row["status"] for row in done["results"]} == {"deleted"}


def test_a_kind_that_cannot_be_listed_keeps_that_accounts_things(left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for one account: what is not seen may be what the rest is needed for. The other accounts are swept."""
    video, find = left.demo.ids["video"], build_resources.find

    def broken(caller: Any, kind: str, family: str) -> Any:
        if kind == "volume" and caller.access.credentials is not None:
            found = caller.call("sts", "get_caller_identity")
            if found["Account"] == video:
                msg = "no volumes today"
                raise AwsError(msg)
        return find(caller, kind, family)

    monkeypatch.setattr("gpu_ami.cleanup.sweep_planner.find", broken)
    done, error = left.demo.sweep(yes=True)

    assert isinstance(error, SafetyError)
    assert f"what {video} (video) has stays: leftover-volumes" in str(error)
    assert left.pairs("video") == [f"packer_{RUN}"]
    assert left.pairs("research") == []
    assert [block.split(":")[0] for block in done["blocks"]] == [f"{video} (video)"]
