"""The roles of a fleet's member as its CloudFormation template has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

TEMPLATE = Path(__file__).parents[2] / "terraform" / "modules" / "fleet-member" / "member-roles.cfn.yaml"


def document() -> dict[str, Any]:
    """Return the template."""
    found: dict[str, Any] = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    return found


def resolved(part: Any, parameters: dict[str, str]) -> Any:
    """Return a part of the template as CloudFormation would make it in the partition aws.

    Args:
        part: Of the template.
        parameters: By name; a name of a resource stands for itself.
    """
    if isinstance(part, list):
        return [resolved(one, parameters) for one in part]
    if not isinstance(part, dict):
        return part
    if set(part) == {"Ref"}:
        return parameters.get(part["Ref"], part["Ref"])
    if set(part) == {"Fn::Sub"}:
        return part["Fn::Sub"].replace("${AWS::Partition}", "aws")
    return {name: resolved(value, parameters) for name, value in part.items()}


def defaults() -> dict[str, str]:
    """Return the template's parameters that have a default."""
    return {name: body["Default"] for name, body in document()["Parameters"].items() if "Default" in body}


def policies() -> dict[str, dict[str, Any]]:
    """Return each policy of the template by its logical name."""
    return {
        name: resolved(resource["Properties"]["PolicyDocument"], {})
        for name, resource in document()["Resources"].items()
        if resource["Type"] == "AWS::IAM::RolePolicy"
    }


def trusts(organization: str, *, plan: str, cleanup: str) -> dict[str, str]:
    """Return the trust of each role by its logical name, as JSON.

    Args:
        organization: ``o-…``.
        plan: ARN of the hub's role that plans.
        cleanup: ARN of the hub's role that cleans up.
    """
    given = defaults() | {"OrganizationId": organization, "PlanHubRoleArn": plan, "CleanupHubRoleArn": cleanup}
    return {
        name: json.dumps(resolved(resource["Properties"]["AssumeRolePolicyDocument"], given))
        for name, resource in document()["Resources"].items()
        if resource["Type"] == "AWS::IAM::Role"
    }
