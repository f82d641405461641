"""An account of one's own, to be spoilt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami.aws.sts import assume
from gpu_ami_sandbox.account import DemoAccount
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.demo.demo_account import build_demo_account

REGION = "ap-northeast-2"
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}


@dataclass(frozen=True)
class World:
    """The demo account, ways into it and the gateway that can refuse."""

    aws: LocalAws
    account: DemoAccount
    access: Access

    def client(self, service: str) -> Any:
        """Return a client with the sandbox's own keys."""
        return self.access.client(service)

    def as_role(self, *statements: dict[str, Any]) -> Access:
        """Return the way in of a new role that may only what *statements* say; from now on policies count."""
        iam = self.client("iam")
        arn = iam.create_role(RoleName="baker", Path="/ci/", AssumeRolePolicyDocument=json.dumps(_TRUST))["Role"]["Arn"]
        document = {"Version": "2012-10-17", "Statement": list(statements)}
        iam.put_role_policy(RoleName="baker", PolicyName="own", PolicyDocument=json.dumps(document))
        found = assume(self.access, arn)
        self.aws.gate.enforcing = True
        return found


@pytest.fixture
def world(aws_server: LocalAws) -> World:
    """The demo account as if just made."""
    aws_server.reset()
    account = build_demo_account(aws_server.account_id, REGION, datetime.now(timezone.utc))
    return World(aws_server, account, Access(region=REGION, endpoint_url=aws_server.endpoint_url))
