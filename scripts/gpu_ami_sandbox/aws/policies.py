"""IAM's decision, from the policy documents that are attached: for SimulatePrincipalPolicy and for the gate.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html, for one account and
identity policies: an explicit Deny beats any Allow, and what nothing allows is denied. moto's own evaluator takes a
statement whose condition does not hold for a Deny.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

Verdict = Literal["allowed", "explicitDeny", "implicitDeny"]
_PARTITION = "aws"
_IF_EXISTS = "IfExists"
_FOR_ALL = "ForAllValues:"


@dataclass(frozen=True)
class Attached:
    """One policy of a principal: its name, its SourcePolicyType in IAM, and its document."""

    name: str
    kind: str
    document: Mapping[str, Any]


@dataclass(frozen=True)
class Decision:
    """What the policies say of one action on one resource.

    Attributes:
        verdict: As SimulatePrincipalPolicy puts it.
        matched: Policies with a statement that decided.
        missing: Condition keys that a statement tests and the request did not have.
    """

    verdict: Verdict
    matched: tuple[Attached, ...] = ()
    missing: tuple[str, ...] = ()


def principal_of(account: str, access_key: str) -> str | None:
    """Return the ARN of the user or role behind an access key of *account*; None when it is nobody's."""
    role = sts_backends[account][_PARTITION].get_assumed_role_from_access_key(access_key)
    if role is not None:
        return str(role.role_arn)
    user = iam_backends[account][_PARTITION].get_user_from_access_key_id(access_key)
    return None if user is None else str(user.arn)


def attached(account: str, principal: str) -> list[Attached] | None:
    """Return the policies of the user or role *principal*, those of a user's groups too; None when there is none."""
    iam = iam_backends[account][_PARTITION]
    for kind, entities in (("role", iam.get_roles()), ("user", iam.users.values())):
        for entity in entities:
            if entity.arn == principal:
                groups = iam.get_groups_for_user(entity.name) if kind == "user" else []
                owners = [(kind, entity), *(("group", group) for group in groups)]
                return [policy for owner_kind, owner in owners for policy in _of(owner_kind, owner)]
    return None


def _of(kind: str, owner: Any) -> Iterable[Attached]:
    for name, document in owner.policies.items():
        yield Attached(name, kind, _document(document))
    for policy in owner.managed_policies.values():
        version = next(version for version in policy.versions if version.is_default)
        managed = "aws-managed" if policy.arn.startswith("arn:aws:iam::aws:") else "user-managed"
        yield Attached(policy.name, managed, _document(version.document))


def _document(given: Any) -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads(given) if isinstance(given, str) else given
    return document


def decide(
    policies: Sequence[Attached], action: str, resource: str | None, context: Mapping[str, Sequence[str]]
) -> Decision:
    """Return what *policies* say.

    Args:
        policies: All that apply.
        action: Such as ``ec2:RunInstances``.
        resource: Its ARN; None when it is not known: then any Allow fits and only a Deny of everything.
        context: Values of condition keys.
    """
    allowing: list[Attached] = []
    missing: list[str] = []
    for policy in policies:
        statements = policy.document["Statement"]
        for statement in statements if isinstance(statements, list) else [statements]:
            if not _fits(statement, action, resource):
                continue
            if not _holds(statement.get("Condition", {}), context, missing):
                continue
            if statement["Effect"] == "Deny":
                return Decision("explicitDeny", (policy,))
            allowing.append(policy)
    if allowing:
        return Decision("allowed", tuple(allowing))
    return Decision("implicitDeny", missing=tuple(dict.fromkeys(missing)))


def _fits(statement: Mapping[str, Any], action: str, resource: str | None) -> bool:
    if "NotAction" in statement:
        if _any(statement["NotAction"], action, case=False):
            return False
    elif not _any(statement["Action"], action, case=False):
        return False
    if resource is None:
        return statement["Effect"] == "Allow" or statement.get("Resource") == "*"
    if "NotResource" in statement:
        return not _any(statement["NotResource"], resource)
    return _any(statement.get("Resource", "*"), resource)


def _any(patterns: str | list[str], value: str, *, case: bool = True) -> bool:
    expected = [patterns] if isinstance(patterns, str) else patterns
    if not case:
        expected, value = [pattern.lower() for pattern in expected], value.lower()
    return any(fnmatchcase(value, pattern.replace("[", "[[]")) for pattern in expected)


def _holds(
    conditions: Mapping[str, Mapping[str, Any]], context: Mapping[str, Sequence[str]], missing: list[str]
) -> bool:
    known = {key.lower(): values for key, values in context.items()}
    for operator, expected in conditions.items():
        bare = operator.removesuffix(_IF_EXISTS)
        for key, patterns in expected.items():
            values = known.get(key.lower())
            if bare == "Null":
                if (values is None) != (str(patterns[0] if isinstance(patterns, list) else patterns).lower() == "true"):
                    return False
                continue
            if bare.startswith(_FOR_ALL):
                if any(not _compare(bare.removeprefix(_FOR_ALL), patterns, [value]) for value in values or ()):
                    return False
                continue
            if values is None:
                if operator.endswith(_IF_EXISTS) or "Not" in bare:
                    continue
                missing.append(key)
                return False
            if not _compare(bare, patterns, values):
                return False
    return True


def _compare(operator: str, patterns: Any, values: Sequence[str]) -> bool:
    listed = [str(pattern) for pattern in (patterns if isinstance(patterns, list) else [patterns])]
    positive = operator.replace("Not", "")
    if positive in ("StringEquals", "Bool"):
        hit = any(
            value.lower() == pattern.lower() if positive == "Bool" else value == pattern
            for value in values
            for pattern in listed
        )
    elif positive in ("StringLike", "ArnEquals", "ArnLike"):
        hit = any(_any(listed, value) for value in values)
    else:
        msg = f"the sandbox's IAM does not know the condition operator {operator}"
        raise NotImplementedError(msg)
    return hit != ("Not" in operator)
