"""What the doctor asks for is what a bake needs: a role with just that bakes for real, one without does not start."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.aws.sts import assume, identify
from gpu_ami.bake import build, prepare
from gpu_ami.bake.checks import permissions
from gpu_ami.bake.variables import typed
from gpu_ami.console import Console
from gpu_ami.errors import SafetyError
from gpu_ami.handover import attested
from gpu_ami.invocation import Invocation
from gpu_ami.options import options_from
from gpu_ami.records import archive, manifest_file, provenance
from gpu_ami.target import LocalSandbox
from gpu_ami_sandbox.aws.gate import Gate
from tests.e2e.conftest import make_checkout

# A bake that needs the most: everything temporary is made, and removed again.
TEMPORARY = ("iam_instance_profile=", "security_group_id=")
# What the pipeline itself looks up besides, and what it may query about itself.
QUERIES = (
    "ec2:Describe*",
    "ecr:Describe*",
    "iam:GetInstanceProfile",
    "iam:GetRole",
    "iam:SimulatePrincipalPolicy",
    "s3:ListBucket",
    "servicequotas:GetServiceQuota",
    "ssm:GetParameter",
)
# Only a build that fails after it has made its AMI calls these, or one that copies or shares it.
_ONLY_ON_THE_WAY_BACK = {"ec2:DeregisterImage", "ec2:DeleteSnapshot"}
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which one fresh sandbox follows the other."""
    return make_checkout(tmp_path_factory.mktemp("permissions") / "checkout", root_module=False).root


@pytest.fixture
def run(root: Path) -> Iterator[Invocation]:
    """An invocation of our own, in this process: the gate of its sandbox can be told to enforce."""
    options = options_from(["build", "--sandbox"], {})
    invocation = Invocation(root, options, Console(out=io.StringIO(), err=io.StringIO()))
    yield invocation
    invocation.close()


def needed_by(run: Invocation) -> set[str]:
    """Return the actions that the doctor asks for."""
    job = prepare.prepare(run, TEMPORARY)
    scene = permissions.Scene(identify(run.access).account, run.access.region, "aws")
    parts = permissions.needed(typed(job.values()), scene, role=None, key=None)
    return {action for part in parts for action in part.actions}


def become(run: Invocation, actions: set[str]) -> Gate:
    """Make this invocation, and the programs that it starts, a role that may do only *actions*."""
    iam = run.access.client("iam")
    arn = iam.create_role(RoleName="baker", AssumeRolePolicyDocument=json.dumps(_TRUST))["Role"]["Arn"]
    statement = {"Effect": "Allow", "Action": sorted(actions), "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName="baker", PolicyName="own", PolicyDocument=document)
    role = assume(run.access, arn)
    keys = role.credentials.get_frozen_credentials()
    variables = {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.token,
    }
    environment = run.access.child_environment(variables)
    assert isinstance(run.target, LocalSandbox)
    gate = run.target.sandbox.gate
    assert gate is not None
    vars(run)["access"] = dataclasses.replace(role, environment=environment)
    gate.enforcing = True
    gate.calls.clear()
    return gate


def test_a_role_with_just_these_permissions_bakes(run: Invocation) -> None:
    """One action too few in the doctor's list and Packer is refused here; one too many is named."""
    listed = needed_by(run)
    gate = become(run, {*listed, *QUERIES})

    built = build.build(run, prepare.prepare(run, TEMPORARY))

    assert built.ami_id.startswith("ami-")
    called = {f"{call.service}:{call.action}" for call in gate.calls if call.parameters.get("DryRun") != "true"}
    passed = {"iam:PassRole", "iam:TagInstanceProfile", "iam:TagRole"}  # no calls of their own
    assert listed - called - passed == _ONLY_ON_THE_WAY_BACK


def test_a_fresh_sandbox_bakes_the_same_ami_id_again(run: Invocation) -> None:
    """What the one before has left of that id in the checkout was taken for this build's, which was refused for it."""
    earlier = manifest_file.last_build(run.workspace)
    (ami,) = earlier.amis.values()
    file = provenance.path_of(run.workspace.terraform, ami)
    left = provenance.parse(file.read_bytes(), source="left")
    become(run, {*needed_by(run), *QUERIES})

    built = build.build(run, prepare.prepare(run, TEMPORARY))

    assert built.ami_id == ami
    now = provenance.parse(file.read_bytes(), source="now")
    assert (left.amis, now.amis) == (built.amis, built.amis)
    assert left.said["run_id"] == (earlier.custom_data or {})["run_id"]
    assert now.said["run_id"] == built.name.removeprefix("gpu-batch-") != left.said["run_id"]
    kept = archive.read(run.workspace.builds, ami)
    assert set(kept) == {archive.RELEASE, archive.BILL, archive.BUILD, archive.PROVENANCE}
    assert kept[archive.PROVENANCE].encode() == file.read_bytes()
    assert [verdict.state for verdict in attested.check(run, built.amis)] == ["unsigned"]


def test_a_role_without_one_of_them_does_not_start(run: Invocation) -> None:
    """Exit 8, before an instance is paid for."""
    action = "ec2:CreateImage"
    gate = become(run, {*needed_by(run), *QUERIES} - {action})

    with pytest.raises(SafetyError, match=action):
        build.build(run, prepare.prepare(run, TEMPORARY))

    made: list[Any] = [c for c in gate.calls if c.action == "RunInstances" and c.parameters.get("DryRun") != "true"]
    assert made == []
