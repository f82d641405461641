"""AWS Organizations, as far as accounts are listed, and what it means for roles and regions of the members.

Members, states and paths: the service's API reference. moto leaves Paths out, enters any account by any role, and
has the same regions for everybody.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from moto.core.base_backend import BackendDict
from moto.core.exceptions import AccessDeniedError
from moto.core.responses import ActionResult, BaseResponse
from moto.iam.models import iam_backends

from gpu_ami_sandbox.aws.paging import page
from gpu_ami_sandbox.aws.refusals import refuse

_PAGE = 20
_JOINED = datetime(2024, 3, 1, 9, 0, tzinfo=timezone.utc)


@dataclass
class MemberAccount:
    """An account of an organization.

    Attributes:
        account: Its id.
        name: Its name.
        path: Its units, as ``o-…/r-…/ou-…/``.
        state: As Organizations has it.
        off: Regions that are switched off for it.
    """

    account: str
    name: str
    path: str
    state: str = "ACTIVE"
    off: frozenset[str] = frozenset()


@dataclass
class Organization:
    """An organization.

    Attributes:
        organization_id: ``o-…``.
        management: The account that may list the others.
        members: Its accounts, that one among them.
    """

    organization_id: str
    management: str
    members: dict[str, MemberAccount] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        """As launch permissions name it."""
        return f"arn:aws:organizations::{self.management}:organization/{self.organization_id}"

    def unit_arn(self, unit: str) -> str:
        """Return the ARN of the unit ``ou-…``."""
        return f"arn:aws:organizations::{self.management}:ou/{self.organization_id}/{unit}"


# By management account: how its organization is made when somebody first asks for it, and the organization.
MAKERS: dict[str, Callable[[], Organization]] = {}
_MADE: dict[str, Organization] = {}


def organization_of(management: str) -> Organization | None:
    """Return the organization of an account, made at the first question; None where it is in none."""
    if management not in _MADE and management in MAKERS:
        _MADE[management] = MAKERS.pop(management)()
    return _MADE.get(management)


def forget(management: str) -> None:
    """Drop the organization of an account, whether it was made or not, with all that its other accounts have."""
    MAKERS.pop(management, None)
    found = _MADE.pop(management, None)
    for account in set(found.members) - {management} if found is not None else ():
        for service in list(BackendDict._instances):
            service.pop(account, None)


def member(account: str) -> tuple[Organization, MemberAccount] | None:
    """Return an account with its organization; None for one that is in none that was asked for."""
    for found in _MADE.values():
        if account in found.members:
            return found, found.members[account]
    return None


def check_entry(role_arn: str, caller_arn: str, caller_account: str) -> None:
    """Refuse to let somebody into an account of an organization who may not: no such role, no trust, not active."""
    account, name = role_arn.split(":")[4], role_arn.rsplit("/", 1)[-1]
    found = member(account)
    if found is None:
        return
    role = next((role for role in iam_backends[account]["aws"].roles.values() if role.name == name), None)
    comes_from = member(caller_account)
    organization = comes_from[0].organization_id if comes_from is not None else ""
    trusted = _trusted(role.assume_role_policy_document, organization) if role is not None else set()
    lets_in = trusted & {"*", caller_account, f"arn:aws:iam::{caller_account}:root", caller_arn}
    if found[1].state != "ACTIVE" or not lets_in:
        # AWS says the same of a role that there is not, that does not trust, and of an account that is suspended.
        raise AccessDeniedError(caller_arn, f"sts:AssumeRole on resource: {role_arn}")


def _trusted(document: Any, organization: str) -> set[str]:
    """Return whom a role trusts who comes from *organization*."""
    statements = (json.loads(document) if isinstance(document, str) else document)["Statement"]
    found: set[str] = set()
    for statement in statements:
        wanted = statement.get("Condition", {}).get("StringEquals", {}).get("aws:PrincipalOrgID", organization)
        if organization not in ([wanted] if isinstance(wanted, str) else wanted):
            continue
        principals = statement.get("Principal", {})
        named = principals.get("AWS", []) if isinstance(principals, dict) else principals
        found |= {named} if isinstance(named, str) else set(named)
    return found


class Organizations(BaseResponse):
    """The service organizations."""

    def __init__(self) -> None:
        super().__init__(service_name="organizations")
        self.automated_parameter_parsing = True

    def describe_organization(self) -> ActionResult:
        """Show the organization."""
        found = self._own()
        return ActionResult(
            {
                "Organization": {
                    "Id": found.organization_id,
                    "Arn": found.arn,
                    "FeatureSet": "ALL",
                    "MasterAccountArn": self._arn(found, found.management),
                    "MasterAccountId": found.management,
                    "MasterAccountEmail": f"{found.management}@example.com",
                }
            }
        )

    def list_accounts(self) -> ActionResult:
        """List the accounts, in pages."""
        found = self._own()
        rows = [self._shown(found, one) for one in found.members.values()]
        size = min(_PAGE, int(self._get_param("MaxResults") or _PAGE))
        shown, token = page(rows, self._get_param("NextToken"), size)
        return ActionResult({"Accounts": shown} | ({"NextToken": token} if token else {}))

    def _own(self) -> Organization:
        found = organization_of(self.current_account)
        if found is None:
            text = "Your account is not a member of an organization."
            refuse("AWSOrganizationsNotInUseException", text)
        return found

    def _arn(self, found: Organization, account: str) -> str:
        return f"arn:aws:organizations::{found.management}:account/{found.organization_id}/{account}"

    def _shown(self, found: Organization, one: MemberAccount) -> dict[str, Any]:
        return {
            "Id": one.account,
            "Arn": self._arn(found, one.account),
            "Email": f"{one.name}@example.com",
            "Name": one.name,
            "State": one.state,
            "Paths": [f"{one.path}{one.account}/"],
            "JoinedMethod": "CREATED",
            "JoinedTimestamp": _JOINED,
        }
