"""Who may launch a shared AMI, and whether all of them were read: whatever is doubtful keeps it."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_ami.aws.organizations import Organization
from gpu_ami.cleanup.grantees import Reached
from gpu_ami.fleet.members import Member
from gpu_ami.settings import LeftOut

OWN, VIDEO, LAB, OUTSIDE = "111111111111", "222222222222", "333333333333", "999999999999"
HERE, THERE = "eu-west-1", "us-east-1"
ROOT, MEDIA, DEEP = "o-abc/r-1/", "o-abc/r-1/ou-1-media/", "o-abc/r-1/ou-1-media/ou-1-deep/"
ARN = "arn:aws:organizations::111111111111:organization/o-abc"
UNIT = "arn:aws:organizations::111111111111:ou/o-abc/{}"
ORGANIZATION = Organization(organization_id="o-abc", arn=ARN, management_account=OWN)
MEMBERS = {
    OWN: Member(account=OWN, paths=(ROOT,)),
    VIDEO: Member(account=VIDEO, name="video", paths=(MEDIA,)),
    LAB: Member(account=LAB, name="lab", paths=(DEEP,)),
}
EVERYWHERE = frozenset((account, region) for account in MEMBERS for region in (HERE, THERE))


def reached(**changed: Any) -> Reached:
    """Return a fleet that was read whole, with *changed* members."""
    whole: dict[str, Any] = {"members": MEMBERS, "organization": ORGANIZATION, "read": EVERYWHERE}
    return Reached(**(whole | changed))


@pytest.mark.parametrize(
    "permission",
    [
        {"UserId": VIDEO},
        {"OrganizationArn": ARN},
        {"OrganizationalUnitArn": UNIT.format("ou-1-media")},
        {"OrganizationalUnitArn": UNIT.format("ou-1-empty")},
    ],
)
def test_whom_one_has_read_does_not_keep_an_ami(permission: dict[str, str]) -> None:
    """What they need is among the references; a unit without accounts needs nothing."""
    assert reached().why_kept([permission], OWN, HERE) is None


@pytest.mark.parametrize(
    ("permission", "why"),
    [
        ({"UserId": OUTSIDE}, f"{OUTSIDE}, which is not in the fleet"),
        ({"Group": "all"}, "everybody"),
        ({"OrganizationArn": ARN.replace("o-abc", "o-xyz")}, "another organization"),
        ({"OrganizationalUnitArn": UNIT.format("ou-1-media").replace("o-abc", "o-xyz")}, "a unit of another"),
        ({"PlanetArn": "arn:aws:planets::mars"}, "arn:aws:planets::mars, and who that is is not known"),
        ({"UserId": VIDEO, "PlanetArn": "mars"}, "who that is is not known"),
    ],
)
def test_whom_nobody_has_read_keeps_it(permission: dict[str, str], why: str) -> None:
    """Among others that were read, too."""
    found = reached().why_kept([{"UserId": VIDEO}, permission, {"UserId": LAB}], OWN, HERE)

    assert found is not None
    assert found.startswith("shared with ")
    assert why in found


def test_off_is_not_empty() -> None:
    """To switch a region off takes away access; what was launched there goes on."""
    fleet = reached(off=frozenset({(VIDEO, HERE)}))

    assert "is switched off" in str(fleet.why_kept([{"UserId": VIDEO}], OWN, HERE))
    assert "is switched off" in str(fleet.why_kept([{"OrganizationArn": ARN}], OWN, HERE))
    assert fleet.why_kept([{"UserId": VIDEO}], OWN, THERE) is None


def test_a_place_that_was_not_read_keeps_it() -> None:
    """Only there can it be launched, so other regions of the same account say nothing."""
    fleet = reached(read=EVERYWHERE - {(LAB, HERE)})

    assert fleet.why_kept([{"UserId": LAB}], OWN, HERE) == f"shared with {LAB} (lab), where {HERE} was not read"
    assert "was not read" in str(fleet.why_kept([{"OrganizationalUnitArn": UNIT.format("ou-1-media")}], OWN, HERE))


def test_who_is_left_out_keeps_what_was_granted() -> None:
    """By whose decision, and until when, is said."""
    decision = LeftOut(id=LAB, reason="moves out", until=date(2027, 3, 31))
    members = MEMBERS | {LAB: Member(account=LAB, name="lab", paths=(DEEP,), left_out=decision)}

    found = reached(members=members).why_kept([{"OrganizationArn": ARN}], OWN, HERE)

    assert found == f"shared with {LAB} (lab), which is left out until 2027-03-31: moves out"


def test_a_part_of_an_organization_is_not_the_whole() -> None:
    """Confined to some units, the fleet does not know who else the organization or a higher unit has."""
    members = {VIDEO: MEMBERS[VIDEO], LAB: MEMBERS[LAB]}
    fleet = reached(members=members, units=(MEDIA,))

    assert "of which the fleet has a part" in str(fleet.why_kept([{"OrganizationArn": ARN}], OWN, HERE))
    for unit, is_within in (("ou-1-media", True), ("ou-1-deep", True), ("ou-1-other", False)):
        why = fleet.why_kept([{"OrganizationalUnitArn": UNIT.format(unit)}], OWN, HERE)
        assert (why is None) == is_within, unit
    deeper = reached(members={LAB: MEMBERS[LAB]}, units=(DEEP,))
    assert "may have a part only" in str(
        deeper.why_kept([{"OrganizationalUnitArn": UNIT.format("ou-1-media")}], OWN, HERE)
    )


def test_a_list_of_accounts_knows_no_organization() -> None:
    """A team without the right to list accounts shares with single ones, or keeps."""
    fleet = reached(organization=None)

    assert fleet.why_kept([{"UserId": VIDEO}], OWN, HERE) is None
    for permission in ({"OrganizationArn": ARN}, {"OrganizationalUnitArn": UNIT.format("ou-1-media")}):
        assert "the fleet is a list of accounts" in str(fleet.why_kept([permission], OWN, HERE))


accounts = st.sampled_from([*MEMBERS, OUTSIDE])
grants = st.one_of(
    st.builds(lambda account: {"UserId": account}, accounts),
    st.just({"OrganizationArn": ARN}),
    st.builds(lambda unit: {"OrganizationalUnitArn": UNIT.format(unit)}, st.sampled_from(["ou-1-media", "ou-1-deep"])),
)


@given(
    permissions=st.lists(grants, min_size=1, max_size=4),
    read=st.sets(st.sampled_from(sorted(EVERYWHERE))),
    off=st.sets(st.sampled_from(sorted(EVERYWHERE))),
)
def test_no_fleet_lets_go_what_an_unread_account_may_launch(
    permissions: list[dict[str, str]], read: set[tuple[str, str]], off: set[tuple[str, str]]
) -> None:
    """Whoever may launch it, by whichever grant, was read to the end in that region, or it stays."""
    meant = {
        OWN: {"UserId": OWN, "OrganizationArn": ARN},
        VIDEO: {"UserId": VIDEO, "OrganizationArn": ARN, "ou": "ou-1-media"},
        LAB: {"UserId": LAB, "OrganizationArn": ARN, "ou": "ou-1-media ou-1-deep"},
        OUTSIDE: {"UserId": OUTSIDE},
    }

    def may(account: str, permission: dict[str, str]) -> bool:
        ((key, value),) = permission.items()
        if key == "OrganizationalUnitArn":
            return value.rpartition("/")[2] in meant[account].get("ou", "").split()
        return meant[account].get(key) == value

    why = reached(read=frozenset(read), off=frozenset(off)).why_kept(permissions, OWN, HERE)

    who = {account for account in meant for permission in permissions if may(account, permission)} - {OWN}
    unread = {account for account in who if (account, HERE) not in read or (account, HERE) in off}
    assert (why is None) == (not unread)
