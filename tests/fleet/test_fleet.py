"""`invoke fleet` against the demo organization: who can be entered, and what a person on call reads of the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, timezone
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from moto.iam.models import iam_backends

from gpu_ami.aws.access import Access
from gpu_ami.console import Console
from gpu_ami.errors import AwsError, DifferenceError, UsageError
from gpu_ami.fleet import fleet as command
from gpu_ami.fleet.entry import Entered, Listed, enter_all, hub_of, members_by
from gpu_ami.fleet.members import Member
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options
from gpu_ami.settings import Fleet, FleetAccount, LeftOut, OrganizationScope
from gpu_ami.target import Aws
from gpu_ami_sandbox.aws.gate import Answer, Call, Environ, Fault, error_answer
from gpu_ami_sandbox.aws.organizations import MAKERS, Organization, forget, organization_of
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.demo.demo_fleet import build_demo_fleet
from gpu_ami_sandbox.fleet import REFUSES, SUSPENDED, demo_fleet, member_ids, regions_of

REGION = "ap-northeast-2"
NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)
EVERYBODY = Fleet(organization=OrganizationScope())


@pytest.fixture
def demo(aws_server: LocalAws) -> Iterator[tuple[Access, Organization]]:
    """The demo organization, and the way into its hub."""
    aws_server.reset()
    account = aws_server.account_id
    MAKERS[account] = lambda: build_demo_fleet(account, REGION, NOW)
    made = organization_of(account)
    assert made is not None
    yield Access(region=REGION, endpoint_url=aws_server.endpoint_url), made
    forget(account)


def test_each_account_is_entered_with_its_own_regions(demo: tuple[Access, Organization]) -> None:
    """Off is off for one account alone."""
    access, made = demo
    fleet = demo_fleet(made.management)
    hub = hub_of(access, fleet)

    members = members_by(hub, fleet, NOW.date()).members

    # The hub needs no role of its own; nobody has this one.
    without = {one.member.name: one for one in enter_all(hub, members, role="none")}
    found = {one.member.name: one for one in enter_all(hub, members, role=fleet.read_role)}

    assert [name for name, one in without.items() if one.access is not None] == ["platform"]
    assert {name: one.trouble for name, one in found.items()} == dict.fromkeys(found)
    third = regions_of(REGION)[2]
    assert [name for name, one in found.items() if third in one.regions] == ["platform", "video"]
    assert third in found["research"].off


def test_who_cannot_be_entered_is_named_with_the_reason(demo: tuple[Access, Organization]) -> None:
    """A role that is not there, one that does not trust us, and a suspended account: each its own line."""
    access, made = demo
    ids = member_ids(made.management)
    role = next(role for role in iam_backends[ids["research"]]["aws"].roles.values() if role.name.endswith("-read"))
    role.assume_role_policy_document = json.dumps(
        {"Statement": [{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111111111111:root"}}]}
    )
    hub = hub_of(access, EVERYBODY)

    found = {
        one.member.name: one for one in enter_all(hub, members_by(hub, EVERYBODY, NOW.date()).members, role=role.name)
    }

    assert [name for name, one in found.items() if one.trouble is None] == ["platform", "video"]
    for name in ("research", REFUSES):
        assert f"not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::{ids[name]}" in str(
            found[name].trouble
        )
        assert "trust" in found[name].fix
    assert f"{ids[SUSPENDED]} ({SUSPENDED}) is suspended" in str(found[SUSPENDED].trouble)


def test_a_role_of_the_hub_is_entered_first(demo: tuple[Access, Organization]) -> None:
    """Chained roles last an hour; the hub's identity is what the others have to trust."""
    access, made = demo
    iam = iam_backends[made.management]["aws"]
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{made.management}:root"}}]}
    arn = iam.create_role("hub", json.dumps(trust), "/", None, "", [], "3600").arn

    hub = hub_of(access, Fleet(organization=OrganizationScope(), hub_role=arn))

    assert hub.identity.arn == f"arn:aws:sts::{made.management}:assumed-role/hub/gpu-ami-hub"
    assert hub.trusted == arn, "a session's ARN in a trust would let nobody in tomorrow"
    assert hub_of(hub.access, Fleet(organization=OrganizationScope())).trusted == arn
    with pytest.raises(AwsError, match="not authorized to perform: sts:AssumeRole"):
        hub_of(access, Fleet(organization=OrganizationScope(), hub_role=f"{arn}-none"))


def test_an_account_that_does_not_say_its_regions_is_trouble(
    demo: tuple[Access, Organization], aws_server: LocalAws
) -> None:
    """Entered is not read."""
    access, made = demo
    video = member_ids(made.management)["video"]
    fleet = Fleet(accounts=(FleetAccount(id=video),))
    hub = hub_of(access, fleet)
    aws_server.gate.fail("UnauthorizedOperation", "No.", action="DescribeRegions", status=403)

    (found,) = enter_all(hub, members_by(hub, fleet, NOW.date()).members, role=fleet.read_role)

    assert (found.access is not None, found.regions) == (True, ())
    assert "ec2:DescribeRegions" in found.fix


@pytest.mark.parametrize("off", ["us-east-1", REGION])
def test_a_region_that_refuses_is_not_the_only_one(
    demo: tuple[Access, Organization], aws_server: LocalAws, off: str
) -> None:
    """The pipeline's own region may be off for an account, and a policy may deny the one that never is."""
    access, made = demo
    fleet = demo_fleet(made.management)
    hub = hub_of(access, fleet)

    def answer(call: Call, environ: Environ) -> Answer | None:
        is_it = call.region == off and call.action in {"AssumeRole", "DescribeRegions"}
        return error_answer(environ, "AccessDenied", "Not here.", 403) if is_it else None

    aws_server.gate.add(Fault(answer))
    members = members_by(hub, fleet, NOW.date()).members

    assert {one.trouble for one in enter_all(hub, members, role=fleet.read_role)} == {None}


def test_who_may_not_list_the_accounts_reads_who_may(demo: tuple[Access, Organization], aws_server: LocalAws) -> None:
    """AWS's own words do not say that it is the account, and not a permission, that is wrong."""
    hub = hub_of(demo[0], EVERYBODY)
    aws_server.gate.fail("AccessDeniedException", "You don't have permissions.", action="ListAccounts")

    with pytest.raises(
        AwsError, match=r"delegated administrators may list .*; or name the accounts in fleet\.accounts"
    ):
        members_by(hub, EVERYBODY, NOW.date())


def a_run(tmp_path: Path, demo: tuple[Access, Organization], fleet: Fleet | None, **options: Any) -> Invocation:
    """Return an invocation on AWS whose settings have *fleet*."""
    (tmp_path / "pipeline.yaml").write_text(f"region: {REGION}\n")
    made = Invocation(tmp_path, Options(**options), Console("json", out=StringIO(), err=StringIO()))
    assert isinstance(made.target, Aws)
    vars(made)["access"] = demo[0]
    vars(made)["settings"] = made.settings.__class__(region=REGION, fleet=fleet)
    return made


def test_the_command_ends_with_9_where_one_cannot_be_read(tmp_path: Path, demo: tuple[Access, Organization]) -> None:
    """A nightly job finds out from it that a new account has no role, before a clean-up keeps everything."""
    run = a_run(tmp_path, demo, EVERYBODY)

    with pytest.raises(DifferenceError, match="2 of 5 accounts cannot be read, so a clean-up"):
        command.run(run, command.Request())


def test_many_accounts_without_the_role_do_not_fill_the_screen(
    tmp_path: Path, demo: tuple[Access, Organization]
) -> None:
    """A new unit of a hundred accounts: each is in the table, the sentence is said for ten."""
    entered = tuple(
        Entered(member=Member(account=f"{number:012d}", name="new"), trouble=f"{number:012d} (new): no", fix="make it")
        for number in range(25)
    )
    hub = hub_of(demo[0], EVERYBODY)

    made = command.table(command.Found(hub=hub, listed=Listed(members=()), entered=entered, strangers=()))

    assert len(made.rows) == 25
    assert made.footer[0] == "0 accounts can be read, 25 cannot, 0 left out."
    assert made.footer[1:3] == ("000000000000 (new): no. Make it.", "000000000001 (new): no. Make it.")
    assert made.footer[11:] == ("And 15 more: --output json has what is wrong with each.",)


def test_the_demo_fleet_is_whole(tmp_path: Path, demo: tuple[Access, Organization]) -> None:
    """By the settings of the sandbox; who is left out is named with reason and end, and a stranger among them."""
    fleet = demo_fleet(demo[1].management)
    stranger = LeftOut(id="999999999999", reason="r", until=date(2099, 1, 1))
    fleet = Fleet(organization=fleet.organization, left_out=(*fleet.left_out, stranger))
    run = a_run(tmp_path, demo, fleet)

    command.run(run, command.Request())

    shown = json.loads(run.console._out.getvalue())  # type: ignore[union-attr]
    assert [row["entered"] for row in shown["accounts"]] == [True, True, True, False, False]
    assert shown["accounts"][3]["left_out"] == {
        "reason": "has no role for us: its owner refuses",
        "until": "2099-12-31",
    }
    assert (shown["organization"], shown["unknown_left_out"]) == (demo[1].organization_id, ["999999999999"])


def test_without_a_fleet_there_is_none(tmp_path: Path, demo: tuple[Access, Organization]) -> None:
    """One line, before anything is called."""
    with pytest.raises(UsageError, match=r"^pipeline\.yaml has no fleet: "):
        command.run(a_run(tmp_path, demo, None), command.Request())
