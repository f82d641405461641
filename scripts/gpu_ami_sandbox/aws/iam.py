"""IAM: SimulatePrincipalPolicy, which moto lacks, and who the sandbox's own caller is."""

from __future__ import annotations

import json
from typing import Any

from moto.core.responses import ActionResult
from moto.iam.models import iam_backends
from moto.iam.responses import IamResponse
from moto.sts.responses import TokenResponse

from gpu_ami_sandbox.aws.organizations import check_entry
from gpu_ami_sandbox.aws.policies import Decision, attached, decide, principal_of
from gpu_ami_sandbox.aws.refusals import refuse

# Whose the sandbox's own keys are. The demo account has this user, and may everything.
CALLER = "sandbox"
_EVERYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}


def caller_arn(account: str) -> str:
    """Return the ARN of the sandbox's own caller."""
    return f"arn:aws:iam::{account}:user/{CALLER}"


def add_caller(account: str, region: str) -> None:
    """Add the sandbox's own caller to an account, as its administrator."""
    iam = iam_backends[account]["aws"]
    iam.create_user(region, CALLER)
    iam.put_user_policy(CALLER, "Administrator", json.dumps(_EVERYTHING))


class SandboxSTS(TokenResponse):
    """STS; moto calls whoever it does not know ``user/moto``, in a form that IAM would not know.

    And it lets anybody into any account by any role; into those of an organization only who may.
    """

    def assume_role(self) -> ActionResult:
        """Let somebody into an account."""
        account = self.current_account
        caller = principal_of(account, self.get_access_key()) or caller_arn(account)
        check_entry(str(self._get_param("RoleArn")), caller, account)
        return super().assume_role()

    def get_caller_identity(self) -> ActionResult:
        """Say whose credentials these are."""
        said = dict(super().get_caller_identity().result)
        if said["Arn"].endswith(":user/moto"):
            said |= {"Arn": caller_arn(said["Account"]), "UserId": "AIDASANDBOXSANDBOX000"}
        return ActionResult(said)


class SandboxIAM(IamResponse):
    """IAM; moto simulates no policy."""

    def simulate_principal_policy(self) -> ActionResult:
        """Decide each action on each resource by the policies that the principal has."""
        source = str(self._get_param("PolicySourceArn"))
        policies = attached(self.current_account, source)
        if policies is None:
            refuse("NoSuchEntity", f"The principal {source} cannot be found.")
        context = {
            entry["ContextKeyName"]: [str(value) for value in entry.get("ContextKeyValues", [])]
            for entry in self._get_param("ContextEntries", [])
        }
        resources = self._get_param("ResourceArns", []) or ["*"]
        results = [
            _result(action, resource, decide(policies, action, resource, context))
            for action in self._get_param("ActionNames", [])
            for resource in resources
        ]
        return ActionResult({"EvaluationResults": results, "IsTruncated": False})


def _result(action: str, resource: str, decision: Decision) -> dict[str, Any]:
    return {
        "EvalActionName": action,
        "EvalResourceName": resource,
        "EvalDecision": decision.verdict,
        "MatchedStatements": [
            {"SourcePolicyId": policy.name, "SourcePolicyType": policy.kind} for policy in decision.matched
        ],
        "MissingContextValues": list(decision.missing),
    }
