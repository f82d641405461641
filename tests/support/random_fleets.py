"""Fleets of random AMIs, grants and uses, read by scripted callers: by one machine, or in parts."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from io import BytesIO
from typing import Any

import pytest
from hypothesis import strategies as st

from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller, UnansweredError
from gpu_ami.aws.organizations import Organization
from gpu_ami.aws.references.source import Found, Reference, Source, SourceQuery
from gpu_ami.cleanup import over_owners
from gpu_ami.cleanup.decide import SourceReport
from gpu_ami.cleanup.fleet_merge import Expected, MergedSurvey, merge
from gpu_ami.cleanup.fleet_part import Header, lines, packed
from gpu_ami.cleanup.fleet_plan import FleetPlan, SavedFleetPlan, make_fleet_plan
from gpu_ami.cleanup.grantees import Reached
from gpu_ami.cleanup.inventory import Location, Reading, Survey
from gpu_ami.cleanup.policy import Policy, Scope
from gpu_ami.cleanup.survey import parts_of
from gpu_ami.fleet.entry import Entered, Listed
from gpu_ami.fleet.fleet_list import FleetList, HubRow, Run, list_of
from gpu_ami.fleet.members import Member
from gpu_ami.settings import Fleet, LeftOut
from tests.support.fake_caller import FakeCaller, Script

NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)
ACCOUNTS = ("111111111111", "222222222222", "333333333333", "444444444444")
OUTSIDE = "999999999999"
REGIONS = ("eu-west-1", "us-east-1")
UNITS = {"ou-1-a": ACCOUNTS[:2], "ou-1-b": ACCOUNTS[2:]}
ARN = "arn:aws:organizations::1:organization/o-abc"
ORGANIZATION = Organization(organization_id="o-abc", arn=ARN, management_account=ACCOUNTS[0])
POLICY = Policy(older_than=timedelta(days=30), keep=0, scope=Scope(family="f"), include_shared=True)
GRANTS = (
    *({"UserId": account} for account in (*ACCOUNTS, OUTSIDE)),
    *({"OrganizationalUnitArn": f"arn:aws:organizations::1:ou/o-abc/{unit}"} for unit in UNITS),
    {"OrganizationArn": ARN},
    {"Group": "all"},
)


@dataclass(frozen=True)
class Ami:
    """An AMI, who may launch it, and who does."""

    key: str
    owner: str
    region: str
    grants: tuple[dict[str, str], ...]
    users: frozenset[str]

    def row(self) -> dict[str, Any]:
        """Return it as EC2 does."""
        return {
            "ImageId": self.key,
            "OwnerId": self.owner,
            "State": "available",
            "Name": f"n-{int(self.key[-1], 16) % 2}",
            "CreationDate": "2020-01-01T00:00:00.000Z",
            "Public": {"Group": "all"} in self.grants,
            "RootDeviceType": "ebs",
            "Tags": [{"Key": "gpu-ami:family", "Value": "f"}],
        }


def may_launch(grants: Collection[dict[str, str]]) -> set[str]:
    """Return the accounts that *grants* mean."""
    found: set[str] = set()
    for grant in grants:
        ((kind, value),) = grant.items()
        if kind == "UserId":
            found.add(value)
        elif kind == "OrganizationalUnitArn":
            found |= set(UNITS[value.rpartition("/")[2]])
        else:
            found |= {*ACCOUNTS, *([OUTSIDE] if kind == "Group" else [])}
    return found


@st.composite
def amis(draw: st.DrawFn) -> list[Ami]:
    """Make AMIs; whoever uses one may launch it."""
    made = []
    for number in range(draw(st.integers(1, 8))):
        owner = draw(st.sampled_from(ACCOUNTS))
        grants = tuple(draw(st.lists(st.sampled_from(GRANTS), max_size=3)))
        users = draw(st.sets(st.sampled_from(sorted({owner, *may_launch(grants)})), max_size=2))
        region = draw(st.sampled_from(REGIONS))
        made.append(Ami(f"ami-{number:017x}", owner, region, grants, frozenset(users)))
    return made


class Uses:
    """What launches AMIs in a place, as a source finds it."""

    name, service, is_essential, is_use = "instances", "", True, True
    reads: tuple[str, ...] = ()

    def __init__(self, made: Collection[Ami], places: dict[Caller, str], failing: Collection[tuple[str, str]]) -> None:
        self._made, self._places, self._failing = made, places, failing

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return what the account needs in its region."""
        del query
        caller.calls = 1
        account = self._places[caller]
        if (account, caller.region) in self._failing:
            msg = "no answer"
            raise UnansweredError(msg)
        here = (one for one in self._made if one.region == caller.region and account in one.users)
        return Found([Reference(one.key, self.name, "an instance") for one in here])


class Sharing:
    """Who may launch an AMI, as EC2 says it AMI by AMI."""

    name, service, is_essential, is_use = "launch-permissions", "", False, False
    reads: tuple[str, ...] = ()

    def __init__(self, made: Collection[Ami]) -> None:
        self._made = {one.key: one for one in made}

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the public AMIs, selected or not, and the selected ones that are shared; keep their permissions."""
        caller.calls = len(query.selected)
        grants = {key: self._made[key].grants for key in query.selected}
        query.memory.setdefault("permissions", {}).update(grants)
        public = {image.image_id for image in query.images if image.public}
        shared = {key for key, some in grants.items() if some} - public
        return Found(
            [
                *(Reference(key, self.name, "public") for key in sorted(public)),
                *(Reference(key, self.name, "shared") for key in sorted(shared)),
            ]
        )


@dataclass(frozen=True)
class RandomFleet:
    """A fleet of random AMIs; the same each time that it is read.

    Attributes:
        made: Its AMIs.
        left_out: The accounts that nobody reads.
        off: The places that are switched off.
        failing: The places whose uses cannot be read.
        policy: What decides.
    """

    made: list[Ami]
    left_out: set[str]
    off: set[tuple[str, str]]
    failing: set[tuple[str, str]]
    policy: Policy

    @property
    def members(self) -> dict[str, Member]:
        """Its accounts, by their ids."""
        decision = LeftOut(id=OUTSIDE, reason="r", until=date(2099, 1, 1))
        unit_of = {account: unit for unit, some in UNITS.items() for account in some}
        return {
            account: Member(
                account=account,
                paths=(f"o-abc/r-1/{unit_of[account]}/",),
                left_out=decision if account in self.left_out else None,
            )
            for account in ACCOUNTS
        }

    @property
    def places(self) -> list[tuple[str, str]]:
        """What is read."""
        every = [(account, region) for account in ACCOUNTS for region in REGIONS]
        return [place for place in every if place[0] not in self.left_out and place not in self.off]

    @property
    def reached(self) -> Reached:
        """How far it is read."""
        return Reached(
            members=self.members,
            organization=ORGANIZATION,
            read=frozenset(self.places),
            off=frozenset(self.off),
        )

    def sources(self, accounts: dict[Caller, str]) -> dict[str, Any]:
        """Return what finds uses and shares, by the accounts of callers."""
        uses: Source = Uses(self.made, accounts, self.failing & set(self.places))
        return {"uses": (uses,), "own": (), "per_image": (Sharing(self.made),)}

    def survey(self, of: Collection[str] = ACCOUNTS, reading: Reading | None = None) -> Survey:
        """Return a survey of the accounts *of*, by the *reading* for others, which has not queried anything yet."""
        accounts: dict[Caller, str] = {}
        locations = []
        for account, region in self.places:
            if account in of:
                caller = self._caller(account, region)
                accounts[caller] = account
                locations.append(Location(caller, account))
        return Survey(locations, self.policy, reached=self.reached, reading=reading, **self.sources(accounts))

    def survey_of_owners(self, owners: Collection[str]) -> tuple[Survey, SavedFleetPlan]:
        """Return what `cleanup --fleet --apply --owner` reads, and a plan by which all AMIs go."""
        going = frozenset((one.owner, one.region, one.key) for one in self.made)
        saved = SavedFleetPlan(ACCOUNTS[0], self.policy, going, frozenset())
        accounts: dict[Caller, str] = {}

        def entered(_hub: object, members: Collection[Member], **_: object) -> list[Entered]:
            return [
                Entered(
                    member=one,
                    access=None if one.left_out else Access(region="r"),
                    regions=tuple(name for name in REGIONS if (one.account, name) in self.places),
                    off=tuple(name for name in REGIONS if (one.account, name) in self.off),
                )
                for one in members
            ]

        def located(one: Entered, *, is_own: bool = True) -> list[Location]:
            callers = [self._caller(one.member.account, region) for region in one.regions if one.access]
            accounts.update(dict.fromkeys(callers, one.member.account))
            return [Location(caller, one.member.account, is_own) for caller in callers]

        listed = Listed(members=tuple(self.members.values()), organization=ORGANIZATION)
        nobody: Any = None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(over_owners, "enter_all", entered)
            patch.setattr(over_owners, "_locations", located)
            patch.setattr(over_owners, "local_sources", lambda *_: tuple)
            patch.setattr(over_owners, "regions_of", lambda *_: ())
            patch.setattr(over_owners, "Survey", functools.partial(Survey, **self.sources(accounts)))
            return over_owners._Reader(nobody, listed, Fleet()).survey(nobody, saved, sorted(owners))[0], saved

    def _caller(self, account: str, region: str) -> FakeCaller:
        rows = [one.row() for one in self.made if (one.owner, one.region) == (account, region)]
        grants = {one.key: list(one.grants) for one in self.made}
        script: Script = {
            "describe_images": [{"Images": rows}],
            "list_rules": [{"Rules": []}],
            "describe_image_attribute": lambda **asked: {
                "ImageId": asked["ImageId"],
                "LaunchPermissions": grants[asked["ImageId"]],
            },
        }
        caller = FakeCaller(script, region)
        caller.aws_time = NOW
        return caller


PLACES = st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(REGIONS))
FLEETS: dict[str, Any] = {
    "made": amis(),
    "left_out": st.sets(st.sampled_from(ACCOUNTS[1:]), max_size=2),
    "off": st.sets(PLACES, max_size=3),
    "failing": st.sets(PLACES, max_size=1),
    "allow": st.booleans(),
}


def list_made(fleet: RandomFleet, shards: int) -> FleetList:
    """Return the list of *fleet* in so many shards."""
    entered = [
        Entered(
            member=member,
            regions=tuple(region for region in REGIONS if (account, region) not in fleet.off),
            off=tuple(region for region in REGIONS if (account, region) in fleet.off),
        )
        for account, member in fleet.members.items()
    ]
    hub = HubRow(ACCOUNTS[0], "arn:aws:iam::111111111111:role/hub")
    return list_of(
        entered, ORGANIZATION, units=(), regions=(), hub=hub, run=Run("7", 2, "o/r"), as_of=NOW, shards=shards
    )


def expected_of(listed: FleetList) -> Expected:
    """Return what the parts of *listed* have to belong to."""
    return Expected(listed=listed, list_sha256="l", policy_sha256="p", code="c", run=listed.run, now=NOW)


def part_made(shard: str, fleet: RandomFleet, listed: FleetList) -> bytes:
    """Return the file of one shard."""
    survey = fleet.survey([row.account for row in listed.members_of(shard)])
    header = Header(
        run=listed.run.id,
        attempt=listed.run.attempt,
        repository=listed.run.repository,
        list_sha256="l",
        shard=shard,
        code="c",
        policy_sha256="p",
        caller="arn",
        began=NOW,
        aws_time=NOW,
    )
    return packed(lines(header, parts_of(survey, listed.as_of)))


def plan_of_parts(
    parts: Mapping[str, bytes], fleet: RandomFleet, expected: Expected
) -> tuple[FleetPlan, list[SourceReport]]:
    """Return the plan that follows from *parts*, by the names of their files, and what was wrong with them."""
    merged = merge([(name, functools.partial(BytesIO, content)) for name, content in parts.items()], expected)
    survey = MergedSurvey(expected.listed, merged, fleet.policy, **fleet.sources({}))
    return made_plan(survey, details=survey.details), merged.reports


def made_plan(survey: Survey, **details: Any) -> FleetPlan:
    """Return the plan by *survey*."""
    return make_fleet_plan(survey, ACCOUNTS[0], NOW, names={}, usd_per_gib_month={}, **details)
