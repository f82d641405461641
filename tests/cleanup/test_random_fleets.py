"""Random fleets: whatever is shared with whom, left out, switched off or failing, nothing goes that anybody needs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu_ami.aws.caller import Caller, UnansweredError
from gpu_ami.aws.organizations import Organization
from gpu_ami.aws.references.source import Found, Reference, Source, SourceQuery
from gpu_ami.cleanup.grantees import Reached
from gpu_ami.cleanup.inventory import Location, Survey
from gpu_ami.cleanup.policy import Policy, Scope
from gpu_ami.fleet.members import Member
from gpu_ami.settings import LeftOut
from tests.support.fake_caller import FakeCaller

NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)
ACCOUNTS = ("111111111111", "222222222222", "333333333333", "444444444444")
OUTSIDE = "999999999999"
REGIONS = ("eu-west-1", "us-east-1")
UNITS = {"ou-1-a": ACCOUNTS[:2], "ou-1-b": ACCOUNTS[2:]}
ARN = "arn:aws:organizations::1:organization/o-abc"
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
            "Name": "n",
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
        """Return the selected AMIs that are shared, and keep their permissions."""
        del caller
        grants = {key: self._made[key].grants for key in query.selected}
        query.memory.setdefault("permissions", {}).update(grants)
        return Found([Reference(key, self.name, "shared") for key, some in grants.items() if some])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    made=amis(),
    left_out=st.sets(st.sampled_from(ACCOUNTS[1:]), max_size=2),
    off=st.sets(st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(REGIONS)), max_size=3),
    failing=st.sets(st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(REGIONS)), max_size=1),
    allow=st.booleans(),
)
def test_nothing_goes_that_anybody_needs(
    made: list[Ami],
    left_out: set[str],
    off: set[tuple[str, str]],
    failing: set[tuple[str, str]],
    allow: bool,
) -> None:
    """Be it used in its own account, in another one, in one that nobody reads, or outside the fleet."""
    decision = LeftOut(id=OUTSIDE, reason="r", until=date(2099, 1, 1))
    unit_of = {account: unit for unit, some in UNITS.items() for account in some}
    members = {
        account: Member(
            account=account,
            paths=(f"o-abc/r-1/{unit_of[account]}/",),
            left_out=decision if account in left_out else None,
        )
        for account in ACCOUNTS
    }
    every = [(account, region) for account in ACCOUNTS for region in REGIONS]
    places = [place for place in every if place[0] not in left_out and place not in off]
    accounts: dict[Caller, str] = {}
    locations = []
    for account, region in places:
        rows = [one.row() for one in made if (one.owner, one.region) == (account, region)]
        caller = FakeCaller({"describe_images": [{"Images": rows}]}, region)
        accounts[caller] = account
        locations.append(Location(caller, account))
    reached = Reached(
        members=members,
        organization=Organization(organization_id="o-abc", arn=ARN, management_account=ACCOUNTS[0]),
        read=frozenset(places),
        off=frozenset(off),
    )
    uses: Source = Uses(made, accounts, failing & set(places))
    policy = replace(POLICY, allow_no_references=allow)
    survey = Survey(locations, policy, uses=(uses,), own=(), per_image=(Sharing(made),), reached=reached)

    survey.query()
    first = survey.decide(NOW)
    survey.query_images({verdict.image.image_id for verdict in first.selected})
    going = {verdict.image.image_id for verdict in survey.decide(NOW).selected}

    assert going.isdisjoint(one.key for one in made if one.users)
    # Where no AMI is, nobody is asked what launches one.
    busy = {one.region for one in made if (one.owner, one.region) in places}
    if any(place in places and place[1] in busy for place in failing):
        assert going == set()
    elif allow:
        # And what nobody may launch but who was read, and nobody does, goes: a plan that keeps all would pass, too.
        read = set(places)
        free = {
            one.key
            for one in made
            if not one.users
            and (one.owner, one.region) in read
            and {"Group": "all"} not in one.grants
            and all((account, one.region) in read for account in may_launch(one.grants) - {one.owner})
        }
        assert free <= going
