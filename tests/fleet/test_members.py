"""Which accounts a fleet has, and which of them can be read: what is doubtful counts as one that has to be."""

from __future__ import annotations

from datetime import date

import pytest

from gpu_ami.aws.caller import UnansweredError
from gpu_ami.aws.organizations import ListedAccount, listed_accounts, organization
from gpu_ami.fleet.members import members_of, strangers
from gpu_ami.settings import Fleet, FleetAccount, LeftOut, OrganizationScope
from tests.support.fake_caller import FakeCaller

A, B, C = "111111111111", "222222222222", "333333333333"
TODAY = date(2026, 11, 30)
ROOT = "o-abc/r-root/"
MEDIA = f"{ROOT}ou-root-media/"


def listed(account: str, *, state: str = "ACTIVE", path: str = ROOT) -> ListedAccount:
    """Return an account as Organizations lists it."""
    return ListedAccount(account=account, name=f"n{account[0]}", state=state, paths=(path,))


def whole(*, within: tuple[str, ...] = (), left_out: tuple[LeftOut, ...] = ()) -> Fleet:
    """Return the settings of a fleet that is an organization."""
    return Fleet(organization=OrganizationScope(ou_paths=within), left_out=left_out)


def test_a_unit_has_all_below_it() -> None:
    """Who names a unit means its sub-units, too; another one that begins alike is another one."""
    below, beside = f"{MEDIA}ou-root-deep/", f"{ROOT}ou-root-media2/"
    accounts = [listed(C, path=beside), listed(B, path=below), listed(A, path=MEDIA)]

    found = members_of(whole(within=(MEDIA,)), accounts, TODAY)

    assert [one.account for one in found] == [A, B]


@pytest.mark.parametrize("state", ["SUSPENDED", "PENDING_CLOSURE", "PENDING_ACTIVATION", "CLOSED", "HIBERNATING"])
def test_only_an_active_account_is_entered(state: str) -> None:
    """The others may come back and need an AMI; of a state that AWS will think of one day nobody knows."""
    (found,) = members_of(whole(), [listed(A, state=state)], TODAY)

    assert not found.is_read
    assert found.trouble


@pytest.mark.parametrize(("until", "is_left_out"), [(date(2026, 11, 30), True), (date(2026, 11, 29), False)])
def test_to_be_left_out_has_an_end(until: date, is_left_out: bool) -> None:
    """Nobody remembers a decision of last year; from the day after on the account is read again, or blocks."""
    decision = LeftOut(id=A, reason="moves out", until=until)

    (found,) = members_of(whole(left_out=(decision,)), [listed(A, state="SUSPENDED")], TODAY)

    assert (found.left_out is decision) == is_left_out
    assert not found.is_read


def test_a_list_needs_no_organization() -> None:
    """Small teams have two accounts and no right to list any."""
    fleet = Fleet(accounts=(FleetAccount(id=B), FleetAccount(id=A, name="build", regions=("eu-west-1",))))

    first, second = members_of(fleet, (), TODAY)

    assert (first.label, first.regions, second.label) == (f"{A} (build)", ("eu-west-1",), B)


def test_a_stranger_that_is_left_out_is_named() -> None:
    """A slip in an id would leave the account that was meant in, and everything blocked, with nothing to show for."""
    decision = LeftOut(id=B, reason="r", until=TODAY)

    assert strangers(whole(left_out=(decision,)), members_of(whole(), [listed(A)], TODAY)) == (B,)


def row(account: str, **more: object) -> dict[str, object]:
    """Return an account's row as Organizations answers."""
    return {"Id": account, "Name": "n", "State": "ACTIVE", "Paths": [f"{MEDIA}{account}/"]} | more


def test_pages_may_be_empty_and_lead_on() -> None:
    """Organizations says so itself: only the token tells the end."""
    pages: list[object] = [{"Accounts": [], "NextToken": "1"}, {"Accounts": [row(B)], "NextToken": "2"}]
    caller = FakeCaller({"list_accounts": [*pages, {"Accounts": [row(A)]}]})  # type: ignore[list-item]

    assert [(one.account, one.paths) for one in listed_accounts(caller)] == [(A, (MEDIA,)), (B, (MEDIA,))]


@pytest.mark.parametrize(
    "answer",
    [
        {"Accounts": []},
        {"Accounts": [row(A, State=None)]},
        {"Accounts": [{key: value for key, value in row(A).items() if key != "State"} | {"Status": "ACTIVE"}]},
        {"Accounts": [row(A, Paths=[])]},
        {"Accounts": [row("12")]},
        {},
    ],
)
def test_an_account_without_its_state_is_no_answer(answer: dict[str, object]) -> None:
    """The retired Status says ACTIVE of accounts that are being closed; without Paths a unit's members are unknown."""
    with pytest.raises(UnansweredError):
        listed_accounts(FakeCaller({"list_accounts": [answer]}))


def test_the_management_account_is_known_by_either_member() -> None:
    """Its id came later than its ARN."""
    arn = f"arn:aws:organizations::{A}:account/o-abc/{A}"
    rows = {"Id": "o-abc", "Arn": "arn:aws:organizations::1:organization/o-abc", "MasterAccountArn": arn}

    assert organization(FakeCaller({"describe_organization": [{"Organization": rows}]})).management_account == A
