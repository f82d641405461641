"""Lists the accounts of an organization, each with its state and the units it is in."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpu_ami.aws.caller import Caller, UnansweredError, making_sense

ACTIVE = "ACTIVE"
_ACCOUNT = re.compile(r"[0-9]{12}")
# Organizations gives at most so many accounts a page.
_PAGE = 20


@dataclass(frozen=True, kw_only=True)
class Organization:
    """The organization that an account is in.

    Attributes:
        organization_id: ``o-…``.
        arn: As launch permissions name it.
        management_account: The account that it was made by: StackSets deploy nothing there.
    """

    organization_id: str
    arn: str
    management_account: str


@dataclass(frozen=True, kw_only=True)
class ListedAccount:
    """An account as Organizations lists it.

    Attributes:
        account: Its id.
        name: Its name.
        state: ``ACTIVE``, ``SUSPENDED``, …; a word that is not known counts as one that has to be read.
        paths: Where it is, each as ``o-…/r-…/ou-…/``.
    """

    account: str
    name: str
    state: str
    paths: tuple[str, ...]


def organization(caller: Caller) -> Organization:
    """Return the organization that the caller's account is in.

    Raises:
        AwsError: It is in none, or Organizations refused or gave no usable answer.
    """
    answer = caller.call("organizations", "describe_organization")
    with making_sense("organizations:DescribeOrganization"):
        row = answer["Organization"]
        return Organization(
            organization_id=str(row["Id"]),
            arn=str(row["Arn"]),
            management_account=str(row.get("MasterAccountId") or row["MasterAccountArn"].rsplit("/", 1)[-1]),
        )


def listed_accounts(caller: Caller) -> list[ListedAccount]:
    """Return every account of the organization, in the order of their ids.

    A page may be empty and still lead to another. State stands in the place of the retired Status: an answer without
    it does not say that an account is active.

    Raises:
        AwsError: Only the management account and delegated administrators may list; or no usable answer came.
    """
    rows = caller.pages("organizations", "list_accounts", "Accounts", MaxResults=_PAGE)
    with making_sense("organizations:ListAccounts"):
        found = {str(row["Id"]): _account(row) for row in rows}
    if not found:
        msg = "organizations:ListAccounts names no account: the answer is cut off."
        raise UnansweredError(msg)
    return [found[key] for key in sorted(found)]


def _account(row: dict[str, object]) -> ListedAccount:
    account, state, paths = str(row["Id"]), row["State"], row["Paths"]
    if not _ACCOUNT.fullmatch(account) or not isinstance(state, str) or not isinstance(paths, list) or not paths:
        raise ValueError(account)
    return ListedAccount(
        account=account,
        name=str(row.get("Name") or ""),
        state=state,
        paths=tuple(str(path).removesuffix(f"{account}/").removesuffix(account) for path in paths),
    )
